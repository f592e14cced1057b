//! Renewal at two thirds of the lifetime, by a paused clock.

use std::cell::RefCell;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use zen_model::Timestamp;
use zen_pki::{Ca, Identity, KeyPairAndChain, keep_fresh_by};

use crate::support::{HOUR, ca, id};

/// Runs the renewal for `run`; the minutes at which a certificate was asked for. `fails` says which of them fail.
async fn asked_at(ca: &Ca, run: Duration, fails: impl Fn(usize) -> bool) -> (Vec<f64>, Identity) {
    let (start, epoch) = (Instant::now(), Timestamp::now());
    let clock = move || epoch.plus(start.elapsed());
    let issue = |at| ca.issue_workload_at(&id("egress"), at, HOUR).expect("issued");
    let identity = Identity::new(&issue(epoch), &ca.roots().expect("roots")).expect("an identity");
    let asked = RefCell::new(Vec::new());
    let renewing = keep_fresh_by(
        &identity,
        || {
            let mut asked = asked.borrow_mut();
            asked.push(start.elapsed().as_secs_f64() / 60.0);
            std::future::ready(if fails(asked.len()) {
                Err("no issuer")
            } else {
                Ok::<KeyPairAndChain, _>(issue(clock()))
            })
        },
        clock,
    );
    timeout(run, renewing).await.expect_err("it runs for ever");
    (asked.into_inner(), identity)
}

#[tokio::test(start_paused = true)]
async fn renews_at_two_thirds_with_jitter() {
    let (asked, identity) = asked_at(&ca(), 10 * HOUR, |_| false).await;
    assert!((14..=18).contains(&asked.len()), "{asked:?}");
    // Two thirds of an hour, up to a tenth of the lifetime earlier.
    let pauses: Vec<f64> = asked.windows(2).map(|pair| pair[1] - pair[0]).chain([asked[0]]).collect();
    assert!(pauses.iter().all(|minutes| (33.0..=41.5).contains(minutes)), "{pauses:?}");
    assert!(pauses.iter().any(|minutes| (minutes - pauses[0]).abs() > 0.001), "no jitter");
    assert!(identity.validity().until > Timestamp::now().plus(9 * HOUR));
}

#[tokio::test(start_paused = true)]
async fn a_failing_issuer_is_asked_again_in_time_and_the_certificate_stays() {
    let (asked, _) = asked_at(&ca(), HOUR, |attempt| attempt < 6).await;
    assert!(asked.len() >= 6, "{asked:?}");
    assert!(asked[5] < 60.0, "renewed only after the certificate had ended: {asked:?}");
    let (asked, identity) = asked_at(&ca(), 3 * HOUR, |_| true).await;
    assert!((20..=12_000).contains(&asked.len()), "{} attempts", asked.len());
    assert_eq!(identity.id(), &id("egress"));
}
