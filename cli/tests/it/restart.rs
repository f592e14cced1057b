//! What is kept over a restart: the CA, the keys, the events that were not delivered.

use zen_testkit::{Answer, Reserved, Upstream};

use crate::harness::{Folder, MANIFESTS, Mesh, zen};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_the_ca_and_what_was_not_delivered() {
    let nobody = Reserved::loopback();
    let folder = Folder::with_manifests(nobody.address());
    let mut mesh = Mesh::start(&folder).await;
    let mut source = mesh.connect().await;
    let (status, body) = source.push("kept-1").await.expect("answers");
    assert_eq!((status, body["id"].as_str()), (202, Some("kept-1")));
    let ca = std::fs::read(folder.state().join("ca.crt")).expect("reads");
    let key = zen(&["keys", "destination", "team-a/ci", "--dir", folder.text()]).await.expect(0).stdout;
    mesh.signal("TERM");
    assert_eq!(mesh.ended().await.code(), Some(0));
    assert!(!folder.state().join("addresses.json").exists(), "nobody listens any more");

    let upstream = Upstream::http().await;
    upstream.always(Answer::status(204));
    folder.write("objects.yaml", &MANIFESTS.replace("UPSTREAM", &upstream.address().to_string()));
    let mesh = Mesh::start(&folder).await;
    let received = upstream.wait_for(1).await;
    assert_eq!(received[0].header("ce-id"), Some("kept-1"));
    assert_eq!(std::fs::read(folder.state().join("ca.crt")).expect("reads"), ca, "clients go on trusting it");
    let again = zen(&["keys", "destination", "team-a/ci", "--dir", folder.text()]).await.expect(0).stdout;
    assert_eq!(again, key, "targets go on verifying");
    mesh.connect().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_state_is_refused() {
    let nobody = Reserved::loopback();
    let folder = Folder::with_manifests(nobody.address());
    let _mesh = Mesh::start(&folder).await;
    let refused = zen(&["up", folder.text(), "--intake", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await.expect(1);
    assert!(refused.stderr.contains("another process uses the state folder"), "{refused:?}");
    assert!(refused.stderr.contains("--state"), "says what to do: {refused:?}");
}
