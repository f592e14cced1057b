//! What ServiceAccounts may do, compared with what they did (K-06): a right that nobody used is one too many, a request
//! that was refused is one too few.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::audit::Entry;

/// One verb on one resource, as a Role grants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    /// None: in every namespace, and on what has none.
    pub namespace: Option<String>,
    /// API group; empty for the core.
    pub group: String,
    /// Plural, with its subresource: `webhooks/status`.
    pub resource: String,
    /// Lower case.
    pub verb: String,
    /// None: whatever the name.
    pub name: Option<String>,
}

/// `patch webhooks/status.zen-mesh.io`, `list secrets zen-mesh-ca in zen-mesh`.
impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(f, " in {namespace}"))
    }
}

/// Asked of the authoriser only from inside the API server, so that no request shows them: an operator that grants what it
/// does not have itself needs them.
pub const UNSEEN: [&str; 2] = ["escalate", "bind"];

impl Right {
    /// What this request did by its verb, and by what came of it: an apply or a replace of what was missing makes it, for
    /// which `create` is needed too.
    fn all_of(entry: &Entry) -> Vec<Self> {
        let made = entry.status == 201 && matches!(&*entry.verb, "patch" | "update");
        let verbs = [Some(entry.verb.as_str()), made.then_some("create")];
        let resource = match &*entry.subresource {
            "" => entry.resource.clone(),
            subresource => format!("{}/{subresource}", entry.resource),
        };
        let of = |verb: &str| Self {
            namespace: Some(entry.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            group: entry.group.clone(),
            resource: resource.clone(),
            verb: verb.to_owned(),
            name: Some(entry.name.clone()).filter(|name| !name.is_empty()),
        };
        verbs.into_iter().flatten().map(of).collect()
    }

    fn covers(&self, used: &Self) -> bool {
        let within = |right: &Option<String>, used: &Option<String>| right.is_none() || right == used;
        (&self.group, &self.resource, &self.verb) == (&used.group, &used.resource, &used.verb)
            && within(&self.namespace, &used.namespace)
            && within(&self.name, &used.name)
    }
}

/// What Roles, `ClusterRole`s and their bindings, among other objects, grant a ServiceAccount.
pub fn granted(objects: &[Value], namespace: &str, account: &str) -> BTreeSet<Right> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let is_of = |kind: &str, object: &&Value| object["kind"] == kind;
    let mut rights = BTreeSet::new();
    let bindings = objects.iter().filter(|object| is_of("RoleBinding", object) || is_of("ClusterRoleBinding", object));
    let bound = bindings.filter(|binding| {
        binding["subjects"].as_array().into_iter().flatten().any(|subject| {
            subject["kind"] == "ServiceAccount" && subject["name"] == account && subject["namespace"] == namespace
        })
    });
    for binding in bound {
        let place = Some(text(&binding["metadata"]["namespace"])).filter(|place| !place.is_empty());
        let role = objects.iter().find(|object| {
            object["kind"] == binding["roleRef"]["kind"]
                && object["metadata"]["name"] == binding["roleRef"]["name"]
                && (object["kind"] == "ClusterRole"
                    || object["metadata"]["namespace"] == text(&binding["metadata"]["namespace"]))
        });
        for rule in role.into_iter().flat_map(|role| role["rules"].as_array().into_iter().flatten()) {
            let names: Vec<_> = match texts(&rule["resourceNames"]) {
                names if names.is_empty() => vec![None],
                names => names.into_iter().map(Some).collect(),
            };
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.extend(names.iter().cloned().map(|name| Right {
                            namespace: place.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            verb: verb.clone(),
                            name,
                        }));
                    }
                }
            }
        }
    }
    rights
}

/// What is wrong with a ServiceAccount's rights by what it did: rights of `ours` that were never used, and requests that
/// neither `ours` nor `others` grant. One that was refused at first, while its grant was on its way, is right.
pub fn problems(entries: &[Entry], user: &str, ours: &BTreeSet<Right>, others: &BTreeSet<Right>) -> Vec<String> {
    let mut done = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for entry in entries.iter().filter(|entry| entry.user == user && !entry.resource.is_empty()) {
        match &*entry.decision {
            "forbid" => refused.extend(Right::all_of(entry)),
            _ if entry.status < 400 => done.extend(Right::all_of(entry)),
            _ => {}
        }
    }
    let mut problems = Vec::new();
    for right in refused.difference(&done) {
        problems.push(format!("{user} was refused: {right}"));
    }
    for right in done.iter().filter(|used| !ours.iter().chain(others).any(|right| right.covers(used))) {
        problems.push(format!("{user} used what nobody granted it here: {right}"));
    }
    let idle = |right: &&Right| !UNSEEN.contains(&&*right.verb) && !done.iter().any(|used| right.covers(used));
    for right in ours.iter().filter(idle) {
        problems.push(format!("{user} never used: {right}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const USER: &str = "system:serviceaccount:zen-mesh:zen-operator";

    fn entry(verb: &str, resource: &str, name: &str, status: u16) -> Entry {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Entry {
            user: USER.to_owned(),
            verb: verb.to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: "zen-mesh".to_owned(),
            name: name.to_owned(),
            uri: String::new(),
            status,
            decision: if status == 403 { "forbid" } else { "allow" }.to_owned(),
            credential: String::new(),
            received: String::new(),
            answered: String::new(),
        }
    }

    fn rules(rules: &Value) -> BTreeSet<Right> {
        let subject = json!({"kind": "ServiceAccount", "name": "zen-operator", "namespace": "zen-mesh"});
        let metadata = json!({"name": "zen-operator", "namespace": "zen-mesh"});
        let role = json!({"kind": "Role", "metadata": metadata, "rules": rules});
        let reference = json!({"kind": "Role", "name": "zen-operator"});
        let binding = json!({"kind": "RoleBinding", "metadata": metadata, "roleRef": reference, "subjects": [subject]});
        let foreign = json!({"kind": "Role", "metadata": {"name": "zen-operator", "namespace": "other"}, "rules": [
            {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        ]});
        granted(&[foreign, role, binding], "zen-mesh", "zen-operator")
    }

    #[test]
    fn each_difference_is_told() {
        let pods = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": verbs});
        let named = |verbs: &[&str]| json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["a", "b"], "verbs": verbs});
        let all = [entry("list", "pods", "", 200), entry("list", "pods/log", "x", 200)];
        let secret = |name: &str, status| entry("patch", "secrets", name, status);
        for (rights, entries, expected) in [
            (json!([pods(&["list"])]), all.to_vec(), vec![]),
            (json!([pods(&["list"])]), all[..1].to_vec(), vec!["never used: list pods/log in zen-mesh"]),
            (json!([pods(&["list", "escalate"])]), all.to_vec(), vec![]),
            (json!([]), all[..1].to_vec(), vec!["used what nobody granted it here: list pods in zen-mesh"]),
            // What fails for other reasons was no use of it.
            (
                json!([named(&["patch"])]),
                vec![secret("a", 200), secret("b", 409)],
                vec!["never used: patch secrets b in zen-mesh"],
            ),
            // An apply that made something needs both verbs.
            (
                json!([named(&["patch"])]),
                vec![secret("a", 201), secret("b", 200)],
                vec!["used what nobody granted it here: create secrets a in zen-mesh"],
            ),
            (
                json!([named(&["create", "patch"])]),
                vec![secret("a", 201), secret("b", 200)],
                vec!["never used: create secrets b in zen-mesh"],
            ),
            (
                json!([named(&["patch"])]),
                vec![secret("a", 200), secret("b", 200), secret("c", 403)],
                vec!["was refused: patch secrets c in zen-mesh"],
            ),
            // The grant came a moment later.
            (json!([named(&["patch"])]), vec![secret("a", 403), secret("a", 200), secret("b", 200)], vec![]),
        ] {
            let found = problems(&entries, USER, &rules(&rights), &BTreeSet::new());
            let expected: Vec<_> = expected.into_iter().map(|problem| format!("{USER} {problem}")).collect();
            assert_eq!(found, expected, "{rights} {entries:?}");
        }
    }

    #[test]
    fn rights_of_others_count_where_they_are_used() {
        let others = rules(&json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]));
        let found = problems(&[entry("list", "pods", "", 200)], USER, &BTreeSet::new(), &others);
        assert!(found.is_empty(), "{found:?}");
    }
}
