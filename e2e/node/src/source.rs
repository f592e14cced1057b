//! A webhook source outside the cluster: GitHub's signature, TLS against the mesh's own root.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::hmac;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cluster::Cluster;
use crate::wait;

/// The name in the intake's certificate where no host is granted.
const HOST: &str = "zen-ingester.zen-mesh.svc";
/// For a connection, and for one request.
const LIMIT: Duration = Duration::from_secs(10);

/// Sends to one Webhook of the preset `github`. Cheap to clone.
#[derive(Clone)]
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
    /// The reason code, where it was refused.
    pub code: Option<String>,
}

/// There is no answer. Where something was sent, nobody knows whether it was taken.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody took the connection.
    #[error("failed to connect: {0}")]
    Connect(std::io::Error),
    /// The connection ended before it could be used.
    #[error("failed to shake hands: {0}")]
    Handshake(String),
    /// A connection from before had ended; nothing was sent.
    #[error("failed to send")]
    Unsent,
    /// The connection ended before the answer.
    #[error("failed to read the answer: {0}")]
    Lost(hyper::Error),
    /// Nothing came for so long that nobody waits.
    #[error("failed to get an answer within {LIMIT:?}")]
    Late,
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

    /// Where its events go.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same, to one replica in place of the Service.
    #[must_use]
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// The same with another secret.
    #[must_use]
    pub fn signing_with(&self, secret: &str) -> Self {
        Self { secret: secret.to_owned(), ..self.clone() }
    }

    /// The same for another path.
    #[must_use]
    pub fn on(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// Posts one with this delivery id, on a connection of its own.
    pub async fn send(&self, delivery: &str) -> Result<Answer, Unanswered> {
        self.connect().await?.send(self, delivery).await
    }

    /// A connection for requests one after the other.
    pub async fn connect(&self) -> Result<Connection, Unanswered> {
        let tcp = timeout(LIMIT, TcpStream::connect(self.address)).await.map_err(|_| Unanswered::Late)?;
        let tcp = tcp.map_err(Unanswered::Connect)?;
        let secured = async {
            let name = ServerName::try_from(HOST).map_err(|error| Unanswered::Handshake(error.to_string()))?;
            let tls = self.tls.connect(name, tcp).await.map_err(|error| Unanswered::Handshake(error.to_string()))?;
            let made = http1::handshake(TokioIo::new(tls)).await;
            made.map_err(|error| Unanswered::Handshake(error.to_string()))
        };
        let (requests, connection) = timeout(LIMIT, secured).await.map_err(|_| Unanswered::Late)??;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(Connection { requests, _driver: driver })
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

    fn request(&self, delivery: &str) -> http::Result<http::Request<Full<Bytes>>> {
        let body = format!("{{\"delivery\":\"{delivery}\"}}");
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = hex::encode(hmac::sign(&key, body.as_bytes()));
        http::Request::post(&self.path)
            .header("host", HOST)
            .header("content-type", "application/json")
            .header("x-github-event", "push")
            .header("x-github-delivery", delivery)
            .header("x-hub-signature-256", format!("sha256={signature}"))
            .body(Full::from(body))
    }
}

/// A connection to the intake. It ends when dropped.
pub struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Whether the intake would take another request here, as far as is known.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Posts one that `source` signs.
    pub async fn send(&mut self, source: &Source, delivery: &str) -> Result<Answer, Unanswered> {
        let request = source.request(delivery).map_err(|error| Unanswered::Handshake(error.to_string()))?;
        let exchange = async {
            self.requests.ready().await.map_err(|_| Unanswered::Unsent)?;
            let lost = |error: hyper::Error| {
                if error.is_canceled() { Unanswered::Unsent } else { Unanswered::Lost(error) }
            };
            let answer = self.requests.send_request(request).await.map_err(lost)?;
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.map_err(Unanswered::Lost)?.to_bytes();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
            let text = |field: &str| body[field].as_str().map(str::to_owned);
            Ok(Answer { status, id: text("id"), code: text("code") })
        };
        timeout(LIMIT, exchange).await.map_err(|_| Unanswered::Late)?
    }
}
