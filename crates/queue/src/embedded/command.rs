//! What the writer is asked to do.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use zen_model::settle::Attempt;
use zen_model::{DeadReason, Event, EventId, Namespace, ObjectKey};

use super::batch::Arrival;
use super::inbox::Weigh;
use super::lane::{Origin, Tries, Waiting};
use super::state::Held;
use crate::handover::{Adopted, Exported, HeldClaim, Place};
use crate::{Claim, CommitError, Committed, DeadFilter, DeliveryId, Error, LeaseToken, QueueId};

/// Where an answer goes.
pub(crate) type Answer<T> = oneshot::Sender<T>;

#[derive(Debug)]
pub(crate) enum Command {
    Commit(Box<Incoming>),
    Settle(Settle),
    Begin {
        tokens: Vec<LeaseToken>,
        answer: Answer<Result<Vec<LeaseToken>, Error>>,
    },
    /// Read on behind the windows of this lane; the answer says that they are filled.
    Refill {
        lane: u32,
        answer: Option<Answer<()>>,
    },
    Job(Job),
    Close {
        answer: Answer<()>,
    },
}

/// An event, encoded and sealed by its caller so that the writer only stores.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub webhook: ObjectKey,
    pub id: EventId,
    pub at: u64,
    /// Its body is the end of `record`.
    pub event: Event,
    pub destinations: Vec<ObjectKey>,
    pub claim: Option<Claim>,
    pub record: Bytes,
    pub sealed: Vec<u8>,
    pub now: u64,
    pub answer: Answer<Result<Committed, CommitError>>,
}

/// Ends of leases. Kept and tried again while the store fails.
#[derive(Debug)]
pub(crate) struct Settle {
    pub endings: Vec<Ending>,
    pub now: u64,
    pub answer: Option<Answer<Result<(), Error>>>,
}

#[derive(Debug)]
pub(crate) struct Ending {
    pub token: LeaseToken,
    /// None: the lease is not the current one, and this is an acknowledgement.
    pub held: Option<Held>,
    pub how: How,
    pub attempt: Option<Attempt>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Ack,
    Retry {
        due: u64,
    },
    Dead(DeadReason),
    /// None: due at once, its row stays where it is.
    Release {
        due: Option<u64>,
    },
    Lost,
}

/// Work that is done in steps, one a batch, so that commits go on between them.
#[derive(Debug)]
pub(crate) enum Job {
    Bury(Bury),
    Replay(Replay),
    Expire(Expire),
    Export(Export),
    Adopt(Box<Adopt>),
    Forget(Forget),
    Heir(Heir),
}

#[derive(Debug)]
pub(crate) struct Bury {
    pub destination: ObjectKey,
    pub only_from: Option<Namespace>,
    pub reason: DeadReason,
    pub now: u64,
    /// Where it stands; none before the first step.
    pub place: Option<BuryPlace>,
    pub done: u64,
    pub answer: Answer<Result<u64, Error>>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum BuryPlace {
    Ready { after: u64, until: u64 },
    Retries { after: (u64, u64) },
}

#[derive(Debug)]
pub(crate) struct Replay {
    pub filter: DeadFilter,
    pub limit: u64,
    pub now: u64,
    pub done: u64,
    pub answer: Answer<Result<u64, Error>>,
}

#[derive(Debug)]
pub(crate) struct Expire {
    pub now: u64,
    pub retention: BTreeMap<ObjectKey, Duration>,
    /// The last dead letter that was looked at: since, sequence number, destination.
    pub after: (u64, u64, u32),
    pub answer: Answer<Result<(), Error>>,
}

/// Pick and hold a page for a peer.
#[derive(Debug)]
pub(crate) struct Export {
    pub place: Place,
    pub bytes: usize,
    pub expires: u64,
    pub now: u64,
    pub answer: Answer<Result<Picked, Error>>,
}

/// What a page will hold; its records are still to be read.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    pub waiting: Vec<PickedWaiting>,
    pub dead: Vec<DeliveryId>,
    pub claims: Vec<u64>,
    pub next: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PickedWaiting {
    pub token: LeaseToken,
    pub origin: Origin,
    pub waiting: Waiting,
    pub tries: Tries,
}

/// Store a page of a peer.
#[derive(Debug)]
pub(crate) struct Adopt {
    pub arrivals: Vec<Arrival>,
    pub claims: Vec<(ObjectKey, Vec<HeldClaim>)>,
    pub now: u64,
    pub answer: Answer<Result<Adopted, Error>>,
}

/// Delete what a peer has.
#[derive(Debug)]
pub(crate) struct Forget {
    pub exported: Exported,
    pub now: u64,
    pub answer: Answer<Result<(), Error>>,
}

#[derive(Debug)]
pub(crate) struct Heir {
    pub heir: Option<QueueId>,
    pub answer: Answer<Result<(), Error>>,
}

impl Weigh for Command {
    fn weight(&self) -> Option<usize> {
        match self {
            Self::Commit(incoming) => Some(incoming.sealed.len()),
            _ => None,
        }
    }
}

impl Job {
    /// The clock's time when it was asked for.
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Bury(bury) => bury.now,
            Self::Replay(replay) => replay.now,
            Self::Expire(expire) => expire.now,
            Self::Export(export) => export.now,
            Self::Adopt(adopt) => adopt.now,
            Self::Forget(forget) => forget.now,
            Self::Heir(_) => 0,
        }
    }
}
