//! Objects + secrets → one immutable [`Snapshot`] and a verdict per object. Pure, total, deterministic: the same code
//! serves `zen check`, `zen up` and the pods.
//!
//! [`compile`] never fails: an object that cannot work becomes a [`Verdict`] with problems and, for a Webhook, an entry
//! that refuses ([`Serving::Invalid`]); the others go on. What did not change since the snapshot before keeps its `Arc`.

mod cache;
mod credentials;
mod destination;
mod headers;
pub mod mesh;
mod mode;
pub mod network;
mod objects;
mod place;
mod problem;
mod references;
mod resolve;
mod sample;
pub mod select;
mod signing;
mod snapshot;
mod target;
mod tls;
mod verification;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use cache::Cache;
use cache::Entry;
pub use headers::SAFE_HEADERS;
use mode::Share;
pub use mode::{DeliveryMode, Mode, Plane};
pub use objects::*;
use place::Claim;
pub use place::Place;
use problem::Problems;
pub use references::{Reference, ReferenceKind};
use resolve::{Environment, Resolver};
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
}

/// Compiles a configuration. The order of objects and the snapshot before change nothing but the effort.
pub fn compile(objects: &Objects, previous: Option<&Snapshot>, mode: Mode) -> Compiled {
    let environment = Environment::new(objects, mode);
    let empty = Cache::default();
    // Grants decide about every object: when they change, nothing is taken over.
    let cache = previous.map(|snapshot| &snapshot.cache).filter(|cache| cache.environment == environment.digest);
    let cache = cache.unwrap_or(&empty);
    let mut snapshot = Snapshot {
        generation: previous.map_or(1, |snapshot| snapshot.generation + 1),
        mesh: mesh_settings(&environment.mesh),
        cache: Cache { environment: environment.digest, ..Cache::default() },
        ..Snapshot::default()
    };
    let mut verdicts = Vec::with_capacity(objects.webhooks.len() + objects.destinations.len() + objects.refused.len());
    destinations(objects, &environment, cache, &mut snapshot, &mut verdicts);
    if mode.has_webhooks() {
        webhooks(objects, &environment, cache, &mut snapshot, &mut verdicts);
    }
    refused(objects, mode, &mut snapshot, &mut verdicts);
    verdicts.sort_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
    let of_webhooks = snapshot.cache.webhooks.values().flat_map(|entry| entry.references.iter());
    let references = of_webhooks.chain(snapshot.cache.destinations.values().flat_map(|entry| entry.references.iter()));
    let references: BTreeSet<_> = references.cloned().collect();
    Compiled { snapshot, verdicts, references: references.into_iter().collect() }
}

fn mesh_settings(config: &mesh::Config) -> Mesh {
    let quotas = config.grants.iter().filter_map(|(namespace, grant)| Some((namespace.clone(), grant.bytes?)));
    Mesh {
        trust_domain: config.trust_domain.clone(),
        quotas: quotas.collect(),
        drain_delay: config.drain_delay,
        certificate_lifetime: config.certificate_lifetime,
    }
}

fn destinations(
    objects: &Objects,
    environment: &Environment<'_>,
    cache: &Cache,
    snapshot: &mut Snapshot,
    verdicts: &mut Vec<Verdict>,
) {
    for (key, source) in &objects.destinations {
        let delivery = DeliveryMode::of(source.spec.mode);
        let share = environment.mode.share(delivery);
        if share == Share::None {
            continue;
        }
        let again = cache.destinations.get(key);
        let again = again.and_then(|entry| entry.again(source, None, environment, |a, b| a.spec == b.spec));
        let entry = again.unwrap_or_else(|| {
            let mut resolver = Resolver::new(environment);
            let (compiled, mut problems) = destination::compile(&mut resolver, key, &source.spec, share);
            schema("Destination", key, &source.spec, &mut problems);
            let (revision, record) = cache::revision(key, &source.spec, resolver, &environment.digest);
            let serves = problems.blocking().is_none();
            let compiled = compiled.filter(|_| serves).map(|compiled| Arc::new(Destination { revision, ..compiled }));
            let references = match delivery {
                Some(delivery)
                    if !problems.is_refused_itself() && (share == Share::Full || environment.mode.assumes()) =>
                {
                    references::of_destination(key, delivery.plane(), &source.spec)
                }
                _ => Vec::new(),
            };
            let problems = problems.into_list().into();
            let uid = source.metadata.uid.as_deref().map(Arc::from);
            Entry {
                source: Arc::clone(source),
                winner: None,
                record,
                compiled,
                problems,
                references: references.into(),
                uid,
            }
        });
        if let Some(destination) = &entry.compiled {
            snapshot.destinations.insert(key.clone(), Arc::clone(destination));
        } else {
            let reason = entry.problems.iter().map(|problem| problem.reason).find(|reason| !reason.is_warning());
            snapshot.unusable.insert(key.clone(), reason.unwrap_or(ObjectReason::Invalid));
        }
        verdicts.push(Verdict {
            kind: "Destination",
            key: key.clone(),
            serving: entry.compiled.is_some(),
            uid: entry.uid.clone(),
            observed_generation: source.metadata.generation,
            problems: Arc::clone(&entry.problems),
        });
        snapshot.cache.destinations.insert(key.clone(), entry);
    }
}

/// Objects that their source could not read: reported, and known not to be deleted.
fn refused(objects: &Objects, mode: Mode, snapshot: &mut Snapshot, verdicts: &mut Vec<Verdict>) {
    for refused in objects.refused.iter().filter(|refused| refused.kind != "Webhook" || mode.has_webhooks()) {
        let reason = refused.problems.first().map_or(ObjectReason::Invalid, |problem| problem.reason);
        if refused.kind == "Destination" && !snapshot.destinations.contains_key(&refused.key) {
            snapshot.unusable.insert(refused.key.clone(), reason);
        }
        verdicts.push(Verdict {
            kind: refused.kind,
            key: refused.key.clone(),
            serving: false,
            uid: refused.uid.clone(),
            observed_generation: refused.generation,
            problems: refused.problems.clone().into(),
        });
    }
}

fn webhooks(
    objects: &Objects,
    environment: &Environment<'_>,
    cache: &Cache,
    snapshot: &mut Snapshot,
    verdicts: &mut Vec<Verdict>,
) {
    let place = |key: &ObjectKey, spec: &zen_crds::WebhookSpec| {
        Place::new(key, spec.hosts.iter().map(|host| &**host), spec.path.as_deref())
    };
    let places: BTreeMap<_, _> = objects.webhooks.iter().map(|(key, source)| (key, place(key, &source.spec))).collect();
    // One that could not be read keeps its place: nobody else's secrets are asked for there.
    let unread: BTreeMap<_, _> = objects
        .refused
        .iter()
        .filter(|refused| !objects.webhooks.contains_key(&refused.key))
        .filter_map(|refused| Some((&refused.key, (refused.place.as_ref()?, refused))))
        .collect();
    let all =
        places.iter().map(|(key, place)| (*key, place)).chain(unread.iter().map(|(key, (place, _))| (*key, *place)));
    let claims = all.filter(|(key, place)| place.is_owned(&key.namespace, environment)).map(|(key, place)| {
        // Manifests in a folder have no age, whatever an export left in them.
        let source = objects.webhooks.get(key).filter(|_| environment.mode != Mode::Standalone);
        let created = source.and_then(|source| source.metadata.creation_timestamp.as_ref());
        Claim { key, place, created: created.map(|time| time.0.as_nanosecond()) }
    });
    let losers = place::losers(claims.collect());
    for (key, (place, refused)) in unread {
        let reason = refused.problems.first().map_or(ObjectReason::Invalid, |problem| problem.reason);
        let webhook = Arc::new(Webhook::unread(key, place, reason));
        snapshot.webhooks.insert(key.clone(), Arc::clone(&webhook));
        if !losers.contains_key(key) && place.is_owned(&key.namespace, environment) {
            snapshot.routes.insert(&webhook);
        }
    }
    for (key, source) in &objects.webhooks {
        let (winner, place) = (losers.get(key), &places[key]);
        let again = cache.webhooks.get(key);
        let again = again.and_then(|entry| entry.again(source, winner, environment, |a, b| a.spec == b.spec));
        let entry = again.unwrap_or_else(|| {
            let mut resolver = Resolver::new(environment);
            let (mut compiled, mut problems) = webhook::compile(&mut resolver, key, &source.spec, place, winner);
            schema("Webhook", key, &source.spec, &mut problems);
            if let (Some(reason), Serving::Active(_)) = (problems.blocking(), &compiled.serving) {
                compiled.serving = Serving::Invalid(reason);
            }
            let (revision, record) = cache::revision(key, &(&source.spec, winner), resolver, &environment.digest);
            let compiled = Some(Arc::new(Webhook { revision, ..compiled }));
            let own = !problems.is_refused_itself();
            let references = if own { references::of_webhook(key, &source.spec) } else { Vec::new() };
            let (source, winner) = (Arc::clone(source), winner.cloned());
            let (problems, references) = (problems.into_list().into(), references.into());
            let uid = source.metadata.uid.as_deref().map(Arc::from);
            Entry { source, winner, record, compiled, problems, references, uid }
        });
        if let Some(webhook) = &entry.compiled {
            snapshot.webhooks.insert(key.clone(), Arc::clone(webhook));
            if winner.is_none() && place.is_owned(&key.namespace, environment) {
                snapshot.routes.insert(webhook);
            }
            verdicts.push(Verdict {
                kind: "Webhook",
                key: key.clone(),
                serving: source.spec.active && !matches!(webhook.serving, Serving::Invalid(_)),
                uid: entry.uid.clone(),
                observed_generation: source.metadata.generation,
                problems: Arc::clone(&entry.problems),
            });
        }
        snapshot.cache.webhooks.insert(key.clone(), entry);
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

impl RoutingTable {
    fn insert(&mut self, webhook: &Arc<Webhook>) {
        let entries = self.paths.entry(webhook.path.as_str().into()).or_default();
        if webhook.hosts.is_empty() {
            entries.push((None, Arc::clone(webhook)));
        }
        for host in &webhook.hosts {
            entries.push((Some(host.as_str().into()), Arc::clone(webhook)));
        }
    }
}
