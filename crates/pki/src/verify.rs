//! Who may be on the other end: chain, validity and purpose as webpki checks them, then the SPIFFE id.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use zen_model::Timestamp;

use crate::certificate::{parse, provider};
use crate::csr::Names;
use crate::{Error, Identity, SpiffeId, SpiffeIdError, TrustRoots};

/// Why a peer's certificate, although its chain holds, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// The peer sent none, or one that cannot be read.
    #[error("the peer has no readable certificate")]
    Unreadable,
    /// X.509-SVID, section 2: exactly one URI.
    #[error("the certificate has {count} URI names, a workload's has exactly one")]
    UriNames {
        /// How many it has.
        count: usize,
    },
    /// The URI is no SPIFFE id.
    #[error("the certificate's URI name {0}")]
    NotSpiffe(#[from] SpiffeIdError),
    /// X.509-SVID, sections 4.1 and 4.3: a leaf signs handshakes, and no certificates.
    #[error("the certificate is not a workload's: {0}")]
    NotWorkload(&'static str),
    /// A good certificate of somebody else: default deny (T-05).
    #[error("{0} is not allowed here")]
    NotAllowed(SpiffeId),
}

/// A handshake's failure in words for people: rustls shows what a verifier refused only as `Debug` does.
pub fn explain(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(refused)))) => {
            format!("invalid peer certificate: {refused}")
        }
        _ => error.to_string(),
    }
}

/// The id in a peer's certificate, leaf first as TLS gives them. Only meaningful after a handshake that [`mtls_server`] or
/// [`mtls_client`] has accepted.
///
/// [`mtls_server`]: crate::mtls_server
/// [`mtls_client`]: crate::mtls_client
pub fn peer_id(certificates: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId, PeerRefused> {
    workload_id(certificates.and_then(<[_]>::first).ok_or(PeerRefused::Unreadable)?)
}

/// The one SPIFFE id of a workload certificate, with the checks on the leaf that webpki does not make.
pub(crate) fn workload_id(leaf: &CertificateDer<'_>) -> Result<SpiffeId, PeerRefused> {
    let certificate = parse(leaf, "the certificate").map_err(|_| PeerRefused::Unreadable)?;
    if certificate.is_ca() {
        return Err(PeerRefused::NotWorkload("it is a CA"));
    }
    let mut uris = Vec::new();
    for extension in certificate.iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                uris.extend(names.general_names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some(*uri),
                    _ => None,
                }));
            }
            ParsedExtension::KeyUsage(usage) if usage.key_cert_sign() || usage.crl_sign() => {
                return Err(PeerRefused::NotWorkload("its key may sign certificates"));
            }
            ParsedExtension::KeyUsage(usage) if !usage.digital_signature() => {
                return Err(PeerRefused::NotWorkload("its key may not sign handshakes"));
            }
            ParsedExtension::ParseError { .. } => return Err(PeerRefused::Unreadable),
            _ => {}
        }
    }
    let [uri] = uris.as_slice() else {
        return Err(PeerRefused::UriNames { count: uris.len() });
    };
    let id: SpiffeId = uri.parse()?;
    if id.path().is_empty() {
        return Err(PeerRefused::NotWorkload("it names a trust domain, not a workload"));
    }
    Ok(id)
}

/// The names of a leaf when they are of one kind: exactly one SPIFFE id, or DNS names alone.
pub(crate) fn leaf_names(leaf: &CertificateDer<'_>) -> Option<Names> {
    if let Ok(id) = workload_id(leaf) {
        return Some(Names::Workload(id));
    }
    let certificate = parse(leaf, "the certificate").ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let names = names.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect::<Option<BTreeSet<_>>>().map(Names::Server)
}

/// Whether a chain, leaf first, verifies as a server's under these roots at this time; names are not looked at.
pub(crate) fn verify_chain(chain: &[CertificateDer<'_>], roots: &TrustRoots, now: Timestamp) -> Result<(), Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0));
    let algorithms = provider().signature_verification_algorithms;
    let leaf = ParsedCertificate::try_from(leaf)?;
    Ok(verify_server_cert_signed_by_trust_anchor(&leaf, &roots.0, intermediates, now, algorithms.all)?)
}

/// Checks both ends' peers. The SPIFFE id takes the place of the host name, which says nothing between our parts: a pod's
/// address changes, and whoever may answer at a name is not thereby the workload that is meant. That makes it stricter
/// than the default verifier: the same chain, validity and purpose, and then one of an explicit list of ids instead of
/// any certificate that the CA ever gave to that name. rustls calls the interface dangerous because it *could* skip
/// those checks; nothing here does.
#[derive(Debug)]
pub(crate) struct SpiffeVerifier {
    identity: Identity,
    allowed: Vec<SpiffeId>,
    /// Whether a client may come without a certificate; what it does present is checked all the same.
    anonymous: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SpiffeVerifier {
    pub(crate) fn new(identity: Identity, allowed: Vec<SpiffeId>) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { identity, allowed, anonymous: false, algorithms }
    }

    /// Lets clients in that present nothing.
    pub(crate) fn or_anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    fn check_id(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let refuse = |refused: PeerRefused| {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
        };
        let id = workload_id(leaf).map_err(refuse)?;
        if self.allowed.contains(&id) { Ok(()) } else { Err(refuse(PeerRefused::NotAllowed(id))) }
    }

    fn signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }
}

impl ServerCertVerifier for SpiffeVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let trusted = self.identity.trusted();
        verify_server_cert_signed_by_trust_anchor(&parsed, &trusted.roots, intermediates, now, self.algorithms.all)?;
        self.check_id(leaf)?;
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
        self.signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for SpiffeVerifier {
    fn client_auth_mandatory(&self) -> bool {
        !self.anonymous
    }

    /// None: a workload has one identity to present, and the roots may change under this value.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.identity.trusted().clients.verify_client_cert(leaf, intermediates, now)?;
        self.check_id(leaf)?;
        Ok(verified)
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
        self.signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
