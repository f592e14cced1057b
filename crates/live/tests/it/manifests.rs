//! Texts that the tests vary.

/// The head of an object of ours.
pub(crate) fn head(kind: &str, name: &str) -> String {
    format!("apiVersion: zen-mesh.io/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: team-a}}\n")
}

/// A Webhook of provider `github` with its secret, and `rest` as further fields of its spec.
pub(crate) fn webhook(rest: &str) -> String {
    webhook_named("github", "{provider: github, secrets: [{secretRef: {name: hook, key: secret}}]}", rest)
}

/// A Webhook with this verification.
pub(crate) fn webhook_named(name: &str, verification: &str, rest: &str) -> String {
    let routes = if rest.contains("routes:") { "" } else { "  routes: [{destinations: [{name: ci}]}]\n" };
    format!("{}spec:\n  verification: {verification}\n{routes}{rest}\n---\n", head("Webhook", name))
}

/// A Destination with this target and further fields of its spec.
pub(crate) fn destination(target: &str, rest: &str) -> String {
    format!("{}spec:\n  target: {target}\n{rest}\n---\n", head("Destination", "ci"))
}

/// A Destination that works.
pub(crate) fn good_destination() -> String {
    destination("{url: \"https://ci.example.com/hooks\"}", "")
}

/// A Secret.
pub(crate) fn secret(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: team-a}}\nstringData: {data}\n---\n")
}

/// Everything that [`webhook`] needs.
pub(crate) fn rest() -> String {
    format!("{}{}", secret("hook", "{secret: It's a Secret to Everybody}"), good_destination())
}
