//! HTTP hygiene on raw sockets (W-16): what hyper does and what we add, byte for byte.

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use zen_ingester::Limits;

use crate::kit::{Intake, TOKEN, bearer, post, read_all, read_one};

fn authorization() -> String {
    format!("authorization: Bearer {TOKEN}")
}

/// Malformed heads: each is refused with a code and the connection ends; the second request is never answered.
#[tokio::test]
async fn malformed_heads_are_refused_and_nothing_after_them_is_read() {
    let intake = Intake::usual();
    let second = String::from_utf8(post("/a/hook", &[&authorization()], b"second")).unwrap();
    let many = "x-field: 1\r\n".repeat(101);
    let large = format!("x-large: {}\r\n", "x".repeat(40 * 1024));
    let auth = authorization();
    let table = [
        (
            "differing lengths",
            format!("POST /a/hook HTTP/1.1\r\nhost: h\r\n{auth}\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"),
            400,
            "BadRequest",
        ),
        (
            "a list of differing lengths",
            format!("POST /a/hook HTTP/1.1\r\nhost: h\r\n{auth}\r\ncontent-length: 3, 4\r\n\r\nabcd"),
            400,
            "BadRequest",
        ),
        (
            "a length that is no number",
            "POST /a/hook HTTP/1.1\r\nhost: h\r\ncontent-length: +3\r\n\r\nabc".into(),
            400,
            "BadRequest",
        ),
        (
            "a negative length",
            "POST /a/hook HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n".into(),
            400,
            "BadRequest",
        ),
        (
            "transfer coding that is not chunked",
            "POST /a/hook HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip\r\n\r\nabc".into(),
            400,
            "BadRequest",
        ),
        (
            "chunked not last",
            "POST /a/hook HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n".into(),
            400,
            "BadRequest",
        ),
        (
            "space before the colon",
            "POST /a/hook HTTP/1.1\r\nhost: h\r\ncontent-length : 3\r\n\r\nabc".into(),
            400,
            "BadRequest",
        ),
        ("a folded line", "POST /a/hook HTTP/1.1\r\nhost: h\r\nx: 1\r\n folded\r\n\r\n".into(), 400, "BadRequest"),
        ("no host", "POST /a/hook HTTP/1.1\r\ncontent-length: 0\r\n\r\n".into(), 400, "BadRequest"),
        (
            "two hosts",
            "POST /a/hook HTTP/1.1\r\nhost: a\r\nhost: b\r\ncontent-length: 0\r\n\r\n".into(),
            400,
            "BadRequest",
        ),
        (
            "a host that is no host",
            "POST /a/hook HTTP/1.1\r\nhost: a/b?c\r\ncontent-length: 0\r\n\r\n".into(),
            400,
            "BadRequest",
        ),
        ("not HTTP", "\u{1}\u{2}\u{3} nonsense\r\n\r\n".into(), 400, "BadRequest"),
        ("another version", "POST /a/hook HTTP/3.0\r\nhost: h\r\n\r\n".into(), 400, "BadRequest"),
        ("101 fields", format!("POST /a/hook HTTP/1.1\r\nhost: h\r\n{many}\r\n"), 431, "HeadersTooLarge"),
        ("40 KiB of head", format!("POST /a/hook HTTP/1.1\r\nhost: h\r\n{large}\r\n"), 431, "HeadersTooLarge"),
    ];
    for (what, head, status, code) in table {
        let answers = intake.talk(format!("{head}{second}").as_bytes()).await;
        assert_eq!(answers.len(), 1, "{what}: {answers:?}");
        let [answer] = answers.as_slice() else { unreachable!() };
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{what}");
        assert_eq!(answer.header("x-request-id"), answer.json()["request_id"].as_str(), "{what}");
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
    }
    assert_eq!(intake.queue.events().len(), 0);
}

/// Chunked wins over a length, in either order and case; the connection ends after the answer and the smuggled request in
/// the rest is never read.
#[tokio::test]
async fn chunked_wins_over_a_length_and_the_connection_ends() {
    let smuggled = String::from_utf8(post("/a/hook", &[&authorization()], b"smuggled")).unwrap();
    let chunked = "4\r\nbody\r\n0\r\n\r\n";
    for lines in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "Transfer-Encoding: Chunked\r\nx: y\r\nCONTENT-LENGTH: 400",
    ] {
        let intake = Intake::usual();
        let auth = authorization();
        let request = format!("POST /a/hook HTTP/1.1\r\nhost: h\r\n{auth}\r\n{lines}\r\n\r\n{chunked}{smuggled}");
        let answers = intake.talk(request.as_bytes()).await;
        assert_eq!(answers.len(), 1, "{lines}: {answers:?}");
        assert_eq!((answers[0].status, answers[0].header("connection")), (202, Some("close")), "{lines}");
        let bodies: Vec<_> = intake.queue.events().into_iter().map(|event| event.body).collect();
        assert_eq!(bodies, ["body"], "{lines}");
    }
}

/// The name is found even when it comes in two reads.
#[tokio::test]
async fn a_length_that_is_split_over_two_reads_is_seen() {
    let intake = Intake::usual();
    let auth = authorization();
    let request = format!(
        "POST /a/hook HTTP/1.1\r\nhost: h\r\n{auth}\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n"
    );
    let at = request.find("ntent-length").unwrap();
    let mut client = TcpStream::connect(intake.address).await.unwrap();
    client.set_nodelay(true).unwrap();
    client.write_all(&request.as_bytes()[..at]).await.unwrap();
    // Lets the server read the first part alone; either way the answer must be the same.
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    client.write_all(&request.as_bytes()[at..]).await.unwrap();
    let answers = read_all(&mut client).await;
    assert_eq!((answers[0].status, answers[0].header("connection")), (202, Some("close")));
}

#[tokio::test]
async fn plain_chunked_requests_and_kept_connections_work() {
    let intake = Intake::usual();
    let auth = authorization();
    let chunked = format!(
        "POST /a/hook HTTP/1.1\r\nhost: h\r\n{auth}\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n4;ext=1\r\n two\r\n0\r\n\r\n"
    );
    let mut client = TcpStream::connect(intake.address).await.unwrap();
    let mut buffer = Vec::new();
    for _ in 0..2 {
        client.write_all(chunked.as_bytes()).await.unwrap();
        let answer = read_one(&mut client, &mut buffer).await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (202, None));
    }
    // Two at once are answered in order.
    client.write_all(&[post("/a/hook", &[&auth], b"three"), post("/none", &[], b"")].concat()).await.unwrap();
    assert_eq!(read_one(&mut client, &mut buffer).await.unwrap().status, 202);
    assert_eq!(read_one(&mut client, &mut buffer).await.unwrap().status, 404);
    let bodies: Vec<_> = intake.queue.events().into_iter().map(|event| event.body).collect();
    assert_eq!(bodies, ["one two", "one two", "three"]);
}

/// Targets in the forms that RFC 9112 has, and others.
#[tokio::test]
async fn odd_targets_find_no_webhook_and_break_nothing() {
    let intake = Intake::usual();
    let auth = authorization();
    for (line, status) in [
        ("POST http://hooks.example.com/a/hook HTTP/1.1", 202),
        ("POST /a/hook?x=1 HTTP/1.1", 202),
        ("POST /a/%68ook HTTP/1.1", 404),
        ("POST //a/hook HTTP/1.1", 404),
        ("POST /a/hook/ HTTP/1.1", 404),
        ("POST /a/../a/hook HTTP/1.1", 404),
        ("POST /A/hook HTTP/1.1", 404),
        ("OPTIONS * HTTP/1.1", 404),
        ("CONNECT hooks.example.com:443 HTTP/1.1", 404),
        ("POST a/hook HTTP/1.1", 400),
        ("GET /a/hook HTTP/1.1", 405),
        ("BREW /a/hook HTTP/1.1", 405),
    ] {
        let request =
            format!("{line}\r\nhost: hooks.example.com\r\n{auth}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let answers = intake.talk(request.as_bytes()).await;
        assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [status], "{line}");
        if status == 405 {
            assert_eq!(answers[0].header("allow"), Some("POST"));
        }
    }
    let old = format!("POST /a/hook HTTP/1.0\r\n{auth}\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!(intake.talk(old.as_bytes()).await[0].status, 202, "HTTP/1.0 needs no host");
}

/// Slow loris: half a head, half a body, nothing at all. The clock is paused: the limits pass at once.
#[tokio::test(start_paused = true)]
async fn slow_requests_are_given_up_with_408() {
    let intake = Intake::usual();
    let auth = authorization();
    let half_body = format!("POST /a/hook HTTP/1.1\r\nhost: h\r\n{auth}\r\ncontent-length: 100\r\n\r\nhalf");
    for (what, bytes) in
        [("nothing", ""), ("half a head", "POST /a/hook HTTP/1.1\r\nhost: h\r\nx"), ("half a body", half_body.as_str())]
    {
        let answers = intake.talk(bytes.as_bytes()).await;
        assert_eq!(answers.iter().map(crate::kit::Answer::code).collect::<Vec<_>>(), ["RequestTimeout"], "{what}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{what}");
    }
    assert_eq!(intake.queue.events().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_a_word() {
    let intake = Intake::usual();
    let began = tokio::time::Instant::now();
    let answers = intake.talk(&post("/a/hook", &[&authorization()], b"x")).await;
    assert_eq!(answers.len(), 1);
    assert!(began.elapsed() >= Limits::default().idle_timeout, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on_or_refused() {
    let intake = Intake::with(&[("hook", bearer(&json!({"limits": {"body": "10"}})))], Limits::default());
    let auth = authorization();
    let head = |length: usize| {
        format!(
            "POST /a/hook HTTP/1.1\r\nhost: h\r\n{auth}\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let mut client = TcpStream::connect(intake.address).await.unwrap();
    let mut buffer = Vec::new();
    client.write_all(head(4).as_bytes()).await.unwrap();
    assert_eq!(read_one(&mut client, &mut buffer).await.unwrap().status, 100);
    client.write_all(b"body").await.unwrap();
    assert_eq!(read_one(&mut client, &mut buffer).await.unwrap().status, 202);
    client.write_all(head(11).as_bytes()).await.unwrap();
    let refused = read_one(&mut client, &mut buffer).await.unwrap();
    assert_eq!((refused.code().as_str(), refused.header("connection")), ("BodyTooLarge", Some("close")));
    assert!(read_one(&mut client, &mut buffer).await.is_none(), "the connection ends");
}
