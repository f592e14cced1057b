//! The signing keys of a plane, and which versions of them count: read at the start, and again as the operator exchanges them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zen_model::signing::{Malformed, Versions};
use zen_seal::RootKey;
use zen_verify::SigningKeys;

/// How often the file is looked at. The kubelet takes longer to bring a change.
const LOOK: Duration = Duration::from_secs(2);

/// The keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// Their root.
    #[error(transparent)]
    Root(#[from] zen_seal::Error),
    /// Which versions count cannot be read.
    #[error("failed to read {}: {source}", .0.display(), source = .1)]
    Read(PathBuf, #[source] io::Error),
    /// The same.
    #[error(transparent)]
    Versions(#[from] Malformed),
}

/// Those in this folder, as the pod of this name has them.
pub fn signing(folder: &Path, pod: &str) -> Result<SigningKeys, SigningError> {
    let root = RootKey::mounted(&folder.join(super::SIGNING))?.secret();
    Ok(SigningKeys::of_pod(root, pod, versions(folder)?))
}

/// What counts, for whoever looks: the operator goes by it when it exchanges them.
#[derive(Clone, Debug)]
pub struct Followed {
    keys: SigningKeys,
    shown: Family<[(&'static str, String); 2], Gauge>,
}

impl Followed {
    /// Adds the metric to the registry, without a prefix.
    pub fn register(keys: SigningKeys, registry: &mut Registry) -> Self {
        let followed = Self { keys, shown: Family::default() };
        let help = "1 for each version of the signing keys that is signed with or verified at the link, or signed with towards targets";
        registry.register("zen_signing_key_versions", help, followed.shown.clone());
        followed.show();
        followed
    }

    fn show(&self) {
        let (link, targets) = (self.keys.at_link(), self.keys.versions().targets());
        let uses = [("signs", &link[..1]), ("verifies", &link[..]), ("targets", &targets[..])];
        self.shown.clear();
        for (use_, versions) in uses {
            for version in versions {
                self.shown.get_or_create(&[("use", use_.to_owned()), ("version", version.to_string())]).set(1);
            }
        }
    }
}

/// Follows the file. `retargeted` is called when targets are to get other signatures from now on.
pub async fn follow(folder: PathBuf, followed: Followed, retargeted: impl Fn() + Send) {
    let mut said = false;
    loop {
        tokio::time::sleep(LOOK).await;
        match versions(&folder) {
            Ok(read) if read != *followed.keys.versions() => {
                let change = read.to_json();
                if followed.keys.apply(read) {
                    retargeted();
                }
                followed.show();
                tracing::info!(versions = change, "the versions of the signing keys changed");
            }
            Ok(_) => {}
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "the versions of the signing keys stay as they were");
                }
                continue;
            }
        }
        said = false;
    }
}

fn versions(folder: &Path) -> Result<Versions, SigningError> {
    let path = folder.join(super::VERSIONS);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Versions::from_json(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Versions::default()),
        Err(error) => Err(SigningError::Read(path, error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use zen_model::Secret;
    use zen_model::signing::{Next, Signers};

    use super::*;

    /// W-12: another version is signed with and verified without a restart; what cannot be read changes nothing.
    #[tokio::test(start_paused = true)]
    async fn changes_are_followed_without_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |text: &str| std::fs::write(folder.path().join(super::super::VERSIONS), text).expect("written");
        assert_eq!(versions(folder.path()).expect("readable"), Versions::default(), "nothing there");
        let keys = SigningKeys::of_pod(Secret::new([7; 32]), "zen-ingester-0", Versions::default());
        let mut registry = Registry::default();
        let followed = Followed::register(keys.clone(), &mut registry);
        let retargeted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&retargeted);
        let count = move || {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        tokio::spawn(follow(folder.path().to_owned(), followed, count));
        let next = |signers| Versions { next: Some(Next { version: 2, signers }), ..Versions::default() };
        let canary = Signers::Pods(["zen-ingester-0".to_owned()].into());
        for (text, at_link, calls) in [
            (next(Signers::Nobody).to_json(), vec![1, 2], 1),
            ("half".to_owned(), vec![1, 2], 1),
            (next(canary).to_json(), vec![2, 1], 1),
            (Versions { current: 2, ..Versions::default() }.to_json(), vec![2], 2),
        ] {
            write(&text);
            tokio::time::sleep(2 * LOOK).await;
            assert_eq!(keys.at_link(), at_link, "{text}");
            assert_eq!(retargeted.load(Ordering::Relaxed), calls, "{text}");
        }
        let mut shown = String::new();
        prometheus_client::encoding::text::encode(&mut shown, &registry).expect("encodes");
        for line in [r#"{use="signs",version="2"} 1"#, r#"{use="verifies",version="2"} 1"#] {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(!shown.contains(r#"version="1""#), "{shown}");
        write("half");
        assert!(signing(folder.path(), "x").is_err(), "nobody begins with what cannot be read");
    }
}
