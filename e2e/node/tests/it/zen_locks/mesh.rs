//! The mesh uses ZenLocks itself (issue 5, point 10).

use std::time::Duration;

use tokio::time::Instant;
use zen_e2e_node::{Cluster, Source, Target, until};

use super::stage::Stage;
use crate::stage::{SOON, programmed};

/// From a changed ZenLock to the intake that goes by it: "at once", on a machine that does much else.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_webhook_goes_by_what_a_zenlock_holds_and_by_a_change_at_once() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "refers", "restricted").await;
    let namespace = &stage.namespace.name;
    stage.lock("github", &[("secret", "the first secret")], &["Webhook/github"]).await;
    stage.lock("ci", &[("token", "a token of the target")], &["Destination/ci"]).await;
    let target = Target::start(&cluster, namespace, "ci", &[]).await.unwrap();
    let objects = format!(
        "
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: github, namespace: {namespace}}}
spec:
  verification: {{provider: github, secrets: [{{zenLockRef: {{name: github, key: secret}}}}]}}
  routes: [{{destinations: [{{name: ci}}]}}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: ci, namespace: {namespace}}}
spec:
  target: {{service: {{name: ci, port: 80, path: /hooks, scheme: http}}}}
  authentication: {{bearer: {{zenLockRef: {{name: ci, key: token}}}}}}
"
    );
    cluster.apply(&objects).await.unwrap();
    programmed(&cluster, namespace, &["webhook/github", "destination/ci"]).await;
    let source = Source::new(&cluster, &format!("/{namespace}/github"), "the first secret").await.unwrap();
    source.deliver("first", SOON).await.unwrap();
    let delivered = target.wait_for(1, SOON).await.unwrap();
    assert!(delivered[0].headers.contains_key("authorization"), "{:?}", delivered[0].headers);

    let manifest = stage.sealed("github", &[("secret", "the second secret")], &["Webhook/github"], &[]).await;
    let changed = Instant::now();
    cluster.apply(&manifest).await.unwrap();
    let next = source.signing_with("the second secret");
    next.deliver("second", SOON).await.unwrap();
    let took = changed.elapsed();
    println!("a changed ZenLock was in effect at the intake after {took:.1?}");
    assert!(took < AT_ONCE, "{took:?}");
    until("nobody takes the first secret any more", SOON, async || {
        let answer = source.send("late").await?;
        Ok((answer.status == 401).then_some(()))
    })
    .await
    .unwrap();
    target.wait_for(2, SOON).await.unwrap();

    // It is taken off the list: nothing is verified with it any more.
    stage.lock("github", &[("secret", "the second secret")], &["Webhook/other"]).await;
    let wait = "--for=jsonpath={.status.conditions[?(@.type=='ResolvedRefs')].reason}=SubjectNotAllowed";
    cluster.kubectl(&["wait", wait, "webhook/github", "--namespace", namespace, "--timeout=60s"]).await.unwrap();
}
