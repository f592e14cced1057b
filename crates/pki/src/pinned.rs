//! A server that is known by its very certificate, because somebody who proved himself has said which it is.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::{CertificateError, DigitallySignedStruct, PeerIncompatible, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::certificate::{fingerprint, provider, validity};

/// Takes one leaf, whoever signed it, as long as it is good; whose key it is, the handshake proves as ever. No name counts: the
/// certificate is for those that others know it by.
#[derive(Debug)]
pub(crate) struct PinnedVerifier {
    fingerprint: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedVerifier {
    /// By [`crate::fingerprint`].
    pub(crate) fn new(fingerprint: &str) -> Arc<Self> {
        let algorithms = provider().signature_verification_algorithms;
        Arc::new(Self { fingerprint: fingerprint.to_owned(), algorithms })
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if verify_slices_are_equal(fingerprint(leaf).as_bytes(), self.fingerprint.as_bytes()).is_err() {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let validity = validity(leaf).map_err(|_| CertificateError::BadEncoding)?;
        let now = now.as_secs();
        if now < validity.from.as_secs() {
            return Err(CertificateError::NotValidYet.into());
        }
        if now >= validity.until.as_secs() {
            return Err(CertificateError::Expired.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use zen_model::Timestamp;

    use super::*;
    use crate::{Ca, TrustDomain};

    #[test]
    fn one_leaf_as_long_as_it_is_good() {
        let domain: TrustDomain = "zen-mesh.local".parse().expect("valid");
        let now = Timestamp::now();
        let ca = Ca::new_root(&domain, now).and_then(|root| root.issue_intermediate(now)).expect("a CA");
        let leaf = || {
            let issued = ca.issue_server_at(&["hooks.example.com".to_owned()], now, Duration::from_hours(1));
            issued.expect("issued").chain()[0].clone()
        };
        let (own, other) = (leaf(), leaf());
        let verifier = PinnedVerifier::new(&fingerprint(&own));
        let name = ServerName::try_from("zen-ingester.zen-mesh.svc").expect("a name");
        let verify = |leaf: &CertificateDer<'_>, at: Timestamp| {
            let at = UnixTime::since_unix_epoch(Duration::from_millis(at.0));
            verifier.verify_server_cert(leaf, &[], &name, &[], at).map(drop)
        };
        assert_eq!(verify(&own, now), Ok(()));
        let unfit = CertificateError::ApplicationVerificationFailure;
        assert_eq!(verify(&other, now), Err(unfit.into()), "of the same CA and name");
        assert_eq!(verify(&own, now.plus(Duration::from_hours(2))), Err(CertificateError::Expired.into()));
        assert_eq!(verify(&own, Timestamp(now.0 - 86_400_000)), Err(CertificateError::NotValidYet.into()));
    }
}
