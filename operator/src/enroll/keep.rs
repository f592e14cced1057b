//! The loop of the leader: bundles come to be, and the status of each enrollment says how it stands.
//!
//! Level-triggered: whatever changes, every enrollment is decided about anew from what is there. There are few of them, and
//! one that stands as it should costs no write.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut, stream};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::Api;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_crds::{BundleData, ClusterEnrollment, ClusterEnrollmentStatus, Phase};
use zen_enroll::bundle::{MakeError, fingerprints};
use zen_enroll::secrets::Secrets;
use zen_enroll::{Bundle, Stamp};
use zen_model::reason::{ConditionReason, EnrollRefusal};
use zen_model::{ClusterId, Timestamp};

use super::branches::Branches;
use super::cluster::Cluster;
use super::decide::{Facts, Setup, Step, decide, issued, unfit};
use super::lead::Lead;
use super::state::Enrollment;
use super::{Inner, record};
use crate::names;
use crate::watching::Watched;
use crate::writer::{Error, Notice, Requeue};

/// Enrollments at one time.
const AT_ONCE: usize = 16;
/// Clocks and silences are looked at this often.
const LOOK: Duration = Duration::from_secs(15);
/// The root key is read again this often: one that was restored from a backup may be another.
const BRANCHES: Duration = Duration::from_mins(1);
/// Between two tries of one that failed: doubled each time, up to this often.
const BACKOFF: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 6;
const EVENT: Duration = Duration::from_secs(5);

/// An enrollment that could not be written.
#[derive(Clone, Copy, Debug)]
struct Failed {
    times: u32,
    until: Instant,
}

pub(super) async fn run(inner: &Inner, lead: &Lead, shutdown: CancellationToken) -> Result<(), Error> {
    let resource = ApiResource::erase::<ClusterEnrollment>(&());
    let api: Api<DynamicObject> = Api::all_with(inner.client.clone(), &resource);
    let events = watcher(api, watcher::Config::default().page_size(100)).default_backoff();
    pin_mut!(events);
    let (mut watched, mut settings) = (Watched::new("ClusterEnrollment"), inner.settings.clone());
    let mut bundles = inner.identity.bundles();
    let since = inner.identity.now();
    let mut failed: HashMap<ClusterId, Failed> = HashMap::new();
    let (mut listing, mut listed, mut branches_at) = (Vec::new(), false, None::<Instant>);
    loop {
        if branches_at.is_none_or(|at| at.elapsed() >= BRANCHES) {
            read_branches(inner, lead).await;
            branches_at = lead.branches.load().is_some().then(Instant::now);
        }
        if listed {
            round(inner, lead, since, &mut failed).await?;
        }
        let wake = failed.values().map(|failed| failed.until).min().unwrap_or_else(|| Instant::now() + LOOK);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(event) = events.next() => {
                match watched.heard(event) {
                    Some(watcher::Event::Init) => listing.clear(),
                    Some(watcher::Event::InitApply(object)) => {
                        if let Some(enrollment) = Enrollment::read(object) {
                            listing.push(enrollment.cluster.clone());
                            lead.put(enrollment);
                        }
                    }
                    Some(watcher::Event::InitDone) => {
                        lead.keep(&listing);
                        listed = true;
                    }
                    Some(watcher::Event::Apply(object)) => {
                        if let Some(enrollment) = Enrollment::read(object) {
                            lead.put(enrollment);
                        }
                    }
                    Some(watcher::Event::Delete(object)) => {
                        if let Some(enrollment) = Enrollment::read(object) {
                            lead.forget(&enrollment.cluster, Some(&enrollment.uid));
                            failed.remove(&enrollment.cluster);
                        }
                    }
                    None => {}
                }
            }
            () = tokio::time::sleep_until(wake.min(Instant::now() + LOOK)) => {}
            () = lead.changed.notified() => {}
            Ok(()) = settings.changed() => drop(settings.borrow_and_update()),
            Ok(()) = bundles.changed() => drop(bundles.borrow_and_update()),
        }
    }
}

/// Every enrollment once.
async fn round(
    inner: &Inner,
    lead: &Lead,
    since: Timestamp,
    failed: &mut HashMap<ClusterId, Failed>,
) -> Result<(), Error> {
    let now = Instant::now();
    let setup = setup(inner, lead);
    let all = lead.all();
    inner.metrics.clusters(all.iter().map(|enrollment| &enrollment.status));
    let clusters = all.iter().filter_map(|it| Cluster::of(it, lead.told(&it.cluster), inner.identity.now()));
    inner.clusters_are(clusters.collect());
    let is_due = |it: &Arc<Enrollment>| failed.get(&it.cluster).is_none_or(|failed| failed.until <= now);
    let due: Vec<_> = all.into_iter().filter(is_due).collect();
    let work = due.into_iter().map(|enrollment| {
        let setup = &setup;
        async move {
            let connected = lead.connected(&enrollment.cluster, since, inner.identity.now());
            let facts = Facts { enrollment: &enrollment, setup, connected, now: inner.identity.now() };
            (enrollment.cluster.clone(), one(inner, lead, &facts).await)
        }
    });
    let mut outcomes = stream::iter(work).buffer_unordered(AT_ONCE);
    while let Some((cluster, outcome)) = outcomes.next().await {
        match outcome {
            Ok(()) => drop(failed.remove(&cluster)),
            Err(error) if error.requeue() == Requeue::Never => return Err(error),
            // What is there now comes by the watch.
            Err(Error::Conflict(_) | Error::Gone(_)) => {
                failed.insert(cluster, Failed { times: 0, until: now + BACKOFF });
            }
            Err(error) => {
                tracing::warn!(%cluster, %error, "failed to write the status of an enrollment; trying again");
                let times = failed.get(&cluster).map_or(0, |failed| failed.times + 1).min(MOST_DOUBLINGS);
                failed.insert(cluster, Failed { times, until: now + BACKOFF * 2_u32.pow(times) });
            }
        }
    }
    Ok(())
}

async fn one(inner: &Inner, lead: &Lead, facts: &Facts<'_>) -> Result<(), Error> {
    let enrollment = facts.enrollment;
    let status = match decide(facts) {
        Step::Leave => return Ok(()),
        Step::Say(status) => *status,
        Step::Make(stamp) => match make(inner, lead, enrollment, &stamp) {
            Ok(data) => {
                let ttl = ttl(enrollment);
                issued(facts, &stamp, ttl, data)
            }
            Err(why) => unfit(facts, &why),
        },
    };
    if status == enrollment.status {
        return Ok(());
    }
    let after = lead.swap(enrollment, status).await?;
    told(inner, lead, enrollment, &after).await;
    Ok(())
}

/// Whether bundles can be made.
fn setup(inner: &Inner, lead: &Lead) -> Setup {
    let configured = inner.settings.borrow().content.clone();
    match configured.as_ref().map(|workloads| workloads.hub.as_ref()) {
        None => return Setup::NotReady("the settings of the mesh are not read yet".to_owned()),
        Some(None) => {
            return Setup::NotConfigured("This mesh enrolls no clusters: set the chart's value hub.enabled to true.");
        }
        Some(Some(hub)) if hub.url.is_empty() => {
            return Setup::NotConfigured(
                "Nobody could find this hub: set the chart's value hub.url to where members reach it, such as \
                 https://hub.example.com:8445.",
            );
        }
        Some(Some(_)) => {}
    }
    if lead.branches.load().is_none() {
        return Setup::NotReady(format!("the Secret {} is not there, or holds no root key", names::ROOT));
    }
    if inner.identity.bundle().is_none() {
        return Setup::NotReady("there is no trust bundle".to_owned());
    }
    Setup::Ready
}

/// A bundle; in words why there can be none.
fn make(inner: &Inner, lead: &Lead, enrollment: &Enrollment, stamp: &Stamp) -> Result<BundleData, String> {
    let recipient = enrollment.spec.recipient.parse().map_err(|error| format!("spec.recipient: {error}"))?;
    let (Some(hub), Some(branches), Some(roots)) = (inner.hub(), lead.branches.load_full(), inner.identity.bundle())
    else {
        return Err("the settings of the hub changed just now".to_owned());
    };
    let secrets = Secrets::derive(&branches.enroll, &enrollment.cluster, stamp);
    let about = (inner.mesh.trust_domain(), hub.url.as_str(), &*roots);
    let bundle = Bundle::make(&enrollment.cluster, stamp, ttl(enrollment), about, &secrets, &recipient);
    let bundle = bundle.map_err(|error: MakeError| error.to_string())?;
    let (clear, sealed) = bundle.data();
    let fingerprints = fingerprints(&roots).map_err(str::to_owned)?;
    Ok(BundleData { clear: clear.to_owned(), sealed: sealed.to_owned(), fingerprints })
}

fn ttl(enrollment: &Enrollment) -> Duration {
    // The schema refuses what is no duration.
    enrollment.spec.ttl.to_duration().unwrap_or(Duration::from_mins(30))
}

/// Transitions are said where people look, and stand in the audit log.
async fn told(inner: &Inner, lead: &Lead, before: &Enrollment, after: &Enrollment) {
    let condition =
        |of: &ClusterEnrollmentStatus| of.conditions.first().map(|it| (it.status.clone(), it.reason.clone()));
    let (was, is) = (condition(&before.status), condition(&after.status));
    let new_bundle = after.status.bundle.as_ref().filter(|bundle| bundle.data.is_some());
    let old_bundle = before.status.bundle.as_ref();
    let message = after.status.conditions.first().map(|it| it.message.clone()).unwrap_or_default();
    let phase = |enrollment: &Enrollment| enrollment.status.phase;
    let (warning, reason, done) = if let Some(bundle) = new_bundle
        && old_bundle.is_none_or(|old| old.issued_at != bundle.issued_at || old.id != bundle.id)
    {
        (false, ConditionReason::BundleIssued.code(), "made a bundle")
    } else if phase(after) == Some(Phase::Disabled) && phase(before) != Some(Phase::Disabled) {
        (false, EnrollRefusal::EnrollmentDisabled.code(), "revoked the cluster")
    } else if old_bundle.is_some_and(|old| old.data.is_some() && old.used_at.is_none())
        && after.status.bundle.as_ref().is_some_and(|bundle| bundle.data.is_none() && bundle.used_at.is_none())
        && is.as_ref().is_some_and(|(status, _)| status == "True")
    {
        (true, EnrollRefusal::BundleExpired.code(), "ended a bundle that nobody used")
    } else if was != is
        && let Some((status, reason)) = is
        && status == "False"
    {
        say(lead, after, true, &reason, &message).await;
        return;
    } else {
        return;
    };
    let bundle = after.status.bundle.as_ref().map(|bundle| bundle.id.0.as_str()).unwrap_or_default();
    inner.identity.note(record::administered(inner, &after.cluster, done).detail("bundle", bundle));
    tracing::info!(cluster = %after.cluster, bundle, "{done}");
    say(lead, after, warning, reason, &message).await;
}

/// An Event on an enrollment. Whoever reports goes on without.
pub(super) async fn say(lead: &Lead, about: &Enrollment, warning: bool, reason: &str, note: &str) {
    let resource = ApiResource::erase::<ClusterEnrollment>(&());
    let regarding = ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        namespace: Some(about.cluster.tenant().to_string()),
        name: Some(about.cluster.cluster().to_string()),
        uid: Some(about.uid.clone()),
        ..ObjectReference::default()
    };
    let notice = Notice { warning, reason, action: "Enroll", note };
    if let Ok(Err(error)) = tokio::time::timeout(EVENT, lead.writer.event(&regarding, &notice)).await {
        tracing::debug!(%error, "failed to write an Event");
    }
}

/// The root key as it is now. While it cannot be read, what was read last counts.
async fn read_branches(inner: &Inner, lead: &Lead) {
    let api: Api<Secret> = Api::namespaced(inner.client.clone(), inner.mesh.namespace());
    let only = ListParams::default().fields(&format!("metadata.name={}", names::ROOT));
    let listed = match tokio::time::timeout(EVENT, api.list(&only)).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => return tracing::debug!(%error, "failed to read the root key"),
        Err(_) => return,
    };
    match Branches::of(listed.items.first()) {
        Ok(branches) => lead.branches.store(Some(branches.into())),
        Err(reason) => {
            tracing::debug!(%reason, "there is no root key");
            lead.branches.store(None);
        }
    }
}
