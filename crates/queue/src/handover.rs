//! What one replica hands over to another, so that scale-down loses nothing.
//!
//! The replica that ends exports pages, the peer adopts each in one durable commit, and only then the first forgets it:
//!
//! ```ignore
//! let page = ending.export(cursor, budget).await?;   // held: not leased to anybody meanwhile
//! peer.adopt(page.batch).await?;                     // durable on return; again is the same as once
//! ending.forget(page.exported).await?;
//! ```
//!
//! A delivery keeps its identity on the way: the queue that accepted the event, the event's number there, the
//! Destination, and how often it was handed over. By it a peer knows what it has taken before, wherever it went since.

mod wire;

use std::time::Duration;

pub use wire::{Batch, Claims, Dead, Delivery, HeldClaim, Malformed, Waiting};

use crate::LeaseToken;

/// Bounds of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// About so many bytes in encoded form, but at least one delivery.
    pub bytes: usize,
    /// How long the page's deliveries are leased to nobody. Afterwards they may be delivered here although a peer has
    /// them too.
    pub hold: Duration,
}

/// Where an export goes on; the default is the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub(crate) Place);

/// What is exported in this order: what still has to be delivered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind this row of the first-time deliveries: destination, sequence number.
    Ready(u32, u64),
    /// Behind this row in back-off: destination, due time, sequence number.
    Retry(u32, u64, u64),
    /// Behind this dead letter.
    Dead(u32, u64),
    /// Behind this row of claims.
    Claims(u64),
}

impl Default for Cursor {
    fn default() -> Self {
        Self(Place::Ready(0, 0))
    }
}

/// Some of what must survive.
#[derive(Debug)]
pub struct Page {
    /// For the peer.
    pub batch: Batch,
    /// For [`crate::Queue::forget`] when the peer has it, or [`crate::Queue::keep`] when it does not take it.
    pub exported: Exported,
    /// Where to go on; none at the end. What was under lease, or came meanwhile, is found by another export from the
    /// beginning.
    pub next: Option<Cursor>,
}

/// Names what a page holds, in the queue that exported it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub(crate) waiting: Vec<Held>,
    pub(crate) dead: Vec<(crate::DeliveryId, u32)>,
    /// Rows of claims.
    pub(crate) claims: Vec<u64>,
}

/// A waiting delivery that is held for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub token: LeaseToken,
    /// In back-off until then; none for a first-time delivery.
    pub due: Option<u64>,
    pub hops: u32,
}

impl Exported {
    /// Whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dead.is_empty() && self.claims.is_empty()
    }
}

/// What an adoption came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Deliveries and dead letters that are new here.
    pub deliveries: u64,
    /// Deliveries and dead letters that had been adopted before.
    pub known: u64,
    /// Claims that are new here or hold for longer now.
    pub claims: u64,
}
