//! Which Webhooks are compiled anew, who gets which place, and the routing table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use zen_model::{ObjectKey, ObjectReason};

use crate::cache::{self, Entry};
use crate::changes::{Changes, side_by_side};
use crate::place::{Claim, Claimant, losers};
use crate::resolve::{Environment, Resolver};
use crate::{
    Mode, Place, Refused, Serving, Snapshot, Webhook, locks_of_webhook, references_of_webhook, schema, webhook,
};

type Own = Entry<zen_crds::Webhook, Webhook>;

/// Brings the snapshot into line with the objects.
pub(crate) fn update(environment: &Environment<'_>, changes: &Changes, snapshot: &mut Snapshot) {
    let objects = environment.objects;
    let (mut work, mut moved) = (BTreeSet::new(), BTreeSet::new());
    for (key, entry, source) in side_by_side(&snapshot.cache.webhooks, &objects.webhooks) {
        if !matches!((entry, source), (Some(entry), Some(source)) if Arc::ptr_eq(&entry.source, source)) {
            moved.insert(key.clone());
            work.insert(key.clone());
        } else if entry.is_some_and(|entry| changes.touch(&entry.record)) {
            work.insert(key.clone());
        }
    }
    // One that could not be read keeps its place: nobody else's secrets are asked for there.
    let unread = objects.refused.iter().filter(|refused| refused.place.is_some());
    let unread: BTreeMap<_, _> = unread.map(|refused| (&refused.key, refused)).collect();
    let claimants = snapshot.cache.claimants.iter();
    moved.extend(claimants.filter(|(_, claimant)| claimant.unread.is_some()).map(|(key, _)| key.clone()));
    moved.extend(unread.keys().map(|key| (*key).clone()));

    let mut paths = BTreeSet::new();
    for key in &moved {
        let after = claimant(environment, key, unread.get(key).copied());
        claim(snapshot, key, after, &mut paths);
    }
    for path in &paths {
        decide(snapshot, path, &mut work);
    }
    for key in &work {
        compile(environment, snapshot, key);
        if let Some(claimant) = snapshot.cache.claimants.get(key) {
            paths.insert(Arc::clone(&claimant.path));
        }
    }
    for key in &moved {
        show(snapshot, key);
    }
    for path in &paths {
        route(snapshot, path);
    }
}

fn claimant(environment: &Environment<'_>, key: &ObjectKey, unread: Option<&Refused>) -> Option<Claimant> {
    let (place, created, unread) = match (environment.objects.webhooks.get(key), unread) {
        (Some(source), _) => {
            let hosts = source.spec.hosts.iter().map(|host| &**host);
            // Manifests in a folder have no age, whatever an export left in them.
            let created = source.metadata.creation_timestamp.as_ref().filter(|_| environment.mode != Mode::Standalone);
            let created = created.map(|time| time.0.as_nanosecond());
            (Place::new(key, hosts, source.spec.path.as_deref()), created, None)
        }
        (None, Some(refused)) => {
            let reason = refused.problems.first().map_or(ObjectReason::Invalid, |problem| problem.reason);
            (refused.place.clone()?, None, Some(reason))
        }
        (None, None) => return None,
    };
    let owned = place.is_owned(&key.namespace, environment);
    Some(Claimant { path: place.path.as_str().into(), place, created, owned, unread })
}

/// Takes a changed claim; adds the paths that it was and is about.
fn claim(snapshot: &mut Snapshot, key: &ObjectKey, after: Option<Claimant>, paths: &mut BTreeSet<Arc<str>>) {
    let cache = &mut snapshot.cache;
    let before = cache.claimants.get(key).cloned();
    if before.as_deref() == after.as_ref() {
        return;
    }
    if let Some(before) = before.filter(|before| before.owned) {
        let rest = cache.paths.get(&before.path).map(|all| all.iter().filter(|other| *other != key).cloned().collect());
        match rest.filter(|rest: &Arc<[ObjectKey]>| !rest.is_empty()) {
            Some(rest) => drop(cache.paths.insert(Arc::clone(&before.path), rest)),
            None => drop(cache.paths.remove(&before.path)),
        }
        paths.insert(Arc::clone(&before.path));
    }
    cache.winners.remove(key);
    let Some(after) = after else {
        cache.claimants.remove(key);
        return;
    };
    if after.owned {
        let all = cache.paths.entry(Arc::clone(&after.path)).or_insert_with(|| Arc::from([]));
        *all = all.iter().chain([key]).cloned().collect();
        paths.insert(Arc::clone(&after.path));
    }
    cache.claimants.insert(key.clone(), Arc::new(after));
}

/// Decides who gets a path. Whoever wins or loses what was another's before is compiled anew.
fn decide(snapshot: &mut Snapshot, path: &str, work: &mut BTreeSet<ObjectKey>) {
    let cache = &mut snapshot.cache;
    let Some(all) = cache.paths.get(path).cloned() else { return };
    let claimants: Vec<_> = all.iter().filter_map(|key| Some((key, Arc::clone(cache.claimants.get(key)?)))).collect();
    let claims = claimants.iter().map(|(key, own)| Claim { key, place: &own.place, created: own.created });
    let mut losers = losers(claims.collect());
    for key in &*all {
        let winner = losers.remove(key);
        if cache.winners.get(key) != winner.as_ref() {
            match winner {
                Some(winner) => drop(cache.winners.insert(key.clone(), winner)),
                None => drop(cache.winners.remove(key)),
            }
            work.insert(key.clone());
        }
    }
}

fn compile(environment: &Environment<'_>, snapshot: &mut Snapshot, key: &ObjectKey) {
    let before = snapshot.cache.webhooks.get(key).cloned();
    let source = environment.objects.webhooks.get(key);
    let claimant = snapshot.cache.claimants.get(key).cloned();
    let after = source.zip(claimant).map(|(source, claimant)| {
        entry(environment, key, source, &claimant.place, snapshot.cache.winners.get(key), before.as_deref())
    });
    let references = |entry: Option<&Own>| entry.map_or_else(|| Arc::from([]), |entry| Arc::clone(&entry.references));
    snapshot.cache.count(&references(before.as_deref()), &references(after.as_ref()));
    let uses = |entry: Option<&Own>| entry.map_or_else(|| Arc::from([]), |entry| Arc::clone(&entry.lock_uses));
    snapshot.cache.uses(&uses(before.as_deref()), &uses(after.as_ref()));
    let Some(after) = after else {
        snapshot.cache.webhooks.remove(key);
        snapshot.webhooks.remove(key);
        return;
    };
    if let Some(webhook) = &after.compiled {
        snapshot.webhooks.insert(key.clone(), Arc::clone(webhook));
    }
    snapshot.cache.webhooks.insert(key.clone(), Arc::new(after));
}

fn entry(
    environment: &Environment<'_>,
    key: &ObjectKey,
    source: &Arc<zen_crds::Webhook>,
    place: &Place,
    winner: Option<&ObjectKey>,
    before: Option<&Own>,
) -> Own {
    let uid = |source: &zen_crds::Webhook| source.metadata.uid.as_deref().map(Arc::from);
    let again = before.and_then(|entry| entry.again(source, winner, environment, |a, b| a.spec == b.spec, uid));
    again.unwrap_or_else(|| {
        let mut resolver = Resolver::new(environment);
        let (mut compiled, mut problems) = webhook::compile(&mut resolver, key, &source.spec, place, winner);
        schema("Webhook", key, &source.spec, &mut problems);
        if let (Some(reason), Serving::Active(_)) = (problems.blocking(), &compiled.serving) {
            compiled.serving = Serving::Invalid(reason);
        }
        let (revision, record) = cache::revision(key, &(&source.spec, winner), resolver, &environment.digest);
        let (references, lock_uses) = if problems.is_refused_itself() {
            (Vec::new(), Vec::new())
        } else {
            (references_of_webhook(key, &source.spec), locks_of_webhook(key, &source.spec))
        };
        Entry {
            source: Arc::clone(source),
            winner: winner.cloned(),
            record,
            compiled: Some(Arc::new(Webhook { revision, ..compiled })),
            serving: source.spec.active && problems.blocking().is_none(),
            problems: problems.into_list().into(),
            references: references.into(),
            lock_uses: lock_uses.into(),
            uid: uid(source),
        }
    })
}

/// What answers in the place of one that could not be read.
fn show(snapshot: &mut Snapshot, key: &ObjectKey) {
    let Some(claimant) = snapshot.cache.claimants.get(key) else {
        snapshot.webhooks.remove(key);
        return;
    };
    let Some(reason) = claimant.unread else { return };
    let stands = snapshot.webhooks.get(key).is_some_and(|webhook| {
        matches!(webhook.serving, Serving::Invalid(before) if before == reason)
            && webhook.path == claimant.place.path
            && webhook.hosts == claimant.place.hosts
    });
    if !stands {
        snapshot.webhooks.insert(key.clone(), Arc::new(Webhook::unread(key, &claimant.place, reason)));
    }
}

/// Everything that is served at a path.
fn route(snapshot: &mut Snapshot, path: &Arc<str>) {
    let all = snapshot.cache.paths.get(path);
    let winners = all.into_iter().flat_map(|all| &**all).filter(|key| !snapshot.cache.winners.contains_key(*key));
    let mut served = Vec::new();
    for webhook in winners.filter_map(|key| snapshot.webhooks.get(key)) {
        if webhook.hosts.is_empty() {
            served.push((None, Arc::clone(webhook)));
        }
        served.extend(webhook.hosts.iter().map(|host| (Some(host.as_str().into()), Arc::clone(webhook))));
    }
    if served.is_empty() {
        snapshot.routes.paths.remove(path);
    } else {
        snapshot.routes.paths.insert(Arc::clone(path), served.into());
    }
}
