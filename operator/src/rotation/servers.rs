//! What is presented to those who know a server by its name: sources at the intake, pods at the identity service. It is looked at for
//! `kubectl zen certs` alone, and decides nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use zen_identity::Component;
use zen_pki::{Identity, Presented};

use super::desk::few;
use super::field::{Field, Pod};

/// While something is exchanged there is a step every few seconds.
const PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, Default)]
pub(super) struct Servers {
    looked: Option<Instant>,
    /// By UID of the pod.
    met: HashMap<Arc<str>, (Pod, Presented)>,
}

impl Servers {
    /// Asks every one of them, unless that was just done; who does not answer is remembered as it was.
    pub(super) async fn meet<F: Field>(&mut self, field: &F, identity: &Identity) {
        if self.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
            return;
        }
        let pods = field.pods().into_iter().filter(|pod| pod.component == Component::Ingester);
        let pods: Vec<_> = pods.chain(field.operators()).collect();
        self.met.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        let asked = pods.into_iter().map(|pod| async move {
            let presented = match pod.component {
                Component::Operator => field.greet(&pod, identity).await,
                _ => field.intake(&pod, identity).await,
            };
            (pod, presented)
        });
        for (pod, presented) in few(asked.collect()).await {
            match presented {
                Ok(presented) => drop(self.met.insert(Arc::clone(&pod.uid), (pod, presented))),
                Err(error) => tracing::debug!(pod = &*pod.name, %error, "what a server presents is not known"),
            }
        }
        self.looked = Some(Instant::now());
    }

    /// They are asked with the next look, however soon that is.
    pub(super) fn again(&mut self) {
        self.looked = None;
    }

    /// What each presented last.
    pub(super) fn presented(&self) -> impl Iterator<Item = &(Pod, Presented)> {
        self.met.values()
    }
}
