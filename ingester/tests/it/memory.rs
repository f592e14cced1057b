//! A queue in memory that keeps the contract of `zen_queue::Queue` as far as intake and feed can see it, with switches for
//! its failures. It obeys the paused clock of a test, which an engine with threads and a disk cannot.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;
use zen_model::{DeadReason, Event, EventId, Namespace, ObjectKey, Settlement, Timestamp};
use zen_queue::handover::{Adopted, Batch, Budget, Cursor, Exported, Page};
use zen_queue::{
    AdoptError, BoxFuture, CommitError, Committed, DeadFilter, DeadLetter, DeliveryId, Demand, DestinationStats, Error,
    EventDetail, EventFilter, EventSummary, Fault, Health, LeaseToken, Leased, NewEvent, Queue, QueueId, Quotas,
    Settled, Stats,
};

#[derive(Debug, Default)]
pub struct State {
    pub events: BTreeMap<u64, Event>,
    pub deliveries: BTreeMap<DeliveryId, Delivery>,
    pub settled: Vec<Settled>,
    pub buried: Vec<(ObjectKey, Option<Namespace>, DeadReason)>,
    pub lease_calls: usize,
    pub begun: Vec<LeaseToken>,
    /// What `admit` and `commit` answer instead of working.
    pub refuse_admit: Option<CommitError>,
    pub refuse_commit: Option<CommitError>,
    claims: HashMap<[u8; 16], EventId>,
    duplicates: u64,
    numbers: HashMap<ObjectKey, u32>,
    /// Of the last event.
    pub seq: u64,
    lease: u64,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub destination: ObjectKey,
    pub attempts: u32,
    pub lost: u32,
    pub lease: Option<(u64, Instant, Duration)>,
    pub due: Instant,
    pub dead: Option<DeadReason>,
    pub done: bool,
}

#[derive(Debug)]
pub struct Memory {
    pub state: Mutex<State>,
    changes: watch::Sender<u64>,
    health: watch::Sender<Health>,
}

impl Memory {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            health: watch::Sender::new(Health::Ok),
        })
    }

    pub fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock().unwrap())
    }

    pub fn events(&self) -> Vec<Event> {
        self.with(|state| state.events.values().cloned().collect())
    }

    /// Deliveries of a destination that are neither done nor dead.
    pub fn open(&self, destination: &str) -> usize {
        let key: ObjectKey = destination.parse().unwrap();
        self.with(|state| {
            state.deliveries.values().filter(|d| d.destination == key && !d.done && d.dead.is_none()).count()
        })
    }

    pub fn dead(&self, destination: &str) -> Vec<DeadReason> {
        let key: ObjectKey = destination.parse().unwrap();
        self.with(|state| state.deliveries.values().filter(|d| d.destination == key).filter_map(|d| d.dead).collect())
    }

    /// Puts an event in, without intake.
    pub fn put(&self, namespace: &str, destinations: &[&str], body: &'static [u8]) {
        let event = Event {
            namespace: namespace.into(),
            webhook: "hook".into(),
            content_hash: Bytes::copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body).as_ref()),
            body: Bytes::from_static(body),
            ..Event::default()
        };
        let destinations = destinations.iter().map(|key| key.parse().unwrap()).collect();
        let entry = NewEvent { event, destinations, claim: None };
        self.commit(entry).now_or_never().unwrap().unwrap();
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Makes the receivers look when time makes something due.
    fn changed_after(&self, wait: Duration) {
        let changes = self.changes.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            changes.send_modify(|count| *count += 1);
        });
    }
}

impl Queue for Memory {
    fn admit(&self, _: &ObjectKey, _: &[ObjectKey], _: usize) -> Result<(), CommitError> {
        self.with(|state| state.refuse_admit.clone().map_or(Ok(()), Err))
    }

    fn commit(&self, entry: NewEvent) -> BoxFuture<'_, Result<Committed, CommitError>> {
        let result = self.with(|state| {
            if let Some(error) = &state.refuse_commit {
                return Err(error.clone());
            }
            let NewEvent { mut event, destinations, claim } = entry;
            if let Some(id) = claim.and_then(|claim| state.claims.get(&claim.hash)).cloned() {
                state.duplicates += 1;
                return Ok(Committed::Duplicate { id, rearmed: 0 });
            }
            state.seq += 1;
            let seq = state.seq;
            if event.id.is_empty() {
                event.id = format!("generated-{seq}");
            }
            let id = event.event_id();
            if let Some(claim) = claim {
                state.claims.insert(claim.hash, id.clone());
            }
            for destination in destinations {
                let count = u32::try_from(state.numbers.len()).unwrap();
                let number = *state.numbers.entry(destination.clone()).or_insert(count);
                let delivery = Delivery {
                    destination,
                    attempts: 0,
                    lost: 0,
                    lease: None,
                    due: Instant::now(),
                    dead: None,
                    done: false,
                };
                state.deliveries.insert(DeliveryId { seq, destination: number }, delivery);
            }
            state.events.insert(seq, event);
            Ok(Committed::Accepted { id })
        });
        self.changed();
        std::future::ready(result).boxed()
    }

    fn lease(&self, demand: Demand) -> BoxFuture<'_, Result<Vec<Leased>, Error>> {
        let leased = self.with(|state| {
            state.lease_calls += 1;
            let mut leased = Vec::new();
            let mut bytes = 0;
            let now = Instant::now();
            for (id, delivery) in &mut state.deliveries {
                if leased.len() == demand.max || (bytes >= demand.max_bytes && !leased.is_empty()) {
                    break;
                }
                if delivery.destination != demand.destination || !is_due(delivery, now) {
                    continue;
                }
                state.lease += 1;
                delivery.lease = Some((state.lease, now + demand.term, demand.term));
                let event = state.events[&id.seq].clone();
                let record = Bytes::from(event.encode_to_vec());
                bytes += record.len();
                let token = LeaseToken { delivery: *id, lease: state.lease };
                leased.push(Leased { token, attempts: delivery.attempts, first_attempt: None, record, event });
            }
            leased
        });
        if !leased.is_empty() {
            self.changed_after(demand.term);
        }
        std::future::ready(Ok(leased)).boxed()
    }

    fn settle(&self, settled: Vec<Settled>) -> BoxFuture<'_, Result<(), Error>> {
        let now = Instant::now();
        for settled in settled {
            let wait = self.with(|state| {
                state.settled.push(settled.clone());
                let delivery = state.deliveries.get_mut(&settled.token.delivery)?;
                let good = delivery.lease.is_some_and(|(lease, until, _)| lease == settled.token.lease && until > now);
                if settled.settlement == Settlement::Ack {
                    delivery.done = true;
                    return None;
                }
                if !good {
                    return None;
                }
                delivery.lease = None;
                match settled.settlement {
                    Settlement::Ack => None,
                    Settlement::Dead { reason } => {
                        delivery.dead = Some(reason);
                        None
                    }
                    Settlement::Retry { after } => {
                        delivery.attempts += 1;
                        delivery.due = now + after;
                        Some(after)
                    }
                    Settlement::Release { after, .. } => {
                        delivery.due = now + after;
                        Some(after)
                    }
                }
            });
            if let Some(wait) = wait {
                self.changed_after(wait);
            }
        }
        std::future::ready(Ok(())).boxed()
    }

    fn begin(&self, leases: Vec<LeaseToken>) -> BoxFuture<'_, Result<Vec<LeaseToken>, Error>> {
        let good = self.with(|state| {
            let State { deliveries, begun, .. } = state;
            let good: Vec<_> = leases
                .into_iter()
                .filter(|token| {
                    let lease = deliveries.get(&token.delivery).and_then(|delivery| delivery.lease);
                    lease.is_some_and(|(lease, until, _)| lease == token.lease && until > Instant::now())
                })
                .collect();
            begun.extend(&good);
            good
        });
        std::future::ready(Ok(good)).boxed()
    }

    fn renew(&self, leases: &[LeaseToken]) {
        self.with(|state| {
            for token in leases {
                if let Some((lease, until, term)) =
                    state.deliveries.get_mut(&token.delivery).and_then(|d| d.lease.as_mut())
                    && *lease == token.lease
                {
                    *until = Instant::now() + *term;
                }
            }
        });
    }

    fn abandon(&self, leases: &[LeaseToken]) {
        self.with(|state| {
            for token in leases {
                if let Some(delivery) = state.deliveries.get_mut(&token.delivery)
                    && delivery.lease.is_some_and(|(lease, ..)| lease == token.lease)
                {
                    delivery.lease = None;
                    delivery.lost += 1;
                    delivery.due = Instant::now();
                }
            }
        });
        self.changed();
    }

    fn bury(
        &self,
        destination: ObjectKey,
        only_from: Option<Namespace>,
        reason: DeadReason,
    ) -> BoxFuture<'_, Result<u64, Error>> {
        let count = self.with(|state| {
            let now = Instant::now();
            let State { deliveries, events, buried, .. } = state;
            buried.push((destination.clone(), only_from.clone(), reason));
            let mut count = 0;
            for (id, delivery) in deliveries.iter_mut() {
                let from = events[&id.seq].namespace.as_str();
                let meant = only_from.as_ref().is_none_or(|only| only.as_str() == from);
                let waiting = !delivery.done && delivery.dead.is_none();
                if delivery.destination == destination && meant && waiting && !is_leased(delivery, now) {
                    delivery.dead = Some(reason);
                    count += 1;
                }
            }
            count
        });
        std::future::ready(Ok(count)).boxed()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn due(&self) -> Vec<ObjectKey> {
        let now = Instant::now();
        let mut due: Vec<_> = self.with(|state| {
            state.deliveries.values().filter(|d| is_due(d, now)).map(|d| d.destination.clone()).collect()
        });
        due.sort();
        due.dedup();
        due
    }

    fn health(&self) -> watch::Receiver<Health> {
        self.health.subscribe()
    }

    fn set_quotas(&self, _: Quotas) {}

    fn stats(&self) -> Stats {
        let now = Instant::now();
        self.with(|state| {
            let mut stats =
                Stats { committed: state.events.len() as u64, duplicates: state.duplicates, ..Stats::default() };
            for delivery in state.deliveries.values().filter(|delivery| !delivery.done) {
                let counts: &mut DestinationStats = stats.destinations.entry(delivery.destination.clone()).or_default();
                match delivery.dead {
                    Some(_) => counts.dead += 1,
                    None => counts.waiting += 1,
                }
                counts.leased += u64::from(is_leased(delivery, now));
            }
            stats
        })
    }

    fn events(&self, filter: EventFilter) -> BoxFuture<'_, Result<Vec<EventSummary>, Error>> {
        let events = self.with(|state| {
            let summaries = state.events.iter().rev().map(|(seq, event)| EventSummary {
                id: event.event_id(),
                seq: *seq,
                webhook: event.webhook_key(),
                r#type: event.r#type.clone(),
                accepted: event.timestamp(),
                bytes: event.body.len() as u64,
                deliveries: Vec::new(),
            });
            let of = |event: &EventSummary| {
                filter.webhook.as_ref().is_none_or(|key| *key == event.webhook)
                    && filter.namespace.as_ref().is_none_or(|namespace| *namespace == event.webhook.namespace)
            };
            summaries.filter(of).collect()
        });
        std::future::ready(Ok(events)).boxed()
    }

    fn event(&self, id: EventId) -> BoxFuture<'_, Result<Vec<EventDetail>, Error>> {
        async move {
            let events = Queue::events(self, EventFilter::default()).await?;
            let found = events.into_iter().filter(|event| event.id == id);
            Ok(found.map(|summary| EventDetail { summary, request_id: String::new(), history: Vec::new() }).collect())
        }
        .boxed()
    }

    fn dead_letters(&self, filter: DeadFilter) -> BoxFuture<'_, Result<Vec<DeadLetter>, Error>> {
        let letters = self.with(|state| {
            let dead = state.deliveries.iter().filter(|(id, delivery)| matches(&filter, id, delivery));
            dead.map(|(id, delivery)| letter(*id, delivery, &state.events[&id.seq])).collect()
        });
        std::future::ready(Ok(letters)).boxed()
    }

    fn dead_letter(&self, id: DeliveryId) -> BoxFuture<'_, Result<Option<(DeadLetter, Event)>, Error>> {
        let found = self.with(|state| {
            let delivery = state.deliveries.get(&id).filter(|delivery| delivery.dead.is_some())?;
            let event = state.events[&id.seq].clone();
            Some((letter(id, delivery, &event), event))
        });
        std::future::ready(Ok(found)).boxed()
    }

    fn replay(&self, filter: DeadFilter, limit: u64) -> BoxFuture<'_, Result<u64, Error>> {
        let count = self.with(|state| {
            let mut count = 0;
            for (id, delivery) in &mut state.deliveries {
                if count < limit && matches(&filter, id, delivery) {
                    delivery.dead = None;
                    delivery.attempts = 0;
                    delivery.due = Instant::now();
                    count += 1;
                }
            }
            count
        });
        self.changed();
        std::future::ready(Ok(count)).boxed()
    }

    fn count_dead_letters(&self, filter: DeadFilter) -> BoxFuture<'_, Result<u64, Error>> {
        async move { Ok(self.dead_letters(filter).await?.len() as u64) }.boxed()
    }

    fn expire(&self, _: Timestamp, _: BTreeMap<ObjectKey, Duration>) -> BoxFuture<'_, Result<(), Error>> {
        std::future::ready(Ok(())).boxed()
    }

    fn id(&self) -> QueueId {
        QueueId([0; 16])
    }

    fn export(&self, _: Cursor, _: Budget) -> BoxFuture<'_, Result<Page, Error>> {
        let page = Page { batch: Batch::default(), exported: Exported::default(), next: None };
        std::future::ready(Ok(page)).boxed()
    }

    fn adopt(&self, _: Batch) -> BoxFuture<'_, Result<Adopted, AdoptError>> {
        std::future::ready(Err(AdoptError::Unavailable(Fault::Closed))).boxed()
    }

    fn forget(&self, _: Exported) -> BoxFuture<'_, Result<(), Error>> {
        std::future::ready(Ok(())).boxed()
    }

    fn hold(&self, _: &Exported, _: Duration) {}

    fn keep(&self, _: &Exported) {}

    fn heir(&self) -> BoxFuture<'_, Result<Option<QueueId>, Error>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn set_heir(&self, _: Option<QueueId>) -> BoxFuture<'_, Result<(), Error>> {
        std::future::ready(Ok(())).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.with(|state| state.refuse_commit = Some(CommitError::Unavailable(Fault::Closed)));
        std::future::ready(()).boxed()
    }
}

fn is_leased(delivery: &Delivery, now: Instant) -> bool {
    delivery.lease.is_some_and(|(_, until, _)| until > now)
}

fn is_due(delivery: &Delivery, now: Instant) -> bool {
    !delivery.done && delivery.dead.is_none() && delivery.due <= now && !is_leased(delivery, now)
}

fn matches(filter: &DeadFilter, id: &DeliveryId, delivery: &Delivery) -> bool {
    delivery.dead.is_some_and(|reason| filter.reason.as_deref().is_none_or(|wanted| wanted == reason.code()))
        && filter.destination.as_ref().is_none_or(|key| *key == delivery.destination)
        && filter.namespace.as_ref().is_none_or(|namespace| *namespace == delivery.destination.namespace)
        && (filter.ids.is_empty() || filter.ids.contains(&id.to_string()))
}

fn letter(id: DeliveryId, delivery: &Delivery, event: &Event) -> DeadLetter {
    DeadLetter {
        id: id.to_string(),
        event: event.event_id(),
        webhook: event.webhook_key(),
        destination: delivery.destination.clone(),
        r#type: event.r#type.clone(),
        reason: delivery.dead.map(DeadReason::code).unwrap_or_default().to_owned(),
        attempts: delivery.attempts,
        accepted: event.timestamp(),
        since: event.timestamp(),
        last_status: 0,
        last_error: None,
        bytes: event.body.len() as u64,
        last_response: Some("what the target said".into()),
    }
}
