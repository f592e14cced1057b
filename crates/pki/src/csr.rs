//! Certificate signing requests (PKCS #10, RFC 2986): made by a pod, read by the identity service (T-02).
//!
//! A request carries a key, the proof that its sender has the private half, and names. Everything else that PKCS #10 can
//! ask for is refused, so that nothing of a request needs to be copied but its key.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};
use zen_model::Secret;

use crate::{Error, Scope, SpiffeId, TrustDomain};

/// A request with one P-256 key and a dozen names has less than 2 KiB, one with 400 names less than 24.
pub const MAX_PEM: usize = 24 << 10;

/// `ecdsa-with-SHA256` (RFC 5758), `id-ecPublicKey` and `secp256r1` (RFC 5480).
const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";

/// The names of one certificate, all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// A workload's: its SPIFFE id and nothing else.
    Workload(SpiffeId),
    /// A server's: these DNS names.
    Server(BTreeSet<String>),
}

/// Why a request is not signed. No variant shows what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrRefused {
    /// Not one readable request.
    #[error("the signing request is malformed: {0}")]
    Malformed(&'static str),
    /// ECDSA P-256 with SHA-256 is what every part of ours uses; others are added when somebody needs them.
    #[error("the signing request's key or signature is not ECDSA P-256 with SHA-256")]
    KeyNotSupported,
    /// RFC 2986, 4.2: signed with the private key that belongs to the public key in it.
    #[error("the signing request is not signed by its own key")]
    NotProven,
    /// Attributes and extensions other than alternative names.
    #[error("the signing request asks for more than alternative names")]
    AsksTooMuch,
    /// The alternative names are not exactly the ones that are due.
    #[error("the signing request's names are not exactly the ones that are due")]
    NamesDiffer,
}

/// A request that was read, whose sender has shown to have the private key. Its names are only compared, never copied.
#[derive(Clone, Debug)]
pub struct SigningRequest {
    key: PublicKey,
    names: Vec<Name>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Uri(String),
    Dns(String),
    Other,
}

/// The point of a P-256 key.
#[derive(Clone, Debug)]
pub(crate) struct PublicKey(Vec<u8>);

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningRequest {
    /// Reads exactly one `CERTIFICATE REQUEST` block and checks the proof of possession.
    pub fn from_pem(pem: &str) -> Result<Self, CsrRefused> {
        if pem.len() > MAX_PEM {
            return Err(CsrRefused::Malformed("it is too long"));
        }
        let mut blocks = CertificateSigningRequestDer::pem_slice_iter(pem.as_bytes());
        match (blocks.next(), blocks.next()) {
            (Some(Ok(der)), None) => Self::from_der(&der),
            (Some(Ok(_)), Some(_)) => Err(CsrRefused::Malformed("it is not one block")),
            _ => Err(CsrRefused::Malformed("it is not a CERTIFICATE REQUEST in PEM")),
        }
    }

    /// As [`SigningRequest::from_pem`], from DER.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrRefused> {
        let (rest, request) = X509CertificationRequest::from_der(der)
            .map_err(|_| CsrRefused::Malformed("it is not a PKCS #10 request"))?;
        if !rest.is_empty() {
            return Err(CsrRefused::Malformed("bytes follow the request"));
        }
        let info = &request.certification_request_info;
        if info.version != X509Version::V1 {
            return Err(CsrRefused::Malformed("its version is not the one of PKCS #10"));
        }
        let key = public_key(&info.subject_pki)?;
        if request.signature_algorithm.algorithm.to_id_string() != ECDSA_SHA256 {
            return Err(CsrRefused::KeyNotSupported);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &key.0)
            .verify(info.raw, &request.signature_value.data)
            .map_err(|_| CsrRefused::NotProven)?;
        Ok(Self { names: names(&request)?, key })
    }

    /// Whether the alternative names are exactly these.
    pub fn check(&self, due: &Names) -> Result<(), CsrRefused> {
        let mut due: Vec<Name> = match due {
            Names::Workload(id) => vec![Name::Uri(id.as_str().to_owned())],
            Names::Server(names) => names.iter().cloned().map(Name::Dns).collect(),
        };
        let mut asked = self.names.clone();
        due.sort();
        asked.sort();
        // Also when both are empty: a certificate without names is nobody's.
        if asked.is_empty() || asked != due { Err(CsrRefused::NamesDiffer) } else { Ok(()) }
    }

    /// Whether it asks for the issuing CA of this scope: its one name is what all ids of the scope begin with.
    pub fn check_issuer(&self, domain: &TrustDomain, scope: &Scope) -> Result<(), CsrRefused> {
        let due = [Name::Uri(scope.prefix(domain))];
        if self.names == due { Ok(()) } else { Err(CsrRefused::NamesDiffer) }
    }

    /// SHA-256 of the public key: tells whether two requests are of one key.
    pub fn key_digest(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, &self.key.0).as_ref());
        bytes
    }

    pub(crate) fn key(&self) -> &PublicKey {
        &self.key
    }

    pub(crate) fn is_key(&self, info: &SubjectPublicKeyInfo<'_>) -> bool {
        public_key(info).is_ok_and(|key| key.0 == self.key.0)
    }
}

fn public_key(info: &SubjectPublicKeyInfo<'_>) -> Result<PublicKey, CsrRefused> {
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let right = info.algorithm.algorithm.to_id_string() == EC_PUBLIC_KEY
        && curve.is_some_and(|curve| curve.to_id_string() == P256);
    let point = info.subject_public_key.data.as_ref();
    // SEC 1, 2.3.3: uncompressed, the form that every part of ours writes.
    if right && point.len() == 65 && point[0] == 4 {
        Ok(PublicKey(point.to_vec()))
    } else {
        Err(CsrRefused::KeyNotSupported)
    }
}

fn names(request: &X509CertificationRequest<'_>) -> Result<Vec<Name>, CsrRefused> {
    let mut attributes = request.certification_request_info.iter_attributes();
    let Some(attribute) = attributes.next() else { return Ok(Vec::new()) };
    let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
        return Err(CsrRefused::AsksTooMuch);
    };
    let (None, [extension]) = (attributes.next(), requested.extensions.as_slice()) else {
        return Err(CsrRefused::AsksTooMuch);
    };
    match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Ok(names.general_names.iter().map(name).collect()),
        ParsedExtension::ParseError { .. } => Err(CsrRefused::Malformed("its extension cannot be read")),
        _ => Err(CsrRefused::AsksTooMuch),
    }
}

fn name(name: &GeneralName<'_>) -> Name {
    match name {
        GeneralName::URI(uri) => Name::Uri((*uri).to_owned()),
        GeneralName::DNSName(name) => Name::Dns((*name).to_owned()),
        _ => Name::Other,
    }
}

/// A new key and the request for it. The key is PKCS #8 in PEM; it is nowhere else.
pub fn signing_request(names: &Names) -> Result<(String, Secret), Error> {
    request(match names {
        Names::Workload(id) => vec![SanType::URI(id.as_str().try_into()?)],
        Names::Server(names) => names.iter().map(|name| crate::ca::subject_name(name)).collect::<Result<_, _>>()?,
    })
}

/// As [`signing_request`], for the issuing CA of a scope: what a member sends to its hub.
pub fn issuer_request(domain: &TrustDomain, scope: &Scope) -> Result<(String, Secret), Error> {
    request(vec![SanType::URI(scope.prefix(domain).try_into()?)])
}

fn request(names: Vec<SanType>) -> Result<(String, Secret), Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = params.serialize_request(&key)?.pem()?;
    Ok((request, Secret::new(key.serialize_pem())))
}
