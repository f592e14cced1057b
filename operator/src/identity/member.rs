//! What the hub's side of enrollment needs of the identity service: the root for the issuing CAs of members, the certificates that
//! it serves them with, and the audit log.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use zen_audit::Record;
use zen_model::reason::TrustRefusal;
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Scope, SignError, Signed, SigningRequest, SpiffeId, optional_mtls_server_by};

use super::source::{Found, Root};
use super::{Service, own, trusted};

/// The root, read for one signature.
#[derive(Debug)]
pub(crate) struct MemberRoot(Root);

impl MemberRoot {
    /// Signs the issuing CA of a member whose key is there.
    pub(crate) fn sign(
        &self,
        request: &SigningRequest,
        cluster: &ClusterId,
        at: Timestamp,
        lifetime: Duration,
    ) -> Result<Signed, SignError> {
        self.0.ca.sign_issuer(request, &Scope::Cluster(cluster.clone()), at, lifetime)
    }

    /// Its name.
    pub(crate) fn fingerprint(&self) -> String {
        self.0.ca.fingerprint()
    }

    /// When what is signed at this time will end.
    pub(crate) fn until(&self, at: Timestamp, lifetime: Duration) -> Timestamp {
        at.plus(lifetime).min(self.0.ca.validity().until)
    }
}

impl Service {
    /// Fingerprint of the root that comes, where a member's issuing CA is to be beneath it: [`trusted::of_member`].
    pub(crate) fn member_root_due(
        &self,
        has: Option<&str>,
        trusts: impl FnOnce(&str, Duration) -> bool,
    ) -> Option<String> {
        trusted::of_member(&self.0.rotation_now(), has, trusts)
    }

    /// Fingerprint of the root in use; none where several are trusted for reasons of whoever keeps them.
    pub(crate) fn member_root_in_use(&self) -> Option<String> {
        let rotation = self.0.rotation_now();
        if let Some(active) = trusted::exchange(&rotation) {
            return Some(active.old.clone());
        }
        let mut roots = self.trusted();
        if roots.len() == 1 { roots.pop() } else { None }
    }

    /// The root of this fingerprint, without one the root in use, as it is now. In words for the log why there is none.
    pub(crate) async fn member_root(&self, due: Option<&str>) -> Result<MemberRoot, String> {
        let inner = &self.0;
        if let Some(due) = due {
            let (namespace, domain) = (inner.mesh.namespace(), inner.mesh.trust_domain());
            let next = inner.source.next_root(&inner.client, namespace, domain, inner.now()).await;
            let next = next.map_err(|error| error.to_string())?;
            if let Some(next) = next.filter(|next| next.fingerprint() == due) {
                return Ok(MemberRoot(Root::of(next)));
            }
        }
        let found =
            inner.source.root(&inner.client, inner.mesh.namespace(), inner.mesh.trust_domain(), inner.now()).await;
        match found {
            Ok(Found::There(root)) if due.is_some_and(|due| root.ca.fingerprint() != due) => {
                Err("the root that comes is not there".to_owned())
            }
            Ok(Found::There(root)) => Ok(MemberRoot(root)),
            Ok(Found::Missing) => Err(format!("{} is not there", inner.source.describe(inner.mesh.namespace()))),
            Ok(Found::Unusable(reason)) => Err(reason),
            Err(error) => Err(error.to_string()),
        }
    }

    /// TLS for members: known to them by name, and who presents a certificate must be one that `admits` lets in. Waits until
    /// there is a certificate to serve with.
    pub(crate) async fn member_tls(
        &self,
        admits: impl Fn(&SpiffeId) -> bool + Send + Sync + 'static,
    ) -> Result<Arc<ServerConfig>, zen_pki::Error> {
        let own = own::wait(&self.0).await;
        optional_mtls_server_by(&own.serving, &own.identity, Arc::new(admits))
    }

    /// Records what may be done once it is recorded.
    pub(crate) async fn record(&self, record: Record) -> Result<(), TrustRefusal> {
        self.0.audit.record(record).await.map_err(|error| {
            tracing::error!(%error, "refused because it cannot be audited");
            TrustRefusal::AuditUnavailable
        })
    }

    /// Records what was done, or refused, and stands whether or not it can be recorded.
    pub(crate) fn note(&self, record: Record) {
        self.0.audit.note(record);
    }

    /// The clock of the service.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.now()
    }
}
