//! Admission and status of ZenLocks, and the public keys (Z-05, Z-06).

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::json;
use tokio::time::Instant;
use zen_crds::{ZenLock, ZenLockStatus};
use zen_lock::Identity;

use crate::kube_objects::zen_lock;
use crate::stage::{PATIENCE, Stage, put_age};

pub async fn what_nobody_could_open_is_not_stored(stage: &Stage) {
    let stranger = Identity::generate().recipient();
    let foreign = zen_lock("team-a", "foreign", &[stranger], &[("token", "x")], &["ci"]);
    let said = stage.apply(&foreign).await.unwrap_err();
    assert!(said.contains("ZenLock team-a/foreign, key token") && said.contains("UnknownKey"), "{said}");
    let mut nonsense = foreign.clone();
    nonsense["spec"]["encryptedData"] = json!({"token": "-----BEGIN AGE ENCRYPTED FILE-----\nnonsense\n"});
    let said = stage.apply(&nonsense).await.unwrap_err();
    assert!(said.contains("BadCiphertext"), "{said}");
    let mut dots = zen_lock("team-a", "dots", &[stage.age.recipient()], &[("..", "x")], &["ci"]);
    assert!(stage.apply(&dots).await.unwrap_err().contains("name of a file"));
    dots["spec"]["encryptedData"] = json!({});
    stage
        .apply(&zen_lock("team-a", "good", &[stage.age.recipient()], &[("a", "x"), ("b", "y")], &["ci"]))
        .await
        .unwrap();
}

pub async fn the_status_tells_which_keys_open_it_and_what_is_left_to_rotate(stage: &Stage) {
    let old = stage.age.recipient().to_string();
    let first = status(stage, "good", |status| is(status, "True", "Decryptable")).await;
    assert_eq!(first.decryptable_with.iter().map(ToString::to_string).collect::<Vec<_>>(), [&*old]);

    // A second key: the ZenLock opens with the older one, and the public keys are there for everybody.
    let new = Identity::generate();
    put_age(stage.folder.path(), "2026-02-01.txt", &new);
    let second = status(stage, "good", |status| is(status, "True", "NeedsReencryption")).await;
    assert_eq!(second.needs_reencryption.iter().map(|key| &**key).collect::<Vec<_>>(), ["a", "b"]);
    let maps: Api<ConfigMap> = Api::namespaced(stage.client.clone(), "zen-mesh");
    let deadline = Instant::now() + PATIENCE;
    let due = format!("{}\n{old}\n", new.recipient());
    while maps.get_opt("zen-mesh-recipients").await.unwrap().and_then(|map| map.data?.remove("recipients.txt"))
        != Some(due.clone())
    {
        assert!(Instant::now() < deadline, "the public keys are not published");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    // Re-encrypted: nothing is left on the old key, which can go.
    let to = [new.recipient()];
    stage.apply(&zen_lock("team-a", "good", &to, &[("a", "x"), ("b", "y")], &["ci"])).await.unwrap();
    let third = status(stage, "good", |status| is(status, "True", "Decryptable")).await;
    assert!(third.needs_reencryption.is_empty());
    // Without the key that opens it, the status says so; what is stored can still be labelled and deleted.
    std::fs::remove_file(stage.folder.path().join("age/2026-02-01.txt")).unwrap();
    status(stage, "good", |status| is(status, "False", "UnknownKey")).await;
    stage.control_plane.kubectl(&["-n", "team-a", "label", "zenlock", "good", "a=b"]).await.unwrap();
    put_age(stage.folder.path(), "2026-02-01.txt", &new);
    status(stage, "good", |status| is(status, "True", "Decryptable")).await;
    // Transitions are Events.
    let events = stage
        .control_plane
        .kubectl(&["-n", "team-a", "get", "events", "-o", "jsonpath={.items[*].reason}"])
        .await
        .unwrap();
    assert!(events.contains("UnknownKey") && events.contains("Decryptable"), "{events}");
}

fn is(status: &ZenLockStatus, state: &str, reason: &str) -> bool {
    status.conditions.iter().any(|it| it.type_ == "Decryptable" && it.status == state && it.reason == reason)
}

async fn status(stage: &Stage, name: &str, fits: impl Fn(&ZenLockStatus) -> bool) -> ZenLockStatus {
    let api: Api<ZenLock> = Api::namespaced(stage.client.clone(), "team-a");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = api.get(name).await.unwrap().status.unwrap_or_default();
        if fits(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
