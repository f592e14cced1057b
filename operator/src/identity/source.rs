//! Where the root CA comes from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::{Api, Client};
use zen_model::Timestamp;
use zen_pki::{Ca, TrustDomain};

use super::CA;

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
            Self::Secret => {
                // A list of one name: the right to list names is all that is needed.
                let only = ListParams::default().fields(&format!("metadata.name={CA}"));
                let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
                let listed = tokio::time::timeout(TIMEOUT, api.list(&only)).await;
                let listed = listed.map_err(|_| kube::Error::Service("no answer within 5 s".into()))??;
                Ok(match listed.items.first() {
                    None => Found::Missing,
                    Some(secret) => usable(read(secret, CA, namespace, domain, now).map(Root::of)),
                })
            }
            Self::Folder(folder) => Ok(usable(read_folder(folder, domain, now))),
        }
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
    fn of(ca: Ca) -> Self {
        Self { bundle: ca.certificate_pem().to_owned(), ca }
    }
}

fn usable<T>(result: Result<T, String>) -> Found<T> {
    result.map_or_else(Found::Unusable, Found::There)
}

/// The CA in a `kubernetes.io/tls` Secret, or in words why there is none.
pub(super) fn read(
    secret: &Secret,
    name: &str,
    namespace: &str,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Ca, String> {
    let what = format!("Secret {namespace}/{name}");
    let entry = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|ByteString(bytes)| bytes);
    let missing = |key: &str| format!("{what} has no {key}; put it back, or delete the Secret to have a new one made");
    let certificate = entry(CERTIFICATE).ok_or_else(|| missing(CERTIFICATE))?;
    let key = zen_model::Secret::new(entry(KEY).ok_or_else(|| missing(KEY))?.as_slice());
    let certificate = String::from_utf8_lossy(certificate);
    Ca::from_pem(&certificate, &key, &what, domain, now).map_err(|error| error.to_string())
}

fn read_folder(folder: &Path, domain: &TrustDomain, now: Timestamp) -> Result<Root, String> {
    let file = |name: &str| {
        let path = folder.join(name);
        std::fs::read_to_string(&path).map_err(|error| format!("failed to read {}: {error}", path.display()))
    };
    let (certificate, key) = (file(CERTIFICATE)?, zen_model::Secret::new(file(KEY)?));
    let what = folder.join(CERTIFICATE).display().to_string();
    let ca = Ca::from_pem(&certificate, &key, &what, domain, now).map_err(|error| error.to_string())?;
    let bundle = match std::fs::read_to_string(folder.join(ROOTS)) {
        Ok(roots) => roots,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => certificate,
        Err(error) => return Err(format!("failed to read {}: {error}", folder.join(ROOTS).display())),
    };
    let roots = zen_pki::TrustRoots::from_pem(&bundle).map_err(|error| error.to_string())?;
    ca.verify(&roots, now).map_err(|error| format!("{what} does not verify under {ROOTS} beside it: {error}"))?;
    Ok(Root { ca, bundle })
}
