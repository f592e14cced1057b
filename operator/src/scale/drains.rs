//! Speaks with ingesters about their drain: begins it, resumes them, and keeps what each said last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use zen_identity::control::{self, DrainState, DrainStatus};
use zen_identity::http::{self, Peer};
use zen_pki::SpiffeId;

/// Pods that drain are asked this often.
const LOOK: Duration = Duration::from_secs(1);
/// Pods that are not ready are asked this often: one may drain because a leader before us told it to.
const RARELY: Duration = Duration::from_secs(10);

/// Which pods to speak with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// Pods by ordinal.
    pub pods: BTreeMap<u32, Pod>,
    /// Ordinals that are to drain.
    pub drain: BTreeSet<u32>,
    /// Ordinals that are to go on serving.
    pub resume: BTreeSet<u32>,
    /// Ordinals whose state matters otherwise.
    pub look: BTreeSet<u32>,
}

/// A pod of the ingester.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its UID: what an earlier pod of this name said is void.
    pub uid: String,
    /// Its address.
    pub address: IpAddr,
}

/// What a pod said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Which pod.
    pub uid: String,
    /// Its state; none when it has not answered since `since`.
    pub state: Option<DrainState>,
    /// When the state was heard, or the silence began.
    pub since: Instant,
}

/// What was heard, by ordinal.
pub type Known = BTreeMap<u32, Heard>;

/// The control API of a pod, as far as drains go.
pub trait Control: Clone + Send + Sync + 'static {
    /// Begins a drain; none when the pod does not answer.
    fn drain(&self, pod: IpAddr) -> impl Future<Output = Option<DrainStatus>> + Send;
    /// Ends a drain.
    fn resume(&self, pod: IpAddr) -> impl Future<Output = Option<DrainStatus>> + Send;
    /// How far it is.
    fn status(&self, pod: IpAddr) -> impl Future<Output = Option<DrainStatus>> + Send;
}

/// Mutual TLS to the pods' control port.
#[derive(Clone, Debug)]
pub struct Mtls {
    /// Speaks as the operator.
    pub client: http::Client,
    /// Whom it expects.
    pub ingester: SpiffeId,
    /// [`control::PORT`] outside of tests.
    pub port: u16,
}

impl Mtls {
    fn peer(&self, pod: IpAddr) -> Peer {
        Peer { address: (pod, self.port).into(), id: self.ingester.clone() }
    }
}

impl Control for Mtls {
    async fn drain(&self, pod: IpAddr) -> Option<DrainStatus> {
        heard(pod, self.client.post(&self.peer(pod), control::DRAIN, &serde_json::json!({})).await)
    }

    async fn resume(&self, pod: IpAddr) -> Option<DrainStatus> {
        heard(pod, self.client.delete(&self.peer(pod), control::DRAIN).await)
    }

    async fn status(&self, pod: IpAddr) -> Option<DrainStatus> {
        heard(pod, self.client.get(&self.peer(pod), control::DRAIN).await)
    }
}

fn heard(pod: IpAddr, answer: Result<DrainStatus, http::Error>) -> Option<DrainStatus> {
    answer
        .inspect_err(|error| tracing::debug!(%pod, category = error.category(), %error, "no word about its drain"))
        .ok()
}

/// Carries out the orders until nobody gives any. What is heard goes to `known`.
pub async fn run<C: Control>(control: C, mut orders: watch::Receiver<Orders>, known: watch::Sender<Known>) {
    loop {
        let now = orders.borrow_and_update().clone();
        let heard = ask(&control, &now).await;
        known.send_if_modified(|known| {
            let next = merge(known, &now, &heard);
            std::mem::replace(known, next.clone()) != next
        });
        let pause = if !now.drain.is_empty() || !now.resume.is_empty() {
            LOOK
        } else if now.look.is_empty() {
            // Until there is something to ask.
            match orders.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        } else if known.borrow().iter().any(|(ordinal, heard)| now.look.contains(ordinal) && is_moving(heard)) {
            LOOK
        } else {
            RARELY
        };
        tokio::select! {
            () = time::sleep(pause) => {}
            changed = orders.changed() => if changed.is_err() { return },
        }
    }
}

/// One that drained is asked as often: should it start anew, it takes events again, and its volume is not to be given up on
/// an old word.
fn is_moving(heard: &Heard) -> bool {
    heard.state != Some(DrainState::Serving)
}

async fn ask<C: Control>(control: &C, orders: &Orders) -> BTreeMap<u32, Option<DrainState>> {
    let mut asked = JoinSet::new();
    let ordinals: BTreeSet<u32> = orders.drain.iter().chain(&orders.resume).chain(&orders.look).copied().collect();
    for ordinal in ordinals {
        let Some(Pod { address, .. }) = orders.pods.get(&ordinal) else { continue };
        let (control, address) = (control.clone(), *address);
        let (drain, resume) = (orders.drain.contains(&ordinal), orders.resume.contains(&ordinal));
        asked.spawn(async move {
            let status = match (drain, resume) {
                (true, _) => control.drain(address).await,
                (_, true) => control.resume(address).await,
                _ => control.status(address).await,
            };
            if let Some(DrainStatus { state, waiting, dead_letters, claims }) = status
                && state != DrainState::Serving
            {
                tracing::info!(ordinal, ?state, waiting, dead_letters, claims, "drain");
            }
            (ordinal, status.map(|status| status.state))
        });
    }
    let mut heard = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        heard.extend(answer.ok());
    }
    heard
}

fn merge(known: &Known, orders: &Orders, heard: &BTreeMap<u32, Option<DrainState>>) -> Known {
    let mut next = Known::new();
    for (ordinal, pod) in &orders.pods {
        let before = known.get(ordinal).filter(|before| before.uid == pod.uid);
        let state = heard.get(ordinal).copied();
        let since = before.filter(|before| state.is_none_or(|state| state == before.state)).map(|before| before.since);
        match (state, before) {
            (Some(state), _) => {
                let since = since.unwrap_or_else(Instant::now);
                next.insert(*ordinal, Heard { uid: pod.uid.clone(), state, since });
            }
            (None, Some(before)) => drop(next.insert(*ordinal, before.clone())),
            (None, None) => {}
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Pods {
        states: Arc<Mutex<BTreeMap<IpAddr, DrainState>>>,
        calls: Arc<Mutex<Vec<String>>>,
    }

    impl Pods {
        fn set(&self, pod: IpAddr, state: DrainState) {
            self.states.lock().expect("lock").insert(pod, state);
        }

        fn answer(&self, call: &str, pod: IpAddr) -> Option<DrainStatus> {
            self.calls.lock().expect("lock").push(format!("{call} {pod}"));
            let state = *self.states.lock().expect("lock").get(&pod)?;
            Some(DrainStatus { state, waiting: 0, dead_letters: 0, claims: 0 })
        }
    }

    impl Control for Pods {
        async fn drain(&self, pod: IpAddr) -> Option<DrainStatus> {
            self.states.lock().expect("lock").entry(pod).and_modify(|state| {
                if *state == DrainState::Serving {
                    *state = DrainState::Draining;
                }
            });
            self.answer("drain", pod)
        }

        async fn resume(&self, pod: IpAddr) -> Option<DrainStatus> {
            self.set(pod, DrainState::Serving);
            self.answer("resume", pod)
        }

        async fn status(&self, pod: IpAddr) -> Option<DrainStatus> {
            self.answer("status", pod)
        }
    }

    fn pod(number: u8) -> (u32, Pod) {
        (number.into(), Pod { uid: format!("uid-{number}"), address: [10, 0, 0, number].into() })
    }

    async fn until(known: &mut watch::Receiver<Known>, ordinal: u32, state: Option<DrainState>) {
        known.wait_for(|known| known.get(&ordinal).is_some_and(|heard| heard.state == state)).await.expect("goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn drains_looks_and_resumes() {
        let pods = Pods::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        pods.set(address, DrainState::Serving);
        let (give, orders) = watch::channel(Orders::default());
        let (tell, mut known) = watch::channel(Known::new());
        let task = tokio::spawn(run(pods.clone(), orders, tell));
        let one = [pod(1)];
        give.send_replace(Orders { pods: one.clone().into(), drain: [1].into(), ..Orders::default() });
        until(&mut known, 1, Some(DrainState::Draining)).await;
        give.send_replace(Orders { pods: one.clone().into(), look: [1].into(), ..Orders::default() });
        pods.set(address, DrainState::Drained);
        until(&mut known, 1, Some(DrainState::Drained)).await;
        give.send_replace(Orders { pods: one.into(), resume: [1].into(), ..Orders::default() });
        until(&mut known, 1, Some(DrainState::Serving)).await;
        drop(give);
        task.await.expect("ends");
        let calls = pods.calls.lock().expect("lock").clone();
        assert!(calls[0].starts_with("drain") && calls.contains(&"status 10.0.0.1".to_owned()), "{calls:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_drained_and_started_anew_is_soon_known_to_serve() {
        let pods = Pods::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        pods.set(address, DrainState::Drained);
        let (give, orders) = watch::channel(Orders::default());
        let (tell, mut known) = watch::channel(Known::new());
        let task = tokio::spawn(run(pods.clone(), orders, tell));
        give.send_replace(Orders { pods: [pod(1)].into(), look: [1].into(), ..Orders::default() });
        until(&mut known, 1, Some(DrainState::Drained)).await;
        pods.set(address, DrainState::Serving);
        let soon = until(&mut known, 1, Some(DrainState::Serving));
        time::timeout(LOOK * 2, soon).await.expect("before its volume is given up");
        drop(give);
        task.await.expect("ends");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_measured_and_an_earlier_pods_word_is_void() {
        let pods = Pods::default();
        let (give, orders) = watch::channel(Orders::default());
        let (tell, mut known) = watch::channel(Known::new());
        let task = tokio::spawn(run(pods.clone(), orders, tell));
        give.send_replace(Orders { pods: [pod(1)].into(), look: [1].into(), ..Orders::default() });
        until(&mut known, 1, None).await;
        let since = known.borrow()[&1].since;
        time::sleep(Duration::from_mins(1)).await;
        assert_eq!(known.borrow()[&1].since, since, "the same silence");
        let (ordinal, made_again) = pod(1);
        let made_again = Pod { uid: "other".to_owned(), ..made_again };
        give.send_replace(Orders { pods: [(ordinal, made_again)].into(), ..Orders::default() });
        known.wait_for(Known::is_empty).await.expect("goes on");
        drop(give);
        task.await.expect("ends");
    }
}
