//! Which Secrets and `ConfigMap`s an object names: what its plane watches and must be granted, by name (K-06).

use zen_crds::{CredentialsSource, DestinationSpec, SecretSource, WebhookSpec};
use zen_model::ObjectKey;

use crate::{DeliveryMode, Plane};

/// An object that a plane has to read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Who reads it. [`Plane::Operator`] never occurs. Under `zen up`, where one process reads all, it is the plane that
    /// would.
    pub plane: Plane,
    /// What it is.
    pub kind: ReferenceKind,
    /// Its name.
    pub key: ObjectKey,
}

/// Kind of a referenced object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReferenceKind {
    /// A Secret.
    Secret,
    /// A `ConfigMap`.
    ConfigMap,
}

impl ReferenceKind {
    /// As manifests write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }
}

/// What a Webhook names, each once: the Secrets of its verification.
pub fn references_of_webhook(key: &ObjectKey, spec: &WebhookSpec) -> Vec<Reference> {
    let mut found = Found { owner: key, plane: Plane::Ingester, list: Vec::new() };
    for CredentialsSource { secret_ref, .. } in &spec.verification.secrets {
        found.secret(secret_ref.as_ref().map(|reference| &*reference.name));
    }
    found.list
}

/// What a Destination names, each once, for the plane that attempts its deliveries.
pub fn references_of_destination(key: &ObjectKey, spec: &DestinationSpec) -> Vec<Reference> {
    let mode = DeliveryMode::of(spec.mode);
    let mut found = Found { owner: key, plane: mode.plane(), list: Vec::new() };
    if let Some(tls) = &spec.tls {
        if let Some(source) = &tls.ca_ref {
            found.secret(source.secret_ref.as_ref().map(|reference| &*reference.name));
            found.note(ReferenceKind::ConfigMap, source.config_map_ref.as_ref().map(|reference| &*reference.name));
        }
        found.secret(tls.client_certificate_ref.as_ref().map(|reference| &*reference.name));
    }
    if let Some(authentication) = &spec.authentication {
        found.source(authentication.bearer.as_ref());
        found.secret(authentication.basic.as_ref().and_then(|basic| Some(&*basic.secret_ref.as_ref()?.name)));
        found.secret(authentication.header.as_ref().and_then(|header| Some(&*header.secret_ref.as_ref()?.name)));
    }
    for source in spec.signing.iter().flat_map(|signing| &signing.secrets) {
        found.source(Some(source));
    }
    found.list
}

struct Found<'a> {
    owner: &'a ObjectKey,
    plane: Plane,
    list: Vec<Reference>,
}

impl Found<'_> {
    fn source(&mut self, source: Option<&SecretSource>) {
        self.secret(source.and_then(|source| Some(&*source.secret_ref.as_ref()?.name)));
    }

    fn secret(&mut self, name: Option<&str>) {
        self.note(ReferenceKind::Secret, name);
    }

    fn note(&mut self, kind: ReferenceKind, name: Option<&str>) {
        let Some(name) = name else { return };
        let key = ObjectKey::new(self.owner.namespace.clone(), name);
        let reference = Reference { plane: self.plane, kind, key };
        if !self.list.contains(&reference) {
            self.list.push(reference);
        }
    }
}
