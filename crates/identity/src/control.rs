//! The control API of a data-plane pod: what it reports, and how it is drained. JSON over mutual TLS on port 9902; the
//! operator and the ingester's peers are its clients.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;
use zen_pki::{Presented, Validity};

/// Port of the control API.
pub const PORT: u16 = 9902;
/// `GET`: [`ReportQuery`] → [`Report`], [`Action::Report`](crate::Action::Report).
pub const REPORT: &str = "/v1/report";
/// `GET` → [`Intake`], [`Action::Report`](crate::Action::Report). Ingesters alone.
pub const INTAKE: &str = "/v1/intake";
/// `POST`, `GET`, `DELETE` → [`DrainStatus`], [`Action::Drain`](crate::Action::Drain).
pub const DRAIN: &str = "/v1/drain";
/// `POST`: [`AdoptRequest`] → [`Adopted`], [`Action::Adopt`](crate::Action::Adopt).
pub const ADOPT: &str = "/v1/adopt";
/// Prefix of the admin API of one replica, [`Action::Peer`](crate::Action::Peer).
pub const ADMIN: &str = "/v1/admin";
/// The longest that a report may wait for a change, seconds.
pub const MAX_WAIT: u64 = 60;

/// How often the kubelet asks whether a pod is ready, seconds.
pub const PROBE_PERIOD: u32 = 2;
/// So many times it has to hear that a pod is not, before Services leave the pod out.
pub const PROBE_FAILURES: u32 = 2;
/// What passes at most until the kubelet knows. A pod that is deleted leaves its Services at once: this concerns one that
/// only says it of itself.
pub const PROBED: Duration = Duration::from_secs(PROBE_PERIOD as u64 * PROBE_FAILURES as u64);

/// Which half of the data plane a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plane {
    /// Takes webhooks in.
    Ingester,
    /// Delivers them.
    Egress,
}

/// What the operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportQuery {
    /// The revision that it has; 0 for everything.
    #[serde(default)]
    pub after: u64,
    /// The epoch that `after` belongs to. Another than the pod's: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<String>,
    /// Seconds to wait while there is nothing newer, at most [`MAX_WAIT`].
    #[serde(default)]
    pub wait: u64,
}

impl ReportQuery {
    /// Path and query of this request. Nothing in it needs escaping as long as the epoch is made of letters, digits and
    /// dashes; other characters of it are dropped, which asks for everything.
    pub fn path_and_query(&self) -> String {
        let mut text = format!("{REPORT}?after={}&wait={}", self.after, self.wait.min(MAX_WAIT));
        if let Some(epoch) = &self.epoch {
            text.push_str("&epoch=");
            text.extend(epoch.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-'));
        }
        text
    }
}

/// How the objects stand at one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The pod's name.
    pub instance: String,
    /// Which half it is.
    pub plane: Plane,
    /// Random for each process: revisions of two epochs cannot be compared.
    pub epoch: String,
    /// Rises with every change.
    pub revision: u64,
    /// Whether `objects` is everything rather than what changed: what is not in it is gone.
    pub complete: bool,
    /// Objects whose report is new.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectReport>,
    /// Objects that this pod no longer has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<ObjectRef>,
}

/// What an ingester presents to sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intake {
    /// SHA-256 of the leaf in DER, hexadecimal; none while there is no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The same of what follows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// From when on the leaf is good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Intake {
    /// Of what it presents.
    pub fn of(presented: Presented) -> Self {
        let Presented { leaf, issuer, validity } = presented;
        Self { certificate: Some(leaf), issuer, from: Some(validity.from), until: Some(validity.until) }
    }

    /// What it presents; none while that is nothing, or is not told as a whole.
    pub fn presented(self) -> Option<Presented> {
        let validity = Validity { from: self.from?, until: self.until? };
        Some(Presented { leaf: self.certificate?, issuer: self.issuer, validity })
    }
}

/// One object's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// `Webhook`, `Destination`, ….
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// How one object stands at one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReport {
    /// Which object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// `metadata.uid` of what the pod compiled: a report on an object that was deleted and made again is void.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// `metadata.generation` of what the pod compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Whether it is in effect here.
    pub serving: bool,
    /// What is wrong with it, or worth a warning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
    /// Webhook: which secret verified last; changes at most every minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<LastVerified>,
    /// Destination: its breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<Breaker>,
}

/// One finding about an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Path of the field, e.g. `spec.routes[0].destinations[0]`.
    pub field: String,
    /// A code of [`zen_model::reason`].
    pub reason: String,
    /// For people.
    pub message: String,
    /// The object is in effect all the same.
    #[serde(default)]
    pub warning: bool,
}

/// The secret that verified last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerified {
    /// Its reference, e.g. `Secret/github-webhook/secret`; never its value.
    pub secret: String,
    /// When.
    pub at: Timestamp,
}

/// A Destination's circuit breaker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    /// Its state.
    pub state: BreakerState,
    /// Since when it has that state.
    pub since: Timestamp,
}

/// State of a breaker on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Deliveries flow.
    Closed,
    /// None may start.
    Open,
    /// One may start, to probe.
    HalfOpen,
}

impl From<zen_model::breaker::State> for BreakerState {
    fn from(state: zen_model::breaker::State) -> Self {
        match state {
            zen_model::breaker::State::Closed => Self::Closed,
            zen_model::breaker::State::Open => Self::Open,
            zen_model::breaker::State::HalfOpen => Self::HalfOpen,
        }
    }
}

/// How far a pod's drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrainState {
    /// Not draining.
    Serving,
    /// No intake; deliveries go on.
    Draining,
    /// What cannot be delivered is given to a peer.
    HandingOver,
    /// Nothing is left: the pod and its volume may go.
    Drained,
}

/// The answer to every drain request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrainStatus {
    /// How far it is.
    pub state: DrainState,
    /// Deliveries that wait or run.
    pub waiting: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Idempotency and nonce claims.
    pub claims: u64,
}

/// A batch that one ingester hands to another. It is committed durably before the answer; a batch that was taken before is
/// answered again without effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdoptRequest {
    /// Name of the pod that gives.
    pub from: String,
    /// Names this batch, the same when it is sent again.
    pub batch: String,
    /// The batch as the queue writes it.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
}

/// The answer to [`AdoptRequest`]: everything in the batch is safe here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adopted {
    /// Records that are new here.
    pub adopted: u64,
    /// Records that were here already.
    pub known: u64,
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::Deserialize as _;

    pub(super) fn serialize<S: serde::Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_as_documented() {
        let report = Report {
            instance: "zen-ingester-0".to_owned(),
            plane: Plane::Ingester,
            epoch: "e1".to_owned(),
            revision: 7,
            complete: false,
            objects: vec![ObjectReport {
                object: ObjectRef { kind: "Webhook".to_owned(), namespace: "team-a".to_owned(), name: "w".to_owned() },
                uid: Some("u".to_owned()),
                observed_generation: Some(3),
                serving: true,
                problems: vec![],
                last_verified: Some(LastVerified { secret: "s".to_owned(), at: Timestamp(0) }),
                breaker: Some(Breaker { state: BreakerState::HalfOpen, since: Timestamp(0) }),
            }],
            gone: vec![],
        };
        let json = serde_json::to_value(&report).expect("serializes");
        let object = &json["objects"][0];
        assert_eq!((&object["kind"], &object["observedGeneration"]), (&"Webhook".into(), &3.into()));
        assert_eq!(object["lastVerified"]["at"], "1970-01-01T00:00:00.000Z");
        assert_eq!((&object["breaker"]["state"], &json["plane"]), (&"half-open".into(), &"ingester".into()));
        assert_eq!(serde_json::from_value::<Report>(json).expect("parses"), report);
    }

    #[test]
    fn drain_states_and_batches_are_as_documented() {
        let status = DrainStatus { state: DrainState::HandingOver, waiting: 1, dead_letters: 2, claims: 3 };
        let json = serde_json::to_string(&status).expect("serializes");
        assert_eq!(json, r#"{"state":"handing-over","waiting":1,"deadLetters":2,"claims":3}"#);
        let batch = AdoptRequest { from: "a".to_owned(), batch: "1".to_owned(), payload: vec![0, 255] };
        let json = serde_json::to_string(&batch).expect("serializes");
        assert_eq!(json, r#"{"from":"a","batch":"1","payload":"AP8="}"#);
        assert_eq!(serde_json::from_str::<AdoptRequest>(&json).expect("parses"), batch);
    }

    #[test]
    fn a_query_cannot_be_extended_by_an_epoch() {
        let query = ReportQuery { after: 4, epoch: Some("a-1&after=0".to_owned()), wait: 600 };
        assert_eq!(query.path_and_query(), "/v1/report?after=4&wait=60&epoch=a-1after0");
    }
}
