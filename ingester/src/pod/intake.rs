//! The intake of a pod: the listener, once there is a certificate (W-14).

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zen_identity::server::require;
use zen_identity::{Action, control};
use zen_pki::{HotCertificate, Identity};
use zen_pod::Platform;
use zen_pod::ground::until_said;
use zen_pod::tls_secret::Followed;
use zen_runtime::Gate;

use crate::Ingester;

/// How often what keeps the certificate away is asked for.
const LOOK: Duration = Duration::from_secs(1);

/// The certificate of the intake, for whoever wants to know which it is. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(Arc<OnceLock<HotCertificate>>);

impl Shown {
    /// `GET` [`control::INTAKE`].
    pub(super) fn routes(&self) -> Router {
        let shown = self.clone();
        let tell = async move || {
            let presented = shown.0.get().and_then(HotCertificate::presented);
            Json(presented.map(control::Intake::of).unwrap_or_default())
        };
        Router::new().route(control::INTAKE, get(tell)).layer(require(Action::Report))
    }
}

pub(super) struct Intake {
    pub(super) ingester: Ingester,
    pub(super) listener: TcpListener,
    /// From a Secret or from the built-in CA; later versions are swapped inside it.
    pub(super) certificate: watch::Receiver<Followed>,
    /// Who is asked which it is.
    pub(super) shown: Shown,
    /// Open while there is one.
    pub(super) gate: Gate,
    pub(super) end: CancellationToken,
}

impl Intake {
    /// Serves until the end and the drain after it. Connections live on whatever happens to the certificate.
    pub(super) async fn run(self) {
        let Self { ingester, listener, certificate, shown, gate, end } = self;
        let problem = certificate.clone();
        let why = || problem.borrow().problem.clone();
        let mut waiting = pin!(until_said(&gate, first(certificate), why));
        let certificate = tokio::select! {
            certificate = &mut waiting => certificate,
            () = end.cancelled() => None,
        };
        let Some(certificate) = certificate else { return };
        // Later ones are swapped inside it.
        let _ = shown.0.set(certificate.clone());
        match zen_pki::intake_server(&certificate) {
            Ok(tls) => {
                gate.open();
                ingester.serve(listener, Some(tls), end).await;
            }
            Err(error) => tracing::error!(%error, "failed to set up the intake's TLS"),
        }
    }
}

/// The first good certificate; none when nobody follows it any more.
pub(super) async fn first(mut followed: watch::Receiver<Followed>) -> Option<HotCertificate> {
    let known = followed.wait_for(|followed| followed.certificate.is_some()).await;
    known.ok().and_then(|followed| followed.certificate.clone())
}

/// A certificate of the built-in CA for the names of the Services: obtained and kept fresh for as long as the future is
/// polled.
pub(super) fn built_in(
    platform: &Platform,
    identity: &Identity,
) -> (watch::Receiver<Followed>, impl Future<Output = ()> + Send + use<>) {
    let (sender, receiver) = watch::channel(Followed::default());
    let (client, identity) = (platform.identity.clone(), identity.clone());
    let keeping = async move {
        let obtained = async {
            let certificate = client.obtain_serving(&identity).await;
            sender.send_replace(Followed { certificate: Some(certificate.clone()), problem: None });
            certificate
        };
        let mut obtained = pin!(obtained);
        let certificate = loop {
            tokio::select! {
                certificate = &mut obtained => break certificate,
                () = tokio::time::sleep(LOOK) => {
                    let problem = client.problem();
                    sender.send_if_modified(|followed| {
                        let changed = followed.problem != problem;
                        followed.problem = problem;
                        changed
                    });
                }
            }
        };
        client.keep_fresh_serving(&identity, &certificate).await;
    };
    (receiver, keeping)
}
