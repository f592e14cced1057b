//! Frames as protocol-buffer messages. Field numbers are for ever; unknown fields are skipped.

use bytes::Bytes;
use prost::Message;

/// Version of the frames that this build speaks. `Hello` and `Welcome` carry it; another major version is refused.
pub const VERSION: u32 = 1;

/// From egress to ingester.
#[derive(Clone, PartialEq, Message)]
pub struct FromEgress {
    /// First frame of a stream.
    #[prost(message, optional, tag = "1")]
    pub hello: Option<Hello>,
    /// Ends of leases.
    #[prost(message, repeated, tag = "2")]
    pub settled: Vec<Settled>,
    /// Leases to extend.
    #[prost(message, repeated, tag = "3")]
    pub renew: Vec<Token>,
    /// Deliveries that are about to begin (`idempotent: false`); answered by `Proceed`.
    #[prost(message, repeated, tag = "4")]
    pub begin: Vec<Token>,
    /// The egress takes no more leases and will end the stream when its leases are settled.
    #[prost(bool, tag = "5")]
    pub draining: bool,
    /// In place of the Hello's window from now on.
    #[prost(message, optional, tag = "6")]
    pub window: Option<Window>,
}

/// From ingester to egress.
#[derive(Clone, PartialEq, Message)]
pub struct FromIngester {
    /// First frame of a stream.
    #[prost(message, optional, tag = "1")]
    pub welcome: Option<Welcome>,
    /// Leases granted.
    #[prost(message, repeated, tag = "2")]
    pub leases: Vec<Lease>,
    /// Deliveries whose begin is durable: they may be attempted.
    #[prost(message, repeated, tag = "3")]
    pub proceed: Vec<Token>,
    /// Deliveries whose begin was refused (stale lease): drop them.
    #[prost(message, repeated, tag = "4")]
    pub refused: Vec<Token>,
    /// Answers `FromEgress::draining`: no lease comes after this frame.
    #[prost(bool, tag = "5")]
    pub no_more: bool,
    /// Destination numbers of tokens: every lease of theirs that was granted before this frame is void, and its attempt is
    /// to stop. Of an ingester that speaks for others, of which one is gone.
    #[prost(uint32, repeated, tag = "6")]
    pub void: Vec<u32>,
}

/// Opens a stream.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Hello {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// At most so many leases outstanding at one time: the flow control. The ingester sends no more, so a slow egress
    /// makes it lease less instead of buffering. One lease per destination is always allowed beyond it.
    #[prost(uint32, tag = "2")]
    pub max_leases: u32,
    /// At most about so many bytes of records outstanding.
    #[prost(uint64, tag = "3")]
    pub max_bytes: u64,
    /// Names the egress process in logs.
    #[prost(string, tag = "4")]
    pub instance: String,
    /// Of a member's egress: that it has its cluster's key, see [`crate::proof`]. Bound to this TLS session.
    #[prost(string, tag = "5")]
    pub proof: String,
    /// Of an ingester that leases for the stream of a member which it has taken; honoured from an ingester alone.
    #[prost(message, optional, tag = "6")]
    pub behalf: Option<Behalf>,
    /// Random, of the egress process: who comes back under the same has not died meanwhile. 0: not told.
    #[prost(fixed64, tag = "7")]
    pub incarnation: u64,
}

/// For whom an ingester leases at another.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Behalf {
    /// The member's tenant.
    #[prost(string, tag = "1")]
    pub tenant: String,
    /// The member's cluster.
    #[prost(string, tag = "2")]
    pub cluster: String,
    /// Version of the cluster's keys that the member has proven.
    #[prost(uint32, tag = "3")]
    pub version: u32,
}

/// What may be outstanding at one time.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Window {
    /// Leases.
    #[prost(uint32, tag = "1")]
    pub max_leases: u32,
    /// About so many bytes of records.
    #[prost(uint64, tag = "2")]
    pub max_bytes: u64,
}

/// Answers a `Hello`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Welcome {
    /// [`VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Names the ingester process in logs.
    #[prost(string, tag = "2")]
    pub instance: String,
    /// Lease term in milliseconds; the egress renews at a third of it.
    #[prost(uint64, tag = "3")]
    pub term: u64,
    /// Code of the [`zen_model::reason::LinkRefusal`]; empty where the session is up.
    #[prost(string, tag = "4")]
    pub refusal: String,
}

/// A delivery under lease, named.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Token {
    /// Event sequence number.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// Destination number.
    #[prost(uint32, tag = "2")]
    pub destination: u32,
    /// Lease number.
    #[prost(uint64, tag = "3")]
    pub lease: u64,
}

/// A delivery to attempt.
#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    /// What to settle.
    #[prost(message, required, tag = "1")]
    pub token: Token,
    /// The Destination, `namespace/name`.
    #[prost(string, tag = "2")]
    pub destination: String,
    /// Attempts charged so far.
    #[prost(uint32, tag = "3")]
    pub attempts: u32,
    /// Start of the first attempt, milliseconds since the epoch; 0 before it.
    #[prost(uint64, tag = "4")]
    pub first_attempt: u64,
    /// `X-Zen-Signature` with the link key, made when the event was leased.
    #[prost(string, tag = "5")]
    pub signature: String,
    /// Attempts that this egress may make for this Destination at one time, over all its sessions: its part of the
    /// Destination's concurrency. 0: all of it.
    #[prost(uint32, tag = "6")]
    pub slots: u32,
    /// The encoded [`zen_model::Event`], as it was committed.
    #[prost(bytes = "bytes", tag = "15")]
    pub record: Bytes,
}

/// The end of a lease.
#[derive(Clone, PartialEq, Message)]
pub struct Settled {
    /// Which lease.
    #[prost(message, required, tag = "1")]
    pub token: Token,
    /// 1 ack, 2 retry, 3 dead, 4 release.
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    /// Retry and release: wait in milliseconds.
    #[prost(uint64, tag = "3")]
    pub after: u64,
    /// Dead: number of the `DeadReason`. Release: 1 drain, 2 held, 3 our fault, 4 overload.
    #[prost(uint32, tag = "4")]
    pub reason: u32,
    /// The attempt, where one was made.
    #[prost(message, optional, tag = "5")]
    pub attempt: Option<Attempt>,
}

/// One attempt.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Attempt {
    /// When it began, milliseconds since the epoch.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// Index of the class in `zen_model::settle::Class::ALL`, plus 1.
    #[prost(uint32, tag = "2")]
    pub class: u32,
    /// HTTP status; 0 when none came.
    #[prost(uint32, tag = "3")]
    pub status: u32,
    /// Microseconds.
    #[prost(uint64, tag = "4")]
    pub took: u64,
    /// Number of the `zen_model::fault::Fault`; 0 for none, 1000 for one without a number.
    #[prost(uint32, tag = "5")]
    pub error: u32,
    /// Beginning of the response, at most 4 KiB.
    #[prost(bytes = "bytes", tag = "6")]
    pub response: Bytes,
}
