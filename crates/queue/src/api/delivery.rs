//! Deliveries under lease, and how they are named.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use zen_model::settle::Attempt;
use zen_model::{Event, ObjectKey, Settlement, Timestamp};

/// Leases that may end without a settlement before a delivery becomes `Dead{Poison}`.
pub const MAX_LOST_LEASES: u32 = 5;

/// Names a delivery: an event on its way to one destination. Written `<seq>-<destination number>`, both in decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The event's sequence number, ascending in commit order.
    pub seq: u64,
    /// The destination's number inside this queue.
    pub destination: u32,
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.seq, self.destination)
    }
}

impl FromStr for DeliveryId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('-').and_then(|(seq, to)| Some((seq.parse().ok()?, to.parse().ok()?)));
        let (seq, destination) = parts.ok_or_else(|| format!("{text:?} is not a delivery id such as 17-2"))?;
        Ok(Self { seq, destination })
    }
}

/// A delivery and the number of the lease on it. Lease numbers are unique over the life of the process and never repeat
/// after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The lease.
    pub lease: u64,
}

/// What an egress could take now.
#[derive(Clone, Debug)]
pub struct Demand {
    /// For which destination.
    pub destination: ObjectKey,
    /// At most so many deliveries.
    pub max: usize,
    /// At most about so many bytes of records.
    pub max_bytes: usize,
    /// How long the lease lasts unless renewed; longer than the request's total timeout.
    pub term: Duration,
}

/// A delivery under lease.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The delivery and its lease.
    pub token: LeaseToken,
    /// Attempts charged so far.
    pub attempts: u32,
    /// When the first attempt began; none before it.
    pub first_attempt: Option<Timestamp>,
    /// The encoded [`Event`], exactly as it was committed, to be carried on without encoding it again.
    pub record: Bytes,
    /// Decoded once from `record`; its body points into it.
    pub event: Event,
}

/// The end of a lease with what happened in it.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Which lease.
    pub token: LeaseToken,
    /// How it ended.
    pub settlement: Settlement,
    /// The attempt, where one was made.
    pub attempt: Option<Attempt>,
}

/// Identifies the data of a queue: drawn when its folder was made. Written as 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub [u8; 16]);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for QueueId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| format!("{text:?} is not the id of a queue"))
    }
}
