//! Which Destinations are compiled anew, and where they stand in the snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use zen_model::{ObjectKey, ObjectReason};

use crate::cache::{self, Entry};
use crate::changes::{Changes, side_by_side};
use crate::mode::Share;
use crate::resolve::{Environment, Lookup, Resolver};
use crate::{
    DeliveryMode, Destination, Snapshot, destination, locks_of_destination, references_of_destination, relay, schema,
};

type Own = Entry<zen_crds::Destination, Destination>;

/// Brings the snapshot into line with the objects. Adds to `changes` whose consent may be another.
pub(crate) fn update(environment: &Environment<'_>, changes: &mut Changes, snapshot: &mut Snapshot) {
    let objects = environment.objects;
    let refused = objects.refused.iter().filter(|refused| refused.kind == "Destination");
    let refused: BTreeMap<_, _> = refused
        .map(|refused| {
            let reason = refused.problems.first().map_or(ObjectReason::Invalid, |problem| problem.reason);
            (refused.key.clone(), reason)
        })
        .collect();
    let mut work = Vec::new();
    for (key, entry, source) in side_by_side(&snapshot.cache.destinations, &objects.destinations) {
        let same = matches!((entry, source), (Some(entry), Some(source)) if Arc::ptr_eq(&entry.source, source));
        if same && !entry.is_some_and(|entry| changes.touch(&entry.record)) {
            continue;
        }
        work.push(key.clone());
    }
    for key in work {
        let source = objects.destinations.get(&key);
        let before = snapshot.cache.destinations.get(&key).cloned();
        if consent_of(before.as_ref().map(|entry| &entry.source)) != consent_of(source) {
            changes.consents.insert(key.clone());
        }
        let after = source.and_then(|source| entry(environment, &key, source, before.as_deref()));
        let references =
            |entry: Option<&Own>| entry.map_or_else(|| Arc::from([]), |entry| Arc::clone(&entry.references));
        snapshot.cache.count(&references(before.as_deref()), &references(after.as_ref()));
        let uses = |entry: Option<&Own>| entry.map_or_else(|| Arc::from([]), |entry| Arc::clone(&entry.lock_uses));
        snapshot.cache.uses(&uses(before.as_deref()), &uses(after.as_ref()));
        match after {
            Some(after) => drop(snapshot.cache.destinations.insert(key.clone(), Arc::new(after))),
            None => drop(snapshot.cache.destinations.remove(&key)),
        }
        place(snapshot, &key, refused.get(&key).copied());
    }
    if snapshot.cache.inputs.incomplete != objects.incomplete {
        // What is missing is unknown now, or the other way round.
        let records = snapshot.cache.webhooks.values().flat_map(|entry| entry.record.iter());
        let asked = records.filter_map(|(lookup, _)| match lookup {
            Lookup::Consent { destination, .. } => Some(destination),
            _ => None,
        });
        changes.consents.extend(asked.filter(|key| !objects.destinations.contains_key(*key)).cloned());
    }
    let before = std::mem::take(&mut snapshot.cache.inputs.refused);
    for key in before.iter().filter(|key| !refused.contains_key(*key)).chain(refused.keys()) {
        if before.contains(key) != refused.contains_key(key) {
            changes.consents.insert(key.clone());
        }
        place(snapshot, key, refused.get(key).copied());
    }
}

/// What consent is made of.
fn consent_of(
    source: Option<&Arc<zen_crds::Destination>>,
) -> Option<(Option<&zen_crds::AllowFrom>, Option<&[zen_crds::ForwardedHeader]>)> {
    source.map(|source| {
        (source.spec.allow_from.as_ref(), source.spec.headers.as_ref().map(|headers| headers.forward.as_slice()))
    })
}

/// None where another plane compiles it.
fn entry(
    environment: &Environment<'_>,
    key: &ObjectKey,
    source: &Arc<zen_crds::Destination>,
    before: Option<&Own>,
) -> Option<Own> {
    let relay = relay::relay(environment, key, &source.spec);
    let share = environment.mode.share(DeliveryMode::of(source.spec.mode), relay);
    if share == Share::None {
        return None;
    }
    let uid = |source: &zen_crds::Destination| source.metadata.uid.as_deref().map(Arc::from);
    let again = before.and_then(|entry| entry.again(source, None, environment, |a, b| a.spec == b.spec, uid));
    Some(again.unwrap_or_else(|| {
        let mut resolver = Resolver::new(environment);
        let (compiled, mut problems) = destination::compile(&mut resolver, key, &source.spec, share, relay);
        schema("Destination", key, &source.spec, &mut problems);
        let (revision, record) = cache::revision(key, &source.spec, resolver, &environment.digest);
        let serves = problems.blocking().is_none();
        let compiled = compiled.filter(|_| serves).map(|compiled| Arc::new(Destination { revision, ..compiled }));
        let names = relay::is_read(environment.mode, &source.spec, share, relay);
        let names = names && !problems.is_refused_itself();
        let (references, lock_uses) = if names {
            (references_of_destination(key, &source.spec), locks_of_destination(key, &source.spec))
        } else {
            (Vec::new(), Vec::new())
        };
        Entry {
            source: Arc::clone(source),
            winner: None,
            record,
            serving: compiled.is_some(),
            compiled,
            problems: problems.into_list().into(),
            references: references.into(),
            lock_uses: lock_uses.into(),
            uid: uid(source),
        }
    }))
}

/// Puts one where it belongs: in effect, known and unusable, or nowhere.
fn place(snapshot: &mut Snapshot, key: &ObjectKey, refused: Option<ObjectReason>) {
    let entry = snapshot.cache.destinations.get(key);
    if let Some(destination) = entry.and_then(|entry| entry.compiled.clone()) {
        snapshot.unusable.remove(key);
        snapshot.destinations.insert(key.clone(), destination);
        return;
    }
    snapshot.destinations.remove(key);
    let own = entry.map(|entry| {
        let blocking = entry.problems.iter().map(|problem| problem.reason).find(|reason| !reason.is_warning());
        blocking.unwrap_or(ObjectReason::Invalid)
    });
    match refused.or(own) {
        Some(reason) => drop(snapshot.unusable.insert(key.clone(), reason)),
        None => drop(snapshot.unusable.remove(key)),
    }
}
