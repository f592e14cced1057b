//! Issuing CA and root are exchanged under load on a real API server, each with a forced way back: no request fails (T-04).

mod fleet;
mod signing;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{Patch, PatchParams};
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_identity::Mesh;
use zen_operator::configuration::Followed;
use zen_operator::identity::{CA, CA_NEXT, ISSUER, ISSUER_NEXT, Service, Settings};
use zen_operator::rotation::{self, Arrived, Field, Metrics, Parts, Pod, Pods, Told, Unheard};
use zen_operator::settings::Workloads;
use zen_operator::{Writer, writer};
use zen_pki::{Identity, Presented};
use zen_rotation::inventory::{self, Inventory};
use zen_rotation::record::{self, Action, Request, State};
use zen_rotation::{Plan, Rate, Subject};
use zen_runtime::lease::Leadership;
use zen_testkit::Upstream;
use zen_verify::Sample;

use crate::pods::objects::{WEBHOOK, ci};
use crate::pods::stage::{INTAKE, NAMESPACE, Stage, until};
use fleet::Fleet;

/// Where the events of probes end.
const SINK: &str = "
apiVersion: v1
kind: Service
metadata: {name: zen-egress, namespace: zen-mesh}
spec: {clusterIP: None, ports: [{name: link, port: 9444}, {name: admin, port: 9901}]}
";
/// All by default.
const WORKLOADS: &str = "
images: {ingester: i, egress: e}
ingester: {replicas: 2, storage: {size: 1Gi}}
egress: {replicas: 2}
";

/// The pods, who do not take the new where a test wants it so.
#[derive(Clone)]
struct Stubborn {
    pods: Pods,
    refuses: Arc<AtomicBool>,
    wrong: Arc<AtomicU64>,
    /// As whom pods were met last.
    operator: Arc<Mutex<Option<Identity>>>,
    /// Of the probes' events, and the most that egresses were seen to have delivered.
    events: Arc<[AtomicU64; 2]>,
}

impl Field for Stubborn {
    fn pods(&self) -> Vec<Pod> {
        self.pods.pods()
    }

    fn operators(&self) -> Vec<Pod> {
        self.pods.operators()
    }

    async fn greet(&self, pod: &Pod, identity: &Identity) -> Result<Presented, Unheard> {
        // What is shown to pods before anybody uses it is good for minutes.
        let validity = identity.validity();
        let is_probe = validity.until.since(validity.from) < Duration::from_mins(30);
        if is_probe && self.refuses.load(Ordering::Relaxed) {
            return Err(Unheard::Refused("a test does not take it".to_owned()));
        }
        if !is_probe {
            *self.operator.lock().unwrap() = Some(identity.clone());
        }
        self.pods.greet(pod, identity).await
    }

    async fn visit(&self, pod: &Pod) -> Option<Result<Presented, Unheard>> {
        self.pods.visit(pod).await
    }

    async fn intake(&self, pod: &Pod, identity: &Identity) -> Result<Presented, Unheard> {
        self.pods.intake(pod, identity).await
    }

    async fn post(&self, pod: &Pod, event: Sample, _: Option<&Identity>) -> Result<u16, Unheard> {
        // As to the mesh's own certificate, and as to a user's, in turn.
        let is_odd = !self.events[0].load(Ordering::Relaxed).is_multiple_of(2);
        let asked_as = self.operator.lock().unwrap().clone().filter(|_| is_odd);
        let answer = self.pods.post(pod, event, asked_as.as_ref()).await;
        self.events[0].fetch_add(u64::from(answer == Ok(202)), Ordering::Relaxed);
        answer
    }

    async fn arrived(&self, pod: &Pod) -> Option<Arrived> {
        let arrived = self.pods.arrived(pod).await?;
        self.events[1].fetch_max(arrived.delivered, Ordering::Relaxed);
        Some(arrived)
    }

    async fn rate(&self, pod: &Pod) -> Option<Rate> {
        self.pods.rate(pod).await
    }

    async fn told(&self, pod: &Pod) -> Option<Told> {
        let told = self.pods.told(pod).await?;
        // One more each time that it is asked.
        let refuses = self.refuses.load(Ordering::Relaxed);
        let wrong = if refuses { self.wrong.fetch_add(1, Ordering::Relaxed) } else { told.wrong };
        Some(Told { wrong, ..told })
    }
}

/// With the counts of the probes' events.
fn operator(client: &kube::Client, refuses: &Arc<AtomicBool>) -> (Service, Arc<[AtomicU64; 2]>) {
    let mesh = Mesh::new(&"zen-mesh.local".parse().unwrap(), NAMESPACE).unwrap();
    let settings = Settings::new(mesh.clone(), Duration::from_hours(1), [INTAKE.to_owned()]);
    let (_, settings) = watch::channel(settings);
    let source = zen_operator::identity::Source::Secret;
    let service = Service::new(client.clone(), source, settings, &mut Registry::default());
    let writer = Writer::new(client.clone(), Leadership::unguarded(), "zen-operator-0", writer::Metrics::default());
    let (running, keeping, kept) = (service.clone(), service.clone(), writer.clone());
    tokio::spawn(async move { Box::pin(running.run()).await });
    tokio::spawn(async move { keeping.keep(&kept, None).await });
    let pods = Pods::watch(client.clone(), mesh, 9902, service.bundles());
    let events = Arc::<[AtomicU64; 2]>::default();
    let workloads = Some(Arc::new(Workloads::parse(WORKLOADS).unwrap()));
    let operator = Arc::default();
    let (refuses, wrong) = (Arc::clone(refuses), Arc::default());
    let field = Stubborn { pods, refuses, wrong, operator, events: Arc::clone(&events) };
    let parts = Parts {
        service: service.clone(),
        writer,
        namespace: NAMESPACE.to_owned(),
        workloads: watch::channel(Followed { content: workloads, ..Followed::default() }).1,
        clusters: watch::channel(Some(Vec::new())).1,
        field,
        metrics: Metrics::default(),
    };
    tokio::spawn(rotation::run(parts, CancellationToken::new()));
    (service, events)
}

async fn ask(config_maps: &Api<ConfigMap>, id: &str, action: Action, subject: &Subject, overlap_seconds: u32) {
    let plan = Plan {
        canary_percent: 25,
        probes: 2,
        soak_seconds: 3,
        patience_seconds: 60,
        interval_seconds: 1,
        overlap_seconds: Some(overlap_seconds),
        ..Plan::default()
    };
    let request = Request { id: id.to_owned(), action, subject: subject.clone(), plan };
    let patch = json!({"data": {record::REQUEST: serde_json::to_string(&request).unwrap()}});
    config_maps.patch(record::CONFIG_MAP, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn state(config_maps: &Api<ConfigMap>) -> State {
    let object = config_maps.get(record::CONFIG_MAP).await.unwrap();
    serde_json::from_str(&object.data.unwrap()[record::STATE]).unwrap()
}

async fn issuers(config_maps: &Api<ConfigMap>) -> BTreeSet<Option<String>> {
    let object = config_maps.get(inventory::CONFIG_MAP).await.unwrap();
    let inventory: Inventory = serde_json::from_str(&object.data.unwrap()[inventory::CERTIFICATES]).unwrap();
    let pods = inventory.certificates.into_iter().filter(|it| it.name.starts_with("Pod/"));
    pods.map(|it| it.issuer).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_issuing_ca_is_exchanged_and_taken_back_under_load_and_no_request_fails() {
    exchanged_and_taken_back(Subject::IssuingCa(None), "trusting").await;
}

/// Back from where every pod uses the new: each goes the whole way twice.
#[tokio::test(flavor = "multi_thread")]
async fn the_root_is_exchanged_and_taken_back_under_load_and_no_request_fails() {
    exchanged_and_taken_back(Subject::Root, "rolling_out").await;
}

/// First no pod takes the new from this phase on, and all goes back; then it goes well.
async fn exchanged_and_taken_back(subject: Subject, refused_from: &str) {
    let upstream = Upstream::http().await;
    let refuses = Arc::new(AtomicBool::new(refused_from == "trusting"));
    let mut stage = Stage::start().await;
    let (service, events) = operator(&stage.client(), &refuses);
    stage.issued_by(&service).await;
    let kubelet = stage.bring_trust();
    stage.apply(&[WEBHOOK, &ci(&upstream, "Egress"), SINK]).await;
    let fleet = Fleet::start(&stage).await;
    let load = fleet.load(&stage).await;

    let config_maps: Api<ConfigMap> = Api::namespaced(stage.client(), NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(stage.client(), NAMESPACE);
    until("rotations are kept", async || config_maps.get_opt(record::CONFIG_MAP).await.unwrap().is_some()).await;

    // Probes fail: all of it is taken back.
    let began = std::time::SystemTime::now();
    ask(&config_maps, "first", Action::Start, &subject, 5).await;
    until("it is so far", async || {
        let known = state(&config_maps).await;
        let phase = known.active.map(|active| active.rotation.phase.label());
        !known.ended.is_empty() || phase == Some(refused_from) || refuses.load(Ordering::Relaxed)
    })
    .await;
    refuses.store(true, Ordering::Relaxed);
    until("it is taken back", async || !state(&config_maps).await.ended.is_empty()).await;
    let ended = state(&config_maps).await.ended[0].clone();
    assert_eq!(ended.reason.row().code, "ProbeFailed", "{ended:?}");
    eprintln!("taken back in {:?}: {}", began.elapsed().unwrap(), ended.detail);
    let is_gone = async |name| secrets.get_opt(name).await.unwrap().is_none();
    until("the new is gone", async || is_gone(ISSUER_NEXT).await && is_gone(CA_NEXT).await).await;

    // And now it goes well.
    refuses.store(false, Ordering::Relaxed);
    let began = std::time::SystemTime::now();
    ask(&config_maps, "second", Action::Start, &subject, 5).await;
    until("it is over", async || state(&config_maps).await.ended.len() == 2).await;
    let done = state(&config_maps).await.ended[0].clone();
    assert_eq!(done.reason.row().code, "RotationFinished", "{done:?}");
    assert_eq!(done.old, ended.old, "the first one came back to what it was");
    eprintln!("exchanged in {:?}", began.elapsed().unwrap());
    let fingerprint = async |name| {
        let secret = secrets.get(name).await.unwrap().data.unwrap().remove("tls.crt").unwrap();
        zen_pki::certificates(std::str::from_utf8(&secret.0).unwrap()).remove(0).0
    };
    let in_use = fingerprint(if subject == Subject::Root { CA } else { ISSUER }).await;
    assert_eq!(done.new, Some(in_use), "the new is in the place of the old");
    let new = BTreeSet::from([Some(fingerprint(ISSUER).await)]);
    until("every pod presents it", async || issuers(&config_maps).await == new).await;
    until("it is put away", async || is_gone(ISSUER_NEXT).await && is_gone(CA_NEXT).await).await;
    let [posted, delivered] = events.each_ref().map(|count| count.load(Ordering::Relaxed));
    eprintln!("{posted} events of probes, of which one egress was seen to deliver {delivered}");
    assert!(posted > 0 && (1..=posted).contains(&delivered), "each round has one");
    let probes: Api<zen_crds::Webhook> = Api::namespaced(stage.client(), NAMESPACE);
    until("its way is put away", async || probes.get_opt(zen_pod::sink::NAME).await.unwrap().is_none()).await;
    until("one root is left", async || zen_pki::certificates(&service.bundle().unwrap()).len() == 1).await;

    fleet.delivered(load, &upstream).await;
    kubelet.abort();
    fleet.stop().await;
}
