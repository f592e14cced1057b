//! `spec.delivery` and `spec.deadLetter` of a Destination: attempts, retries, breaker, dead letters (D-04 to D-12).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::common::{KeySource, Rate};
use crate::rules;
use crate::text::words;
use crate::units::{DurationText, Quantity};

/// How deliveries are attempted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::DELIVERY)))]
pub struct Delivery {
    /// `raw`: the body byte for byte with `ce-*` headers (CloudEvents binary mode); `structured`: one JSON document.
    pub format: Format,
    /// Whether the target may see an event twice without harm. `false`: a start is committed before the first byte,
    /// and an attempt whose end is unknown becomes a dead letter.
    pub idempotent: bool,
    /// How long an attempt may take.
    pub timeouts: Timeouts,
    /// How much of a response is read. Between 1 byte and 1Mi.
    pub max_response: Quantity,
    /// How many attempts run at one time.
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: u32,
    /// How many requests in which time. No limit unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Keeps events with one key in order. No order unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordering: Option<Ordering>,
    /// When a failed attempt is repeated.
    pub retry: Retry,
    /// When attempts stop for a while.
    pub circuit_breaker: CircuitBreaker,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            format: Format::Raw,
            idempotent: true,
            timeouts: Timeouts::default(),
            max_response: "64Ki".into(),
            concurrency: 64,
            rate: None,
            ordering: None,
            retry: Retry::default(),
            circuit_breaker: CircuitBreaker::default(),
        }
    }
}

words! {
    /// How CloudEvents are written.
    Format {
        /// Binary mode.
        Raw = "raw",
        /// Structured mode.
        Structured = "structured",
    }
}

/// How long an attempt may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::TIMEOUTS)))]
pub struct Timeouts {
    /// Name, TCP and TLS.
    pub connect: DurationText,
    /// The whole attempt, connecting included.
    pub request: DurationText,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: "5s".into(), request: "30s".into() }
    }
}

/// Keeps events with one key in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ordering {
    /// Where the key is found.
    pub key: KeySource,
    /// Whether the events behind a dead letter go on (`continue`) or wait (`block`).
    #[serde(default)]
    pub on_dead_letter: OnDeadLetter,
}

words! {
    /// What the events behind a dead letter do.
    #[derive(Default)]
    OnDeadLetter {
        /// They go on.
        #[default]
        Continue = "continue",
        /// They wait until it is replayed or dropped.
        Block = "block",
    }
}

/// When a failed attempt is repeated, by class of failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// After faults of the network and answers of 500 and above.
    pub transient: TransientRetry,
    /// After 429, and 503 with `Retry-After`, which is respected.
    pub throttled: ThrottledRetry,
}

/// After faults of the network and answers of 500 and above.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rules::schema(rules::TRANSIENT_RETRY)))]
pub struct TransientRetry {
    /// How many attempts in all.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Pause after the first attempt, with jitter.
    pub initial: DurationText,
    /// By what each pause is longer than the one before.
    #[schemars(range(min = 1, max = 10))]
    pub factor: f64,
    /// Time after the first attempt in which the last one begins.
    pub within: DurationText,
}

impl Default for TransientRetry {
    fn default() -> Self {
        Self { attempts: 5, initial: "1s".into(), factor: 2.0, within: "15m".into() }
    }
}

/// After 429, and 503 with `Retry-After`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ThrottledRetry {
    /// How many attempts in all.
    #[schemars(range(min = 1, max = 100))]
    pub attempts: u32,
    /// Time after the first attempt in which the last one begins.
    pub within: DurationText,
}

impl Default for ThrottledRetry {
    fn default() -> Self {
        Self { attempts: 3, within: "30m".into() }
    }
}

/// When attempts stop for a while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CircuitBreaker {
    /// How many failures in a row open it.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// How long it stays open before one delivery probes.
    pub open_for: DurationText,
    /// How long events wait uncharged while it is open, before they become dead letters.
    pub hold: DurationText,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { failures: 10, open_for: "30s".into(), hold: "24h".into() }
    }
}

/// What becomes of events that cannot be delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeadLetter {
    /// How long dead letters are kept.
    pub retention: DurationText,
    /// Whether they are replayed when the target recovers.
    pub auto_replay: bool,
}

impl Default for DeadLetter {
    fn default() -> Self {
        Self { retention: "336h".into(), auto_replay: false }
    }
}
