//! Plain objects: the stand-in for a Webhook that could not be read, and samples for tests of the crates that use
//! compiled ones. Whole configurations are compiled from manifests
//! instead (`zen_live::testing`).

use std::time::Duration;

use zen_model::{ObjectKey, ObjectReason, breaker, retry};
use zen_verify::Answer;

use crate::{DeliveryMode, Destination, Format, Place, Serving, Target, Webhook};

impl Webhook {
    /// A Webhook `namespace/name` at its default path that serves nothing yet and has no routes.
    pub fn sample(key: &str) -> Self {
        let key = parse(key);
        let path = format!("/{key}");
        Self::bare(key, Vec::new(), path)
    }

    /// What answers in the place of a Webhook that could not be read.
    pub(crate) fn unread(key: &ObjectKey, place: &Place, reason: ObjectReason) -> Self {
        let webhook = Self::bare(key.clone(), place.hosts.clone(), place.path.clone());
        Self { serving: Serving::Invalid(reason), ..webhook }
    }

    fn bare(key: ObjectKey, hosts: Vec<String>, path: String) -> Self {
        Self {
            revision: 1,
            hosts,
            provider: "none",
            serving: Serving::Inactive,
            max_body: 1 << 20,
            sources: Vec::new(),
            content_types: Vec::new(),
            event_type: None,
            event_id: None,
            event_source: path.clone(),
            idempotency: None,
            answer: Answer::Accepted,
            routes: Vec::new(),
            unconditional: Some(Vec::new()),
            needs_json: false,
            kept_headers: Vec::new(),
            secret_labels: Vec::new(),
            key,
            path,
        }
    }
}

impl Destination {
    /// A Destination `namespace/name` with every default that goes to this URL's host, whatever it is; no grants, no TLS
    /// configuration.
    pub fn sample(key: &str, target: Target) -> Self {
        let (Target::Url { host, .. } | Target::Service { host, .. }) = &target;
        Self {
            key: parse(key),
            revision: 1,
            mode: DeliveryMode::Egress,
            cluster: None,
            paused: false,
            allow_from: Vec::new(),
            tls: None,
            server_name: host.clone(),
            authentication: None,
            signing: Vec::new(),
            forward: Vec::new(),
            set: Vec::new(),
            format: Format::Raw,
            idempotent: true,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            max_response: 64 << 10,
            concurrency: 64,
            transient: retry::Policy::TRANSIENT,
            throttled: retry::Policy::THROTTLED,
            breaker: breaker::Settings::default(),
            allow_cidrs: Vec::new(),
            dead_letter_retention: Duration::from_hours(336),
            target,
        }
    }
}

/// A name without a namespace is in `default`.
fn parse(key: &str) -> ObjectKey {
    key.parse().unwrap_or_else(|_| ObjectKey::new("default", key))
}
