//! Every case of the decision, and what holds in all of them.

use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;
use zen_enroll::{Authentic, Enrollment, Facts, Fresh, Issued, Received, Stamp, Used, Verdict, authenticate, decide};
use zen_model::Timestamp;
use zen_model::reason::EnrollRefusal as R;

use crate::support::{MADE, TTL, WORLD, domain, opened, redeem, stamp};

const LIFETIME: Duration = Duration::from_hours(24);

static REQUEST: LazyLock<Authentic> = LazyLock::new(|| {
    let redeem = redeem();
    let (body, proof) = redeem.prove(&opened(), MADE).expect("proven");
    let received = Received { cluster: &redeem.cluster, proof: &proof.value(), body: &body };
    authenticate(&WORLD.branch, &domain(), &received, MADE).expect("authentic")
});

fn enrollment() -> Enrollment {
    Enrollment {
        uid: stamp().uid,
        bundle: "1".to_owned(),
        disabled: false,
        issued: Some(Issued { stamp: stamp(), expires_at: MADE.plus(TTL), used: None }),
    }
}

fn with(change: impl FnOnce(&mut Enrollment)) -> Enrollment {
    let mut enrollment = enrollment();
    change(&mut enrollment);
    enrollment
}

fn used(by: [u8; 32], at: Timestamp) -> Enrollment {
    with(|enrollment| enrollment.issued.as_mut().expect("issued").used = Some(Used { by, at }))
}

fn decided(enrollment: Option<&Enrollment>, nonce: Fresh, now: Timestamp) -> Verdict {
    decide(&Facts { enrollment, request: &REQUEST, nonce, lifetime: LIFETIME, now })
}

#[test]
fn every_case() {
    let by = REQUEST.request.key_digest();
    let own = Used { by, at: MADE };
    let first = |now: Timestamp| Verdict::Issue(Used { by, at: Timestamp::from_secs(now.as_secs()) });
    let no = Verdict::Refuse;
    let later = Stamp { bundle: "2".to_owned(), ..stamp() };
    let remade = Stamp { issued_at: MADE.plus(Duration::from_secs(1)), ..stamp() };
    let issue = |stamp: &Stamp| {
        let stamp = stamp.clone();
        with(|enrollment| enrollment.issued.as_mut().expect("issued").stamp = stamp)
    };
    let half = MADE.plus(Duration::from_millis(1500));
    let expired = MADE.plus(TTL);
    let rows: Vec<(&str, Enrollment, Fresh, Timestamp, Verdict)> = vec![
        ("the first time", with(|_| {}), Fresh::New, MADE, first(MADE)),
        ("the first time, in whole seconds", with(|_| {}), Fresh::New, half, first(half)),
        ("in the last moment", with(|_| {}), Fresh::New, Timestamp(expired.0 - 1), first(Timestamp(expired.0 - 1))),
        ("too late", with(|_| {}), Fresh::New, expired, no(R::BundleExpired)),
        ("again with the same key", used(by, MADE), Fresh::New, MADE, Verdict::SameAnswer(own)),
        ("again after the bundle's time", used(by, MADE), Fresh::New, expired, Verdict::SameAnswer(own)),
        ("again when what it got has ended", used(by, MADE), Fresh::New, MADE.plus(LIFETIME), no(R::BundleExpired)),
        ("with another key", used([7; 32], MADE), Fresh::New, MADE, no(R::BundleReused)),
        ("with another key, late", used([7; 32], MADE), Fresh::New, expired, no(R::BundleReused)),
        ("the same request again", with(|_| {}), Fresh::Seen, MADE, no(R::RequestReplayed)),
        ("the same request again, after it was used", used(by, MADE), Fresh::Seen, MADE, no(R::RequestReplayed)),
        ("too many requests", with(|_| {}), Fresh::Full, MADE, no(R::TooManyRequests)),
        (
            "it was deleted and made again",
            with(|enrollment| enrollment.uid = "another".to_owned()),
            Fresh::New,
            MADE,
            no(R::BundleVoid),
        ),
        ("another bundle was made", issue(&later), Fresh::New, MADE, no(R::BundleVoid)),
        ("one of the same name was made later", issue(&remade), Fresh::New, MADE, no(R::BundleVoid)),
        (
            "another bundle was asked for",
            with(|enrollment| enrollment.bundle = "2".to_owned()),
            Fresh::New,
            MADE,
            no(R::BundleVoid),
        ),
        ("none was made", with(|enrollment| enrollment.issued = None), Fresh::New, MADE, no(R::BundleVoid)),
        ("disabled", with(|enrollment| enrollment.disabled = true), Fresh::New, MADE, no(R::EnrollmentDisabled)),
        (
            "disabled after it was used",
            Enrollment { disabled: true, ..used(by, MADE) },
            Fresh::New,
            MADE,
            no(R::EnrollmentDisabled),
        ),
    ];
    for (what, enrollment, nonce, now, expected) in rows {
        assert_eq!(decided(Some(&enrollment), nonce, now), expected, "{what}");
    }
    assert_eq!(decided(None, Fresh::New, MADE), no(R::BundleVoid), "the enrollment is gone");
}

/// Two members with one bundle, whatever the order of their requests and of the hub's writes: one key is issued for.
#[test]
fn the_loser_of_a_race_decides_again() {
    let Verdict::Issue(theirs) = decided(Some(&enrollment()), Fresh::New, MADE) else { panic!("the first") };
    let lost = used([7; 32], MADE);
    assert_eq!(decided(Some(&lost), Fresh::New, MADE), Verdict::Refuse(R::BundleReused));
    let won = used(theirs.by, theirs.at);
    assert_eq!(decided(Some(&won), Fresh::New, MADE), Verdict::SameAnswer(theirs));
}

fn any_enrollment() -> impl Strategy<Value = Option<Enrollment>> {
    let used = prop_oneof![Just(None), (any::<bool>(), 0..90_000_u64).prop_map(Some)];
    let issued = ("[12]", 0..3_u64, 0..7200_u64, used).prop_map(|(bundle, later, ttl, used)| Issued {
        stamp: Stamp { uid: stamp().uid, bundle, issued_at: MADE.plus(Duration::from_secs(later / 2)) },
        expires_at: MADE.plus(Duration::from_secs(ttl)),
        used: used.map(|(own, at)| Used {
            by: if own { REQUEST.request.key_digest() } else { [7; 32] },
            at: MADE.plus(Duration::from_secs(at)),
        }),
    });
    let enrollment =
        ("[12]", any::<bool>(), prop::option::of(issued), any::<bool>()).prop_map(|(bundle, disabled, issued, own)| {
            Enrollment { uid: if own { stamp().uid } else { "another".to_owned() }, bundle, disabled, issued }
        });
    prop::option::weighted(0.9, enrollment)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    /// What must be so for anything to be issued, said once more and the other way round.
    #[test]
    fn nothing_is_issued_but_once_and_in_time(
        enrollment in any_enrollment(),
        nonce in prop::sample::select(vec![Fresh::New, Fresh::New, Fresh::New, Fresh::Seen, Fresh::Full]),
        seconds in 0..100_000_u64,
    ) {
        let now = MADE.plus(Duration::from_secs(seconds));
        let verdict = decided(enrollment.as_ref(), nonce, now);
        if let Verdict::Issue(used) | Verdict::SameAnswer(used) = verdict {
            prop_assert_eq!(nonce, Fresh::New);
            let enrollment = enrollment.clone().expect("there");
            let issued = enrollment.issued.expect("made");
            prop_assert!(!enrollment.disabled && enrollment.uid == stamp().uid && enrollment.bundle == "1");
            prop_assert_eq!(issued.stamp, stamp());
            prop_assert_eq!(used.by, REQUEST.request.key_digest());
            match verdict {
                Verdict::Issue(_) => prop_assert!(issued.used.is_none() && now < issued.expires_at),
                _ => prop_assert!(issued.used == Some(used) && now < used.at.plus(LIFETIME)),
            }
        }
        // Who has got an answer and writes it down gets the same one.
        if let (Verdict::Issue(used), Some(mut enrollment)) = (verdict, enrollment) {
            enrollment.issued.as_mut().expect("made").used = Some(used);
            prop_assert_eq!(decided(Some(&enrollment), Fresh::New, now), Verdict::SameAnswer(used));
        }
    }
}
