//! Retry schedules: pure functions of policy, attempt number and a random number.

use std::time::Duration;

/// One class's policy (D-04).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// Attempts in all, the first included.
    pub attempts: u32,
    /// Wait after the first failed attempt, before jitter.
    pub initial: Duration,
    /// Each further wait is longer by this factor.
    pub factor: f64,
    /// No attempt starts later than this after the first one.
    pub within: Duration,
}

impl Policy {
    /// 5 tries, 1 s doubling, within 15 minutes.
    pub const TRANSIENT: Self =
        Self { attempts: 5, initial: Duration::from_secs(1), factor: 2.0, within: Duration::from_mins(15) };
    /// 3 tries, 30 s doubling where the target names no time, within 30 minutes.
    pub const THROTTLED: Self =
        Self { attempts: 3, initial: Duration::from_secs(30), factor: 2.0, within: Duration::from_mins(30) };

    /// What follows a failed attempt.
    ///
    /// `attempt` counts from 1, `elapsed` runs since the first attempt began, `asked` is the target's `Retry-After`,
    /// `random` is uniform in 0..1. The wait is spread over ±20 % of its nominal value, so that events that failed
    /// together do not come back together; what the target asked for is never shortened.
    pub fn next(&self, attempt: u32, elapsed: Duration, asked: Option<Duration>, random: f64) -> Next {
        if attempt >= self.attempts {
            return Next::Exhausted;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let nominal = (self.initial.as_secs_f64() * self.factor.powi(exponent)).min(self.within.as_secs_f64());
        let spread = Duration::from_secs_f64(nominal * (0.8 + 0.4 * random.clamp(0.0, 1.0)));
        let wait = match asked {
            Some(asked) => asked + Duration::from_secs_f64(0.1 * asked.as_secs_f64() * random.clamp(0.0, 1.0)),
            None => spread,
        };
        if elapsed.saturating_add(wait) > self.within {
            return Next::TooLate;
        }
        Next::After(wait)
    }
}

/// The answer of [`Policy::next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Try again after this wait.
    After(Duration),
    /// All attempts are used.
    Exhausted,
    /// The next attempt would begin after `within`.
    TooLate,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_until_the_attempts_are_used() {
        let waits: Vec<_> = (1..=5).map(|n| Policy::TRANSIENT.next(n, Duration::ZERO, None, 0.5)).collect();
        let seconds = |s| Next::After(Duration::from_secs(s));
        assert_eq!(waits, [seconds(1), seconds(2), seconds(4), seconds(8), Next::Exhausted]);
    }

    #[test]
    fn the_window_ends_it() {
        assert_eq!(Policy::TRANSIENT.next(1, Duration::from_mins(15), None, 0.5), Next::TooLate);
        assert_eq!(
            Policy::THROTTLED.next(1, Duration::ZERO, Some(Duration::from_mins(31)), 0.0),
            Next::TooLate,
            "a Retry-After beyond the window"
        );
    }

    proptest! {
        #[test]
        fn never_sooner_than_the_target_asked(asked in 0_u64..1800, random in 0.0..1.0_f64, attempt in 1_u32..3) {
            let asked = Duration::from_secs(asked);
            if let Next::After(wait) = Policy::THROTTLED.next(attempt, Duration::ZERO, Some(asked), random) {
                prop_assert!(wait >= asked);
            }
        }

        #[test]
        fn total_on_any_input(attempts in 0_u32.., initial in 0_u64..1_000_000, factor in 1.0..1e9_f64,
                              within in 0_u64..10_000_000, attempt in 0_u32.., random in -1.0..2.0_f64) {
            let policy = Policy {
                attempts, factor,
                initial: Duration::from_secs(initial), within: Duration::from_secs(within),
            };
            let _ = policy.next(attempt, Duration::ZERO, None, random);
        }
    }
}
