//! TLS towards targets: roots, client certificate, one prepared `ClientConfig`.

use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// What cannot be used, for the verdict; it quotes nothing of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The CA file.
    #[error("holds no PEM certificate that can be a CA")]
    Roots,
    /// The chain.
    #[error("tls.crt holds no usable PEM certificate")]
    Chain,
    /// The key.
    #[error("tls.key holds no PEM private key that can be used")]
    Key,
    /// Both, together.
    #[error("tls.key is not the key of the first certificate in tls.crt")]
    Mismatch,
}

/// Certificate chain and key in PEM, as a `kubernetes.io/tls` Secret holds them.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// `tls.crt`.
    pub chain: &'a [u8],
    /// `tls.key`.
    pub key: &'a [u8],
}

/// A configuration that trusts the given CAs only, or the system's where none are given. TLS 1.2 and 1.3: targets are not
/// ours to choose.
pub fn client_config(roots: Option<&[u8]>, identity: Option<Identity<'_>>) -> Result<Arc<ClientConfig>, Error> {
    let Some(roots) = roots.map(parse_roots).transpose()? else {
        return match identity {
            None => Ok(system_config()),
            Some(identity) => build(system_roots(), Some(identity)),
        };
    };
    build(Arc::new(roots), identity)
}

fn build(roots: Arc<RootCertStore>, identity: Option<Identity<'_>>) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("the provider has suites for both versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates(identity.chain).ok_or(Error::Chain)?;
            let key = PrivateKeyDer::from_pem_slice(identity.key).map_err(|_| Error::Key)?;
            builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => Error::Mismatch,
                rustls::Error::InvalidCertificate(_) => Error::Chain,
                _ => Error::Key,
            })?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A Destination speaks to one server name; more tickets would only be kept, never used.
    config.resumption = Resumption::in_memory_sessions(if identity.is_some() { 8 } else { 256 });
    Ok(Arc::new(config))
}

fn parse_roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem).ok_or(Error::Roots)? {
        roots.add(certificate).map_err(|_| Error::Roots)?;
    }
    Ok(roots)
}

/// At least one certificate, and none that does not parse.
fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

/// The system's roots, read once: they are hundreds of files on some systems.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    Arc::clone(roots)
}

/// One configuration for all Destinations without a CA or certificate of their own.
fn system_config() -> Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| build(system_roots(), None).expect("without an identity nothing can fail"));
    Arc::clone(config)
}
