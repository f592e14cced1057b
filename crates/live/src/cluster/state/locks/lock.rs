//! One `ZenLock` that objects use.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use zen_compile::{LockData, Withheld};
use zen_crds::{Subject, SubjectKind};
use zen_model::reason::LockRefusal;
use zen_model::{LockReason, Name, Secret};

use crate::cluster::kinds::{LockHead, LockVersion};
use crate::cluster::unseal::Refused;

/// An object that uses it.
pub(super) type Owner = (SubjectKind, Name);
/// What is in it.
type Values = BTreeMap<String, Result<Secret, LockReason>>;

/// What was refused, or could not be opened, is asked again after so long at most. A change that mends it is told by the
/// watch, or by its status; this is for what nobody tells.
const AGAIN: Duration = Duration::from_mins(2);

/// What is known of it.
#[derive(Debug, Default)]
pub(super) struct Lock {
    /// As it was opened last; none while nobody may have it.
    values: Option<Values>,
    owners: BTreeMap<Owner, Seat>,
    /// As the watch told it last; none while it does not exist.
    version: Option<LockVersion>,
    revision: Option<String>,
    subjects: Vec<Subject>,
    /// A question about it is on its way: a later answer is never older than an earlier one.
    pub(super) asking: bool,
}

/// One object's share.
#[derive(Debug, Default)]
struct Seat {
    verdict: Option<Result<(), Withheld>>,
    /// The version that the verdict is about.
    of: Option<LockVersion>,
    /// Asked again then, whatever the version.
    again: Option<Instant>,
    failures: u32,
}

impl Lock {
    /// Makes these the objects that use it, as the watch knows it; whether they were others.
    pub(super) fn align(&mut self, owners: &BTreeSet<Owner>, head: Option<&LockHead>) -> bool {
        if self.owners.keys().eq(owners) {
            return false;
        }
        self.owners.retain(|owner, _| owners.contains(owner));
        for owner in owners {
            self.owners.entry(owner.clone()).or_default();
        }
        self.follow(head, Instant::now());
        true
    }

    /// Takes what the watch knows of it.
    pub(super) fn follow(&mut self, head: Option<&LockHead>, now: Instant) {
        let Some(head) = head else {
            let owners = std::mem::take(&mut self.owners).into_keys();
            let owners = owners.map(|owner| (owner, Seat::default())).collect();
            *self = Self { owners, asking: self.asking, ..Self::default() };
            return;
        };
        if self.version.as_ref().is_some_and(|before| before.uid != head.version.uid) {
            self.follow(None, now);
        }
        let changed = self.version.as_ref() != Some(&head.version);
        let touched = self.revision != head.revision;
        self.version = Some(head.version.clone());
        self.revision.clone_from(&head.revision);
        self.subjects.clone_from(&head.subjects);
        for (owner, seat) in &mut self.owners {
            if !lists(&self.subjects, owner) {
                *seat = Seat::default();
            } else if changed {
                (seat.again, seat.failures) = (None, 0);
            } else if touched && seat.again.is_some() {
                seat.again = Some(now);
            }
        }
        self.forget();
    }

    /// What nobody may have is not kept.
    fn forget(&mut self) {
        if !self.owners.values().any(|seat| seat.verdict == Some(Ok(()))) {
            self.values = None;
        }
    }

    /// For whom it is to be asked now, and when the next is due.
    pub(super) fn due(&self, now: Instant) -> (Vec<Owner>, Option<Instant>) {
        if self.asking || self.version.is_none() {
            return (Vec::new(), None);
        }
        let listed = self.owners.iter().filter(|(owner, _)| lists(&self.subjects, owner));
        let (mut due, mut next) = (Vec::new(), None);
        for (owner, seat) in listed {
            match seat.again {
                Some(at) if at > now => next = [next, Some(at)].into_iter().flatten().min(),
                Some(_) => due.push(owner.clone()),
                None if seat.of != self.version => due.push(owner.clone()),
                None => {}
            }
        }
        (due, next)
    }

    /// Takes an answer about a version of it.
    pub(super) fn take(
        &mut self,
        version: &LockVersion,
        values: Option<Values>,
        verdicts: Vec<(Owner, Option<&Refused>)>,
        now: Instant,
    ) {
        // Other keys of the mesh may open what these do not; one object asks for all.
        let mut closed =
            values.iter().flat_map(|values| values.values()).any(|value| value == &Err(LockReason::UnknownKey));
        for (owner, refused) in verdicts {
            let Some(seat) = self.owners.get_mut(&owner) else { continue };
            seat.of = Some(version.clone());
            seat.again = None;
            let is_open = refused.is_none() && values.is_some();
            if is_open {
                seat.verdict = Some(Ok(()));
                if !std::mem::take(&mut closed) {
                    seat.failures = 0;
                    continue;
                }
            } else {
                let withheld = withheld(refused);
                // Only that the object is not on the list takes what it has.
                if withheld.reason == LockReason::SubjectNotAllowed || seat.verdict != Some(Ok(())) {
                    seat.verdict = Some(Err(withheld));
                }
            }
            seat.failures = seat.failures.saturating_add(1);
            seat.again = Some(now + backoff(seat.failures, AGAIN));
        }
        if values.is_some() {
            self.values = values;
        }
        self.forget();
    }

    /// Nobody answered; whether somebody is to be told.
    pub(super) fn unanswered(&mut self, why: &Arc<str>) -> bool {
        let mut told = false;
        for (owner, seat) in &mut self.owners {
            let unopened =
                !matches!(&seat.verdict, Some(Ok(()) | Err(Withheld { reason: LockReason::SubjectNotAllowed, .. })));
            if unopened && lists(&self.subjects, owner) {
                let withheld = Withheld { reason: LockReason::UnsealUnavailable, why: Arc::clone(why) };
                seat.verdict = Some(Err(withheld));
                told = true;
            }
        }
        told
    }

    /// As the compiler takes it.
    pub(super) fn show(&self, head: &LockHead) -> LockData {
        let judged = self.owners.iter().filter_map(|(owner, seat)| Some((owner.clone(), seat.verdict.clone()?)));
        LockData::new(head.subjects.clone(), self.values.clone().unwrap_or_default()).judged(judged.collect())
    }

    pub(super) fn is_answered(&self) -> bool {
        self.owners.iter().all(|(owner, seat)| seat.verdict.is_some() || !lists(&self.subjects, owner))
    }

    pub(super) fn is_settled(&self, kind: SubjectKind, name: &Name) -> bool {
        let owner = (kind, name.clone());
        let Some(seat) = self.owners.get(&owner) else { return false };
        match &seat.verdict {
            Some(Ok(())) => true,
            Some(Err(withheld)) => withheld.reason == LockReason::SubjectNotAllowed,
            None => !lists(&self.subjects, &owner),
        }
    }
}

fn lists(subjects: &[Subject], (kind, name): &Owner) -> bool {
    subjects.iter().any(|own| own.kind == *kind && *own.name == *name.as_str())
}

fn withheld(refused: Option<&Refused>) -> Withheld {
    let Some(Refused { reason, message }) = refused else {
        let why = "the unseal API answered about other ZenLocks; it is asked again";
        return Withheld { reason: LockReason::UnsealUnavailable, why: why.into() };
    };
    match reason {
        Some(LockRefusal::SubjectNotAllowed) => {
            Withheld { reason: LockReason::SubjectNotAllowed, why: message.as_str().into() }
        }
        Some(LockRefusal::KeysUnavailable) => Withheld { reason: LockReason::NoIdentity, why: message.as_str().into() },
        reason => {
            let code = reason.map_or("unknown code", LockRefusal::code);
            let why = format!("the unseal API refuses it ({code}): {message}").into();
            Withheld { reason: LockReason::UnsealUnavailable, why }
        }
    }
}

/// Ever longer, jittered, so that many pods do not come back at once.
pub(super) fn backoff(failures: u32, longest: Duration) -> Duration {
    let ceiling = Duration::from_millis(200 << failures.min(10)).min(longest);
    ceiling.mul_f64(fastrand::f64().mul_add(0.5, 0.5))
}
