//! What the system lets a process have: open files (W-16).

use zen_testkit::closed_port;

use crate::harness::{DEADLINE, Folder, Mesh};

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_takes_as_many_open_files_as_it_may_have() {
    let folder = Folder::with_manifests(closed_port());
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
