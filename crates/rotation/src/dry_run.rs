//! What a rotation would do if all went well: `zen rotate --dry-run`.

use crate::{Observed, Phase, Probes, Rotation, Step, Work, decide};

/// More steps than any rotation that goes well has.
const MOST: usize = 1000;

/// The phases that it would go through from here, each with what would be done in it, when every member does at once what it
/// is told and every probe passes.
pub fn dry_run(rotation: &Rotation, seen: &Observed) -> Vec<(Phase, Vec<Work>)> {
    let (mut rotation, mut seen) = (rotation.clone(), seen.clone());
    let mut phases = vec![(rotation.phase.clone(), Vec::new())];
    for _ in 0..MOST {
        match decide(&rotation, &seen) {
            Step::Over => break,
            Step::Wait(until) => seen.now = until,
            Step::Enter(phase) => {
                seen.probes = Probes::default();
                rotation = rotation.enter(phase.clone(), seen.now);
                phases.push((phase, Vec::new()));
            }
            Step::Do(work, until) => {
                obey(&mut seen, &work);
                seen.now = until;
                if let Some((_, works)) = phases.last_mut()
                    && works.last() != Some(&work)
                {
                    works.push(work);
                }
            }
        }
    }
    phases
}

fn obey(seen: &mut Observed, work: &Work) {
    match work {
        Work::Make => seen.is_made = true,
        Work::Probe => seen.probes.passed += 1,
        Work::Trust(which) => {
            seen.newcomers.trust = *which;
            for member in seen.members.values_mut() {
                member.trusts = *which;
            }
        }
        Work::Use { pods, new, everybody } => {
            if *everybody {
                seen.newcomers.use_new = *new;
            }
            for (name, member) in &mut seen.members {
                if pods.contains(name) {
                    (member.uses_new, member.ready) = (*new, true);
                }
            }
        }
    }
}
