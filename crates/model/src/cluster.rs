//! Which cluster of the mesh (T-01): the hub's own has none of these.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Name, Namespace, ObjectKey};

/// A member cluster: the tenant and the name of its `ClusterEnrollment` on the hub. Two tenants' clusters may have one
/// name and are two clusters. Written `tenant/cluster`.
///
/// Both parts are checked when it is made, because they become segments of SPIFFE ids, paths of the hub's API and parts of
/// key derivations: neither can hold a slash, a capital or nothing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId {
    tenant: Namespace,
    cluster: Name,
}

/// A text names no cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterIdError {
    /// Not one slash.
    #[error("it is not of the form TENANT/CLUSTER")]
    Form,
    /// The tenant is no name of a namespace (RFC 1123 label).
    #[error("its tenant is not the name of a namespace")]
    Tenant,
    /// The cluster is no name of an object (RFC 1123 subdomain).
    #[error("its cluster is not the name of an object")]
    Cluster,
}

impl ClusterId {
    /// The cluster of this enrollment.
    pub fn new(tenant: &str, cluster: &str) -> Result<Self, ClusterIdError> {
        if !is_label(tenant, 63) {
            return Err(ClusterIdError::Tenant);
        }
        if cluster.len() > 253 || !cluster.split('.').all(|label| is_label(label, 253)) {
            return Err(ClusterIdError::Cluster);
        }
        Ok(Self { tenant: tenant.into(), cluster: cluster.into() })
    }

    /// Whose it is: the namespace of its enrollment.
    pub fn tenant(&self) -> &Namespace {
        &self.tenant
    }

    /// The name of its enrollment.
    pub fn cluster(&self) -> &Name {
        &self.cluster
    }

    /// The enrollment itself.
    pub fn enrollment(&self) -> ObjectKey {
        ObjectKey { namespace: self.tenant.clone(), name: self.cluster.clone() }
    }
}

fn is_label(text: &str, longest: usize) -> bool {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=longest).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (tenant, cluster) = text.split_once('/').ok_or(ClusterIdError::Form)?;
        Self::new(tenant, cluster)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.cluster)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_cluster() {
        for (text, expected) in [
            ("team-a/prod-eu", None),
            ("a/b.c.d", None),
            ("0/0", None),
            ("team-a", Some(ClusterIdError::Form)),
            ("", Some(ClusterIdError::Form)),
            ("/prod", Some(ClusterIdError::Tenant)),
            ("Team/prod", Some(ClusterIdError::Tenant)),
            ("a.b/prod", Some(ClusterIdError::Tenant)),
            ("-a/prod", Some(ClusterIdError::Tenant)),
            ("../prod", Some(ClusterIdError::Tenant)),
            ("a/", Some(ClusterIdError::Cluster)),
            ("a/b/c", Some(ClusterIdError::Cluster)),
            ("a/.", Some(ClusterIdError::Cluster)),
            ("a/..", Some(ClusterIdError::Cluster)),
            ("a/b..c", Some(ClusterIdError::Cluster)),
            ("a/b-", Some(ClusterIdError::Cluster)),
            ("a/B", Some(ClusterIdError::Cluster)),
            ("a/b c", Some(ClusterIdError::Cluster)),
        ] {
            let parsed = text.parse::<ClusterId>();
            assert_eq!(parsed.as_ref().err().copied(), expected, "{text}");
            if let Ok(id) = parsed {
                assert_eq!(id.to_string(), text);
            }
        }
        assert_eq!(ClusterId::new(&"a".repeat(64), "b"), Err(ClusterIdError::Tenant));
        assert_eq!(ClusterId::new("a", &["b"; 128].join(".")), Err(ClusterIdError::Cluster));
    }
}
