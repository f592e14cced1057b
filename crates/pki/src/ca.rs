//! The built-in certificate authority: a root and, below it, an issuing CA for each scope, which is exchanged every few
//! weeks. Under `zen up` the root is one ECDSA P-256 key in a folder, and signs the intake's certificate itself.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SerialNumber,
};
use rustls_pki_types::{CertificateDer, DnsName};
use zen_model::{Secret, Timestamp};

use crate::authority::{self, authority, common_name, leaf, set_validity};
use crate::certificate::BACKDATED;
use crate::csr::{CsrRefused, Names, SigningRequest};
use crate::error::Expected;
use crate::files::{self, Mode};
use crate::scope::Vouches;
use crate::verify::verify_chain;
use crate::{Error, KeyPairAndChain, Scope, SpiffeId, TrustDomain, TrustRoots, Validity};

/// Name of the certificate in the CA's folder; clients are given this file.
pub const CERTIFICATE_FILE: &str = "ca.crt";
/// Name of the key in the CA's folder, mode 0600.
pub const KEY_FILE: &str = "ca.key";

const COMMON_NAME: &str = "Zen Mesh CA";
const ROOT_NAME: &str = "Zen Mesh root CA";
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
    /// Whom it vouches for; none: it is no issuing CA, and signs no workload itself.
    vouches: Option<Vouches>,
    /// The hub's issuing CA in memory, where this is none and workloads are asked of it all the same.
    beneath: ArcSwapOption<Ca>,
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
                let ca = Self::self_signed(key, COMMON_NAME, 1, domain, now)?;
                files::write(&certificate_path, &ca.certificate_pem, Mode::Everyone)?;
                Ok(ca)
            }
        }
    }

    /// A CA that lives in memory only: tests, and processes that need no clients from before.
    pub fn ephemeral(domain: &TrustDomain) -> Result<Self, Error> {
        Self::self_signed(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, COMMON_NAME, 1, domain, Timestamp::now())
    }

    /// A new root for ten years, with room for one CA beneath it: see [`Ca::issue_intermediate`]. No workload that it signed
    /// itself would be taken.
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

    /// The hub's issuing CA: see [`Ca::issue_issuer`].
    pub fn issue_intermediate(&self, now: Timestamp) -> Result<Self, Error> {
        self.issue_issuer(&Scope::Hub, now)
    }

    /// A new issuing CA beneath this one for the workloads of a scope, for 90 days and no longer than this one: it signs
    /// leaves, and no other CA. Renew it at [`Validity::renew_at`]; the leaves of the one before carry its certificate in
    /// their chain, so that they verify until they end.
    pub fn issue_issuer(&self, scope: &Scope, now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let (params, validity) = self.issuer_params(scope, now, ISSUER_LIFETIME)?;
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
            vouches: Some(Vouches::For(self.domain.clone(), scope.clone())),
            beneath: ArcSwapOption::empty(),
            validity,
        })
    }

    /// Signs the issuing CA of a scope whose key is elsewhere: a member's, which made it and keeps it (T-01). Of the request,
    /// which [`crate::issuer_request`] makes, nothing is used but its key.
    pub fn sign_issuer(
        &self,
        request: &SigningRequest,
        scope: &Scope,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Signed, SignError> {
        request.check_issuer(&self.domain, scope)?;
        let (params, validity) = self.issuer_params(scope, now, lifetime)?;
        let serial = hex(params.serial_number.as_ref());
        let certificate = params.signed_by(request.key(), &self.issuer).map_err(Error::from)?;
        Ok(Signed { chain_pem: certificate.pem() + self.chain_pem(), validity, serial })
    }

    fn issuer_params(
        &self,
        scope: &Scope,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<(CertificateParams, Validity), Error> {
        if self.depth == Some(0) {
            return Err(Error::Malformed {
                what: "the root CA".to_owned(),
                reason: "its path length is 0, so that no issuing CA can lie beneath it; use one with 1 or without"
                    .to_owned(),
            });
        }
        let mut params = authority(scope.subject(&self.domain), 0);
        params.use_authority_key_identifier_extension = true;
        let validity = self.validity_for(now, lifetime)?;
        set_validity(&mut params, validity);
        params.serial_number = Some(serial());
        Ok((params, validity))
    }

    /// Whose workloads an issuing CA may sign, where it says so itself; none for a root, for an issuing CA of another trust
    /// domain, and for one of a release before scopes, which signs for the hub until it is exchanged.
    pub fn scope(&self) -> Option<&Scope> {
        match &self.vouches {
            Some(Vouches::For(domain, scope)) if *domain == self.domain => Some(scope),
            _ => None,
        }
    }

    /// The certificate, then those above it that it came with: for a root what clients trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its own certificate, in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// [`crate::fingerprint`] of its own certificate.
    pub fn fingerprint(&self) -> String {
        crate::fingerprint(self.certificate())
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
        let proof = self.issue_server_at(&["proof.invalid".to_owned()], now, Duration::from_mins(1))?;
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

    /// A workload certificate (X.509-SVID): the id is its only alternative name; for both ends of a connection. An issuing CA
    /// signs those of its scope. A root never signs one itself, because nobody would take it: it makes an issuing CA of the
    /// hub in memory and has that sign.
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
        match &self.vouches {
            Some(vouches) => self.issue(self.workload(vouches, id)?, now, lifetime),
            None => self.beneath(now)?.issue_workload_at(id, now, lifetime),
        }
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
        let params = match (due, &self.vouches) {
            (Names::Workload(id), Some(vouches)) => self.workload(vouches, id)?,
            (Names::Workload(_), None) => return self.beneath(now)?.sign_csr(request, due, now, lifetime),
            (Names::Server(names), _) => server(&names.iter().cloned().collect::<Vec<_>>())?,
        };
        let (leaf, validity, serial) = self.sign(params, request.key(), now, lifetime)?;
        Ok(Signed { chain_pem: leaf.pem() + self.chain_pem(), validity, serial })
    }

    /// The issuing CA in memory, made when it is first asked for and when two thirds of its time are over.
    fn beneath(&self, now: Timestamp) -> Result<Arc<Self>, Error> {
        let held = self.beneath.load_full();
        if let Some(held) = held.filter(|held| held.validity.from <= now && now < held.validity.renew_at()) {
            return Ok(held);
        }
        let made = Arc::new(self.issue_intermediate(now)?);
        self.beneath.store(Some(Arc::clone(&made)));
        Ok(made)
    }

    fn workload(&self, vouches: &Vouches, id: &SpiffeId) -> Result<CertificateParams, Error> {
        let foreign = |expected| Error::Foreign { id: id.clone(), expected };
        if id.path().is_empty() || !id.is_in(&self.domain) {
            return Err(foreign(Expected::Domain(self.domain.clone())));
        }
        if !Scope::of(id).is_some_and(|workload| vouches.covers(&self.domain, &workload.scope)) {
            let scope = match vouches {
                Vouches::For(_, scope) => scope.clone(),
                Vouches::Unscoped => Scope::Hub,
            };
            return Err(foreign(Expected::Scope(scope)));
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
        let hex = hex(Some(&serial));
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
        let mut params = authority(common_name(name), depth);
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
            vouches: None,
            beneath: ArcSwapOption::empty(),
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
            vouches: existing.vouches,
            beneath: ArcSwapOption::empty(),
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

fn hex(serial: Option<&SerialNumber>) -> String {
    serial.map(|serial| serial.to_string().replace(':', "")).unwrap_or_default()
}

fn backdated(now: Timestamp) -> Timestamp {
    Timestamp(now.0.saturating_sub(u64::try_from(BACKDATED.as_millis()).unwrap_or(u64::MAX)))
}
