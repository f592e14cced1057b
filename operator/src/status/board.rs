//! What is known about all objects, and which of them have to be written next. No I/O and no clock of its own.
//!
//! An object is looked at when something that its status depends on changes: the object, its verdict, a report, who
//! counts, the settings. Mostly nothing follows: the status is as it should be.

mod entry;
mod verdicts;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;
use zen_compile::Snapshot;
use zen_identity::control::Report;
use zen_live::Published;

use super::announce::{Announcement, Budget, announcement};
use super::conditions::{Status, Time};
use super::decide::{Observation, Settings, decide, plane_of};
use super::fleet::{Fleet, Pod, PodId, Turnover};
use super::metrics::{Metrics, Standing};
use super::object::{Id, Kind, Object};
use entry::Entry;
use verdicts::Verdicts;

/// With so many Webhooks times this, `lastVerified` is refreshed: about one write a second for all of them.
const REFRESH_EACH: Duration = Duration::from_secs(1);

/// A status that has to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Of which object.
    pub id: Id,
    /// And of no other of its name.
    pub uid: Box<str>,
    /// All of it.
    pub status: Status,
    /// What is to be said about it as an Event.
    pub announcement: Option<Announcement>,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The API server has it.
    Done,
    /// It does not; try again after this time, unless something changes before.
    Failed(Duration),
}

/// What happened to the objects of one kind, as its watch tells it.
#[derive(Clone, Debug)]
pub enum Seen {
    /// All of them follow.
    Listing(Kind),
    /// One that is there.
    There(Object),
    /// Those were all; what was not among them is gone.
    Listed(Kind),
    /// It is gone.
    Gone(Id),
}

/// Everything that is known.
#[derive(Debug)]
pub struct Board {
    entries: HashMap<Id, Entry>,
    /// Kinds that are being listed, and what was there so far.
    listing: HashMap<Kind, HashSet<Id>>,
    /// Kinds that were listed once: before, an object may be missing.
    listed: HashSet<Kind>,
    verdicts: Verdicts,
    snapshot: Arc<ArcSwap<Snapshot>>,
    fleet: Fleet,
    settings: Option<Settings>,
    queue: VecDeque<Id>,
    timers: BTreeSet<(Instant, Id)>,
    /// The settings and the pods are known, and those that are ready have reported or had their time.
    open: bool,
    pods_known: bool,
    silence: Option<Instant>,
    budget: Budget,
    webhooks: u32,
    metrics: Metrics,
}

impl Board {
    /// Nothing is known yet.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, metrics: Metrics, now: Instant) -> Self {
        Self {
            entries: HashMap::new(),
            listing: HashMap::new(),
            listed: HashSet::new(),
            verdicts: Verdicts::default(),
            snapshot,
            fleet: Fleet::default(),
            settings: None,
            queue: VecDeque::new(),
            timers: BTreeSet::new(),
            open: false,
            pods_known: false,
            silence: None,
            budget: Budget::new(now),
            webhooks: 0,
            metrics,
        }
    }

    /// Takes what a watch saw.
    pub fn seen(&mut self, seen: Seen) {
        match seen {
            Seen::Listing(kind) => drop(self.listing.insert(kind, HashSet::new())),
            Seen::There(object) => {
                let id = object.id.clone();
                if let Some(there) = self.listing.get_mut(&id.kind) {
                    there.insert(id.clone());
                }
                let standing = Some(Standing::of(&object.status));
                let new = if let Some(entry) = self.entries.get_mut(&id) {
                    self.metrics.moved(id.kind, Some(entry.standing()), standing);
                    entry.take(object)
                } else {
                    self.webhooks += u32::from(id.kind == Kind::Webhook);
                    self.metrics.moved(id.kind, None, standing);
                    self.entries.insert(id.clone(), Entry::new(object));
                    true
                };
                if new {
                    self.look_at(id);
                }
            }
            Seen::Listed(kind) => {
                let there = self.listing.remove(&kind).unwrap_or_default();
                let gone = self.entries.keys().filter(|id| id.kind == kind && !there.contains(id));
                for id in gone.cloned().collect::<Vec<_>>() {
                    self.remove(&id);
                }
                if self.listed.insert(kind) {
                    self.look_at_all();
                }
            }
            Seen::Gone(id) => self.remove(&id),
        }
    }

    fn remove(&mut self, id: &Id) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.webhooks -= u32::from(id.kind == Kind::Webhook);
        self.metrics.moved(id.kind, Some(entry.standing()), None);
        if let Some(timer) = entry.timer {
            self.timers.remove(&(timer, id.clone()));
        }
    }

    /// Takes what the compiler says.
    pub fn published(&mut self, published: Arc<Published>) {
        for id in self.verdicts.replace(published) {
            self.look_at(id);
        }
    }

    /// Takes how the mesh is set up.
    pub fn set_up(&mut self, settings: Settings) {
        if self.settings.as_ref() != Some(&settings) {
            self.settings = Some(settings);
            self.look_at_all();
        }
    }

    /// Takes the pods that there are.
    pub fn pods(&mut self, pods: Vec<Pod>, now: Instant) -> Turnover {
        let turnover = self.fleet.set_pods(pods, now);
        self.pods_known = true;
        if turnover.counts {
            self.look_at_all();
        }
        self.silence = self.fleet.silence_counts_at(now);
        turnover
    }

    /// Takes a pod's report.
    pub fn report(&mut self, from: PodId, report: Report, now: Instant) {
        let reported = self.fleet.report(from, report);
        if reported.first {
            self.look_at_all();
        } else {
            for id in reported.changed {
                self.look_at(id);
            }
        }
        self.silence = self.fleet.silence_counts_at(now);
    }

    /// When [`Board::next`] has to be asked again although nothing happens.
    pub fn wake_at(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at).filter(|_| self.open);
        timer.into_iter().chain(self.silence).min()
    }

    /// The next status to write. It is asked again, with [`Board::wrote`] in between or not, until it says none.
    pub fn next(&mut self, now: Instant, wall: Time) -> Option<Write> {
        if self.silence.is_some_and(|at| at <= now) {
            self.silence = self.fleet.silence_counts_at(now);
            self.look_at_all();
        }
        self.open |= self.pods_known && self.silence.is_none() && self.settings.is_some();
        if !self.open {
            return None;
        }
        while let Some((_, id)) = self.timers.first().filter(|(at, _)| *at <= now).cloned() {
            self.timers.pop_first();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.timer = None;
            }
            self.look_at(id);
        }
        while let Some(id) = self.queue.pop_front() {
            if let Some(write) = self.look(&id, now, wall) {
                return Some(write);
            }
        }
        None
    }

    fn look(&mut self, id: &Id, now: Instant, wall: Time) -> Option<Write> {
        let entry = self.entries.get_mut(id)?;
        entry.queued = false;
        if entry.waits_for_landing() || !self.listed.contains(&id.kind) {
            return None;
        }
        let object = &entry.object;
        let verdict = self.verdicts.of(id).filter(|verdict| {
            verdict.uid.as_deref() == Some(&*object.uid) && verdict.observed_generation == Some(object.generation)
        });
        let snapshot = self.snapshot.load();
        let plane = plane_of(object, snapshot.member.is_some());
        let observation = Observation {
            plane,
            object,
            verdict,
            compiled: snapshot.webhooks.get(&id.key).filter(|_| id.kind == Kind::Webhook).map(|webhook| &**webhook),
            replicas: self.fleet.replicas(plane, id, now),
            everywhere: self.fleet.all(id).collect(),
            settings: self.settings.as_ref()?,
            refresh: REFRESH_EACH.saturating_mul(self.webhooks),
            now: wall,
        };
        let decision = decide(&observation);
        let judged = entry.judge(decision, now);
        let at = match judged {
            entry::Judged::Fine => None,
            entry::Judged::Later(at) => Some(at),
            entry::Judged::Write(status) => {
                let announcement = announcement(&entry.object.status, &status).filter(|_| self.budget.take(now));
                let uid = entry.object.uid.clone();
                return Some(Write { id: id.clone(), uid, status, announcement });
            }
        };
        if let Some(at) = at {
            self.set_timer(id, at);
        }
        None
    }

    /// How a write of [`Board::next`] ended.
    pub fn wrote(&mut self, write: Write, written: Written, now: Instant) {
        let Some(entry) = self.entries.get_mut(&write.id) else { return };
        match written {
            Written::Done => {
                let before = entry.standing();
                let again = entry.landed(&write.uid, Some(write.status));
                self.metrics.moved(write.id.kind, Some(before), Some(entry.standing()));
                if again {
                    self.look_at(write.id);
                }
            }
            Written::Failed(after) => {
                entry.landed(&write.uid, None);
                entry.last = None;
                self.set_timer(&write.id, now + after);
            }
        }
    }

    fn set_timer(&mut self, id: &Id, at: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(before) = entry.timer.replace(at) {
            self.timers.remove(&(before, id.clone()));
        }
        self.timers.insert((at, id.clone()));
    }

    fn look_at(&mut self, id: Id) {
        if let Some(entry) = self.entries.get_mut(&id)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.queue.push_back(id);
        }
    }

    fn look_at_all(&mut self) {
        for (id, entry) in &mut self.entries {
            if !std::mem::replace(&mut entry.queued, true) {
                self.queue.push_back(id.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
