//! What the admin API says, for its server and its client alike. Fields are added, never renamed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zen_model::{Namespace, ObjectKey, Timestamp};
use zen_queue::{DeadFilter, DeadLetter};

/// Query of `GET status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusQuery {
    /// Only of this namespace's objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
}

/// `GET status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Counts configurations since the process began.
    pub generation: u64,
    /// Every Webhook.
    pub webhooks: Vec<WebhookStatus>,
    /// Every Destination.
    pub destinations: Vec<DestinationStatus>,
    /// Other objects with problems.
    pub problems: Vec<ObjectProblems>,
    /// The queue.
    pub queue: QueueStatus,
    /// Connected egress sessions.
    pub sessions: Vec<SessionStatus>,
}

/// One problem of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Path of the field.
    pub field: String,
    /// Reason code.
    pub reason: String,
    /// What is wrong.
    pub message: String,
    /// The object is in effect all the same.
    pub warning: bool,
}

/// An object that is neither Webhook nor Destination, with its problems.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ObjectProblems {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub key: ObjectKey,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// One Webhook.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WebhookStatus {
    /// Its name.
    pub key: ObjectKey,
    /// Where it is served; empty when it is not.
    pub path: String,
    /// At which hosts; empty is any.
    pub hosts: Vec<String>,
    /// The preset; empty when it is unknown.
    pub provider: String,
    /// In effect.
    pub accepted: bool,
    /// `active: false`: it answers 503.
    pub inactive: bool,
    /// What is wrong or has no effect.
    pub problems: Vec<Problem>,
    /// The secret that verified last.
    pub last_verified: Option<LastVerified>,
    /// Since the process began.
    pub counts: WebhookCounts,
}

/// Which secret verified last and when (W-05), to the minute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastVerified {
    /// Name and key of the secret, never its bytes.
    pub secret: String,
    /// When.
    pub at: Timestamp,
}

/// What came to a Webhook since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookCounts {
    /// Events stored.
    pub accepted: u64,
    /// Repeats answered.
    pub duplicates: u64,
    /// Requests refused.
    pub refused: u64,
    /// Events stored that no route took.
    pub unrouted: u64,
}

/// One Destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DestinationStatus {
    /// Its name.
    pub key: ObjectKey,
    /// Where it goes; empty when it is not in effect.
    pub target: String,
    /// In effect.
    pub accepted: bool,
    /// What is wrong or has no effect.
    pub problems: Vec<Problem>,
    /// Events wait, nothing is attempted.
    pub paused: bool,
    /// `closed`, `open` or `half_open`.
    pub breaker: String,
    /// Since when the breaker is in this state, where it ever moved.
    pub breaker_since: Option<Timestamp>,
    /// The target answered 410; nothing is attempted until the Destination changes.
    pub gone: bool,
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

/// The queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QueueStatus {
    /// `ok`, or the label of the fault.
    pub health: String,
    /// What an acknowledgement means (D-15).
    pub durability: String,
    /// Bytes of records that wait or are dead.
    pub bytes: u64,
    /// Bytes of the store's files.
    pub disk_bytes: u64,
    /// Events committed since the process began.
    pub committed: u64,
    /// Repeats since the process began.
    pub duplicates: u64,
    /// Durable batches since the process began.
    pub batches: u64,
    /// Claims that are remembered.
    pub claims: u64,
    /// Waiting bytes by Destination that is in no configuration.
    pub orphans: BTreeMap<ObjectKey, u64>,
}

/// One egress session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionStatus {
    /// SPIFFE id of the egress.
    pub peer: String,
    /// The name that it gave itself.
    pub instance: String,
    /// Connected since.
    pub since: Timestamp,
    /// Leases outstanding.
    pub leases: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// It takes no more.
    pub draining: bool,
}

/// Query of `GET dead-letters`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetterQuery {
    /// Of a Destination of this namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// Of this Destination.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<ObjectKey>,
    /// Of this Webhook.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<ObjectKey>,
    /// With this reason code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Dead at or after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Dead before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// At most so many; 0 means 100.
    pub limit: usize,
}

impl From<DeadLetterQuery> for DeadFilter {
    fn from(query: DeadLetterQuery) -> Self {
        let DeadLetterQuery { namespace, destination, webhook, reason, since, until, limit } = query;
        Self { ids: Vec::new(), namespace, destination, webhook, reason, since, until, limit }
    }
}

/// Query of `GET dead-letters/{id}`.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PayloadQuery {
    /// Whether the payload is wanted.
    pub payload: bool,
}

/// `GET dead-letters/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetterDetail {
    /// The listing's line, with the beginning of the last response.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// The stored event.
    pub stored: Stored,
}

/// A stored event, as it is shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// CloudEvents source.
    pub source: String,
    /// `Content-Type` as received.
    pub content_type: String,
    /// Correlation id.
    pub request_id: String,
    /// SHA-256 of the body, hex.
    pub content_hash: String,
    /// The body in base64, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

/// `POST replays`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayRequest {
    /// Its id, where several replicas take part in one replay; else one is made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Which dead letters.
    pub filter: DeadFilter,
    /// Only count them.
    pub dry_run: bool,
    /// At most so many per second; none is as fast as the queue takes them.
    pub rate: Option<u32>,
}

/// Answer to a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DryRun {
    /// How many dead letters the filter matches.
    pub count: u64,
}

/// A replay and its progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Its id.
    pub id: String,
    /// Of dead letters of this namespace only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Namespace>,
    /// When it was asked for.
    pub started: Timestamp,
    /// Dead letters that matched then.
    pub total: u64,
    /// Of those, due again so far.
    pub replayed: u64,
    /// Where it stands.
    pub state: ReplayState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Where a replay stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReplayState {
    /// Going on.
    Running,
    /// Every one that matched is due again.
    Done,
    /// Cancelled; what was replayed stays so.
    Cancelled,
    /// The queue failed.
    Failed,
}
