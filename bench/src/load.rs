//! The generator: so many keep-alive connections, each with one request after another, signed as GitHub signs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use aws_lc_rs::hmac;
use rustls_pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use crate::histogram::Latencies;
use crate::http::{Messages, status};
use crate::sink::Arrivals;

/// One run.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub address: SocketAddr,
    /// The path.
    pub path: String,
    /// Client side of TLS, ALPN http/1.1.
    pub tls: Arc<rustls::ClientConfig>,
    /// Connections.
    pub connections: usize,
    /// Body size in bytes.
    pub body: usize,
    /// How long.
    pub time: Duration,
    /// The shared secret.
    pub secret: &'static [u8],
    /// Part of every delivery id, so that runs against one queue do not repeat each other's.
    pub run: String,
    /// Waits while more than so many events are on their way to this target: the steady state of a chain.
    pub window: Option<(usize, Arc<Arrivals>)>,
    /// At most this number of requests.
    pub most: usize,
}

/// What a run saw.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Answers with 2xx.
    pub accepted: usize,
    /// Other answers.
    pub refused: usize,
    /// From the first to the last request.
    pub took: Duration,
    /// From request to answer.
    pub latencies: Latencies,
    /// When each accepted event was sent, since the arrivals' clock began.
    pub sent: Vec<(usize, Duration)>,
}

impl Outcome {
    /// Accepted each second.
    #[allow(clippy::cast_precision_loss)] // counts are far below 2^52
    pub fn rate(&self) -> f64 {
        self.accepted as f64 / self.took.as_secs_f64()
    }
}

impl Load {
    /// Runs it.
    pub async fn run(self) -> anyhow::Result<Outcome> {
        let body = vec![b'x'; self.body.saturating_sub(8)];
        let body = [b"{\"x\":\"".as_slice(), &body, b"\"}"].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, self.secret), &body);
        let head = format!(
            "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             X-GitHub-Event: push\r\nX-Hub-Signature-256: sha256={}\r\nX-GitHub-Delivery: {}-",
            self.path,
            body.len(),
            hex::encode(tag),
            self.run
        );
        let (head, body) = (Arc::<str>::from(head), Arc::<[u8]>::from(body));
        let next = Arc::new(AtomicUsize::new(0));
        let mut connected = Vec::with_capacity(self.connections);
        for _ in 0..self.connections {
            connected.push(self.connect().await?);
        }
        let began = Instant::now();
        let tasks: Vec<_> = connected
            .into_iter()
            .map(|messages| tokio::spawn(self.clone().drive(messages, head.clone(), body.clone(), next.clone(), began)))
            .collect();
        let mut all = Outcome::default();
        for task in tasks {
            let one = task.await??;
            all.accepted += one.accepted;
            all.refused += one.refused;
            all.latencies.merge(one.latencies);
            all.sent.extend(one.sent);
        }
        all.took = began.elapsed();
        Ok(all)
    }

    async fn connect(&self) -> anyhow::Result<Messages<tokio_rustls::client::TlsStream<TcpStream>>> {
        let stream = TcpStream::connect(self.address).await.context("failed to connect")?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        Ok(Messages::new(TlsConnector::from(self.tls.clone()).connect(name, stream).await?))
    }

    async fn drive(
        self,
        mut messages: Messages<tokio_rustls::client::TlsStream<TcpStream>>,
        head: Arc<str>,
        body: Arc<[u8]>,
        next: Arc<AtomicUsize>,
        began: Instant,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut request = Vec::with_capacity(head.len() + body.len() + 32);
        while began.elapsed() < self.time {
            if let Some((window, arrivals)) = &self.window {
                let arrived = usize::try_from(arrivals.count())?;
                if next.load(Ordering::Relaxed) >= arrived + window {
                    // Woken by the next arrival; the limit only ends a run whose target stopped.
                    let _ = tokio::time::timeout(Duration::from_millis(5), arrivals.arrived.notified()).await;
                    continue;
                }
            }
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.most {
                break;
            }
            request.clear();
            request.extend_from_slice(head.as_bytes());
            request.extend_from_slice(number.to_string().as_bytes());
            request.extend_from_slice(b"\r\n\r\n");
            request.extend_from_slice(&body);
            let sent = Instant::now();
            let since = self.window.as_ref().map(|(_, arrivals)| arrivals.now());
            messages.stream().write_all(&request).await?;
            let answer = messages.next().await?.context("the server closed the connection")?;
            if (200..300).contains(&status(answer)?) {
                outcome.accepted += 1;
                outcome.latencies.record(sent.elapsed());
                outcome.sent.extend(since.map(|since| (number, since)));
            } else {
                outcome.refused += 1;
            }
        }
        Ok(outcome)
    }
}
