//! Connections to a server that is known by its name, over real sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use zen_deliver::StaticResolver;
use zen_identity::endpoint::Endpoint;
use zen_identity::server::{insert_peer, serve_tls};
use zen_identity::{Action, Component};
use zen_pki::{HotCertificate, named_client, optional_mtls_server};

use crate::support::{HOUR, ca, id, identity, mesh};

const HOST: &str = "zenlock-webhook.zen-mesh.svc";
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection serves one request after another, and one that the server ended gives way to another unseen.
#[tokio::test]
async fn a_connection_is_kept_while_it_stands() {
    let ca = ca();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let behind = listener.local_addr().expect("an address");
    let serving = HotCertificate::new(&ca.issue_server(&[HOST.to_owned()], HOUR).expect("issued")).expect("usable");
    let own = identity(&ca, &id(Component::ZenLock));
    let tls = optional_mtls_server(&serving, &own, mesh().permitted(&[Action::Unseal])).expect("configured");
    let end = CancellationToken::new();
    let router = Router::new().route("/", get(|| async { "here" }));
    tokio::spawn(serve_tls(listener, tls, router, end.clone(), insert_peer));

    // In front of it: what counts connections, and ends them.
    let front = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = front.local_addr().expect("an address").port();
    let connections = Arc::new(AtomicUsize::new(0));
    let (broken, counted) = (tokio::sync::watch::Sender::new(()), Arc::clone(&connections));
    let breaking = broken.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = front.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut until = breaking.subscribe();
            let mut far = TcpStream::connect(behind).await.expect("connected");
            tokio::spawn(async move {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = until.changed() => {}
                }
            });
        }
    });

    let resolver = StaticResolver(HashMap::from([(HOST.to_owned(), vec![behind.ip()])]));
    let endpoint = Endpoint::with_resolver(&format!("https://{HOST}:{port}"), Arc::new(resolver)).expect("an address");
    let tls = named_client(&ca.roots().expect("roots"), None).expect("configured");
    let request = Request::get("/").header("host", endpoint.host()).body(Full::new(Bytes::new())).expect("a request");
    let seen = || connections.load(Ordering::SeqCst);
    let mut kept = None;
    for _ in 0..3 {
        let response = endpoint.send_over(&mut kept, &tls, &request, PATIENCE, 100).await.expect("answered");
        assert_eq!((response.body().as_ref(), seen()), (&b"here"[..], 1));
    }
    // Whether or not the client has noticed when it asks.
    for expected in 2..=5 {
        broken.send_replace(());
        endpoint.send_over(&mut kept, &tls, &request, PATIENCE, 100).await.expect("answered");
        assert_eq!(seen(), expected);
    }
    for expected in 6..=7 {
        endpoint.send(&tls, &request, PATIENCE, 100).await.expect("answered");
        assert_eq!(seen(), expected, "one of its own");
    }
    let error = endpoint.send_over(&mut kept, &tls, &request, PATIENCE, 1).await.expect_err("too long an answer");
    assert!(error.to_string().contains("failed to read the answer") && kept.is_none(), "{error}");
    end.cancel();
}
