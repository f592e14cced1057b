//! What the leader knows: the enrollments as they were seen last, the branches of the root key, nonces, and who was heard when.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::Notify;
use zen_crds::{ClusterEnrollment, ClusterEnrollmentStatus};
use zen_enroll::proof::{Proof, SKEW};
use zen_enroll::{Fresh, Holds, Replays};
use zen_model::{ClusterId, Timestamp};

use super::branches::Branches;
use super::cluster::Told;
use super::state::Enrollment;
use crate::Writer;
use crate::writer;

/// Nonces of one key: a member asks every half minute, and a proof is good for ten.
const NONCES: usize = 1024;
/// Keys whose nonces are remembered.
const KEYS: usize = 16_384;
/// Longer than two of its requests may take.
const SILENT: Duration = Duration::from_secs(90);
/// Reading one object takes milliseconds.
const READ: Duration = Duration::from_secs(4);

pub(super) struct Lead {
    client: Client,
    pub(super) writer: Writer,
    /// When this replica began to lead, and to remember nonces.
    since: Timestamp,
    pub(super) branches: ArcSwapOption<Branches>,
    enrollments: Mutex<BTreeMap<ClusterId, Arc<Enrollment>>>,
    replays: Mutex<HashMap<String, (Timestamp, Replays)>>,
    heard: Mutex<HashMap<ClusterId, Timestamp>>,
    told: Mutex<HashMap<ClusterId, Told>>,
    /// Something changed that the loop of the leader writes down.
    pub(super) changed: Notify,
}

impl Lead {
    pub(super) fn new(client: Client, writer: Writer, since: Timestamp) -> Self {
        Self {
            client,
            writer,
            since,
            branches: ArcSwapOption::empty(),
            enrollments: Mutex::default(),
            replays: Mutex::default(),
            heard: Mutex::default(),
            told: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// What was seen last of one.
    pub(super) fn seen(&self, cluster: &ClusterId) -> Option<Arc<Enrollment>> {
        locked(&self.enrollments).get(cluster).cloned()
    }

    /// What was seen last of all.
    pub(super) fn all(&self) -> Vec<Arc<Enrollment>> {
        locked(&self.enrollments).values().cloned().collect()
    }

    /// Takes what a watch tells, or what was just written, unless something newer is known already.
    pub(super) fn put(&self, enrollment: Enrollment) {
        let version = |enrollment: &Enrollment| enrollment.resource_version.parse::<u64>().unwrap_or_default();
        let mut enrollments = locked(&self.enrollments);
        let known = enrollments.get(&enrollment.cluster);
        if known.is_none_or(|known| known.uid != enrollment.uid || version(known) <= version(&enrollment)) {
            enrollments.insert(enrollment.cluster.clone(), Arc::new(enrollment));
        }
    }

    /// It is gone.
    pub(super) fn forget(&self, cluster: &ClusterId, uid: Option<&str>) {
        let mut enrollments = locked(&self.enrollments);
        if enrollments.get(cluster).is_some_and(|known| uid.is_none_or(|uid| known.uid == uid)) {
            enrollments.remove(cluster);
            locked(&self.heard).remove(cluster);
            locked(&self.told).remove(cluster);
        }
    }

    /// Only these are there.
    pub(super) fn keep(&self, there: &[ClusterId]) {
        locked(&self.enrollments).retain(|cluster, _| there.contains(cluster));
    }

    /// One as the API server has it now.
    pub(super) async fn look(&self, cluster: &ClusterId) -> Result<Option<Enrollment>, String> {
        look(&self.client, cluster).await
    }

    /// Compare-and-swap of the whole status.
    pub(super) async fn swap(
        &self,
        before: &Enrollment,
        status: ClusterEnrollmentStatus,
    ) -> Result<Enrollment, writer::Error> {
        let value = serde_json::to_value(&status).unwrap_or(Value::Null);
        let version = self.writer.swap_status(&before.target(), &value, &before.resource_version).await?;
        let after = Enrollment { resource_version: version, status, ..before.clone() };
        self.put(after.clone());
        Ok(after)
    }

    /// Whether another leader may have heard this before: it is of the time when it led, and nobody here knows its nonces. Whoever
    /// made it makes another one, which a replay cannot.
    pub(super) fn may_be_known(&self, proof: &Proof) -> bool {
        proof.at().0 / 1000 <= self.since.0 / 1000
    }

    /// Notes the nonce of a proof that was verified, is in time, and was made with the key of this name.
    pub(super) fn note(&self, key: &str, proof: &Proof, now: Timestamp) -> Fresh {
        let mut replays = locked(&self.replays);
        if replays.len() >= KEYS && !replays.contains_key(key) {
            // Whatever came then is out of time by now.
            replays.retain(|_, (last, _)| now < last.plus(2 * SKEW));
            if replays.len() >= KEYS {
                return Fresh::Full;
            }
        }
        let (last, seen) = replays.entry(key.to_owned()).or_insert_with(|| (now, Replays::new(NONCES)));
        *last = now;
        seen.note(proof, now)
    }

    /// A member asked.
    pub(super) fn hear(&self, cluster: &ClusterId, now: Timestamp) {
        locked(&self.heard).insert(cluster.clone(), now);
        if self.seen(cluster).is_some_and(|seen| seen.status.connected != Some(true)) {
            self.changed.notify_one();
        }
    }

    /// A member said what it has.
    pub(super) fn tell(&self, cluster: &ClusterId, holds: &Holds, now: Timestamp) {
        let mut told = locked(&self.told);
        let before = told.get(cluster);
        if before.is_some_and(|before| before.holds == *holds) {
            return;
        }
        let since = before.filter(|before| before.holds.roots == holds.roots).map_or(now, |before| before.since);
        told.insert(cluster.clone(), Told { holds: holds.clone(), since });
        self.changed.notify_one();
    }

    /// What it said last; none: it says nothing, or nothing yet to this process.
    pub(super) fn told(&self, cluster: &ClusterId) -> Option<Told> {
        locked(&self.told).get(cluster).cloned()
    }

    /// Whether a cluster was heard lately; none: this process leads for too short a time to say.
    pub(super) fn connected(&self, cluster: &ClusterId, leads_since: Timestamp, now: Timestamp) -> Option<bool> {
        let heard = locked(&self.heard).get(cluster).copied();
        match heard {
            Some(heard) if now < heard.plus(SILENT) => Some(true),
            _ => (now >= leads_since.plus(SILENT)).then_some(false),
        }
    }
}

/// One as the API server has it now. A list of one name needs no right beside that to watch it.
pub(super) async fn look(client: &Client, cluster: &ClusterId) -> Result<Option<Enrollment>, String> {
    let resource = ApiResource::erase::<ClusterEnrollment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), cluster.tenant().as_str(), &resource);
    let only = ListParams::default().fields(&format!("metadata.name={}", cluster.cluster()));
    let listed = tokio::time::timeout(READ, api.list(&only)).await.map_err(|_| "no answer within 4 s".to_owned())?;
    let listed = listed.map_err(|error| error.to_string())?;
    // By its name once more: whatever answered a list, nothing else is decided about.
    let found = listed.items.into_iter().filter_map(Enrollment::read).find(|found| found.cluster == *cluster);
    Ok(found)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
