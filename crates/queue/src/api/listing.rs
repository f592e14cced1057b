//! What the queue tells of itself: numbers, events and dead letters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zen_model::{EventId, Namespace, ObjectKey, Timestamp};

/// Numbers for status and metrics.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Events committed since the process began.
    pub committed: u64,
    /// Repeats answered from a claim since the process began.
    pub duplicates: u64,
    /// Durable batches since the process began.
    pub batches: u64,
    /// Bytes of records that wait or are dead.
    pub bytes: u64,
    /// Bytes of the store's files.
    pub disk_bytes: u64,
    /// Claims that are remembered.
    pub claims: u64,
    /// By destination.
    pub destinations: BTreeMap<ObjectKey, DestinationStats>,
}

/// Numbers of one destination.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DestinationStats {
    /// Waiting, leased ones and those in back-off included.
    pub waiting: u64,
    /// Of those, under lease.
    pub leased: u64,
    /// Of those, waiting for their next attempt.
    pub retrying: u64,
    /// In the dead letters.
    pub dead: u64,
    /// Bytes of records that wait or are dead.
    pub bytes: u64,
    /// When the oldest waiting one was accepted.
    pub oldest: Option<Timestamp>,
}

/// Which events to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EventFilter {
    /// Of a Webhook of this namespace.
    pub namespace: Option<Namespace>,
    /// Of this Webhook.
    pub webhook: Option<ObjectKey>,
    /// With a delivery to this Destination.
    pub destination: Option<ObjectKey>,
    /// With a delivery in this state.
    pub state: Option<DeliveryState>,
    /// Accepted at or after.
    pub since: Option<Timestamp>,
    /// Accepted before.
    pub until: Option<Timestamp>,
    /// At most so many; 0 means 100.
    pub limit: usize,
}

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeliveryState {
    /// Waits for its first attempt or for a lease.
    Waiting,
    /// An attempt failed; waits for the next.
    Retrying,
    /// Under lease.
    Leased,
    /// The target took it.
    Delivered,
    /// In the dead letters.
    Dead,
}

/// One event in a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventSummary {
    /// The event's id.
    pub id: EventId,
    /// Its sequence number.
    pub seq: u64,
    /// The Webhook that took it.
    pub webhook: ObjectKey,
    /// CloudEvents type.
    pub r#type: String,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Body size in bytes.
    pub bytes: u64,
    /// Where its deliveries stand; empty is unrouted.
    pub deliveries: Vec<DeliverySummary>,
}

/// One delivery in a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeliverySummary {
    /// Its id, for `dead-letters show` and `replay`.
    pub delivery: String,
    /// To this Destination.
    pub destination: ObjectKey,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts charged.
    pub attempts: u32,
    /// When the next attempt is due, in back-off.
    pub due: Option<Timestamp>,
    /// Reason code, when dead.
    pub reason: Option<String>,
}

/// One event with everything that is known about it, oldest step first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EventDetail {
    /// The listing's line.
    #[serde(flatten)]
    pub summary: EventSummary,
    /// Correlation id.
    pub request_id: String,
    /// What happened, in order.
    pub history: Vec<Step>,
}

/// One step of an event's history.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Timestamp,
    /// To which Destination; none for the event as a whole.
    pub destination: Option<ObjectKey>,
    /// `accepted`, `attempt`, `delivered`, `dead`, `replayed`, `rearmed`, `lost-lease`, `adopted`, `handed-over`.
    pub what: String,
    /// Attempt class label, reason code, status and stable error words; never target text.
    pub detail: String,
}

/// Which dead letters are meant. An empty filter means all.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeadFilter {
    /// These deliveries only, as `<seq>-<number>`.
    pub ids: Vec<String>,
    /// Of a Destination of this namespace.
    pub namespace: Option<Namespace>,
    /// Of this Destination.
    pub destination: Option<ObjectKey>,
    /// Of this Webhook.
    pub webhook: Option<ObjectKey>,
    /// With this reason code.
    pub reason: Option<String>,
    /// Dead at or after.
    pub since: Option<Timestamp>,
    /// Dead before.
    pub until: Option<Timestamp>,
    /// At most so many in a listing; 0 means 100.
    pub limit: usize,
}

/// A dead letter as it is listed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The delivery's id.
    pub id: String,
    /// The event's id.
    pub event: EventId,
    /// The Webhook that took it.
    pub webhook: ObjectKey,
    /// To this Destination.
    pub destination: ObjectKey,
    /// CloudEvents type.
    pub r#type: String,
    /// Reason code.
    pub reason: String,
    /// Attempts charged.
    pub attempts: u32,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it became a dead letter.
    pub since: Timestamp,
    /// HTTP status of the last attempt; 0 when none came.
    pub last_status: u16,
    /// Stable words for the last failure.
    pub last_error: Option<String>,
    /// Body size in bytes.
    pub bytes: u64,
    /// The beginning of the last response, only in `dead_letter`, never in listings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_response: Option<String>,
}
