//! A webhook source outside the cluster: GitHub's signature, TLS against the mesh's own root.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cluster::Cluster;
use crate::wait;

/// The name in the intake's certificate where no host is granted.
const HOST: &str = "zen-ingester.zen-mesh.svc";
/// For one request.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends to one Webhook of the preset `github`.
pub struct Source {
    address: SocketAddr,
    path: String,
    secret: String,
    tls: TlsConnector,
}

/// An answer of the intake.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// The event's id, where it was accepted.
    pub id: Option<String>,
}

impl Source {
    /// To the intake's Service, as the mesh in `zen-mesh` serves it.
    pub async fn new(cluster: &Cluster, path: &str, secret: &str) -> Result<Self> {
        let of_mesh = async |arguments: &[&str]| {
            let all = [&["--namespace", "zen-mesh"][..], arguments].concat();
            cluster.kubectl(&all).await
        };
        let address =
            of_mesh(&["get", "service", "zen-ingester", "--output", "jsonpath={.spec.clusterIP}:443"]).await?;
        let trust = of_mesh(&["get", "configmap", "zen-mesh-trust", "--output", "jsonpath={.data.ca\\.crt}"]).await?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(trust.as_bytes()) {
            roots.add(certificate.context("zen-mesh-trust holds no certificate")?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self {
            address: address.parse().with_context(|| format!("{address} is no address"))?,
            path: path.to_owned(),
            secret: secret.to_owned(),
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Posts one with this delivery id. An error: nobody knows whether it was taken.
    pub async fn send(&self, delivery: &str) -> Result<Answer> {
        let body = format!("{{\"delivery\":\"{delivery}\"}}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let tag = hmac::sign(&key, body.as_bytes());
        let signature = hex::encode(tag);
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ncontent-type: application/json\r\n\
             x-github-event: push\r\nx-github-delivery: {delivery}\r\nx-hub-signature-256: sha256={signature}\r\n\
             content-length: {}\r\n\r\n{body}",
            self.path,
            body.len()
        );
        let exchange = async {
            let tcp = TcpStream::connect(self.address).await?;
            let mut tls = self.tls.connect(ServerName::try_from(HOST)?, tcp).await?;
            tls.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            // The end may come without a close_notify: what counts is the answer.
            let _ = tls.read_to_end(&mut answer).await;
            parse(&String::from_utf8_lossy(&answer))
        };
        timeout(LIMIT, exchange).await.context("the intake did not answer")?
    }

    /// Sends until it is accepted; how a source of webhooks behaves. Returns the event's id.
    pub async fn deliver(&self, delivery: &str, limit: Duration) -> Result<String> {
        wait::until(&format!("{delivery} is accepted"), limit, async || {
            let answer = self.send(delivery).await?;
            ensure!(answer.status == 202, "the intake answered {}", answer.status);
            Ok(answer.id)
        })
        .await
    }
}

fn parse(answer: &str) -> Result<Answer> {
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no answer")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    Ok(Answer { status, id: body["id"].as_str().map(str::to_owned) })
}
