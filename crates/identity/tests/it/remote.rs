//! The transport to the identity service, over real sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zen_deliver::StaticResolver;
use zen_identity::client::{Error, Issuer as _, Options, Remote};
use zen_identity::server::{Refusal, insert_peer, serve_tls};
use zen_identity::wire::{IDENTITY, Who};
use zen_identity::{Action, Component};
use zen_model::reason::TrustRefusal;
use zen_pki::{Ca, HotCertificate, Identity, SpiffeId, optional_mtls_server};

use crate::support::{HOUR, ca, id, identity, mesh};

const HOST: &str = "zen-operator.zen-mesh.svc";

/// Authorization and peer of each request.
type Seen = Arc<Mutex<Vec<(String, Option<SpiffeId>)>>>;

async fn who(State(seen): State<Seen>, peer: Option<Extension<SpiffeId>>, headers: HeaderMap) -> Response {
    let token = headers["authorization"].to_str().expect("ASCII").to_owned();
    let refuse = token.ends_with("refuse");
    seen.lock().expect("no panic").push((token, peer.map(|peer| peer.0)));
    if refuse {
        return Refusal::new(TrustRefusal::TokenInvalid).into_response();
    }
    Json(Who {
        spiffe_id: "spiffe://a/b".to_owned(),
        serving_names: vec![],
        lifetime_seconds: 60,
        issuer: None,
        serving_since: None,
    })
    .into_response()
}

struct Service {
    address: SocketAddr,
    seen: Seen,
    folder: TempDir,
    end: CancellationToken,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Service {
    async fn start(ca: &Ca) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let serving = HotCertificate::new(&ca.issue_server(&[HOST.to_owned()], HOUR).expect("issued")).expect("usable");
        let own = identity(ca, &id(Component::Operator));
        let tls = optional_mtls_server(&serving, &own, mesh().permitted(&[Action::Issue])).expect("configured");
        let (seen, end) = (Seen::default(), CancellationToken::new());
        let router = Router::new().route(IDENTITY, get(who)).with_state(Arc::clone(&seen));
        tokio::spawn(serve_tls(listener, tls, router, end.clone(), insert_peer));
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.crt"), ca.certificate_pem()).expect("written");
        let service = Self { address, seen, folder, end };
        service.token("one\n");
        service
    }

    fn token(&self, token: &str) {
        std::fs::write(self.folder.path().join("token"), token).expect("written");
    }

    fn remote(&self, host: &str) -> Remote {
        let mut options = Options::new(format!("https://{host}:{}", self.address.port()));
        options.roots = self.folder.path().join("ca.crt");
        options.token = self.folder.path().join("token");
        let resolver = StaticResolver(HashMap::from([(HOST.to_owned(), vec![self.address.ip()])]));
        Remote::with_resolver(&options, Arc::new(resolver)).expect("an address")
    }

    fn seen(&self) -> Vec<(String, Option<SpiffeId>)> {
        self.seen.lock().expect("no panic").clone()
    }
}

#[tokio::test]
async fn the_token_is_read_each_time_and_the_certificate_shown() {
    let ca = ca();
    let service = Service::start(&ca).await;
    let remote = service.remote(HOST);
    assert_eq!(remote.who(None).await.expect("answered").lifetime_seconds, 60);
    service.token("two");
    let own = identity(&ca, &id(Component::Egress));
    remote.who(Some(&own)).await.expect("answered");
    let expected = [("Bearer one".to_owned(), None), ("Bearer two".to_owned(), Some(id(Component::Egress)))];
    assert_eq!(service.seen(), expected);
    service.token("refuse");
    let error = remote.who(None).await.expect_err("refused");
    assert!(matches!(&error, Error::Refused(refused) if refused.code == "TokenInvalid"), "{error}");
    assert!(!format!("{error} {error:?} {remote:?}").contains("Bearer"));
}

#[tokio::test]
async fn a_certificate_that_is_not_taken_gives_way_to_the_token() {
    let (ours, theirs) = (ca(), ca());
    let service = Service::start(&ours).await;
    let remote = service.remote(HOST);
    for own in [identity(&theirs, &id(Component::Egress)), identity(&ours, &id(Component::Operator))] {
        remote.who(Some(&own)).await.expect("answered");
    }
    // One at its end is not even shown.
    let ending = ours.issue_workload(&id(Component::Egress), std::time::Duration::from_secs(30)).expect("issued");
    let ending = Identity::new(&ending, &ours.roots().expect("roots")).expect("an identity");
    remote.who(Some(&ending)).await.expect("answered");
    assert!(service.seen().iter().all(|(_, peer)| peer.is_none()));
    assert_eq!(service.seen().len(), 3);
}

#[tokio::test]
async fn a_server_of_another_name_or_root_gets_no_token() {
    let service = Service::start(&ca()).await;
    let error = service.remote("127.0.0.1").who(None).await.expect_err("another name");
    assert!(matches!(error, Error::Exchange(_)), "{error}");
    std::fs::write(service.folder.path().join("ca.crt"), ca().certificate_pem()).expect("written");
    let error = service.remote(HOST).who(None).await.expect_err("another root");
    assert!(matches!(error, Error::Exchange(_)), "{error}");
    let error = service.remote("nowhere.zen-mesh.svc").who(None).await.expect_err("no address");
    assert!(matches!(error, Error::Resolve { .. }), "{error}");
    std::fs::remove_file(service.folder.path().join("token")).expect("removed");
    let error = service.remote(HOST).who(None).await.expect_err("no token");
    assert!(matches!(error, Error::File { .. }), "{error}");
    assert!(service.seen().is_empty());
}

#[test]
fn addresses_are_checked() {
    for bad in ["", "zen-operator", "http://a", "https://", "https://u@a", "https://a/path", "https://a b"] {
        assert!(matches!(Remote::new(&Options::new(bad)), Err(Error::Url(_))), "{bad}");
    }
    for good in ["https://a", "https://a/", "https://a:8443", "https://127.0.0.1:1", "https://[::1]:1"] {
        Remote::new(&Options::new(good)).expect(good);
    }
}
