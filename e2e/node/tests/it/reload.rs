//! Objects and Secrets change all the time under load: each change is in effect at every replica, and no request notices
//! (K-04).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use zen_e2e_node::{Cluster, Load, Mesh, Part, Source};

use crate::stage::{self, SECRET, SOON, Stage, programmed};

/// Of each kind of change.
const ROUNDS: u32 = 100;
/// Between two looks whether a change is in effect.
const LOOK: Duration = Duration::from_millis(2);

/// Versions of an object that every replica has in effect, as its status says, and since when this was known. The version
/// is what the test has put into the object's generation of that number.
type Known = watch::Receiver<Vec<(Instant, i64)>>;

struct Objects {
    client: kube::Client,
    namespace: String,
}

impl Objects {
    fn of(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("zen-mesh.io", "v1alpha1", kind));
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Changes an object; its generation now.
    async fn change(&self, kind: &str, name: &str, spec: Value) -> i64 {
        let patch = Patch::Merge(json!({"spec": spec}));
        let changed = self.of(kind).patch(name, &PatchParams::default(), &patch).await.unwrap();
        changed.metadata.generation.unwrap()
    }

    async fn rotate(&self, name: &str, secret: &str) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({"stringData": {"secret": secret}}));
        secrets.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Follows the condition `Programmed`.
    fn follow(&self, kind: &str, name: &str) -> (Known, JoinHandle<()>) {
        let (tell, known) = watch::channel(Vec::new());
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let events = watcher(self.of(kind), config).applied_objects();
        let following = tokio::spawn(async move {
            let mut events = std::pin::pin!(events);
            while let Some(event) = futures_util::StreamExt::next(&mut events).await {
                let Ok(object) = event else { continue };
                let conditions = object.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let condition = conditions.iter().find(|condition| condition["type"] == "Programmed");
                let Some(condition) = condition.filter(|condition| condition["status"] == "True") else { continue };
                let Some(generation) = condition["observedGeneration"].as_i64() else { continue };
                tell.send_modify(|known| known.push((Instant::now(), generation)));
            }
        });
        (known, following)
    }
}

/// Sends to each replica itself until each answers 202; the ids, and how long after `since` the last one did.
async fn in_effect(
    source: &Source,
    replicas: &[SocketAddr],
    delivery: &str,
    since: Instant,
) -> (Vec<String>, Duration) {
    let mut ids = Vec::new();
    for replica in replicas {
        let source = source.at(*replica);
        let waiting = async {
            loop {
                let answer = source.send(&format!("{delivery}-{replica}")).await.unwrap();
                if answer.status == 202 {
                    return answer.id.unwrap();
                }
                assert!(matches!(answer.status, 401 | 404), "{answer:?}");
                sleep(LOOK).await;
            }
        };
        let id = timeout(SOON, waiting).await.unwrap_or_else(|_| panic!("{delivery} is not in effect at {replica}"));
        ids.push(id);
    }
    (ids, since.elapsed())
}

fn summary(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let (median, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{} {what}: in effect at every replica after {median:.1?} (median), {most:.1?} at most", took.len());
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one load, and every kind of change in turn beside it")]
async fn no_request_notices_that_objects_and_secrets_change_and_every_replica_follows() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "reload").await;
    let namespace = &stage.namespace.name;
    let pods = Mesh::of(&cluster).whole(Part::Ingester, 2, &[], SOON).await.unwrap();
    let replicas: Vec<SocketAddr> = pods.iter().map(|pod| pod.intake().unwrap()).collect();
    let more = format!(
        "
apiVersion: v1
kind: Secret
metadata: {{name: next, namespace: {namespace}}}
stringData: {{secret: another}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: moving, namespace: {namespace}}}
spec:
  path: /{namespace}/moving-0
  verification: {{provider: github, secrets: [{{secretRef: {{name: fixed, key: secret}}}}]}}
  routes: [{{destinations: [{{name: ci}}]}}]
---
apiVersion: v1
kind: Secret
metadata: {{name: fixed, namespace: {namespace}}}
stringData: {{secret: {SECRET}}}
"
    );
    cluster.apply(&more).await.unwrap();
    let objects = Objects { client: cluster.client.clone(), namespace: namespace.clone() };
    let secrets = ["github", "next"];
    let named: Vec<Value> = secrets.iter().map(|name| json!({"secretRef": {"name": name, "key": "secret"}})).collect();
    let spec = json!({"verification": {"secrets": named}, "event": {"type": {"value": "0"}}});
    let webhook_zero = objects.change("Webhook", "github", spec).await;
    let destination_zero = objects.change("Destination", "ci", json!({"headers": {"set": {"X-Version": "0"}}})).await;
    programmed(&cluster, namespace, &["webhook/moving"]).await;
    let (webhook, _following) = objects.follow("Webhook", "github");
    let (destination, _following) = objects.follow("Destination", "ci");
    settled(&webhook, webhook_zero).await;
    settled(&destination, destination_zero).await;

    let current = watch::Sender::new(stage.source.clone());
    let load = Load::start("reload", current.subscribe());
    load.flows(20).await;
    let began = Instant::now();
    let webhooks = async {
        let (mut ids, mut took) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            objects.change("Webhook", "github", json!({"event": {"type": {"value": round.to_string()}}})).await;
            let path = format!("/{namespace}/moving-{round}");
            let since = Instant::now();
            objects.change("Webhook", "moving", json!({"path": path})).await;
            let moved = stage.source.on(&path);
            let (taken, after) = in_effect(&moved, &replicas, &format!("moving-{round}"), since).await;
            ids.extend(taken);
            took.push(after);
        }
        (ids, took)
    };
    let rotations = async {
        let mut took = Vec::new();
        for round in 1..=ROUNDS {
            // The one that nobody signs with.
            let secret = format!("secret number {round}");
            let since = Instant::now();
            objects.rotate(secrets[round as usize % 2], &secret).await;
            let next = stage.source.signing_with(&secret);
            let (_, after) = in_effect(&next, &replicas, &format!("rotation-{round}"), since).await;
            took.push(after);
            current.send_replace(next);
            load.settles().await;
        }
        took
    };
    let destinations = async {
        let (mut seen, mut took) = (0, Vec::new());
        for round in 1..=ROUNDS {
            let since = Instant::now();
            let version = round.to_string();
            objects.change("Destination", "ci", json!({"headers": {"set": {"X-Version": version}}})).await;
            let arrives = async {
                loop {
                    let new = stage.after(seen).await;
                    seen += new.len();
                    if new.iter().any(|request| request.header("x-version") == Some(&version)) {
                        return;
                    }
                }
            };
            timeout(SOON, arrives).await.unwrap_or_else(|_| panic!("version {version} is in effect nowhere"));
            took.push(since.elapsed());
        }
        took
    };
    let ((moved, paths), rotated, shown) = tokio::join!(webhooks, rotations, destinations);
    println!("{} changes in {:.1?}", 4 * ROUNDS, began.elapsed());
    settled(&webhook, webhook_zero + i64::from(ROUNDS)).await;
    settled(&destination, destination_zero + i64::from(ROUNDS)).await;
    load.flows(20).await;
    let tally = load.stop().await;
    summary("changes of a Webhook", paths);
    summary("rotations of a Secret", rotated);
    summary("changes of a Destination (at the first egress)", shown);

    stage.account("hot reload", &tally, SOON).await;
    stage.all_of(&moved.into_iter().collect(), SOON).await;
    assert!(tally.refused.is_empty() && tally.unanswered.is_empty(), "{tally}");
    // What the status said to be in effect everywhere was.
    let arrived: BTreeMap<String, zen_testkit::Received> =
        stage.after(0).await.into_iter().map(|request| (stage::id(&request), request)).collect();
    for (delivery, taken) in &tally.acknowledged {
        let request = &arrived[&taken.id];
        let version = |header: &str| request.header(header).unwrap().parse::<i64>().unwrap();
        for (header, known, zero) in
            [("ce-type", &webhook, webhook_zero), ("x-version", &destination, destination_zero)]
        {
            let known = known.borrow();
            let least = known.iter().filter(|(at, _)| *at <= taken.sent).map(|(_, generation)| generation - zero).max();
            let least = least.unwrap_or_default();
            assert!(version(header) >= least, "{delivery}: {header} {}, not {least}", version(header));
        }
    }
}

/// Waits until the status says that this generation is in effect.
async fn settled(known: &Known, generation: i64) {
    let is = |known: &Vec<(Instant, i64)>| known.last().is_some_and(|(_, last)| *last >= generation);
    let waited = timeout(SOON, known.clone().wait_for(is)).await.map(|waited| waited.is_ok());
    assert_eq!(waited, Ok(true), "generation {generation}: {:?}", known.borrow());
}
