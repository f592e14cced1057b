//! Connections as a whole: TLS and HTTP/2, lingering close, the body budget, the number of connections, the drain.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use zen_ingester::Limits;

use crate::kit::{Intake, TOKEN, bearer, configuration, destination, post, read_all, read_one, until};

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn tls() -> (Arc<ServerConfig>, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (Arc::new(server), roots)
}

async fn h2_client<B>(intake: &Intake, roots: RootCertStore) -> hyper::client::conn::http2::SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(intake.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn h2_post(path: &str, headers: usize, body: Bytes) -> http::Request<Full<Bytes>> {
    let mut request = http::Request::post(format!("https://hooks.example.com{path}"))
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-length", body.len());
    for n in 0..headers {
        request = request.header(format!("x-{n}"), "1");
    }
    request.body(Full::new(body)).unwrap()
}

/// HTTP/2 by ALPN: many streams on one connection, the same checks and answers.
#[tokio::test]
async fn http2_has_the_same_answers() {
    let (server, roots) = tls();
    let webhooks = [("hook", bearer(&json!({}))), ("small", bearer(&json!({"limits": {"body": "10"}})))];
    let intake = Intake::start(configuration(&webhooks, &[("ci", destination())]), Limits::default(), Some(server));
    let client = h2_client(&intake, roots).await;
    let send = |request| {
        let mut client = client.clone();
        async move {
            let response = client.send_request(request).await.expect("an answer");
            let (head, body) = response.into_parts();
            let body = body.collect().await.expect("a body").to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(head.headers.contains_key("x-request-id"));
            (head.status.as_u16(), json["code"].as_str().unwrap_or_default().to_owned())
        }
    };
    let body = Bytes::from(vec![b'x'; 600_000]);
    let answers = futures_util::future::join_all((0..8).map(|_| send(h2_post("/a/hook", 0, body.clone())))).await;
    assert!(answers.iter().all(|(status, _)| *status == 202), "{answers:?}");
    assert_eq!(intake.queue.events().len(), 8);
    assert_eq!(send(h2_post("/a/none", 0, Bytes::new())).await, (404, "UnknownPath".into()));
    assert_eq!(send(h2_post("/a/hook", 101, Bytes::new())).await, (431, "HeadersTooLarge".into()));
    let refused = send(h2_post("/a/small", 0, Bytes::from(vec![b'x'; 3_000_000]))).await;
    assert_eq!(refused, (413, "BodyTooLarge".into()), "the answer comes while the body is being sent");
    assert_eq!(send(h2_post("/a/hook", 0, Bytes::from_static(b"after"))).await.0, 202, "the connection goes on");
}

/// After an early refusal the stream is read on: a reset would make some clients drop the answer that they have got.
#[tokio::test]
async fn an_http2_client_may_finish_sending_after_an_early_refusal() {
    let (server, roots) = tls();
    let webhooks = [("small", bearer(&json!({"limits": {"body": "10"}})))];
    let intake = Intake::start(configuration(&webhooks, &[("ci", destination())]), Limits::default(), Some(server));
    let mut client = h2_client(&intake, roots).await;
    let (sent, whole) = tokio::sync::oneshot::channel();
    let mut sent = Some(sent);
    let end = stream::poll_fn(move |_| {
        sent.take().map(|sent| sent.send(()));
        Poll::Ready(None)
    });
    let chunks = (0..30).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 100_000]))));
    let request = http::Request::post("https://hooks.example.com/a/small")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-length", 3_000_000)
        .body(StreamBody::new(stream::iter(chunks).chain(end)))
        .unwrap();
    let response = client.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 413);
    whole.await.expect("the stream is not reset before the client is done");
}

/// A client that sends 50 MiB and then reads hears 413, over plain and over TLS: the answer is not lost to a reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let body = vec![b'x'; 50 << 20];
    let intake = Intake::usual();
    let mut client = TcpStream::connect(intake.address).await.unwrap();
    client.write_all(&post("/a/hook", &[], &body)).await.expect("the whole body can be sent");
    let answers = read_all(&mut client).await;
    assert_eq!(answers.iter().map(crate::kit::Answer::code).collect::<Vec<_>>(), ["BodyTooLarge"]);
    assert_eq!(answers[0].header("connection"), Some("close"));

    let (server, roots) = tls();
    let webhooks = configuration(&[("hook", bearer(&json!({})))], &[("ci", destination())]);
    let intake = Intake::start(webhooks, Limits::default(), Some(server));
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(intake.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    client.write_all(&post("/a/hook", &[], &body)).await.expect("the whole body can be sent");
    client.flush().await.unwrap();
    let mut text = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut client, &mut text).await;
    assert!(String::from_utf8_lossy(&text).contains("\"BodyTooLarge\""), "{}", String::from_utf8_lossy(&text));
}

/// A refused small body is read off, so the connection stays.
#[tokio::test]
async fn a_connection_survives_a_small_refusal() {
    let intake = Intake::usual();
    let mut client = TcpStream::connect(intake.address).await.unwrap();
    let mut buffer = Vec::new();
    let auth = format!("authorization: Bearer {TOKEN}");
    for path in ["/a/none", "/a/hook", "/a/none", "/a/hook"] {
        client.write_all(&post(path, &[&auth], &[b'x'; 5000])).await.unwrap();
        let answer = read_one(&mut client, &mut buffer).await.expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (if path == "/a/hook" { 202 } else { 404 }, None));
    }
}

/// The budget is taken before the body is read: while one client holds it, another is refused, and then not (W-15).
#[tokio::test]
async fn bodies_in_flight_have_a_budget() {
    let intake = Intake::with(&[("hook", bearer(&json!({})))], Limits { body_budget: 1000, ..Limits::default() });
    let auth = format!("authorization: Bearer {TOKEN}");
    let whole = post("/a/hook", &[&auth], &[b'x'; 900]);
    let mut slow = TcpStream::connect(intake.address).await.unwrap();
    slow.write_all(&whole[..whole.len() - 1]).await.unwrap();
    until("the slow body has its share", || intake.ingester.body_bytes_in_flight() == 900).await;
    let refused = intake.good("/a/hook", &[], &[b'x'; 200]).await;
    assert_eq!((refused.code().as_str(), refused.header("retry-after")), ("Overloaded", Some("5")));
    assert_eq!(intake.good("/a/hook", &[], &[b'x'; 100]).await.status, 202, "what fits is taken");
    slow.write_all(b"x").await.unwrap();
    assert_eq!(read_one(&mut slow, &mut Vec::new()).await.unwrap().status, 202);
    assert_eq!(intake.good("/a/hook", &[], &[b'x'; 200]).await.status, 202);
    drop(slow);
    assert_eq!(intake.ingester.body_bytes_in_flight(), 0);
}

/// One slot: the second connection is served when the first has ended.
#[tokio::test]
async fn connections_are_bounded() {
    let intake = Intake::with(&[("hook", bearer(&json!({})))], Limits { max_connections: 1, ..Limits::default() });
    let auth = format!("authorization: Bearer {TOKEN}");
    let mut first = TcpStream::connect(intake.address).await.unwrap();
    first.write_all(&post("/a/hook", &[&auth], b"1")).await.unwrap();
    assert_eq!(read_one(&mut first, &mut Vec::new()).await.unwrap().status, 202);
    let mut second = TcpStream::connect(intake.address).await.unwrap();
    second.write_all(&post("/a/hook", &[&auth], b"2")).await.unwrap();
    let mut buffer = Vec::new();
    let early = tokio::time::timeout(Duration::from_millis(50), read_one(&mut second, &mut buffer)).await;
    assert!(early.is_err(), "there is no slot for it");
    drop(first);
    assert_eq!(read_one(&mut second, &mut buffer).await.unwrap().status, 202);
}

/// The drain: idle connections end at once, a request in flight is finished and answered, then `serve` returns.
#[tokio::test]
async fn the_drain_finishes_what_is_in_flight() {
    let intake = Intake::usual();
    let auth = format!("authorization: Bearer {TOKEN}");
    let mut idle = TcpStream::connect(intake.address).await.unwrap();
    idle.write_all(&post("/a/hook", &[&auth], b"1")).await.unwrap();
    let mut buffer = Vec::new();
    assert_eq!(read_one(&mut idle, &mut buffer).await.unwrap().status, 202);
    let whole = post("/a/hook", &[&auth], b"in flight");
    let mut busy = TcpStream::connect(intake.address).await.unwrap();
    busy.write_all(&whole[..whole.len() - 1]).await.unwrap();
    until("the request is in flight", || intake.ingester.body_bytes_in_flight() == 9).await;

    intake.shutdown.cancel();
    assert!(read_one(&mut idle, &mut buffer).await.is_none(), "the idle connection ends");
    assert!(!intake.served.is_finished());
    busy.write_all(&whole[whole.len() - 1..]).await.unwrap();
    let answer = read_one(&mut busy, &mut buffer).await.expect("an answer");
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    intake.served.await.unwrap();
    assert!(TcpStream::connect(intake.address).await.is_err(), "nobody listens any more");
    assert_eq!(intake.queue.events().len(), 2);
}

/// A client that does not finish cannot hold the drain up for longer than its limit.
#[tokio::test(start_paused = true)]
async fn the_drain_has_a_limit() {
    let limits = Limits { body_grace: Duration::from_mins(1), ..Limits::default() };
    let intake = Intake::with(&[("hook", bearer(&json!({})))], limits);
    let whole = post("/a/hook", &[&format!("authorization: Bearer {TOKEN}")], b"x");
    let mut stuck = TcpStream::connect(intake.address).await.unwrap();
    stuck.write_all(&whole[..whole.len() - 1]).await.unwrap();
    until("the request is in flight", || intake.ingester.body_bytes_in_flight() == 1).await;
    let began = tokio::time::Instant::now();
    intake.shutdown.cancel();
    intake.served.await.unwrap();
    assert!(began.elapsed() <= limits.drain_timeout + Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_last_moments_answer_draining() {
    let intake = Intake::usual();
    intake.ingester.refuse_new_requests(true);
    let answer = intake.good("/a/hook", &[], b"x").await;
    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("Draining", Some("5")));
}

/// A handshake that does not come is given up.
#[tokio::test(start_paused = true)]
async fn a_silent_client_cannot_hold_a_handshake_open() {
    let (server, _) = tls();
    let webhooks = configuration(&[("hook", bearer(&json!({})))], &[("ci", destination())]);
    let intake = Intake::start(webhooks, Limits::default(), Some(server));
    let mut silent = TcpStream::connect(intake.address).await.unwrap();
    assert_eq!(read_all(&mut silent).await.len(), 0);
    assert!(intake.metrics().contains("zen_ingester_handshake_failures_total 1"));
}
