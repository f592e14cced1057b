//! Once, for the init container; again and again, for the sidecar.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use zen_identity::client::Resolve;

use super::ask::{self, Api};
use super::notify::notify;
use super::{Arguments, write};

/// Between two attempts at first; it doubles.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a poll waits.
const POLL: Duration = Duration::from_secs(50);
/// A poll without news that is answered sooner was not let wait; it is asked again after about so long.
const NO_ROOM: Duration = Duration::from_millis(3500);
/// After a change: so that a sidecar does not ask in a circle whatever it is told.
const BREATH: Duration = Duration::from_millis(500);

/// The pod has no plaintext.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody gives it.
    #[error(transparent)]
    Ask(#[from] ask::Error),
    /// It cannot be written.
    #[error(transparent)]
    Write(#[from] write::Error),
}

/// Runs the program: until the files are there, or with `--watch` until it is ended.
pub async fn run(arguments: &Arguments, resolver: Option<Arc<dyn Resolve>>) -> Result<(), Error> {
    let mut api = Api::new(arguments, resolver)?;
    if arguments.watch {
        return follow(&mut api, arguments).await;
    }
    let deadline = Instant::now() + arguments.patience();
    let mut pauses = Pauses::default();
    loop {
        match once(&mut api, arguments).await {
            Ok(_) => {
                tracing::info!(locks = arguments.locks.join(","), "the files are there");
                return Ok(());
            }
            Err(Error::Ask(error)) if error.may_pass() && Instant::now() < deadline => {
                tracing::warn!(%error, "no plaintext yet; asking again");
                pauses.wait().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// What the files hold now.
struct Have {
    versions: Vec<(String, String)>,
    is_new: bool,
}

async fn once(api: &mut Api, arguments: &Arguments) -> Result<Have, Error> {
    let answer = api.unseal().await?;
    let is_new = write::write(&arguments.dir, arguments.mode, &arguments.env, &answer.locks)?;
    let versions = answer.locks.iter().map(|lock| (lock.name.clone(), lock.resource_version.clone()));
    Ok(Have { versions: versions.collect(), is_new })
}

/// Nothing ends it: the files of the last good version stay while nobody answers, or the ZenLock is gone.
async fn follow(api: &mut Api, arguments: &Arguments) -> Result<(), Error> {
    let mut pauses = Pauses::default();
    let mut have: Option<Vec<(String, String)>> = None;
    loop {
        let began = Instant::now();
        let news = match &have {
            Some(versions) => api.changed(versions, POLL).await.map(|changed| !changed.is_empty()),
            None => Ok(true),
        };
        let fetched = match news {
            Ok(false) => {
                pauses = Pauses::default();
                // The server has no room for one more that waits.
                if began.elapsed() < NO_ROOM {
                    api.hang_up();
                    tokio::time::sleep(NO_ROOM.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                }
                continue;
            }
            Ok(true) => once(api, arguments).await,
            Err(error) => Err(error.into()),
        };
        match fetched {
            Ok(fetched) => {
                if fetched.is_new {
                    tracing::info!(locks = arguments.locks.join(","), "the files are new");
                    if let Some(target) = &arguments.notify {
                        notify(target).await;
                    }
                }
                have = Some(fetched.versions);
                pauses = Pauses::default();
                tokio::time::sleep(BREATH).await;
            }
            Err(error) => {
                tracing::warn!(%error, "changes cannot be followed; the files stay as they are");
                api.hang_up();
                pauses.wait().await;
            }
        }
    }
}

/// Ever longer, and different for each pod.
#[derive(Default)]
struct Pauses(u32);

impl Pauses {
    async fn wait(&mut self) {
        let pause = LONGEST_PAUSE.min(PAUSE * 2u32.saturating_pow(self.0));
        self.0 = (self.0 + 1).min(10);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use axum::routing::{get, post};
    use axum::{Json, Router};
    use serde_json::json;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;
    use zen_identity::client::StaticResolver;
    use zen_identity::server::{insert_peer, serve_tls_with};
    use zen_lock::wire::{UNSEAL, WATCH};
    use zen_pki::{Ca, HotCertificate, intake_server};

    use super::*;

    /// A server that is full lets nobody wait, and whoever it does not let wait keeps nobody out.
    #[tokio::test]
    async fn who_is_not_let_wait_hangs_up() {
        let ca = Ca::ephemeral(&"zen-mesh.local".parse().expect("valid")).expect("a CA");
        let serving = ca.issue_server(&["localhost".to_owned()], Duration::from_hours(1)).expect("issued");
        let tls = intake_server(&HotCertificate::new(&serving).expect("usable")).expect("configured");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (polled, end) = (Arc::new(tokio::sync::Notify::new()), CancellationToken::new());
        let told = Arc::clone(&polled);
        let no_news = async move || {
            told.notify_one();
            Json(json!({"changed": []}))
        };
        let open = json!({"locks": [{"namespace": "a", "name": "db", "resourceVersion": "1", "data": {"k": "dg=="}}]});
        let router = Router::new().route(UNSEAL, post(async move || Json(open))).route(WATCH, get(no_news));
        // Room for one.
        tokio::spawn(serve_tls_with(1, listener, tls, router, end.clone(), insert_peer));

        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, "token").expect("written");
        let arguments = Arguments {
            url: format!("https://localhost:{}", address.port()),
            ca: Arguments::encode_roots(ca.certificate_pem()),
            locks: vec!["db".to_owned()],
            dir: folder.path().join("volume"),
            token,
            watch: true,
            ..Arguments::standard()
        };
        std::fs::create_dir(&arguments.dir).expect("made");
        let resolver = Arc::new(StaticResolver(HashMap::from([("localhost".to_owned(), vec![address.ip()])])));
        let (sidecar, names) = (arguments.clone(), Arc::clone(&resolver));
        let sidecar = tokio::spawn(async move { run(&sidecar, Some(names)).await });
        polled.notified().await;
        let mut other = Api::new(&arguments, Some(resolver)).expect("configured");
        other.unseal().await.expect("there is room for another");
        sidecar.abort();
        end.cancel();
    }
}
