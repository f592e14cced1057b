//! Certificates of one run: a CA, a server for localhost, a client.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// PEM texts.
#[derive(Debug)]
pub struct Certificates {
    /// The root.
    pub ca: String,
    /// For `localhost` and 127.0.0.1.
    pub server: (String, String),
    /// A client.
    pub client: (String, String),
}

impl Certificates {
    /// Makes new ones.
    pub fn new() -> anyhow::Result<Self> {
        let mut root = CertificateParams::new(Vec::new())?;
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.distinguished_name.push(DnType::CommonName, "bench root");
        let issuer = CertifiedIssuer::self_signed(root, KeyPair::generate()?)?;
        let leaf = |names: &[&str], purpose| -> anyhow::Result<(String, String)> {
            let mut leaf = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
            leaf.extended_key_usages = vec![purpose];
            let key = KeyPair::generate()?;
            Ok((leaf.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
        };
        Ok(Self {
            server: leaf(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth)?,
            client: leaf(&["client"], ExtendedKeyUsagePurpose::ClientAuth)?,
            ca: issuer.pem(),
        })
    }

    /// Writes them where nginx reads them.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        fs::write(folder.join("ca.crt"), &self.ca)?;
        for (name, (certificate, key)) in [("server", &self.server), ("client", &self.client)] {
            fs::write(folder.join(format!("{name}.crt")), certificate)?;
            fs::write(folder.join(format!("{name}.key")), key)?;
        }
        Ok(())
    }

    /// The target's side: TLS 1.3 with a client certificate required.
    pub fn target(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&self.ca)?.into(), provider()).build()?;
        let chain = CertificateDer::pem_slice_iter(self.server.0.as_bytes()).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.server.1.as_bytes())?;
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

/// The generator's side, trusting `ca`.
pub fn client(ca: &str) -> anyhow::Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(ca)?)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(pem: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate?)?;
    }
    Ok(roots)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
