//! Streams of members' egresses (mode `Relay`, D-02): they dial, prove their cluster's key, and lease what is addressed to
//! their cluster and nothing else.
//!
//! * [`Door`] says who gets in and for which cluster: from the certificate, never from what the peer says; a stream stands for
//!   as long as the enrollment and the version of its keys do ([`Admitted::standing`]).
//! * `stream`: whichever ingester takes a member's stream leases for it at every ingester, its own feed among them, so that no
//!   replica's queue is left out. Tokens are renamed, windows are divided, and the end of one feed is the end of its leases
//!   alone.
//! * `peers`: the feeds at the other ingesters, over this same port.

mod door;
mod mailbox;
mod peers;
mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_identity::Action;
use zen_identity::server::{Denial, Denials};
use zen_link::{IngesterSession, Judge, Presented};
use zen_model::ClusterId;
use zen_model::reason::{LinkRefusal, Row};
use zen_pki::SpiffeId;
use zen_pod::audit::Notes;

use crate::feed::{self, Carrier};
use crate::links::telling;
use crate::replica::Addresses;
pub use door::{Admitted, Door, Visitor};

/// Streams that one cluster may have at one ingester. With [`stream::MAX_BYTES`] each, this bounds what it costs.
const MAX_STREAMS: usize = 8;
/// A member has no reason to send larger frames: settlements with their responses are some 2 MiB.
const MAX_RECEIVED: usize = 4 << 20;

/// What the relay is made of.
pub struct Parts {
    /// Who gets in.
    pub door: Arc<Door>,
    /// Leases of this ingester.
    pub feed: feed::Handle,
    /// Where the other ingesters take streams, this one excluded.
    pub peers: watch::Receiver<Addresses>,
    /// For the feeds at them.
    pub tls: Arc<ClientConfig>,
    /// What this process calls itself.
    pub instance: String,
    /// Of a lease.
    pub term: Duration,
    /// How long streams may take to settle what they have when this process ends.
    pub drain_limit: Duration,
    /// Timings of the sessions.
    pub options: zen_link::Options,
    /// Counts sessions.
    pub metrics: zen_link::Metrics,
    /// Who was refused.
    pub notes: Notes,
}

/// Its name in entries of the audit log.
const LISTENER: &str = "relay";

/// The listener of members' streams.
pub struct Relay {
    parts: Parts,
    denials: Denials,
    streams: Mutex<HashMap<ClusterId, usize>>,
}

impl Relay {
    /// Of these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self { denials: parts.notes.denials(LISTENER), parts, streams: Mutex::default() })
    }

    /// Takes streams until `end`, and returns when those that are up have settled what they have, or their limit is over.
    /// `tls` is [`zen_pki::mtls_server_by`]'s with [`Door::may_connect`].
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tls: Arc<ServerConfig>, end: CancellationToken) {
        let judge = Judge::new({
            let relay = Arc::clone(&self);
            move |presented, hello| relay.judge(presented, hello)
        });
        let side =
            zen_link::Ingester { instance: self.parts.instance.clone(), term: self.parts.term, judge: Some(judge) };
        let options = zen_link::Options { max_received: MAX_RECEIVED, ..self.parts.options.clone() };
        let metrics = telling(&self.parts.metrics, self.parts.notes.handshakes(LISTENER));
        let ended = end.clone().cancelled_owned();
        let on_session = move |session| {
            let (relay, end) = (Arc::clone(&self), end.clone());
            async move { relay.session(session, end).await }
        };
        zen_link::serve(listener, tls, side, options, metrics, on_session, ended).await;
    }

    fn judge(&self, presented: &Presented, hello: &zen_link::frame::Hello) -> Result<(), LinkRefusal> {
        let judged = self.parts.door.admit(presented, hello).and_then(|visitor| match visitor {
            Visitor::Member(admitted) if self.streams_of(&admitted.cluster) >= MAX_STREAMS => {
                Err(LinkRefusal::StreamsTooMany)
            }
            _ => Ok(()),
        });
        if let Err(reason) = judged {
            self.refused(&presented.peer, reason);
        }
        judged
    }

    fn refused(&self, peer: &SpiffeId, reason: LinkRefusal) {
        tracing::warn!(%peer, reason = reason.code(), "a stream is refused");
        let Row { code, meaning: detail, .. } = reason.row();
        let (who, action) = (peer.as_str(), Action::Lease.label());
        self.denials.denied(&Denial { who, from: None, action, code, request_id: "", detail });
    }

    async fn session(self: Arc<Self>, session: IngesterSession, end: CancellationToken) {
        let presented = Presented { peer: session.peer.clone(), binding: session.binding };
        // What was judged a moment ago: the enrollment may have changed since.
        match self.parts.door.admit(&presented, &session.hello) {
            Ok(Visitor::Member(admitted)) => {
                if let Some(_counted) = Counted::begin(&self, &admitted.cluster) {
                    stream::run(&self.parts, session, admitted.clone(), end).await;
                    if let Err(reason) = self.parts.door.standing(&admitted) {
                        self.refused(&presented.peer, reason);
                    }
                }
            }
            Ok(Visitor::Peer(admitted)) => {
                let link = feed::Link { carrier: Carrier::Relay(admitted), ..feed::Link::from(session) };
                self.parts.feed.serve(link).await;
            }
            Err(reason) => self.refused(&presented.peer, reason),
        }
    }

    fn streams_of(&self, cluster: &ClusterId) -> usize {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).copied().unwrap_or_default()
    }
}

/// One stream of a cluster, while it is up.
struct Counted {
    relay: Arc<Relay>,
    cluster: ClusterId,
}

impl Counted {
    /// None where another came in between.
    fn begin(relay: &Arc<Relay>, cluster: &ClusterId) -> Option<Self> {
        let mut streams = relay.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let count = streams.entry(cluster.clone()).or_default();
        if *count >= MAX_STREAMS {
            return None;
        }
        *count += 1;
        Some(Self { relay: Arc::clone(relay), cluster: cluster.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut streams = self.relay.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = streams.get_mut(&self.cluster) {
            *count -= 1;
            if *count == 0 {
                streams.remove(&self.cluster);
            }
        }
    }
}
