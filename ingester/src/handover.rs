//! Hands over to another replica what this one can no longer deliver, so that scale-down loses nothing (DESIGN 13).
//!
//! [`Sender`] exports pages of the queue and posts them to a peer's `/v1/adopt`; [`Receiver`] commits each durably before
//! it answers, and only then the sender forgets it. Either may die at any step: a page is sent again to the same queue
//! (known by its id, wherever its pod is by then), which knows what it has. So nothing is lost, no dead letter is there
//! twice, and a delivery is made twice only where a process died in the middle of it.

mod receiver;
mod sender;
mod transport;

use zen_queue::QueueId;

pub use receiver::{Receiver, read};
pub use sender::Sender;
pub use transport::{Failure, Http, Transport};

/// Where a page goes, below the address of a control port: `GET` tells the queue's id, `POST` adopts.
pub const PATH: &str = zen_identity::control::ADOPT;

/// Why not everything was handed over. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This replica's own queue fails.
    #[error(transparent)]
    Queue(#[from] zen_queue::Error),
    /// Nobody is there to hand over to.
    #[error("no other replica answers")]
    NoPeer,
    /// A queue may have taken a page, and its pod does not answer now.
    #[error("queue {0} may have a page already and does not answer; waiting for it")]
    Away(QueueId),
    /// A page was sent and there was no answer.
    #[error("queue {queue} has not answered for a page: {reason}")]
    InDoubt {
        /// The peer's.
        queue: QueueId,
        /// What happened.
        reason: String,
    },
    /// Nobody takes the page.
    #[error("no replica takes what is handed over: {0}")]
    Refused(String),
}
