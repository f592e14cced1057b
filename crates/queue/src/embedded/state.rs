//! Everything that is in memory: lanes, leases, the recent records. One lock, held for moments and never over I/O.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zen_model::{DeadReason, Event, Namespace, ObjectKey};

use super::clock::millis;
use super::lane::{Lane, Lease, Origin, Tries, Waiting};
use super::ledger::Account;
use super::recent::Recent;
use crate::{DeliveryId, LeaseToken};

#[derive(Debug)]
pub(crate) struct State {
    by_key: HashMap<ObjectKey, u32>,
    pub lanes: Vec<Lane>,
    /// Where the lane of a number stands.
    places: HashMap<u32, usize, BuildHasherDefault<ByNumber>>,
    names: Option<Arc<Names>>,
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
    pub exported: bool,
    pub doom: Option<DeadReason>,
}

impl From<&Lease> for Held {
    fn from(lease: &Lease) -> Self {
        let Lease { origin, waiting, tries, begun, exported, doom, .. } = lease;
        Self { origin: *origin, waiting: *waiting, tries: *tries, begun: *begun, exported: *exported, doom: *doom }
    }
}

impl State {
    pub(crate) fn new(epoch: u64, recent_bytes: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            lanes: Vec::new(),
            places: HashMap::default(),
            names: None,
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
        self.places.insert(lane.number, self.lanes.len());
        self.names = None;
        self.lanes.push(lane);
    }

    pub(crate) fn number(&self, key: &ObjectKey) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    pub(crate) fn lane(&mut self, number: u32) -> Option<&mut Lane> {
        self.lanes.get_mut(*self.places.get(&number)?)
    }

    pub(crate) fn lane_ref(&self, number: u32) -> Option<&Lane> {
        self.lanes.get(*self.places.get(&number)?)
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
            let lease = Lease::new(last_lease, expires, term, (origin, waiting, tries));
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
        let mut lost = 0;
        self.wake_at = u64::MAX;
        for at in 0..self.lanes.len() {
            let number = self.lanes[at].number;
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
                    lost += u64::from(!lease.exported);
                    let delivery = DeliveryId { seq, destination: number };
                    ended.push((LeaseToken { delivery, lease: lease.number }, Held::from(&*lease)));
                } else {
                    next = next.min(lease.expires);
                }
            }
            self.wake_at = self.wake_at.min(next);
        }
        self.counts.lost_leases += lost;
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

    /// The plain record and its event, where a recent commit left them.
    pub(crate) fn recent(&mut self, seq: u64) -> Option<(Bytes, Event)> {
        self.recent.take(seq)
    }

    /// Adds a Webhook's number.
    pub(crate) fn add_webhook(&mut self, key: ObjectKey, namespace: Account) {
        self.names = None;
        self.webhooks.push((key, namespace));
    }

    pub(crate) fn webhook(&self, number: u32) -> Option<&(ObjectKey, Account)> {
        self.webhooks.get((number as usize).checked_sub(1)?)
    }

    /// Holds a waiting delivery for a page of a handover: nobody else is granted it until `expires`. An earlier hold on
    /// it is over. None: it is under lease, or its line is being buried.
    pub(crate) fn hold(
        &mut self,
        number: u32,
        (origin, waiting, tries): (Origin, Waiting, Tries),
        expires: u64,
    ) -> Option<LeaseToken> {
        let lease = self.last_lease + 1;
        let lane = self.lane(number).filter(|lane| !lane.burying)?;
        match lane.leased.get(&waiting.seq) {
            None => lane.withdraw(waiting.seq, origin),
            Some(earlier) if earlier.exported && !earlier.busy => {}
            Some(_) => return None,
        }
        let held = Lease { exported: true, ..Lease::new(lease, expires, 0, (origin, waiting, tries)) };
        lane.leased.insert(waiting.seq, held);
        self.last_lease = lease;
        self.wake_at = self.wake_at.min(expires);
        Some(LeaseToken { delivery: DeliveryId { seq: waiting.seq, destination: number }, lease })
    }

    /// Names by number, for listings that run without the lock.
    pub(crate) fn names(&mut self) -> Arc<Names> {
        let Self { names, lanes, webhooks, .. } = self;
        let names = names.get_or_insert_with(|| {
            let destinations = lanes.iter().map(|lane| (lane.number, &lane.key));
            let webhooks = (1..).zip(webhooks.iter().map(|(key, _)| key));
            Arc::new(Names { destinations: Keys::new(destinations), webhooks: Keys::new(webhooks) })
        });
        Arc::clone(names)
    }
}

/// Names by number.
#[derive(Debug)]
pub(crate) struct Names {
    destinations: Keys,
    webhooks: Keys,
}

#[derive(Debug)]
struct Keys {
    keys: HashMap<u32, ObjectKey>,
    numbers: HashMap<ObjectKey, u32>,
}

impl Keys {
    fn new<'a>(names: impl Iterator<Item = (u32, &'a ObjectKey)> + Clone) -> Self {
        let keys = names.clone().map(|(number, key)| (number, key.clone())).collect();
        Self { keys, numbers: names.map(|(number, key)| (key.clone(), number)).collect() }
    }

    fn key(&self, number: u32) -> ObjectKey {
        self.keys.get(&number).cloned().unwrap_or_else(|| ObjectKey::new("unknown", "unknown"))
    }
}

impl Names {
    pub(crate) fn destination(&self, number: u32) -> ObjectKey {
        self.destinations.key(number)
    }

    pub(crate) fn webhook(&self, number: u32) -> ObjectKey {
        self.webhooks.key(number)
    }

    pub(crate) fn number_of(&self, key: &ObjectKey) -> Option<u32> {
        self.destinations.numbers.get(key).copied()
    }

    /// Numbers of the Destinations of one tenant.
    pub(crate) fn destinations_of<'a>(&'a self, namespace: &'a Namespace) -> impl Iterator<Item = u32> + 'a {
        let of = self.destinations.numbers.iter().filter(move |(key, _)| key.namespace == *namespace);
        of.map(|(_, number)| *number)
    }

    pub(crate) fn number_of_webhook(&self, key: &ObjectKey) -> Option<u32> {
        self.webhooks.numbers.get(key).copied()
    }
}

/// Numbers that are dense, or hashes already: one multiplication spreads both.
#[derive(Debug, Default)]
pub(crate) struct ByNumber(u64);

impl Hasher for ByNumber {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}
