//! The client of the identity service against a scripted one, by a paused clock (T-02, T-07).

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::time::{Instant, sleep, timeout};
use zen_identity::client::{Answering, Clock, Error, Issuer, Options};
use zen_identity::wire::{Certificate, CertificateRequest, Refused, Usage, Who};
use zen_identity::{Client, Component};
use zen_model::Timestamp;
use zen_model::reason::TrustRefusal;
use zen_pki::{Ca, Identity, Names, SigningRequest};

use crate::support::{HOUR, domain, id};

/// The operator's side, in memory.
#[derive(Debug)]
struct Script {
    issuer: Ca,
    root: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    who: Who,
    down: bool,
    /// What is signed instead of what is due.
    lie: Option<Names>,
    asked: Vec<(Usage, bool)>,
    now: Option<Timestamp>,
}

impl Script {
    fn new() -> Arc<Self> {
        let root = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
        let issuer = root.issue_intermediate(Timestamp::now()).expect("an issuing CA");
        let who = Who {
            spiffe_id: id(Component::Ingester).to_string(),
            serving_names: vec!["zen-ingester.zen-mesh.svc".to_owned()],
            lifetime_seconds: 3600,
            issuer: None,
            serving_since: None,
        };
        let state = Mutex::new(State { who, down: false, lie: None, asked: Vec::new(), now: None });
        Arc::new(Self { issuer, root: root.certificate_pem().to_owned(), state })
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().expect("no panic"));
    }

    fn asked(&self) -> Vec<(Usage, bool)> {
        self.state.lock().expect("no panic").asked.clone()
    }

    fn sign(&self, identity: Option<&Identity>, request: &CertificateRequest) -> Result<Certificate, Error> {
        let mut state = self.state.lock().expect("no panic");
        if state.down {
            return Err(Error::Refused(Refused::new(TrustRefusal::IssuerUnavailable, "r")));
        }
        state.asked.push((request.usage, identity.is_some()));
        let due = match request.usage {
            Usage::Workload => Names::Workload(state.who.spiffe_id.parse().expect("an id")),
            Usage::Serving => Names::Server(state.who.serving_names.iter().cloned().collect()),
        };
        let csr = SigningRequest::from_pem(&request.csr).expect("a request");
        csr.check(&due).expect("the names are due");
        let now = state.now.unwrap_or_else(Timestamp::now);
        let signed = if let Some(lie) = &state.lie {
            let (lying, _) = zen_pki::signing_request(lie).expect("a request");
            let lying = SigningRequest::from_pem(&lying).expect("a request");
            self.issuer.sign_csr(&lying, lie, now, HOUR)
        } else {
            self.issuer.sign_csr(&csr, &due, now, HOUR)
        };
        let signed = signed.expect("signed");
        Ok(Certificate { chain: signed.chain_pem, roots: self.root.clone(), not_after: signed.validity.until })
    }
}

impl Issuer for Script {
    fn who<'a>(&'a self, _: Option<&'a Identity>) -> Answering<'a, Who> {
        let state = self.state.lock().expect("no panic");
        let who = if state.down {
            Err(Error::Refused(Refused::new(TrustRefusal::ReviewUnavailable, "r")))
        } else {
            Ok(state.who.clone())
        };
        Box::pin(std::future::ready(who))
    }

    fn certificate<'a>(
        &'a self,
        identity: Option<&'a Identity>,
        request: &'a CertificateRequest,
    ) -> Answering<'a, Certificate> {
        Box::pin(std::future::ready(self.sign(identity, request)))
    }
}

/// A pod with its volumes.
struct Pod {
    folder: TempDir,
    script: Arc<Script>,
    clock: Clock,
}

impl Pod {
    fn new() -> Self {
        let (script, folder) = (Script::new(), tempfile::tempdir().expect("a folder"));
        std::fs::write(folder.path().join("ca.crt"), &script.root).expect("written");
        let (start, epoch) = (Instant::now(), Timestamp::now());
        let by_tokio: Clock = Arc::new(move || epoch.plus(start.elapsed()));
        Self { folder, script, clock: by_tokio }
    }

    fn options(&self) -> Options {
        let mut options = Options::new("https://zen-operator.zen-mesh.svc");
        options.roots = self.roots();
        options.folder = self.folder.path().join("identity");
        options
    }

    fn roots(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// A container start.
    fn client(&self) -> Client {
        Client::with_clock(self.options(), Arc::clone(&self.script) as Arc<dyn Issuer>, Arc::clone(&self.clock))
    }

    /// The issuer's clock moves with the pod's.
    async fn pass(&self, time: Duration) {
        let steps = u32::try_from(time.as_secs() / 60).expect("small").max(1);
        for _ in 0..steps {
            let now = (self.clock)();
            self.script.set(|state| state.now = Some(now));
            sleep(time / steps).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_obtained_kept_and_renewed_at_two_thirds() {
    let pod = Pod::new();
    let client = pod.client();
    let identity = client.obtain().await;
    assert_eq!(identity.id(), &id(Component::Ingester));
    assert_eq!(pod.script.asked(), [(Usage::Workload, false)]);
    let first = identity.validity();
    let renewing = client.clone();
    let (mine, handle) = (identity.clone(), tokio::spawn(async move { renewing.keep_fresh(&identity).await }));
    pod.pass(Duration::from_mins(30)).await;
    assert_eq!(mine.validity(), first, "renewed too early");
    pod.pass(Duration::from_mins(13)).await;
    assert!(mine.validity().until > first.until, "not renewed");
    assert_eq!(pod.script.asked(), [(Usage::Workload, false), (Usage::Workload, true)]);
    handle.abort();
}

#[tokio::test(start_paused = true)]
async fn it_asks_until_there_is_one_and_says_what_is_wrong() {
    let pod = Pod::new();
    pod.script.set(|state| state.down = true);
    let client = pod.client();
    let obtaining = tokio::spawn({
        let client = client.clone();
        async move { client.obtain().await }
    });
    sleep(Duration::from_mins(2)).await;
    let problem = client.problem().expect("a problem");
    assert!(problem.contains("ReviewUnavailable"), "{problem}");
    pod.script.set(|state| state.down = false);
    timeout(Duration::from_mins(1), obtaining).await.expect("in time").expect("no panic");
    assert_eq!(client.problem(), None);
}

/// T-07: the container restarts while operator and API server are away.
#[tokio::test(start_paused = true)]
async fn a_restart_comes_up_with_what_it_had_while_that_is_good() {
    let pod = Pod::new();
    let before = pod.client().obtain().await.validity();
    pod.script.set(|state| state.down = true);
    sleep(Duration::from_mins(50)).await;
    let client = pod.client();
    let identity = timeout(Duration::from_millis(1), client.obtain()).await.expect("without asking");
    assert_eq!(identity.validity(), before);
    assert_eq!(client.problem(), None);
    // Once it has ended it is of no use: the pod waits for the operator.
    sleep(Duration::from_mins(11)).await;
    let obtaining = pod.client();
    timeout(Duration::from_mins(5), obtaining.obtain()).await.expect_err("nothing good is there");
    pod.script.set(|state| state.down = false);
    pod.pass(Duration::from_secs(1)).await;
    timeout(Duration::from_mins(1), obtaining.obtain()).await.expect("in time");
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_and_does_not_verify_is_not_used() {
    let pod = Pod::new();
    pod.client().obtain().await;
    let path = pod.folder.path().join("identity/workload.pem");
    let good = std::fs::read(&path).expect("kept");
    // Another root is mounted meanwhile: what it did not sign is nothing.
    let other = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    std::fs::write(pod.roots(), other.certificate_pem()).expect("written");
    timeout(Duration::from_mins(5), pod.client().obtain()).await.expect_err("neither kept nor new verifies");
    std::fs::write(pod.roots(), &pod.script.root).expect("written");
    for damage in [b"".as_slice(), b"nonsense", &good[..good.len() / 2]] {
        std::fs::write(&path, damage).expect("written");
        timeout(Duration::from_mins(1), pod.client().obtain()).await.expect("a new one");
    }
    // A serving certificate in its place has no identity.
    let client = pod.client();
    let identity = client.obtain().await;
    client.obtain_serving(&identity).await;
    std::fs::copy(pod.folder.path().join("identity/serving.pem"), &path).expect("copied");
    assert_eq!(pod.client().obtain().await.id(), &id(Component::Ingester));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_with_other_names_or_another_key_is_refused() {
    let pod = Pod::new();
    for lie in [Names::Workload(id(Component::Operator)), Names::Workload(id(Component::Ingester))] {
        pod.script.set(|state| state.lie = Some(lie.clone()));
        timeout(Duration::from_mins(2), pod.client().obtain()).await.expect_err("refused");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_to_renew_leave_the_certificate_in_use() {
    let pod = Pod::new();
    let client = pod.client();
    let identity = client.obtain().await;
    let before = identity.validity();
    pod.script.set(|state| state.down = true);
    let renewing = tokio::spawn({
        let (client, identity) = (client.clone(), identity.clone());
        async move { client.keep_fresh(&identity).await }
    });
    pod.pass(Duration::from_mins(55)).await;
    assert_eq!(identity.validity(), before);
    assert!(client.problem().is_some());
    pod.script.set(|state| state.down = false);
    pod.pass(Duration::from_mins(2)).await;
    assert!(identity.validity().until > before.until, "renewed once the service is back");
    renewing.abort();
}

#[tokio::test(start_paused = true)]
async fn another_identity_ends_the_process_and_the_next_one_takes_it() {
    let pod = Pod::new();
    let client = pod.client();
    let identity = client.obtain().await;
    pod.script.set(|state| state.who.spiffe_id = id(Component::Egress).to_string());
    let ended = timeout(HOUR, client.keep_fresh(&identity)).await.expect("in time");
    assert_eq!(ended.0, id(Component::Egress));
    assert_eq!(pod.client().obtain().await.id(), &id(Component::Egress));
}

#[tokio::test(start_paused = true)]
async fn the_trust_bundle_is_followed() {
    let pod = Pod::new();
    let client = pod.client();
    let identity = client.obtain().await;
    let newer = Ca::new_root(&domain(), Timestamp::now()).expect("a root");
    let theirs = crate::support::identity(&newer, &id(Component::Egress));
    let following = tokio::spawn({
        let (client, identity) = (client.clone(), identity.clone());
        async move { client.keep_fresh(&identity).await }
    });
    theirs.replace_roots(&zen_pki::TrustRoots::from_pem(&pod.script.root).expect("roots")).expect("replaced");
    assert!(handshake(&identity, &theirs).await.is_err());
    std::fs::write(pod.roots(), format!("{}{}", pod.script.root, newer.certificate_pem())).expect("written");
    pod.pass(Duration::from_mins(1)).await;
    handshake(&identity, &theirs).await.expect("both roots count now");
    // Damage changes nothing.
    std::fs::write(pod.roots(), "nonsense").expect("written");
    pod.pass(Duration::from_mins(1)).await;
    handshake(&identity, &theirs).await.expect("the roots stay");
    following.abort();
}

async fn handshake(client: &Identity, server: &Identity) -> Result<(), std::io::Error> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let connector = zen_pki::mtls_client(client, server.id().clone()).expect("configured");
    let acceptor = zen_pki::mtls_server(server, vec![client.id().clone()]).expect("configured");
    let name = rustls_pki_types::ServerName::try_from("peer").expect("a name");
    let (client, server) = tokio::join!(
        tokio_rustls::TlsConnector::from(connector).connect(name, near),
        tokio_rustls::TlsAcceptor::from(acceptor).accept(far)
    );
    client.and(server.map(|_| ()))
}

#[tokio::test(start_paused = true)]
async fn serving_names_are_followed() {
    let pod = Pod::new();
    let client = pod.client();
    let identity = client.obtain().await;
    let certificate = client.obtain_serving(&identity).await;
    let first = certificate.validity();
    let renewing = tokio::spawn({
        let (client, identity, certificate) = (client.clone(), identity.clone(), certificate.clone());
        async move { client.keep_fresh_serving(&identity, &certificate).await }
    });
    pod.pass(Duration::from_mins(2)).await;
    assert_eq!(pod.script.asked().len(), 2, "nothing changed, nothing is asked for");
    pod.script.set(|state| state.who.serving_names.push("hooks.example.com".to_owned()));
    client.refresh();
    pod.pass(Duration::from_mins(1)).await;
    assert_eq!(pod.script.asked().len(), 3);
    assert!(certificate.validity().until > first.until);
    // A rotation: one that was issued before it began is exchanged, once.
    let since = Timestamp::from_secs(certificate.validity().issued().as_secs() + 30);
    pod.script.set(|state| state.who.serving_since = Some(since));
    pod.pass(Duration::from_mins(2)).await;
    assert_eq!(pod.script.asked().len(), 4);
    assert!(certificate.validity().issued() >= since);
    // No names: what is there stays.
    pod.script.set(|state| state.who.serving_names.clear());
    pod.pass(Duration::from_mins(2)).await;
    assert_eq!(pod.script.asked().len(), 4);
    renewing.abort();
    // A restart has it without asking.
    let again = pod.client().obtain_serving(&identity).await;
    assert_eq!(again.validity().until.as_secs(), certificate.validity().until.as_secs());
}

#[tokio::test(start_paused = true)]
async fn expiry_is_measured() {
    let pod = Pod::new();
    let client = pod.client();
    let mut registry = Registry::default();
    client.metrics().register(&mut registry);
    client.obtain().await;
    let text = |registry: &Registry| {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).expect("encoded");
        text
    };
    sleep(Duration::from_mins(10)).await;
    let shown = text(&registry);
    assert!(
        shown.contains("zen_identity_certificate_requests_total{usage=\"workload\",result=\"issued\"} 1"),
        "{shown}"
    );
    let line =
        shown.lines().find(|line| line.starts_with("zen_identity_certificate_expiry_seconds{usage=\"workload\"}"));
    let seconds: f64 = line.and_then(|line| line.rsplit(' ').next()).and_then(|n| n.parse().ok()).expect(&shown);
    assert!((2980.0..=3000.0).contains(&seconds), "{shown}");
    sleep(HOUR).await;
    assert!(text(&registry).contains("zen_identity_certificate_expiry_seconds{usage=\"workload\"} 0.0"));
}

/// Somebody exchanged the root: what we hold is of no use to anybody any more, whatever its time.
#[tokio::test(start_paused = true)]
async fn a_root_that_is_exchanged_exchanges_the_certificates_at_once() {
    let (pod, newer) = (Pod::new(), Script::new());
    let swap: Arc<Swap> = Arc::new(Swap(Mutex::new(Arc::clone(&pod.script))));
    let client = Client::with_clock(pod.options(), Arc::clone(&swap) as Arc<dyn Issuer>, Arc::clone(&pod.clock));
    let identity = client.obtain().await;
    let certificate = client.obtain_serving(&identity).await;
    let renewing = tokio::spawn({
        let (client, identity, certificate) = (client.clone(), identity.clone(), certificate.clone());
        async move {
            tokio::select! {
                _ = client.keep_fresh(&identity) => {}
                () = client.keep_fresh_serving(&identity, &certificate) => {}
            }
        }
    });
    let before = (identity.validity(), certificate.validity());
    pod.pass(Duration::from_mins(5)).await;
    assert_eq!((identity.validity(), certificate.validity()), before);
    *swap.0.lock().expect("no panic") = Arc::clone(&newer);
    std::fs::write(pod.roots(), &newer.root).expect("written");
    let now = (pod.clock)();
    newer.set(|state| state.now = Some(now));
    sleep(Duration::from_mins(2)).await;
    assert!(identity.validity().until > before.0.until, "the workload's");
    assert!(certificate.validity().until > before.1.until, "the serving one");
    assert_eq!(newer.asked().len(), 2, "once each: {:?}", newer.asked());
    renewing.abort();
}

#[derive(Debug)]
struct Swap(Mutex<Arc<Script>>);

impl Swap {
    fn script(&self) -> Arc<Script> {
        Arc::clone(&self.0.lock().expect("no panic"))
    }
}

impl Issuer for Swap {
    fn who<'a>(&'a self, identity: Option<&'a Identity>) -> Answering<'a, Who> {
        Box::pin(async move { self.script().who(identity).await })
    }

    fn certificate<'a>(
        &'a self,
        identity: Option<&'a Identity>,
        request: &'a CertificateRequest,
    ) -> Answering<'a, Certificate> {
        Box::pin(async move { self.script().certificate(identity, request).await })
    }
}

/// T-04: the service says whose certificate a pod is to have, and a pod that has another's asks for a new one.
#[tokio::test(start_paused = true)]
async fn an_issuing_ca_that_is_exchanged_exchanges_the_certificates() {
    let pod = Pod::new();
    let client = pod.client();
    pod.script.set(|state| state.who.issuer = Some(pod.script.issuer.fingerprint()));
    let identity = client.obtain().await;
    let certificate = client.obtain_serving(&identity).await;
    let renewing = tokio::spawn({
        let (client, identity, certificate) = (client.clone(), identity.clone(), certificate.clone());
        async move {
            tokio::select! {
                _ = client.keep_fresh(&identity) => {}
                () = client.keep_fresh_serving(&identity, &certificate) => {}
            }
        }
    });
    let before = (identity.validity(), certificate.validity());
    pod.pass(Duration::from_mins(5)).await;
    assert_eq!(pod.script.asked().len(), 2, "they are from the one that is due");
    pod.script.set(|state| state.who.issuer = Some("another".to_owned()));
    pod.pass(Duration::from_mins(2)).await;
    assert!(identity.validity().until > before.0.until, "the workload's");
    assert!(certificate.validity().until > before.1.until, "the serving one");
    renewing.abort();
}

/// T-04: by the workload's certificate the operator sees that a pod has gone over, and distrusts what was before.
#[tokio::test(start_paused = true)]
async fn the_serving_certificate_goes_over_before_the_workloads() {
    let (pod, other) = (Pod::new(), Script::new());
    std::fs::write(pod.roots(), format!("{}{}", pod.script.root, other.root)).expect("written");
    let scripts = [Arc::clone(&pod.script), other];
    for script in &scripts {
        script.set(|state| state.who.issuer = Some(script.issuer.fingerprint()));
    }
    let swap: Arc<Swap> = Arc::new(Swap(Mutex::new(Arc::clone(&pod.script))));
    let client = Client::with_clock(pod.options(), Arc::clone(&swap) as Arc<dyn Issuer>, Arc::clone(&pod.clock));
    let identity = client.obtain().await;
    let certificate = client.obtain_serving(&identity).await;
    let renewing = tokio::spawn(async move {
        tokio::select! {
            _ = client.keep_fresh(&identity) => {}
            () = client.keep_fresh_serving(&identity, &certificate) => {}
        }
    });
    // There and back: who looks first is a matter of chance each time.
    for script in scripts.iter().rev().cycle().take(8) {
        script.set(|state| state.asked.clear());
        *swap.0.lock().expect("no panic") = Arc::clone(script);
        sleep(Duration::from_mins(1)).await;
        assert_eq!(script.asked(), [(Usage::Serving, true), (Usage::Workload, true)]);
    }
    renewing.abort();
}
