//! How a pod gets its certificates and keeps them fresh (T-02, T-07).
//!
//! Keys are made here, in memory, and never leave the pod. Key and chain also lie in the pod's in-memory volume, so that a
//! restart of the container needs neither operator nor API server while the certificate is good. A certificate is used
//! only when it verifies under the trust bundle that is mounted into the pod.

mod ask;
mod metrics;
mod remote;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
pub use ask::{Answering, Changed, Error, Issuer};
pub use metrics::Metrics;
pub use remote::Remote;
use tokio::sync::{Notify, watch};
/// How names are resolved, for who brings a way of its own.
pub use zen_deliver::{Resolve, Resolving, StaticResolver, SystemResolver};
use zen_model::Timestamp;
use zen_pki::{HotCertificate, Identity, KeyPairAndChain, Names, SpiffeId, TrustRoots, keep_fresh_by, signing_request};

use crate::wire::{CertificateRequest, Usage};

/// How often the trust bundle's file, the serving names and the issuing CA are looked at.
const LOOK: Duration = Duration::from_secs(30);
/// The workload's certificate waits so long for the serving one.
const SERVING: Duration = Duration::from_secs(10);
/// Where the pod's kubelet and the chart put things.
const TOKEN: &str = "/var/run/secrets/zen-mesh/token";
const ROOTS: &str = "/etc/zen-mesh/trust/ca.crt";
const FOLDER: &str = "/run/zen-mesh/identity";

/// Where the client finds what it needs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The identity service, `https://zen-operator.<namespace>.svc`.
    pub url: String,
    /// The projected ServiceAccount token; read again for each request, because the kubelet exchanges it.
    pub token: PathBuf,
    /// The trust bundle; followed while the process runs.
    pub roots: PathBuf,
    /// A folder in an in-memory volume.
    pub folder: PathBuf,
    /// How often the trust bundle's file, the serving names and the issuing CA are looked at.
    pub look: Duration,
}

impl Options {
    /// The paths of a pod of the mesh.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), token: TOKEN.into(), roots: ROOTS.into(), folder: FOLDER.into(), look: LOOK }
    }
}

/// The wall clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// One pod's client. Cheap to clone; clones share everything.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

struct Inner {
    issuer: Arc<dyn Issuer>,
    options: Options,
    clock: Clock,
    metrics: Metrics,
    /// What went wrong last, until something goes well.
    problem: ArcSwapOption<String>,
    /// The certificates in use, by [`Usage`].
    held: [ArcSwapOption<KeyPairAndChain>; 2],
    nudge: Notify,
    /// The serving certificate was exchanged.
    exchanged: Notify,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Asks the service at `options.url`. Names are resolved as `/etc/resolv.conf` says.
    ///
    /// # Errors
    ///
    /// When the address is none. Whether anybody answers there shows later.
    pub fn new(options: Options) -> Result<Self, Error> {
        let remote = Remote::new(&options)?;
        Ok(Self::with_issuer(options, Arc::new(remote)))
    }

    /// Asks somebody else.
    pub fn with_issuer(options: Options, issuer: Arc<dyn Issuer>) -> Self {
        Self::with_clock(options, issuer, Arc::new(Timestamp::now))
    }

    /// As [`Client::with_issuer`] by another wall clock, for tests.
    pub fn with_clock(options: Options, issuer: Arc<dyn Issuer>, clock: Clock) -> Self {
        let metrics = Metrics::new(Arc::clone(&clock));
        let (problem, held) = (ArcSwapOption::empty(), Default::default());
        let (nudge, exchanged) = (Notify::new(), Notify::new());
        Self(Arc::new(Inner { issuer, options, clock, metrics, problem, held, nudge, exchanged }))
    }

    /// For the registry; the names begin with `zen_identity_`.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// What went wrong last, in words for a readiness gate; none when the last request went well.
    pub fn problem(&self) -> Option<String> {
        self.0.problem.load().as_deref().cloned()
    }

    /// This pod's identity: what lies in the volume while it is good, or a new certificate. Asks again, ever more rarely,
    /// until there is one; drop it to stop.
    pub async fn obtain(&self) -> Identity {
        let mut failures = 0;
        loop {
            match self.try_obtain().await {
                Ok(identity) => return identity,
                Err(error) => self.failed(Usage::Workload, &error, &mut failures).await,
            }
        }
    }

    /// A serving certificate for the names that the service tells. Asks as [`Client::obtain`] does.
    pub async fn obtain_serving(&self, identity: &Identity) -> HotCertificate {
        let mut failures = 0;
        loop {
            match self.try_obtain_serving(identity).await {
                Ok(certificate) => return certificate,
                Err(error) => self.failed(Usage::Serving, &error, &mut failures).await,
            }
        }
    }

    /// Renews at two thirds of the lifetime and follows the trust bundle, for as long as it is polled. The certificate in
    /// use stays when there is no other. Returns when this pod is somebody else now.
    pub async fn keep_fresh(&self, identity: &Identity) -> Changed {
        let (changed, mut other) = watch::channel(None);
        let renew = || self.renew(identity, &changed);
        let renewing = keep_fresh_by(identity, renew, || (self.0.clock)());
        let following = self.follow_roots(identity, &changed);
        tokio::select! {
            () = renewing => {}
            () = following => {}
            _ = other.wait_for(Option::is_some) => {}
        }
        // The two others never end.
        let id = other.borrow().clone().unwrap_or_else(|| identity.id().clone());
        Changed(id)
    }

    /// Renews the serving certificate at two thirds of its lifetime, and when its names change, for as long as it is
    /// polled.
    pub async fn keep_fresh_serving(&self, identity: &Identity, certificate: &HotCertificate) {
        let issue = || self.issue(Usage::Serving, Some(identity));
        let renewing = keep_fresh_by(certificate, issue, || (self.0.clock)());
        tokio::join!(renewing, self.follow_names(identity, certificate));
    }

    /// The serving names may have changed: looks at once instead of within half a minute.
    pub fn refresh(&self) {
        self.0.nudge.notify_one();
    }

    async fn try_obtain(&self) -> Result<Identity, Error> {
        let roots = self.roots()?;
        let stored =
            self.stored(Usage::Workload, &roots).filter(|stored| matches!(stored.names(), Some(Names::Workload(_))));
        let certificate = match stored {
            Some(stored) => stored,
            None => self.issue(Usage::Workload, None).await?,
        };
        self.uses(Usage::Workload, &certificate);
        Ok(Identity::new(&certificate, &roots)?)
    }

    async fn try_obtain_serving(&self, identity: &Identity) -> Result<HotCertificate, Error> {
        let certificate = match self.stored(Usage::Serving, &self.roots()?) {
            Some(stored) => stored,
            None => self.issue(Usage::Serving, Some(identity)).await?,
        };
        self.uses(Usage::Serving, &certificate);
        Ok(HotCertificate::new(&certificate)?)
    }

    fn uses(&self, usage: Usage, certificate: &KeyPairAndChain) {
        self.0.metrics.expires(usage, certificate.validity().until);
        self.0.held[usage as usize].store(Some(Arc::new(certificate.clone())));
    }

    /// What the volume keeps, if it verifies now.
    fn stored(&self, usage: Usage, roots: &TrustRoots) -> Option<KeyPairAndChain> {
        let path = self.path(usage);
        match KeyPairAndChain::load(&path)
            .and_then(|stored| stored.map(|stored| stored.verify(roots, (self.0.clock)()).map(|()| stored)).transpose())
        {
            Ok(stored) => stored,
            Err(reason) => {
                tracing::info!(%reason, path = %path.display(), "the kept certificate cannot be used; asking for another");
                None
            }
        }
    }

    async fn renew(
        &self,
        identity: &Identity,
        changed: &watch::Sender<Option<SpiffeId>>,
    ) -> Result<KeyPairAndChain, Error> {
        self.serving_first(identity).await;
        let renewed = self.issue(Usage::Workload, Some(identity)).await?;
        if let Some(Names::Workload(id)) =
            renewed.names().filter(|names| *names != Names::Workload(identity.id().clone()))
        {
            changed.send_replace(Some(id));
        }
        Ok(renewed)
    }

    /// The operator sees by the workload's certificate that this pod has gone over to another issuing CA, and then distrusts
    /// what came before: by that time nobody may be shown it any more. So the serving certificate is exchanged before, if it
    /// can be.
    async fn serving_first(&self, identity: &Identity) {
        let Ok(who) = self.0.issuer.who(Some(identity)).await else { return };
        let is_due = || {
            let held = self.0.held[Usage::Serving as usize].load();
            held.is_some() && !self.is_from(Usage::Serving, who.issuer.as_deref())
        };
        if !is_due() {
            return;
        }
        self.0.nudge.notify_one();
        let exchanged = async {
            while is_due() {
                self.0.exchanged.notified().await;
            }
        };
        let _ = tokio::time::timeout(SERVING, exchanged).await;
    }

    /// A new key, and a certificate for it that verifies and says what it should.
    async fn issue(&self, usage: Usage, identity: Option<&Identity>) -> Result<KeyPairAndChain, Error> {
        let result = self.ask(usage, identity).await;
        self.0.metrics.asked(usage, result.as_ref().map_or_else(Error::category, |_| "issued"));
        match &result {
            Ok(certificate) => {
                self.0.problem.store(None);
                self.uses(usage, certificate);
            }
            Err(error) => self.0.problem.store(Some(Arc::new(error.to_string()))),
        }
        result
    }

    async fn ask(&self, usage: Usage, identity: Option<&Identity>) -> Result<KeyPairAndChain, Error> {
        let who = self.0.issuer.who(identity).await?;
        let names = match usage {
            Usage::Workload => Names::Workload(
                who.spiffe_id.parse().map_err(|error: zen_pki::SpiffeIdError| Error::Answer(error.to_string()))?,
            ),
            Usage::Serving => Names::Server(who.serving_names.into_iter().collect()),
        };
        let (csr, key) = signing_request(&names)?;
        let answer = self.0.issuer.certificate(identity, &CertificateRequest { csr, usage }).await?;
        let certificate = KeyPairAndChain::from_pem(&answer.chain, &key)?;
        if certificate.names().as_ref() != Some(&names) {
            return Err(Error::Answer("the certificate has other names than were asked for".to_owned()));
        }
        certificate.verify(&self.roots()?, (self.0.clock)())?;
        if let Err(reason) = certificate.store(&self.path(usage)) {
            // The certificate is good all the same; a restart of the container asks again.
            tracing::warn!(%reason, "failed to keep the certificate in the in-memory volume");
        }
        Ok(certificate)
    }

    /// Peers are checked against the bundle of now. A certificate of our own that it no longer covers is of no use to
    /// anybody: it is exchanged at once.
    async fn follow_roots(&self, identity: &Identity, changed: &watch::Sender<Option<SpiffeId>>) {
        let mut seen = self.bundle().ok();
        loop {
            tokio::time::sleep(self.look()).await;
            if let Ok(bundle) = self.bundle()
                && seen.as_ref() != Some(&bundle)
            {
                match TrustRoots::from_pem(&bundle).and_then(|roots| identity.replace_roots(&roots)) {
                    Ok(()) => tracing::info!("the trust bundle changed"),
                    Err(reason) => tracing::warn!(%reason, "the new trust bundle cannot be used; the one in use stays"),
                }
                seen = Some(bundle);
            }
            if self.is_orphaned(Usage::Workload) || self.is_exchanged(identity).await {
                match self.renew(identity, changed).await.map(|renewed| identity.replace(&renewed)) {
                    Ok(Ok(())) => tracing::info!("the certificate has another issuer now"),
                    Ok(Err(reason)) => tracing::warn!(%reason, "failed to use a new certificate"),
                    Err(reason) => tracing::warn!(%reason, "failed to get a certificate of the other issuer"),
                }
            }
        }
    }

    /// Whether the trust bundle no longer covers a certificate that is otherwise good.
    fn is_orphaned(&self, usage: Usage) -> bool {
        let now = (self.0.clock)();
        let held = self.0.held[usage as usize].load_full().filter(|held| now < held.validity().until);
        let Ok(roots) = self.roots() else { return false };
        held.is_some_and(|held| held.verify(&roots, now).is_err())
    }

    /// Whether the service wants the certificate to be from another issuing CA. A failure shows where certificates are renewed.
    async fn is_exchanged(&self, identity: &Identity) -> bool {
        let who = self.0.issuer.who(Some(identity)).await;
        who.is_ok_and(|who| !self.is_from(Usage::Workload, who.issuer.as_deref()))
    }

    fn is_from(&self, usage: Usage, issuer: Option<&str>) -> bool {
        let held = self.0.held[usage as usize].load_full();
        issuer.is_none_or(|issuer| held.and_then(|held| held.issuer()).as_deref() == Some(issuer))
    }

    /// Spread, so that pods which began at one time do not ask at one time.
    fn look(&self) -> Duration {
        self.0.options.look.mul_f64(0.75 + fastrand::f64() / 2.0)
    }

    async fn follow_names(&self, identity: &Identity, certificate: &HotCertificate) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.look()) => {}
                () = self.0.nudge.notified() => {}
            }
            // A failure shows where certificates are renewed; names can wait.
            let Ok(who) = self.0.issuer.who(Some(identity)).await else { continue };
            let due: BTreeSet<_> = who.serving_names.iter().cloned().collect();
            let held = self.0.held[Usage::Serving as usize].load_full();
            let same = held.as_ref().and_then(|held| held.names()) == Some(Names::Server(due.clone()));
            let is_from = self.is_from(Usage::Serving, who.issuer.as_deref());
            let issued = held.as_ref().map(|held| held.validity().issued());
            let is_young = who.serving_since.is_none_or(|since| issued.is_some_and(|issued| issued >= since));
            if due.is_empty() || same && is_from && is_young && !self.is_orphaned(Usage::Serving) {
                continue;
            }
            match self.issue(Usage::Serving, Some(identity)).await.map(|renewed| certificate.replace(&renewed)) {
                Ok(Ok(())) => {
                    self.0.exchanged.notify_one();
                    tracing::info!("the serving certificate was exchanged: other names, another issuer, or a rotation");
                }
                Ok(Err(reason)) => tracing::warn!(%reason, "failed to use a new serving certificate"),
                Err(reason) => tracing::warn!(%reason, "failed to get a new serving certificate"),
            }
        }
    }

    async fn failed(&self, usage: Usage, error: &Error, failures: &mut u32) {
        *failures = failures.saturating_add(1);
        self.0.problem.store(Some(Arc::new(error.to_string())));
        tracing::warn!(usage = usage.label(), reason = %error, attempt = *failures, "no certificate yet");
        tokio::time::sleep(zen_pki::pause(Duration::ZERO, *failures)).await;
    }

    fn bundle(&self) -> Result<String, Error> {
        let path = &self.0.options.roots;
        std::fs::read_to_string(path).map_err(|source| Error::File { path: path.clone(), source })
    }

    fn roots(&self) -> Result<TrustRoots, Error> {
        Ok(TrustRoots::from_pem(&self.bundle()?)?)
    }

    fn path(&self, usage: Usage) -> PathBuf {
        self.0.options.folder.join(format!("{}.pem", usage.label()))
    }
}
