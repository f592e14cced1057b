//! Who may be on the other end: the workload that a chain proves, then whether it has a reason to be there.

use std::collections::BTreeSet;
use std::fmt;
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
use zen_model::reason::PeerReason;

use crate::certificate::{parse, provider};
use crate::csr::Names;
use crate::trust::End;
use crate::{Error, Identity, SpiffeId, SpiffeIdError, TrustRoots};

/// Why a peer's certificate is not taken, beside what path validation says.
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
    /// T-02: the id, and no other name.
    #[error("the certificate has other names beside its SPIFFE id")]
    OtherNames,
    /// The URI is no SPIFFE id.
    #[error("the certificate's URI name {0}")]
    NotSpiffe(#[from] SpiffeIdError),
    /// X.509-SVID, sections 4.1 and 4.3: a leaf signs handshakes, and no certificates.
    #[error("the certificate is not a workload's: {0}")]
    NotWorkload(&'static str),
    /// A good certificate of somebody else: default deny (T-05).
    #[error("{0} is not allowed here")]
    NotAllowed(SpiffeId),
    /// The leaf alone, or straight from a root.
    #[error("the certificate comes without its issuing CA")]
    NoIssuer,
    /// An issuing CA of another cluster, tenant or trust domain.
    #[error("the certificate above it does not vouch for {id}")]
    ForeignIssuer {
        /// Whom the leaf says it is.
        id: SpiffeId,
    },
    /// What signed the leaf may not.
    #[error("the certificate above it is no issuing CA's: {0}")]
    UnfitIssuer(&'static str),
    /// A chain of no mesh.
    #[error("the chain has {count} certificates")]
    TooLong {
        /// So many.
        count: usize,
    },
}

impl PeerRefused {
    /// The code of the table of reasons.
    pub const fn reason(&self) -> PeerReason {
        match self {
            Self::Unreadable => PeerReason::CertificateUnreadable,
            Self::UriNames { .. } | Self::OtherNames => PeerReason::CertificateNames,
            Self::NotSpiffe(_) => PeerReason::IdInvalid,
            Self::NotWorkload(_) => PeerReason::CertificateNotWorkload,
            Self::NotAllowed(_) => PeerReason::PeerNotAllowed,
            Self::NoIssuer => PeerReason::IssuerMissing,
            Self::ForeignIssuer { .. } => PeerReason::IssuerForeign,
            Self::UnfitIssuer(_) => PeerReason::IssuerUnfit,
            Self::TooLong { .. } => PeerReason::ChainTooLong,
        }
    }
}

/// The code for a handshake that failed on a certificate; none where it failed on something else.
pub fn refusal_reason(error: &rustls::Error) -> Option<PeerReason> {
    use CertificateError as C;
    let certificate = match error {
        rustls::Error::NoCertificatesPresented => return Some(PeerReason::CertificateMissing),
        rustls::Error::InvalidCertificate(certificate) => certificate,
        _ => return None,
    };
    Some(match certificate {
        C::Other(OtherError(other)) => {
            other.downcast_ref::<PeerRefused>().map_or(PeerReason::ChainInvalid, PeerRefused::reason)
        }
        C::BadEncoding => PeerReason::CertificateUnreadable,
        C::Expired | C::ExpiredContext { .. } => PeerReason::CertificateExpired,
        C::NotValidYet | C::NotValidYetContext { .. } => PeerReason::CertificateNotYetValid,
        C::UnknownIssuer => PeerReason::IssuerUnknown,
        C::BadSignature => PeerReason::SignatureWrong,
        C::InvalidPurpose | C::InvalidPurposeContext { .. } => PeerReason::CertificatePurpose,
        _ => PeerReason::ChainInvalid,
    })
}

/// A refusal as rustls carries it.
pub(crate) fn refuse(refused: PeerRefused) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refused))))
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
    let (mut uris, mut others) = (Vec::new(), 0);
    for extension in certificate.iter_extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::URI(uri) => uris.push(*uri),
                        _ => others += 1,
                    }
                }
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
    if others > 0 {
        return Err(PeerRefused::OtherNames);
    }
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

/// Whether a peer with these roots would take a chain at this time: a workload's by all the rules for workloads, another one
/// as a server's.
pub(crate) fn verify_as_peer(chain: &[CertificateDer<'_>], roots: &TrustRoots, now: Timestamp) -> Result<(), Error> {
    match chain.split_first() {
        Some((leaf, above)) if workload_id(leaf).is_ok() => {
            for end in [End::Server, End::Client] {
                roots.workload(end, leaf, above, unix(now))?;
            }
            Ok(())
        }
        _ => verify_chain(chain, roots, now),
    }
}

/// Whether a chain, leaf first, verifies as a server's under these roots at this time; names are not looked at.
pub(crate) fn verify_chain(chain: &[CertificateDer<'_>], roots: &TrustRoots, now: Timestamp) -> Result<(), Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(rustls::Error::NoCertificatesPresented)?;
    let algorithms = provider().signature_verification_algorithms;
    let leaf = ParsedCertificate::try_from(leaf)?;
    Ok(verify_server_cert_signed_by_trust_anchor(&leaf, &roots.store(), intermediates, unix(now), algorithms.all)?)
}

fn unix(now: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(now.0))
}

/// Who may be a peer, once it has proven who it is.
pub(crate) enum Admits {
    /// These.
    Ids(Vec<SpiffeId>),
    /// Those that a policy lets in.
    Policy(Arc<Policy>),
}

/// Whether a workload may connect at all. What it may do is decided again with each thing that it does.
pub type Policy = dyn Fn(&SpiffeId) -> bool + Send + Sync;

impl fmt::Debug for Admits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ids(ids) => f.debug_list().entries(ids).finish(),
            Self::Policy(_) => f.write_str("a policy"),
        }
    }
}

/// Checks both ends' peers. The SPIFFE id takes the place of the host name, which says nothing between our parts: a pod's
/// address changes, and whoever may answer at a name is not thereby the workload that is meant. That makes it stricter
/// than the default verifier: the same chain, validity and purpose, from the issuing CA that the id calls for, and then one
/// of an explicit set of ids instead of any certificate that the CA ever gave to that name. rustls calls the interface
/// dangerous because it *could* skip those checks; nothing here does.
#[derive(Debug)]
pub(crate) struct SpiffeVerifier {
    identity: Identity,
    allowed: Admits,
    /// Whether a client may come without a certificate; what it does present is checked all the same.
    anonymous: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl SpiffeVerifier {
    pub(crate) fn new(identity: Identity, allowed: Admits) -> Self {
        let algorithms = provider().signature_verification_algorithms;
        Self { identity, allowed, anonymous: false, algorithms }
    }

    /// Lets clients in that present nothing.
    pub(crate) fn or_anonymous(mut self) -> Self {
        self.anonymous = true;
        self
    }

    fn check(
        &self,
        end: End,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let id = self.identity.trusted().workload(end, leaf, above, now)?;
        let allowed = match &self.allowed {
            Admits::Ids(ids) => ids.contains(&id),
            Admits::Policy(admits) => admits(&id),
        };
        if allowed { Ok(()) } else { Err(refuse(PeerRefused::NotAllowed(id))) }
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
        self.check(End::Server, leaf, intermediates, now).map(|()| ServerCertVerified::assertion())
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
        self.check(End::Client, leaf, intermediates, now).map(|()| ClientCertVerified::assertion())
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
