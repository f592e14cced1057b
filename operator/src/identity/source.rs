//! Where the root CA comes from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};
use zen_model::Timestamp;
use zen_pki::{Ca, TrustDomain};
use zen_seal::{Aad, wrap};

use super::{CA, CA_NEXT, ISSUER};

/// Name of the certificate, and of the key, in a `kubernetes.io/tls` Secret and in a folder.
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
/// Name of the roots in a folder whose CA is not itself a root.
const ROOTS: &str = "ca.crt";
/// Reading a Secret takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where the root CA is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The Secret `zen-mesh-ca` of the release namespace; made when there is none.
    Secret,
    /// A folder with `tls.crt` and `tls.key`, and, where these are not a root, `ca.crt` with the roots: a mounted Secret
    /// or a CSI volume. Nothing is ever made there.
    Folder(PathBuf),
}

/// What was found.
#[derive(Debug)]
pub(super) enum Found<T> {
    Missing,
    /// There, and of no use; the reason in words.
    Unusable(String),
    There(T),
}

/// A CA under which issuing CAs are made, and what clients trust.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) ca: Ca,
    pub(super) bundle: String,
}

impl Source {
    /// Reads the root and its key. Fails when nobody could be asked.
    pub(super) async fn root(
        &self,
        client: &Client,
        namespace: &str,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Found<Root>, kube::Error> {
        match self {
            Self::Secret => Ok(match kept(client, namespace, CA).await? {
                None => Found::Missing,
                Some(secret) => usable(read(&secret, CA, namespace, domain, now).map(Root::of)),
            }),
            Self::Folder(folder) => Ok(usable(read_folder(folder, domain, now))),
        }
    }

    /// The root that comes in place of this one, where there is one of use.
    pub(super) async fn next_root(
        &self,
        client: &Client,
        namespace: &str,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Option<Ca>, kube::Error> {
        if *self != Self::Secret {
            return Ok(None);
        }
        let secret = kept(client, namespace, CA_NEXT).await?;
        let ca = secret.map(|secret| read(&secret, CA_NEXT, namespace, domain, now)).transpose();
        Ok(ca.inspect_err(|reason| tracing::warn!(%reason, "the next root CA cannot be used")).ok().flatten())
    }

    /// The issuing CA's key as it is stored, where every replica finds it: in clear beside a root that lies there too, and
    /// otherwise sealed under the root's key, which then is nowhere in the API server (issue 5, point 11).
    pub(super) fn stored(&self, namespace: &str, root: &Ca, issuer: &Ca) -> Vec<u8> {
        match self {
            Self::Secret => issuer.key_pem().expose().to_vec(),
            Self::Folder(_) => wrap::wrap(&root.key_pem(), &place(namespace), &issuer.key_pem()),
        }
    }

    /// Whether the issuing CA's key is stored as [`Source::stored`] does; under another root's key it is not.
    pub(super) fn is_stored_right(&self, namespace: &str, secret: &Secret, root: Option<&Root>) -> bool {
        let Some(stored) = entry(secret, KEY) else { return true };
        match (self, root) {
            (Self::Secret, _) => !wrap::is_wrapped(stored),
            (Self::Folder(_), Some(root)) => {
                wrap::unwrap(&root.ca.key_pem(), &place(namespace), stored.clone()).is_ok()
            }
            (Self::Folder(_), None) => true,
        }
    }

    /// The issuing CA in its Secret, or in words why there is none.
    pub(super) fn issuer(
        &self,
        secret: &Secret,
        namespace: &str,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<Ca, String> {
        let Self::Folder(folder) = self else { return read(secret, ISSUER, namespace, domain, now) };
        let (what, certificate, stored) = entries(secret, ISSUER, namespace)?;
        // Also of a root that has ended: what it sealed is exchanged like an issuing CA that is due.
        let root = ca_of(folder, domain, Timestamp(0))?;
        let key = wrap::unwrap(&root.key_pem(), &place(namespace), stored.clone());
        let key = key.map_err(|_| {
            format!("{what}: its {KEY} is not sealed under the key of the root in {}", folder.display())
        })?;
        Ca::from_pem(&certificate, &key, &what, domain, now).map_err(|error| error.to_string())
    }

    /// For messages.
    pub(super) fn describe(&self, namespace: &str) -> String {
        match self {
            Self::Secret => format!("Secret {namespace}/{CA}"),
            Self::Folder(folder) => folder.display().to_string(),
        }
    }
}

impl Root {
    pub(super) fn of(ca: Ca) -> Self {
        Self { bundle: ca.certificate_pem().to_owned(), ca }
    }
}

fn usable<T>(result: Result<T, String>) -> Found<T> {
    result.map_or_else(Found::Unusable, Found::There)
}

/// A Secret, as it is now.
pub(super) async fn kept(client: &Client, namespace: &str, name: &str) -> Result<Option<Secret>, kube::Error> {
    // A list of one name: the right to list names is all that is needed.
    let only = ListParams::default().fields(&format!("metadata.name={name}"));
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let listed = tokio::time::timeout(TIMEOUT, api.list(&only)).await;
    let listed = listed.map_err(|_| kube::Error::Service("no answer within 5 s".into()))??;
    Ok(listed.items.into_iter().next())
}

/// The CA in a `kubernetes.io/tls` Secret, or in words why there is none.
pub(super) fn read(
    secret: &Secret,
    name: &str,
    namespace: &str,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Ca, String> {
    let (what, certificate, key) = entries(secret, name, namespace)?;
    let key = zen_model::Secret::new(key.as_slice());
    Ca::from_pem(&certificate, &key, &what, domain, now).map_err(|error| error.to_string())
}

/// What it is called in messages, its certificate, and its key as it is stored.
fn entries<'a>(
    secret: &'a Secret,
    name: &str,
    namespace: &str,
) -> Result<(String, std::borrow::Cow<'a, str>, &'a Vec<u8>), String> {
    let what = format!("Secret {namespace}/{name}");
    let missing = |key: &str| format!("{what} has no {key}; put it back, or delete the Secret to have a new one made");
    let certificate = entry(secret, CERTIFICATE).ok_or_else(|| missing(CERTIFICATE))?;
    let key = entry(secret, KEY).ok_or_else(|| missing(KEY))?;
    Ok((what, String::from_utf8_lossy(certificate), key))
}

fn entry<'a>(secret: &'a Secret, key: &str) -> Option<&'a Vec<u8>> {
    secret.data.as_ref()?.get(key).map(|ByteString(bytes)| bytes)
}

/// What a sealed key is bound to.
fn place(namespace: &str) -> Aad {
    Aad::new("issuing CA", &[namespace.as_bytes()])
}

/// What stands in `tls.crt` and `tls.key`.
fn ca_of(folder: &Path, domain: &TrustDomain, now: Timestamp) -> Result<Ca, String> {
    let (certificate, key) = (file(folder, CERTIFICATE)?, zen_model::Secret::new(file(folder, KEY)?));
    let what = folder.join(CERTIFICATE).display().to_string();
    Ca::from_pem(&certificate, &key, &what, domain, now).map_err(|error| error.to_string())
}

fn file(folder: &Path, name: &str) -> Result<String, String> {
    let path = folder.join(name);
    std::fs::read_to_string(&path).map_err(|error| format!("failed to read {}: {error}", path.display()))
}

fn read_folder(folder: &Path, domain: &TrustDomain, now: Timestamp) -> Result<Root, String> {
    let ca = ca_of(folder, domain, now)?;
    let what = folder.join(CERTIFICATE).display().to_string();
    let bundle = match std::fs::read_to_string(folder.join(ROOTS)) {
        Ok(roots) => roots,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => file(folder, CERTIFICATE)?,
        Err(error) => return Err(format!("failed to read {}: {error}", folder.join(ROOTS).display())),
    };
    let roots = zen_pki::TrustRoots::from_pem(&bundle).map_err(|error| error.to_string())?;
    ca.verify(&roots, now).map_err(|error| format!("{what} does not verify under {ROOTS} beside it: {error}"))?;
    Ok(Root { ca, bundle })
}
