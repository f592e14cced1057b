//! The log of a pod of the mesh, as its program opens it: what it records is at the store when the pod has ended.

use std::path::Path;

use clap::Parser;
use prometheus_client::registry::Registry;
use zen_audit::log::{Cause, Metrics};
use zen_identity::Component;
use zen_pod::audit::{Arguments, Parts, Trail};
use zen_testkit::Reserved;
use zen_testkit::api_server::{ApiServer, Call, Reply};

use crate::support::{Served, access, entries, identity, ids, mesh, until, verify};

const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/zen-mesh/events";

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    audit: Arguments,
}

fn arguments(folder: &Path, store: &str) -> Arguments {
    let folder = folder.to_str().expect("text");
    Program::parse_from(["x", "--audit", folder, "--audit-store", store, "--pod-uid", "u1"]).audit
}

async fn open(ca: &Path, arguments: &Arguments, api: &ApiServer, metrics: &Metrics) -> Trail {
    let (identity, mesh) = (identity(ca, Component::ZenLock), mesh());
    let parts = Parts {
        folder: &arguments.folder,
        place: &arguments.place,
        strict: arguments.strict,
        pod: "zenlock-webhook-5f",
        identity: &identity,
        mesh: &mesh,
        events: Some((api.client(), &arguments.pod_uid)),
        metrics: metrics.clone(),
    };
    Trail::open(parts).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pods_log_outlives_it_at_the_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ca, data, run) = (folder.path().join("ca"), folder.path().join("data"), folder.path().join("run"));
    let (api, metrics) = (ApiServer::new(), Metrics::default());
    api.allow(Call::post(EVENTS), Reply::stored());
    let reserved = Reserved::loopback();
    let address = reserved.address().to_string();
    let served = Served::start(&ca, &data, &address).await;
    let arguments = arguments(&run, &served.address.to_string());
    let trail = open(&ca, &arguments, &api, &metrics).await;
    trail.log().record(access(0)).await.expect("audited");
    until(|| ids(&data) == ["r-0"]).await;

    // The store goes: entries stay here, the metric and an Event say so.
    served.stop().await;
    trail.log().record(access(1)).await.expect("goes on");
    assert!(ids(&run).contains(&"r-1".to_owned()));
    until(|| trail.log().degraded() == Some(Cause::Store)).await;
    trail.log().record(access(2)).await.expect("goes on");
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut figures = String::new();
    prometheus_client::encoding::text::encode(&mut figures, &registry).expect("encoded");
    assert!(figures.contains("zen_audit_degraded{cause=\"store\"} 1"), "{figures}");
    until(|| api.received().iter().any(|event| event.body["reason"] == "AuditDegraded")).await;
    let event = api.received().into_iter().find(|received| received.path == EVENTS).expect("said");
    assert_eq!((&event.body["regarding"]["uid"], &event.body["type"]), (&"u1".into(), &"Warning".into()));

    // It comes back while the pod ends: what it lacks is sent before.
    let served = Served::start(&ca, &data, &address).await;
    trail.close().await;
    assert_eq!(ids(&data), ["r-0", "r-1", "r-2"]);

    // The next pod's chain says where this one stood.
    let other = Arguments { folder: folder.path().join("other"), ..arguments };
    let trail = open(&ca, &other, &api, &metrics).await;
    let last = entries(&data.join("zenlock-webhook")).last().map(zen_audit::Entry::head).expect("an entry");
    trail.log().record(access(3)).await.expect("audited");
    assert_eq!(entries(&other.folder)[0].details["after"], last.to_string());
    trail.close().await;
    served.stop().await;
    let report = verify(&data, &[last]);
    assert_eq!((report.findings, report.lost), (vec![], 0));
    assert!(report.degraded >= 1);
}
