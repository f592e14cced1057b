//! The promises of issue 4 for the operator: among 10,000 Webhooks, everything is looked at and every status written within a
//! minute, one write for each object that changed, none while nothing changes, and memory that stays small.
//!
//! The program itself runs beside etcd and an API server; the data plane compiles as it does and reports, and serves nothing.

mod pods;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Request;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use zen_e2e::ControlPlane;
use zen_model::Timestamp;
use zen_pki::Ca;

use crate::objects::{Api, webhook_key, webhook_path};
use crate::process::Process;
use crate::zen::get;
use pods::DataPlane;

/// The chart's settings of the data plane.
const MANIFEST: &str = include_str!("../../deploy/kustomize/mesh/zen-mesh.yaml");
/// How long it is watched while nothing changes.
const QUIET: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_mins(5);

/// Prints the figures.
pub async fn run(program: &Path, folder: &Path, webhooks: usize, secrets: usize, changes: usize) -> Result<()> {
    if !pods::is_apart() {
        return pods::run_apart();
    }
    let control_plane = ControlPlane::start().await?;
    let api = Api(control_plane.client().await?);
    let begun = Instant::now();
    api.install(webhooks, secrets).await?;
    api.post("/api/v1/namespaces/zen-mesh/configmaps", &workloads()?).await?;
    println!("{webhooks} Webhooks and {secrets} Secrets made in {:.1} s", begun.elapsed().as_secs_f64());

    let ca = Ca::new_root(&zen_compile::mesh::Config::default().trust_domain.parse()?, Timestamp::now())?;
    let root = folder.join("ca");
    std::fs::create_dir_all(&root)?;
    std::fs::write(root.join("tls.crt"), ca.certificate_pem())?;
    std::fs::write(root.join("tls.key"), ca.key_pem().expose())?;
    let mut data_plane = DataPlane::start(&control_plane, &ca).await?;
    data_plane.register(&api).await?;

    let objects = webhooks + crate::objects::TENANTS;
    let operator = Operator::start(program, folder, &control_plane, &root, data_plane.port())?;
    let took = operator.until_written(objects).await?;
    let first = operator.metric("zen_operator_first_reconcile_seconds", &[]).await?;
    let mean = f64::from(u32::try_from(objects)?) / took.as_secs_f64();
    println!(
        "first reconcile {first:.2} s; all {objects} statuses after {:.1} s from the start: {mean:.0}/s",
        took.as_secs_f64()
    );
    operator.check_statuses(&api, webhooks).await?;
    operator.memory("then")?;

    let before = Writes::of(&api, &operator).await?;
    sleep(QUIET).await;
    let after = Writes::of(&api, &operator).await?;
    println!("in {} s without a change: {:.0} writes to the API server", QUIET.as_secs(), after.served - before.served);
    operator.memory("steady")?;

    let begun = Instant::now();
    for number in 0..changes {
        let path = webhook_path(&webhook_key(number));
        let change = json!({"spec": {"limits": {"body": (100_000 + number).to_string()}}});
        let request = Request::patch(path).header("content-type", "application/merge-patch+json");
        api.0.request::<Value>(request.body(serde_json::to_vec(&change)?)?).await?;
    }
    let made = begun.elapsed();
    operator.until_written(objects + changes).await?;
    let took = begun.elapsed();
    sleep(Duration::from_secs(2)).await;
    let written = Writes::of(&api, &operator).await?;
    println!(
        "{changes} Webhooks changed within {:.1} s: {:.0} status writes, the last {:.1} s after the first change",
        made.as_secs_f64(),
        written.statuses - after.statuses,
        took.as_secs_f64()
    );
    operator.memory("then")?;
    drop(operator);

    let operator = Operator::start(program, folder, &control_plane, &root, data_plane.port())?;
    let took = operator.until(async || Ok(operator.metric("zen_operator_first_reconcile_seconds", &[]).await? > 0.0));
    let took = took.await?;
    sleep(QUIET).await;
    let again = Writes::of(&api, &operator).await?;
    println!(
        "started anew after SIGKILL: everything looked at {:.1} s later (the lease has to run out); {:.0} status writes",
        took.as_secs_f64(),
        again.statuses
    );
    operator.memory("then")?;
    data_plane.end();
    Ok(())
}

fn workloads() -> Result<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(MANIFEST)?;
    let found =
        documents.into_iter().find(|it| it["kind"] == "ConfigMap" && it["metadata"]["name"] == "zen-mesh-workloads");
    found.context("no ConfigMap zen-mesh-workloads")
}

/// A running `zen-operator`.
struct Operator {
    process: Process,
    admin: std::net::SocketAddr,
    begun: Instant,
}

impl Operator {
    fn start(program: &Path, folder: &Path, control_plane: &ControlPlane, root: &Path, control: u16) -> Result<Self> {
        let free = || std::net::TcpListener::bind("127.0.0.1:0")?.local_addr();
        let (admin, identity) = (free()?, free()?);
        let mut command = Command::new(program);
        command.env("KUBECONFIG", control_plane.kubeconfig()).env("ZEN_LOG", "info");
        command.args(["--admin", &admin.to_string(), "--identity", &identity.to_string()]);
        command.arg("--audit").arg(folder.join("audit"));
        command.arg("--control-port").arg(control.to_string()).arg("--ca-path").arg(root);
        let process = Process::start(&mut command, &folder.join("operator.log"))?;
        Ok(Self { process, admin, begun: Instant::now() })
    }

    async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let answer = get(self.admin, "/metrics").await?;
        let text = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(zen_runtime::metrics::value(text, name, labels).unwrap_or_default())
    }

    async fn statuses(&self) -> Result<f64> {
        let mut sum = 0.0;
        for kind in ["Webhook", "Destination"] {
            sum += self.metric("zen_operator_writes_total", &[("kind", kind), ("outcome", "Applied")]).await?;
        }
        Ok(sum)
    }

    /// Waits for so many writes of statuses; how long the program runs by then.
    async fn until_written(&self, wanted: usize) -> Result<Duration> {
        let wanted = f64::from(u32::try_from(wanted)?);
        self.until(async || Ok(self.statuses().await? >= wanted)).await
    }

    async fn until(&self, done: impl AsyncFn() -> Result<bool>) -> Result<Duration> {
        let deadline = Instant::now() + PATIENCE;
        // It listens a moment after its start.
        while !done().await.unwrap_or(false) {
            ensure!(Instant::now() < deadline, "not within {PATIENCE:?}: {} statuses", self.statuses().await?);
            sleep(Duration::from_millis(100)).await;
        }
        Ok(self.begun.elapsed())
    }

    fn memory(&self, when: &str) -> Result<()> {
        const MIB: u64 = 1 << 20;
        let usage = self.process.usage()?;
        println!(
            "  {when}: {} MiB, at most {} MiB so far, {:.1} s of CPU",
            usage.resident / MIB,
            self.process.peak()? / MIB,
            Duration::from_micros(usage.cpu_micros).as_secs_f64()
        );
        Ok(())
    }

    /// Every Webhook says that it is in effect.
    async fn check_statuses(&self, api: &Api, webhooks: usize) -> Result<()> {
        let path = "/apis/zen-mesh.io/v1alpha1/webhooks";
        let list: Value = api.0.request(Request::get(path).body(Vec::new())?).await?;
        let programmed = |object: &&Value| {
            let conditions = object["status"]["conditions"].as_array();
            conditions.into_iter().flatten().any(|it| it["type"] == "Programmed" && it["status"] == "True")
        };
        let found = list["items"].as_array().into_iter().flatten().filter(programmed).count();
        ensure!(found == webhooks, "only {found} of {webhooks} are programmed");
        Ok(())
    }
}

/// What was written so far.
struct Writes {
    /// Of all clients, Leases aside, as the API server counts.
    served: f64,
    /// Of statuses, as the operator counts.
    statuses: f64,
}

impl Writes {
    async fn of(api: &Api, operator: &Operator) -> Result<Self> {
        let text = api.0.request_text(Request::get("/metrics").body(Vec::new())?).await?;
        let writes = text.lines().filter(|line| {
            line.starts_with("apiserver_request_total{")
                && !line.contains("resource=\"leases\"")
                && ["APPLY", "PATCH", "POST", "PUT", "DELETE"]
                    .iter()
                    .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        });
        let served = writes.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        Ok(Self { served, statuses: operator.statuses().await? })
    }
}
