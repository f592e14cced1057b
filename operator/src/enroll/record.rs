//! What is recorded: each bundle, each redemption and renewal before its answer, and each refusal. Nothing of a credential, a
//! key or a proof is in it.

use std::net::SocketAddr;

use zen_audit::{Action, Record};
use zen_enroll::Refused;
use zen_identity::Component;
use zen_model::ClusterId;
use zen_pki::{Scope, Signed, SpiffeId};

use super::Inner;

/// What the operator did by itself.
pub(super) fn administered(inner: &Inner, cluster: &ClusterId, done: &str) -> Record {
    let operator = inner.mesh.id(Component::Operator);
    Record::new(Action::Administer, operator.as_str(), &object(Some(cluster))).allowed().detail("done", done)
}

/// What is known of a request while it is judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) request_id: String,
    pub(super) from: Option<SocketAddr>,
    /// That the path names.
    pub(super) cluster: Option<ClusterId>,
    /// That the handshake has proven.
    pub(super) peer: Option<SpiffeId>,
    /// Whether its proof was right.
    pub(super) proven: bool,
    pub(super) what: &'static str,
    pub(super) bundle: String,
}

impl Line {
    /// An issuing CA that is about to be handed over.
    pub(super) fn issued(&self, inner: &Inner, signed: &Signed, key: &[u8; 32], again: bool) -> Record {
        let key = hex::encode(key);
        tracing::info!(
            target: "zen_operator::audit",
            request_id = self.request_id,
            from = self.from(),
            cluster = self.cluster.as_ref().map(ToString::to_string),
            what = self.what,
            bundle = self.bundle,
            serial = signed.serial,
            until = %signed.validity.until,
            again,
            "issuing CA of a member issued"
        );
        let record = self.record(inner, Action::IssueCertificate).allowed().detail("serial", &signed.serial);
        record
            .detail("until", &signed.validity.until.to_string())
            .detail("key", &key)
            .detail("again", if again { "true" } else { "false" })
    }

    /// A refusal.
    pub(super) fn refused(&self, inner: &Inner, refused: Refused, detail: &str) -> Record {
        let (code, cluster) = (refused.code(), self.cluster.as_ref().map(ToString::to_string));
        tracing::warn!(
            target: "zen_operator::audit",
            request_id = self.request_id,
            from = self.from(),
            cluster,
            peer = self.peer.as_ref().map(SpiffeId::as_str),
            what = self.what,
            bundle = self.bundle,
            code,
            detail,
            "a member was refused"
        );
        self.record(inner, Action::IssueCertificate).reason(code).detail("detail", detail)
    }

    /// Nobody is called by a name that was not proven.
    fn record(&self, inner: &Inner, action: Action) -> Record {
        let who = match (&self.peer, &self.cluster) {
            (Some(peer), _) => peer.to_string(),
            (None, Some(cluster)) if self.proven => Scope::Cluster(cluster.clone()).prefix(inner.mesh.trust_domain()),
            _ => self.from(),
        };
        Record::new(action, &who, &object(self.cluster.as_ref()))
            .correlation(&self.request_id)
            .detail("what", self.what)
            .detail("bundle", &self.bundle)
            .detail("from", &self.from())
    }

    fn from(&self) -> String {
        self.from.map(|from| from.to_string()).unwrap_or_default()
    }
}

fn object(cluster: Option<&ClusterId>) -> String {
    cluster.map_or_else(|| "ClusterEnrollment".to_owned(), |cluster| format!("ClusterEnrollment/{cluster}"))
}
