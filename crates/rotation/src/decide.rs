//! What is to be done next.

use std::collections::BTreeSet;

use zen_model::Timestamp;
use zen_model::reason::RotationReason;

use crate::{Half, Member, Observed, Phase, Rotation};

/// The next thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Do this; doing it again does no harm. Then look again, at the latest at this time.
    Do(Work, Timestamp),
    /// Store that it is in this phase, and decide again.
    Enter(Phase),
    /// Look again at this time.
    Wait(Timestamp),
    /// Nothing, ever.
    Over,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Make the new material.
    Make,
    /// Let everybody trust these, also who comes later.
    Trust(Which),
    /// Let these members use the new or the old.
    Use {
        /// Names of members.
        pods: BTreeSet<String>,
        /// Whether the new.
        new: bool,
        /// Whether also who comes later.
        everybody: bool,
    },
    /// Run a round of probes.
    Probe,
}

/// What is trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// The old alone.
    #[default]
    Old,
    /// Both.
    Both,
    /// The new alone.
    New,
}

/// The decision.
pub fn decide(rotation: &Rotation, seen: &Observed) -> Step {
    let on = On { rotation, seen };
    match &rotation.phase {
        Phase::Finished | Phase::RolledBack { .. } => Step::Over,
        Phase::RollingBack { failure } => on.rolling_back(*failure),
        Phase::Distrusting { failure } => on.distrusting(*failure),
        Phase::Retiring => on.retiring(),
        phase => on.failing().map_or_else(|| on.forward(phase), back),
    }
}

fn back(failure: RotationReason) -> Step {
    Step::Enter(Phase::RollingBack { failure })
}

#[derive(Clone, Copy)]
struct On<'a> {
    rotation: &'a Rotation,
    seen: &'a Observed,
}

impl On<'_> {
    /// Why it must not go on, whatever the phase before the point of no return.
    fn failing(self) -> Option<RotationReason> {
        if self.seen.aborted {
            Some(RotationReason::RotationAborted)
        } else if self.rotation.phase == Phase::Planned {
            // Nothing was done that anything could come from.
            None
        } else if self.seen.probes.failed {
            Some(RotationReason::ProbeFailed)
        } else if self.seen.errors_raised {
            Some(RotationReason::ErrorsRaised)
        } else {
            None
        }
    }

    fn forward(self, phase: &Phase) -> Step {
        match phase {
            Phase::Planned if !self.seen.is_made => self.patiently(Work::Make, RotationReason::MaterialNotMade),
            Phase::Planned => Step::Enter(Phase::Trusting),
            // From here on everybody trusts both, also who has just come.
            _ if !self.trusts_both() => match phase {
                // It lasts for hours, and who has come a moment ago is no reason to go back.
                Phase::Overlap => Step::Do(Work::Trust(Which::Both), self.soon()),
                _ => self.patiently(Work::Trust(Which::Both), RotationReason::TrustNotSpread),
            },
            Phase::Trusting => self.canary(),
            Phase::Canary { pods } => {
                let living = self.living(pods);
                if living.is_empty() && !self.seen.members.is_empty() {
                    return self.canary();
                }
                let pending = self.pending(Some(&living));
                if pending.is_empty() {
                    return Step::Enter(Phase::Probing { pods: living });
                }
                self.patiently(Work::Use { pods: pending, new: true, everybody: false }, RotationReason::CanaryStuck)
            }
            Phase::Probing { pods } => {
                let living = self.living(pods);
                if (living.is_empty() && !self.seen.members.is_empty()) || !self.pending(Some(&living)).is_empty() {
                    return Step::Enter(Phase::Canary { pods: pods.clone() });
                }
                let soaked = self.rotation.elapsed(self.seen.now) >= self.rotation.plan.soak();
                self.probed(soaked, Phase::RollingOut)
            }
            Phase::RollingOut => {
                if self.uses_new() {
                    return Step::Enter(Phase::Verifying);
                }
                let pods = self.pending(None);
                self.patiently(Work::Use { pods, new: true, everybody: true }, RotationReason::RolloutStuck)
            }
            Phase::Verifying if !self.uses_new() => Step::Enter(Phase::RollingOut),
            Phase::Verifying => self.probed(true, Phase::Overlap),
            _ if !self.uses_new() => Step::Enter(Phase::RollingOut),
            _ => match self.seen.old_until.filter(|until| self.seen.now < *until) {
                Some(until) => Step::Wait(until.min(self.soon())),
                None => Step::Enter(Phase::Retiring),
            },
        }
    }

    /// One of each half of an event's way that works, so that the events of probes go through the new, and then the first of all names: who
    /// decides again chooses the same.
    fn canary(self) -> Step {
        let count = self.rotation.plan.canary(self.seen.members.len());
        let half = |half| self.seen.named(move |member| member.ready && member.half == Some(half)).next();
        let mut pods: BTreeSet<_> = [Half::Takes, Half::Delivers].into_iter().filter_map(half).cloned().collect();
        let ready = self.seen.named(|member| member.ready);
        let others = self.seen.named(|member| !member.ready);
        for pod in ready.chain(others) {
            if pods.len() >= count {
                break;
            }
            pods.insert(pod.clone());
        }
        Step::Enter(Phase::Canary { pods })
    }

    fn probed(self, long_enough: bool, next: Phase) -> Step {
        if long_enough && self.seen.probes.passed >= self.rotation.plan.probes {
            return Step::Enter(next);
        }
        let patience = self.rotation.plan.patience() + self.rotation.plan.soak();
        if self.rotation.elapsed(self.seen.now) > patience {
            return back(RotationReason::ProbesMissing);
        }
        Step::Do(Work::Probe, self.soon())
    }

    /// No way back: some trust the new alone already. It is done as far as it can be, however long that takes.
    fn retiring(self) -> Step {
        if self.seen.newcomers.trust == Which::Old || !self.seen.all(|member| member.trusts != Which::Old) {
            Step::Do(Work::Trust(Which::Both), self.soon())
        } else if !self.uses_new() {
            Step::Do(Work::Use { pods: self.pending(None), new: true, everybody: true }, self.soon())
        } else if self.seen.newcomers.trust == Which::New && self.seen.all(|member| member.trusts == Which::New) {
            Step::Enter(Phase::Finished)
        } else {
            Step::Do(Work::Trust(Which::New), self.soon())
        }
    }

    fn rolling_back(self, failure: RotationReason) -> Step {
        let pods: BTreeSet<_> = self.seen.named(|member| member.uses_new).cloned().collect();
        if pods.is_empty() && !self.seen.newcomers.use_new {
            return Step::Enter(Phase::Distrusting { failure });
        }
        Step::Do(Work::Use { pods, new: false, everybody: true }, self.soon())
    }

    fn distrusting(self, failure: RotationReason) -> Step {
        if self.seen.newcomers.use_new || !self.seen.all(|member| !member.uses_new) {
            Step::Enter(Phase::RollingBack { failure })
        } else if self.seen.newcomers.trust == Which::Old && self.seen.all(|member| member.trusts == Which::Old) {
            Step::Enter(Phase::RolledBack { failure })
        } else {
            Step::Do(Work::Trust(Which::Old), self.soon())
        }
    }

    /// Does it again until it shows, or until waiting helps no more.
    fn patiently(self, work: Work, failure: RotationReason) -> Step {
        if self.rotation.elapsed(self.seen.now) > self.rotation.plan.patience() {
            back(failure)
        } else {
            Step::Do(work, self.soon())
        }
    }

    /// Everybody who is there, and everybody who comes.
    fn trusts_both(self) -> bool {
        self.seen.newcomers.trust == Which::Both && self.seen.all(|member| member.trusts == Which::Both)
    }

    fn uses_new(self) -> bool {
        self.seen.newcomers.use_new && self.pending(None).is_empty()
    }

    fn living(self, pods: &BTreeSet<String>) -> BTreeSet<String> {
        pods.iter().filter(|pod| self.seen.members.contains_key(*pod)).cloned().collect()
    }

    /// Who does not use the new yet, or does not work with it; of these, or of all.
    fn pending(self, of: Option<&BTreeSet<String>>) -> BTreeSet<String> {
        let is_pending = |member: &Member| !member.uses_new || !member.ready;
        self.seen.named(is_pending).filter(|name| of.is_none_or(|of| of.contains(*name))).cloned().collect()
    }

    fn soon(self) -> Timestamp {
        self.seen.now.plus(self.rotation.plan.interval())
    }
}
