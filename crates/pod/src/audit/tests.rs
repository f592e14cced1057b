use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::post;
use clap::Parser;
use tempfile::TempDir;
use tower::ServiceExt as _;
use zen_audit::Entry;
use zen_audit::verify::{Lenience, files};
use zen_identity::server::Denial;
use zen_identity::{Component, Denied};
use zen_model::reason::{LinkRefusal, PeerReason};
use zen_pki::{Ca, SpiffeId};

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

#[test]
fn a_store_may_have_a_port() {
    for (store, expected) in [
        ("zen-audit.zen-mesh.svc", ("zen-audit.zen-mesh.svc", PORT)),
        ("zen-audit:1", ("zen-audit", 1)),
        ("fd00::1", ("fd00::1", PORT)),
    ] {
        assert_eq!(address(store), expected);
    }
}

struct Kept {
    log: Log,
    folder: TempDir,
}

impl Kept {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options::new(folder.path(), Writer::new("zen-ingester", "zen-ingester-0").expect("a writer"));
        Self { log: Log::open(options).expect("opens"), folder }
    }

    fn notes(&self) -> Notes {
        Notes::of(&self.log)
    }

    async fn entries(self) -> Vec<Entry> {
        self.log.close().await;
        read(self.folder.path())
    }
}

/// What `zen audit verify` takes, without what the log says of itself.
fn read(folder: &Path) -> Vec<Entry> {
    let files = files::expand(&[folder.to_owned()]).expect("a chain");
    let report = files::verify(&files, &[], Lenience::default()).expect("readable");
    assert_eq!(report.findings, vec![]);
    let mut entries = files::entries(&files).expect("readable");
    entries.retain(|entry| !entry.action.starts_with("chain."));
    entries
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    pod: crate::Arguments,
}

fn denial<'a>(who: &'a str, action: &'a str, code: &'static str) -> Denial<'a> {
    Denial { who, from: Some(HERE), action, code, request_id: "r-1", detail: "no" }
}

/// T-05, A-01: each denial of the access policy, and of a stream, is an entry with who, what, where and why.
#[tokio::test(start_paused = true)]
async fn each_denial_is_an_entry() {
    use zen_identity::Action as Asked;
    let policy = [
        Denied::TrustDomain,
        Denied::Unknown,
        Denied::Exact(Asked::Drain),
        Denied::Scope(Asked::Drain),
        Denied::OtherCluster(Asked::Drain),
        Denied::NotPermitted(Asked::Drain),
    ];
    let policy = policy.map(|denied| ("control", "drain", denied.reason().code()));
    let streams = LinkRefusal::ALL.map(|refusal| ("relay", "lease", refusal.code()));
    let kept = Kept::new();
    let rows: Vec<_> = policy.into_iter().chain(streams).collect();
    let notes = kept.notes();
    for (listener, action, code) in &rows {
        notes.denials(listener).denied(&denial("spiffe://m/x", action, code));
    }
    let entries = kept.entries().await;
    assert_eq!(entries.len(), rows.len());
    for (entry, (listener, action, code)) in entries.iter().zip(rows) {
        let Entry { action: of, allowed, who, object, reason, correlation, details, .. } = entry;
        assert_eq!((of.as_str(), *allowed, who.as_str()), ("authorize", false, "spiffe://m/x"), "{code}");
        assert_eq!((object, reason.as_str(), correlation.as_str()), (&format!("Listener/{listener}"), code, "r-1"));
        let due = [("asked", action), ("count", "1"), ("detail", "no"), ("from", "127.0.0.1")];
        assert_eq!(*details, due.map(|(key, value)| (key.to_owned(), value.to_owned())).into(), "{code}");
    }
}

/// So is each handshake, at whichever end it was broken off; and a caller for whom nobody vouches is known by its address.
#[tokio::test]
async fn each_refused_handshake_is_an_entry() {
    let refused = |reason| RefusedHandshake { reason, from: Some(HERE), count: 3, detail: "no".to_owned() };
    for reason in PeerReason::ALL {
        let kept = Kept::new();
        kept.log.note(refused_handshake("link", &refused(reason)));
        kept.log.note(refused_peer("Connection/relay", &refused(reason)));
        let entries = kept.entries().await;
        let objects: Vec<_> = entries.iter().map(|entry| entry.object.as_str()).collect();
        assert_eq!(objects, ["Listener/link", "Connection/relay"]);
        for entry in entries {
            assert_eq!(
                (entry.action.as_str(), entry.reason.as_str(), entry.allowed),
                ("authenticate", reason.code(), false)
            );
            assert_eq!((entry.who.as_str(), entry.details["count"].as_str()), ("Address/127.0.0.1", "3"));
        }
    }
    let kept = Kept::new();
    kept.notes().denials("api").denied(&denial("", "authenticate", "CallerUnproven"));
    let entries = kept.entries().await;
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.action.as_str(), entry.who.as_str()), ("authenticate", "Address/127.0.0.1"));
}

/// The handshakes of a listener and of a dialler reach the log through what hears them.
#[tokio::test]
async fn handshakes_reach_the_log() {
    let kept = Kept::new();
    let notes = kept.notes();
    let error = std::io::Error::other(rustls::Error::NoCertificatesPresented);
    notes.listener("control").handshakes.failed(HERE, &error);
    notes.dialled("link").failed(HERE, &error);
    let entries = kept.entries().await;
    let told: Vec<_> = entries.iter().map(|entry| (entry.object.as_str(), entry.reason.as_str())).collect();
    assert_eq!(told, [("Listener/control", "CertificateMissing"), ("Connection/link", "CertificateMissing")]);
}

/// A flood is a handful, of which each is counted.
#[tokio::test(start_paused = true)]
async fn a_flood_of_denials_is_a_handful() {
    let kept = Kept::new();
    let denials = kept.notes().denials("control");
    for n in 0..10_000 {
        let who = format!("spiffe://m/{}", n % 1000);
        denials.denied(&denial(&who, ["drain", "report"][n % 2], "ActionNotPermitted"));
    }
    tokio::time::sleep(Duration::from_mins(2)).await;
    let entries = kept.entries().await;
    assert!((64..=2 * (64 + 2)).contains(&entries.len()), "{}", entries.len());
    let count = |entry: &Entry| entry.details["count"].parse::<u64>().expect("a number");
    assert_eq!(entries.iter().map(count).sum::<u64>(), 10_000);
    assert!(entries.iter().any(|entry| entry.who == "many"));
}

/// Who administers, and who was shown plaintext.
#[tokio::test(start_paused = true)]
async fn what_was_done_is_an_entry() {
    let kept = Kept::new();
    let notes = kept.notes();
    let routes =
        Router::new().route("/v1/adopt", post(async || ()).get(async || ()).put(async || StatusCode::CONFLICT));
    let pod = ["x", "--pod-name", "zen-ingester-0"];
    let routes = notes.administering(&Program::parse_from(pod).pod, routes);
    for method in ["GET", "PUT", "POST"].into_iter().cycle().take(300) {
        let peer: SpiffeId = "spiffe://m/x".parse().expect("an id");
        let request = http::Request::builder().method(method).uri("/v1/adopt?queue=any").extension(peer);
        let request = request.body(Body::empty()).expect("a request");
        routes.clone().oneshot(request).await.expect("answered");
    }
    notes.changed("User/mary", "Replay/a/r", "start");
    notes.shown("User/mary", "DeadLetter/a/1");
    tokio::time::sleep(Duration::from_mins(2)).await;
    let entries = kept.entries().await;
    let of = |entry: &Entry| {
        let detail = |key: &str| entry.details.get(key).cloned().unwrap_or_default();
        assert!(entry.allowed && entry.reason.is_empty());
        [&entry.action, &entry.who, &entry.object, &*detail("done"), &*detail("count")].join(" ")
    };
    let due = [
        "administer spiffe://m/x Pod/zen-mesh/zen-ingester-0 POST /v1/adopt 1",
        "administer User/mary Replay/a/r start ",
        "secret.access User/mary DeadLetter/a/1  ",
        "administer spiffe://m/x Pod/zen-mesh/zen-ingester-0 POST /v1/adopt 99",
    ];
    assert_eq!(entries.iter().map(of).collect::<Vec<_>>(), due);
}

fn beside(folder: &Path, store: &str) -> (Beside, Metrics) {
    let domain = "m.local".parse().expect("a domain");
    let (ca, mesh) = (Ca::ephemeral(&domain).expect("a CA"), Mesh::new(&domain, "zen-mesh").expect("a mesh"));
    let issued = ca.issue_workload(mesh.id(Component::Egress), Duration::from_hours(1)).expect("issued");
    let identity = Identity::new(&issued, &ca.roots().expect("roots")).expect("an identity");
    let (place, metrics) = (Place { mib: 1, store: store.to_owned() }, Metrics::default());
    (Beside::open(folder, &place, "zen-egress-0", &identity, &mesh, metrics.clone()), metrics)
}

/// A-02: what comes before the log is open is kept; without a store entries stay here, and the end waits for none.
#[tokio::test]
async fn a_plane_keeps_its_log_beside_its_work() {
    let folder = tempfile::tempdir().expect("a folder");
    // Nobody listens there.
    let nobody = zen_testkit::Reserved::loopback();
    let (beside, _) = beside(folder.path(), &nobody.address().to_string());
    beside.notes().denials("control").denied(&denial("spiffe://m/x", "drain", "ActionNotPermitted"));
    let written = async {
        while !folder.path().exists() || files::expand(&[folder.path().to_owned()]).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), written).await.expect("the store is not waited for");
    let began = Instant::now();
    beside.close().await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let entries = read(folder.path());
    assert_eq!(entries.iter().map(|entry| entry.reason.as_str()).collect::<Vec<_>>(), ["ActionNotPermitted"]);
    assert_eq!(entries[0].writer.to_string(), "zen-egress/zen-egress-0");
}

/// A folder that cannot be used is counted, and nothing else comes of it.
#[tokio::test]
async fn a_plane_goes_on_without_its_log() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").expect("writes");
    let (beside, metrics) = beside(&file, "");
    let degraded = || {
        let mut registry = prometheus_client::registry::Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("text");
        text.contains("zen_audit_degraded{cause=\"disk\"} 1")
    };
    let noticed = async {
        while !degraded() {
            beside.notes().denials("control").denied(&denial("spiffe://m/x", "drain", "ActionNotPermitted"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), noticed).await.expect("it is said");
    beside.close().await;
}
