//! SPIFFE ids (SPIFFE-ID standard, sections 2.1 to 2.4), parsed strictly.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use zen_model::ClusterId;

const SCHEME: &str = "spiffe://";
const MAX_ID: usize = 2048;
const MAX_DOMAIN: usize = 255;

/// The identity of a workload: `spiffe://<trust domain>/<path>`. Two ids are the same when their bytes are: the standard
/// allows only characters that have one spelling, so nothing is normalised. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    text: Arc<str>,
    /// Where the path begins; the length of `text` when there is none.
    path: usize,
}

/// The part of an id that names who may issue it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

/// Why a text is not a SPIFFE id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeIdError {
    /// More than 2048 bytes, or a trust domain of more than 255.
    #[error("longer than the standard allows")]
    TooLong,
    /// Another scheme, or capitals in it.
    #[error("does not start with spiffe://")]
    Scheme,
    /// No trust domain.
    #[error("has no trust domain")]
    NoTrustDomain,
    /// Trust domains have lower-case letters, digits, dots, dashes and underscores: no port, no user.
    #[error("has a character in its trust domain other than a-z, 0-9, '.', '-' and '_'")]
    TrustDomain,
    /// Paths have letters, digits, dots, dashes and underscores: no query, fragment or percent-encoding.
    #[error("has a character in its path other than letters, digits, '.', '-' and '_'")]
    Path,
    /// `//`, a trailing slash, `.` or `..`.
    #[error("has an empty or relative path segment")]
    Segment,
}

impl SpiffeId {
    /// The id of a Kubernetes ServiceAccount: `spiffe://<domain>/ns/<namespace>/sa/<account>`.
    pub fn workload(domain: &TrustDomain, namespace: &str, account: &str) -> Result<Self, SpiffeIdError> {
        // Otherwise a name with a slash would spell another workload's id.
        if namespace.contains('/') || account.contains('/') {
            return Err(SpiffeIdError::Path);
        }
        format!("{SCHEME}{domain}/ns/{namespace}/sa/{account}").parse()
    }

    /// The id of a ServiceAccount of a member cluster:
    /// `spiffe://<domain>/tenant/<tenant>/cluster/<cluster>/ns/<namespace>/sa/<account>` (T-02).
    pub fn member(
        domain: &TrustDomain,
        cluster: &ClusterId,
        namespace: &str,
        account: &str,
    ) -> Result<Self, SpiffeIdError> {
        if namespace.contains('/') || account.contains('/') {
            return Err(SpiffeIdError::Path);
        }
        let (tenant, cluster) = (cluster.tenant(), cluster.cluster());
        format!("{SCHEME}{domain}/tenant/{tenant}/cluster/{cluster}/ns/{namespace}/sa/{account}").parse()
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its trust domain.
    pub fn trust_domain(&self) -> TrustDomain {
        TrustDomain(self.text[SCHEME.len()..self.path].into())
    }

    /// Its path with the leading slash; empty for the id of the trust domain itself, which no workload may bear.
    pub fn path(&self) -> &str {
        &self.text[self.path..]
    }

    /// Whether it lies in this trust domain.
    pub fn is_in(&self, domain: &TrustDomain) -> bool {
        self.text[SCHEME.len()..self.path] == *domain.0
    }
}

impl FromStr for SpiffeId {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > MAX_ID {
            return Err(SpiffeIdError::TooLong);
        }
        let rest = text.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let domain = rest.find('/').unwrap_or(rest.len());
        check_domain(&rest[..domain])?;
        check_path(&rest[domain..])?;
        Ok(Self { text: text.into(), path: SCHEME.len() + domain })
    }
}

fn check_domain(domain: &str) -> Result<(), SpiffeIdError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    match domain.len() {
        0 => Err(SpiffeIdError::NoTrustDomain),
        length if length > MAX_DOMAIN => Err(SpiffeIdError::TooLong),
        _ if !domain.bytes().all(allowed) => Err(SpiffeIdError::TrustDomain),
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), SpiffeIdError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    for segment in path.split('/').skip(1) {
        if matches!(segment, "" | "." | "..") {
            return Err(SpiffeIdError::Segment);
        }
        if !segment.bytes().all(allowed) {
            return Err(SpiffeIdError::Path);
        }
    }
    Ok(())
}

impl TrustDomain {
    /// The domain's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = SpiffeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check_domain(text)?;
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_what_the_standard_allows() {
        for (text, domain, path) in [
            ("spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-egress", "zen-mesh.local", "/ns/zen-mesh/sa/zen-egress"),
            ("spiffe://td", "td", ""),
            ("spiffe://1.2.3.4/Service", "1.2.3.4", "/Service"),
            ("spiffe://a_b-c/...", "a_b-c", "/..."),
        ] {
            let id: SpiffeId = text.parse().expect(text);
            assert_eq!((id.trust_domain().as_str(), id.path(), id.as_str()), (domain, path, text));
        }
    }

    #[test]
    fn refuses_what_the_standard_forbids() {
        use SpiffeIdError as E;
        for (text, error) in [
            ("", E::Scheme),
            ("SPIFFE://td/a", E::Scheme),
            ("https://td/a", E::Scheme),
            ("spiffe:/td/a", E::Scheme),
            (" spiffe://td/a", E::Scheme),
            ("spiffe://", E::NoTrustDomain),
            ("spiffe:///a", E::NoTrustDomain),
            ("spiffe://TD/a", E::TrustDomain),
            ("spiffe://td:443/a", E::TrustDomain),
            ("spiffe://user@td/a", E::TrustDomain),
            ("spiffe://td?q", E::TrustDomain),
            ("spiffe://td#f", E::TrustDomain),
            ("spiffe://tdé/a", E::TrustDomain),
            ("spiffe://td/", E::Segment),
            ("spiffe://td/a/", E::Segment),
            ("spiffe://td//a", E::Segment),
            ("spiffe://td/./a", E::Segment),
            ("spiffe://td/a/../b", E::Segment),
            ("spiffe://td/a%41", E::Path),
            ("spiffe://td/a?q=1", E::Path),
            ("spiffe://td/a#f", E::Path),
            ("spiffe://td/a b", E::Path),
            ("spiffe://td/a\0", E::Path),
            ("spiffe://td/ü", E::Path),
        ] {
            assert_eq!(text.parse::<SpiffeId>(), Err(error), "{text}");
        }
        let long = format!("spiffe://td/{}", "a".repeat(MAX_ID));
        assert_eq!(long.parse::<SpiffeId>(), Err(E::TooLong));
        let long = format!("spiffe://{}/a", "a".repeat(MAX_DOMAIN + 1));
        assert_eq!(long.parse::<SpiffeId>(), Err(E::TooLong));
    }

    #[test]
    fn a_service_account_cannot_reach_into_the_path() {
        let domain: TrustDomain = "td".parse().expect("valid");
        assert!(SpiffeId::workload(&domain, "a", "c").is_ok_and(|id| id.path() == "/ns/a/sa/c"));
        assert_eq!(SpiffeId::workload(&domain, "a/sa/b", "c"), Err(SpiffeIdError::Path));
        assert_eq!(SpiffeId::workload(&domain, "a", "b/c"), Err(SpiffeIdError::Path));
        assert_eq!(SpiffeId::workload(&domain, "", "c"), Err(SpiffeIdError::Segment));
        assert_eq!(SpiffeId::workload(&domain, "..", "c"), Err(SpiffeIdError::Segment));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,80}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.as_str(), text);
            }
        }

        #[test]
        fn what_parses_has_one_spelling(text in "spiffe://[a-zA-Z0-9.:@_-]{0,9}(/[a-zA-Z0-9.%_?-]{0,4}){0,4}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), format!("spiffe://{}{}", id.trust_domain(), id.path()));
                prop_assert!(!id.path().ends_with('/') && !id.path().contains("//") && !id.path().contains('%'));
                prop_assert!(id.is_in(&id.trust_domain()));
            }
        }
    }
}
