//! A `ClusterEnrollment` as far as it counts here, and what becomes of its status. Pure.

use std::time::Duration;

use jiff::Timestamp as Instant;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::core::{ApiResource, DynamicObject};
use zen_crds::{BundleStatus, ClusterEnrollment, ClusterEnrollmentSpec, ClusterEnrollmentStatus, KeyStatus, Phase};
use zen_enroll::{Issued, Stamp, Used};
use zen_model::reason::ObjectReason;
use zen_model::{ClusterId, Timestamp};

use crate::writer::Target;

/// The one condition of an enrollment.
const ACCEPTED: &str = "Accepted";
/// What it says of a cluster that is enrolled.
pub(super) const ENROLLED: &str = "The cluster is enrolled.";

/// One, as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Enrollment {
    pub(super) cluster: ClusterId,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) generation: i64,
    pub(super) created: Timestamp,
    pub(super) is_deleted: bool,
    pub(super) spec: ClusterEnrollmentSpec,
    pub(super) status: ClusterEnrollmentStatus,
}

impl Enrollment {
    /// None for what is none: the API server checks objects against the schema, so that this is one of another release.
    pub(super) fn read(object: DynamicObject) -> Option<Self> {
        let meta = object.metadata.clone();
        let cluster = ClusterId::new(meta.namespace.as_deref()?, meta.name.as_deref()?).ok()?;
        let object: ClusterEnrollment = object.try_parse().ok()?;
        Some(Self {
            cluster,
            uid: meta.uid?,
            resource_version: meta.resource_version?,
            generation: meta.generation.unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map_or(Timestamp(0), at),
            is_deleted: meta.deletion_timestamp.is_some(),
            spec: object.spec,
            status: object.status.unwrap_or_default(),
        })
    }

    /// Where its status is written.
    pub(super) fn target(&self) -> Target {
        Target {
            resource: ApiResource::erase::<ClusterEnrollment>(&()),
            namespace: self.cluster.tenant().to_string(),
            name: self.cluster.cluster().to_string(),
            uid: self.uid.clone(),
        }
    }

    /// Nothing of the cluster counts. Also between the end of a revocation and the bundle that is made then.
    pub(super) fn is_revoked(&self) -> bool {
        self.spec.disabled || self.is_deleted || self.status.phase == Some(Phase::Disabled)
    }

    /// The versions of its keys that are accepted, the newest first.
    pub(super) fn versions(&self, now: Timestamp) -> Vec<u32> {
        if self.is_revoked() {
            return Vec::new();
        }
        let accepted = self.status.keys.iter().filter(|key| key.until.as_ref().is_none_or(|until| now < at(until)));
        accepted.filter_map(|key| u32::try_from(key.version).ok()).collect()
    }

    /// As `zen_enroll` decides about it.
    pub(super) fn known(&self) -> zen_enroll::Enrollment {
        zen_enroll::Enrollment {
            uid: self.uid.clone(),
            bundle: self.spec.bundle.0.clone(),
            disabled: self.is_revoked(),
            issued: self.status.bundle.as_ref().map(|bundle| Issued {
                stamp: self.stamp(bundle),
                expires_at: at(&bundle.expires_at),
                used: used(bundle),
            }),
        }
    }

    fn stamp(&self, bundle: &BundleStatus) -> Stamp {
        Stamp { uid: self.uid.clone(), bundle: bundle.id.0.clone(), issued_at: at(&bundle.issued_at) }
    }

    /// The status after a redemption: from now on keys count that nobody had before, and no others. Whoever had the cluster's
    /// keys until now is the one that it was enrolled anew in place of.
    pub(super) fn redeemed(&self, used: Used, until: Timestamp, root: &str) -> ClusterEnrollmentStatus {
        let mut status = self.status.clone();
        if let Some(bundle) = &mut status.bundle {
            bundle.used_at = Some(time(used.at));
            bundle.used_by = Some(hex::encode(used.by));
            bundle.data = None;
        }
        let version = match status.key_version {
            Some(version) => version.saturating_add(1),
            // An enrollment that was deleted and made again has other keys than the one before.
            None => i64::try_from(self.created.as_secs()).unwrap_or_default(),
        };
        status.key_version = Some(version);
        status.keys = vec![KeyStatus { version, until: None }];
        status.certificate_expires_at = Some(time(until));
        status.certificate_issued_at = Some(time(used.at));
        status.certificate_root = Some(root.to_owned());
        status.phase = Some(Phase::Enrolled);
        status.connected = Some(true);
        let reason = ObjectReason::Accepted.code();
        status.conditions = vec![self.accepted(true, reason, ENROLLED.to_owned(), used.at)];
        status
    }

    /// The status after a rotation: another version of its keys, and those before it for `overlap` more at most.
    pub(super) fn rotated(&self, overlap: Duration, now: Timestamp) -> ClusterEnrollmentStatus {
        let mut status = self.status.clone();
        let version = status.key_version.unwrap_or_default().saturating_add(1);
        let until = now.plus(overlap);
        for key in &mut status.keys {
            let end = key.until.as_ref().map_or(until, |end| at(end).min(until));
            key.until = Some(time(end));
        }
        status.keys.retain(|key| key.until.as_ref().is_some_and(|until| now < at(until)));
        status.keys.insert(0, KeyStatus { version, until: None });
        status.key_version = Some(version);
        status
    }

    /// The status after a renewal.
    pub(super) fn renewed(&self, now: Timestamp, until: Timestamp, root: &str) -> ClusterEnrollmentStatus {
        ClusterEnrollmentStatus {
            certificate_expires_at: Some(time(until)),
            certificate_issued_at: Some(time(now)),
            certificate_root: Some(root.to_owned()),
            ..self.status.clone()
        }
    }

    /// The condition, with the time of its last transition.
    pub(super) fn accepted(&self, is: bool, reason: &str, message: String, now: Timestamp) -> Condition {
        let status = if is { "True" } else { "False" };
        let before = self.status.conditions.iter().find(|before| before.type_ == ACCEPTED);
        let since = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
        Condition {
            type_: ACCEPTED.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(self.generation),
            last_transition_time: since.unwrap_or_else(|| time(now)),
        }
    }
}

fn used(bundle: &BundleStatus) -> Option<Used> {
    let used_at = at(bundle.used_at.as_ref()?);
    // What cannot be read was used by nobody that could ask again.
    let by = bundle.used_by.as_deref().and_then(digest).unwrap_or_default();
    Some(Used { by, at: used_at })
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

/// As the API server writes it: whole seconds.
pub(super) fn time(at: Timestamp) -> Time {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    Time(Instant::from_second(seconds).unwrap_or(Instant::UNIX_EPOCH))
}

/// The other way.
pub(super) fn at(time: &Time) -> Timestamp {
    Timestamp::from_secs(u64::try_from(time.0.as_second()).unwrap_or_default())
}
