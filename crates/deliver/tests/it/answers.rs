//! Answers and their classes (D-04, D-06).

use std::time::Duration;

use zen_compile::Destination;
use zen_model::Fault;
use zen_model::settle::Class;
use zen_testkit::{Answer, FrozenClock, TestCa, Upstream};

use crate::fixture::{NOW, attempt, deliverer, event, plain, prepare, secure};

#[tokio::test]
async fn delivers_over_tls_and_reads_the_response() {
    let ca = TestCa::new();
    let upstream = Upstream::https(&ca, &["localhost"]).await;
    upstream.then(Answer::status(202).body("thanks"));
    let result = attempt(secure(&upstream, &ca)).await;
    assert_eq!((result.class, result.status, result.fault), (Class::Delivered, 202, None));
    assert_eq!(&result.response[..], b"thanks");
}

#[tokio::test]
async fn redirects_are_never_followed() {
    let upstream = Upstream::http().await;
    upstream.then(Answer::status(307).header("location", "/elsewhere"));
    let result = attempt(plain(&upstream)).await;
    assert_eq!((result.class, result.status), (Class::Rejected, 307));
    assert_eq!(upstream.received().len(), 1);
}

#[tokio::test]
async fn retry_after_makes_an_answer_throttled() {
    let upstream = Upstream::http().await;
    upstream.then(Answer::status(503).header("retry-after", "7")).then(Answer::status(503)).then(Answer::status(429));
    let (first, second, third) =
        (attempt(plain(&upstream)).await, attempt(plain(&upstream)).await, attempt(plain(&upstream)).await);
    assert_eq!((first.class, first.retry_after), (Class::Throttled, Some(Duration::from_secs(7))));
    assert_eq!((second.class, third.class, third.retry_after), (Class::Transient, Class::Throttled, None));
}

#[tokio::test]
async fn a_response_is_read_to_its_cap_and_the_status_counts() {
    let upstream = Upstream::http().await;
    upstream.then(Answer::status(200).huge_body(1 << 40)).then(Answer::status(500).huge_body(1 << 40));
    let prepared = prepare(Destination { max_response: 10_000, ..plain(&upstream) });
    for class in [Class::Delivered, Class::Transient] {
        let result = deliverer().attempt(&prepared, &event(), NOW).await;
        assert_eq!((result.class, result.fault), (class, Some(Fault::ResponseCut)));
        assert_eq!(result.response.len(), 4096, "no more is kept");
    }
    assert_eq!(upstream.connections(), 2, "the rest of the response is not waited for");
}

#[tokio::test]
async fn ends_without_an_answer_are_transient_and_ambiguous_where_a_repeat_does_harm() {
    let answers = [
        Answer::close(),
        Answer::reset(),
        Answer::status(200).stall_after(5).reset_after(5),
        Answer::garbage("SSH-2.0\r\n\r\n"),
    ];
    for answer in answers {
        for (idempotent, class) in [(true, Class::Transient), (false, Class::Ambiguous)] {
            let upstream = Upstream::http().await;
            upstream.then(answer.clone());
            let result = attempt(Destination { idempotent, ..plain(&upstream) }).await;
            assert_eq!((result.class, result.status), (class, 0), "{answer:?}: {:?}", result.fault);
        }
    }
}

#[tokio::test]
async fn a_status_counts_although_the_body_breaks_off() {
    let upstream = Upstream::http().await;
    upstream.then(Answer::status(200).body("0123456789").head_only());
    let result = attempt(plain(&upstream)).await;
    assert_eq!((result.class, result.fault), (Class::Delivered, Some(Fault::ResponseIncomplete)));
}

#[tokio::test]
async fn a_silent_target_is_left_at_the_request_timeout() {
    for (answer, class, status) in [
        (Answer::never(), Class::Transient, 0),
        (Answer::status(200).body("x").stall_after(20), Class::Transient, 0),
        (Answer::status(404).body("0123456789").stall_after(50), Class::Rejected, 404),
    ] {
        let upstream = Upstream::http().await;
        upstream.then(answer);
        let clock = FrozenClock::new();
        let running = tokio::spawn(attempt(plain(&upstream)));
        upstream.wait_for(1).await;
        clock.advance(Duration::from_secs(29)).await;
        assert!(!running.is_finished());
        clock.advance(Duration::from_secs(2)).await;
        let result = running.await.expect("no panic");
        tokio::time::resume();
        assert_eq!((result.class, result.status), (class, status), "{:?}", result.fault);
    }
}
