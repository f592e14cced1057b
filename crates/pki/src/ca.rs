//! The built-in certificate authority: one ECDSA P-256 key in a folder.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, DnsName};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use zen_model::{Secret, Timestamp};

use crate::certificate::{BACKDATED, at, parse};
use crate::error::Expected;
use crate::files::{self, Mode};
use crate::{Error, KeyPairAndChain, SpiffeId, TrustDomain, TrustRoots, Validity};

/// Name of the certificate in the CA's folder; clients are given this file.
pub const CERTIFICATE_FILE: &str = "ca.crt";
/// Name of the key in the CA's folder, mode 0600.
pub const KEY_FILE: &str = "ca.key";

const COMMON_NAME: &str = "Zen Mesh CA";
const LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);

/// An authority that signs leaves. Its key never leaves this value except into its own folder.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    certificate: CertificateDer<'static>,
    domain: TrustDomain,
    validity: Validity,
}

impl Ca {
    /// Takes the CA that the folder holds, or makes one there. A restart finds the same CA, so that no client has to be
    /// told of another; where only the certificate is missing it is made again for the same name and key, so that
    /// clients with the old file still verify.
    ///
    /// Refuses a key that others may read, a certificate of another key or of another program, and an expired CA.
    pub fn load_or_create(folder: &Path, domain: &TrustDomain) -> Result<Self, Error> {
        Self::load_or_create_at(folder, domain, Timestamp::now())
    }

    /// As [`Ca::load_or_create`] at another time, for tests of expiry.
    pub fn load_or_create_at(folder: &Path, domain: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        files::create_folder(folder)?;
        let (certificate_path, key_path) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        let key_pem = files::read_private(&key_path)?.map(Secret::new);
        match (files::read(&certificate_path)?, key_pem) {
            (Some(certificate), Some(key)) => {
                Self::load(&certificate, &load_key(&key, &key_path)?, &certificate_path, domain, now)
            }
            (Some(_), None) => Err(Error::Malformed {
                what: key_path.display().to_string(),
                reason: "it is missing beside ca.crt; put it back, or remove ca.crt to begin a new CA".to_owned(),
            }),
            (None, key) => {
                let key = if let Some(key) = key {
                    load_key(&key, &key_path)?
                } else {
                    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                    files::write(&key_path, &key.serialize_pem(), Mode::Owner)?;
                    key
                };
                let ca = Self::self_signed(key, domain, now)?;
                files::write(&certificate_path, &ca.certificate_pem, Mode::Everyone)?;
                Ok(ca)
            }
        }
    }

    /// A CA that lives in memory only: tests, and processes that need no clients from before.
    pub fn ephemeral(domain: &TrustDomain) -> Result<Self, Error> {
        Self::self_signed(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, domain, Timestamp::now())
    }

    /// The certificate that clients trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The certificate that clients trust, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// This CA as the only root.
    pub fn roots(&self) -> Result<TrustRoots, Error> {
        TrustRoots::from_pem(&self.certificate_pem)
    }

    /// Whose workloads this CA vouches for.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// When the CA itself is good; no leaf outlives it.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// A server certificate for DNS names (`*.example.com` too) and IP addresses, good for `lifetime` from now. It cannot
    /// be used as a client's, nor between our own parts: it has no SPIFFE id.
    pub fn issue_server(&self, names: &[String], lifetime: Duration) -> Result<KeyPairAndChain, Error> {
        let mut params = leaf(names.first().map_or("server", String::as_str));
        params.subject_alt_names = names.iter().map(|name| subject_name(name)).collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params, Timestamp::now(), lifetime)
    }

    /// A workload certificate (X.509-SVID): the id is its only alternative name; for both ends of a connection.
    pub fn issue_workload(&self, id: &SpiffeId, lifetime: Duration) -> Result<KeyPairAndChain, Error> {
        self.issue_workload_at(id, Timestamp::now(), lifetime)
    }

    /// As [`Ca::issue_workload`] at another time, for tests of expiry.
    pub fn issue_workload_at(
        &self,
        id: &SpiffeId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<KeyPairAndChain, Error> {
        if id.path().is_empty() || !id.is_in(&self.domain) {
            return Err(Error::Foreign { id: id.clone(), expected: Expected::Domain(self.domain.clone()) });
        }
        let mut params = leaf("Zen Mesh workload");
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params, now, lifetime)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<KeyPairAndChain, Error> {
        let validity = Validity { from: backdated(now), until: now.plus(lifetime).min(self.validity.until) };
        set_validity(&mut params, validity);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let der = certificate.der().clone();
        Ok(KeyPairAndChain::issued(certificate.pem(), der, Secret::new(key.serialized_der()), validity))
    }

    fn self_signed(key: KeyPair, domain: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        let mut params = authority();
        let validity = Validity { from: backdated(now), until: now.plus(LIFETIME) };
        set_validity(&mut params, validity);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            domain: domain.clone(),
            validity,
        })
    }

    fn load(pem: &str, key: &KeyPair, path: &Path, domain: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        let what = path.display().to_string();
        let malformed = |reason: &str| Error::Malformed { what: what.clone(), reason: reason.to_owned() };
        let der =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| malformed("it is not a certificate in PEM"))?;
        let (params, validity) = {
            let certificate = parse(&der, &what)?;
            if certificate.public_key().raw != key.subject_public_key_info() {
                return Err(malformed("ca.key beside it belongs to another certificate; put the right one back"));
            }
            let mut params = authority();
            if !is_our_authority(&certificate, &params, key)? {
                return Err(malformed("it was not made by this program; remove ca.crt and ca.key to begin a new CA"));
            }
            params.key_identifier_method = key_identifier(&certificate);
            let validity = certificate.validity();
            (params, Validity { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) })
        };
        if now >= validity.until {
            return Err(Error::Expired { path: path.to_owned(), at: validity.until });
        }
        let key = KeyPair::try_from(key.serialized_der())?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem: pem.to_owned(),
            certificate: der,
            domain: domain.clone(),
            validity,
        })
    }
}

/// Shows neither key nor certificate.
impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("domain", &self.domain).field("validity", &self.validity).finish_non_exhaustive()
    }
}

fn load_key(pem: &Secret, path: &Path) -> Result<KeyPair, Error> {
    let text = std::str::from_utf8(pem.expose()).unwrap_or_default();
    KeyPair::from_pkcs8_pem_and_sign_algo(text, &PKCS_ECDSA_P256_SHA256).map_err(|_| Error::Malformed {
        what: path.display().to_string(),
        reason: "it is not an ECDSA P-256 key in PKCS #8 PEM".to_owned(),
    })
}

/// What every CA certificate of ours says, apart from its validity. Its subject must not change: leaves name it.
fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(COMMON_NAME);
    // No intermediates: a leaf of ours can never act as a CA.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn common_name(name: &str) -> DistinguishedName {
    // RFC 5280 bounds a common name at 64 characters; the alternative names are what counts.
    let name: String = name.chars().take(64).collect();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

fn subject_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    match DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)) {
        Ok(_) => Ok(SanType::DnsName(name.try_into()?)),
        Err(_) => Err(Error::Name { name: name.to_owned() }),
    }
}

/// Leaves carry the issuer's subject byte for byte, or no chain builds: compare with what we would write.
fn is_our_authority(
    certificate: &X509Certificate<'_>,
    params: &CertificateParams,
    key: &KeyPair,
) -> Result<bool, Error> {
    let ours = params.self_signed(key)?;
    let ours = parse(ours.der(), "a new CA certificate")?;
    Ok(certificate.is_ca() && certificate.subject().as_raw() == ours.subject().as_raw())
}

fn key_identifier(certificate: &X509Certificate<'_>) -> KeyIdMethod {
    let identifier = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
        _ => None,
    });
    identifier.map_or(KeyIdMethod::Sha256, KeyIdMethod::PreSpecified)
}

fn backdated(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(u64::try_from(BACKDATED.as_millis()).unwrap_or(u64::MAX)))
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(validity.from.as_secs());
    params.not_after = epoch + Duration::from_secs(validity.until.as_secs());
}
