//! The target: answers every request with 204 and notes when which event came.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

use crate::http::{Messages, header};

/// What the target saw, shared with the generator.
#[derive(Debug)]
pub struct Arrivals {
    /// Microseconds since the run began, by event number, plus 1; 0 while it has not come.
    times: Vec<AtomicU64>,
    /// Events that came at least once.
    first: AtomicU64,
    /// Deliveries that came again.
    repeats: AtomicU64,
    /// Told at each arrival.
    pub arrived: Notify,
    began: tokio::time::Instant,
}

impl Arrivals {
    /// Room for so many events.
    pub fn new(capacity: usize) -> Arc<Self> {
        let times = std::iter::repeat_with(AtomicU64::default).take(capacity).collect();
        Arc::new(Self {
            times,
            first: AtomicU64::new(0),
            repeats: AtomicU64::new(0),
            arrived: Notify::new(),
            began: tokio::time::Instant::now(),
        })
    }

    /// How many different events came.
    pub fn count(&self) -> u64 {
        self.first.load(Ordering::Relaxed)
    }

    /// How many deliveries came again.
    pub fn repeats(&self) -> u64 {
        self.repeats.load(Ordering::Relaxed)
    }

    /// When an event came, since the run began.
    pub fn at(&self, number: usize) -> Option<Duration> {
        match self.times.get(number)?.load(Ordering::Relaxed) {
            0 => None,
            micros => Some(Duration::from_micros(micros - 1)),
        }
    }

    /// Since the run began.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn note(&self, head: &[u8]) {
        let id = header(head, b"ce-id").or_else(|| header(head, b"x-github-delivery"));
        let number = id.and_then(|id| std::str::from_utf8(id).ok()?.rsplit('-').next()?.parse::<usize>().ok());
        let Some(slot) = number.and_then(|number| self.times.get(number)) else { return };
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1;
        if slot.compare_exchange(0, micros, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.first.fetch_add(1, Ordering::Relaxed);
        } else {
            self.repeats.fetch_add(1, Ordering::Relaxed);
        }
        self.arrived.notify_waiters();
    }
}

/// Serves on a free loopback port until the runtime ends. `delay` holds each answer back.
pub async fn serve(
    tls: Arc<ServerConfig>,
    arrivals: Arc<Arrivals>,
    delay: Option<Duration>,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(tls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, arrivals) = (acceptor.clone(), arrivals.clone());
            tokio::spawn(async move {
                let _ = stream.set_nodelay(true);
                let mut messages = Messages::new(acceptor.accept(stream).await?);
                while let Some(head) = messages.next().await? {
                    arrivals.note(head);
                    if let Some(delay) = delay {
                        tokio::time::sleep(delay).await;
                    }
                    messages.stream().write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                }
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}
