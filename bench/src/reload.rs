//! K-04: an object is applied → it is in effect at every replica. Two replicas of the ingester's plane in this process, each
//! with watches of its own, on etcd and an API server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use zen_compile::{Plane, Snapshot};
use zen_e2e::ControlPlane;
use zen_live::cluster::{self, Cluster, Options};
use zen_model::{Namespace, ObjectKey};

use crate::histogram::Latencies;

/// Namespaces that the objects are spread over.
const TENANTS: usize = 20;
/// Requests at one time while the objects are made.
const WRITERS: usize = 16;

/// Prints how long changes take.
pub async fn run(webhooks: usize, secrets: usize, changes: usize) -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let api = Api(control_plane.client().await?);
    let begun = Instant::now();
    api.install(webhooks, secrets).await?;
    println!("{webhooks} Webhooks and {secrets} Secrets made in {:.1} s", begun.elapsed().as_secs_f64());

    let before = resident()?;
    let mut replicas = Vec::new();
    for name in ["first", "second"] {
        let begun = Instant::now();
        let client = cluster::client(config(&control_plane).await?)?;
        let options = Options { plane: Plane::Ingester, mesh_namespace: Namespace::from("zen-mesh"), cache: None };
        replicas.push(Cluster::start(client, options).await?);
        let mib = resident()?.saturating_sub(before);
        println!("{name} replica: in effect after {:.2} s, {mib} MiB more than before", begun.elapsed().as_secs_f64());
    }
    let serving = replicas[0].published().borrow().verdicts.iter().filter(|verdict| verdict.serving).count();
    ensure!(serving >= webhooks, "only {serving} objects serve");

    let (mut all, mut swapped) = (Latencies::default(), Latencies::default());
    for number in 0..changes {
        let key = webhook_key(fastrand::usize(..webhooks));
        let body = 100_000 + number;
        let change = json!({"spec": {"limits": {"body": body.to_string()}}});
        let in_effect = |snapshot: &Snapshot| snapshot.webhooks.get(&key).is_some_and(|own| own.max_body == body);
        let (whole, after) = api.change(&webhook_path(&key), &change, &replicas, in_effect).await?;
        all.record(whole);
        swapped.record(after);
    }
    println!("{}", line("a Webhook", &mut all, &mut swapped));

    let (mut all, mut swapped) = (Latencies::default(), Latencies::default());
    for number in 0..changes {
        let secret = fastrand::usize(..secrets);
        let key = webhook_key(secret);
        let before = replicas[0].snapshot().load().webhooks[&key].revision;
        let change = json!({"stringData": {"key": format!("secret-{number}-{secret}")}});
        let in_effect = |snapshot: &Snapshot| snapshot.webhooks.get(&key).is_some_and(|own| own.revision != before);
        let path = format!("/api/v1/namespaces/{}/secrets/s{secret}", key.namespace);
        let (whole, after) = api.change(&path, &change, &replicas, in_effect).await?;
        all.record(whole);
        swapped.record(after);
    }
    let what = format!("a Secret of {} Webhooks", webhooks.div_ceil(secrets));
    println!("{}", line(&what, &mut all, &mut swapped));
    println!("{} MiB in the end", resident()?.saturating_sub(before));
    Ok(())
}

fn line(what: &str, all: &mut Latencies, swapped: &mut Latencies) -> String {
    format!(
        "{what} changed, in effect at both: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; after the API server's answer: p50 {:.1} ms, p99 {:.1} ms ({} changes)",
        all.quantile(0.5),
        all.quantile(0.99),
        all.quantile(1.0),
        swapped.quantile(0.5),
        swapped.quantile(0.99),
        all.count(),
    )
}

async fn config(control_plane: &ControlPlane) -> Result<kube::Config> {
    let file = kube::config::Kubeconfig::read_from(control_plane.kubeconfig())?;
    Ok(kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?)
}

/// Webhook `n` names Secret `n` modulo their number, so that the tenants divide both.
fn webhook_key(number: usize) -> ObjectKey {
    ObjectKey::new(format!("tenant-{}", number % TENANTS), format!("w{number}"))
}

fn webhook_path(key: &ObjectKey) -> String {
    format!("/apis/zen-mesh.io/v1alpha1/namespaces/{}/webhooks/{}", key.namespace, key.name)
}

/// Resident memory of this process in MiB.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

struct Api(kube::Client);

impl Api {
    async fn install(&self, webhooks: usize, secrets: usize) -> Result<()> {
        for (_, text) in zen_crds::yaml() {
            let manifest: Value = serde_saphyr::from_str(&text)?;
            self.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &manifest).await?;
        }
        let namespaces = (0..TENANTS).map(|number| format!("tenant-{number}")).chain(["zen-mesh".to_owned()]);
        for name in namespaces {
            self.post("/api/v1/namespaces", &json!({"metadata": {"name": name}})).await?;
        }
        let mesh = json!({"metadata": {"name": "zen-mesh"}, "data": {"mesh.yaml": "{}"}});
        self.post("/api/v1/namespaces/zen-mesh/configmaps", &mesh).await?;
        ensure!(secrets.is_multiple_of(TENANTS), "the number of Secrets must be a multiple of {TENANTS}");
        let secrets_made = stream::iter(0..secrets).map(|number| async move {
            let path = format!("/api/v1/namespaces/tenant-{}/secrets", number % TENANTS);
            let data = json!({"key": format!("secret-{number}")});
            self.post(&path, &json!({"metadata": {"name": format!("s{number}")}, "stringData": data})).await
        });
        secrets_made.buffer_unordered(WRITERS).try_collect::<Vec<_>>().await?;
        for tenant in 0..TENANTS {
            self.destination(&format!("tenant-{tenant}")).await?;
        }
        let made = stream::iter(0..webhooks).map(|number| async move {
            let key = webhook_key(number);
            let spec = json!({
                "verification": {
                    "provider": "github",
                    "secrets": [{"secretRef": {"name": format!("s{}", number % secrets), "key": "key"}}],
                },
                "routes": [{"match": [{"eventType": ["push", "release"]}], "destinations": [{"name": "ci"}]}],
            });
            let object = object("Webhook", &key, &spec);
            self.post(&format!("/apis/zen-mesh.io/v1alpha1/namespaces/{}/webhooks", key.namespace), &object).await
        });
        made.buffer_unordered(WRITERS).try_collect::<Vec<_>>().await?;
        Ok(())
    }

    /// New kinds are served a moment after they are made.
    async fn destination(&self, namespace: &str) -> Result<()> {
        let key = ObjectKey::new(namespace, "ci");
        let object = object("Destination", &key, &json!({"target": {"url": "https://ci.example.com/"}}));
        let path = format!("/apis/zen-mesh.io/v1alpha1/namespaces/{namespace}/destinations");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match self.post(&path, &object).await {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn post(&self, path: &str, object: &Value) -> Result<()> {
        let request = Request::post(path).header("content-type", "application/json");
        self.0.request::<Value>(request.body(serde_json::to_vec(object)?)?).await?;
        Ok(())
    }

    /// Patches an object and waits until every replica has it: since the request was sent, and since it was answered.
    async fn change(
        &self,
        path: &str,
        change: &Value,
        replicas: &[Cluster],
        in_effect: impl Fn(&Snapshot) -> bool,
    ) -> Result<(Duration, Duration)> {
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        let request = request.body(serde_json::to_vec(change)?)?;
        let begun = Instant::now();
        let answered = async {
            self.0.request::<Value>(request).await?;
            anyhow::Ok(Instant::now())
        };
        let seen = async {
            for replica in replicas {
                let (mut published, snapshot) = (replica.published(), replica.snapshot());
                while !in_effect(&snapshot.load()) {
                    timeout(Duration::from_secs(10), published.changed()).await.context("it takes no effect")??;
                }
            }
            anyhow::Ok(Instant::now())
        };
        let (answered, seen) = tokio::try_join!(answered, seen)?;
        Ok((seen - begun, seen.saturating_duration_since(answered)))
    }
}

fn object(kind: &str, key: &ObjectKey, spec: &Value) -> Value {
    json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"namespace": key.namespace.as_str(), "name": key.name.as_str()},
    })
}
