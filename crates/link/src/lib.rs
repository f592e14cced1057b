//! The link between ingester and egress: lease and settlement frames, many events a frame, over one bidirectional gRPC
//! stream on mutual TLS (D-02, D-03). Frames and sessions are the same whoever dials.
//!
//! * A [`Dialer`] connects and keeps connected; [`serve`] listens. Either takes the [`Side`] that this process plays:
//!   [`Ingester`] or [`Egress`]. `Egress` mode: the ingester dials. `Relay` mode: the egress does, [`proof`] shows its
//!   cluster's key, and the ingester's [`Judge`] says whether it may lease.
//! * Both end in a [`Session`]: who the peer is (verified, or there is no session), what was agreed, a bounded sender and
//!   a receiver. The egress says [`frame::Hello`] first, the ingester answers [`frame::Welcome`].
//! * Flow control: the ingester keeps to `Hello::max_leases` and `max_bytes`; beneath that a full HTTP/2 window holds the
//!   bounded sender back, so that nothing piles up for a slow peer.
//! * [`FrameCutter`] cuts leases into frames; [`convert`] turns settlements into frames and back.

mod codec;
pub mod convert;
mod cut;
mod dial;
mod error;
pub mod frame;
mod metrics;
mod options;
pub mod proof;
mod serve;
mod session;

pub use codec::Frame;
pub use cut::{FrameCutter, MAX_LEASES, TARGET_BYTES};
pub use dial::{Dialer, Target};
pub use error::Error;
pub use metrics::Metrics;
pub use options::Options;
pub use proof::Presented;
pub use serve::serve;
pub use session::{
    Claim, Egress, EgressSession, Ingester, IngesterSession, Judge, Prove, Receiver, Role, Session, Side,
};

/// The gRPC method of the stream: service `zen.link.v1.Link`, method `Feed`.
pub const METHOD: &str = "/zen.link.v1.Link/Feed";
