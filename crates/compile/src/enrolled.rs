//! What of a `ClusterEnrollment` counts for those who keep events for its cluster (T-01, T-06).

use serde::{Deserialize, Serialize};
use zen_crds::{ClusterEnrollment, Phase};
use zen_model::Timestamp;

/// A member cluster, as its enrollment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrolled {
    /// `metadata.uid`: an enrollment that was deleted and made again is another. Empty in a folder.
    pub uid: String,
    /// Neither disabled nor being deleted, nor refused by the hub. Otherwise nothing of the cluster is accepted.
    pub enabled: bool,
    /// Whether the cluster ever joined.
    pub joined: bool,
    /// Whether the hub last heard that it holds a session; none: nobody said.
    pub connected: Option<bool>,
    /// The versions of its keys that are accepted, the newest first. Empty: none was made yet.
    pub versions: Vec<KeyVersion>,
}

/// A version of a cluster's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVersion {
    /// Which.
    pub version: u32,
    /// Until when it is accepted besides newer ones. None: the newest.
    pub until: Option<Timestamp>,
}

/// What follows for a Destination that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Missing,
    /// There may be one of this name.
    Unread,
    Disabled,
    /// It did not join yet.
    Pending,
    Joined,
    /// It joined, and holds no session now.
    Away,
}

impl Enrolled {
    /// Of an object, whoever delivered it.
    pub fn of(enrollment: &ClusterEnrollment) -> Self {
        let (metadata, spec) = (&enrollment.metadata, &enrollment.spec);
        let status = enrollment.status.as_ref();
        let refused = status.into_iter().flat_map(|status| &status.conditions);
        let refused = refused.filter(|condition| condition.type_ == "Accepted" && condition.status == "False");
        let keys = status.into_iter().flat_map(|status| &status.keys);
        let versions = keys.filter_map(|key| {
            let until = key.until.as_ref().map(|until| u64::try_from(until.0.as_second()).unwrap_or_default());
            Some(KeyVersion { version: u32::try_from(key.version).ok()?, until: until.map(Timestamp::from_secs) })
        });
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            enabled: !spec.disabled && metadata.deletion_timestamp.is_none() && refused.count() == 0,
            joined: status
                .is_some_and(|status| status.phase == Some(Phase::Enrolled) || status.certificate_expires_at.is_some()),
            connected: status.and_then(|status| status.connected),
            versions: versions.collect(),
        }
    }

    /// What nobody can make sense of: nothing of the cluster is accepted.
    pub fn unread(uid: Option<&str>) -> Self {
        let uid = uid.unwrap_or_default().to_owned();
        Self { uid, enabled: false, joined: false, connected: None, versions: Vec::new() }
    }

    /// Whether signatures and proofs by this version of its keys count now.
    pub fn accepts(&self, version: u32, now: Timestamp) -> bool {
        let found = self.versions.iter().find(|own| own.version == version);
        self.enabled && found.is_some_and(|own| own.until.is_none_or(|until| now < until))
    }

    /// The version that a new session begins with.
    pub fn newest(&self) -> Option<u32> {
        self.versions.iter().map(|own| own.version).max()
    }

    pub(crate) const fn standing(&self) -> Standing {
        match (self.enabled, self.joined, self.connected) {
            (false, ..) => Standing::Disabled,
            (true, false, _) => Standing::Pending,
            (true, true, Some(false)) => Standing::Away,
            (true, true, _) => Standing::Joined,
        }
    }
}
