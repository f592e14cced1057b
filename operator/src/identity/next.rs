//! The issuing CA that comes in place of the one in use: made beside it, promoted, or dropped (T-04). When, the rotation says.
//!
//! The Secret `zen-mesh-issuer-next` is sealed as `zen-mesh-issuer` is, so that a promotion copies what is stored.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Client;
use kube::core::ApiResource;
use serde_json::json;
use tokio::sync::watch;
use zen_audit::Record;
use zen_identity::Component;
use zen_pki::{Ca, Identity, TrustRoots, Validity};

use super::audit::administered;
use super::keep::secret;
use super::source::{CERTIFICATE, Found, KEY};
use super::{Current, ISSUER, ISSUER_NEXT, Seen, Service};
use crate::object::Present;
use crate::{Object, Writer, writer};

/// For probes alone.
const PROBE: Duration = Duration::from_mins(10);

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("failed to read the root CA: {0}")]
    Read(#[from] kube::Error),
    #[error(transparent)]
    Write(#[from] writer::Error),
    #[error(transparent)]
    Pki(#[from] zen_pki::Error),
    /// In words.
    #[error("{0}")]
    Missing(String),
}

/// The two issuing CAs as they lie in the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Next {
    /// Of the one in use.
    pub(crate) issuer: Option<(String, Validity)>,
    /// Whether there is another Secret, usable or not.
    pub(crate) is_there: bool,
    /// Of the one that comes, where it can be used and verifies under the trust bundle.
    pub(crate) coming: Option<(String, Validity)>,
}

impl Service {
    /// The ConfigMap of rotations.
    pub(crate) fn rotation(&self) -> watch::Receiver<Seen<ConfigMap>> {
        self.0.rotation.subscribe()
    }

    /// The API server, as the service asks it.
    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Changes of either issuing CA.
    pub(crate) fn issuers(&self) -> [watch::Receiver<Seen<Secret>>; 2] {
        [self.0.issuer.subscribe(), self.0.next.subscribe()]
    }

    /// What is on the record of what the leader did.
    pub(crate) fn did(&self, object: &str, done: &str, reason: &str) {
        let record: Record = administered(self.0.mesh.id(Component::Operator), object, done);
        self.0.audit.note(record.detail("reason", reason));
    }

    /// Whether the issuing CA is ours to exchange: with cert-manager, pods have their certificates from another.
    pub(crate) fn rotates(&self) -> bool {
        self.0.rotates()
    }

    /// What is there.
    pub(crate) fn next(&self) -> Next {
        let of = |secret: &watch::Sender<Seen<Secret>>| {
            let secret = secret.borrow().object.clone()?;
            let ca = self.read(&secret).ok()?;
            let roots = TrustRoots::from_pem(&self.bundle()?).ok()?;
            ca.verify(&roots, self.now()).ok()?;
            Some((ca.fingerprint(), ca.validity()))
        };
        let is_there = self.0.next.borrow().object.is_some();
        Next { issuer: of(&self.0.issuer), is_there, coming: of(&self.0.next) }
    }

    /// Makes it; one that is there stays.
    pub(crate) async fn make_next(&self, writer: &Writer) -> Result<(), Error> {
        let (inner, now) = (&self.0, self.now());
        let (namespace, domain) = (inner.mesh.namespace(), inner.mesh.trust_domain());
        let root = match inner.source.root(&inner.client, namespace, domain, now).await? {
            Found::There(root) => root,
            Found::Missing => return Err(Error::Missing("there is no root CA".to_owned())),
            Found::Unusable(reason) => return Err(Error::Missing(reason)),
        };
        let made = root.ca.issue_intermediate(now)?;
        let stored = inner.source.stored(namespace, &root.ca, &made);
        if writer.create(&secret(namespace, ISSUER_NEXT, &made, &stored, false)).await? {
            tracing::info!(secret = ISSUER_NEXT, until = %made.validity().until, "made the next issuing CA");
            self.did(&format!("Secret/{namespace}/{ISSUER_NEXT}"), "made the next issuing CA", "RotationProgressing");
        }
        Ok(())
    }

    /// Puts it in the place of the one before, which is no longer kept.
    pub(crate) async fn promote_next(&self, writer: &Writer) -> Result<(), Error> {
        let (issuer, next) = (self.0.issuer.borrow().object.clone(), self.0.next.borrow().object.clone());
        let next = next.ok_or_else(|| Error::Missing(format!("there is no Secret {ISSUER_NEXT}")))?;
        self.read(&next).map_err(Error::Missing)?;
        let entry = |key: &str| {
            let data = next.data.as_ref().and_then(|data| data.get(key));
            data.map(|ByteString(bytes)| STANDARD.encode(bytes)).unwrap_or_default()
        };
        let body = json!({
            "type": "kubernetes.io/tls",
            "data": {CERTIFICATE: entry(CERTIFICATE), KEY: entry(KEY)},
        });
        let object = Object::new::<Secret>(Some(self.0.mesh.namespace()), ISSUER, body).component("operator");
        writer.apply(&object, issuer.as_deref().map(|issuer| issuer as &dyn Present)).await?;
        Ok(())
    }

    /// Deletes it.
    pub(crate) async fn drop_next(&self, writer: &Writer) -> Result<(), Error> {
        let next = self.0.next.borrow().object.clone();
        if let Some(next) = next {
            writer.delete(&ApiResource::erase::<Secret>(&()), next.as_ref()).await?;
        }
        Ok(())
    }

    /// The operator as it would be with a certificate of the next issuing CA, to be shown to pods before anybody uses one.
    pub(crate) fn as_of_next(&self) -> Result<Identity, Error> {
        let current: Option<std::sync::Arc<Current>> = self.0.current.borrow().clone();
        let current = current.ok_or_else(|| Error::Missing("nothing can be issued".to_owned()))?;
        let next = current.next.as_ref().ok_or_else(|| Error::Missing("there is no next issuing CA".to_owned()))?;
        let leaf = next.issue_workload_at(self.0.mesh.id(Component::Operator), self.now(), PROBE)?;
        Ok(Identity::new(&leaf, &current.roots)?)
    }

    /// Fingerprint of the issuing CA that a pod's certificates are from now.
    #[cfg(test)]
    pub(crate) fn issuer_of(&self, pod: &str) -> Option<String> {
        self.0.current.borrow().as_ref().map(|current| current.issuer(pod).fingerprint())
    }

    pub(super) fn read(&self, secret: &Secret) -> Result<Ca, String> {
        let inner = &self.0;
        inner.source.issuer(secret, inner.mesh.namespace(), inner.mesh.trust_domain(), self.now())
    }
}
