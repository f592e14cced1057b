//! What becomes of a request to redeem. Pure: the enrollment as it is, the request, and the time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use zen_model::Timestamp;
use zen_model::reason::EnrollRefusal;

use crate::{Authentic, Fresh, Stamp};

/// A `ClusterEnrollment`, as far as it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrollment {
    /// `metadata.uid`.
    pub uid: String,
    /// `spec.bundle`.
    pub bundle: String,
    /// `spec.disabled`, or it is being deleted.
    pub disabled: bool,
    /// `status.bundle`.
    pub issued: Option<Issued>,
}

/// The newest bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Which.
    pub stamp: Stamp,
    /// Until when it can be redeemed.
    pub expires_at: Timestamp,
    /// By whom and when it was.
    pub used: Option<Used>,
}

/// A redemption. Stored with the enrollment, by compare-and-swap, before anything is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// [`zen_pki::SigningRequest::key_digest`].
    pub by: [u8; 32],
    /// Whole seconds: what is issued has its times from here, so that the same answer can be given again.
    pub at: Timestamp,
}

/// All that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// None: it is not there (any more).
    pub enrollment: Option<&'a Enrollment>,
    /// Authentic, whatever else.
    pub request: &'a Authentic,
    /// What [`crate::Replays`] says of its nonce.
    pub nonce: Fresh,
    /// How long an issuing CA is good.
    pub lifetime: Duration,
    /// The hub's clock.
    pub now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Store this with the enrollment, only if that is still as it was; then issue. If it is not, decide again.
    Issue(Used),
    /// Issue as of this time, which gives the same names, key and times: the same key asks again, its answer was lost.
    SameAnswer(Used),
    /// Nothing.
    Refuse(EnrollRefusal),
}

/// The decision. The first that applies counts.
pub fn decide(facts: &Facts<'_>) -> Verdict {
    judge(facts).unwrap_or_else(Verdict::Refuse)
}

fn judge(facts: &Facts<'_>) -> Result<Verdict, EnrollRefusal> {
    let (request, now) = (facts.request, facts.now);
    match facts.nonce {
        Fresh::New => {}
        Fresh::Seen => return Err(EnrollRefusal::RequestReplayed),
        Fresh::Full => return Err(EnrollRefusal::TooManyRequests),
    }
    let enrollment = facts.enrollment.filter(|enrollment| enrollment.uid == request.stamp.uid);
    let enrollment = enrollment.ok_or(EnrollRefusal::BundleVoid)?;
    if enrollment.disabled {
        return Err(EnrollRefusal::EnrollmentDisabled);
    }
    let issued = enrollment.issued.as_ref().filter(|issued| issued.stamp == request.stamp);
    // The status follows the spec: a bundle is void as soon as another is asked for, not when it is made.
    let issued = issued.filter(|issued| issued.stamp.bundle == enrollment.bundle).ok_or(EnrollRefusal::BundleVoid)?;
    let by = request.request.key_digest();
    match issued.used {
        Some(used) if used.by != by => Err(EnrollRefusal::BundleReused),
        // What it was given has ended, and the answer would be the same.
        Some(used) if now >= used.at.plus(facts.lifetime) => Err(EnrollRefusal::BundleExpired),
        Some(used) => Ok(Verdict::SameAnswer(used)),
        None if now >= issued.expires_at => Err(EnrollRefusal::BundleExpired),
        None => Ok(Verdict::Issue(Used { by, at: Timestamp::from_secs(now.as_secs()) })),
    }
}
