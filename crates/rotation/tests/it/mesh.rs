//! A mesh that does what it is told late, in part, or not at all, and whose pods come and go.

use std::time::Duration;

use zen_model::Timestamp;
use zen_rotation::{Half, Member, Newcomers, Observed, Rotation, Step, Which, Work, decide};

/// Something that goes wrong, or just happens.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// Time passes.
    Wait(u16),
    /// A pod comes.
    Comes,
    /// One goes.
    Goes(u8),
    /// One stops working.
    Breaks(u8),
    /// One works again.
    Mends(u8),
    /// The clock goes back.
    ClockBack(u16),
    /// The next probe fails.
    ProbeFails,
    /// Requests fail.
    Errors,
    /// Somebody takes it back.
    Abort,
    /// Of what is to be done, only the first so many pods do it this time.
    Slow(u8),
    /// The operator ends after it has done something, before it has stored or seen anything more.
    Restart,
}

pub struct Mesh {
    pub rotation: Rotation,
    pub seen: Observed,
    /// How many pods obey at once.
    speed: usize,
    made: usize,
    probe_fails: bool,
}

impl Mesh {
    pub fn new(rotation: Rotation, pods: usize) -> Self {
        let seen = Observed { now: rotation.started, ..Observed::default() };
        let mut mesh = Self { rotation, seen, speed: usize::MAX, made: 0, probe_fails: false };
        for _ in 0..pods {
            mesh.comes();
        }
        mesh
    }

    fn comes(&mut self) {
        let Newcomers { trust: trusts, use_new: uses_new } = self.seen.newcomers;
        // One of each, and of neither.
        let half = [None, Some(Half::Delivers), Some(Half::Takes)][self.made % 3];
        let member = Member { half, ready: true, trusts, uses_new };
        self.seen.members.insert(format!("pod-{:03}", self.made), member);
        self.made += 1;
    }

    pub fn happens(&mut self, event: Event) {
        let nth =
            |seen: &Observed, at: u8| seen.members.keys().nth(usize::from(at) % seen.members.len().max(1)).cloned();
        match event {
            Event::Wait(seconds) => self.seen.now = self.seen.now.plus(Duration::from_secs(seconds.into())),
            Event::ClockBack(seconds) => {
                self.seen.now = Timestamp(self.seen.now.0.saturating_sub(1000 * u64::from(seconds)));
            }
            Event::Comes => self.comes(),
            Event::Goes(at) => {
                if let Some(name) = nth(&self.seen, at) {
                    self.seen.members.remove(&name);
                }
            }
            Event::Breaks(at) | Event::Mends(at) => {
                if let Some(name) = nth(&self.seen, at) {
                    let member = self.seen.members.get_mut(&name).expect("there");
                    member.ready = matches!(event, Event::Mends(_));
                }
            }
            Event::ProbeFails => self.probe_fails = true,
            Event::Errors => self.seen.errors_raised = true,
            Event::Abort => self.seen.aborted = true,
            Event::Slow(speed) => self.speed = speed.into(),
            Event::Restart => {
                let stored = serde_json::to_string(&self.rotation).expect("written");
                self.rotation = serde_json::from_str(&stored).expect("read");
            }
        }
    }

    /// One look of the operator. False when it is over.
    pub fn step(&mut self) -> bool {
        match decide(&self.rotation, &self.seen) {
            Step::Over => return false,
            Step::Wait(until) => self.seen.now = self.seen.now.max(until),
            Step::Enter(phase) => {
                self.seen.probes = zen_rotation::Probes::default();
                self.rotation = self.rotation.enter(phase, self.seen.now);
            }
            Step::Do(work, until) => {
                self.obey(&work);
                self.seen.now = self.seen.now.max(until);
            }
        }
        true
    }

    fn obey(&mut self, work: &Work) {
        let mut left = self.speed;
        match work {
            Work::Make => self.seen.is_made = true,
            Work::Probe if self.probe_fails => self.seen.probes.failed = true,
            Work::Probe => self.seen.probes.passed += 1,
            Work::Trust(which) => {
                self.seen.newcomers.trust = *which;
                for member in self.seen.members.values_mut() {
                    if left > 0 && member.trusts != *which {
                        member.trusts = *which;
                        left -= 1;
                    }
                }
            }
            Work::Use { pods, new, everybody } => {
                if *everybody {
                    self.seen.newcomers.use_new = *new;
                }
                for (name, member) in &mut self.seen.members {
                    if left > 0 && pods.contains(name) && member.uses_new != *new {
                        member.uses_new = *new;
                        left -= 1;
                    }
                }
            }
        }
    }

    /// That every pod takes every other: no request fails for what is exchanged.
    pub fn connects(&self) -> Result<(), String> {
        for (one, server) in &self.seen.members {
            for (other, client) in &self.seen.members {
                let distrusted = if client.uses_new { Which::Old } else { Which::New };
                if server.trusts == distrusted {
                    let phase = &self.rotation.phase;
                    return Err(format!("{phase:?}: {one} {server:?} does not take {other} {client:?}"));
                }
            }
        }
        Ok(())
    }
}
