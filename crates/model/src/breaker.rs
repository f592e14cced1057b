//! The circuit breaker of one Destination (D-11): pure, with the time given from outside.

use std::time::Duration;

/// Settings of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Consecutive failures that open it.
    pub failures: u32,
    /// How long it stays open before one delivery may probe.
    pub open_for: Duration,
    /// How long an event may wait uncharged behind an open breaker, counted from the time it opened.
    pub hold: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { failures: 10, open_for: Duration::from_secs(30), hold: Duration::from_hours(24) }
    }
}

/// What the breaker allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Deliveries flow.
    Closed,
    /// None may start.
    Open,
    /// One may start, to probe.
    HalfOpen,
}

impl State {
    /// Stable label for status and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Counts consecutive failures. `now` is monotonic time since any fixed origin.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: Settings,
    failures: u32,
    /// Monotonic time at which it opened for the current outage; none while closed.
    opened: Option<Duration>,
    /// Monotonic time from which a probe may start.
    probe_from: Duration,
    probing: bool,
}

impl Breaker {
    /// A closed breaker.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, failures: 0, opened: None, probe_from: Duration::ZERO, probing: false }
    }

    /// Takes new settings; the state stays.
    pub const fn configure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The state at `now`.
    pub fn state(&self, now: Duration) -> State {
        match self.opened {
            None => State::Closed,
            Some(_) if now < self.probe_from => State::Open,
            Some(_) => State::HalfOpen,
        }
    }

    /// How many deliveries may start at `now`: none, one (which takes the probe), or as many as wanted.
    pub fn admit(&mut self, now: Duration, wanted: usize) -> usize {
        match self.state(now) {
            State::Closed => wanted,
            State::Open => 0,
            State::HalfOpen if self.probing || wanted == 0 => 0,
            State::HalfOpen => {
                self.probing = true;
                1
            }
        }
    }

    /// When the state next changes by time alone: for whoever sleeps until then.
    pub fn next_change(&self, now: Duration) -> Option<Duration> {
        (self.state(now) == State::Open).then(|| self.probe_from.saturating_sub(now))
    }

    /// Since when deliveries are held up, for the `hold` limit.
    pub const fn open_since(&self) -> Option<Duration> {
        self.opened
    }

    /// Whether events have been held for longer than `hold`.
    pub fn hold_exceeded(&self, now: Duration) -> bool {
        self.opened.is_some_and(|opened| now.saturating_sub(opened) > self.settings.hold)
    }

    /// A delivery reached the target and the target is well. Returns whether it closed the breaker.
    pub const fn success(&mut self) -> bool {
        let closed = self.opened.is_some();
        self.failures = 0;
        self.opened = None;
        self.probing = false;
        closed
    }

    /// A delivery failed for the target's sake. Returns whether it opened the breaker.
    pub fn failure(&mut self, now: Duration) -> bool {
        self.failures = self.failures.saturating_add(1);
        match self.opened {
            None if self.failures >= self.settings.failures => {
                self.opened = Some(now);
                self.probe_from = now + self.settings.open_for;
                true
            }
            None => false,
            Some(_) => {
                // Late failures of deliveries that began before it opened do not push the probe away.
                if self.probing || now >= self.probe_from {
                    self.probing = false;
                    self.probe_from = now + self.settings.open_for;
                }
                false
            }
        }
    }

    /// The probe came back without a word about the target (released, or its egress went away).
    pub const fn abandon_probe(&mut self) {
        self.probing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(Settings { failures: 3, open_for: S(30), hold: S(100) });
        assert!(!breaker.failure(S(0)) && !breaker.failure(S(1)));
        assert!(breaker.failure(S(2)), "the third failure opens it");
        breaker
    }

    #[test]
    fn opens_after_consecutive_failures_only() {
        let mut breaker = Breaker::new(Settings { failures: 2, open_for: S(30), hold: S(100) });
        breaker.failure(S(0));
        breaker.success();
        breaker.failure(S(1));
        assert_eq!(breaker.state(S(1)), State::Closed);
    }

    #[test]
    fn one_probe_at_a_time_when_half_open() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(S(3), 64), 0);
        assert_eq!(breaker.next_change(S(12)), Some(S(20)));
        assert_eq!(breaker.admit(S(32), 64), 1);
        assert_eq!(breaker.admit(S(32), 64), 0, "the probe is out");
        breaker.failure(S(33));
        assert_eq!(breaker.state(S(62)), State::Open);
        assert_eq!(breaker.admit(S(63), 64), 1);
        assert!(breaker.success());
        assert_eq!(breaker.admit(S(64), 64), 64);
    }

    #[test]
    fn late_failures_do_not_delay_the_probe_and_hold_counts_from_the_outage() {
        let mut breaker = opened();
        breaker.failure(S(20));
        assert_eq!(breaker.state(S(32)), State::HalfOpen);
        assert!(!breaker.hold_exceeded(S(102)));
        assert!(breaker.hold_exceeded(S(103)));
    }

    #[test]
    fn an_abandoned_probe_frees_its_place() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(S(32), 1), 1);
        breaker.abandon_probe();
        assert_eq!(breaker.admit(S(32), 1), 1);
    }
}
