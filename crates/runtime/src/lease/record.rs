//! What is written into a Lease, and what is read from one. The clocks of two machines are never compared: a candidate
//! counts from the moment at which it saw a renewal itself.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::Options;

/// No lease of another is waited for longer than this, whatever stands in it.
const LONGEST: Duration = Duration::from_mins(1);

/// The last renewal that was seen, and when.
#[derive(Debug)]
pub(super) struct Observed {
    version: Option<String>,
    at: Duration,
}

pub(super) enum Verdict {
    /// Nobody has it, or its time is over.
    Free,
    /// Another has it for so long, at least.
    Held { left: Duration },
}

impl Observed {
    pub(super) fn judge(seen: &mut Option<Self>, lease: &Lease, options: &Options, now: Duration) -> Verdict {
        let Some(holder) = holder(lease) else { return Verdict::Free };
        if holder == options.holder {
            return Verdict::Free;
        }
        let version = lease.metadata.resource_version.clone();
        let seen = match seen {
            Some(observed) if observed.version == version => observed,
            other => other.insert(Self { version, at: now }),
        };
        let promised = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let promised = promised.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
        let until = seen.at + promised.unwrap_or(options.duration).min(LONGEST);
        match until.checked_sub(now) {
            Some(left) if !left.is_zero() => Verdict::Held { left },
            _ => Verdict::Free,
        }
    }
}

/// Who holds it; none when it was given back.
pub(super) fn holder(lease: &Lease) -> Option<&str> {
    let holder = lease.spec.as_ref()?.holder_identity.as_deref();
    holder.filter(|holder| !holder.is_empty())
}

/// A Lease that did not exist.
pub(super) fn first(options: &Options) -> Lease {
    let metadata = ObjectMeta {
        namespace: Some(options.namespace.clone()),
        name: Some(options.name.clone()),
        ..ObjectMeta::default()
    };
    let lease = Lease { metadata, spec: None };
    let mut lease = taken(lease, options);
    if let Some(spec) = &mut lease.spec {
        spec.lease_transitions = Some(0);
    }
    lease
}

/// One that we take from another, or again.
pub(super) fn taken(mut lease: Lease, options: &Options) -> Lease {
    let now = Some(MicroTime(Timestamp::now()));
    let before = lease.spec.take().unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(options.holder.clone()),
        lease_duration_seconds: Some(i32::try_from(options.duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: now.clone(),
        renew_time: now,
        lease_transitions: Some(before.lease_transitions.unwrap_or_default().saturating_add(1)),
        ..before
    });
    lease
}

/// One that we hold on to.
pub(super) fn renewed(mut lease: Lease, options: &Options) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(options.holder.clone());
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    lease
}

/// One that we give back.
pub(super) fn released(mut lease: Lease) -> Lease {
    let spec = lease.spec.get_or_insert_default();
    spec.holder_identity = Some(String::new());
    spec.renew_time = Some(MicroTime(Timestamp::now()));
    lease
}
