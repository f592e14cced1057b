//! What stands in the audit log, and what happens while it does not work.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use zen_audit::folder::{Point, Steps};
use zen_audit::log::Cause;
use zen_audit::ship::{Answering, Appended, Shipper, Transport, TransportError};
use zen_audit::verify::{Lenience, files};
use zen_audit::wire::{Resume, Resumed};
use zen_audit::{Entry, Log, Options};
use zen_identity::Component;
use zen_identity::wire::Usage;

use super::serving::{answer, csr, post, raw, ready, refused};

fn options(folder: &Path) -> Options {
    Options::new(folder, "zen-operator/zen-operator-0".parse().expect("a writer"))
}

/// Every entry, in its order; what is there verifies.
async fn entries(log: Log, folder: &Path) -> Vec<Entry> {
    log.close().await;
    let all = files::expand(&[folder.to_owned()]).expect("files");
    let report = files::verify(&all, &[], Lenience::default()).expect("readable");
    assert_eq!(report.findings, vec![]);
    let mut entries = Vec::new();
    for file in all {
        files::lines(&file, |_, line, _| entries.push(Entry::parse(line).expect("an entry"))).expect("readable");
    }
    entries
}

async fn until(what: impl Fn() -> bool) {
    let waited = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waited).await.expect("in time");
}

#[tokio::test]
async fn certificates_refusals_and_what_was_done_to_the_ca_are_entries() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_cluster, replica, router) = ready().await;
    let log = Log::open(options(folder.path())).expect("opens");
    replica.service.audit_to(&log);
    let (good, _) = csr(Component::Egress);
    assert_eq!(answer(&router, post("zen-egress", &good, Usage::Workload)).await.0.as_u16(), 200);
    let (status, body) = answer(&router, raw("zen-egress", "nonsense")).await;
    assert_eq!(status.as_u16(), 400);
    assert_eq!(refused(&router, post("default", &good, Usage::Workload)).await, "AccountNotPermitted");
    let entries = entries(log, folder.path()).await;

    let administered: Vec<_> = entries.iter().filter(|entry| entry.action == "administer").collect();
    let objects: Vec<_> = administered.iter().map(|entry| (entry.object.as_str(), entry.allowed)).collect();
    assert_eq!(objects, [("Secret/zen-mesh/zen-mesh-ca", true), ("Secret/zen-mesh/zen-mesh-issuer", true)]);
    assert_eq!(administered[0].who, "spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-operator");
    assert_eq!(administered[0].details["done"], "made a root CA");

    let of_pods = |entry: &&Entry| entry.action == "certificate.issue" && entry.who.starts_with("Pod/");
    let issued: Vec<_> = entries.iter().filter(of_pods).collect();
    let rows: Vec<_> =
        issued.iter().map(|entry| (&*entry.who, &*entry.object, entry.allowed, entry.reason.as_ref())).collect();
    assert_eq!(
        rows,
        [
            ("Pod/zen-mesh/zen-egress-0", "Certificate/zen-mesh/zen-egress", true, ""),
            ("Pod/zen-mesh/zen-egress-0", "Certificate/zen-mesh/zen-egress", false, "BadRequest"),
            ("Pod/zen-mesh/default-0", "Certificate/zen-mesh/default", false, "AccountNotPermitted"),
        ]
    );
    assert_eq!(issued[0].details["names"], "spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-egress");
    assert!(!issued[0].correlation.is_empty() && !issued[0].details["serial"].is_empty());
    assert_eq!(Some(issued[1].correlation.as_str()), body["request_id"].as_str(), "as it was answered");
    let own = entries.iter().filter(|entry| entry.object == "Certificate/zen-mesh/zen-operator");
    assert_eq!(own.map(|entry| entry.details["usage"].as_str()).collect::<Vec<_>>(), ["workload", "serving"]);
}

/// A store that takes nothing.
struct Away;

impl Transport for Away {
    fn resume<'a>(&'a self, _: &'a Resume) -> Answering<'a, Resumed> {
        Box::pin(async { Err(TransportError::Refused("not now".to_owned())) })
    }

    fn append(&self, _: bytes::Bytes, _: u64) -> Answering<'_, Appended> {
        Box::pin(async { Err(TransportError::Refused("not now".to_owned())) })
    }
}

/// Without a strict log, what the store does not take is issued, recorded here and marked. With one it is refused, but for
/// the store's own certificate, without which it would not come back.
#[tokio::test]
async fn a_store_that_is_away_stops_nothing_unless_the_log_is_strict() {
    for strict in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let (_cluster, replica, router) = ready().await;
        let log = Log::open(Options { strict, shipped: true, ..options(folder.path()) }).expect("opens");
        let shipping = tokio::spawn(Shipper::new(&log, Arc::new(Away)).run(CancellationToken::new()));
        until(|| log.degraded() == Some(Cause::Store)).await;
        replica.service.audit_to(&log);
        let (good, _) = csr(Component::Egress);
        let (status, body) = answer(&router, post("zen-egress", &good, Usage::Workload)).await;
        let expected = if strict { (503, "AuditUnavailable") } else { (200, "") };
        assert_eq!((status.as_u16(), body["code"].as_str().unwrap_or_default()), expected);
        let (stores, _) = csr(Component::Audit);
        assert_eq!(answer(&router, post("zen-audit", &stores, Usage::Workload)).await.0.as_u16(), 200, "{strict}");
        shipping.abort();
        let entries = entries(log, folder.path()).await;
        let entry = entries.iter().find(|entry| entry.object == "Certificate/zen-mesh/zen-egress").expect("recorded");
        assert!(entry.degraded);
        let mut figures = String::new();
        prometheus_client::encoding::text::encode(&mut figures, &replica.registry).expect("encoded");
        let counted = figures.contains("certificates_issued_total{account=\"zen-egress\",usage=\"workload\"} 1");
        assert_eq!(counted, !strict, "{figures}");
    }
}

/// A disk that does not write.
#[derive(Default)]
struct Full(AtomicBool);

impl Steps for Full {
    fn at(&self, point: Point) -> io::Result<()> {
        match point {
            Point::Write if self.0.load(Ordering::SeqCst) => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn a_strict_log_that_cannot_write_lets_nobody_have_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_cluster, replica, router) = ready().await;
    let disk = Arc::new(Full::default());
    let steps: Arc<dyn Steps> = Arc::clone(&disk) as _;
    let log = Log::open(Options { strict: true, steps: Some(steps), ..options(folder.path()) }).expect("opens");
    replica.service.audit_to(&log);
    for component in [Component::Egress, Component::Audit] {
        let (good, _) = csr(component);
        disk.0.store(true, Ordering::SeqCst);
        assert_eq!(refused(&router, post(component.account(), &good, Usage::Workload)).await, "AuditUnavailable");
        disk.0.store(false, Ordering::SeqCst);
        until(|| log.degraded().is_none()).await;
        assert_eq!(answer(&router, post(component.account(), &good, Usage::Workload)).await.0.as_u16(), 200);
    }
}
