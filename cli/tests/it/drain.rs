//! SIGTERM: not ready, what is in flight is finished, exit 0 within 20 s (A-05, DESIGN 13).

use std::time::Duration;

use tokio::time::{Instant, timeout};
use zen_testkit::{Answer, Gate, Upstream};

use crate::harness::{Folder, Mesh, get, zen};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_delivery_in_flight() {
    let upstream = Upstream::http().await;
    let gate = Gate::closed();
    upstream.always(Answer::status(200).when(&gate));
    let folder = Folder::with_manifests(upstream.address());
    let mut mesh = Mesh::start(&folder).await;
    let mut source = mesh.connect().await;
    assert_eq!(source.push("in-flight").await.expect("answers").0, 202);
    upstream.wait_for(1).await;
    let (admin, began) = (mesh.admin(), Instant::now());
    mesh.signal("TERM");
    // Not ready any more, or already gone.
    loop {
        match get(&admin, "/readyz").await {
            Some((200, _)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Some((status, body)) => {
                assert_eq!((status, body.contains("process: the process is ending")), (503, true), "{body}");
                break;
            }
            None => break,
        }
    }
    gate.open();
    let status = timeout(Duration::from_secs(20), mesh.ended()).await.expect("ends within 20 s");
    assert_eq!(status.code(), Some(0), "{}", mesh.errors());
    assert!(began.elapsed() < Duration::from_secs(20));
    // It was settled: the next process has nothing to deliver.
    let _mesh = Mesh::start(&folder).await;
    let status = zen(&["status", "--dir", folder.text(), "-o", "json"]).await.expect(0).json();
    assert_eq!(status["destinations"][0]["waiting"], 0, "{status:#}");
    assert_eq!(upstream.received().len(), 1, "delivered once");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_in_time_though_a_target_hangs() {
    let upstream = Upstream::http().await;
    upstream.always(Answer::never());
    let folder = Folder::with_manifests(upstream.address());
    let mut mesh = Mesh::start(&folder).await;
    let mut source = mesh.connect().await;
    assert_eq!(source.push("hangs").await.expect("answers").0, 202);
    upstream.wait_for(1).await;
    mesh.signal("TERM");
    let status = timeout(Duration::from_secs(20), mesh.ended()).await.expect("ends within 20 s");
    assert_eq!(status.code(), Some(0), "{}", mesh.errors());
    // It stayed on disk.
    upstream.always(Answer::status(200));
    let _mesh = Mesh::start(&folder).await;
    upstream.wait_for(2).await;
}

/// Not ready → goes on accepting for `drainDelay` → stops (DESIGN 13): a load balancer needs the time.
#[tokio::test(flavor = "multi_thread")]
async fn intake_goes_on_for_the_drain_delay() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    folder.write("mesh.yaml", "drainDelay: 3s\ngrants: [{namespace: team-a, cidrs: [127.0.0.0/8]}]\n");
    let mut mesh = Mesh::start(&folder).await;
    let (admin, mut source) = (mesh.admin(), mesh.connect().await);
    mesh.signal("TERM");
    while get(&admin, "/readyz").await.expect("still answers").0 == 200 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(source.push("late").await.expect("answers").0, 202, "still accepted");
    upstream.wait_for(1).await;
    let status = timeout(Duration::from_secs(20), mesh.ended()).await.expect("ends within 20 s");
    assert_eq!(status.code(), Some(0), "{}", mesh.errors());
}
