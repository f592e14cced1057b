//! The intake's certificate from a `kubernetes.io/tls` Secret, followed while connections live on (W-14).
//!
//! A Secret that vanishes or cannot be used changes nothing for the connections: the last good certificate goes on, and the
//! log and readiness say what is wrong.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use k8s_openapi::api::core::v1::Secret as KubeSecret;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;
use zen_model::{Secret, Timestamp};
use zen_pki::HotCertificate;

use crate::{private, watching};

const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Which Secret.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where the last good content is kept, in a volume in memory: a restarted container serves without the API server.
    pub cache: Option<PathBuf>,
}

/// The certificate as far as it is known.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// The last good one; none before the first.
    pub certificate: Option<HotCertificate>,
    /// What is wrong with the Secret as it is now.
    pub problem: Option<String>,
}

/// What is left of the certificate in use, for alerts: nobody but its owner renews it.
#[derive(Clone, Debug, Default)]
pub struct Expiry(Arc<OnceLock<watch::Receiver<Followed>>>);

impl Expiry {
    /// Adds it to the registry of the process, which carries no prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Of this certificate.
    pub fn of(&self, followed: &watch::Receiver<Followed>) {
        // Once: there is one intake.
        let _ = self.0.set(followed.clone());
    }
}

/// Reads the clock when it is asked.
impl Collector for Expiry {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let until = self.0.get().and_then(|followed| Some(followed.borrow().certificate.as_ref()?.validity().until));
        let Some(until) = until else { return Ok(()) };
        let left = ConstGauge::new(until.since(Timestamp::now()).as_secs_f64());
        let help = "Time until the intake's certificate, from a Secret of the user's own, ends; 0 when it has ended.";
        let name = "zen_intake_certificate_expiry";
        left.encode(encoder.encode_descriptor(name, help, Some(&Unit::Seconds), left.metric_type())?)
    }
}

/// Follows the Secret. The future never ends; run it on a task.
pub fn follow(client: Client, options: Options) -> (watch::Receiver<Followed>, impl Future<Output = ()> + Send) {
    let kept = options.cache.as_ref().and_then(|path| std::fs::read(path).ok()).map(Secret::new);
    let certificate = kept.and_then(|kept| {
        let chain = String::from_utf8_lossy(kept.expose());
        HotCertificate::from_pem(&chain, &kept).ok()
    });
    let (sender, receiver) = watch::channel(Followed { certificate, problem: None });
    (receiver, run(client, options, sender))
}

async fn run(client: Client, options: Options, sender: watch::Sender<Followed>) {
    let secrets: Api<KubeSecret> = Api::namespaced(client, &options.namespace);
    let stream = watch_object(secrets, &options.name);
    watching::follow("the intake's certificate", stream, |secret| take(secret.as_ref(), &options, &sender)).await;
}

fn take(secret: Option<&KubeSecret>, options: &Options, sender: &watch::Sender<Followed>) {
    let used = Content::of(secret).and_then(|content| {
        let certificate = sender.borrow().certificate.clone();
        let used = content.used(certificate)?;
        if let Some(path) = &options.cache {
            private::keep(path, content.file().expose());
        }
        Ok(used)
    });
    let name = format!("{}/{}", options.namespace, options.name);
    match used {
        Ok(certificate) => {
            tracing::info!(secret = name, until = %certificate.validity().until, "the intake has a certificate");
            sender.send_replace(Followed { certificate: Some(certificate), problem: None });
        }
        Err(reason) => {
            let problem = format!("Secret {name} {reason}");
            let stays = sender.borrow().certificate.is_some();
            tracing::error!(problem, last_good_stays = stays, "the intake's certificate cannot be used");
            sender.send_modify(|followed| followed.problem = Some(problem));
        }
    }
}

/// Chain and key, in PEM.
struct Content {
    chain: String,
    key: Secret,
}

impl Content {
    /// Or what is wrong, to be read after the Secret's name.
    fn of(secret: Option<&KubeSecret>) -> Result<Self, String> {
        let missing = "does not exist; create it with kubectl create secret tls, or set intake.tlsSecret to another";
        let data = secret.ok_or(missing)?.data.as_ref();
        let value = |key: &str| {
            let value = data.and_then(|data| data.get(key)).filter(|value| !value.0.is_empty());
            value.ok_or_else(|| format!("has no key {key}; its type must be kubernetes.io/tls"))
        };
        let chain = String::from_utf8(value(CHAIN)?.0.clone()).map_err(|_| format!("holds no PEM text in {CHAIN}"))?;
        Ok(Self { chain, key: Secret::new(value(KEY)?.0.clone()) })
    }

    /// In use from the next handshake on. One whose time is over is not taken.
    fn used(&self, current: Option<HotCertificate>) -> Result<HotCertificate, String> {
        let unusable = |error: zen_pki::Error| format!("cannot be used: {error}");
        let fresh = HotCertificate::from_pem(&self.chain, &self.key).map_err(unusable)?;
        let until = fresh.validity().until;
        if until <= Timestamp::now() {
            return Err(format!("holds a certificate that expired at {until}; renew it"));
        }
        let Some(current) = current else { return Ok(fresh) };
        current.replace_pem(&self.chain, &self.key).map_err(unusable)?;
        Ok(current)
    }

    fn file(&self) -> Secret {
        let mut text = self.key.expose().to_vec();
        text.push(b'\n');
        text.extend_from_slice(self.chain.as_bytes());
        Secret::new(text)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use k8s_openapi::ByteString;
    use zen_pki::{Ca, KeyPairAndChain};

    use super::*;

    fn issued(lifetime: Duration) -> KeyPairAndChain {
        let ca = Ca::ephemeral(&"test.local".parse().expect("valid")).expect("a CA");
        ca.issue_server(&["hooks.example.com".to_owned()], lifetime).expect("issued")
    }

    fn secret(entries: &[(&str, &[u8])]) -> KubeSecret {
        let data: BTreeMap<_, _> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec()))).collect();
        KubeSecret { data: Some(data), ..KubeSecret::default() }
    }

    fn pem(pair: &KeyPairAndChain) -> Vec<u8> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pair.pem");
        pair.store(&path).expect("stored");
        std::fs::read(path).expect("read")
    }

    fn tls(pair: &KeyPairAndChain) -> KubeSecret {
        secret(&[(CHAIN, pair.chain_pem().as_bytes()), (KEY, &pem(pair))])
    }

    /// W-14: the last good certificate stays, and what is wrong is said.
    #[test]
    fn the_last_good_certificate_stays_and_survives_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Some(folder.path().join("run/intake.pem"));
        let options = Options { namespace: "zen-mesh".into(), name: "intake".into(), cache };
        let (sender, receiver) = watch::channel(Followed::default());
        take(None, &options, &sender);
        let problem = receiver.borrow().problem.clone().expect("a problem");
        assert!(
            problem.starts_with("Secret zen-mesh/intake does not exist") && receiver.borrow().certificate.is_none()
        );

        let first = issued(Duration::from_hours(1));
        take(Some(&tls(&first)), &options, &sender);
        assert!(receiver.borrow().problem.is_none());
        let until = |followed: &Followed| followed.certificate.as_ref().expect("one").validity().until;
        let good = until(&receiver.borrow());

        let other = issued(Duration::from_hours(9));
        let mixed = secret(&[(CHAIN, first.chain_pem().as_bytes()), (KEY, &pem(&other))]);
        let expired = tls(&issued(Duration::ZERO));
        for (bad, why) in [
            (mixed, "cannot be used"),
            (expired, "expired"),
            (secret(&[(CHAIN, b"x")]), "no key tls.key"),
            (secret(&[(CHAIN, b"x"), (KEY, b"y")]), "cannot be used"),
        ] {
            take(Some(&bad), &options, &sender);
            let followed = receiver.borrow().clone();
            assert!(followed.problem.as_ref().expect("a problem").contains(why), "{followed:?}");
            assert_eq!(until(&followed), good);
        }
        take(Some(&tls(&other)), &options, &sender);
        assert!(until(&receiver.borrow()) > good && receiver.borrow().problem.is_none());
        let (expiry, mut registry, mut shown) = (Expiry::default(), Registry::default(), String::new());
        expiry.register(&mut registry);
        expiry.of(&receiver);
        prometheus_client::encoding::text::encode(&mut shown, &registry).expect("encodes");
        let left = zen_runtime::metrics::value(&shown, "zen_intake_certificate_expiry_seconds", &[]).expect(&shown);
        assert!((32_300.0..=32_400.0).contains(&left), "nine hours: {left}");

        let client = kube::Config::new("http://127.0.0.1:1".parse().expect("a URI"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let restarted = runtime.block_on(async {
            let (receiver, _) = follow(Client::try_from(client).expect("a client"), options);
            receiver.borrow().clone()
        });
        assert_eq!(until(&restarted), until(&receiver.borrow()));
    }
}
