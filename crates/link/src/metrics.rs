//! What the link counts, and who hears of handshakes that it refuses.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::Error;
use crate::session::Role;

/// Metrics of every session of a process. Clones share the counts; register once.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    sessions: Family<Of, Gauge>,
    ended: Family<Ended, Counter>,
    dials: Family<Dial, Counter>,
    refused: Family<Dial, Counter>,
    frames: Family<Directed, Counter>,
    bytes: Family<Directed, Counter>,
    refused_handshake: OnRefused,
}

/// Who hears of handshakes that this side broke off.
#[derive(Clone, Default)]
struct OnRefused(Option<Arc<Tell>>);

type Tell = dyn Fn(IpAddr, &io::Error) + Send + Sync;

impl fmt::Debug for OnRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Told" } else { "Untold" })
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    role: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    role: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Dial {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Directed {
    role: &'static str,
    direction: &'static str,
}

impl Metrics {
    /// Registers everything in a registry whose prefix is `zen_link`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        metrics.register_in(registry);
        metrics
    }

    /// Registers these counts in a registry whose prefix is `zen_link`.
    pub fn register_in(&self, registry: &mut Registry) {
        registry.register("sessions", "Sessions that are up, by the role of this side", self.sessions.clone());
        registry.register("sessions_ended", "Sessions that ended, by reason", self.ended.clone());
        registry.register("dials", "Attempts to connect, by outcome", self.dials.clone());
        registry.register("refused", "Incoming connections that became no session, by reason", self.refused.clone());
        registry.register("frames", "Frames by direction", self.frames.clone());
        registry.register("bytes", "Bytes of frames by direction", self.bytes.clone());
    }

    /// The same counts; `tell` hears of each handshake of this clone's sessions that failed here, with the peer's address. It must
    /// not block.
    #[must_use]
    pub fn telling(mut self, tell: impl Fn(IpAddr, &io::Error) + Send + Sync + 'static) -> Self {
        self.refused_handshake = OnRefused(Some(Arc::new(tell)));
        self
    }

    pub(crate) fn handshake_failed(&self, peer: IpAddr, error: &io::Error) {
        if let Some(tell) = &self.refused_handshake.0 {
            tell(peer, error);
        }
    }

    pub(crate) fn dialed(&self, outcome: Result<(), &Error>) {
        self.dials.get_or_create(&Dial { outcome: outcome.map_or_else(Error::category, |()| "ok") }).inc();
    }

    pub(crate) fn refused(&self, error: &Error) {
        self.refused.get_or_create(&Dial { outcome: error.category() }).inc();
    }

    pub(crate) fn traffic(&self, role: Role, direction: &'static str) -> Traffic {
        let labels = Directed { role: role.label(), direction };
        Traffic { frames: self.frames.get_or_create_owned(&labels), bytes: self.bytes.get_or_create_owned(&labels) }
    }

    pub(crate) fn session(&self, role: Role) -> Up {
        let sessions = self.sessions.get_or_create_owned(&Of { role: role.label() });
        sessions.inc();
        Up { sessions, ended: self.ended.clone(), role, reason: "closed" }
    }
}

/// Counters of one direction, looked up once.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    frames: Counter,
    bytes: Counter,
}

impl Traffic {
    pub(crate) fn frame(&self, bytes: usize) {
        self.frames.inc();
        self.bytes.inc_by(bytes as u64);
    }
}

/// A session that is up; counts its end when dropped.
#[derive(Debug)]
pub(crate) struct Up {
    sessions: Gauge,
    ended: Family<Ended, Counter>,
    role: Role,
    reason: &'static str,
}

impl Up {
    pub(crate) fn failed(&mut self, error: &Error) {
        self.reason = error.category();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.sessions.dec();
        self.ended.get_or_create(&Ended { role: self.role.label(), reason: self.reason }).inc();
    }
}
