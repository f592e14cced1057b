//! `ZenLock`s: which there are, what was opened of them and for whom, and what is to be asked when. Pure, as everything here.
//!
//! * The list of who may use one comes with the watch and counts at once; so does that it is gone.
//! * What is in one goes on being used while nobody answers, and is forgotten when nobody uses it or may use it any more.
//! * A changed one is asked for again, for each object that names it; so is one that could not be opened, when its status
//!   changes or after a while: the keys of the mesh may be others by then.

mod lock;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lock::Lock;
use tokio::time::Instant;
use zen_compile::{LockUse, Objects, Plane, Unlisted};
use zen_lock::wire::{MAX_BATCH, MAX_BATCH_LOCKS};
use zen_model::ObjectKey;

use crate::cluster::kinds::{LockHead, LockVersion};
use crate::cluster::unseal::{Unanswered, Unsealed};
use crate::cluster::watch::Signal;

/// Questions at one time: a start with thousands of objects must not be a storm.
const ASKING: usize = 4;

/// The `ZenLock`s of one plane.
#[derive(Debug)]
pub(super) struct Locks {
    plane: Plane,
    /// All that there are.
    heads: BTreeMap<ObjectKey, Arc<LockHead>>,
    unlisted: Unlisted,
    /// The watch has told something, be it a refusal.
    heard: bool,
    /// Those that objects of this plane use.
    used: BTreeMap<ObjectKey, Lock>,
    /// Uses of the configuration in effect, …
    named: Vec<LockUse>,
    /// … and of objects that came into force since.
    recent: Vec<LockUse>,
    unaligned: bool,
    /// What the compiler knows of these is not what is known here.
    dirty: BTreeSet<ObjectKey>,
    asking: usize,
    /// Something may be due that was not.
    stale: bool,
    /// When the next is due by itself.
    next: Option<Instant>,
    /// Nobody answers: how often in a row, and when to ask again.
    failures: u32,
    rest_until: Option<Instant>,
}

/// A question.
#[derive(Clone, Debug, Default)]
pub(in crate::cluster) struct Ask {
    /// What is asked for.
    pub(in crate::cluster) uses: Vec<LockUse>,
    /// Of which version, as far as it is known.
    versions: BTreeMap<ObjectKey, LockVersion>,
}

impl Locks {
    pub(super) const fn new(plane: Plane) -> Self {
        Self {
            plane,
            heads: BTreeMap::new(),
            unlisted: Unlisted::Unread,
            heard: false,
            used: BTreeMap::new(),
            named: Vec::new(),
            recent: Vec::new(),
            unaligned: true,
            dirty: BTreeSet::new(),
            asking: 0,
            stale: true,
            next: None,
            failures: 0,
            rest_until: None,
        }
    }

    /// What is named changed.
    pub(super) const fn unaligned(&mut self) {
        self.unaligned = true;
    }

    /// An object came into force that uses these.
    pub(super) fn came(&mut self, uses: Vec<LockUse>) {
        self.unaligned |= !uses.is_empty();
        self.recent.extend(uses);
    }

    /// A configuration was compiled that uses these.
    pub(super) fn compiled(&mut self, uses: &[LockUse]) {
        self.unaligned |= !self.recent.is_empty() || self.named != uses;
        self.recent.clear();
        uses.clone_into(&mut self.named);
    }

    /// Keeps what is used by the configuration in effect, by what came into force since, and by versions that wait.
    pub(super) fn align<'a>(&'a mut self, staged: impl Iterator<Item = &'a LockUse>) {
        if !std::mem::take(&mut self.unaligned) {
            return;
        }
        let own = self.named.iter().chain(&self.recent).chain(staged).filter(|used| used.plane == self.plane);
        let mut wanted: BTreeMap<ObjectKey, BTreeSet<lock::Owner>> = BTreeMap::new();
        for used in own {
            wanted.entry(used.lock.clone()).or_default().insert((used.kind, used.name.clone()));
        }
        let gone: Vec<_> = self.used.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
        for key in gone {
            self.used.remove(&key);
            self.dirty.insert(key);
        }
        for (key, owners) in wanted {
            let head = self.heads.get(&key);
            if self.used.entry(key.clone()).or_default().align(&owners, head.map(|head| &**head)) {
                self.dirty.insert(key);
                self.stale = true;
            }
        }
    }

    /// Takes what the watch told.
    pub(super) fn hear(&mut self, signal: Signal<Arc<LockHead>>, now: Instant) {
        match signal {
            Signal::Apply(key, head) => {
                self.heads.insert(key.clone(), head);
                self.follow(&key, now);
            }
            Signal::Delete(key) => {
                self.heads.remove(&key);
                self.follow(&key, now);
            }
            Signal::Reset(found) => {
                self.heads = found.into_iter().collect();
                self.unlisted = Unlisted::Absent;
                for key in self.used.keys().cloned().collect::<Vec<_>>() {
                    self.follow(&key, now);
                }
            }
            // What was told stays true.
            Signal::Failed { forbidden } => {
                if forbidden && self.unlisted == Unlisted::Unread {
                    self.unlisted = Unlisted::Forbidden;
                }
            }
        }
        self.heard = true;
    }

    fn follow(&mut self, key: &ObjectKey, now: Instant) {
        if let Some(lock) = self.used.get_mut(key) {
            lock.follow(self.heads.get(key).map(|head| &**head), now);
            self.dirty.insert(key.clone());
            self.stale = true;
        }
    }

    /// What is to be asked now.
    pub(super) fn asks(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        if self.rest_until.is_some_and(|until| now < until) || !self.stale && self.next.is_none_or(|next| now < next) {
            return asks;
        }
        (self.stale, self.next) = (false, None);
        let mut ask = Ask::default();
        for (key, lock) in &mut self.used {
            let Some(head) = self.heads.get(key) else { continue };
            let (due, next) = lock.due(now);
            self.next = [self.next, next].into_iter().flatten().min();
            if due.is_empty() {
                continue;
            }
            if asks.len() + self.asking == ASKING {
                // What is answered next makes room.
                self.stale = true;
                break;
            }
            // What does not fit is due when the others were answered.
            let room = MAX_BATCH - ask.uses.len();
            let uses = due.into_iter().take(room);
            ask.uses.extend(uses.map(|(kind, name)| LockUse { lock: key.clone(), kind, name, plane: self.plane }));
            ask.versions.insert(key.clone(), head.version.clone());
            lock.asking = true;
            if ask.versions.len() == MAX_BATCH_LOCKS || ask.uses.len() == MAX_BATCH {
                asks.push(std::mem::take(&mut ask));
            }
        }
        if !ask.uses.is_empty() {
            asks.push(ask);
        }
        self.asking += asks.len();
        asks
    }

    /// Takes what was answered.
    pub(super) fn answered(&mut self, ask: &Ask, answer: Result<Unsealed, Unanswered>, now: Instant) {
        self.asking = self.asking.saturating_sub(1);
        self.stale = true;
        for key in ask.versions.keys() {
            if let Some(lock) = self.used.get_mut(key) {
                lock.asking = false;
            }
        }
        let Unsealed { mut opened, refused } = match answer {
            Ok(answer) => answer,
            Err(why) => return self.unanswered(&why, now),
        };
        (self.failures, self.rest_until) = (0, None);
        for (key, version) in &ask.versions {
            let uid = self.heads.get(key).map(|head| &head.version.uid);
            let Some(lock) = self.used.get_mut(key) else { continue };
            // Of one that was deleted meanwhile nothing is taken.
            if uid != Some(&version.uid) {
                continue;
            }
            let values = opened.remove(key);
            let uses = ask.uses.iter().filter(|used| used.lock == *key);
            let verdicts = uses.map(|used| ((used.kind, used.name.clone()), refused.get(used))).collect();
            lock.take(version, values, verdicts, now);
            lock.follow(self.heads.get(key).map(|head| &**head), now);
            self.dirty.insert(key.clone());
        }
    }

    fn unanswered(&mut self, why: &Unanswered, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let rest = lock::backoff(self.failures, Duration::from_secs(30));
        if matches!(self.failures, 1 | 10) || self.failures.is_multiple_of(100) {
            tracing::warn!(error = %why, failures = self.failures, ?rest, "ZenLocks cannot be opened; those in memory go on being used");
        }
        let until = now + rest;
        self.rest_until = Some(self.rest_until.map_or(until, |before| before.max(until)));
        let why: Arc<str> = format!("{why}; it is asked again").into();
        for (key, lock) in &mut self.used {
            if lock.unanswered(&why) {
                self.dirty.insert(key.clone());
            }
        }
    }

    /// Hands what changed to the compiler; whether anything did.
    pub(super) fn show(&mut self, objects: &mut Objects) -> bool {
        let mut changed = std::mem::replace(&mut objects.unlisted, self.unlisted) != self.unlisted;
        let shown = objects.zen_locks.get_or_insert_default();
        for key in std::mem::take(&mut self.dirty) {
            let now = self.used.get(&key).zip(self.heads.get(&key)).map(|(lock, head)| lock.show(head));
            changed |= match now {
                Some(now) if shown.get(&key).is_some_and(|before| **before == now) => false,
                Some(now) => {
                    shown.insert(key, Arc::new(now));
                    true
                }
                None => shown.remove(&key).is_some(),
            };
        }
        changed
    }

    /// When something is due by itself.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = if self.stale && self.asking < ASKING { self.rest_until } else { self.next };
        due.map(|due| self.rest_until.map_or(due, |until| due.max(until)))
    }

    /// Whether everything that is used was opened, or there is an answer why not.
    pub(super) fn are_answered(&self) -> bool {
        let mut used = self.used.iter();
        self.heard && !self.unaligned && used.all(|(key, lock)| !self.heads.contains_key(key) || lock.is_answered())
    }

    /// Whether an object that waits for it need not wait any longer: it is open for it, or will not be.
    pub(super) fn is_settled(&self, used: &LockUse) -> bool {
        if !self.heads.contains_key(&used.lock) {
            return self.unlisted == Unlisted::Absent;
        }
        self.used.get(&used.lock).is_some_and(|lock| lock.is_settled(used.kind, &used.name))
    }
}

#[cfg(test)]
mod tests;
