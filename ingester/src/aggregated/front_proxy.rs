//! Whom the API server vouches for: the front proxy's certificate, then the caller in its headers. From Kubernetes,
//! "Configure the Aggregation Layer".

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode_str;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};

/// Who calls, as the API server authenticated it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The user.
    pub user: String,
    /// Its uid, where the authenticator knows one.
    pub uid: Option<String>,
    /// Its groups.
    pub groups: Vec<String>,
    /// What else the authenticator said.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What the API server proves itself with. Empty until [`FrontProxy::configure`]: until then nobody gets in.
pub struct FrontProxy {
    provider: Arc<CryptoProvider>,
    trusted: ArcSwap<Trusted>,
}

#[derive(Default)]
struct Trusted {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Common names; empty: any that the CA signed.
    names: BTreeSet<String>,
    user: Vec<HeaderName>,
    uid: Vec<HeaderName>,
    groups: Vec<HeaderName>,
    /// Lower case.
    extra: Vec<String>,
}

impl Default for FrontProxy {
    fn default() -> Self {
        Self { provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()), trusted: ArcSwap::default() }
    }
}

impl FrontProxy {
    /// Takes the data of the `ConfigMap` `kube-system/extension-apiserver-authentication`. What was in force stays so
    /// when this cannot be read.
    pub fn configure(&self, data: &BTreeMap<String, String>) -> Result<(), String> {
        self.trusted.store(Arc::new(self.read(data)?));
        Ok(())
    }

    fn read(&self, data: &BTreeMap<String, String>) -> Result<Trusted, String> {
        let list = |key: &str| -> Result<Vec<String>, String> {
            let text = data.get(key).map_or("[]", String::as_str);
            serde_json::from_str(text).map_err(|error| format!("{key} is not a list of strings: {error}"))
        };
        let headers = |key: &str| -> Result<Vec<HeaderName>, String> {
            let names = list(key)?;
            names.iter().map(|name| name.parse().map_err(|_| format!("{key} names no header: {name:?}"))).collect()
        };
        let pem = data.get("requestheader-client-ca-file").ok_or("it has no requestheader-client-ca-file")?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| "requestheader-client-ca-file is not PEM")?;
            roots.add(certificate).map_err(|error| format!("requestheader-client-ca-file: {error}"))?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| format!("requestheader-client-ca-file: {error}"))?;
        let user = headers("requestheader-username-headers")?;
        if user.is_empty() {
            return Err("requestheader-username-headers names no header".to_owned());
        }
        let extra = list("requestheader-extra-headers-prefix")?;
        Ok(Trusted {
            verifier: Some(verifier),
            names: list("requestheader-allowed-names")?.into_iter().collect(),
            user,
            uid: headers("requestheader-uid-headers")?,
            groups: headers("requestheader-group-headers")?,
            extra: extra.iter().map(|prefix| prefix.to_ascii_lowercase()).collect(),
        })
    }

    /// The caller of a request that came over a connection with these certificates, leaf first; or why it is not believed.
    /// The handshake has verified them, and connections live long: what is in force now decides, and the time of now.
    pub fn caller(&self, certificates: &[CertificateDer<'_>], headers: &HeaderMap) -> Result<Caller, &'static str> {
        let trusted = self.trusted.load();
        let (leaf, intermediates) = certificates.split_first().ok_or("no certificate was presented")?;
        let verifier = trusted.verifier.as_ref().ok_or("the API server's front proxy is not known yet")?;
        if verifier.verify_client_cert(leaf, intermediates, UnixTime::now()).is_err() {
            return Err("the certificate is not one of the front proxy's CA, or its time is over");
        }
        if !trusted.names.is_empty() && !common_name(leaf).is_some_and(|name| trusted.names.contains(&name)) {
            return Err("the certificate's common name is not one of the front proxy");
        }
        let first = |names: &[HeaderName]| {
            let mut values = names.iter().filter_map(|name| headers.get(name));
            values.find_map(|value| value.to_str().ok()).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let all = |name: &HeaderName| -> Vec<String> {
            let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            texts.map(str::to_owned).collect()
        };
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for name in headers.keys() {
            for prefix in &trusted.extra {
                let Some(key) = name.as_str().strip_prefix(prefix.as_str()) else { continue };
                let key = percent_decode_str(key).decode_utf8_lossy().into_owned();
                extra.entry(key).or_default().extend(all(name));
            }
        }
        Ok(Caller {
            user: first(&trusted.user).ok_or("no user is named")?,
            uid: first(&trusted.uid),
            groups: trusted.groups.iter().flat_map(all).collect(),
            extra,
        })
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, rustls::Error> {
        let trusted = self.trusted.load();
        trusted.verifier.clone().ok_or_else(|| CertificateError::UnknownIssuer.into())
    }
}

fn common_name(leaf: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

impl fmt::Debug for FrontProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trusted = self.trusted.load();
        f.debug_struct("FrontProxy")
            .field("known", &trusted.verifier.is_some())
            .field("names", &trusted.names)
            .finish_non_exhaustive()
    }
}

/// What is in force at the moment of a handshake decides it.
impl ClientCertVerifier for FrontProxy {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier()?.verify_client_cert(leaf, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
