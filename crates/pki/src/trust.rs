//! Whom a peer's certificate must come from: the issuing CA of the scope that its id names, and that one alone.
//!
//! A root vouches for issuing CAs, an issuing CA for the workloads of one scope. So it does not suffice that a chain leads
//! to a root: the certificate above the leaf must be the issuing CA of exactly that trust domain, tenant and cluster. webpki
//! looks at signatures, validity, purposes and path lengths; what it cannot know is checked here before it is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;

use crate::certificate::{at, parse, provider};
use crate::scope::Vouches;
use crate::verify::{PeerRefused, refuse, workload_id};
use crate::{Error, Scope, SpiffeId, Validity, bundle};

/// Certificates above a leaf: its issuing CA, and as many of an organisation's as anybody has.
const MAX_ABOVE: usize = 4;

/// The certificate authorities that peers are checked against. Never empty. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustRoots {
    roots: Anchor,
    /// Subjects of the roots: none of them may pass for the issuing CA of a leaf.
    subjects: Arc<[Vec<u8>]>,
    /// Issuing CAs that are trusted themselves, for scopes where nothing else is.
    pinned: Arc<BTreeMap<Scope, Vec<Anchor>>>,
}

/// Certificates where a path may end.
#[derive(Clone, Debug)]
struct Anchor {
    store: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
    /// webpki does not look at the times of an anchor. Of a root nobody expects it; an issuing CA that ended has ended.
    validity: Option<Validity>,
}

/// Which end of a connection a leaf is judged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Server,
    Client,
}

impl TrustRoots {
    /// From the certificates of a PEM text; overlap during a rotation is several of them. With the issuing CAs that
    /// [`bundle::with_hub_issuers`] has put there.
    pub fn from_pem(text: &str) -> Result<Self, Error> {
        let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>();
        let roots = Self::from_der(&certificates.map_err(|error| malformed(error.to_string()))?)?;
        let issuers = bundle::hub_issuers(text)?;
        if issuers.is_empty() { Ok(roots) } else { roots.pin(Scope::Hub, &issuers) }
    }

    /// From certificates in DER.
    pub fn from_der(certificates: &[CertificateDer<'_>]) -> Result<Self, Error> {
        let subject = |der: &CertificateDer<'_>| Ok(parse(der, "the trust bundle")?.subject().as_raw().to_vec());
        Ok(Self {
            roots: Anchor::of(certificates, None)?,
            subjects: certificates.iter().map(subject).collect::<Result<_, Error>>()?,
            pinned: Arc::default(),
        })
    }

    /// One root of a bundle alone, by its [`crate::fingerprint`]; none where that is none of them.
    pub fn single(bundle: &str, fingerprint: &str) -> Option<Self> {
        let certificates = CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok);
        let root = certificates.into_iter().find(|root| crate::fingerprint(root) == fingerprint)?;
        Self::from_der(&[root]).ok()
    }

    /// Takes the workloads of a scope from these issuing CAs alone, whatever their subjects say and whatever stands above
    /// them: for an issuer that is not ours (cert-manager). Overlap is several of them; again for one scope replaces them.
    pub fn pin(mut self, scope: Scope, issuers: &[CertificateDer<'_>]) -> Result<Self, Error> {
        let anchor = |issuer: &CertificateDer<'_>| {
            let validity = {
                let parsed = parse(issuer, "the issuing CA")?;
                unfit(&parsed, false).map_or(Ok(()), |reason| Err(malformed(reason.to_owned())))?;
                let validity = parsed.validity();
                Validity { from: at(validity.not_before.timestamp()), until: at(validity.not_after.timestamp()) }
            };
            Anchor::of(std::slice::from_ref(issuer), Some(validity))
        };
        let anchors = issuers.iter().map(anchor).collect::<Result<Vec<_>, _>>()?;
        Arc::make_mut(&mut self.pinned).insert(scope, anchors);
        Ok(self)
    }

    /// The roots, for a configuration that checks host names (a client of the intake).
    pub fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.roots.store)
    }

    /// The workload that a chain proves, leaf first, at this time.
    pub(crate) fn workload(
        &self,
        end: End,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, rustls::Error> {
        let id = workload_id(leaf).map_err(refuse)?;
        let scope = Scope::of(&id).ok_or_else(|| refuse(PeerRefused::NotWorkload("its id names no workload")))?.scope;
        if let Some(pinned) = self.pinned.get(&scope) {
            return of_pinned(pinned, end, leaf, now).map(|()| id);
        }
        self.check_issuer(leaf, above, &id, &scope).map_err(refuse)?;
        self.roots.verify(end, leaf, above, now).map(|()| id)
    }

    /// That a path to a root, if there is one, goes through the issuing CA that this id calls for, and through no other. With
    /// the names of leaf and issuer equal, and nothing else of that name at hand, webpki can build no other path.
    fn check_issuer(
        &self,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        id: &SpiffeId,
        scope: &Scope,
    ) -> Result<(), PeerRefused> {
        let unreadable = |_| PeerRefused::Unreadable;
        let leaf = parse(leaf, "the certificate").map_err(unreadable)?;
        if above.len() > MAX_ABOVE {
            return Err(PeerRefused::TooLong { count: above.len() + 1 });
        }
        let (issuer, higher) = above.split_first().ok_or(PeerRefused::NoIssuer)?;
        let issuer = parse(issuer, "the issuing CA").map_err(unreadable)?;
        let foreign = || PeerRefused::ForeignIssuer { id: id.clone() };
        let vouches =
            Vouches::of(issuer.subject()).ok_or(PeerRefused::UnfitIssuer("its subject is not an issuing CA's"))?;
        if !vouches.covers(&id.trust_domain(), scope) {
            return Err(foreign());
        }
        if let Some(reason) = unfit(&issuer, true) {
            return Err(PeerRefused::UnfitIssuer(reason));
        }
        let name = issuer.subject().as_raw();
        if leaf.issuer().as_raw() != name {
            return Err(foreign());
        }
        if self.subjects.iter().any(|subject| subject == name) {
            return Err(PeerRefused::UnfitIssuer("it is a root"));
        }
        for certificate in higher {
            let certificate = parse(certificate, "a CA").map_err(unreadable)?;
            if Vouches::of(certificate.subject()).is_some() {
                return Err(PeerRefused::UnfitIssuer("another issuing CA stands above it"));
            }
        }
        Ok(())
    }
}

fn of_pinned(pinned: &[Anchor], end: End, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let mut refused = rustls::Error::from(CertificateError::UnknownIssuer);
    for anchor in pinned {
        // Directly: what else the peer sent leads nowhere.
        match anchor.verify(end, leaf, &[], now) {
            Ok(()) => return Ok(()),
            Err(error) if says(&error) > says(&refused) => refused = error,
            Err(_) => {}
        }
    }
    Err(refused)
}

/// How much an error says of the issuer that the leaf is from: others of one name fail on the signature.
fn says(error: &rustls::Error) -> u8 {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => 0,
        rustls::Error::InvalidCertificate(CertificateError::BadSignature) => 1,
        _ => 2,
    }
}

impl Anchor {
    fn of(certificates: &[CertificateDer<'_>], validity: Option<Validity>) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate.clone().into_owned()).map_err(|error| malformed(error.to_string()))?;
        }
        if store.is_empty() {
            return Err(malformed("it holds no certificate".to_owned()));
        }
        let store = Arc::new(store);
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(&store), Arc::new(provider()));
        let clients = clients.build().map_err(|error| malformed(error.to_string()))?;
        Ok(Self { store, clients, validity })
    }

    fn verify(
        &self,
        end: End,
        leaf: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match end {
            End::Server => {
                let algorithms = provider().signature_verification_algorithms;
                let leaf = ParsedCertificate::try_from(leaf)?;
                verify_server_cert_signed_by_trust_anchor(&leaf, &self.store, above, now, algorithms.all)?;
            }
            End::Client => {
                self.clients.verify_client_cert(leaf, above, now)?;
            }
        }
        match self.validity {
            Some(validity) if now.as_secs() < validity.from.as_secs() => Err(CertificateError::NotValidYet.into()),
            Some(validity) if now.as_secs() > validity.until.as_secs() => Err(CertificateError::Expired.into()),
            _ => Ok(()),
        }
    }
}

/// Why a certificate is no issuing CA's. One that a chain brings must say itself that no CA may lie beneath it.
fn unfit(certificate: &X509Certificate<'_>, path_length: bool) -> Option<&'static str> {
    let constraints = certificate.basic_constraints().ok().flatten().map(|constraints| constraints.value);
    let usage = certificate.key_usage().ok().flatten().map(|usage| usage.value);
    if !constraints.is_some_and(|constraints| constraints.ca) {
        Some("it is no CA")
    } else if !usage.is_some_and(x509_parser::extensions::KeyUsage::key_cert_sign) {
        Some("its key may not sign certificates")
    } else if path_length && constraints.is_none_or(|constraints| constraints.path_len_constraint != Some(0)) {
        Some("its path length is not 0")
    } else {
        None
    }
}

fn malformed(reason: String) -> Error {
    Error::Malformed { what: "the trust bundle".to_owned(), reason }
}
