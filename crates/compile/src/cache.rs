//! What of the last compilation can be taken over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;
use zen_model::{ClusterId, ObjectKey};

use crate::changes::Inputs;
use crate::place::Claimant;
use crate::resolve::{Digest, Environment, Lookup, Resolver};
use crate::{Destination, LockUse, Mode, Problem, Reference, Webhook, mesh};

/// Memory of one compilation, kept inside its snapshot. A clone shares what is in it.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    pub(crate) ground: Option<Ground>,
    pub(crate) inputs: Inputs,
    pub(crate) webhooks: BTreeMap<ObjectKey, Arc<Entry<zen_crds::Webhook, Webhook>>>,
    pub(crate) destinations: BTreeMap<ObjectKey, Arc<Entry<zen_crds::Destination, Destination>>>,
    /// Where each Webhook wants to be, those that could not be read included.
    pub(crate) claimants: BTreeMap<ObjectKey, Arc<Claimant>>,
    /// Who wants a path and may have it.
    pub(crate) paths: HashMap<Arc<str>, Arc<[ObjectKey]>>,
    /// Webhooks that do not get their place, and who has it.
    pub(crate) winners: BTreeMap<ObjectKey, ObjectKey>,
    /// How many objects name each reference.
    pub(crate) references: BTreeMap<Reference, usize>,
    /// Which object uses which `ZenLock`.
    pub(crate) lock_uses: BTreeSet<LockUse>,
}

/// What decides about every object.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(crate) mode: Mode,
    pub(crate) member: Option<ClusterId>,
    pub(crate) mesh: Option<Arc<mesh::Config>>,
    /// Of all these.
    pub(crate) digest: Digest,
}

impl Cache {
    /// Whether it was made under the same grants.
    pub(crate) fn is_of(&self, environment: &Environment<'_>) -> bool {
        self.ground.as_ref().is_some_and(|ground| ground.digest == environment.digest)
    }

    /// Takes what one object uses now for what it used before.
    pub(crate) fn uses(&mut self, before: &[LockUse], after: &[LockUse]) {
        if before != after {
            for used in before {
                self.lock_uses.remove(used);
            }
            self.lock_uses.extend(after.iter().cloned());
        }
    }

    /// Counts the references of one object anew.
    pub(crate) fn count(&mut self, before: &[Reference], after: &[Reference]) {
        if before == after {
            return;
        }
        for reference in after {
            *self.references.entry(reference.clone()).or_default() += 1;
        }
        for reference in before {
            if let Some(count) = self.references.get_mut(reference) {
                *count -= 1;
                if *count == 0 {
                    self.references.remove(reference);
                }
            }
        }
    }
}

/// One compiled object and everything that it was made of.
#[derive(Debug)]
pub(crate) struct Entry<S, T> {
    pub(crate) source: Arc<S>,
    /// Another Webhook that has this one's place.
    pub(crate) winner: Option<ObjectKey>,
    pub(crate) record: Arc<[(Lookup, Digest)]>,
    pub(crate) compiled: Option<Arc<T>>,
    pub(crate) serving: bool,
    pub(crate) problems: Arc<[Problem]>,
    /// What it names; nothing where it is refused for what stands in itself.
    pub(crate) references: Arc<[Reference]>,
    /// The `ZenLock`s among what it names, alike.
    pub(crate) lock_uses: Arc<[LockUse]>,
    pub(crate) uid: Option<Arc<str>>,
}

impl<S, T> Entry<S, T> {
    /// The same again for an unchanged object, or none when anything that it was made of changed.
    pub(crate) fn again(
        &self,
        source: &Arc<S>,
        winner: Option<&ObjectKey>,
        environment: &Environment<'_>,
        same: impl Fn(&S, &S) -> bool,
        uid: impl Fn(&S) -> Option<Arc<str>>,
    ) -> Option<Self> {
        let unchanged = (Arc::ptr_eq(&self.source, source) || same(&self.source, source))
            && self.winner.as_ref() == winner
            && self.record.iter().all(|(lookup, digest)| environment.digest(lookup) == *digest);
        unchanged.then(|| Self {
            source: Arc::clone(source),
            winner: self.winner.clone(),
            record: Arc::clone(&self.record),
            compiled: self.compiled.clone(),
            serving: self.serving,
            problems: Arc::clone(&self.problems),
            references: Arc::clone(&self.references),
            lock_uses: Arc::clone(&self.lock_uses),
            uid: uid(source),
        })
    }
}

/// Identity of a compiled object: its spec and every answer that it was compiled with. It covers digests of secrets, so
/// that a changed secret changes it; it is not for publication.
pub(crate) fn revision(
    key: &ObjectKey,
    spec: &impl Serialize,
    resolver: Resolver<'_, '_>,
    environment: &Digest,
) -> (u64, Arc<[(Lookup, Digest)]>) {
    let record = resolver.into_record();
    let mut context = Context::new(&SHA256);
    context.update(environment);
    context.update(key.to_string().as_bytes());
    context.update(&serde_json::to_vec(spec).unwrap_or_default());
    for (lookup, digest) in &record {
        context.update(format!("{lookup:?}").as_bytes());
        context.update(digest);
    }
    let mut first = [0; 8];
    first.copy_from_slice(&context.finish().as_ref()[..8]);
    (u64::from_be_bytes(first), record.into())
}
