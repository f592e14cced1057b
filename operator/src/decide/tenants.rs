//! What the data plane may read in the namespaces of tenants: one Role per namespace and plane that names the Secrets and
//! ConfigMaps which accepted objects use, nothing else (K-06).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde_json::{Value, json};
use zen_compile::{Plane, Reference, ReferenceKind};
use zen_model::{Name, Namespace};

use super::short;
use crate::names;
use crate::object::{Id, Object};

/// A namespace and who reads in it.
pub type Reader = (Namespace, &'static str);

/// What one plane uses in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Names of Secrets.
    pub secrets: BTreeSet<Name>,
    /// Names of ConfigMaps.
    pub config_maps: BTreeSet<Name>,
}

/// The references of a configuration by namespace and plane.
pub fn used(references: &[Reference]) -> BTreeMap<Reader, Used> {
    let mut used: BTreeMap<Reader, Used> = BTreeMap::new();
    for Reference { plane, kind, key } in references {
        let component = match plane {
            Plane::Ingester => names::INGESTER,
            Plane::Egress | Plane::Member => names::EGRESS,
            Plane::Operator => continue,
        };
        let used = used.entry((key.namespace.clone(), component)).or_default();
        let names = match kind {
            ReferenceKind::Secret => &mut used.secrets,
            ReferenceKind::ConfigMap => &mut used.config_maps,
        };
        names.insert(key.name.clone());
    }
    used
}

/// Role and RoleBinding of one plane in one namespace; `mesh` is where its ServiceAccount is.
pub fn grants(mesh: &str, (namespace, component): &Reader, used: &Used) -> [Arc<Object>; 2] {
    let rule = |resource: &str, names: &BTreeSet<Name>| {
        let names: Vec<_> = names.iter().map(Name::as_str).collect();
        json!({"apiGroups": [""], "resources": [resource], "resourceNames": names, "verbs": ["list", "watch"]})
    };
    let mut rules: Vec<Value> = Vec::new();
    if !used.config_maps.is_empty() {
        rules.push(rule("configmaps", &used.config_maps));
    }
    if !used.secrets.is_empty() {
        rules.push(rule("secrets", &used.secrets));
    }
    let binding = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": component},
        "subjects": [{"kind": "ServiceAccount", "name": component, "namespace": mesh}],
    });
    let namespace = Some(namespace.as_str());
    [
        Arc::new(Object::new::<Role>(namespace, component, json!({"rules": rules})).component(short(component))),
        Arc::new(Object::new::<RoleBinding>(namespace, component, binding).component(short(component))),
    ]
}

/// The two objects of [`grants`].
pub fn ids((namespace, component): &Reader) -> [Id; 2] {
    [Id::new::<Role>(namespace.as_str(), *component), Id::new::<RoleBinding>(namespace.as_str(), *component)]
}

#[cfg(test)]
mod tests {
    use zen_model::ObjectKey;

    use super::*;

    fn reference(plane: Plane, kind: ReferenceKind, key: &str) -> Reference {
        Reference { plane, kind, key: key.parse::<ObjectKey>().expect("a key") }
    }

    #[test]
    fn each_plane_may_read_what_it_uses_in_each_namespace() {
        use ReferenceKind::{ConfigMap, Secret};
        let used = used(&[
            reference(Plane::Ingester, Secret, "team-a/github"),
            reference(Plane::Ingester, Secret, "team-a/billing"),
            reference(Plane::Ingester, Secret, "team-a/github"),
            reference(Plane::Ingester, ConfigMap, "team-a/source-ca"),
            reference(Plane::Egress, Secret, "team-a/ci-token"),
            reference(Plane::Egress, ConfigMap, "team-b/ci-ca"),
            reference(Plane::Member, Secret, "team-d/signing"),
            reference(Plane::Operator, Secret, "team-c/nothing"),
        ]);
        let readers: Vec<_> = used.keys().map(|(namespace, component)| format!("{namespace} {component}")).collect();
        assert_eq!(readers, ["team-a zen-egress", "team-a zen-ingester", "team-b zen-egress", "team-d zen-egress"]);
        let reader = (Namespace::from("team-a"), names::INGESTER);
        let [role, binding] = grants("zen-mesh", &reader, &used[&reader]);
        assert_eq!(
            role.body()["rules"],
            json!([
                {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["source-ca"],
                 "verbs": ["list", "watch"]},
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["billing", "github"],
                 "verbs": ["list", "watch"]},
            ])
        );
        assert_eq!(binding.body()["subjects"][0]["namespace"], "zen-mesh");
        assert_eq!([role.id().clone(), binding.id().clone()], ids(&reader));
    }

    #[test]
    fn nothing_used_is_nothing_granted() {
        assert!(used(&[]).is_empty());
        // An empty list of names would grant all of them.
        let reader = (Namespace::from("team-a"), names::EGRESS);
        let [role, _] = grants("zen-mesh", &reader, &Used::default());
        assert_eq!(role.body()["rules"], json!([]));
    }
}
