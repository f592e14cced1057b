//! A way from one network into another that can be cut.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Carries TCP connections from an address of this machine to one in a cluster. While it is cut they stay open and nothing passes,
/// as in a network that drops everything; what was sent meanwhile passes when it heals. Ends when dropped.
#[derive(Debug)]
pub struct Passage {
    address: SocketAddr,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    to: SocketAddr,
    is_open: watch::Sender<bool>,
    connections: watch::Sender<usize>,
}

impl Passage {
    /// From a free port of this address.
    pub async fn new(at: IpAddr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((at, 0)).await.with_context(|| format!("failed to listen at {at}"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { to, is_open: watch::Sender::new(true), connections: watch::Sender::new(0) });
        let mut accepting = JoinSet::new();
        let carrying = Arc::clone(&shared);
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((near, _)) = accepted {
                        connections.spawn(Arc::clone(&carrying).carry(near));
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, shared, _accepting: accepting })
    }

    /// The port that it listens at.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Nothing passes any more.
    pub fn cut(&self) {
        self.shared.is_open.send_replace(false);
    }

    /// Everything passes again.
    pub fn heal(&self) {
        self.shared.is_open.send_replace(true);
    }

    /// Connections that are carried.
    pub fn connections(&self) -> watch::Receiver<usize> {
        self.shared.connections.subscribe()
    }
}

impl Shared {
    async fn carry(self: Arc<Self>, near: TcpStream) {
        self.connections.send_modify(|count| *count += 1);
        if let Err(error) = self.both_ways(near).await
            && error.kind() != io::ErrorKind::ConnectionReset
        {
            eprintln!("a connection to {} broke: {error}", self.to);
        }
        self.connections.send_modify(|count| *count -= 1);
    }

    async fn both_ways(&self, near: TcpStream) -> io::Result<()> {
        self.open().await;
        let far = TcpStream::connect(self.to).await?;
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        tokio::select! {
            ended = self.one_way(near_read, far_write) => ended,
            ended = self.one_way(far_read, near_write) => ended,
        }
    }

    async fn one_way(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer).await?;
            self.open().await;
            if length == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..length]).await?;
        }
    }

    async fn open(&self) {
        // An error: the passage is gone, and this connection with it.
        let _ = self.is_open.subscribe().wait_for(|is_open| *is_open).await;
    }
}
