//! A signed webhook in, durable, and out to a private target (W-01, D-03, D-09, W-12).

use zen_testkit::Upstream;

use crate::harness::{Folder, Mesh, get, zen};

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_reaches_its_target() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let mesh = Mesh::start(&folder).await;
    let sent = zen(&["send", "github", "--dir", folder.text(), "--webhook", "team-a/github"]).await.expect(0);
    assert!(sent.stdout.starts_with("202 {"), "{sent:?}");
    let received = upstream.wait_for(1).await;
    let delivery = &received[0];
    assert_eq!(delivery.header("ce-source"), Some("https://github.com"));
    assert!(delivery.header("x-zen-signature").is_some_and(|value| value.starts_with("v=1,t=")), "W-12");
    assert!(delivery.header("x-request-id").is_some(), "W-11");

    let events = zen(&["events", "--dir", folder.text(), "-o", "json"]).await.expect(0).json();
    assert_eq!(events[0]["webhook"], "team-a/github");
    let id = events[0]["id"].as_str().expect("an id");
    assert_eq!(delivery.header("ce-id"), Some(id));
    let filtered = async |filter: &[&str]| {
        let listed = zen(&[&["events", "--dir", folder.text(), "-o", "json"], filter].concat()).await.expect(0);
        listed.json().as_array().expect("a list").len()
    };
    assert_eq!(filtered(&["--webhook", "team-a/github", "--destination", "team-a/ci", "--since", "10m"]).await, 1);
    assert_eq!(filtered(&["--webhook", "team-a/other"]).await, 0);
    assert_eq!(filtered(&["--until", "10m"]).await, 0);
    assert_eq!(filtered(&["--state", "dead"]).await, 0);
    let table = zen(&["events", id, "--dir", folder.text()]).await.expect(0).stdout;
    assert!(table.contains("accepted"), "{table}");
    zen(&["status", "--dir", folder.text()]).await.expect(0);
    let metrics = mesh.metrics().await;
    assert_eq!(zen_runtime::metrics::problems(&metrics), Vec::<String>::new(), "A-04");
    let durable = zen_runtime::metrics::value(&metrics, "zen_build_info", &[("acknowledgement", "fsynced")]);
    assert_eq!(durable, Some(1.0), "D-15");
    assert_eq!(get(&mesh.admin(), "/healthz").await.map(|(status, _)| status), Some(200), "A-05");
}

/// The target verifies with the key that `zen keys destination` prints (W-12).
#[tokio::test(flavor = "multi_thread")]
async fn a_target_can_verify_what_it_gets() {
    use base64::Engine as _;
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let _mesh = Mesh::start(&folder).await;
    zen(&["send", "github", "--dir", folder.text(), "--webhook", "team-a/github"]).await.expect(0);
    let received = upstream.wait_for(1).await;
    let key = zen(&["keys", "destination", "team-a/ci", "--dir", folder.text(), "-o", "json"]).await.expect(0).json();
    let secret =
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key["key"].as_str().expect("text")).expect("base64url");
    let id = key["key_id"].as_str().expect("text").to_owned();
    let keys = zen_verify::zen_signature::Keys::new(vec![(id, zen_model::Secret::new(secret))]).expect("a key ring");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &received[0].body);
    let value = received[0].header("x-zen-signature").expect("signed");
    let event = received[0].header("ce-id").expect("an id");
    let tolerance = std::time::Duration::from_mins(5);
    let verified = keys.verify(value, event, hash.as_ref(), zen_model::Timestamp::now(), tolerance);
    assert!(verified.is_ok(), "{verified:?}");
}
