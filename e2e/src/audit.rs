//! What the API server was asked, by whom, and how it answered (K-06): its audit log at level Metadata.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A request that was answered.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Who asked: `system:serviceaccount:zen-mesh:zen-operator`.
    pub user: String,
    /// Lower case, as in a Role: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for the core.
    pub group: String,
    /// Plural, without its subresource; empty for paths such as `/healthz`.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty for what has none, and for all at once.
    pub namespace: String,
    /// Empty for a list, and mostly for what is being created.
    pub name: String,
    /// Path and query.
    pub uri: String,
    /// HTTP status.
    pub status: u16,
    /// `allow` or `forbid`.
    pub decision: String,
    /// Names the token that was used, where one was: each token has another.
    pub credential: String,
    /// When it came, RFC 3339 with microseconds: sorts as text.
    pub received: String,
    /// When it was answered, likewise; of what lasts, when it was accepted.
    pub answered: String,
}

impl Entry {
    /// Whether it was to change something.
    pub fn is_write(&self) -> bool {
        !matches!(&*self.verb, "get" | "list" | "watch")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    request_received_timestamp: String,
    #[serde(default)]
    stage_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: std::collections::BTreeMap<String, Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// Every request of a log. One that lasts, a watch, counts when it was accepted, and is not counted again at its end.
pub fn read(path: &Path) -> Result<Vec<Entry>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // The last line may still be on its way.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    for line in whole.lines() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("an audit entry: {line}"))?;
        let lasts = line.verb == "watch" || line.request_uri.contains("follow=true");
        if line.stage == "ResponseStarted" && !lasts || line.stage == "ResponseComplete" && lasts {
            continue;
        }
        let object = line.object_ref.unwrap_or_default();
        let credential = line.user.extra.get("authentication.kubernetes.io/credential-id");
        entries.push(Entry {
            credential: credential.and_then(|ids| ids.first()).cloned().unwrap_or_default(),
            received: line.request_received_timestamp,
            answered: line.stage_timestamp,
            user: line.user.username,
            verb: line.verb,
            group: object.api_group,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            uri: line.request_uri,
            status: line.response_status.map_or(0, |status| status.code),
            decision: line.annotations.get("authorization.k8s.io/decision").cloned().unwrap_or_default(),
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_counts_once_and_an_unfinished_line_not_at_all() {
        let line = |stage: &str, verb: &str| {
            format!(
                r#"{{"stage":"{stage}","requestURI":"/api/v1/namespaces/a/pods","verb":"{verb}","user":{{"username":"u"}},
                "objectRef":{{"resource":"pods","namespace":"a","apiVersion":"v1"}},"responseStatus":{{"code":200}},
                "annotations":{{"authorization.k8s.io/decision":"allow"}}}}"#
            )
            .replace('\n', "")
                + "\n"
        };
        let log =
            line("ResponseStarted", "watch") + &line("ResponseComplete", "watch") + &line("ResponseComplete", "list");
        let entries = parse(&(log + "{\"stage\":")).expect("read");
        let shown: Vec<_> = entries.iter().map(|entry| (entry.verb.as_str(), entry.resource.as_str())).collect();
        assert_eq!(shown, [("watch", "pods"), ("list", "pods")]);
        assert_eq!((entries[0].status, entries[0].decision.as_str()), (200, "allow"));
    }
}
