//! How a page gets to a peer.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use zen_identity::control::{AdoptRequest, Adopted};
use zen_identity::http::{Client, Error, Peer};
use zen_pki::{Identity, SpiffeId};
use zen_queue::{BoxFuture, QueueId};

use super::PATH;

/// A page may be 15 MiB, and the peer syncs its disk before it answers.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Carries a page to a peer and its answer back.
pub trait Transport: Send + Sync + 'static {
    /// The id of the peer's queue.
    fn queue(&self, peer: SocketAddr) -> BoxFuture<'_, Result<QueueId, Failure>>;

    /// Sends a page for this queue. `Ok`: it is durable there.
    fn adopt(&self, peer: SocketAddr, queue: QueueId, page: AdoptRequest) -> BoxFuture<'_, Result<Adopted, Failure>>;
}

/// Why there is no `Ok`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing reached the peer.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The peer took nothing, and said so.
    #[error("refused: {0}")]
    Refused(String),
    /// The peer may or may not have taken it.
    #[error("no answer: {0}")]
    Unknown(String),
}

/// Mutual TLS to the control port of another ingester.
#[derive(Clone, Debug)]
pub struct Http {
    client: Client,
    peers: SpiffeId,
}

/// The answer to `GET` at [`PATH`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Whose {
    /// The queue's id.
    pub queue: String,
}

impl Http {
    /// Speaks as this workload to others of the same id.
    pub fn new(identity: &Identity) -> Self {
        Self { client: Client::new(identity).with_timeout(TIMEOUT), peers: identity.id().clone() }
    }

    fn peer(&self, address: SocketAddr) -> Peer {
        Peer { address, id: self.peers.clone() }
    }
}

impl Transport for Http {
    fn queue(&self, peer: SocketAddr) -> BoxFuture<'_, Result<QueueId, Failure>> {
        Box::pin(async move {
            let whose: Whose = self.client.get(&self.peer(peer), PATH).await.map_err(|error| failure(&error))?;
            whose.queue.parse().map_err(Failure::Refused)
        })
    }

    fn adopt(&self, peer: SocketAddr, queue: QueueId, page: AdoptRequest) -> BoxFuture<'_, Result<Adopted, Failure>> {
        Box::pin(async move {
            let path = format!("{PATH}?queue={queue}");
            self.client.post(&self.peer(peer), &path, &page).await.map_err(|error| failure(&error))
        })
    }
}

fn failure(error: &Error) -> Failure {
    let text = error.to_string();
    match (error.status(), error.category()) {
        // A page is committed or it is refused; what broke in between says neither.
        (Some(StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT), _) => {
            Failure::Unknown(text)
        }
        (Some(_), _) => Failure::Refused(text),
        (None, "connect" | "tls" | "request" | "identity") => Failure::NotSent(text),
        (None, _) => Failure::Unknown(text),
    }
}
