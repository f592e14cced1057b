//! An enrolled member asks: mutual TLS, a proof by a key that counts, a nonce that was never seen. It gets what changed, and
//! its issuing CA renewed when it asks for that.

use zen_enroll::proof::{Proof, Request};
use zen_enroll::{Certificate, Fresh, Refused, Sync, Synced};
use zen_identity::Action;
use zen_identity::policy::{Object, Request as Ask};
use zen_model::Timestamp;
use zen_model::reason::{ConditionReason, EnrollRefusal, TrustRefusal};
use zen_pki::{Scope, SigningRequest};
use zen_seal::cluster::ClusterKey;

use super::record::Line;
use super::redeem::{branches, due_root, given};
use super::service::{Asked, No};
use super::state::Enrollment;
use super::{Inner, keep};
use crate::writer::Error;

/// As for a redemption.
const TRIES: usize = 8;

pub(super) async fn sync(inner: &Inner, asked: &Asked, line: &mut Line) -> Result<Synced, No> {
    let Asked { cluster, lead, hub, .. } = asked;
    let peer = asked.peer.as_ref().ok_or(EnrollRefusal::ClientCertificateMissing)?;
    let ask = Ask { peer, action: Action::Renew, object: Object::Cluster(cluster) };
    inner.mesh.decide(&ask).map_err(|denied| No(denied.reason().into(), denied.to_string()))?;
    let now = inner.identity.now();
    let branches = branches(lead)?;
    let enrollment = lead.seen(cluster).filter(|seen| !seen.is_deleted).ok_or(EnrollRefusal::EnrollmentUnknown)?;
    let (request, proof) = proven(asked, &enrollment, &branches.agent, now)?;
    line.proven = true;
    if !inner.clusters.take(&cluster.to_string()) {
        return Err(TrustRefusal::RateLimited.into());
    }
    if lead.may_be_known(&proof) {
        return Err(EnrollRefusal::NotLeader.into());
    }
    match lead.note(proof.key_id(), &proof, now) {
        Fresh::New => {}
        Fresh::Seen => return Err(EnrollRefusal::RequestReplayed.into()),
        Fresh::Full => return Err(EnrollRefusal::TooManyRequests.into()),
    }
    lead.hear(cluster, now);
    if let Some(holds) = &request.holds {
        lead.tell(cluster, holds, now);
    }
    let (enrollment, issued) = match &request.csr {
        None => (Enrollment::clone(&enrollment), None),
        Some(csr) => {
            let (enrollment, issued) = renew(inner, asked, line, csr, now).await?;
            (enrollment, Some(issued))
        }
    };
    inner.metrics.synced();
    Ok(Synced { issued, given: given(inner, lead, &branches, &enrollment, hub, now)? })
}

/// Whether the cluster itself sent it, with a key that counts now.
fn proven(
    asked: &Asked,
    enrollment: &Enrollment,
    agents: &zen_seal::RootKey,
    now: Timestamp,
) -> Result<(Sync, Proof), Refused> {
    let request: Sync = serde_json::from_slice(&asked.body).map_err(|_| EnrollRefusal::RequestMalformed)?;
    if request.cluster != asked.cluster {
        return Err(EnrollRefusal::WrongCluster.into());
    }
    let proof = Proof::parse(&asked.proof).map_err(|_| EnrollRefusal::RequestMalformed)?;
    if enrollment.is_revoked() {
        return Err(EnrollRefusal::EnrollmentDisabled.into());
    }
    let keys = enrollment.versions(now).into_iter().map(|version| ClusterKey::derive(agents, &asked.cluster, version));
    let key = keys.into_iter().find(|key| key.id() == proof.key_id()).ok_or(EnrollRefusal::KeyNotAccepted)?;
    let path = zen_enroll::sync_path(&asked.cluster);
    if !proof.proves(&Request { method: "POST", path: &path, body: &asked.body }, &key.agent()) {
        return Err(EnrollRefusal::ProofInvalid.into());
    }
    if !proof.is_timely(now) {
        return Err(EnrollRefusal::ClockSkew.into());
    }
    Ok((request, proof))
}

/// A new issuing CA for the same cluster.
async fn renew(
    inner: &Inner,
    asked: &Asked,
    line: &Line,
    csr: &str,
    now: Timestamp,
) -> Result<(Enrollment, Certificate), No> {
    let Asked { cluster, lead, hub, .. } = asked;
    let request = SigningRequest::from_pem(csr).map_err(Refused::from)?;
    request.check_issuer(inner.mesh.trust_domain(), &Scope::Cluster(cluster.clone())).map_err(Refused::from)?;
    let seen = lead.seen(cluster).ok_or(EnrollRefusal::EnrollmentUnknown)?;
    let due = due_root(inner, lead, &seen, now);
    let root = inner.identity.member_root(due.as_deref()).await.map_err(No::unavailable)?;
    // Whole seconds, as certificates have them.
    let at = Timestamp::from_secs(now.as_secs());
    let until = root.until(at, hub.lifetime());
    for _ in 0..TRIES {
        let before = lead.look(cluster).await.map_err(No::unavailable)?.ok_or(EnrollRefusal::EnrollmentUnknown)?;
        // As it is now, which the watch may not have told yet: the key that has proven it, too.
        proven(asked, &before, &branches(lead)?.agent, now)?;
        let after = match lead.swap(&before, before.renewed(at, until, &root.fingerprint())).await {
            Ok(after) => after,
            Err(Error::Conflict(_)) => continue,
            Err(Error::Gone(_)) => return Err(EnrollRefusal::EnrollmentUnknown.into()),
            Err(Error::NotLeader(_)) => return Err(EnrollRefusal::NotLeader.into()),
            Err(error) => return Err(No::unavailable(error)),
        };
        let signed = root.sign(&request, cluster, at, hub.lifetime()).map_err(No::unavailable)?;
        inner.identity.record(line.issued(inner, &signed, &request.key_digest(), false)).await?;
        inner.metrics.issued("renewed");
        let note = format!("The issuing CA of the cluster was renewed until {}.", signed.validity.until);
        keep::say(lead, &after, false, ConditionReason::CertificateRenewed.code(), &note).await;
        return Ok((after, Certificate { chain: signed.chain_pem, not_after: signed.validity.until }));
    }
    Err(No::unavailable("the enrollment changes too often"))
}
