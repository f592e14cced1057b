//! How a member knows its hub by name: the default verifier, and whose issuing CA it was.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::{parse, provider};
use crate::scope::Vouches;
use crate::verify::{PeerRefused, refuse};
use crate::{Error, Scope, TrustDomain, TrustRoots};

/// All that rustls checks of a server by itself (chain, validity, purpose, host name, signature), and then that the leaf names
/// the hub's issuing CA as its issuer. Who signs an issuing CA decides its subject, and none may have another beneath it, so
/// that no member can have one of that name.
#[derive(Debug)]
pub(crate) struct HubVerifier {
    default: Arc<WebPkiServerVerifier>,
    domain: TrustDomain,
}

impl HubVerifier {
    pub(crate) fn new(roots: &TrustRoots, domain: &TrustDomain) -> Result<Self, Error> {
        let default = WebPkiServerVerifier::builder_with_provider(roots.store(), Arc::new(provider())).build();
        let default = default
            .map_err(|error| Error::Malformed { what: "the trust bundle".to_owned(), reason: error.to_string() })?;
        Ok(Self { default, domain: domain.clone() })
    }

    fn check_issuer(&self, leaf: &CertificateDer<'_>) -> Result<(), PeerRefused> {
        let leaf = parse(leaf, "the certificate").map_err(|_| PeerRefused::Unreadable)?;
        match Vouches::of(leaf.issuer()) {
            Some(vouches) if vouches.covers(&self.domain, &Scope::Hub) => Ok(()),
            _ => Err(PeerRefused::UnfitIssuer("it is not the issuing CA of the hub")),
        }
    }
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.default.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        self.check_issuer(leaf).map_err(refuse)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.default.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.default.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.default.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zen_model::Timestamp;

    use super::*;
    use crate::Ca;

    /// T-01, T-02: whoever is enrolled has an issuing CA, and could sign the hub's name with it.
    #[test]
    fn a_member_cannot_stand_in_for_its_hub() {
        let domain: TrustDomain = "zen-mesh.local".parse().expect("valid");
        let now = Timestamp::now();
        let root = Ca::new_root(&domain, now).expect("a root");
        let verifier = HubVerifier::new(&root.roots().expect("roots"), &domain).expect("a verifier");
        let verify = |ca: &Ca, name: &str| {
            let issued = ca.issue_server_at(&["hub.example.com".to_owned()], now, Duration::from_hours(1));
            let chain = issued.expect("issued").chain().to_vec();
            let name = ServerName::try_from(name.to_owned()).expect("a name");
            let at = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
            verifier.verify_server_cert(&chain[0], &chain[1..], &name, &[], at).map(drop)
        };
        let hub = root.issue_issuer(&Scope::Hub, now).expect("the hub's");
        assert_eq!(verify(&hub, "hub.example.com"), Ok(()));
        assert!(verify(&hub, "other.example.com").is_err(), "the name counts");
        let member = Scope::Cluster("team-a/eu".parse().expect("a cluster"));
        let member = root.issue_issuer(&member, now).expect("a member's");
        let refused = verify(&member, "hub.example.com").expect_err("not from the hub").to_string();
        assert!(refused.contains("not the issuing CA of the hub"), "{refused}");
        let other = Ca::new_root(&domain, now).expect("a root").issue_issuer(&Scope::Hub, now).expect("another hub's");
        assert!(verify(&other, "hub.example.com").is_err(), "the root counts");
    }
}
