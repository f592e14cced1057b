//! The control API's transport: who connects, who may do what (T-05), and how it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Query};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zen_identity::control::ReportQuery;
use zen_identity::http::{Client, Error, Peer};
use zen_identity::server::{Denials, Handshakes, Refusals, require, serve_for_telling, serve_telling};
use zen_identity::{Action, Component};
use zen_model::reason::PeerReason;
use zen_pki::SpiffeId;

use crate::support::{Served, ca, id, identity};

fn router() -> Router {
    let report = async |Extension(peer): Extension<SpiffeId>, Query(query): Query<ReportQuery>| {
        Json(json!({"peer": peer.as_str(), "after": query.after, "epoch": query.epoch}))
    };
    Router::new()
        .route("/v1/report", get(report).layer(require(Action::Report)))
        .route("/v1/adopt", post(async |Json(body): Json<Value>| Json(body)).layer(require(Action::Adopt)))
}

#[tokio::test]
async fn the_policy_decides_per_route() {
    let ca = ca();
    let served = Served::start(&identity(&ca, &id(Component::Ingester)), router()).await;
    let peer = served.peer(&id(Component::Ingester));
    let operator = Client::new(&identity(&ca, &id(Component::Operator)));
    let query = ReportQuery { after: 3, epoch: Some("e-1".to_owned()), wait: 0 };
    let answer: Value = operator.get(&peer, &query.path_and_query()).await.expect("allowed");
    assert_eq!(answer, json!({"peer": id(Component::Operator).as_str(), "after": 3, "epoch": "e-1"}));
    let refused = operator.post::<Value>(&peer, "/v1/adopt", &json!({})).await.expect_err("refused");
    let Error::Refused { status, refused: Some(refused) } = refused else { panic!("{refused}") };
    assert_eq!((status.as_u16(), refused.code.as_str()), (403, "ActionNotPermitted"));
    assert!(!refused.request_id.is_empty());

    let sibling = Client::new(&identity(&ca, &id(Component::Ingester)));
    let answer: Value = sibling.post(&peer, "/v1/adopt", &json!({"a": 1})).await.expect("allowed");
    assert_eq!(answer, json!({"a": 1}));
    assert_eq!(sibling.get::<Value>(&peer, "/v1/report").await.expect_err("refused").category(), "refused");
    let missing = operator.get::<Value>(&peer, "/v1/nothing").await.expect_err("not there");
    assert_eq!(missing.status().map(|status| status.as_u16()), Some(404));
}

/// As the audit store's listener, which takes nobody without a certificate.
#[tokio::test]
async fn refused_handshakes_are_told_with_their_reason() {
    let (ours, theirs) = (ca(), ca());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let handshakes = Handshakes::telling(move |refused| {
        let _ = tell.send((refused.reason, refused.from));
    });
    let (own, end) = (identity(&ours, &id(Component::Audit)), CancellationToken::new());
    let refusals = Refusals { handshakes, ..Refusals::default() };
    let served = serve_for_telling(&[Action::Audit], listener, &own, router(), end.clone(), refusals);
    let audit = Peer { address, id: id(Component::Audit) };
    let foreign = identity(&theirs, &id(Component::ZenLock));
    foreign.replace_roots(&ours.roots().expect("roots")).expect("replaced");
    let refused = async {
        Client::new(&foreign).get::<Value>(&audit, "/").await.expect_err("refused");
        let stranger = identity(&ours, &"spiffe://zen-mesh.local/ns/team-a/sa/x".parse().expect("valid"));
        Client::new(&stranger).get::<Value>(&audit, "/").await.expect_err("refused");
        end.cancel();
    };
    let (served, ()) = tokio::join!(served, refused);
    served.expect("served");
    let mut reasons = Vec::new();
    while let Ok((reason, from)) = told.try_recv() {
        assert_eq!(from, Some(address.ip()));
        reasons.push(reason);
    }
    // Another CA of the same name.
    assert_eq!(reasons, [PeerReason::SignatureWrong, PeerReason::PeerNotAllowed]);
}

/// T-05: who got through the handshake and was not let do it, each time.
#[tokio::test]
async fn denials_are_told_with_their_reason_and_the_id_of_the_answer() {
    let ca = ca();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let denials = Denials::telling(move |denial| {
        let _ = tell.send((
            denial.who.to_owned(),
            denial.action.to_owned(),
            denial.code,
            denial.request_id.to_owned(),
            denial.from,
        ));
    });
    let (own, end) = (identity(&ca, &id(Component::Ingester)), CancellationToken::new());
    let refusals = Refusals { denials, ..Refusals::default() };
    let served = serve_telling(listener, &own, router(), end.clone(), refusals);
    let peer = Peer { address, id: id(Component::Ingester) };
    let asked = async {
        let sibling = Client::new(&own);
        sibling.post::<Value>(&peer, "/v1/adopt", &json!({})).await.expect("allowed");
        let refused = sibling.get::<Value>(&peer, "/v1/report").await.expect_err("refused");
        end.cancel();
        let Error::Refused { refused: Some(refused), .. } = refused else { panic!("{refused}") };
        refused.request_id
    };
    let (served, request_id) = tokio::join!(served, asked);
    served.expect("served");
    let who = id(Component::Ingester).to_string();
    let denied = told.try_recv().expect("told");
    assert_eq!(denied, (who, "report".to_owned(), "ActionNotPermitted", request_id, Some(address.ip())));
    assert!(told.try_recv().is_err(), "what was allowed is none");
}

#[tokio::test]
async fn who_has_no_business_here_does_not_get_through_the_handshake() {
    let (ours, theirs) = (ca(), ca());
    let served = Served::start(&identity(&ours, &id(Component::Ingester)), router()).await;
    let peer = served.peer(&id(Component::Ingester));
    let strangers = [
        identity(&ours, &id(Component::Egress)),
        identity(&ours, &"spiffe://zen-mesh.local/ns/team-a/sa/zen-operator".parse().expect("valid")),
    ];
    for stranger in strangers {
        Client::new(&stranger).get::<Value>(&peer, "/v1/report").await.expect_err("refused");
    }
    let foreign = identity(&theirs, &id(Component::Operator));
    foreign.replace_roots(&ours.roots().expect("roots")).expect("replaced");
    Client::new(&foreign).get::<Value>(&peer, "/v1/report").await.expect_err("refused");
    // And the client does not speak to somebody else than it means.
    let operator = Client::new(&identity(&ours, &id(Component::Operator)));
    let error = operator.get::<Value>(&served.peer(&id(Component::Egress)), "/v1/report").await.expect_err("refused");
    assert_eq!(error.category(), "tls", "{error}");
}

#[tokio::test]
async fn a_workload_of_no_mesh_serves_nothing() {
    let ca = ca();
    let odd = identity(&ca, &"spiffe://zen-mesh.local/ns/a/sa/b".parse().expect("valid"));
    let served = Served::start(&odd, router()).await;
    assert!(served.task.await.expect("no panic").is_err());
}

/// T-02: a long poll goes on while the server's certificate is exchanged, and ends well at shutdown.
#[tokio::test]
async fn open_requests_survive_a_swap_and_end_at_shutdown() {
    let ca = ca();
    let ingester = identity(&ca, &id(Component::Ingester));
    let (entered, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (inside, released) = (Arc::clone(&entered), Arc::clone(&go));
    let wait = move || {
        let (inside, released) = (Arc::clone(&inside), Arc::clone(&released));
        async move {
            inside.notify_one();
            released.notified().await;
            Json(json!("done"))
        }
    };
    let served = Served::start(&ingester, Router::new().route("/v1/report", get(wait))).await;
    let operator = Client::new(&identity(&ca, &id(Component::Operator)));
    let peer = served.peer(&id(Component::Ingester));
    let polling = tokio::spawn(async move { operator.get::<Value>(&peer, "/v1/report").await });
    entered.notified().await;
    ingester.replace(&ca.issue_workload(ingester.id(), 2 * crate::support::HOUR).expect("issued")).expect("replaced");
    served.shutdown.cancel();
    go.notify_one();
    assert_eq!(polling.await.expect("no panic").expect("answered"), json!("done"));
    served.task.await.expect("no panic").expect("served");
}

/// A body that stops half-way ends its request, and with it whatever the request holds.
#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let ca = ca();
    let entered = Arc::new(Notify::new());
    let inside = Arc::clone(&entered);
    let whole = move |body: axum::body::Body| {
        let inside = Arc::clone(&inside);
        async move {
            inside.notify_one();
            axum::body::to_bytes(body, 100).await.map(drop).map_err(|_| http::StatusCode::BAD_REQUEST)
        }
    };
    let router = Router::new().route("/v1/adopt", post(whole));
    let served = Served::start(&identity(&ca, &id(Component::Ingester)), router).await;
    let sibling = identity(&ca, &id(Component::Ingester));
    let mut tls = (*zen_pki::mtls_client(&sibling, id(Component::Ingester)).expect("TLS")).clone();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let tcp = tokio::net::TcpStream::connect(served.address).await.expect("connected");
    let name = rustls_pki_types::ServerName::IpAddress(served.address.ip().into());
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await.expect("a handshake");
    let head = "POST /v1/adopt HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.flush().await.expect("sent");
    // It waits for the rest, and the clock may run ahead.
    entered.notified().await;
    tokio::time::pause();
    let mut answer = [0; 12];
    let read = tokio::time::timeout(Duration::from_mins(1), stream.read_exact(&mut answer)).await;
    read.expect("answered in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 400");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_given_up_in_time() {
    let ca = ca();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let operator = Client::new(&identity(&ca, &id(Component::Operator))).with_timeout(Duration::from_millis(200));
    let peer = Peer { address, id: id(Component::Ingester) };
    let error = operator.get::<Value>(&peer, "/v1/report").await.expect_err("no answer");
    assert_eq!(error.category(), "timeout", "{error}");
    drop(listener);
    let error = operator.get::<Value>(&peer, "/v1/report").await.expect_err("nobody");
    assert_eq!(error.category(), "connect", "{error}");
}
