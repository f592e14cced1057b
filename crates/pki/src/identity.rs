//! What this process presents, and whom it trusts, exchangeable while connections live on.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zen_model::Secret;

use crate::certificate::{at, parse, provider};
use crate::error::Expected;
use crate::verify::workload_id;
use crate::{Error, KeyPairAndChain, Presented, SpiffeId, TrustRoots, Validity};

/// The identity of one workload: its certificate and key, and the roots that its peers are checked against. Clones
/// share it. A swap changes what the next handshake uses; connections that are established stay as they are.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: SpiffeId,
    held: ArcSwap<Held>,
    trusted: ArcSwap<TrustRoots>,
}

#[derive(Debug)]
struct Held {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

impl Identity {
    /// The certificate must be a workload's: its SPIFFE id is read from it.
    pub fn new(certificate: &KeyPairAndChain, roots: &TrustRoots) -> Result<Self, Error> {
        let id = own_id(certificate)?;
        let held = ArcSwap::from_pointee(Held::of(certificate)?);
        let trusted = ArcSwap::from_pointee(roots.clone());
        Ok(Self(Arc::new(Shared { id, held, trusted })))
    }

    /// Who this is.
    pub fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    /// When the certificate in use is good.
    pub fn validity(&self) -> Validity {
        self.0.held.load().validity
    }

    /// Presents another certificate from the next handshake on. It must be of the same workload; otherwise the one in
    /// use stays.
    pub fn replace(&self, certificate: &KeyPairAndChain) -> Result<(), Error> {
        let id = own_id(certificate)?;
        if id != self.0.id {
            return Err(Error::Foreign { id, expected: Expected::Id(self.0.id.clone()) });
        }
        self.0.held.store(Arc::new(Held::of(certificate)?));
        Ok(())
    }

    /// Checks peers against other roots from the next handshake on.
    pub fn replace_roots(&self, roots: &TrustRoots) -> Result<(), Error> {
        self.0.trusted.store(Arc::new(roots.clone()));
        Ok(())
    }

    pub(crate) fn trusted(&self) -> Guard<Arc<TrustRoots>> {
        self.0.trusted.load()
    }

    /// What is presented now.
    pub fn presented(&self) -> Option<Presented> {
        self.0.held.load().presented()
    }

    fn key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.held.load().key)
    }
}

fn own_id(certificate: &KeyPairAndChain) -> Result<SpiffeId, Error> {
    let leaf = certificate.chain().first().ok_or(rustls::Error::NoCertificatesPresented)?;
    workload_id(leaf).map_err(|refused| Error::Malformed {
        what: "the workload certificate".to_owned(),
        reason: refused.to_string(),
    })
}

impl Held {
    fn of(certificate: &KeyPairAndChain) -> Result<Self, Error> {
        Ok(Self { key: certificate.certified()?, validity: certificate.validity() })
    }

    fn presented(&self) -> Option<Presented> {
        Presented::of(&self.key.cert).ok()
    }

    fn of_pem(chain: &str, key: &Secret) -> Result<Self, Error> {
        let malformed = |what: &str, reason: String| Error::Malformed { what: what.to_owned(), reason };
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| malformed("the certificate", error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| malformed("the certificate", "there is none in PEM".to_owned()))?;
        let validity = {
            let parsed = parse(leaf, "the certificate")?;
            let validity = parsed.validity();
            Validity { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) }
        };
        // The parser's error may quote its input.
        let key = PrivateKeyDer::from_pem_slice(key.expose())
            .map_err(|_| malformed("the private key", "there is none in PEM, or it is encrypted".to_owned()))?;
        Ok(Self { key: Arc::new(CertifiedKey::from_der(chain, key, &provider())?), validity })
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A server certificate without SPIFFE id that can be exchanged while connections live on: the intake's (W-14). Clones
/// share it.
#[derive(Clone, Debug)]
pub struct HotCertificate(Arc<ArcSwap<Held>>);

impl HotCertificate {
    /// Serves this certificate.
    pub fn new(certificate: &KeyPairAndChain) -> Result<Self, Error> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Held::of(certificate)?))))
    }

    /// Serves another certificate from the next handshake on.
    pub fn replace(&self, certificate: &KeyPairAndChain) -> Result<(), Error> {
        self.0.store(Arc::new(Held::of(certificate)?));
        Ok(())
    }

    /// Serves a certificate that others made, leaf first, with its key in any of the usual forms (PKCS #8, PKCS #1, SEC 1):
    /// what a `kubernetes.io/tls` Secret holds. Fails when the two do not belong together.
    pub fn from_pem(chain: &str, key: &Secret) -> Result<Self, Error> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(Held::of_pem(chain, key)?))))
    }

    /// As [`HotCertificate::from_pem`] from the next handshake on. The one in use stays when this one cannot be used.
    pub fn replace_pem(&self, chain: &str, key: &Secret) -> Result<(), Error> {
        self.0.store(Arc::new(Held::of_pem(chain, key)?));
        Ok(())
    }

    /// When the certificate in use is good.
    pub fn validity(&self) -> Validity {
        self.0.load().validity
    }

    /// What is presented now.
    pub fn presented(&self) -> Option<Presented> {
        self.0.load().presented()
    }
}

impl ResolvesServerCert for HotCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.load().key))
    }
}
