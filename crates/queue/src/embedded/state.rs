//! Everything that is in memory: lanes, leases, the recent records. One lock, held for moments and never over I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zen_model::{DeadReason, ObjectKey};

use super::clock::millis;
use super::lane::{Lane, Lease, Origin, Tries, Waiting};
use super::ledger::Account;
use super::recent::Recent;
use crate::{DeliveryId, LeaseToken};

#[derive(Debug)]
pub(crate) struct State {
    by_key: HashMap<ObjectKey, u32>,
    /// By number; numbers are dense and begin at 1.
    pub lanes: Vec<Lane>,
    /// Account of each Webhook's namespace, by the Webhook's number, from 1.
    pub webhooks: Vec<(ObjectKey, Account)>,
    /// Destinations with something due.
    pub due: BTreeSet<u32>,
    pub recent: Recent,
    /// The number of the last lease; starts above those of every earlier process.
    pub last_lease: u64,
    /// When the timer must look: at the latest when the first lease ends or the first back-off does.
    pub wake_at: u64,
    pub counts: Counts,
}

/// Since the process began.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub committed: u64,
    pub unrouted: u64,
    pub duplicates: u64,
    pub batches: u64,
    pub claims: u64,
    pub claims_dropped: u64,
    pub lost_leases: u64,
}

/// A lease that was just granted; its record is still to be fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub token: LeaseToken,
    pub waiting: Waiting,
    pub tries: Tries,
}

/// What the writer is told about the delivery whose lease ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    pub origin: Origin,
    pub waiting: Waiting,
    pub tries: Tries,
    pub begun: bool,
    pub doom: Option<DeadReason>,
}

impl From<&Lease> for Held {
    fn from(lease: &Lease) -> Self {
        let Lease { origin, waiting, tries, begun, doom, .. } = lease;
        Self { origin: *origin, waiting: *waiting, tries: *tries, begun: *begun, doom: *doom }
    }
}

impl State {
    pub(crate) fn new(epoch: u64, recent_bytes: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            lanes: Vec::new(),
            webhooks: Vec::new(),
            due: BTreeSet::new(),
            recent: Recent::new(recent_bytes),
            last_lease: epoch << 40,
            wake_at: u64::MAX,
            counts: Counts::default(),
        }
    }

    pub(crate) fn add_lane(&mut self, lane: Lane) {
        self.by_key.insert(lane.key.clone(), lane.number);
        self.lanes.push(lane);
    }

    pub(crate) fn number(&self, key: &ObjectKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn lane(&mut self, number: u32) -> Option<&mut Lane> {
        self.lanes.get_mut((number as usize).checked_sub(1)?)
    }

    pub(crate) fn lane_ref(&self, number: u32) -> Option<&Lane> {
        self.lanes.get((number as usize).checked_sub(1)?)
    }

    /// The lease that a token names, if it is the current one.
    pub(crate) fn lease(&mut self, token: LeaseToken) -> Option<&mut Lease> {
        let lease = self.lane(token.delivery.destination)?.leased.get_mut(&token.delivery.seq)?;
        (lease.number == token.lease).then_some(lease)
    }

    /// Grants leases; true beside them: the lane should be refilled.
    pub(crate) fn grant(
        &mut self,
        number: u32,
        (max, max_bytes): (usize, usize),
        term: Duration,
        now: u64,
    ) -> (Vec<Grant>, bool) {
        let term = millis(term);
        let mut granted = Vec::new();
        let mut bytes = 0;
        let mut last_lease = self.last_lease;
        let Some(lane) = self.lane(number) else { return (granted, false) };
        while granted.len() < max {
            let Some((origin, waiting, tries)) = lane.pop(now) else { break };
            if !granted.is_empty() && bytes + waiting.bytes as usize > max_bytes {
                lane.put_back(origin, waiting, tries);
                break;
            }
            bytes += waiting.bytes as usize;
            last_lease += 1;
            let expires = now.saturating_add(term);
            let (begun, busy, doom) = (false, false, None);
            let lease = Lease { number: last_lease, expires, term, origin, waiting, tries, begun, busy, doom };
            lane.leased.insert(waiting.seq, lease);
            let delivery = DeliveryId { seq: waiting.seq, destination: number };
            granted.push(Grant { token: LeaseToken { delivery, lease: last_lease }, waiting, tries });
        }
        let refill = lane.wants_refill() && !std::mem::replace(&mut lane.refilling, true);
        self.last_lease = last_lease;
        if !granted.is_empty() {
            self.wake_at = self.wake_at.min(now.saturating_add(term));
        }
        self.look(number, now);
        (granted, refill)
    }

    /// Brings the set of due destinations up to date for one of them. Returns whether it is due.
    pub(crate) fn look(&mut self, number: u32, now: u64) -> bool {
        let Some(lane) = self.lane_ref(number) else { return false };
        let (is_due, next) = (lane.is_due(now), lane.next_due());
        if is_due {
            self.due.insert(number);
        } else {
            self.due.remove(&number);
        }
        if let Some(next) = next.filter(|next| *next > now) {
            self.wake_at = self.wake_at.min(next);
        }
        is_due
    }

    /// What passing time does: returns the leases that ended, and whether a destination became due.
    pub(crate) fn tick(&mut self, now: u64) -> (Vec<(LeaseToken, Held)>, bool) {
        let mut ended = Vec::new();
        let mut became_due = false;
        self.wake_at = u64::MAX;
        for number in 1..=u32::try_from(self.lanes.len()).unwrap_or(u32::MAX) {
            let was_due = self.due.contains(&number);
            became_due |= self.look(number, now) && !was_due;
            let Some(lane) = self.lane(number) else { continue };
            let mut next = u64::MAX;
            for (&seq, lease) in &mut lane.leased {
                if lease.busy {
                    // The writer decides; look again when it surely has.
                    next = next.min(now + 1000);
                } else if lease.expires <= now {
                    lease.busy = true;
                    let delivery = DeliveryId { seq, destination: number };
                    ended.push((LeaseToken { delivery, lease: lease.number }, Held::from(&*lease)));
                } else {
                    next = next.min(lease.expires);
                }
            }
            self.wake_at = self.wake_at.min(next);
        }
        self.counts.lost_leases += ended.len() as u64;
        (ended, became_due)
    }

    /// Takes back grants whose caller went away before it saw them.
    pub(crate) fn ungrant(&mut self, grants: &[Grant], now: u64) {
        for grant in grants {
            if self.lease(grant.token).is_some_and(|lease| !lease.busy)
                && let Some(lane) = self.lane(grant.token.delivery.destination)
                && let Some(lease) = lane.leased.remove(&grant.waiting.seq)
            {
                lane.put_back(lease.origin, lease.waiting, lease.tries);
                self.look(grant.token.delivery.destination, now);
            }
        }
    }

    /// The plain record, where a recent commit left it.
    pub(crate) fn recent(&mut self, seq: u64) -> Option<Bytes> {
        self.recent.take(seq)
    }

    /// Adds a Webhook's number.
    pub(crate) fn add_webhook(&mut self, key: ObjectKey, namespace: Account) {
        self.webhooks.push((key, namespace));
    }

    pub(crate) fn webhook(&self, number: u32) -> Option<&(ObjectKey, Account)> {
        self.webhooks.get((number as usize).checked_sub(1)?)
    }

    /// Keys of destinations by number, for listings that run without the lock.
    pub(crate) fn names(&self) -> Arc<Names> {
        let destinations = self.lanes.iter().map(|lane| lane.key.clone()).collect();
        let webhooks = self.webhooks.iter().map(|(key, _)| key.clone()).collect();
        Arc::new(Names { destinations, webhooks })
    }
}

/// Keys by number.
#[derive(Debug)]
pub(crate) struct Names {
    destinations: Vec<ObjectKey>,
    webhooks: Vec<ObjectKey>,
}

impl Names {
    pub(crate) fn destination(&self, number: u32) -> ObjectKey {
        name(&self.destinations, number)
    }

    pub(crate) fn webhook(&self, number: u32) -> ObjectKey {
        name(&self.webhooks, number)
    }

    pub(crate) fn number_of(&self, key: &ObjectKey) -> Option<u32> {
        position(&self.destinations, key)
    }

    pub(crate) fn number_of_webhook(&self, key: &ObjectKey) -> Option<u32> {
        position(&self.webhooks, key)
    }
}

fn name(keys: &[ObjectKey], number: u32) -> ObjectKey {
    let key = (number as usize).checked_sub(1).and_then(|at| keys.get(at));
    key.cloned().unwrap_or_else(|| ObjectKey::new("unknown", "unknown"))
}

fn position(keys: &[ObjectKey], key: &ObjectKey) -> Option<u32> {
    keys.iter().position(|other| other == key).and_then(|at| u32::try_from(at + 1).ok())
}
