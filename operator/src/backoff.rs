//! When an object may be written again: after failures ever later, and after corrections that do not last, too.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::object::Id;
use crate::writer::{Error, Outcome, Requeue};

/// After the first failure, doubled up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(500);
/// No object waits longer for its next try.
pub const LONGEST: Duration = Duration::from_mins(1);
/// What only a change can mend is looked at again so often: what stands in the way is not always watched.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// So long after its last trouble an object is one like any other.
const FORGIVEN: Duration = Duration::from_mins(10);
/// So often may somebody undo our work before we take our time.
const PATIENCE: u32 = 5;

/// With so many objects it is looked which are forgiven; later with twice as many as were left.
const FEW: usize = 1024;

/// The objects with trouble, or written lately. Those that went are forgotten as well.
#[derive(Debug, Default)]
pub struct Backoff {
    troubles: HashMap<Id, Trouble>,
    prune_at: usize,
}

#[derive(Debug)]
struct Trouble {
    failures: u32,
    corrections: u32,
    last: Instant,
    not_before: Instant,
}

impl Backoff {
    /// The earliest time at which an object may be written.
    pub fn earliest(&self, id: &Id, now: Instant) -> Instant {
        self.troubles.get(id).map_or(now, |trouble| trouble.not_before.max(now))
    }

    /// Takes note of how a write ended. When it has to be tried again, says when; none: when something changes.
    ///
    /// # Errors
    ///
    /// The error, when the process has to end.
    pub fn note(&mut self, id: &Id, outcome: Result<Outcome, Error>, now: Instant) -> Result<Option<Instant>, Error> {
        match outcome {
            Ok(Outcome::Unchanged) => {
                if let Some(trouble) = self.troubles.get_mut(id) {
                    (trouble.failures, trouble.not_before) = (0, trouble.not_before.min(now));
                    if now.duration_since(trouble.last) > FORGIVEN {
                        self.troubles.remove(id);
                    }
                }
                Ok(None)
            }
            Ok(Outcome::Created | Outcome::Applied | Outcome::Deleted) => {
                let trouble = self.trouble(id, now);
                (trouble.failures, trouble.corrections) = (0, trouble.corrections + 1);
                let fight = trouble.corrections.saturating_sub(PATIENCE);
                trouble.not_before = now + if fight == 0 { Duration::ZERO } else { jittered(fight) };
                Ok(None)
            }
            Err(error) => {
                let wait = match error.requeue() {
                    Requeue::Never => return Err(error),
                    Requeue::Change => LOOK_AGAIN.mul_f64(0.75 + fastrand::f64() / 2.0),
                    Requeue::Transient(after) => {
                        jittered(self.trouble(id, now).failures + 1).max(after.unwrap_or_default())
                    }
                };
                let trouble = self.trouble(id, now);
                trouble.failures += 1;
                trouble.not_before = now + wait;
                Ok(Some(trouble.not_before))
            }
        }
    }

    /// What is wanted changed: an earlier refusal may not hold any more.
    pub fn reconsider(&mut self, id: &Id, now: Instant) {
        if let Some(trouble) = self.troubles.get_mut(id) {
            // What we change ourselves is no fight.
            (trouble.corrections, trouble.not_before) = (0, trouble.not_before.min(now));
        }
    }

    fn trouble(&mut self, id: &Id, now: Instant) -> &mut Trouble {
        if self.troubles.len() >= self.prune_at.max(FEW) {
            self.troubles.retain(|_, it| it.not_before > now || now.duration_since(it.last) <= FORGIVEN);
            self.prune_at = 2 * self.troubles.len();
        }
        let new = || Trouble { failures: 0, corrections: 0, last: now, not_before: now };
        let trouble = self.troubles.entry(id.clone()).or_insert_with(new);
        if now.duration_since(trouble.last) > FORGIVEN {
            *trouble = new();
        }
        trouble.last = now;
        trouble
    }
}

fn jittered(count: u32) -> Duration {
    let wait = FIRST.saturating_mul(1 << count.saturating_sub(1).min(10)).min(LONGEST);
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;

    fn id(name: &str) -> Id {
        Id::new::<Service>("zen-mesh", name)
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_ever_longer_and_each_object_for_itself() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut last = Duration::ZERO;
        for round in 0..12 {
            let next = backoff.note(&id("a"), Err(Error::Slow), now).expect("goes on").expect("again");
            let wait = next - now;
            assert!(wait <= LONGEST && wait * 4 > last, "{round}: {wait:?} after {last:?}");
            last = wait;
        }
        assert!(last >= LONGEST / 2);
        assert_eq!(backoff.earliest(&id("b"), now), now);
        assert!(backoff.earliest(&id("a"), now) > now);
        backoff.note(&id("a"), Ok(Outcome::Unchanged), now).expect("goes on");
        assert_eq!(backoff.earliest(&id("a"), now), now);
    }

    #[tokio::test(start_paused = true)]
    async fn the_servers_wish_and_a_change_count() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let source = Box::new(kube::Error::LinesCodecMaxLineLengthExceeded);
        let busy = Error::Busy { after: Some(Duration::from_secs(30)), source };
        assert!(backoff.note(&id("a"), Err(busy), now).expect("goes on") >= Some(now + Duration::from_secs(30)));
        let foreign = Error::Foreign(id("b"));
        assert!(backoff.note(&id("b"), Err(foreign), now).expect("goes on") > Some(now + Duration::from_secs(30)));
        backoff.reconsider(&id("b"), now);
        assert_eq!(backoff.earliest(&id("b"), now), now);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_undoes_our_work_again_and_again_does_not_keep_us_busy() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        for round in 0..20 {
            backoff.note(&id("a"), Ok(Outcome::Applied), now).expect("goes on");
            let earliest = backoff.earliest(&id("a"), now);
            assert_eq!(earliest > now, round >= PATIENCE, "{round}");
            now = earliest;
        }
        let last = now + FORGIVEN * 2;
        backoff.note(&id("a"), Ok(Outcome::Applied), last).expect("goes on");
        assert_eq!(backoff.earliest(&id("a"), last), last);
    }

    /// K-02: namespaces come and go for the life of a leader; what is kept of their objects does not add up.
    #[tokio::test(start_paused = true)]
    async fn objects_that_went_are_forgotten() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        for number in 0..100_000_u64 {
            let now = start + Duration::from_millis(36 * number);
            backoff.note(&id(&number.to_string()), Ok(Outcome::Deleted), now).expect("goes on");
        }
        // Within ten minutes there are 16,667.
        assert!(backoff.troubles.len() < 35_000, "{}", backoff.troubles.len());
    }
}
