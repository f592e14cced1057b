//! What is stored of a rotation.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zen_model::reason::RotationReason;
use zen_model::{ClusterId, Timestamp};

/// A rotation, as it is stored before each step counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// What is exchanged.
    pub subject: Subject,
    /// When it began.
    pub started: Timestamp,
    /// How far it is.
    pub phase: Phase,
    /// Since when it is there.
    pub since: Timestamp,
    /// How it is done.
    pub plan: Plan,
}

/// What is exchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "cluster", rename_all = "camelCase")]
pub enum Subject {
    /// The root, and with it everything below.
    Root,
    /// An issuing CA: the hub's, or of a member.
    IssuingCa(Option<ClusterId>),
    /// The intake's serving certificate.
    IntakeTls,
    /// The signing keys of the hub's own link, or of a member.
    SigningKeys(Option<ClusterId>),
}

/// How a rotation is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Of a hundred members, how many go first; at least one does.
    pub canary_percent: u8,
    /// Probes that must pass in a row, for the canary and again for all.
    pub probes: u32,
    /// How long the canary is watched, at least.
    pub soak_seconds: u32,
    /// How long a phase may wait for members or probes before all goes back.
    pub patience_seconds: u32,
    /// How often things are looked at while nothing changes.
    pub interval_seconds: u32,
    /// How long the old counts beside the new at least, once everybody uses the new. None: as long as that subject needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<u32>,
    /// How long what a member cluster was told to trust takes to reach each of its pods: their kubelets bring it.
    #[serde(default = "settle")]
    pub settle_seconds: u32,
}

/// A kubelet brings a changed ConfigMap within two minutes, and a pod looks at it twice a minute.
const fn settle() -> u32 {
    180
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            canary_percent: 10,
            probes: 3,
            soak_seconds: 60,
            patience_seconds: 600,
            interval_seconds: 5,
            overlap_seconds: None,
            settle_seconds: settle(),
        }
    }
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "camelCase")]
pub enum Phase {
    /// The new material is made.
    Planned,
    /// Everybody learns to trust it beside the old.
    Trusting,
    /// These use it.
    Canary {
        /// Names of members.
        pods: BTreeSet<String>,
    },
    /// They are watched.
    Probing {
        /// The same.
        pods: BTreeSet<String>,
    },
    /// Everybody uses it.
    RollingOut,
    /// Everybody is watched.
    Verifying,
    /// What was made with the old is still out there.
    Overlap,
    /// The old is distrusted. There is no way back from here.
    Retiring,
    /// Done.
    Finished,
    /// Everybody uses the old again.
    RollingBack {
        /// Why.
        failure: RotationReason,
    },
    /// The new is distrusted.
    Distrusting {
        /// Why.
        failure: RotationReason,
    },
    /// As it was before.
    RolledBack {
        /// Why.
        failure: RotationReason,
    },
}

impl Rotation {
    /// A new one.
    pub fn new(subject: Subject, plan: Plan, now: Timestamp) -> Self {
        Self { subject, started: now, phase: Phase::Planned, since: now, plan }
    }

    /// In another phase.
    #[must_use]
    pub fn enter(&self, phase: Phase, now: Timestamp) -> Self {
        Self { phase, since: now, ..self.clone() }
    }

    /// Whether nothing is left to be done.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Finished | Phase::RolledBack { .. })
    }

    /// For a condition, an Event, a metric: how it stands.
    pub const fn reason(&self) -> RotationReason {
        match &self.phase {
            Phase::Finished => RotationReason::RotationFinished,
            Phase::RollingBack { failure } | Phase::Distrusting { failure } | Phase::RolledBack { failure } => *failure,
            _ => RotationReason::RotationProgressing,
        }
    }

    /// Time in this phase; none has passed when the clock went back.
    pub(crate) fn elapsed(&self, now: Timestamp) -> Duration {
        now.since(self.since)
    }
}

impl Phase {
    /// Stable label for metrics.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Trusting => "trusting",
            Self::Canary { .. } => "canary",
            Self::Probing { .. } => "probing",
            Self::RollingOut => "rolling_out",
            Self::Verifying => "verifying",
            Self::Overlap => "overlap",
            Self::Retiring => "retiring",
            Self::Finished => "finished",
            Self::RollingBack { .. } => "rolling_back",
            Self::Distrusting { .. } => "distrusting",
            Self::RolledBack { .. } => "rolled_back",
        }
    }
}

impl Plan {
    /// How many of so many go first.
    pub(crate) fn canary(&self, members: usize) -> usize {
        (members * usize::from(self.canary_percent.min(100))).div_ceil(100).max(1)
    }

    /// How long the old counts beside the new, where that is said.
    pub fn overlap(&self) -> Option<Duration> {
        self.overlap_seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }

    /// How long what is trusted takes to reach the pods of a member cluster.
    pub const fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_seconds as u64)
    }

    pub(crate) const fn patience(&self) -> Duration {
        Duration::from_secs(self.patience_seconds as u64)
    }

    pub(crate) const fn soak(&self) -> Duration {
        Duration::from_secs(self.soak_seconds as u64)
    }

    pub(crate) const fn interval(&self) -> Duration {
        Duration::from_secs(self.interval_seconds as u64)
    }
}
