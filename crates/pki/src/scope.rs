//! Whom an issuing CA may vouch for, and which issuing CA an id calls for: one for the hub's own workloads, one for each
//! member cluster (T-02, T-03).
//!
//! The scope stands in the subject of the issuing CA, which its signer decides. A URI would say it more plainly, but a
//! signing certificate must not bear a SPIFFE id with a path (X.509-SVID, 3.2), and the TLS stack refuses certificates
//! with URI name constraints.

use std::fmt;

use rcgen::{DistinguishedName, DnType};
use x509_parser::x509::{RelativeDistinguishedName, X509Name};
use zen_model::ClusterId;

use crate::{SpiffeId, SpiffeIdError, TrustDomain};

/// Common name of every issuing CA of a mesh, and, in releases before scopes, the whole subject of the hub's.
const COMMON_NAME: &str = "Zen Mesh issuing CA";
const COMMON_NAME_OID: [u64; 4] = [2, 5, 4, 3];
/// `description` (X.520, 6.5.1), of up to 1024 characters: a common name ends at 64, and a scope can be longer.
const DESCRIPTION_OID: [u64; 4] = [2, 5, 4, 13];

/// The workloads that one issuing CA vouches for, within a trust domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The mesh's own, in the hub's cluster: `/ns/<namespace>/sa/<account>`.
    Hub,
    /// Those of a member: `/tenant/<tenant>/cluster/<cluster>/ns/<namespace>/sa/<account>`.
    Cluster(ClusterId),
}

/// What a workload's id says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload<'a> {
    /// Where it runs.
    pub scope: Scope,
    /// The namespace of its pod, in its own cluster.
    pub namespace: &'a str,
    /// Its ServiceAccount.
    pub account: &'a str,
}

impl Scope {
    /// The workload of an id; none for an id of another shape, which no issuing CA vouches for.
    pub fn of(id: &SpiffeId) -> Option<Workload<'_>> {
        let mut segments = id.path().strip_prefix('/')?.split('/');
        let mut next = || segments.next();
        let scope = match next()? {
            "ns" => Self::Hub,
            "tenant" => {
                let tenant = next()?;
                let ("cluster", cluster) = (next()?, next()?) else { return None };
                let "ns" = next()? else { return None };
                Self::Cluster(ClusterId::new(tenant, cluster).ok()?)
            }
            _ => return None,
        };
        let (namespace, "sa", account, None) = (next()?, next()?, next()?, next()) else { return None };
        Some(Workload { scope, namespace, account })
    }

    /// The id of a ServiceAccount in this scope.
    pub fn workload(&self, domain: &TrustDomain, namespace: &str, account: &str) -> Result<SpiffeId, SpiffeIdError> {
        match self {
            Self::Hub => SpiffeId::workload(domain, namespace, account),
            Self::Cluster(cluster) => SpiffeId::member(domain, cluster, namespace, account),
        }
    }

    /// What all its ids begin with, and what the signing request of its issuing CA asks for.
    pub fn prefix(&self, domain: &TrustDomain) -> String {
        match self {
            Self::Hub => format!("spiffe://{domain}"),
            Self::Cluster(id) => format!("spiffe://{domain}/tenant/{}/cluster/{}", id.tenant(), id.cluster()),
        }
    }

    /// The subject of its issuing CA.
    pub(crate) fn subject(&self, domain: &TrustDomain) -> DistinguishedName {
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, COMMON_NAME);
        subject.push(DnType::CustomDnType(DESCRIPTION_OID.to_vec()), self.prefix(domain));
        subject
    }
}

/// What the subject of an issuing CA says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vouches {
    /// For a scope of a trust domain.
    For(TrustDomain, Scope),
    /// It has nothing but the common name: made by a release before scopes, which knew the hub alone (docs/adr/0011).
    Unscoped,
}

impl Vouches {
    /// None for a subject that is not an issuing CA's.
    pub(crate) fn of(subject: &X509Name<'_>) -> Option<Self> {
        match read(subject)?.as_slice() {
            [(kind, name)] if *kind == COMMON_NAME_OID && name == COMMON_NAME => Some(Self::Unscoped),
            [(kind, name), (described, prefix)]
                if *kind == COMMON_NAME_OID && name == COMMON_NAME && *described == DESCRIPTION_OID =>
            {
                let id: SpiffeId = prefix.parse().ok()?;
                let scope = match id.path() {
                    "" => Scope::Hub,
                    // As an id below it would be read: one way to spell a scope, and one to read it.
                    _ => Scope::of(&format!("{prefix}/ns/n/sa/a").parse().ok()?)?.scope,
                };
                (scope.prefix(&id.trust_domain()) == *prefix).then(|| Self::For(id.trust_domain(), scope))
            }
            _ => None,
        }
    }

    /// Whether it may sign this workload.
    pub(crate) fn covers(&self, domain: &TrustDomain, scope: &Scope) -> bool {
        match self {
            Self::For(own, vouched) => own == domain && vouched == scope,
            Self::Unscoped => *scope == Scope::Hub,
        }
    }
}

/// Attributes in order, one in each relative name; none for a name of another form.
fn read(name: &X509Name<'_>) -> Option<Vec<(Vec<u64>, String)>> {
    let attribute = |rdn: &RelativeDistinguishedName<'_>| {
        let mut attributes = rdn.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else { return None };
        Some((attribute.attr_type().iter()?.collect(), attribute.as_str().ok()?.to_owned()))
    };
    name.iter_rdn().map(attribute).collect()
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub => f.write_str("the hub"),
            Self::Cluster(id) => write!(f, "the cluster {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domain() -> TrustDomain {
        "zen-mesh.local".parse().expect("valid")
    }

    fn cluster(text: &str) -> Scope {
        Scope::Cluster(text.parse().expect("a cluster"))
    }

    #[test]
    fn an_id_has_one_scope_or_none() {
        for (path, scope) in [
            ("/ns/zen-mesh/sa/zen-egress", Some(Scope::Hub)),
            ("/tenant/a/cluster/eu.1/ns/n/sa/s", Some(cluster("a/eu.1"))),
            ("/ns/tenant/sa/cluster", Some(Scope::Hub)),
            ("", None),
            ("/proof", None),
            ("/ns/a", None),
            ("/ns/a/sa", None),
            ("/ns/a/sa/b/c", None),
            ("/sa/a/ns/b", None),
            ("/ns/a/ns/b", None),
            ("/tenant/a/ns/n/sa/s", None),
            ("/tenant/a/cluster/b", None),
            ("/tenant/a/cluster/b/sa/n/ns/s", None),
            ("/tenant/a/cluster/b/ns/n/sa/s/x", None),
            ("/cluster/b/tenant/a/ns/n/sa/s", None),
            ("/tenant/A/cluster/b/ns/n/sa/s", None),
            ("/tenant/a/cluster/b_c/ns/n/sa/s", None),
        ] {
            let id: SpiffeId = format!("spiffe://zen-mesh.local{path}").parse().expect("valid");
            let found = Scope::of(&id);
            assert_eq!(found.as_ref().map(|workload| workload.scope.clone()), scope, "{path}");
            if let Some(Workload { scope, namespace, account }) = found {
                assert_eq!(scope.workload(&domain(), namespace, account), Ok(id.clone()));
                assert!(id.as_str().starts_with(&scope.prefix(&domain())));
            }
        }
    }

    /// Through a certificate and back: what is written is what is read, whatever the length.
    #[test]
    fn a_subject_says_its_scope() {
        let long = format!("a/{}", "b".repeat(253));
        for scope in [Scope::Hub, cluster("a/b"), cluster("b/a"), cluster("a/b.c"), cluster(&long)] {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = scope.subject(&domain());
            let certificate = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed");
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).expect("a certificate");
            let vouches = Vouches::of(parsed.subject()).expect("an issuing CA's");
            assert_eq!(vouches, Vouches::For(domain(), scope.clone()));
            assert!(vouches.covers(&domain(), &scope));
            assert!(!vouches.covers(&"staging.local".parse().expect("valid"), &scope), "the trust domain counts");
            assert!(!vouches.covers(&domain(), &cluster("a/other")));
            assert_eq!(vouches.covers(&domain(), &Scope::Hub), scope == Scope::Hub);
        }
    }

    #[test]
    fn other_subjects_are_no_issuing_cas() {
        let prefix = |text: &str| (DnType::CustomDnType(DESCRIPTION_OID.to_vec()), text.to_owned());
        let name = || (DnType::CommonName, COMMON_NAME.to_owned());
        for (attributes, expected) in [
            (vec![name()], Some(Vouches::Unscoped)),
            (vec![], None),
            (vec![(DnType::CommonName, "Zen Mesh root CA".to_owned())], None),
            (vec![prefix("spiffe://td")], None),
            (vec![prefix("spiffe://td"), name()], None),
            (vec![name(), (DnType::OrganizationName, "spiffe://td".to_owned())], None),
            (vec![name(), prefix("")], None),
            (vec![name(), prefix("https://td")], None),
            (vec![name(), prefix("spiffe://td/")], None),
            (vec![name(), prefix("spiffe://td/tenant/a")], None),
            (vec![name(), prefix("spiffe://td/ns/n/sa/a")], None),
            (vec![name(), prefix("spiffe://td/tenant/a/cluster/b/ns/c")], None),
            (vec![name(), prefix("spiffe://td/tenant/A/cluster/b")], None),
        ] {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = DistinguishedName::new();
            for (kind, text) in &attributes {
                params.distinguished_name.push(kind.clone(), text.clone());
            }
            let certificate = params.self_signed(&rcgen::KeyPair::generate().expect("a key")).expect("signed");
            let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der()).expect("a certificate");
            assert_eq!(Vouches::of(parsed.subject()), expected, "{attributes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_judged(path in "(/(ns|sa|tenant|cluster|a|b\\.c|A_)){0,9}") {
            let id: SpiffeId = format!("spiffe://td{path}").parse().expect("valid");
            if let Some(Workload { scope, namespace, account }) = Scope::of(&id) {
                let again = scope.workload(&"td".parse().expect("valid"), namespace, account);
                prop_assert_eq!(again, Ok(id.clone()));
            }
        }
    }
}
