//! A bundle is redeemed: authenticate, decide, compare-and-swap, sign, record, answer.

use zen_enroll::{Answer, Authentic, Certificate, Facts, Given, Received, Used, Verdict, authenticate, decide};
use zen_model::Timestamp;
use zen_model::reason::{ConditionReason, EnrollRefusal, TrustRefusal};

use super::branches::Branches;
use super::lead::Lead;
use super::record::Line;
use super::service::{Asked, No};
use super::state::Enrollment;
use super::{Inner, keep};
use crate::identity::MemberRoot;
use crate::settings::Hub;
use crate::writer::Error;

/// Whoever comes first writes; the others decide anew. So many at one time are not of one member.
const TRIES: usize = 8;

pub(super) async fn redeem(inner: &Inner, asked: &Asked, line: &mut Line) -> Result<Answer, No> {
    let Asked { cluster, lead, hub, .. } = asked;
    let branches = branches(lead)?;
    let now = inner.identity.now();
    let received = Received { cluster, proof: &asked.proof, body: &asked.body };
    let authentic = authenticate(&branches.enroll, inner.mesh.trust_domain(), &received, now)?;
    line.proven = true;
    line.bundle.clone_from(&authentic.stamp.bundle);
    if lead.may_be_known(&authentic.proof) {
        return Err(EnrollRefusal::NotLeader.into());
    }
    if !inner.clusters.take(&format!("bundle {cluster} {}", authentic.stamp.issued_at)) {
        return Err(TrustRefusal::RateLimited.into());
    }
    // What is needed to answer is at hand before anything is written.
    let due = inner.identity.member_root_due(None, |_, _| true);
    let root = inner.identity.member_root(due.as_deref()).await.map_err(No::unavailable)?;
    let (enrollment, used, again) = settle(lead, hub, &root, &authentic, now).await?;
    let lifetime = hub.lifetime();
    let signed = root.sign(&authentic.request, cluster, used.at, lifetime).map_err(No::unavailable)?;
    inner.identity.record(line.issued(inner, &signed, &used.by, again)).await?;
    inner.metrics.issued(if again { "again" } else { "redeemed" });
    lead.hear(cluster, now);
    if !again {
        let note = format!("The cluster redeemed the bundle {}.", authentic.stamp.bundle);
        keep::say(lead, &enrollment, false, ConditionReason::ClusterEnrolled.code(), &note).await;
    }
    let issued = Certificate { chain: signed.chain_pem, not_after: signed.validity.until };
    Ok(Answer { issued, given: given(inner, lead, &branches, &enrollment, hub, now)? })
}

/// The decision, stored. What is given counts from here, whether or not the answer arrives.
async fn settle(
    lead: &Lead,
    hub: &Hub,
    root: &MemberRoot,
    authentic: &Authentic,
    now: Timestamp,
) -> Result<(Enrollment, Used, bool), No> {
    let stamp = &authentic.stamp;
    let key = format!("{} {} {} {}", authentic.cluster, stamp.uid, stamp.bundle, stamp.issued_at.0);
    let nonce = lead.note(&key, &authentic.proof, now);
    for _ in 0..TRIES {
        let enrollment = lead.look(&authentic.cluster).await.map_err(No::unavailable)?;
        let known = enrollment.as_ref().map(Enrollment::known);
        let lifetime = hub.lifetime();
        let facts = Facts { enrollment: known.as_ref(), request: authentic, nonce, lifetime, now };
        match (decide(&facts), enrollment) {
            (Verdict::Refuse(reason), enrollment) => {
                if let (EnrollRefusal::BundleReused, Some(enrollment)) = (reason, &enrollment) {
                    let note =
                        format!("Another key than before came with the bundle {}: {}", stamp.bundle, reason.row().hint);
                    keep::say(lead, enrollment, true, reason.code(), &note).await;
                }
                return Err(reason.into());
            }
            (Verdict::SameAnswer(used), Some(enrollment)) => return Ok((enrollment, used, true)),
            (Verdict::Issue(used), Some(enrollment)) => {
                let status = enrollment.redeemed(used, root.until(used.at, lifetime), &root.fingerprint());
                match lead.swap(&enrollment, status).await {
                    Ok(after) => return Ok((after, used, false)),
                    Err(Error::Conflict(_)) => {}
                    Err(Error::Gone(_)) => return Err(EnrollRefusal::BundleVoid.into()),
                    Err(Error::NotLeader(_)) => return Err(EnrollRefusal::NotLeader.into()),
                    Err(error) => return Err(No::unavailable(error)),
                }
            }
            // It decides so about nothing that is not there.
            (Verdict::SameAnswer(_) | Verdict::Issue(_), None) => return Err(EnrollRefusal::BundleVoid.into()),
        }
    }
    Err(No::unavailable("the enrollment changes too often"))
}

/// What is needed of the root key.
pub(super) fn branches(lead: &Lead) -> Result<std::sync::Arc<Branches>, No> {
    lead.branches.load_full().ok_or_else(|| No::unavailable("the root key is not read yet"))
}

/// Fingerprint of the root beneath which the cluster's issuing CA is to be; none: the one in use, whatever it is called.
pub(super) fn due_root(inner: &Inner, lead: &Lead, enrollment: &Enrollment, now: Timestamp) -> Option<String> {
    let told = lead.told(&enrollment.cluster);
    let has = enrollment.status.certificate_root.as_deref();
    inner.identity.member_root_due(has, |root, settle| told.is_some_and(|told| told.trusts(root, settle, now)))
}

/// What a member has of the hub now.
pub(super) fn given(
    inner: &Inner,
    lead: &Lead,
    branches: &Branches,
    enrollment: &Enrollment,
    hub: &Hub,
    now: Timestamp,
) -> Result<Given, No> {
    let roots = inner.identity.bundle().ok_or_else(|| No::unavailable("there is no trust bundle"))?;
    let versions = enrollment.versions(now);
    if versions.is_empty() {
        // Revoked between the decision and now.
        return Err(EnrollRefusal::EnrollmentDisabled.into());
    }
    let due = due_root(inner, lead, enrollment, now);
    Ok(Given {
        root: due.or_else(|| inner.identity.member_root_in_use()),
        roots: roots.to_string(),
        keys: versions.into_iter().map(|version| branches.keys(&enrollment.cluster, version)).collect(),
        relay: Some(hub.relay.clone()).filter(|relay| !relay.is_empty()),
    })
}
