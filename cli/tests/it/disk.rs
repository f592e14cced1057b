//! Disks that are full or read-only, seen from outside the process (Q-04): readiness names the queue, intake answers 503
//! with `Retry-After`, and nothing that was acknowledged is lost.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http::Response;
use serde_json::Value;
use tokio::time::Instant;
use zen_testkit::{Reserved, Upstream};

use crate::harness::{DEADLINE, Folder, MANIFESTS, Mesh, SECRET, Source, get, may_mount, mounted, until};

/// A large event, so that a disk is soon full.
async fn push(source: &mut Source, id: &str) -> Response<Value> {
    let body = format!(r#"{{"ref":"refs/heads/main","n":"{id}","filler":"{}"}}"#, "x".repeat(100_000));
    let request = source.signed("/team-a/github", SECRET, id, &body);
    source.answer(request).await.expect("answers")
}

/// Pushes until the queue cannot take any more; those that were acknowledged.
async fn push_until_unavailable(mesh: &Mesh, acknowledged: &mut BTreeSet<String>) {
    let mut source = mesh.connect().await;
    let deadline = Instant::now() + DEADLINE;
    for n in 0.. {
        assert!(Instant::now() < deadline, "the disk is never full");
        let id = format!("event-{n}");
        let answer = push(&mut source, &id).await;
        if answer.status() == 202 {
            acknowledged.insert(id);
            continue;
        }
        assert_eq!((answer.status().as_u16(), answer.body()["code"].as_str()), (503, Some("QueueUnavailable")));
        let seconds: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
        assert!((1..=600).contains(&seconds), "{seconds}");
        return;
    }
}

async fn wait_until_unready(mesh: &Mesh) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (status, body) = get(&mesh.admin(), "/readyz").await.expect("answers");
        if status == 503 {
            assert!(body.contains("queue"), "{body}");
            return;
        }
        assert!(Instant::now() < deadline, "ready although the queue cannot commit");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn wait_for_all(upstream: &Upstream, acknowledged: &BTreeSet<String>) {
    until("every acknowledged event", || {
        let arrived: BTreeSet<_> =
            upstream.received().iter().filter_map(|received| received.header("ce-id").map(str::to_owned)).collect();
        acknowledged.is_subset(&arrived).then_some(())
    })
    .await;
}

/// Writes until there is no space left.
fn fill(file: &Path) {
    let mut file = File::create(file).expect("creates");
    let block = vec![1; 1 << 20];
    for size in [block.len(), 4096] {
        while file.write_all(&block[..size]).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_intake_until_there_is_space() {
    if !may_mount() {
        eprintln!("this machine allows no mount: see the test of the limit on file sizes");
        return;
    }
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let mut mesh = Mesh::spawn_mounted(&folder, "size=160m");
    mesh.ready().await;
    let mut acknowledged = BTreeSet::new();
    let answer = push(&mut mesh.connect().await, "first").await;
    assert_eq!(answer.status(), 202);
    acknowledged.insert("first".to_owned());

    let filler = mesh.state().join("filler");
    fill(&filler);
    push_until_unavailable(&mesh, &mut acknowledged).await;
    wait_until_unready(&mesh).await;
    // It goes on standing there, alive, and says the same to everybody.
    assert_eq!(get(&mesh.admin(), "/healthz").await.expect("answers").0, 200);
    push_until_unavailable(&mesh, &mut acknowledged).await;

    std::fs::remove_file(&filler).expect("removes");
    mesh.ready().await;
    let answer = push(&mut mesh.connect().await, "last").await;
    assert_eq!(answer.status(), 202, "{:?}", answer.body());
    acknowledged.insert("last".to_owned());
    wait_for_all(&upstream, &acknowledged).await;
}

/// The same without a mount: files cannot grow any more, which a restart without the limit ends.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_grow_stop_intake_and_a_restart_delivers_what_was_acknowledged() {
    let nobody = Reserved::loopback();
    let folder = Folder::with_manifests(nobody.address());
    let mut mesh = Mesh::spawn_after(&folder, "trap '' XFSZ && ulimit -f 16384", &[]);
    mesh.ready().await;
    let mut acknowledged = BTreeSet::new();
    push_until_unavailable(&mesh, &mut acknowledged).await;
    assert!(acknowledged.len() > 10, "{}", acknowledged.len());
    wait_until_unready(&mesh).await;
    mesh.kill();

    let upstream = Upstream::http().await;
    folder.write("objects.yaml", &MANIFESTS.replace("UPSTREAM", &upstream.address().to_string()));
    let mesh = Mesh::start(&folder).await;
    let answer = push(&mut mesh.connect().await, "last").await;
    assert_eq!(answer.status(), 202);
    acknowledged.insert("last".to_owned());
    wait_for_all(&upstream, &acknowledged).await;
}

#[tokio::test]
async fn a_read_only_state_folder_is_refused_at_start() {
    let nobody = Reserved::loopback();
    let folder = Folder::with_manifests(nobody.address());
    let mut command = if may_mount() {
        mounted(&folder, "ro")
    } else {
        std::fs::create_dir_all(folder.state()).expect("creates");
        std::fs::set_permissions(folder.state(), PermissionsExt::from_mode(0o500)).expect("sets");
        crate::harness::command(&[])
    };
    command.args(["up", folder.text(), "--intake", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).stdin(Stdio::null());
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("state folder") && said.contains(".zen"), "{said}");
    assert!(said.contains("read-only") || said.contains("Read-only") || said.contains("ermission denied"), "{said}");
}
