//! K-04: an object is applied → it is in effect at every replica. Two replicas of the ingester's plane in this process, each
//! with watches of its own, on etcd and an API server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use zen_compile::{Plane, Snapshot};
use zen_e2e::ControlPlane;
use zen_live::cluster::{self, Cluster, Options};
use zen_model::Namespace;

use crate::histogram::Latencies;
use crate::objects::{ADDRESSES, Api, webhook_key, webhook_path};

/// Prints how long changes take.
pub async fn run(webhooks: usize, secrets: usize, services: usize, changes: usize) -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let api = Api(control_plane.client().await?);
    let begun = Instant::now();
    api.install(webhooks, secrets).await?;
    println!("{webhooks} Webhooks and {secrets} Secrets made in {:.1} s", begun.elapsed().as_secs_f64());

    egress(&control_plane, &api, services).await?;
    let before = resident()?;
    let mut replicas = Vec::new();
    for name in ["first", "second"] {
        let begun = Instant::now();
        let client = cluster::client(control_plane.config().await?)?;
        let options =
            Options { plane: Plane::Ingester, member: None, mesh_namespace: Namespace::from("zen-mesh"), cache: None };
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
        let (whole, after) = timed(&api, &webhook_path(&key), &change, &replicas, in_effect).await?;
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
        let (whole, after) = timed(&api, &path, &change, &replicas, in_effect).await?;
        all.record(whole);
        swapped.record(after);
    }
    let what = format!("a Secret of {} Webhooks", webhooks.div_ceil(secrets));
    println!("{}", line(&what, &mut all, &mut swapped));
    println!("{} MiB in the end", resident()?.saturating_sub(before));
    Ok(())
}

/// What the egress plane takes where the cluster has many Services, of which Destinations name none: it watches all of them,
/// because a watch cannot be told names.
async fn egress(control_plane: &ControlPlane, api: &Api, services: usize) -> Result<()> {
    api.services(services).await?;
    let before = resident()?;
    let begun = Instant::now();
    let client = cluster::client(control_plane.config().await?)?;
    let options =
        Options { plane: Plane::Egress, member: None, mesh_namespace: Namespace::from("zen-mesh"), cache: None };
    let _egress = Cluster::start(client, options).await?;
    println!(
        "the egress plane beside {services} Services of {ADDRESSES} addresses each: in effect after {:.2} s, {} MiB more than before",
        begun.elapsed().as_secs_f64(),
        resident()?.saturating_sub(before)
    );
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

/// Resident memory of this process in MiB.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1024)
}

/// Patches an object and waits until every replica has it: since the request was sent, and since it was answered.
async fn timed(
    api: &Api,
    path: &str,
    change: &Value,
    replicas: &[Cluster],
    in_effect: impl Fn(&Snapshot) -> bool,
) -> Result<(Duration, Duration)> {
    let request = Request::patch(path).header("content-type", "application/merge-patch+json");
    let request = request.body(serde_json::to_vec(change)?)?;
    let begun = Instant::now();
    let answered = async {
        api.0.request::<Value>(request).await?;
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
