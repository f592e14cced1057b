//! What follows from an attempt: each class × attempts × window (D-04).

use std::time::Duration;

use bytes::Bytes;
use zen_deliver::{AttemptResult, settle};
use zen_model::settle::{Class, ReleaseReason};
use zen_model::{DeadReason, Settlement};

use crate::fixture::{NOW, destination};

fn result(class: Class, retry_after: Option<u64>) -> AttemptResult {
    AttemptResult {
        at: NOW,
        class,
        status: 0,
        took: Duration::ZERO,
        fault: None,
        retry_after: retry_after.map(Duration::from_secs),
        response: Bytes::new(),
    }
}

#[test]
fn each_class_attempt_and_window() {
    use DeadReason::{AttemptsExhausted, RetryWindowExceeded};
    let retry = |seconds| Settlement::Retry { after: Duration::from_secs(seconds) };
    let dead = |reason| Settlement::Dead { reason };
    let minutes = |minutes: u64| minutes * 60;
    // class, attempts charged before, seconds since the first one, Retry-After → settlement
    let table = [
        (Class::Delivered, 0, 0, None, Settlement::Ack),
        (Class::Delivered, 9, minutes(99), None, Settlement::Ack),
        (Class::Transient, 0, 0, None, retry(1)),
        (Class::Transient, 1, 1, None, retry(2)),
        (Class::Transient, 3, 7, None, retry(8)),
        (Class::Transient, 4, 15, None, dead(AttemptsExhausted)),
        (Class::Transient, 1, minutes(15), None, dead(RetryWindowExceeded)),
        (Class::Throttled, 0, 0, None, retry(30)),
        (Class::Throttled, 0, 0, Some(100), retry(105)),
        (Class::Throttled, 1, 0, Some(0), retry(0)),
        (Class::Throttled, 2, 0, Some(1), dead(AttemptsExhausted)),
        (Class::Throttled, 0, 0, Some(minutes(31)), dead(RetryWindowExceeded)),
        (Class::Rejected, 0, 0, None, dead(DeadReason::Rejected)),
        (Class::Gone, 0, 0, None, dead(DeadReason::Gone)),
        (Class::Ambiguous, 0, 0, None, dead(DeadReason::Ambiguous)),
        (Class::Refused, 0, 0, None, dead(DeadReason::AddressNotAllowed)),
        (
            Class::OurFault,
            4,
            minutes(99),
            None,
            Settlement::Release { after: Duration::from_millis(1250), reason: ReleaseReason::OurFault },
        ),
    ];
    let destination = destination(false, "127.0.0.1", 1);
    for (class, attempts, seconds, asked, expected) in table {
        let first = (attempts > 0).then_some(NOW);
        let now = NOW.plus(Duration::from_secs(seconds));
        let settled = settle(&destination, attempts, first, now, &result(class, asked), 0.5);
        assert_eq!(settled, expected, "{class:?} after {attempts} attempts and {seconds} s, asked {asked:?}");
    }
}
