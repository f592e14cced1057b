//! The bounded line in front of the writer. One lock and at most one wake-up a batch.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A command and what it weighs.
pub(crate) trait Weigh {
    /// Bytes of records; none where the command is not bounded (settlements, operations).
    fn weight(&self) -> Option<usize>;
}

#[derive(Debug)]
pub(crate) struct Inbox<T> {
    line: Mutex<Line<T>>,
    filled: Condvar,
    max_events: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Line<T> {
    commands: VecDeque<T>,
    events: usize,
    bytes: usize,
    closed: bool,
    asleep: bool,
}

/// Why a command was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Full,
    Closed,
}

/// How long to wait for a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    Not,
    For(Duration),
    Forever,
}

impl<T: Weigh> Inbox<T> {
    pub(crate) fn new(max_events: usize, max_bytes: usize) -> Self {
        let line = Line { commands: VecDeque::new(), events: 0, bytes: 0, closed: false, asleep: false };
        Self { line: Mutex::new(line), filled: Condvar::new(), max_events, max_bytes }
    }

    /// Appends a command, or gives it back.
    pub(crate) fn push(&self, command: T) -> Result<(), (T, Refused)> {
        let mut line = self.lock();
        if line.closed {
            return Err((command, Refused::Closed));
        }
        if let Some(bytes) = command.weight() {
            if line.events >= self.max_events || (line.events > 0 && line.bytes + bytes > self.max_bytes) {
                return Err((command, Refused::Full));
            }
            line.events += 1;
            line.bytes += bytes;
        }
        line.commands.push_back(command);
        let wake = std::mem::take(&mut line.asleep);
        drop(line);
        if wake {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Takes what is there, at most `max` commands and about `max_bytes`. None: closed and empty.
    pub(crate) fn take(&self, max: usize, max_bytes: usize, wait: Wait) -> Option<Vec<T>> {
        let mut line = self.lock();
        loop {
            match wait {
                _ if !line.commands.is_empty() => break,
                _ if line.closed => return None,
                Wait::Not => return Some(Vec::new()),
                Wait::For(time) => {
                    line.asleep = true;
                    let (woken, timeout) = self.filled.wait_timeout(line, time).unwrap_or_else(PoisonError::into_inner);
                    line = woken;
                    line.asleep = false;
                    if timeout.timed_out() && line.commands.is_empty() && !line.closed {
                        return Some(Vec::new());
                    }
                }
                Wait::Forever => {
                    line.asleep = true;
                    line = self.filled.wait(line).unwrap_or_else(PoisonError::into_inner);
                    line.asleep = false;
                }
            }
        }
        let mut taken = Vec::with_capacity(line.commands.len().min(max));
        let mut bytes = 0;
        while taken.len() < max && bytes < max_bytes {
            let Some(command) = line.commands.pop_front() else { break };
            if let Some(weight) = command.weight() {
                line.events -= 1;
                line.bytes -= weight;
                bytes += weight;
            }
            taken.push(command);
        }
        Some(taken)
    }

    /// Takes no more; what is in the line is still handed out.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Line<T>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weigh for usize {
        fn weight(&self) -> Option<usize> {
            (*self > 0).then_some(*self)
        }
    }

    #[test]
    fn bounded_by_count_and_bytes_but_settlements_always_pass() {
        let inbox = Inbox::new(2, 100);
        inbox.push(90).expect("room");
        assert_eq!(inbox.push(20).expect_err("bytes").1, Refused::Full);
        inbox.push(10).expect("room");
        assert_eq!(inbox.push(1).expect_err("count").1, Refused::Full);
        inbox.push(0).expect("a settlement");
        assert_eq!(inbox.take(10, 90, Wait::Not), Some(vec![90]));
        assert_eq!(inbox.take(10, 100, Wait::Not), Some(vec![10, 0]));
        inbox.push(500).expect("one command is always taken, however large");
    }

    #[test]
    fn closing_hands_out_the_rest() {
        let inbox = Inbox::new(2, 100);
        inbox.push(1).expect("room");
        inbox.close();
        assert_eq!(inbox.push(1).expect_err("closed").1, Refused::Closed);
        assert_eq!(inbox.take(9, 9, Wait::Forever), Some(vec![1]));
        assert_eq!(inbox.take(9, 9, Wait::Forever), None);
    }
}
