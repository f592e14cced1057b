//! The built-in certificate authority. Under `zen up` it is one ECDSA P-256 key in a folder; in a cluster a root and,
//! below it, an issuing CA that is exchanged every few weeks.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, DnsName};
use zen_model::{Secret, Timestamp};

use crate::authority::{self, authority, leaf, set_validity};
use crate::certificate::BACKDATED;
use crate::csr::{CsrRefused, Names, SigningRequest};
use crate::error::Expected;
use crate::files::{self, Mode};
use crate::verify::verify_chain;
use crate::{Error, KeyPairAndChain, SpiffeId, TrustDomain, TrustRoots, Validity};

/// Name of the certificate in the CA's folder; clients are given this file.
pub const CERTIFICATE_FILE: &str = "ca.crt";
/// Name of the key in the CA's folder, mode 0600.
pub const KEY_FILE: &str = "ca.key";

const COMMON_NAME: &str = "Zen Mesh CA";
const ROOT_NAME: &str = "Zen Mesh root CA";
const ISSUER_NAME: &str = "Zen Mesh issuing CA";
/// Of a root.
const LIFETIME: Duration = Duration::from_hours(10 * 365 * 24);
/// Of an issuing CA. Renewed at two thirds of it, it has 30 days left for the leaves that it signed.
const ISSUER_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// An authority that signs leaves. Its key never leaves this value except into its own folder, or where the caller of
/// [`Ca::key_pem`] puts it.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
    /// Its own certificate, then those above it that it came with.
    certificates: Vec<CertificateDer<'static>>,
    /// Whether it signed itself: then no chain names it.
    is_root: bool,
    /// How many CAs may lie between it and a leaf; none: any number.
    depth: Option<u32>,
    domain: TrustDomain,
    validity: Validity,
}

/// What became of a signing request.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The leaf and its issuers up to below the root, PEM.
    pub chain_pem: String,
    /// When the leaf may be used.
    pub validity: Validity,
    /// Its serial number, hexadecimal: names it in the audit log.
    pub serial: String,
}

/// Why a signing request has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The request is at fault.
    #[error(transparent)]
    Refused(#[from] CsrRefused),
    /// The CA is.
    #[error(transparent)]
    Ca(#[from] Error),
}

impl Ca {
    /// Takes the CA that the folder holds, or makes one there. A restart finds the same CA, so that no client has to be
    /// told of another; where only the certificate is missing it is made again for the same name and key, so that
    /// clients with the old file still verify.
    ///
    /// Refuses a key that others may read, a certificate of another key, and an expired CA.
    pub fn load_or_create(folder: &Path, domain: &TrustDomain) -> Result<Self, Error> {
        Self::load_or_create_at(folder, domain, Timestamp::now())
    }

    /// As [`Ca::load_or_create`] at another time, for tests of expiry.
    pub fn load_or_create_at(folder: &Path, domain: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        files::create_folder(folder)?;
        let (certificate_path, key_path) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        let key_pem = files::read_private(&key_path)?.map(Secret::new);
        let load_key = |pem: &Secret| authority::key(pem, &key_path.display().to_string());
        match (files::read(&certificate_path)?, key_pem) {
            (Some(certificate), Some(key)) => {
                Self::load(&certificate, load_key(&key)?, &certificate_path.display().to_string(), domain, now)
            }
            (Some(_), None) => Err(Error::Malformed {
                what: key_path.display().to_string(),
                reason: "it is missing beside ca.crt; put it back, or remove ca.crt to begin a new CA".to_owned(),
            }),
            (None, key) => {
                let key = if let Some(key) = key {
                    load_key(&key)?
                } else {
                    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
                    files::write(&key_path, &key.serialize_pem(), Mode::Owner)?;
                    key
                };
                // No intermediates: a leaf of this CA can never act as one.
                let ca = Self::self_signed(key, COMMON_NAME, 0, domain, now)?;
                files::write(&certificate_path, &ca.certificate_pem, Mode::Everyone)?;
                Ok(ca)
            }
        }
    }

    /// A CA that lives in memory only: tests, and processes that need no clients from before.
    pub fn ephemeral(domain: &TrustDomain) -> Result<Self, Error> {
        Self::self_signed(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, COMMON_NAME, 0, domain, Timestamp::now())
    }

    /// A new root for ten years, with room for one CA beneath it: see [`Ca::issue_intermediate`]. Leaves that it signed
    /// itself would verify too; let it sign none, so that its key can rest.
    pub fn new_root(domain: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        Self::self_signed(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, ROOT_NAME, 1, domain, now)
    }

    /// A CA from PEM texts: its certificate, where there are some followed by those above it, and its key (ECDSA P-256 or
    /// P-384). `what` names it in errors. Fails for whatever could not sign a leaf that verifies.
    pub fn from_pem(
        certificates: &str,
        key: &Secret,
        what: &str,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Self, Error> {
        Self::load(certificates, authority::key(key, what)?, what, domain, now)
    }

    /// A new CA beneath this one, for 90 days and no longer than this one: it signs leaves, and no other CA. Renew it at
    /// [`Validity::renew_at`]; the leaves of the one before carry its certificate in their chain, so that they verify
    /// until they end.
    pub fn issue_intermediate(&self, now: Timestamp) -> Result<Self, Error> {
        if self.depth == Some(0) {
            return Err(Error::Malformed {
                what: "the root CA".to_owned(),
                reason: "its path length is 0, so that no issuing CA can lie beneath it; use one with 1 or without"
                    .to_owned(),
            });
        }
        let mut params = authority(ISSUER_NAME, 0);
        params.use_authority_key_identifier_extension = true;
        let validity = self.validity_for(now, ISSUER_LIFETIME)?;
        set_validity(&mut params, validity);
        params.serial_number = Some(serial());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let mut certificates = vec![certificate.der().clone()];
        certificates.extend(self.chain().iter().cloned());
        Ok(Self {
            certificate_pem: certificate.pem() + self.chain_pem(),
            certificates,
            is_root: false,
            depth: Some(0),
            issuer: Issuer::new(params, key),
            domain: self.domain.clone(),
            validity,
        })
    }

    /// The certificate, then those above it that it came with: for a root what clients trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its own certificate, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// The private key, PKCS #8 in PEM, to be stored where only the CA's owner can read it.
    pub fn key_pem(&self) -> Secret {
        Secret::new(self.issuer.key().serialize_pem())
    }

    /// This CA as the only root.
    pub fn roots(&self) -> Result<TrustRoots, Error> {
        TrustRoots::from_der(&self.certificates[..1])
    }

    /// Whether this CA's certificate verifies under these roots at this time.
    pub fn verify(&self, roots: &TrustRoots, now: Timestamp) -> Result<(), Error> {
        // webpki verifies leaves only: one that nobody keeps stands for all.
        let id = format!("spiffe://{}/proof", self.domain).parse::<SpiffeId>();
        let id = id.map_err(|error| Error::Malformed { what: self.domain.to_string(), reason: error.to_string() })?;
        let proof = self.issue_workload_at(&id, now, Duration::from_mins(1))?;
        verify_chain(proof.chain(), roots, now)
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
        self.issue_server_at(names, Timestamp::now(), lifetime)
    }

    /// As [`Ca::issue_server`] at another time, for tests of expiry.
    pub fn issue_server_at(
        &self,
        names: &[String],
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<KeyPairAndChain, Error> {
        self.issue(server(names)?, now, lifetime)
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
        self.issue(self.workload(id)?, now, lifetime)
    }

    /// Signs a request whose names are exactly `due`. Of the request nothing is used but its key; names, purposes,
    /// constraints, serial number and validity are decided here.
    pub fn sign_csr(
        &self,
        request: &SigningRequest,
        due: &Names,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Signed, SignError> {
        request.check(due)?;
        let params = match due {
            Names::Workload(id) => self.workload(id)?,
            Names::Server(names) => server(&names.iter().cloned().collect::<Vec<_>>())?,
        };
        let (leaf, validity, serial) = self.sign(params, request.key(), now, lifetime)?;
        Ok(Signed { chain_pem: leaf.pem() + self.chain_pem(), validity, serial })
    }

    fn workload(&self, id: &SpiffeId) -> Result<CertificateParams, Error> {
        if id.path().is_empty() || !id.is_in(&self.domain) {
            return Err(Error::Foreign { id: id.clone(), expected: Expected::Domain(self.domain.clone()) });
        }
        let mut params = leaf("Zen Mesh workload");
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params)
    }

    fn issue(&self, params: CertificateParams, now: Timestamp, lifetime: Duration) -> Result<KeyPairAndChain, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (leaf, validity, _) = self.sign(params, &key, now, lifetime)?;
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.chain().iter().cloned());
        let chain_pem = leaf.pem() + self.chain_pem();
        Ok(KeyPairAndChain::issued(chain_pem, chain, Secret::new(key.serialized_der()), validity))
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<(rcgen::Certificate, Validity, String), Error> {
        let validity = self.validity_for(now, lifetime)?;
        set_validity(&mut params, validity);
        let serial = serial();
        let hex = serial.to_string().replace(':', "");
        params.serial_number = Some(serial);
        Ok((params.signed_by(key, &self.issuer)?, validity, hex))
    }

    /// Of a certificate that this CA signs: backdated, and never longer than the CA's own.
    fn validity_for(&self, now: Timestamp, lifetime: Duration) -> Result<Validity, Error> {
        if now >= self.validity.until {
            return Err(Error::Expired { what: "the CA".to_owned(), at: self.validity.until });
        }
        Ok(Validity { from: backdated(now), until: now.plus(lifetime).min(self.validity.until) })
    }

    /// What follows a leaf in its chain.
    fn chain(&self) -> &[CertificateDer<'static>] {
        if self.is_root { &[] } else { &self.certificates }
    }

    fn chain_pem(&self) -> &str {
        if self.is_root { "" } else { &self.certificate_pem }
    }

    fn self_signed(key: KeyPair, name: &str, depth: u8, domain: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        let mut params = authority(name, depth);
        let validity = Validity { from: backdated(now), until: now.plus(LIFETIME) };
        set_validity(&mut params, validity);
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            certificates: vec![certificate.der().clone()],
            is_root: true,
            depth: Some(depth.into()),
            issuer: Issuer::new(params, key),
            domain: domain.clone(),
            validity,
        })
    }

    fn load(pem: &str, key: KeyPair, what: &str, domain: &TrustDomain, now: Timestamp) -> Result<Self, Error> {
        let existing = authority::existing(pem, &key, what, now)?;
        Ok(Self {
            certificate_pem: pem.to_owned(),
            certificates: existing.certificates,
            is_root: existing.is_root,
            depth: existing.depth,
            issuer: Issuer::new(existing.params, key),
            domain: domain.clone(),
            validity: existing.validity,
        })
    }
}

/// Shows neither key nor certificate.
impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ca").field("domain", &self.domain).field("validity", &self.validity).finish_non_exhaustive()
    }
}

fn server(names: &[String]) -> Result<CertificateParams, Error> {
    let mut params = leaf(names.first().map_or("server", String::as_str));
    params.subject_alt_names = names.iter().map(|name| subject_name(name)).collect::<Result<_, _>>()?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

pub(crate) fn subject_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    match DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)) {
        Ok(_) => Ok(SanType::DnsName(name.try_into()?)),
        Err(_) => Err(Error::Name { name: name.to_owned() }),
    }
}

/// RFC 5280, 4.1.2.2: positive, at most 20 octets; random, so that no two certificates share one, whatever their keys are.
fn serial() -> SerialNumber {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system's random source works");
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn backdated(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(u64::try_from(BACKDATED.as_millis()).unwrap_or(u64::MAX)))
}
