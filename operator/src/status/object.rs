//! What is kept of an object of ours: identity, the two facts of its spec that its status depends on, and the status that
//! it has. Ten thousand of them are in memory, so that words which every object has are shared.

use std::borrow::Cow;
use std::fmt;

use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;
use zen_crds::Mode;
use zen_model::ObjectKey;

use super::conditions::Status;

/// A kind of ours, but `ClusterEnrollment`: see [`crate::enroll`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// One source of webhooks.
    Webhook,
    /// One target of events.
    Destination,
    /// Encrypted secrets.
    ZenLock,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Webhook, Self::Destination, Self::ZenLock];

    /// As manifests name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "Webhook",
            Self::Destination => "Destination",
            Self::ZenLock => "ZenLock",
        }
    }

    /// The kind of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Where the API server keeps it.
    pub fn resource(self) -> ApiResource {
        match self {
            Self::Webhook => ApiResource::erase::<zen_crds::Webhook>(&()),
            Self::Destination => ApiResource::erase::<zen_crds::Destination>(&()),
            Self::ZenLock => ApiResource::erase::<zen_crds::ZenLock>(&()),
        }
    }
}

/// Which object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace and name.
    pub key: ObjectKey,
}

impl Id {
    /// The object of this kind and name.
    pub fn new(kind: Kind, key: ObjectKey) -> Self {
        Self { kind, key }
    }
}

/// `Webhook team-a/github`.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.key)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One object, as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Which one.
    pub id: Id,
    /// Another one of the same name has another uid.
    pub uid: Box<str>,
    /// Counts changes of the spec.
    pub generation: i64,
    /// Rises with every change; 0 where it cannot be read as a number.
    pub resource_version: u64,
    /// Webhook: `spec.active`.
    pub active: bool,
    /// Destination: `spec.mode`.
    pub mode: Mode,
    /// Its status, as far as it is ours.
    pub status: Status,
}

impl Object {
    /// Reads what matters. A spec that is not of the schema is no reason to have no status: what is wrong with it is what
    /// the status must say. None where even name or uid are missing.
    pub fn read(kind: Kind, object: &DynamicObject) -> Option<Self> {
        let meta = &object.metadata;
        let key = ObjectKey::new(meta.namespace.as_deref()?, meta.name.as_deref()?);
        let spec = object.data.get("spec").unwrap_or(&Value::Null);
        let mode = match spec.get("mode").and_then(Value::as_str) {
            Some("Direct") => Mode::Direct,
            Some("Relay") => Mode::Relay,
            _ => Mode::Egress,
        };
        Some(Self {
            id: Id::new(kind, key),
            uid: meta.uid.as_deref()?.into(),
            generation: meta.generation.unwrap_or_default(),
            resource_version: meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or_default(),
            active: spec.get("active").and_then(Value::as_bool).unwrap_or(true),
            mode,
            status: object.data.get("status").map(|status| Status::read(kind, status)).unwrap_or_default(),
        })
    }
}

/// Text that is mostly one of few.
pub type Text = Cow<'static, str>;
