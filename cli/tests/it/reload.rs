//! Manifests are followed: write, rename, delete; a bad file leaves its last good objects in force (W-01, K-04).

use zen_testkit::Upstream;

use crate::harness::{DEADLINE, Folder, Mesh, SECRET, Source, zen};

const SECOND: &str = r"
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: second, namespace: team-a}
spec:
  verification: {provider: github, secrets: [{secretRef: {name: github, key: secret}}]}
  routes: [{destinations: [{name: ci}]}]
";

/// Sends until this status comes back: a change takes effect without a restart, and soon.
async fn until_status(source: &mut Source, path: &str, wanted: u16) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    for n in 0.. {
        let request = source.signed(path, SECRET, &format!("{path}-{wanted}-{n}"), "{}");
        let (status, _) = source.send(request).await.expect("the connection lives through every change");
        if status == wanted {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{path} answers {status}, not {wanted}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_take_effect_without_a_restart() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let mesh = Mesh::start(&folder).await;
    let mut source = mesh.connect().await;
    until_status(&mut source, "/team-a/github", 202).await;
    until_status(&mut source, "/team-a/second", 404).await;

    folder.write("second.yaml", SECOND);
    until_status(&mut source, "/team-a/second", 202).await;

    std::fs::rename(folder.path().join("second.yaml"), folder.path().join("renamed.yml")).expect("renames");
    until_status(&mut source, "/team-a/second", 202).await;

    folder.write("renamed.yml", &SECOND.replace("spec:", "spec:\n  active: false"));
    until_status(&mut source, "/team-a/second", 503).await;

    folder.remove("renamed.yml");
    until_status(&mut source, "/team-a/second", 404).await;
    assert!(mesh.output().contains("\"what\":\"configuration\""), "{}", mesh.output());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_keeps_its_last_good_objects_in_force() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    folder.write("second.yaml", SECOND);
    let mesh = Mesh::start(&folder).await;
    let mut source = mesh.connect().await;
    until_status(&mut source, "/team-a/second", 202).await;

    folder.write("second.yaml", &SECOND.replace("provider: github", "provider: [broken"));
    crate::harness::until("the report", || mesh.output().contains("second.yaml:").then_some(())).await;
    until_status(&mut source, "/team-a/second", 202).await;
    let checked = zen(&["check", folder.text()]).await.expect(1);
    assert!(checked.stdout.contains("second.yaml:") && checked.stdout.contains("Unreadable"), "{checked:?}");

    folder.write("second.yaml", &SECOND.replace("name: second", "name: mended"));
    until_status(&mut source, "/team-a/mended", 202).await;
    until_status(&mut source, "/team-a/second", 404).await;
}

/// The intake's certificate carries the hosts of the Webhooks from the next connection on (W-14).
#[tokio::test(flavor = "multi_thread")]
async fn a_new_host_is_in_the_certificate_without_a_restart() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let mesh = Mesh::start(&folder).await;
    let (intake, ca) = (mesh.intake(), folder.state().join("ca.crt"));
    let mut old = mesh.connect().await;
    assert!(Source::connect_as(&intake, &ca, "hooks.example.test").await.is_none(), "not yet in the certificate");
    folder.write("second.yaml", &SECOND.replace("spec:", "spec:\n  hosts: [hooks.example.test]"));
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while Source::connect_as(&intake, &ca, "hooks.example.test").await.is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the certificate was not reissued");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(old.push("old-connection").await.expect("lives on").0, 202);
    let sent = ["send", "github", "--dir", folder.text(), "--webhook", "team-a/second"];
    zen(&sent).await.expect(0);
}
