//! One HTTP/1.1 client for all commands: a kept-alive connection, TLS where asked, nothing followed, nothing retried.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::failure::{Context as _, Failure, Outcome};

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 << 20;
/// For connecting, and again for each answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Where to connect, and how.
#[derive(Clone, Debug)]
pub struct Target {
    /// `host:port` to connect to.
    pub address: String,
    /// TLS: configuration and the name that the certificate must carry.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// A connection that is made when needed and again when the server closed it.
#[derive(Debug)]
pub struct Connection {
    target: Target,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// Not connected yet.
    pub const fn new(target: Target) -> Self {
        Self { target, sender: None }
    }

    /// Sends one request, in origin form and with its `Host`, and reads the answer.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Outcome<Answer> {
        let mut kept = self.sender.take();
        if let Some(sender) = &mut kept
            && sender.ready().await.is_err()
        {
            kept = None;
        }
        let sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let sender = self.sender.insert(sender);
        let what = format_args!("failed to talk to {}", self.target.address);
        let exchange = async {
            let answer = sender.send_request(request).await.context(what)?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| Failure::new(format!("{what}: {error}")))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        match tokio::time::timeout(LIMIT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(format!("{} gave no answer in {} s", self.target.address, LIMIT.as_secs()))),
        }
    }

    async fn connect(&self) -> Outcome<SendRequest<Full<Bytes>>> {
        let Target { address, tls } = &self.target;
        let connecting = async {
            let stream = TcpStream::connect(address.as_str()).await.map_err(|error| {
                let failure = Failure::new(format!("failed to connect to {address}: {error}"));
                match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => failure.hint("is the process that listens there running?"),
                    _ => failure,
                }
            })?;
            let _ = stream.set_nodelay(true);
            match tls {
                None => handshake(stream).await,
                Some((config, name)) => {
                    let stream = TlsConnector::from(Arc::clone(config)).connect(name.clone(), stream).await;
                    let stream = stream.map_err(|error| {
                        Failure::new(format!("failed to make a TLS connection to {address}: {error}"))
                            .hint("name the file of the CA that the server's certificate comes from with --ca")
                    })?;
                    handshake(stream).await
                }
            }
        };
        match tokio::time::timeout(LIMIT, connecting).await {
            Ok(sender) => sender,
            Err(_) => Err(Failure::new(format!("{address} could not be reached in {} s", LIMIT.as_secs()))),
        }
    }
}

async fn handshake<S>(stream: S) -> Outcome<SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.context("failed to begin HTTP")?;
    // Ends with the sender or the server; its error reaches us through the request in flight.
    tokio::spawn(connection);
    Ok(sender)
}

/// Trusts the CA certificates of a PEM file, or what the system trusts.
pub fn tls_config(ca: Option<&Path>) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(file) => {
            let mut pem = Vec::new();
            let opened = std::fs::File::open(file).and_then(|file| file.take(1 << 20).read_to_end(&mut pem));
            opened.context(format_args!("failed to read the CA file {}", file.display()))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.context(format_args!("{} is not PEM", file.display()))?;
                roots.add(certificate).context(format_args!("{} holds no usable CA", file.display()))?;
            }
            if roots.is_empty() {
                return Err(Failure::new(format!("{} holds no certificate", file.display())));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("failed to set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
