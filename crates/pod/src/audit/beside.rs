//! The log of a part that delivers. Nothing of it stands on the way of a request, an event, or the start and the end of the pod.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use zen_identity::Mesh;
use zen_pki::Identity;
use zen_runtime::Tasks;

use super::{Entries, Metrics, Notes, Parts, Place, Trail};

/// At the end: what is not written and shipped by then goes with the pod. What is in flight has the time before.
const LAST: Duration = Duration::from_secs(1);
const NAME: &str = "audit log";

/// Opens the log, keeps it, and closes it. It is never strict: what cannot be audited is done, and counted as lost.
#[derive(Debug)]
pub struct Beside {
    notes: Notes,
    /// Not among those of the pod: with them the end of this one would be the pod's.
    tasks: Tasks,
    end: CancellationToken,
}

impl Beside {
    /// Begins to open it in `folder`, and returns at once; what is noted until then is remembered.
    pub fn open(folder: &Path, place: &Place, pod: &str, identity: &Identity, mesh: &Mesh, metrics: Metrics) -> Self {
        let (entries, end, mut tasks) = (Arc::new(Entries::default()), CancellationToken::new(), Tasks::new());
        let notes = Notes::into(Arc::clone(&entries));
        let (folder, place, pod) = (folder.to_owned(), place.clone(), pod.to_owned());
        let (identity, mesh, ended) = (identity.clone(), mesh.clone(), end.clone());
        tasks.spawn(NAME, async move {
            let parts = Parts {
                folder: &folder,
                place: &place,
                strict: false,
                pod: &pod,
                identity: &identity,
                mesh: &mesh,
                // The planes write nothing to the API server.
                events: None,
                metrics,
            };
            let opened = tokio::select! {
                opened = Trail::open(parts) => opened,
                () = ended.cancelled() => return,
            };
            match opened {
                Ok(trail) => {
                    entries.open(trail.log());
                    ended.cancelled().await;
                    trail.close().await;
                }
                Err(error) => {
                    tracing::error!(%error, "there is no audit log; what would stand in it stands in this one alone");
                    entries.give_up();
                }
            }
        });
        Self { notes, tasks, end }
    }

    /// Where entries go.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// Writes and ships what it can within a second.
    pub async fn close(mut self) {
        self.end.cancel();
        self.tasks.ended(&[NAME], Instant::now() + LAST).await;
    }
}
