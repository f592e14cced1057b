//! Every access is on a chain that somebody else keeps (A-01, A-02; issue 5, point 9).

use serde_json::Value;
use zen_e2e_node::{Cluster, Mesh, NAME, Part, until};

use super::stage::{Stage, Workload};
use crate::stage::SOON;

/// What the store has.
async fn entries(cluster: &Cluster) -> anyhow::Result<String> {
    cluster.exec(NAME, "zen-audit-0", &["/zen-audit", "export"]).await
}

/// `pod` asked, or is what somebody asked for.
fn has(entries: &str, action: &str, pod: &str, allowed: bool, reason: &str) -> bool {
    entries.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).any(|entry| {
        entry["action"] == action
            && [&entry["who"], &entry["object"]].iter().any(|it| it.as_str().is_some_and(|text| text.contains(pod)))
            && entry["allowed"] == allowed
            && (reason.is_empty() || entry["reason"] == reason)
    })
}

/// Accesses go on while the store is away, and are on record when it is back: nothing is missing, nothing was changed.
#[tokio::test]
async fn accesses_are_on_record_also_of_the_time_without_the_store() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "audited", "restricted").await;
    let namespace = &stage.namespace.name;
    stage.lock("db", &[("password", "a-password")], &["ci"]).await;
    let user = serde_json::json!({"securityContext": {"runAsUser": 1000}});
    let pod = |name: &str| Workload::new(name, "Pod").pod(user.clone()).inject("db");

    stage.apply(&pod("refused").account("default")).await.expect_err("refused");
    stage.apply(&pod("before")).await.unwrap();
    stage.found("before", 1).await;
    let before = format!("{namespace}/before");
    until("the access is at the store", SOON, async || {
        let entries = entries(&cluster).await?;
        let refused = has(&entries, "pod.admit", &format!("{namespace}/refused"), false, "SubjectNotAllowed");
        Ok((has(&entries, "secret.access", &before, true, "") && refused).then_some(()))
    })
    .await
    .unwrap();

    let store = Mesh::of(&cluster).pods(Part::Audit).await.unwrap();
    let delete = ["delete", "pod", "zen-audit-0", "--namespace", NAME, "--wait=false"];
    cluster.kubectl(&delete).await.unwrap();
    stage.apply(&pod("without")).await.unwrap();
    assert_eq!(stage.found("without", 1).await[0].value, "a-password");
    Mesh::of(&cluster).whole(Part::Audit, 1, &store, SOON).await.unwrap();
    let without = format!("{namespace}/without");
    let kept = until("what happened meanwhile is there too", SOON, async || {
        let entries = entries(&cluster).await?;
        Ok(has(&entries, "secret.access", &without, true, "").then_some(entries))
    })
    .await
    .unwrap();
    assert!(has(&kept, "secret.access", &before, true, ""), "what was there is there");
    assert!(!kept.contains("a-password"), "no plaintext");
    let told = cluster.zen(&["audit", "verify", "-"], Some(&kept)).await.unwrap();
    println!("{}", told.trim());
    // One word of one entry is another.
    let forged = kept.replacen("SubjectNotAllowed", "SubjectIsAllowed!", 1);
    let told = cluster.zen(&["audit", "verify", "-"], Some(&forged)).await.expect_err("forged").to_string();
    assert!(told.contains("not as it was written"), "{told}");
}
