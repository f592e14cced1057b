//! The intake of a pod: its certificate, and the listener once there is one (W-14).

use std::pin::pin;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_pki::{HotCertificate, Identity};
use zen_pod::Platform;
use zen_pod::tls_secret::{self, Followed};
use zen_runtime::Gate;

use crate::Ingester;

/// Where the certificate comes from.
pub(super) enum Source {
    /// A `kubernetes.io/tls` Secret.
    Secret(tls_secret::Options),
    /// The built-in CA, by the identity service.
    BuiltIn(HotCertificate),
}

pub(super) struct Intake {
    pub(super) ingester: Ingester,
    pub(super) listener: TcpListener,
    pub(super) platform: Platform,
    /// Open while there is a certificate.
    pub(super) gate: Gate,
    pub(super) end: CancellationToken,
}

impl Intake {
    /// Serves until the end and the drain after it. Connections live on whatever happens to the certificate.
    pub(super) async fn run(self, source: Source) {
        match source {
            Source::BuiltIn(certificate) => self.serve(certificate).await,
            Source::Secret(options) => {
                let (followed, following) = tls_secret::follow(self.platform.client.clone(), options);
                let mut following = pin!(following);
                let first = tokio::select! {
                    certificate = first(followed, &self.gate) => certificate,
                    () = &mut following => None,
                    () = self.end.cancelled() => None,
                };
                let Some(certificate) = first else { return };
                tokio::select! {
                    () = self.serve(certificate) => {}
                    // Never by itself.
                    () = following => {}
                }
            }
        }
    }

    async fn serve(self, certificate: HotCertificate) {
        match zen_pki::intake_server(&certificate) {
            Ok(tls) => {
                self.gate.open();
                self.ingester.serve(self.listener, Some(tls), self.end).await;
            }
            Err(error) => tracing::error!(%error, "failed to set up the intake's TLS"),
        }
    }
}

/// The first good certificate; the gate says why there is none.
async fn first(mut followed: watch::Receiver<Followed>, gate: &Gate) -> Option<HotCertificate> {
    loop {
        let now = followed.borrow_and_update().clone();
        if now.certificate.is_some() {
            return now.certificate;
        }
        if let Some(problem) = now.problem {
            gate.close(problem);
        }
        followed.changed().await.ok()?;
    }
}

/// A certificate of the built-in CA, and the task that keeps it fresh.
pub(super) async fn built_in(platform: &Platform, identity: &Identity) -> (HotCertificate, impl Future<Output = ()> + use<>) {
    let certificate = platform.identity.obtain_serving(identity).await;
    let (client, identity, own) = (platform.identity.clone(), identity.clone(), certificate.clone());
    (certificate, async move { client.keep_fresh_serving(&identity, &own).await })
}
