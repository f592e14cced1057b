//! What the system lets a process have: open files (W-16).

use std::time::Duration;

use tokio::net::TcpStream;
use zen_testkit::Reserved;

use crate::harness::{DEADLINE, Folder, Mesh};

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_takes_as_many_open_files_as_it_may_have() {
    let nobody = Reserved::loopback();
    let folder = Folder::with_manifests(nobody.address());
    let mut mesh = Mesh::spawn_after(&folder, "ulimit -Sn 256", &[]);
    mesh.ready().await;
    let mut sources = Vec::new();
    for _ in 0..400 {
        let connected = tokio::time::timeout(DEADLINE, mesh.connect()).await;
        sources.push(connected.expect("a connection is taken"));
    }
    let (status, _) = sources[399].push("last").await.expect("answers");
    assert_eq!(status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn intake_survives_a_shortage_of_open_files() {
    let nobody = Reserved::loopback();
    let folder = Folder::with_manifests(nobody.address());
    let mut mesh = Mesh::spawn_after(&folder, "ulimit -n 200", &[]);
    mesh.ready().await;
    let intake = mesh.intake();
    let mut idle = Vec::new();
    // The kernel takes those that the mesh cannot.
    for _ in 0..400 {
        idle.push(TcpStream::connect(&intake).await.expect("connects"));
    }
    // One of the last gets no answer while the others keep their places.
    let early = tokio::time::timeout(Duration::from_millis(300), mesh.connect()).await;
    assert!(early.is_err(), "more connections than open files");
    drop(idle);
    let mut source = tokio::time::timeout(DEADLINE, mesh.connect()).await.expect("there is room again");
    let (status, _) = source.push("after").await.expect("answers");
    assert_eq!(status, 202);
    let metrics = mesh.metrics().await;
    let errors = metrics.lines().find_map(|line| line.strip_prefix("zen_ingester_accept_errors_total "));
    assert!(errors.is_some_and(|errors| errors != "0"), "{errors:?}");
}
