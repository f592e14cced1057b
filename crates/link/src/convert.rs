//! Settlements and attempts as frames, and back. Numbers that this build does not know are refused where they decide what
//! happens to an event, and tolerated where they only describe it.

use std::time::Duration;

use bytes::Bytes;
use zen_model::fault::Fault;
use zen_model::settle::{Class, ReleaseReason};
use zen_model::{DeadReason, Settlement, Timestamp, settle};

use crate::Error;
use crate::frame::{Attempt, Settled, Token};

/// So much of a target's response crosses the link.
pub const MAX_RESPONSE: usize = 4096;

const OTHER_FAULT: u32 = 1000;
const OTHER_FAULT_WORDS: &str = "other fault";

/// A frame says what cannot be: end the session with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{number} is not the number of a {field}")]
pub struct Invalid {
    field: &'static str,
    number: u32,
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::Malformed(invalid.to_string())
    }
}

impl Settled {
    /// The end of a lease, to be sent.
    pub fn new(token: Token, settlement: &Settlement, attempt: Option<&settle::Attempt>) -> Self {
        let (kind, after, reason) = match settlement {
            Settlement::Ack => (1, Duration::ZERO, 0),
            Settlement::Retry { after } => (2, *after, 0),
            Settlement::Dead { reason } => (3, Duration::ZERO, *reason as u32),
            Settlement::Release { after, reason } => (4, *after, release_number(*reason)),
        };
        Self { token, kind, after: millis(after), reason, attempt: attempt.map(Attempt::from) }
    }

    /// What the egress says happened. A frame that a [`Receiver`](crate::Receiver) has given out is valid already.
    pub fn into_parts(self) -> Result<(Token, Settlement, Option<settle::Attempt>), Invalid> {
        let settlement = self.settlement()?;
        let attempt = self.attempt.map(settle::Attempt::try_from).transpose()?;
        Ok((self.token, settlement, attempt))
    }

    /// Whether [`Settled::into_parts`] will succeed.
    pub(crate) fn check(&self) -> Result<(), Invalid> {
        self.settlement()?;
        self.attempt.as_ref().map_or(Ok(()), |attempt| attempt.class().and(attempt.status()).map(drop))
    }

    fn settlement(&self) -> Result<Settlement, Invalid> {
        let after = Duration::from_millis(self.after);
        let reason = |field| Invalid { field, number: self.reason };
        match self.kind {
            1 => Ok(Settlement::Ack),
            2 => Ok(Settlement::Retry { after }),
            3 => {
                let known = u8::try_from(self.reason).ok().and_then(DeadReason::from_number);
                Ok(Settlement::Dead { reason: known.ok_or(reason("dead reason"))? })
            }
            4 => {
                let known = release_reason(self.reason);
                Ok(Settlement::Release { after, reason: known.ok_or(reason("release reason"))? })
            }
            number => Err(Invalid { field: "settlement", number }),
        }
    }
}

impl Attempt {
    fn class(&self) -> Result<Class, Invalid> {
        let class = self.class.checked_sub(1).and_then(|index| Class::ALL.get(index as usize)).copied();
        class.ok_or(Invalid { field: "class", number: self.class })
    }

    fn status(&self) -> Result<u16, Invalid> {
        u16::try_from(self.status).map_err(|_| Invalid { field: "status", number: self.status })
    }
}

impl From<&settle::Attempt> for Attempt {
    fn from(attempt: &settle::Attempt) -> Self {
        let error = attempt.error.map_or(0, |words| Fault::from_words(words).map_or(OTHER_FAULT, |fault| fault as u32));
        Self {
            at: attempt.at.0,
            class: class_number(attempt.class),
            status: u32::from(attempt.status),
            took: u64::try_from(attempt.took.as_micros()).unwrap_or(u64::MAX),
            error,
            response: cut(&attempt.response),
        }
    }
}

impl TryFrom<Attempt> for settle::Attempt {
    type Error = Invalid;

    fn try_from(attempt: Attempt) -> Result<Self, Invalid> {
        Ok(Self {
            at: Timestamp(attempt.at),
            class: attempt.class()?,
            status: attempt.status()?,
            took: Duration::from_micros(attempt.took),
            error: match attempt.error {
                0 => None,
                number => Some(Fault::from_number(number).map_or(OTHER_FAULT_WORDS, Fault::words)),
            },
            response: cut(&attempt.response),
        })
    }
}

/// Cheap: shares the buffer unless it is far larger than what is kept of it.
fn cut(response: &Bytes) -> Bytes {
    if response.len() > MAX_RESPONSE { Bytes::copy_from_slice(&response[..MAX_RESPONSE]) } else { response.clone() }
}

/// Rounded up: a pause of less than a millisecond is still a pause.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The place in `Class::ALL`, plus 1.
const fn class_number(class: Class) -> u32 {
    match class {
        Class::Delivered => 1,
        Class::Transient => 2,
        Class::Throttled => 3,
        Class::Rejected => 4,
        Class::Gone => 5,
        Class::Ambiguous => 6,
        Class::Refused => 7,
        Class::OurFault => 8,
    }
}

const fn release_number(reason: ReleaseReason) -> u32 {
    match reason {
        ReleaseReason::Drain => 1,
        ReleaseReason::Held => 2,
        ReleaseReason::OurFault => 3,
        ReleaseReason::Overload => 4,
    }
}

const fn release_reason(number: u32) -> Option<ReleaseReason> {
    match number {
        1 => Some(ReleaseReason::Drain),
        2 => Some(ReleaseReason::Held),
        3 => Some(ReleaseReason::OurFault),
        4 => Some(ReleaseReason::Overload),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
