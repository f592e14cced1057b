//! An enrolled cluster, as far as what is exchanged at the hub has to wait for it (T-04).

use std::time::Duration;

use zen_enroll::Holds;
use zen_model::{ClusterId, Timestamp};

use super::state::{Enrollment, at};

/// One whose issuing CA counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Tenant and name.
    pub name: ClusterId,
    /// Whether it was heard lately.
    pub is_connected: bool,
    /// Fingerprint of the root beneath which its issuing CA was issued; none where a release before did not write that down.
    pub root: Option<String>,
    /// When that was.
    pub issued_at: Option<Timestamp>,
    /// When the issuing CA ends.
    pub until: Timestamp,
    /// What it said that it has.
    pub told: Option<Told>,
}

/// What a cluster said that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub holds: Holds,
    /// Since when its roots are these, as far as this process knows.
    pub since: Timestamp,
}

impl Told {
    /// Whether its pods trust this root: their kubelets have had so long to bring it.
    pub fn trusts(&self, root: &str, settle: Duration, now: Timestamp) -> bool {
        self.holds.roots.contains(root) && now >= self.since.plus(settle)
    }
}

impl Cluster {
    /// None: nothing of it counts.
    pub(super) fn of(enrollment: &Enrollment, told: Option<Told>, now: Timestamp) -> Option<Self> {
        let status = &enrollment.status;
        let until = at(status.certificate_expires_at.as_ref()?);
        if enrollment.is_revoked() || enrollment.versions(now).is_empty() || now >= until {
            return None;
        }
        Some(Self {
            name: enrollment.cluster.clone(),
            is_connected: status.connected == Some(true),
            root: status.certificate_root.clone(),
            issued_at: status.certificate_issued_at.as_ref().map(at),
            until,
            told,
        })
    }
}
