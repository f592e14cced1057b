//! Zen Mesh under measurement: the real program, started as users start it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::certificates::{self, Certificates};
use crate::process::Process;

/// The secret that the generator signs with.
pub const SECRET: &[u8] = b"a-secret-of-the-bench-only";

/// A running `zen up`.
#[derive(Debug)]
pub struct Zen {
    /// The process.
    pub process: Process,
    /// Where webhooks go.
    pub intake: SocketAddr,
    /// Admin address.
    pub admin: SocketAddr,
    /// Trusts the intake.
    pub tls: Arc<rustls::ClientConfig>,
    /// Manifests.
    pub folder: PathBuf,
}

/// A Destination of the run and the Webhook that routes to it, at `/bench/<name>`.
#[derive(Clone, Debug)]
pub struct Route {
    /// Name of both.
    pub name: &'static str,
    /// The target.
    pub target: SocketAddr,
    /// Whether delivery is held.
    pub paused: bool,
}

impl Zen {
    /// Writes manifests into `folder`, starts `program` and waits until it is ready.
    pub async fn start(
        program: &Path,
        folder: &Path,
        certificates: &Certificates,
        routes: &[Route],
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        configure(folder, certificates, routes)?;
        let state = folder.join(".zen");
        let mut command = Command::new(program);
        command.arg("up").arg(folder).args(["--intake", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--quiet"]);
        command.env("ZEN_LOG", "warn");
        let mut process = Process::start(&mut command, &folder.join("zen.log"))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        let (intake, admin) = loop {
            process.check().with_context(|| fs::read_to_string(folder.join("zen.log")).unwrap_or_default())?;
            if let Some((intake, admin)) = addresses(&state.join("addresses.json"))
                && get(admin, "/readyz").await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
            {
                break (intake, admin);
            }
            if Instant::now() > deadline {
                bail!("zen up was not ready in time:\n{}", fs::read_to_string(folder.join("zen.log"))?);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let tls = certificates::client(&fs::read_to_string(state.join("ca.crt"))?)?;
        Ok(Self { process, intake, admin, tls, folder: folder.to_owned() })
    }

    /// The bytes of the queue's files.
    pub fn queue_bytes(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for entry in fs::read_dir(self.folder.join(".zen/queue"))? {
            sum += entry?.metadata()?.len();
        }
        Ok(sum)
    }

    /// One value of `/metrics`, all label sets added up.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = get(self.admin, "/metrics").await?;
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values = text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum::<f64>())
    }
}

/// Writes the manifests; a running program takes them over at once.
pub fn configure(folder: &Path, certificates: &Certificates, routes: &[Route]) -> anyhow::Result<()> {
    Ok(fs::write(folder.join("bench.json"), manifests(certificates, routes))?)
}

fn addresses(path: &Path) -> Option<(SocketAddr, SocketAddr)> {
    let found: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    Some((found["intake"].as_str()?.parse().ok()?, found["admin"].as_str()?.parse().ok()?))
}

/// The whole answer to a GET.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// The manifests of the run; JSON is YAML.
fn manifests(certificates: &Certificates, routes: &[Route]) -> String {
    let object = |kind: &str, name: &str, rest: Value| {
        let api = if matches!(kind, "Webhook" | "Destination") { "zen-mesh.io/v1alpha1" } else { "v1" };
        let mut object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "bench"}});
        if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
            object.extend(rest);
        }
        object
    };
    let (certificate, key) = &certificates.client;
    let mut items = vec![
        object("Secret", "source", json!({"stringData": {"secret": String::from_utf8_lossy(SECRET)}})),
        object("ConfigMap", "ca", json!({"data": {"ca.crt": certificates.ca}})),
        object(
            "Secret",
            "client",
            json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": certificate, "tls.key": key}}),
        ),
    ];
    for Route { name, target, paused } in routes {
        let secret = json!({"secretRef": {"name": "source", "key": "secret"}});
        let webhook = json!({
            "verification": {"provider": "github", "secrets": [secret]},
            "routes": [{"destinations": [{"name": name}]}],
        });
        let destination = json!({
            "paused": paused,
            "target": {"url": format!("https://localhost:{}/", target.port())},
            "network": {"allowCidrs": ["127.0.0.0/8"]},
            "tls": {
                "caRef": {"configMapRef": {"name": "ca", "key": "ca.crt"}},
                "clientCertificateRef": {"name": "client"},
            },
        });
        items.push(object("Webhook", name, json!({"spec": webhook})));
        items.push(object("Destination", name, json!({"spec": destination})));
    }
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}
