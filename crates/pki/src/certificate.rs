//! Leaves with their keys, the time in which they are good, and the roots that peers are checked against.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zen_model::{Secret, Timestamp};
use zeroize::Zeroizing;

use crate::csr::Names;
use crate::files::{self, Mode};
use crate::verify::{leaf_names, verify_as_peer};
use crate::{Error, TrustRoots};

/// Certificates are valid from this long before they are made, so that a peer whose clock is behind takes them.
pub(crate) const BACKDATED: Duration = Duration::from_mins(5);

/// A leaf certificate, the chain up to below the root, and the leaf's private key, which stays in memory unless the
/// caller writes it.
#[derive(Clone, Debug)]
pub struct KeyPairAndChain {
    chain_pem: String,
    chain: Vec<CertificateDer<'static>>,
    /// PKCS #8, DER.
    key: Secret,
    validity: Validity,
}

/// When a certificate may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before this instant.
    pub from: Timestamp,
    /// Not after this instant.
    pub until: Timestamp,
}

impl Validity {
    /// When it was issued: five minutes after `from`, because leaves are backdated by that much.
    pub fn issued(&self) -> Timestamp {
        self.from.plus(BACKDATED).min(self.until)
    }

    /// When to have a new certificate: two thirds of the way from issue to expiry.
    pub fn renew_at(&self) -> Timestamp {
        let issued = self.issued();
        issued.plus(self.until.since(issued) * 2 / 3)
    }
}

impl KeyPairAndChain {
    /// From what the built-in CA has just signed.
    pub(crate) fn issued(
        chain_pem: String,
        chain: Vec<CertificateDer<'static>>,
        key: Secret,
        validity: Validity,
    ) -> Self {
        Self { chain_pem, chain, key, validity }
    }

    /// From PEM text, leaf first: certificates that come from another issuer. The key is PKCS #8 (`PRIVATE KEY`). Fails
    /// when the two do not belong together.
    pub fn from_pem(chain: &str, key: &Secret) -> Result<Self, Error> {
        let malformed = |what: &str, reason: String| Error::Malformed { what: what.to_owned(), reason };
        let certificates = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| malformed("the certificate chain", error.to_string()))?;
        let leaf = certificates.first().ok_or_else(|| malformed("the certificate chain", "it is empty".to_owned()))?;
        let (from, until) = {
            let parsed = parse(leaf, "the certificate")?;
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp())
        };
        // The parser's error may quote its input.
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.expose())
            .map_err(|_| malformed("the private key", "it is not PKCS #8 in PEM".to_owned()))?;
        let pair = Self {
            chain_pem: chain.to_owned(),
            validity: Validity { from: at(from), until: at(until) },
            chain: certificates,
            key: Secret::new(key.secret_pkcs8_der()),
        };
        pair.certified()?;
        Ok(pair)
    }

    /// Keeps key and chain in one file, mode 0600, that is there as a whole or not at all: only for a volume in memory, or
    /// the key would rest on a disk.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let key = rcgen::KeyPair::try_from(self.key.expose())?;
        let text = Zeroizing::new(key.serialize_pem() + &self.chain_pem);
        if let Some(folder) = path.parent() {
            files::create_folder(folder)?;
        }
        files::write(path, &text, Mode::Owner)
    }

    /// What [`KeyPairAndChain::store`] has kept; none when there is no such file. Refuses a file that others may read.
    pub fn load(path: &Path) -> Result<Option<Self>, Error> {
        let Some(text) = files::read_private(path)?.map(Zeroizing::new) else { return Ok(None) };
        let at = text.find("-----BEGIN CERTIFICATE-----").unwrap_or(text.len());
        Self::from_pem(&text[at..], &Secret::new(&text.as_bytes()[..at])).map(Some)
    }

    /// The certificates in PEM, leaf first.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The certificates in DER, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key, PKCS #8 in DER.
    pub fn key(&self) -> &Secret {
        &self.key
    }

    /// When the leaf may be used.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Whether the chain verifies under these roots at this time: what a peer with the same roots would find.
    pub fn verify(&self, roots: &TrustRoots, now: Timestamp) -> Result<(), Error> {
        verify_as_peer(&self.chain, roots, now)
    }

    /// [`fingerprint`] of what signed the leaf; none for a chain of the leaf alone.
    pub fn issuer(&self) -> Option<String> {
        self.chain.get(1).map(fingerprint)
    }

    /// The names in the leaf; none for a leaf that has neither exactly one SPIFFE id nor DNS names alone.
    pub fn names(&self) -> Option<Names> {
        self.chain.first().and_then(leaf_names)
    }

    /// In the form that rustls signs with; fails when key and leaf do not belong together.
    pub(crate) fn certified(&self) -> Result<Arc<CertifiedKey>, Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.expose().to_vec()));
        Ok(Arc::new(CertifiedKey::from_der(self.chain.clone(), key, &provider())?))
    }
}

/// The one provider of every configuration here.
pub(crate) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

/// SHA-256 of a certificate's DER, hexadecimal: names it where its subject does not tell it from others.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// When a certificate may be used.
///
/// # Errors
///
/// It is none.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, Error> {
    let parsed = parse(certificate, "the certificate")?;
    let validity = parsed.validity();
    Ok(Validity { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) })
}

/// What tells a chain that somebody presents from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presented {
    /// [`fingerprint`] of the leaf.
    pub leaf: String,
    /// The same of what follows it: the issuing CA.
    pub issuer: Option<String>,
    /// When the leaf may be used.
    pub validity: Validity,
}

impl Presented {
    /// Of a chain, the leaf first.
    ///
    /// # Errors
    ///
    /// There is no leaf, or it is no certificate.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<Self, Error> {
        let leaf = chain.first().ok_or(rustls::Error::NoCertificatesPresented)?;
        let issuer = chain.get(1).map(|issuer| fingerprint(issuer));
        Ok(Self { leaf: fingerprint(leaf), issuer, validity: validity(leaf)? })
    }
}

/// Fingerprint and times of each certificate in a PEM text; what cannot be read is left out.
pub fn certificates(pem: &str) -> Vec<(String, Validity)> {
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    certificates.filter_map(|certificate| Some((fingerprint(&certificate), validity(&certificate).ok()?))).collect()
}

/// Reads a certificate; `what` names it in the error.
pub(crate) fn parse<'a>(
    der: &'a CertificateDer<'_>,
    what: &str,
) -> Result<x509_parser::certificate::X509Certificate<'a>, Error> {
    let malformed = |reason: &str| Error::Malformed { what: what.to_owned(), reason: reason.to_owned() };
    let (rest, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|_| malformed("it is not an X.509 certificate"))?;
    if rest.is_empty() { Ok(certificate) } else { Err(malformed("bytes follow the certificate")) }
}

/// From the seconds of an X.509 time; before 1970 is the epoch.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_at_two_thirds_of_what_was_asked_for() {
        let validity = Validity { from: Timestamp::from_secs(0), until: Timestamp::from_secs(300 + 3600) };
        assert_eq!(validity.renew_at(), Timestamp::from_secs(300 + 2400));
        let short = Validity { from: Timestamp::from_secs(0), until: Timestamp::from_secs(60) };
        assert_eq!(short.renew_at(), Timestamp::from_secs(60));
    }
}
