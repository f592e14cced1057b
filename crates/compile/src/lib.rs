//! Objects + secrets → one immutable [`Snapshot`] and a verdict per object. Pure, total, deterministic: the same code
//! serves `zen check`, `zen up` and the pods.
//!
//! [`compile`] never fails: an object that cannot work becomes a [`Verdict`] with problems and, for a Webhook, an entry
//! that refuses ([`Serving::Invalid`]); the others go on. What did not change since the snapshot before keeps its `Arc`.

mod cache;
mod changes;
mod credentials;
mod destination;
mod destinations;
mod enrolled;
mod headers;
mod locks;
pub mod mesh;
mod mode;
pub mod network;
mod objects;
mod place;
mod problem;
mod references;
mod relay;
mod resolve;
mod sample;
pub mod select;
mod signing;
mod snapshot;
mod target;
mod tls;
mod verification;
mod webhook;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

pub use cache::Cache;
use cache::{Entry, Ground};
use changes::{Changes, Inputs};
pub use enrolled::{Enrolled, KeyVersion};
pub use headers::SAFE_HEADERS;
pub use locks::{Access, Judged, LockData, LockUse, Unlisted, Withheld, locks_of_destination, locks_of_webhook};
pub use mode::{DeliveryMode, Mode, Plane};
pub use objects::*;
pub use place::Place;
use problem::Problems;
pub use references::{Reference, ReferenceKind, references_of_destination, references_of_webhook};
use resolve::Environment;
pub use signing::signing_config;
pub use snapshot::*;
pub use target::{Canonical, canonical};
use zen_model::{ObjectKey, ObjectReason};

/// A compiled configuration.
#[derive(Debug)]
pub struct Compiled {
    /// What requests and deliveries look things up in.
    pub snapshot: Snapshot,
    /// One verdict per object that the mode compiles, by kind and key.
    pub verdicts: Vec<Verdict>,
    /// The Secrets and `ConfigMap`s that accepted objects name, each once and sorted, whether they exist or not. An
    /// object that is refused for what stands in itself gets nothing read for it.
    pub references: Vec<Reference>,
    /// The `ZenLock`s that accepted objects name, for each of them, sorted.
    pub lock_uses: Vec<LockUse>,
}

/// Compiles a configuration. The order of objects and the snapshot before change nothing but the effort.
pub fn compile(objects: &Objects, previous: Option<&Snapshot>, mode: Mode) -> Compiled {
    let environment = Environment::new(objects, mode, previous.map(|snapshot| &snapshot.cache));
    let generation = previous.map_or(1, |snapshot| snapshot.generation + 1);
    // Grants decide about every object: when they change, nothing is taken over.
    let before = previous.filter(|snapshot| snapshot.cache.is_of(&environment));
    let mut snapshot = before.map(Snapshot::again).unwrap_or_default();
    snapshot.generation = generation;
    snapshot.mesh = mesh_settings(&environment);
    snapshot.clusters.clone_from(&objects.clusters);
    snapshot.member.clone_from(&objects.member);
    let mut changes = Changes::between(&snapshot.cache.inputs, objects);
    destinations::update(&environment, &mut changes, &mut snapshot);
    if mode.has_webhooks() {
        webhooks::update(&environment, &changes, &mut snapshot);
    }
    snapshot.cache.inputs = Inputs::of(objects);
    snapshot.cache.ground =
        Some(Ground { mode, member: objects.member.clone(), mesh: objects.mesh.clone(), digest: environment.digest });
    let verdicts = verdicts(objects, &snapshot, mode);
    let references = snapshot.cache.references.keys().cloned().collect();
    let lock_uses = snapshot.cache.lock_uses.iter().cloned().collect();
    Compiled { snapshot, verdicts, references, lock_uses }
}

fn mesh_settings(environment: &Environment<'_>) -> Mesh {
    let config = &environment.mesh;
    let quotas = config.grants.iter().filter_map(|(namespace, grant)| Some((namespace.clone(), grant.bytes?)));
    Mesh {
        trust_domain: config.trust_domain.clone(),
        quotas: quotas.collect(),
        drain_delay: if environment.permissive { Duration::ZERO } else { config.drain_delay },
        certificate_lifetime: config.certificate_lifetime,
    }
}

fn verdicts(objects: &Objects, snapshot: &Snapshot, mode: Mode) -> Vec<Verdict> {
    let cache = &snapshot.cache;
    let mut verdicts = Vec::with_capacity(cache.destinations.len() + cache.webhooks.len() + objects.refused.len());
    verdicts.extend(
        cache
            .destinations
            .iter()
            .map(|(key, entry)| verdict("Destination", key, entry, entry.source.metadata.generation)),
    );
    verdicts.extend(
        cache.webhooks.iter().map(|(key, entry)| verdict("Webhook", key, entry, entry.source.metadata.generation)),
    );
    // Objects that their source could not read: reported, and known not to be deleted.
    let refused = objects.refused.iter().filter(|refused| refused.kind != "Webhook" || mode.has_webhooks());
    verdicts.extend(refused.map(|refused| Verdict {
        kind: refused.kind,
        key: refused.key.clone(),
        serving: false,
        uid: refused.uid.clone(),
        observed_generation: refused.generation,
        problems: refused.problems.clone().into(),
    }));
    if !objects.refused.is_empty() {
        verdicts.sort_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
    }
    verdicts
}

fn verdict<S, T>(kind: &'static str, key: &ObjectKey, entry: &Entry<S, T>, generation: Option<i64>) -> Verdict {
    Verdict {
        kind,
        key: key.clone(),
        serving: entry.serving,
        uid: entry.uid.clone(),
        observed_generation: generation,
        problems: Arc::clone(&entry.problems),
    }
}

/// What the API server would refuse. Objects of a cluster passed it already, but perhaps with an older schema.
fn schema(kind: &'static str, key: &ObjectKey, spec: &impl serde::Serialize, problems: &mut Problems) {
    let object = serde_json::json!({
        "apiVersion": zen_crds::API_VERSION,
        "kind": kind,
        "metadata": {"namespace": key.namespace.as_str(), "name": key.name.as_str()},
        "spec": spec,
    });
    for problem in zen_crds::validate(kind, &object) {
        // The compiler's own words come first where both noticed.
        if !problems.has_field(&problem.field) {
            problems.block(ObjectReason::Invalid, problem.field, problem.message);
        }
    }
}
