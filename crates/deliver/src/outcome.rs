//! How an attempt ended, and what follows from it (D-04). Pure.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use zen_compile::Destination;
use zen_model::retry::Next;
use zen_model::settle::{Attempt, Class, ReleaseReason};
use zen_model::{DeadReason, Fault, Settlement, Timestamp};

/// One attempt, ended.
#[derive(Clone, PartialEq, Eq)]
pub struct AttemptResult {
    /// When it began.
    pub at: Timestamp,
    /// How it ended.
    pub class: Class,
    /// HTTP status; 0 when none came.
    pub status: u16,
    /// From its beginning until its end.
    pub took: Duration,
    /// What went wrong on the way; may stand beside a status (response cut).
    pub fault: Option<Fault>,
    /// What the target asked for.
    pub retry_after: Option<Duration>,
    /// The beginning of the response's body, at most 4 KiB. Never logged.
    pub response: Bytes,
}

impl AttemptResult {
    /// As it is kept in the event's history.
    pub fn into_record(self) -> Attempt {
        Attempt {
            at: self.at,
            class: self.class,
            status: self.status,
            took: self.took,
            error: self.fault.map(Fault::words),
            response: self.response,
        }
    }
}

impl fmt::Debug for AttemptResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptResult")
            .field("class", &self.class)
            .field("status", &self.status)
            .field("took", &self.took)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

/// The class of an answer.
///
/// 502 and 504 are words of a gateway about a target that may have taken the event: where a repeat does harm, that end
/// is ambiguous like a lost connection.
pub fn class_of_status(status: StatusCode, has_retry_after: bool, idempotent: bool) -> Class {
    match status.as_u16() {
        200..=299 => Class::Delivered,
        410 => Class::Gone,
        429 => Class::Throttled,
        503 if has_retry_after => Class::Throttled,
        502 | 504 if !idempotent => Class::Ambiguous,
        408 | 425 | 500..=599 => Class::Transient,
        _ => Class::Rejected,
    }
}

/// The class of an attempt without an answer. `sent`: the target may have seen some of the request.
pub fn class_of_fault(fault: Fault, sent: bool, idempotent: bool) -> Class {
    match fault {
        Fault::AddressNotAllowed => Class::Refused,
        Fault::ResolverFailed | Fault::OutOfResources => Class::OurFault,
        _ if sent && !idempotent => Class::Ambiguous,
        _ => Class::Transient,
    }
}

/// What to tell the queue.
///
/// `attempts` were charged before this one, the first of them at `first_attempt`; `random` is uniform in 0..1.
pub fn settle(
    destination: &Destination,
    attempts: u32,
    first_attempt: Option<Timestamp>,
    now: Timestamp,
    result: &AttemptResult,
    random: f64,
) -> Settlement {
    let policy = match result.class {
        Class::Delivered => return Settlement::Ack,
        Class::Rejected => return dead(DeadReason::Rejected),
        Class::Gone => return dead(DeadReason::Gone),
        Class::Ambiguous => return dead(DeadReason::Ambiguous),
        Class::Refused => return dead(DeadReason::AddressNotAllowed),
        Class::OurFault => return release(ReleaseReason::OurFault, random),
        Class::Transient => &destination.transient,
        Class::Throttled => &destination.throttled,
    };
    let elapsed = now.since(first_attempt.unwrap_or(result.at));
    match policy.next(attempts.saturating_add(1), elapsed, result.retry_after, random) {
        Next::After(after) => Settlement::Retry { after },
        Next::Exhausted => dead(DeadReason::AttemptsExhausted),
        Next::TooLate => dead(DeadReason::RetryWindowExceeded),
    }
}

/// Back to the queue uncharged, for one to one and a half seconds.
pub fn release(reason: ReleaseReason, random: f64) -> Settlement {
    Settlement::Release { after: Duration::from_secs_f64(1.0 + 0.5 * random.clamp(0.0, 1.0)), reason }
}

fn dead(reason: DeadReason) -> Settlement {
    Settlement::Dead { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_has_its_class() {
        let table = [
            (&[200, 201, 202, 204, 299][..], Class::Delivered),
            (&[408, 425, 500, 501, 502, 503, 504, 599], Class::Transient),
            (&[429], Class::Throttled),
            (&[410], Class::Gone),
            (&[101, 300, 301, 302, 307, 308, 400, 401, 403, 404, 409, 413, 422, 451, 600, 999], Class::Rejected),
        ];
        for (statuses, class) in table {
            for status in statuses {
                let status = StatusCode::from_u16(*status).expect("a status");
                assert_eq!(class_of_status(status, false, true), class, "{status}");
            }
        }
        assert_eq!(class_of_status(StatusCode::SERVICE_UNAVAILABLE, true, true), Class::Throttled);
        assert_eq!(class_of_status(StatusCode::INTERNAL_SERVER_ERROR, true, true), Class::Transient);
        assert_eq!(class_of_status(StatusCode::GATEWAY_TIMEOUT, false, false), Class::Ambiguous);
        assert_eq!(class_of_status(StatusCode::INTERNAL_SERVER_ERROR, false, false), Class::Transient);
    }

    #[test]
    fn each_fault_has_its_class() {
        for fault in Fault::ALL {
            let unsent = match fault {
                Fault::AddressNotAllowed => Class::Refused,
                Fault::ResolverFailed | Fault::OutOfResources => Class::OurFault,
                _ => Class::Transient,
            };
            assert_eq!(class_of_fault(fault, false, true), unsent, "{fault:?}");
            assert_eq!(class_of_fault(fault, false, false), unsent, "{fault:?}: nothing was sent");
            assert_eq!(class_of_fault(fault, true, true), unsent, "{fault:?}");
        }
        for fault in [Fault::RequestTimeout, Fault::ConnectionLost, Fault::AnswerMalformed] {
            assert_eq!(class_of_fault(fault, true, false), Class::Ambiguous, "{fault:?}");
        }
        assert_eq!(class_of_fault(Fault::NameNotFound, false, false), Class::Transient, "NXDOMAIN may be mended");
    }
}
