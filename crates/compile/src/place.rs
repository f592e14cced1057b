//! Where a Webhook is served: ownership of paths and hosts, and who wins where two want the same (W-01).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use zen_model::{Namespace, ObjectKey, ObjectReason};

use crate::problem::Problems;
use crate::resolve::Environment;

/// Hosts and path of one Webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In lower case; empty: any host.
    pub hosts: Vec<String>,
    /// Compared with the undecoded path.
    pub path: String,
}

impl Place {
    /// With the defaults of API.md filled in.
    pub fn new<'h>(key: &ObjectKey, hosts: impl Iterator<Item = &'h str>, path: Option<&str>) -> Self {
        let mut hosts: Vec<_> = hosts.map(str::to_ascii_lowercase).collect();
        hosts.sort();
        hosts.dedup();
        Self { hosts, path: path.map_or_else(|| format!("/{}/{}", key.namespace, key.name), str::to_owned) }
    }

    /// Reports what the namespace may not have.
    pub(crate) fn check(&self, key: &ObjectKey, environment: &Environment<'_>, problems: &mut Problems) {
        let namespace = &key.namespace;
        if !self.path.starts_with('/')
            || self.path.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'?' | b'#'))
            || self.path.split('/').any(|segment| matches!(segment, "." | ".."))
        {
            let message = format!("path {:?} must begin with / and hold no query, fragment or dot segment", self.path);
            return problems.block(ObjectReason::Invalid, "spec.path", message);
        }
        if self.is_owned(namespace, environment) {
            return;
        }
        let foreign =
            self.hosts.iter().enumerate().find(|(_, host)| environment.mesh.grants_host_to_others(namespace, host));
        if let (Some((index, host)), true) = (foreign, self.is_own_path(namespace)) {
            let message =
                format!("host {host} is granted to another namespace; have mesh.yaml grant it to {namespace} too");
            return problems.block(ObjectReason::HostNotGranted, format!("spec.hosts[{index}]"), message);
        }
        let message = if self.hosts.is_empty() {
            format!(
                "path {} is not beneath /{namespace}/; move it there, or name a host that mesh.yaml grants to {namespace}",
                self.path
            )
        } else {
            format!(
                "path {} is not beneath /{namespace}/ and mesh.yaml does not grant every host of spec.hosts to {namespace}",
                self.path
            )
        };
        problems.block(ObjectReason::PathNotGranted, "spec.path", message);
    }

    /// A path that no rule gives to the namespace is not routed at all, so that nobody can squat on another's.
    pub(crate) fn is_owned(&self, namespace: &Namespace, environment: &Environment<'_>) -> bool {
        if environment.permissive {
            return true;
        }
        let mesh = &environment.mesh;
        if self.is_own_path(namespace) {
            return !self.hosts.iter().any(|host| mesh.grants_host_to_others(namespace, host));
        }
        !self.hosts.is_empty() && self.hosts.iter().all(|host| mesh.grants_host(namespace, host))
    }

    fn is_own_path(&self, namespace: &Namespace) -> bool {
        self.path
            .strip_prefix('/')
            .and_then(|rest| rest.strip_prefix(namespace.as_str()))
            .is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
    }
}

/// A Webhook and the place that it wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claimant {
    /// That of the place, shared.
    pub(crate) path: Arc<str>,
    pub(crate) place: Place,
    pub(crate) created: Option<i128>,
    /// Its namespace may have the place.
    pub(crate) owned: bool,
    /// Why it could not be read.
    pub(crate) unread: Option<ObjectReason>,
}

/// Who wants which place, and since when. Nanoseconds since the epoch; none where objects have no age.
pub(crate) struct Claim<'a> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) place: &'a Place,
    pub(crate) created: Option<i128>,
}

/// The losers, each with the winner of its place: the oldest wins, then the first by namespace and name.
pub(crate) fn losers(mut claims: Vec<Claim<'_>>) -> BTreeMap<ObjectKey, ObjectKey> {
    claims.sort_by_key(|claim| (claim.created.unwrap_or(i128::MAX), claim.key));
    let mut taken: HashMap<(Option<&str>, &str), &ObjectKey> = HashMap::new();
    let mut losers = BTreeMap::new();
    for claim in &claims {
        let path = claim.place.path.as_str();
        let any = claim.place.hosts.is_empty().then_some(None);
        let places: Vec<_> = any.into_iter().chain(claim.place.hosts.iter().map(|host| Some(host.as_str()))).collect();
        match places.iter().find_map(|host| taken.get(&(*host, path))) {
            Some(winner) => drop(losers.insert(claim.key.clone(), (*winner).clone())),
            None => taken.extend(places.into_iter().map(|host| ((host, path), claim.key))),
        }
    }
    losers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(hosts: &[&str], path: &str) -> Place {
        Place::new(&ObjectKey::new("a", "b"), hosts.iter().copied(), Some(path))
    }

    #[test]
    fn the_oldest_wins_then_the_name() {
        let [a, b, c] = ["a", "b", "c"].map(|name| ObjectKey::new("n", name));
        let (one, other) = (place(&["h"], "/n/x"), place(&["h", "i"], "/n/x"));
        let claim = |key, place, created| Claim { key, place, created };
        let lost = losers(vec![claim(&a, &one, Some(2)), claim(&b, &other, Some(1)), claim(&c, &one, None)]);
        assert_eq!(lost, BTreeMap::from([(a.clone(), b.clone()), (c.clone(), b.clone())]));
        let lost = losers(vec![claim(&b, &other, None), claim(&a, &one, None)]);
        assert_eq!(lost, BTreeMap::from([(b.clone(), a.clone())]));
        let any = place(&[], "/n/x");
        assert!(losers(vec![claim(&a, &any, None), claim(&b, &one, None)]).is_empty(), "a named host is its own place");
    }

    #[test]
    fn own_paths() {
        let namespace = Namespace::from("team-a");
        for (path, own) in [
            ("/team-a/x", true),
            ("/team-a/", false),
            ("/team-a", false),
            ("/team-ab/x", false),
            ("/x", false),
            ("/TEAM-A/x", false),
        ] {
            assert_eq!(place(&[], path).is_own_path(&namespace), own, "{path}");
        }
    }
}
