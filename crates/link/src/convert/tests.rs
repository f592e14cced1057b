use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::frame::{FromEgress, FromIngester};

const TOKEN: Token = Token { seq: 7, destination: 3, lease: u64::MAX };

fn attempt(class: Class, error: Option<&'static str>) -> settle::Attempt {
    settle::Attempt {
        at: Timestamp(1_700_000_000_123),
        class,
        status: 503,
        took: Duration::from_micros(1_234_567),
        error,
        response: Bytes::from_static(b"busy"),
    }
}

/// Through bytes, as it crosses the link.
fn crossed(settled: Settled) -> Result<(Token, Settlement, Option<settle::Attempt>), Invalid> {
    let bytes = FromEgress { settled: vec![settled], ..FromEgress::default() }.encode_to_vec();
    let mut frame = FromEgress::decode(bytes.as_slice()).expect("decodes");
    let settled = frame.settled.remove(0);
    let check = settled.check();
    let parts = settled.into_parts();
    assert_eq!(check, parts.as_ref().map(|_| ()).map_err(|invalid| *invalid));
    parts
}

#[test]
fn every_settlement_crosses_unchanged() {
    let after = Duration::from_millis(1500);
    let releases = [ReleaseReason::Drain, ReleaseReason::Held, ReleaseReason::OurFault, ReleaseReason::Overload];
    let settlements = [Settlement::Ack, Settlement::Retry { after }, Settlement::Retry { after: Duration::ZERO }]
        .into_iter()
        .chain(DeadReason::ALL.map(|reason| Settlement::Dead { reason }))
        .chain(releases.map(|reason| Settlement::Release { after, reason }));
    for settlement in settlements {
        let back = crossed(Settled::new(TOKEN, &settlement, None)).expect("valid");
        assert_eq!(back, (TOKEN, settlement, None));
    }
}

#[test]
fn every_class_and_fault_crosses_unchanged() {
    let faults = Fault::ALL.map(|fault| Some(fault.words())).into_iter().chain([None]);
    for error in faults {
        for class in Class::ALL {
            let attempt = attempt(class, error);
            let back = crossed(Settled::new(TOKEN, &Settlement::Ack, Some(&attempt))).expect("valid");
            assert_eq!(back.2, Some(attempt));
        }
    }
}

#[test]
fn classes_are_numbered_by_their_place_in_the_table() {
    for (index, class) in (1..).zip(Class::ALL) {
        assert_eq!(class_number(class), index);
    }
}

#[test]
fn a_fault_without_a_number_stays_a_fault() {
    let settled =
        Settled::new(TOKEN, &Settlement::Ack, Some(&attempt(Class::Transient, Some("words of a newer build"))));
    assert_eq!(crossed(settled).expect("valid").2.expect("made").error, Some("other fault"));
}

#[test]
fn long_responses_are_cut_on_both_ends() {
    let mut long = attempt(Class::Rejected, None);
    long.response = Bytes::from(vec![b'x'; MAX_RESPONSE + 1]);
    let sent = Settled::new(TOKEN, &Settlement::Ack, Some(&long));
    assert_eq!(sent.attempt.as_ref().expect("made").response.len(), MAX_RESPONSE);
    let hostile = Attempt { response: long.response, class: 1, ..Attempt::default() };
    let received = crossed(Settled { attempt: Some(hostile), kind: 1, ..sent }).expect("valid");
    assert_eq!(received.2.expect("made").response.len(), MAX_RESPONSE);
}

#[test]
fn a_pause_is_never_rounded_to_none() {
    let settlement = Settlement::Retry { after: Duration::from_micros(10) };
    assert_eq!(Settled::new(TOKEN, &settlement, None).after, 1);
}

#[test]
fn unknown_numbers_are_refused() {
    let settled = |kind, reason, attempt| Settled { token: TOKEN, kind, after: 0, reason, attempt };
    let with = |class, status| Some(Attempt { class, status, ..Attempt::default() });
    for (settled, field) in [
        (settled(0, 0, None), "settlement"),
        (settled(5, 0, None), "settlement"),
        (settled(3, 0, None), "dead reason"),
        (settled(3, 256 + 1, None), "dead reason"),
        (settled(4, 0, None), "release reason"),
        (settled(4, 5, None), "release reason"),
        (settled(1, 0, with(0, 200)), "class"),
        (settled(1, 0, with(9, 200)), "class"),
        (settled(1, 0, with(1, 65536)), "status"),
    ] {
        assert_eq!(crossed(settled).expect_err("refused").field, field);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = FromIngester::decode(bytes.as_slice());
        if let Ok(frame) = FromEgress::decode(bytes.as_slice()) {
            for settled in frame.settled {
                let _ = settled.into_parts();
            }
        }
    }

    /// Near misses: a valid frame with some bytes changed gets further into the decoder than noise does.
    #[test]
    fn damaged_frames_never_panic(at in 0_usize..64, byte: u8, kind: u32, reason: u32, class: u32, error: u32) {
        let attempt = Attempt { class, error, status: 200, response: Bytes::from_static(b"response"), ..Attempt::default() };
        let settled = Settled { token: TOKEN, kind, after: 5, reason, attempt: Some(attempt) };
        let mut bytes = FromEgress { settled: vec![settled.clone(), settled], ..FromEgress::default() }.encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(frame) = FromEgress::decode(bytes.as_slice()) {
            for settled in frame.settled {
                let _ = settled.into_parts();
            }
        }
    }
}
