//! A hub as a member sees it: one enrollment, in memory.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use zen_enroll::proof::{HEADER, Proof, Request};
use zen_enroll::secrets::{BRANCH, Secrets};
use zen_enroll::{
    Answer, Bundle, Certificate, Enrollment, Facts, Fresh, Given, Holds, Issued, Keys, Received, SecretText, Stamp,
    Sync, Synced, Verdict, authenticate, decide,
};
use zen_identity::server::{insert_peer, serve_tls};
use zen_identity::wire::Refused;
use zen_lock::Recipient;
use zen_model::reason::EnrollRefusal;
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Ca, HotCertificate, Identity, Scope, SigningRequest, SpiffeId, optional_mtls_server_by};
use zen_seal::RootKey;
use zen_seal::cluster::{AGENT_BRANCH, ClusterKey};

use super::cluster::domain;

pub const DAY: Duration = Duration::from_hours(24);
const LIFETIME: Duration = Duration::from_hours(90 * 24);

/// What it is, and what tests change.
pub struct HubState {
    pub enrollment: Enrollment,
    /// Of the keys, the newest first.
    pub versions: Vec<u32>,
    pub relay: Option<String>,
    /// Roots beside its own.
    pub more_roots: String,
    /// Signs issuing CAs in place of its own root, and says so.
    pub next: Option<Arc<Ca>>,
    /// What the member said last that it has.
    pub holds: Option<Holds>,
    /// So long ago the issuing CA was made that it gives.
    pub age: Duration,
    /// Answers so many times that it does not lead.
    pub not_leader: u32,
    /// Answers nothing of use.
    pub is_broken: bool,
    /// Requests by kind, and the key that each asked a certificate for.
    pub asked: Vec<(&'static str, Option<[u8; 32]>)>,
}

pub struct Hub {
    pub root: Ca,
    pub identity: Identity,
    key: RootKey,
    pub cluster: ClusterId,
    pub address: SocketAddr,
    state: Mutex<HubState>,
    #[expect(dead_code, reason = "dropping it ends the server")]
    guard: DropGuard,
}

impl Hub {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let now = Timestamp::now();
        let root = Ca::new_root(&domain(), now).expect("a root");
        let issuer = root.issue_intermediate(now).expect("an issuing CA");
        let id = SpiffeId::workload(&domain(), "zen-mesh", "zen-operator").expect("an id");
        let own = issuer.issue_workload(&id, DAY).expect("issued");
        let identity = Identity::new(&own, &root.roots().expect("roots")).expect("an identity");
        let serving = issuer.issue_server(&["127.0.0.1".to_owned()], DAY).expect("issued");
        let serving = HotCertificate::new(&serving).expect("a certificate");
        let tls = optional_mtls_server_by(&serving, &identity, Arc::new(|_| true)).expect("configured");
        let enrollment = Enrollment { uid: "u-1".to_owned(), bundle: "1".to_owned(), disabled: false, issued: None };
        let state = HubState {
            enrollment,
            versions: vec![1],
            relay: Some("relay.example.com:443".to_owned()),
            more_roots: String::new(),
            next: None,
            holds: None,
            age: Duration::ZERO,
            not_leader: 0,
            is_broken: false,
            asked: Vec::new(),
        };
        let end = CancellationToken::new();
        let hub = Arc::new(Self {
            root,
            identity,
            key: RootKey::random(),
            cluster: "team-a/prod-eu".parse().expect("a cluster"),
            address,
            state: Mutex::new(state),
            guard: end.clone().drop_guard(),
        });
        let router = Router::new()
            .route("/v1/enrollments/{tenant}/{cluster}", post(redeem))
            .route("/v1/clusters/{tenant}/{cluster}/sync", post(sync))
            .with_state(Arc::downgrade(&hub));
        tokio::spawn(serve_tls(listener, tls, router, end, insert_peer));
        hub
    }

    pub fn state(&self) -> MutexGuard<'_, HubState> {
        self.state.lock().expect("no panic")
    }

    /// As its bundle says: nobody listens there when the port was taken away.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn roots(&self) -> String {
        self.root.certificate_pem().to_owned() + &self.state().more_roots
    }

    /// A new bundle for this recipient; the one before is void.
    pub fn bundle(&self, id: &str, recipient: &Recipient, at: Timestamp) -> Bundle {
        let stamp = {
            let mut state = self.state();
            let bundle = state.enrollment.bundle.clone();
            let stamp =
                Stamp { uid: state.enrollment.uid.clone(), bundle, issued_at: Timestamp::from_secs(at.as_secs()) };
            let ttl = Duration::from_mins(30);
            state.enrollment.issued =
                Some(Issued { stamp: stamp.clone(), expires_at: stamp.issued_at.plus(ttl), used: None });
            stamp
        };
        self.bundle_of(id, &stamp, recipient, &self.url())
    }

    /// Of any stamp, and for a hub anywhere.
    pub fn bundle_of(&self, id: &str, stamp: &Stamp, recipient: &Recipient, url: &str) -> Bundle {
        let id: ClusterId = id.parse().expect("a cluster");
        let secrets = Secrets::derive(&self.key.branch(BRANCH), &id, stamp);
        let (domain, roots) = (domain(), self.roots());
        let ttl = Duration::from_mins(30);
        Bundle::make(&id, stamp, ttl, (&domain, url, &roots), &secrets, recipient).expect("a bundle")
    }

    fn given(&self) -> Given {
        let key = |version: &u32| {
            let of = |branch: &str| ClusterKey::derive(&self.key.branch(branch), &self.cluster, *version).secret();
            Keys { version: *version, link_key: SecretText(of("zen/link")), agent_key: SecretText(of(AGENT_BRANCH)) }
        };
        let (keys, relay) = {
            let state = self.state();
            (state.versions.iter().map(key).collect(), state.relay.clone())
        };
        let root = Some(self.signs().map_or_else(|| self.root.fingerprint(), |next| next.fingerprint()));
        Given { roots: self.roots(), keys, relay, root }
    }

    fn signs(&self) -> Option<Arc<Ca>> {
        self.state().next.clone()
    }

    fn sign(&self, request: &SigningRequest, at: Timestamp) -> Certificate {
        let scope = Scope::Cluster(self.cluster.clone());
        let made = Timestamp(at.0 - u64::try_from(self.state().age.as_millis()).expect("fits"));
        let next = self.signs();
        let signed =
            next.as_deref().unwrap_or(&self.root).sign_issuer(request, &scope, made, LIFETIME).expect("signed");
        Certificate { chain: signed.chain_pem, not_after: signed.validity.until }
    }

    fn redeem(&self, id: &ClusterId, proof: &str, body: &[u8]) -> Result<Answer, EnrollRefusal> {
        let now = Timestamp::now();
        let received = Received { cluster: id, proof, body };
        let authentic = authenticate(&self.key.branch(BRANCH), &domain(), &received, now);
        let authentic = authentic.map_err(|refused| match refused {
            zen_enroll::Refused::Enroll(reason) => reason,
            zen_enroll::Refused::Trust(_) => EnrollRefusal::RequestMalformed,
        })?;
        let verdict = {
            let mut state = self.state();
            state.asked.push(("redeem", Some(authentic.request.key_digest())));
            let facts = Facts {
                enrollment: Some(&state.enrollment),
                request: &authentic,
                nonce: Fresh::New,
                lifetime: LIFETIME,
                now,
            };
            let verdict = decide(&facts);
            if let (Verdict::Issue(used), Some(issued)) = (verdict, &mut state.enrollment.issued) {
                issued.used = Some(used);
            }
            verdict
        };
        match verdict {
            Verdict::Issue(used) | Verdict::SameAnswer(used) => {
                Ok(Answer { issued: self.sign(&authentic.request, used.at), given: self.given() })
            }
            Verdict::Refuse(reason) => Err(reason),
        }
    }

    fn sync(&self, id: &ClusterId, peer: Option<&SpiffeId>, proof: &str, body: &[u8]) -> Result<Synced, EnrollRefusal> {
        let expected = SpiffeId::member(&domain(), id, "zen-mesh", "zen-operator").expect("an id");
        if peer != Some(&expected) || *id != self.cluster {
            return Err(EnrollRefusal::WrongCluster);
        }
        let proof = Proof::parse(proof).map_err(|_| EnrollRefusal::RequestMalformed)?;
        let request = Request { method: "POST", path: &zen_enroll::sync_path(id), body };
        let key = |version: &u32| ClusterKey::derive(&self.key.branch(AGENT_BRANCH), id, *version);
        let (versions, disabled) = {
            let state = self.state();
            (state.versions.clone(), state.enrollment.disabled)
        };
        if disabled {
            return Err(EnrollRefusal::EnrollmentDisabled);
        }
        if !versions.iter().map(key).any(|key| key.id() == proof.key_id() && proof.proves(&request, &key.agent())) {
            return Err(EnrollRefusal::BundleTampered);
        }
        let sync: Sync = serde_json::from_slice(body).map_err(|_| EnrollRefusal::RequestMalformed)?;
        let csr = sync.csr.map(|csr| SigningRequest::from_pem(&csr).expect("a request"));
        self.state().holds = sync.holds;
        self.state().asked.push(("sync", csr.as_ref().map(SigningRequest::key_digest)));
        let issued = csr.map(|csr| self.sign(&csr, Timestamp::now()));
        Ok(Synced { issued, given: self.given() })
    }

    /// What it says before it looks at anything.
    fn mood(&self) -> Option<Response> {
        let mut state = self.state();
        if state.not_leader > 0 {
            state.not_leader -= 1;
            return Some(refusal(StatusCode::SERVICE_UNAVAILABLE, "NotLeader"));
        }
        state.is_broken.then(|| (StatusCode::OK, "{}").into_response())
    }
}

fn refusal(status: StatusCode, code: &str) -> Response {
    let body = Refused { code: code.to_owned(), message: "no".to_owned(), request_id: "r-1".to_owned() };
    (status, Json(body)).into_response()
}

type Shared = State<std::sync::Weak<Hub>>;

fn answered<T: serde::Serialize>(answer: Result<T, EnrollRefusal>) -> Response {
    match answer {
        Ok(answer) => Json(answer).into_response(),
        Err(reason) => refusal(StatusCode::from_u16(reason.status()).expect("a status"), reason.code()),
    }
}

async fn redeem(
    State(hub): Shared,
    Path((tenant, cluster)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let hub = hub.upgrade().expect("the test goes on");
    let id = ClusterId::new(&tenant, &cluster).expect("a cluster");
    let proof = headers[HEADER].to_str().expect("text");
    hub.mood().unwrap_or_else(|| answered(hub.redeem(&id, proof, &body)))
}

async fn sync(
    State(hub): Shared,
    Path((tenant, cluster)): Path<(String, String)>,
    peer: Option<Extension<SpiffeId>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let hub = hub.upgrade().expect("the test goes on");
    let id = ClusterId::new(&tenant, &cluster).expect("a cluster");
    let proof = headers[HEADER].to_str().expect("text");
    let peer = peer.map(|Extension(peer)| peer);
    hub.mood().unwrap_or_else(|| answered(hub.sync(&id, peer.as_ref(), proof, &body)))
}
