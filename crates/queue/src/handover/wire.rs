//! The form of a page on its way: protocol buffers, so that records travel as they are. Field numbers are for ever.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use zen_model::{DeadReason, Event, ObjectKey};

/// A page of one queue for another.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Batch {
    /// [`Batch::VERSION`].
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The queue that hands over: 16 bytes, drawn when its folder was made.
    #[prost(bytes = "bytes", tag = "2")]
    pub queue: Bytes,
    /// Deliveries, waiting or dead.
    #[prost(message, repeated, tag = "3")]
    pub deliveries: Vec<Delivery>,
    /// Idempotency claims.
    #[prost(message, repeated, tag = "4")]
    pub claims: Vec<Claims>,
}

/// One delivery with its event.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Delivery {
    /// The queue that accepted the event; empty: the one that hands over.
    #[prost(bytes = "bytes", tag = "1")]
    pub queue: Bytes,
    /// The event's number in that queue.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// How often it was handed over before.
    #[prost(uint32, tag = "3")]
    pub hops: u32,
    /// `namespace/name` of the Webhook that took it.
    #[prost(string, tag = "4")]
    pub webhook: String,
    /// `namespace/name` of the Destination.
    #[prost(string, tag = "5")]
    pub destination: String,
    /// CloudEvents `id`.
    #[prost(string, tag = "6")]
    pub id: String,
    /// When it was accepted, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "7")]
    pub accepted: u64,
    /// The encoded [`Event`]; empty where the stored record does not open.
    #[prost(bytes = "bytes", tag = "8")]
    pub record: Bytes,
    /// It still has to be delivered.
    #[prost(message, optional, tag = "9")]
    pub waiting: Option<Waiting>,
    /// It is a dead letter.
    #[prost(message, optional, tag = "10")]
    pub dead: Option<Dead>,
}

/// Where a delivery stands that still has to be made.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Waiting {
    /// Milliseconds until the next attempt is due: the clocks of two machines differ.
    #[prost(uint64, tag = "1")]
    pub after: u64,
    /// Attempts charged.
    #[prost(uint32, tag = "2")]
    pub attempts: u32,
    /// When the first of them began.
    #[prost(uint64, optional, tag = "3")]
    pub first: Option<u64>,
    /// Leases that ended without a word.
    #[prost(uint32, tag = "4")]
    pub lost: u32,
}

/// A dead letter beside its event.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Dead {
    /// When it became one, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub since: u64,
    /// [`DeadReason`] by number.
    #[prost(uint32, tag = "2")]
    pub reason: u32,
    /// Attempts charged.
    #[prost(uint32, tag = "3")]
    pub attempts: u32,
    /// HTTP status of the last attempt; 0 when none came.
    #[prost(uint32, tag = "4")]
    pub status: u32,
    /// Stable words for the last failure.
    #[prost(string, optional, tag = "5")]
    pub error: Option<String>,
    /// The beginning of the last response.
    #[prost(bytes = "bytes", tag = "6")]
    pub response: Bytes,
}

/// Claims of one Webhook.
#[derive(Clone, PartialEq, Message)]
pub struct Claims {
    /// `namespace/name`.
    #[prost(string, tag = "1")]
    pub webhook: String,
    /// Its claims.
    #[prost(message, repeated, tag = "2")]
    pub claims: Vec<HeldClaim>,
}

/// One claim that is held.
#[derive(Clone, PartialEq, Message)]
pub struct HeldClaim {
    /// As [`crate::Claim::hash`].
    #[prost(bytes = "bytes", tag = "1")]
    pub hash: Bytes,
    /// The number of the event that holds it.
    #[prost(uint64, tag = "2")]
    pub seq: u64,
    /// When it ends, milliseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub expires: u64,
    /// The id of the event that holds it.
    #[prost(string, tag = "4")]
    pub id: String,
}

/// A page that cannot be adopted, whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not protocol buffers of this form.
    #[error("the batch cannot be decoded: {0}")]
    Encoding(String),
    /// A newer program sent it.
    #[error("the batch has version {0}, this program knows {known}", known = Batch::VERSION)]
    Version(u32),
    /// A field does not hold what it should.
    #[error("{0} is not what it should be")]
    Field(&'static str),
}

/// The longest text that a field holds: ids and keys of objects are shorter, whoever wrote them.
const LONGEST_TEXT: usize = 4096;
/// Sequence numbers are positive integers of `SQLite`.
const MAX_SEQ: u64 = i64::MAX.cast_unsigned();

impl Batch {
    /// The version that this program writes and reads.
    pub const VERSION: u32 = 1;
    /// The media type of the encoded form.
    pub const CONTENT_TYPE: &'static str = "application/vnd.zen-mesh.adoption+protobuf";

    /// The encoded form.
    pub fn encode(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Reads the encoded form. Everything in it is checked, so that an adoption cannot stop half-way.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        let batch: Self = Message::decode(bytes).map_err(|error| Malformed::Encoding(error.to_string()))?;
        batch.check()?;
        Ok(batch)
    }

    /// Whether everything in it makes sense.
    pub fn check(&self) -> Result<(), Malformed> {
        if self.version != Self::VERSION {
            return Err(Malformed::Version(self.version));
        }
        is(self.queue.len() == 16, "queue")?;
        self.deliveries.iter().try_for_each(Delivery::check)?;
        for claims in &self.claims {
            key(&claims.webhook, "claims.webhook")?;
            for claim in &claims.claims {
                is(claim.hash.len() == 16, "claim.hash")?;
                is(claim.seq <= MAX_SEQ && claim.expires <= MAX_SEQ, "claim")?;
                is(claim.id.len() <= LONGEST_TEXT, "claim.id")?;
            }
        }
        Ok(())
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty() && self.claims.is_empty()
    }
}

impl Delivery {
    pub(crate) fn check(&self) -> Result<(), Malformed> {
        is(self.queue.is_empty() || self.queue.len() == 16, "delivery.queue")?;
        is((1..=MAX_SEQ).contains(&self.seq), "delivery.seq")?;
        is(self.accepted <= MAX_SEQ && self.hops < u32::MAX, "delivery")?;
        is(u32::try_from(self.record.len()).is_ok(), "delivery.record")?;
        let webhook = key(&self.webhook, "delivery.webhook")?;
        key(&self.destination, "delivery.destination")?;
        is(!self.id.is_empty() && self.id.len() <= LONGEST_TEXT, "delivery.id")?;
        if !self.record.is_empty() {
            // The record opens by Webhook and id: they must be its own.
            let event = Event::decode(self.record.clone()).map_err(|_| Malformed::Field("delivery.record"))?;
            is(event.id == self.id && event.webhook_key() == webhook, "delivery.record")?;
        }
        match (&self.waiting, &self.dead) {
            (Some(waiting), None) => {
                is(waiting.after <= MAX_SEQ && waiting.first.is_none_or(|first| first <= MAX_SEQ), "delivery.waiting")?;
                is(!self.record.is_empty(), "delivery.record")
            }
            (None, Some(dead)) => {
                let known = u8::try_from(dead.reason).ok().and_then(DeadReason::from_number);
                is(known.is_some() && dead.since <= MAX_SEQ, "delivery.dead")?;
                is(u16::try_from(dead.status).is_ok(), "delivery.dead.status")?;
                is(dead.error.as_ref().is_none_or(|error| error.len() <= LONGEST_TEXT), "delivery.dead.error")?;
                is(dead.response.len() <= crate::embedded::RESPONSE_BYTES, "delivery.dead.response")
            }
            _ => Err(Malformed::Field("delivery")),
        }
    }
}

fn is(sound: bool, field: &'static str) -> Result<(), Malformed> {
    if sound { Ok(()) } else { Err(Malformed::Field(field)) }
}

fn key(text: &str, field: &'static str) -> Result<ObjectKey, Malformed> {
    is(text.len() <= LONGEST_TEXT, field)?;
    text.parse().map_err(|_| Malformed::Field(field))
}

/// No payload.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims = self.claims.iter().map(|claims| claims.claims.len()).sum::<usize>();
        f.debug_struct("Batch").field("deliveries", &self.deliveries).field("claims", &claims).finish_non_exhaustive()
    }
}

/// No payload.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("seq", &self.seq)
            .field("id", &self.id)
            .field("destination", &self.destination)
            .field("bytes", &self.record.len())
            .field("waiting", &self.waiting)
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// No payload.
impl fmt::Debug for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dead").field("reason", &self.reason).field("since", &self.since).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delivery() -> Delivery {
        let event = Event { id: "e".into(), namespace: "a".into(), webhook: "w".into(), ..Event::default() };
        Delivery {
            seq: 1,
            webhook: "a/w".into(),
            destination: "a/d".into(),
            id: "e".into(),
            record: event.encode_to_vec().into(),
            waiting: Some(Waiting::default()),
            ..Delivery::default()
        }
    }

    fn batch(delivery: Delivery) -> Batch {
        let claim = HeldClaim { hash: Bytes::from_static(&[1; 16]), seq: 1, expires: 2, id: "e".into() };
        let claims = Claims { webhook: "a/w".into(), claims: vec![claim] };
        let queue = Bytes::from_static(&[7; 16]);
        Batch { version: Batch::VERSION, queue, deliveries: vec![delivery], claims: vec![claims] }
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_field() {
        let good = batch(delivery());
        assert_eq!(Batch::parse(Batch::encode(&good)), Ok(good.clone()));
        assert_eq!(Batch { version: 2, ..good.clone() }.check(), Err(Malformed::Version(2)));
        let dead = Dead { reason: 1, ..Dead::default() };
        let of = |change: &dyn Fn(&mut Delivery)| {
            let mut delivery = delivery();
            change(&mut delivery);
            batch(delivery).check()
        };
        let field = |name| Err(Malformed::Field(name));
        assert_eq!(of(&|d| d.seq = 0), field("delivery.seq"));
        assert_eq!(of(&|d| d.queue = Bytes::from_static(b"x")), field("delivery.queue"));
        assert_eq!(of(&|d| d.webhook = "w".into()), field("delivery.webhook"));
        assert_eq!(of(&|d| d.destination = String::new()), field("delivery.destination"));
        assert_eq!(of(&|d| d.id = "f".into()), field("delivery.record"), "another event's record");
        assert_eq!(of(&|d| d.webhook = "b/w".into()), field("delivery.record"), "another tenant's record");
        assert_eq!(of(&|d| d.record = Bytes::new()), field("delivery.record"), "nothing to deliver");
        assert_eq!(of(&|d| d.waiting = None), field("delivery"), "neither waiting nor dead");
        assert_eq!(of(&|d| d.dead = Some(dead.clone())), field("delivery"), "both");
        let died = |change: &dyn Fn(&mut Dead)| {
            let mut dead = dead.clone();
            change(&mut dead);
            batch(Delivery { waiting: None, dead: Some(dead), ..delivery() }).check()
        };
        assert_eq!(died(&|_| {}), Ok(()));
        assert_eq!(died(&|d| d.reason = 99), field("delivery.dead"));
        assert_eq!(died(&|d| d.status = 70_000), field("delivery.dead.status"));
        assert_eq!(died(&|d| d.response = Bytes::from(vec![0; 5000])), field("delivery.dead.response"));
        let mut claims = good;
        claims.claims[0].claims[0].hash = Bytes::from_static(b"short");
        assert_eq!(claims.check(), field("claim.hash"));
    }

    #[test]
    fn debug_shows_no_payload() {
        let event = Event { id: "e".into(), namespace: "a".into(), webhook: "w".into(), ..Event::default() };
        let record = Event { body: Bytes::from_static(b"MARKER"), ..event }.encode_to_vec();
        let dead = Dead { response: Bytes::from_static(b"MARKER"), ..Dead::default() };
        let shown = Delivery { record: record.into(), dead: Some(dead), ..delivery() };
        assert!(!format!("{:?}", batch(shown)).contains("MARKER"));
    }

    prop_compose! {
        fn any_delivery()(
            (seq, hops, id) in (1_u64..1 << 60, 0_u32..9, "[ -~]{1,40}"),
            (accepted, body) in (0_u64..1 << 50, proptest::collection::vec(any::<u8>(), 0..200)),
            (waits, due, attempts, first) in (any::<bool>(), 0_u64..1 << 50, 0_u32..20, proptest::option::of(0_u64..1 << 50)),
            (reason, status, error) in (1_u32..=12, 0_u32..600, proptest::option::of("[a-z ]{0,20}")),
            origin in proptest::option::of(any::<[u8; 16]>()),
        ) -> Delivery {
            let event = Event {
                id: id.clone(), namespace: "a".into(), webhook: "w".into(), time: accepted, body: body.clone().into(),
                ..Event::default()
            };
            let waiting = Waiting { after: due, attempts, first, lost: hops };
            let dead = Dead { since: due, reason, attempts, status, error, response: body.into() };
            Delivery {
                queue: origin.map(|queue| Bytes::copy_from_slice(&queue)).unwrap_or_default(),
                seq, hops, webhook: "a/w".into(), destination: "b/d".into(), id, accepted,
                record: event.encode_to_vec().into(),
                waiting: waits.then_some(waiting),
                dead: (!waits).then_some(dead),
            }
        }
    }

    proptest! {
        #[test]
        fn every_batch_comes_back(deliveries in proptest::collection::vec(any_delivery(), 0..8)) {
            let sent = Batch { deliveries, ..batch(delivery()) };
            prop_assert_eq!(Batch::parse(Batch::encode(&sent)), Ok(sent));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(batch) = Batch::parse(bytes.into()) {
                prop_assert_eq!(Batch::parse(Batch::encode(&batch)), Ok(batch));
            }
        }
    }
}
