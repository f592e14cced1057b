//! What a tenant writes: a Webhook whose sources show a token, a Destination for each of its targets, and a cluster of its own.

use zen_testkit::Upstream;

use super::stage::Stage;

/// Where the Webhook takes events.
pub const HOOK: &str = "/team-a/hook";

/// Its events go to the Destination `ci`.
pub const WEBHOOK: &str = "
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: team-a}
stringData: {token: correct-horse}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: hook, namespace: team-a}
spec:
  verification: {provider: bearer, secrets: [{secretRef: {name: s, key: token}}]}
  routes: [{destinations: [{name: ci}]}]
";

/// With these lines in its spec.
pub fn destination(name: &str, upstream: &Upstream, more: &str) -> String {
    format!(
        "
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: {name}, namespace: team-a}}
spec:
  target: {{url: '{}'}}
  network: {{allowCidrs: [127.0.0.0/8]}}
  {more}
",
        upstream.url("/")
    )
}

/// The Destination of [`WEBHOOK`].
pub fn ci(upstream: &Upstream, mode: &str) -> String {
    destination("ci", upstream, &format!("mode: {mode}"))
}

const ENROLLMENT: &str = "
apiVersion: zen-mesh.io/v1alpha1
kind: ClusterEnrollment
metadata: {name: eu, namespace: team-a}
spec: {recipient: age1cvleujdf0ekfjlrcspr094v5x6zjfjy2vy9kgwqvlh6mxyhfsgwqhupmql}
";

/// The cluster `eu` is enrolled, as the operator says it.
pub async fn enroll(stage: &Stage) {
    stage.apply(&[ENROLLMENT]).await;
    let status = r#"{"status": {"phase": "Enrolled", "keys": [{"version": 1}]}}"#;
    let patch = ["-n", "team-a", "patch", "clusterenrollment", "eu", "--type=merge", "--subresource=status"];
    stage.kubectl(&[&patch[..], &["-p", status]].concat()).await;
}
