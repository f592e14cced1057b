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
