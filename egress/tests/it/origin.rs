//! What does not verify is not delivered (W-12), and nothing secret is told.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use prost::Message;
use zen_compile::Destination;
use zen_link::frame::Lease;
use zen_model::settle::ReleaseReason;
use zen_model::{DeadReason, Event, Secret, Settlement, Timestamp};
use zen_testkit::{Answer, Upstream};
use zen_verify::zen_signature::Keys;

use crate::fixture::{Bench, destination, event, keys, lease, lease_of};

#[tokio::test]
async fn a_lease_that_does_not_verify_is_dead() {
    let upstream = Upstream::http().await;
    let mut bench = Bench::new(vec![destination("ci", &upstream)]);
    let body_changed = {
        let good = event(0);
        let changed = Event { body: Bytes::from_static(b"changed"), ..good.clone() };
        Lease { record: changed.encode_to_vec().into(), ..lease_of("ci", 0, &good) }
    };
    let body_and_hash_changed = Lease { record: event(99).encode_to_vec().into(), ..lease("ci", 1) };
    let id_changed = {
        let changed = Event { id: "other".into(), ..event(2) };
        Lease { record: changed.encode_to_vec().into(), ..lease("ci", 2) }
    };
    let stranger = Keys::new(vec![("link".into(), Secret::new([7; 32]))]).expect("a key ring");
    let unknown = Keys::new(vec![("other".into(), Secret::new([7; 32]))]).expect("a key ring");
    let sign = |keys: &Keys, seq, now| keys.sign(&event(seq).id, &event(seq).content_hash, now);
    let old = Timestamp::from_secs(Timestamp::now().as_secs() - 360);
    bench
        .lease(vec![
            body_changed,
            body_and_hash_changed,
            id_changed,
            Lease { signature: sign(&stranger, 3, Timestamp::now()), ..lease("ci", 3) },
            Lease { signature: sign(&unknown, 4, Timestamp::now()), ..lease("ci", 4) },
            Lease { signature: sign(&keys(), 5, old), ..lease("ci", 5) },
            Lease { signature: String::new(), ..lease("ci", 6) },
            Lease { signature: String::new(), destination: "team-a/unknown".into(), ..lease("ci", 7) },
            Lease { record: Bytes::from_static(b"\xff\xff"), ..lease("ci", 8) },
            lease("ci", 9),
        ])
        .await;
    let settled = bench.settled(10).await;
    let dead = |reason| Settlement::Dead { reason };
    for (seq, settlement) in settled.iter().enumerate() {
        match seq {
            // An unknown key, an old signature: trouble of the mesh that passes.
            4 | 5 => {
                assert!(
                    matches!(settlement, Settlement::Release { reason: ReleaseReason::OurFault, .. }),
                    "{settlement:?}"
                );
            }
            8 => assert_eq!(*settlement, dead(DeadReason::RecordDamaged)),
            9 => assert_eq!(*settlement, Settlement::Ack),
            _ => assert_eq!(*settlement, dead(DeadReason::SignatureInvalid), "{seq}"),
        }
    }
    assert_eq!(upstream.received().len(), 1, "only the good one was sent");
    let metrics = bench.metrics();
    for (reason, count) in [("content_hash", 1), ("mismatch", 3), ("unknown_key", 1), ("stale", 1), ("malformed", 2)] {
        let line = format!("zen_egress_signature_failures_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&line), "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn no_secret_or_payload_is_in_what_the_egress_tells() {
    let upstream = Upstream::http().await;
    upstream.always(Answer::status(500).body("MARKER").header("x-marker", "MARKER"));
    let mut bench = Bench::new(vec![Destination {
        signing: vec![Secret::new("MARKER")],
        authentication: Some((HeaderName::from_static("authorization"), HeaderValue::from_static("Bearer MARKER"))),
        set: vec![(HeaderName::from_static("x-set"), HeaderValue::from_static("1"))],
        ..destination("ci", &upstream)
    }]);
    let body = Bytes::from_static(b"MARKER");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
    let marked = Event { content_hash: Bytes::copy_from_slice(hash.as_ref()), body, ..event(0) };
    bench.lease(vec![lease_of("ci", 0, &marked)]).await;
    bench.settled(1).await;
    assert_eq!(upstream.received()[0].header("authorization"), Some("Bearer MARKER"));
    let watched = format!("{:?}", bench.watch.0.lock().expect("no panic"));
    let told = format!("{}{watched}{:?}", bench.metrics(), bench.egress);
    assert!(!told.contains("MARKER"), "{told}");
}
