//! One step after another: what is seen, what is decided, what is stored, what is done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use zen_pki::{Identity, Presented};
use zen_rotation::record::{self, Active, Answer, Request, State};
use zen_rotation::{Observed, Phase, Probes, Rate, Step, Subject, Work, decide, inventory, is_raised};

use super::announce::announce;
use super::certificates::{self, Met};
use super::field::{Field, Pod};
use super::probe::Round;
use super::servers::Servers;
use super::subject::{self, Look, Scene};
use super::synthetic::Synthetic;
use super::told::Told;
use super::{Parts, rates};
use crate::enroll::rotate;
use crate::identity::NextError;
use crate::{Object, writer};

/// While nothing goes on, requests aside: certificates are looked at this often.
const LOOK: Duration = Duration::from_mins(1);
/// Until a store shows what was written.
const ECHO: Duration = Duration::from_secs(1);
/// Pods that are met at one time.
const AT_ONCE: usize = 16;

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Write(#[from] writer::Error),
    #[error(transparent)]
    Issuer(NextError),
    #[error("failed to read what the planes mount: {0}")]
    Read(#[from] kube::Error),
    #[error("failed to read what the planes mount: no answer in time")]
    Silent,
    #[error(transparent)]
    Member(rotate::Error),
}

impl From<rotate::Error> for Error {
    fn from(error: rotate::Error) -> Self {
        match error {
            rotate::Error::Write(error) => Self::Write(error),
            error @ rotate::Error::Read(_) => Self::Member(error),
        }
    }
}

impl From<NextError> for Error {
    fn from(error: NextError) -> Self {
        match error {
            NextError::Write(error) => Self::Write(error),
            error => Self::Issuer(error),
        }
    }
}

pub(super) struct Desk<F> {
    parts: Parts<F>,
    /// As it was stored last; none before the first look.
    state: Option<State>,
    /// What each pod presented last, by UID.
    met: HashMap<Arc<str>, Presented>,
    servers: Servers,
    /// Who has shown that it trusts the new, by UID.
    took: HashSet<Arc<str>>,
    probes: Probes,
    /// What failed last, in words.
    detail: String,
    /// How requests stood at the beginning of the phase, by UID.
    since: Option<HashMap<Arc<str>, Rate>>,
    /// What each pod said last of its signing keys, by UID.
    told: HashMap<Arc<str>, Told>,
    /// Signatures that each did not take when the phase began, by UID.
    wrong: HashMap<Arc<str>, u64>,
    inventory: inventory::Inventory,
    synthetic: Synthetic,
}

impl<F: Field> Desk<F> {
    pub(super) fn new(parts: Parts<F>) -> Self {
        Self {
            parts,
            state: None,
            met: HashMap::new(),
            servers: Servers::default(),
            took: HashSet::new(),
            probes: Probes::default(),
            detail: String::new(),
            since: None,
            told: HashMap::new(),
            wrong: HashMap::new(),
            inventory: inventory::Inventory::default(),
            synthetic: Synthetic::default(),
        }
    }

    /// Does the next thing; how long nothing has to be done then.
    pub(super) async fn step(&mut self) -> Result<Duration, Error> {
        let Some(state) = self.state.clone() else { return self.begin().await };
        // The pods are met as the operator, which has to have a certificate.
        let identity = self.parts.service.identity().await;
        let now = self.parts.service.now();
        if let Some(next) = state.expired(now) {
            self.store(&next).await?;
            self.set(next);
            return Ok(Duration::ZERO);
        }
        if let Some(request) = self.request(&state) {
            let before = rates::total(self.rates().await.into_values());
            let old = self.scene(&[], &identity).old(&request.subject).await;
            let old = old.as_deref().map_err(String::as_str);
            return self.answer(state.answered(&request, old, before, now)).await;
        }
        match &state.active {
            Some(active) => self.go_on(&state, active, &identity).await,
            None => self.idle(&state, &identity).await,
        }
    }

    /// What is stored is where it goes on.
    async fn begin(&mut self) -> Result<Duration, Error> {
        let seen = self.parts.service.rotation().borrow().clone();
        if !seen.synced {
            return Ok(ECHO);
        }
        let text = seen.object.as_ref().and_then(|object| object.data.as_ref()?.get(record::STATE).cloned());
        let mut state = match text.as_deref().map(serde_json::from_str::<State>) {
            None => State::default(),
            Some(Ok(state)) => state,
            Some(Err(error)) => {
                // Written over, an exchange that goes on would be forgotten.
                tracing::error!(%error, "the state of rotations cannot be read: ConfigMap {}", record::CONFIG_MAP);
                return Ok(LOOK);
            }
        };
        if state.signing.is_none() {
            state.signing = subject::signing::adopted(&self.parts).await?;
        }
        self.parts.metrics.state(&state);
        if seen.object.is_none() || state.signing.is_some() {
            self.store(&state).await?;
        }
        self.state = Some(state);
        Ok(Duration::ZERO)
    }

    /// What somebody asks for and has no answer yet.
    fn request(&self, state: &State) -> Option<Request> {
        let object = self.parts.service.rotation().borrow().object.clone()?;
        let text = object.data.as_ref()?.get(record::REQUEST)?;
        let request: Request = serde_json::from_str(text)
            .inspect_err(|error| tracing::warn!(%error, "a request for a rotation cannot be read"))
            .ok()?;
        state.answer.as_ref().is_none_or(|answer| answer.id != request.id).then_some(request)
    }

    async fn answer(&mut self, next: State) -> Result<Duration, Error> {
        self.store(&next).await?;
        let before = self.state.as_ref().and_then(|state| state.answer.as_ref());
        if let Some(Answer { id, accepted, message }) = next.answer.as_ref().filter(|answer| before != Some(answer)) {
            tracing::info!(request = id, accepted, message, "a request for a rotation");
            let object = format!("ConfigMap/{}/{}", self.parts.namespace, record::CONFIG_MAP);
            self.parts.service.did(&object, &format!("request {id}: {message}"), "RotationProgressing");
        }
        if let Some(active) = next.active.as_ref().filter(|active| active.rotation.phase == Phase::Planned) {
            announce(&self.parts.service, &self.parts.writer, &self.parts.namespace, active).await;
            self.took.clear();
        }
        self.set(next);
        Ok(Duration::ZERO)
    }

    async fn idle(&mut self, state: &State, identity: &Identity) -> Result<Duration, Error> {
        let scene = self.scene(&[], identity);
        if scene.clean().await? | self.synthetic.put_away(&self.parts).await? {
            return Ok(ECHO);
        }
        let scene = self.scene(&[], identity);
        let now = self.parts.service.now();
        let due = scene.due().await;
        for (subject, old) in due {
            let before = rates::total(self.rates().await.into_values());
            if let Some(due) = state.scheduled(&subject, &old, before, now) {
                return self.answer(due).await;
            }
        }
        self.meet(identity).await;
        self.publish(identity, None).await?;
        let ends = state.next_end().map(|end| end.since(self.parts.service.now()).max(ECHO));
        Ok(ends.unwrap_or(LOOK).min(LOOK))
    }

    async fn go_on(&mut self, state: &State, active: &Active, identity: &Identity) -> Result<Duration, Error> {
        if let Subject::SigningKeys(Some(cluster)) = &active.rotation.subject {
            let outcome = subject::member::rotate(&self.parts, active, cluster).await?;
            self.detail = outcome.detail;
            return self.enter(state, active, outcome.phase, outcome.new.as_deref()).await;
        }
        self.synthetic.follow(&self.parts, &active.rotation.phase).await?;
        let pods = self.meet(identity).await;
        if active.rotation.subject == Subject::SigningKeys(None) {
            self.hear(&pods).await;
        }
        self.publish(identity, Some(active)).await?;
        let look = self.scene(&pods, identity).look(active).await?;
        let new = look.new.clone().filter(|_| active.rotation.phase == Phase::Planned);
        let observed = self.observe(active, look).await;
        let now = observed.now;
        match decide(&active.rotation, &observed) {
            Step::Over => Ok(LOOK),
            Step::Wait(until) => Ok(until.since(now)),
            Step::Enter(phase) => self.enter(state, active, phase, new.as_deref()).await,
            Step::Do(work, until) => {
                match work {
                    Work::Probe => self.probe(active, &pods, identity).await,
                    work => self.scene(&pods, identity).work(active, &work).await?,
                }
                Ok(until.since(now))
            }
        }
    }

    /// Stores that it is in another phase, and says so.
    async fn enter(
        &mut self,
        state: &State,
        active: &Active,
        phase: Phase,
        new: Option<&str>,
    ) -> Result<Duration, Error> {
        let now = self.parts.service.now();
        let entered = state.entered(phase.clone(), new, &std::mem::take(&mut self.detail), now);
        self.store(&entered).await?;
        (self.probes, self.since) = (Probes::default(), None);
        self.servers.again();
        self.wrong = self.told.iter().map(|(uid, told)| (Arc::clone(uid), told.wrong)).collect();
        let mut shown = active.clone();
        shown.rotation = shown.rotation.enter(phase, now);
        let detail = entered.active.as_ref().map(|active| active.detail.clone());
        let detail = detail.or_else(|| entered.ended.first().map(|ended| ended.detail.clone()));
        shown.detail = detail.unwrap_or_default();
        announce(&self.parts.service, &self.parts.writer, &self.parts.namespace, &shown).await;
        if shown.rotation.is_over() {
            self.parts.metrics.ended(&shown.rotation.subject, shown.rotation.reason());
        }
        self.set(entered);
        Ok(Duration::ZERO)
    }

    /// How things are, for the decision.
    async fn observe(&mut self, active: &Active, look: Look) -> Observed {
        let rates = self.rates().await;
        let since = self.since.get_or_insert_with(|| rates.clone());
        let passed = rates.iter().map(|(uid, rate)| rates::between(since.get(uid).copied().unwrap_or_default(), *rate));
        let passed = rates::total(passed);
        // What the old is kept for by then may take weeks, in which requests fail for other reasons.
        let errors_raised = active.rotation.phase != Phase::Overlap && is_raised(active.before, passed);
        if errors_raised {
            self.detail = format!("{} of {} requests failed", passed.failures, passed.requests);
        }
        if let Some(lost) = &look.lost {
            self.detail.clone_from(lost);
        }
        self.took = look.took;
        Observed {
            now: self.parts.service.now(),
            is_made: look.is_made,
            newcomers: look.newcomers,
            members: look.members,
            probes: self.probes,
            errors_raised,
            old_until: look.old_until,
            aborted: active.aborted || look.lost.is_some(),
        }
    }

    /// A round of probes, and what is remembered of it.
    async fn probe(&mut self, active: &Active, pods: &[Pod], identity: &Identity) {
        let mut synthetic = std::mem::take(&mut self.synthetic);
        let scene = self.scene(pods, identity);
        let round = match scene.probe(active).await {
            // Where handshakes fail an event says nothing more.
            Round::Passed => synthetic.round(&scene, active).await,
            round => round,
        };
        self.synthetic = synthetic;
        let (label, detail) = match round {
            Round::Passed => {
                self.probes.passed += 1;
                self.detail.clear();
                ("passed", String::new())
            }
            Round::Open(detail) => {
                self.probes.passed = 0;
                self.detail.clone_from(&detail);
                ("open", detail)
            }
            Round::Failed(detail) => {
                self.probes.failed = true;
                self.detail.clone_from(&detail);
                ("failed", detail)
            }
        };
        self.parts.metrics.probed(label);
        tracing::info!(result = label, detail, passed = self.probes.passed, "a round of probes");
    }

    fn scene<'a>(&'a self, pods: &'a [Pod], identity: &'a Identity) -> Scene<'a, F> {
        let Self { parts, met, took, told, wrong, .. } = self;
        Scene { parts, met, took, pods, identity, state: self.state.as_ref(), told, wrong }
    }

    /// What pods say of their signing keys; who does not answer is remembered as it was.
    async fn hear(&mut self, pods: &[Pod]) {
        let heard = pods.iter().cloned().map(|pod| {
            let field = self.parts.field.clone();
            async move { Some((pod.uid.clone(), field.told(&pod).await?)) }
        });
        let heard = few(heard.collect()).await;
        self.told.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        for (uid, told) in heard.into_iter().flatten() {
            self.wrong.entry(Arc::clone(&uid)).or_insert(told.wrong);
            self.told.insert(uid, told);
        }
    }

    /// Meets every pod; who does not answer is remembered as it was.
    async fn meet(&mut self, identity: &Identity) -> Vec<Pod> {
        let pods = self.parts.field.pods();
        let field = self.parts.field.clone();
        let met = pods.iter().cloned().map(|pod| {
            let (field, identity) = (self.parts.field.clone(), identity.clone());
            async move { (pod.uid.clone(), field.greet(&pod, &identity).await) }
        });
        let (met, ()) = tokio::join!(few(met.collect()), self.servers.meet(&field, identity));
        self.met.retain(|uid, _| pods.iter().any(|pod| pod.uid == *uid));
        for (uid, presented) in met {
            match presented {
                Ok(presented) => drop(self.met.insert(uid, presented)),
                Err(error) => tracing::debug!(uid = &*uid, %error, "a pod was not met"),
            }
        }
        pods
    }

    async fn rates(&self) -> HashMap<Arc<str>, Rate> {
        let rates = self.parts.field.pods().into_iter().map(|pod| {
            let field = self.parts.field.clone();
            async move { Some((pod.uid.clone(), field.rate(&pod).await?)) }
        });
        few(rates.collect()).await.into_iter().flatten().collect()
    }

    /// For `kubectl zen certs`.
    async fn publish(&mut self, identity: &Identity, active: Option<&Active>) -> Result<(), Error> {
        let (pods, next) = (self.parts.field.pods(), self.parts.service.next());
        let clusters = self.parts.clusters.borrow().clone().unwrap_or_default();
        let met = Met {
            pods: &pods,
            presented: &self.met,
            servers: &self.servers,
            own: (self.parts.writer.instance(), identity.presented()),
            own_intake: self.parts.has_own_intake(),
        };
        let inventory = certificates::inventory(&self.parts.service, &met, &next, &clusters, active);
        if inventory == self.inventory {
            return Ok(());
        }
        let text = serde_json::to_string(&inventory).unwrap_or_default();
        self.write(inventory::CONFIG_MAP, inventory::CERTIFICATES, &text).await?;
        self.inventory = inventory;
        Ok(())
    }

    async fn store(&self, state: &State) -> Result<(), Error> {
        let text = serde_json::to_string(&state.stored()).unwrap_or_default();
        self.write(record::CONFIG_MAP, record::STATE, &text).await
    }

    async fn write(&self, name: &str, key: &str, text: &str) -> Result<(), Error> {
        let object = Object::new::<ConfigMap>(Some(&self.parts.namespace), name, json!({"data": {key: text}}));
        let object = object.component("operator");
        let owner = self.parts.workloads.borrow().owner();
        let object = owner.as_ref().map_or_else(|| object.clone(), |owner| object.clone().owned_by(owner));
        // Asked for anew: what a store shows may be older than what was written last.
        self.parts.writer.apply(&object, None).await?;
        Ok(())
    }

    fn set(&mut self, state: State) {
        self.parts.metrics.state(&state);
        self.state = Some(state);
    }
}

/// What comes of all of these, a few at one time.
pub(super) async fn few<T, W: Future<Output = T>>(work: Vec<W>) -> Vec<T> {
    stream::iter(work).buffer_unordered(AT_ONCE).collect().await
}
