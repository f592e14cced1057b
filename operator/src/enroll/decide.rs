//! What is to be done about an enrollment: make a bundle, or say how it stands. Pure.

use std::time::Duration;

use zen_crds::{BundleData, BundleStatus, ClusterEnrollmentStatus, Phase};
use zen_enroll::Stamp;
use zen_model::Timestamp;
use zen_model::reason::{ConditionReason, ObjectReason, TrustRefusal};

use super::state::{ENROLLED, Enrollment, at, time};

/// Whether bundles can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    /// The mesh is no hub: what has to be set.
    NotConfigured(&'static str),
    /// It is one, and something is missing that comes by itself or that somebody has to mend.
    NotReady(String),
    Ready,
}

/// All that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) enrollment: &'a Enrollment,
    pub(super) setup: &'a Setup,
    /// Whether the cluster was heard lately; none: too early to say.
    pub(super) connected: Option<bool>,
    pub(super) now: Timestamp,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// A bundle, then [`issued`], or [`unfit`].
    Make(Stamp),
    /// This is its status.
    Say(Box<ClusterEnrollmentStatus>),
    /// It is on its way out.
    Leave,
}

/// The decision. The first that applies counts.
pub(super) fn decide(facts: &Facts<'_>) -> Step {
    let Facts { enrollment, now, .. } = *facts;
    if enrollment.is_deleted {
        return Step::Leave;
    }
    if enrollment.spec.disabled {
        return say(disabled(facts));
    }
    let not_accepted = match facts.setup {
        Setup::Ready => None,
        Setup::NotConfigured(what) => Some((ConditionReason::HubNotConfigured.code(), (*what).to_owned())),
        Setup::NotReady(why) => {
            Some((TrustRefusal::IssuerUnavailable.code(), format!("No bundle can be made yet: {why}.")))
        }
    };
    if let Some((reason, message)) = not_accepted {
        let mut status = settled(facts);
        // It could not be redeemed here, and names a hub that may be another when it is one again.
        if let Some(bundle) = &mut status.bundle {
            bundle.data = None;
        }
        status.phase = Some(phase_while_waiting(&status));
        status.conditions = vec![enrollment.accepted(false, reason, message, now)];
        return say(status);
    }
    match waiting(enrollment, now) {
        Waiting::None => Step::Make(next(enrollment, now)),
        Waiting::Until(until) => say(in_effect(facts, waits(enrollment, until))),
        Waiting::Expired => {
            let mut status = settled(facts);
            if let Some(bundle) = &mut status.bundle {
                bundle.data = None;
            }
            let message =
                "The bundle ended before it was used. Change spec.bundle to have another one made.".to_owned();
            status.conditions = vec![enrollment.accepted(true, ObjectReason::Accepted.code(), message, now)];
            status.phase = Some(phase(&status));
            say(status)
        }
        Waiting::Used => {
            let ends = enrollment.status.certificate_expires_at.as_ref().map(at);
            let message = match ends {
                Some(ends) if now >= ends => format!(
                    "The cluster's certificate ended at {}: change spec.bundle and apply the new bundle there.",
                    time(ends).0
                ),
                _ => ENROLLED.to_owned(),
            };
            say(in_effect(facts, message))
        }
    }
}

/// The status of an enrollment whose bundle was just made: all before it is void.
pub(super) fn issued(facts: &Facts<'_>, stamp: &Stamp, ttl: Duration, data: BundleData) -> ClusterEnrollmentStatus {
    let mut status = settled(facts);
    let until = stamp.issued_at.plus(ttl);
    status.bundle = Some(BundleStatus {
        id: stamp.bundle.clone().into(),
        issued_at: time(stamp.issued_at),
        used_at: None,
        used_by: None,
        data: Some(data),
        expires_at: time(until),
    });
    let message = waits(facts.enrollment, until);
    let accepted = facts.enrollment.accepted(true, ObjectReason::Accepted.code(), message, facts.now);
    status.conditions = vec![accepted];
    status.phase = Some(phase(&status));
    status
}

/// The status of an enrollment for which none can be made.
pub(super) fn unfit(facts: &Facts<'_>, why: &str) -> ClusterEnrollmentStatus {
    let mut status = settled(facts);
    if let Some(bundle) = &mut status.bundle {
        bundle.data = None;
    }
    let reason = ConditionReason::RecipientInvalid.code();
    status.conditions = vec![facts.enrollment.accepted(false, reason, why.to_owned(), facts.now)];
    status.phase = Some(phase_while_waiting(&status));
    status
}

fn waits(enrollment: &Enrollment, until: Timestamp) -> String {
    let (name, tenant) = (enrollment.cluster.cluster(), enrollment.cluster.tenant());
    format!("A bundle waits until {}: kubectl zen enroll {name} -n {tenant} prints it.", time(until).0)
}

enum Waiting {
    /// None was made for what is asked for now.
    None,
    Until(Timestamp),
    Expired,
    Used,
}

fn waiting(enrollment: &Enrollment, now: Timestamp) -> Waiting {
    let status = &enrollment.status;
    // What was revoked stays so: whoever is let in again needs a new bundle.
    let was_disabled = status.phase == Some(Phase::Disabled);
    let bundle = status.bundle.as_ref().filter(|bundle| bundle.id == enrollment.spec.bundle && !was_disabled);
    let Some(bundle) = bundle else { return Waiting::None };
    if bundle.used_at.is_some() {
        return Waiting::Used;
    }
    if now >= at(&bundle.expires_at) {
        return Waiting::Expired;
    }
    // Another recipient, another time to live: what waits is not what is asked for.
    let is_current = status.observed_generation == Some(enrollment.generation);
    if bundle.data.is_some() && is_current { Waiting::Until(at(&bundle.expires_at)) } else { Waiting::None }
}

/// Another than any before it, also within one second.
fn next(enrollment: &Enrollment, now: Timestamp) -> Stamp {
    let before = enrollment.status.bundle.as_ref().map(|bundle| at(&bundle.issued_at).as_secs() + 1);
    let seconds = now.as_secs().max(before.unwrap_or_default());
    Stamp {
        uid: enrollment.uid.clone(),
        bundle: enrollment.spec.bundle.0.clone(),
        issued_at: Timestamp::from_secs(seconds),
    }
}

fn disabled(facts: &Facts<'_>) -> ClusterEnrollmentStatus {
    let mut status = settled(facts);
    status.keys.clear();
    (status.certificate_expires_at, status.certificate_issued_at, status.certificate_root) = (None, None, None);
    status.connected = status.connected.map(|_| false);
    if let Some(bundle) = &mut status.bundle {
        bundle.data = None;
    }
    let message = "Disabled: the cluster's certificates, keys and sessions count no more.".to_owned();
    status.conditions = vec![facts.enrollment.accepted(true, ObjectReason::Accepted.code(), message, facts.now)];
    status.phase = Some(Phase::Disabled);
    status
}

fn in_effect(facts: &Facts<'_>, message: String) -> ClusterEnrollmentStatus {
    let mut status = settled(facts);
    let accepted = facts.enrollment.accepted(true, ObjectReason::Accepted.code(), message, facts.now);
    status.conditions = vec![accepted];
    status.phase = Some(phase(&status));
    status
}

/// What goes on by itself: the generation, keys whose overlap is over, whether the cluster is heard.
fn settled(facts: &Facts<'_>) -> ClusterEnrollmentStatus {
    let mut status = facts.enrollment.status.clone();
    status.observed_generation = Some(facts.enrollment.generation);
    status.keys.retain(|key| key.until.as_ref().is_none_or(|until| facts.now < at(until)));
    if status.phase == Some(Phase::Disabled) {
        status.keys.clear();
    }
    if status.keys.is_empty() {
        status.connected = status.connected.map(|_| false);
    } else if let Some(connected) = facts.connected {
        status.connected = Some(connected);
    }
    status
}

/// A cluster that is enrolled stays so while another bundle waits, and when that ends unused.
fn phase(status: &ClusterEnrollmentStatus) -> Phase {
    match &status.bundle {
        Some(bundle) if bundle.data.is_some() => Phase::BundleIssued,
        _ if !status.keys.is_empty() => Phase::Enrolled,
        Some(bundle) if bundle.used_at.is_none() => Phase::Expired,
        _ => Phase::Pending,
    }
}

/// That it was disabled is remembered until there is another bundle.
fn phase_while_waiting(status: &ClusterEnrollmentStatus) -> Phase {
    if status.phase == Some(Phase::Disabled) { Phase::Disabled } else { phase(status) }
}

fn say(status: ClusterEnrollmentStatus) -> Step {
    Step::Say(Box::new(status))
}

#[cfg(test)]
mod tests;
