//! What a CA certificate says: what ours say when they are made, and what is read from one that exists.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PublicKeyData, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::x509::X509Name;
use zen_model::{Secret, Timestamp};

use crate::certificate::{at, parse};
use crate::scope::Vouches;
use crate::verify::verify_chain;
use crate::{Error, TrustRoots, Validity};

/// Certificates of a CA that exists, and what signing under it needs to know.
pub(crate) struct Existing {
    /// The CA's own certificate, then those above it, as they came.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) params: CertificateParams,
    pub(crate) validity: Validity,
    /// How many CAs may lie between it and a leaf; none: any number.
    pub(crate) depth: Option<u32>,
    /// Whether it signed itself: then it is a root, and no chain names it.
    pub(crate) is_root: bool,
    /// For whom it says that it vouches; none: it is no issuing CA.
    pub(crate) vouches: Option<Vouches>,
}

/// Takes a CA that was made elsewhere or before. `what` names it in errors. Refused is whatever could not sign a leaf that
/// verifies: another key, no CA, a purpose other than signing, an end that has passed, a subject that cannot be written
/// again byte for byte.
pub(crate) fn existing(pem: &str, key: &KeyPair, what: &str, now: Timestamp) -> Result<Existing, Error> {
    let malformed = |reason: &str| Error::Malformed { what: what.to_owned(), reason: reason.to_owned() };
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| malformed("it is not a certificate in PEM"))?;
    let own = certificates.first().ok_or_else(|| malformed("it is not a certificate in PEM"))?;
    let (params, validity, depth, is_root, vouches) = {
        let certificate = parse(own, what)?;
        if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(malformed("the key beside it belongs to another certificate; put the right one back"));
        }
        if !certificate.is_ca() || !may_sign(&certificate) {
            return Err(malformed("it is not a CA's: it may not sign certificates"));
        }
        let constraints = certificate.basic_constraints().ok().flatten();
        let depth = constraints.and_then(|constraints| constraints.value.path_len_constraint);
        let validity = certificate.validity();
        let validity =
            Validity { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) };
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished_name(certificate.subject())
            .ok_or_else(|| malformed("its subject has a form that cannot be signed under"))?;
        params.key_identifier_method = key_identifier(&certificate);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let is_root = certificate.subject().as_raw() == certificate.issuer().as_raw();
        (params, validity, depth, is_root, Vouches::of(certificate.subject()))
    };
    if now >= validity.until {
        return Err(Error::Expired { what: what.to_owned(), at: validity.until });
    }
    prove(own, &params, key, now.max(validity.from))
        .map_err(|error| malformed(&format!("what it signs does not verify: {error}")))?;
    Ok(Existing { certificates, params, validity, depth, is_root, vouches })
}

/// Signs a leaf that nobody keeps and verifies it: leaves carry their issuer's subject byte for byte, or no chain builds.
fn prove(
    own: &CertificateDer<'static>,
    params: &CertificateParams,
    key: &KeyPair,
    now: Timestamp,
) -> Result<(), Error> {
    let mut proof = leaf("proof");
    proof.subject_alt_names = vec![SanType::DnsName("proof.invalid".try_into()?)];
    proof.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut proof, Validity { from: now, until: now.plus(Duration::from_mins(1)) });
    let leaf_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let leaf = proof.signed_by(&leaf_key, &Issuer::from_params(params, key))?;
    verify_chain(&[leaf.der().clone()], &TrustRoots::from_der(std::slice::from_ref(own))?, now)
}

fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    // RFC 5280, 4.2.1.3: without the extension the key may be used for anything.
    certificate.key_usage().ok().is_some_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
}

fn distinguished_name(name: &X509Name<'_>) -> Option<DistinguishedName> {
    let mut written = DistinguishedName::new();
    for attributes in name.iter_rdn() {
        let mut attributes = attributes.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else { return None };
        let kind = DnType::CustomDnType(attribute.attr_type().iter()?.collect());
        let text = attribute.as_str().ok()?;
        let value = match attribute.attr_value().tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_owned()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        written.push(kind, value);
    }
    Some(written)
}

fn key_identifier(certificate: &X509Certificate<'_>) -> KeyIdMethod {
    let identifier = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    });
    identifier.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
}

/// A CA's key: ECDSA P-256 or P-384, in PKCS #8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`).
pub(crate) fn key(pem: &Secret, what: &str) -> Result<KeyPair, Error> {
    // The parser's error may quote its input.
    std::str::from_utf8(pem.expose())
        .ok()
        .and_then(|text| KeyPair::from_pem(text).ok())
        .filter(|key| key.is_compatible(&PKCS_ECDSA_P256_SHA256) || key.is_compatible(&PKCS_ECDSA_P384_SHA384))
        .ok_or_else(|| Error::Malformed {
            what: what.to_owned(),
            reason: "it is not an ECDSA P-256 or P-384 key in PEM".to_owned(),
        })
}

/// What a CA certificate of ours says, apart from its validity. Its subject must not change: leaves name it. `depth` is the
/// number of CAs that may lie between it and a leaf.
pub(crate) fn authority(subject: DistinguishedName, depth: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(depth));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What every leaf says, apart from names, purpose and validity.
pub(crate) fn leaf(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

pub(crate) fn common_name(name: &str) -> DistinguishedName {
    // RFC 5280 bounds a common name at 64 characters; the alternative names are what counts.
    let name: String = name.chars().take(64).collect();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

pub(crate) fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(validity.from.as_secs());
    params.not_after = epoch + Duration::from_secs(validity.until.as_secs());
}
