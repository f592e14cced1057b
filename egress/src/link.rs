//! A session after its handshake, whoever dialled.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::mpsc;
use zen_link::EgressSession;
use zen_link::frame::{FromEgress, FromIngester};
use zen_verify::zen_signature::Keys;

/// Both directions of a session. [`zen_link`] makes it; tests make it of channels.
pub struct Link {
    /// SPIFFE id of the ingester.
    pub peer: String,
    /// How long a lease lasts unless renewed.
    pub term: Duration,
    /// Keys with which its leases are signed; none: those of the mesh.
    pub keys: Option<Arc<Keys>>,
    /// To the ingester; bounded.
    pub outgoing: mpsc::Sender<FromEgress>,
    /// From the ingester; ends with the session.
    pub incoming: Pin<Box<dyn Stream<Item = FromIngester> + Send>>,
}

impl From<EgressSession> for Link {
    fn from(session: EgressSession) -> Self {
        let incoming =
            futures_util::stream::unfold(session.receiver, async |mut receiver| match receiver.next().await? {
                Ok(frame) => Some((frame, receiver)),
                Err(error) => {
                    tracing::debug!(%error, "session broke");
                    None
                }
            });
        Self {
            peer: session.peer.to_string(),
            term: Duration::from_millis(session.welcome.term),
            keys: None,
            outgoing: session.sender,
            incoming: Box::pin(incoming),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("peer", &self.peer).field("term", &self.term).finish_non_exhaustive()
    }
}
