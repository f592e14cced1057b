//! One step after another: what is seen, what is decided, what is stored, what is done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use zen_model::Timestamp;
use zen_pki::Identity;
use zen_rotation::record::{self, Active, Answer, Request, State};
use zen_rotation::{
    Member, Newcomers, Observed, Phase, Probes, Rate, Step, Subject, Which, Work, decide, inventory, is_raised,
};

use super::announce::announce;
use super::field::{Field, Pod, Presented, Unheard};
use super::{Parts, rates};
use crate::identity::{Next, NextError};
use crate::{Object, writer};

/// While nothing goes on, requests aside: certificates are looked at this often.
const LOOK: Duration = Duration::from_mins(1);
/// Until a store shows what was written.
const ECHO: Duration = Duration::from_secs(1);
/// Pods that are met at one time.
const AT_ONCE: usize = 16;
/// A pod that does not answer is asked so often in a round of probes.
const TRIES: usize = 3;

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Write(#[from] writer::Error),
    #[error(transparent)]
    Issuer(NextError),
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
    probes: Probes,
    /// What failed last, in words.
    detail: String,
    /// How requests stood at the beginning of the phase, by UID.
    since: Option<HashMap<Arc<str>, Rate>>,
    inventory: inventory::Inventory,
}

/// What came of a round of probes.
enum Round {
    Passed,
    /// It says nothing about the new: somebody did not answer.
    Open(String),
    Failed(String),
}

impl<F: Field> Desk<F> {
    pub(super) fn new(parts: Parts<F>) -> Self {
        let (met, inventory) = (HashMap::new(), inventory::Inventory::default());
        Self { parts, state: None, met, probes: Probes::default(), detail: String::new(), since: None, inventory }
    }

    /// Does the next thing; how long nothing has to be done then.
    pub(super) async fn step(&mut self) -> Result<Duration, Error> {
        let Some(state) = self.state.clone() else { return self.begin().await };
        // The pods are met as the operator, which has to have a certificate.
        let identity = self.parts.service.identity().await;
        let next = self.parts.service.next();
        let now = self.parts.service.now();
        if let Some(request) = self.request(&state) {
            let before = rates::total(self.rates().await.into_values());
            let old = old(&request.subject, &next).filter(|_| self.parts.service.rotates());
            return self.answer(state.answered(&request, old, before, now)).await;
        }
        match &state.active {
            Some(active) => self.go_on(&state, active, &next, &identity).await,
            None => self.idle(&state, &next, &identity).await,
        }
    }

    /// What is stored is where it goes on.
    async fn begin(&mut self) -> Result<Duration, Error> {
        let seen = self.parts.service.rotation().borrow().clone();
        if !seen.synced {
            return Ok(ECHO);
        }
        let text = seen.object.as_ref().and_then(|object| object.data.as_ref()?.get(record::STATE).cloned());
        let state = match text.as_deref().map(serde_json::from_str::<State>) {
            None => State::default(),
            Some(Ok(state)) => state,
            Some(Err(error)) => {
                // Written over, an exchange that goes on would be forgotten.
                tracing::error!(%error, "the state of rotations cannot be read: ConfigMap {}", record::CONFIG_MAP);
                return Ok(LOOK);
            }
        };
        self.parts.metrics.state(&state);
        if seen.object.is_none() {
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
        }
        self.set(next);
        Ok(Duration::ZERO)
    }

    async fn idle(&mut self, state: &State, next: &Next, identity: &Identity) -> Result<Duration, Error> {
        if next.is_there {
            // Of a rotation that is over.
            self.parts.service.drop_next(&self.parts.writer).await?;
            return Ok(ECHO);
        }
        let now = self.parts.service.now();
        let subject = Subject::IssuingCa(None);
        if self.parts.service.rotates()
            && let Some((old, _)) = next.issuer.as_ref().filter(|(_, validity)| now >= validity.renew_at())
            && let before = rates::total(self.rates().await.into_values())
            && let Some(due) = state.scheduled(&subject, old, before, now)
        {
            return self.answer(due).await;
        }
        self.meet(identity).await;
        self.publish(next, None).await?;
        Ok(LOOK)
    }

    async fn go_on(
        &mut self,
        state: &State,
        active: &Active,
        next: &Next,
        identity: &Identity,
    ) -> Result<Duration, Error> {
        let pods = self.meet(identity).await;
        self.publish(next, Some(active)).await?;
        let observed = self.observe(active, next, &pods).await;
        let now = observed.now;
        match decide(&active.rotation, &observed) {
            Step::Over => Ok(LOOK),
            Step::Wait(until) => Ok(until.since(now)),
            Step::Enter(phase) => {
                let new = next.coming.as_ref().map(|(new, _)| new.as_str());
                let new = new.filter(|_| active.rotation.phase == Phase::Planned);
                let entered = state.entered(phase.clone(), new, &std::mem::take(&mut self.detail), now);
                self.store(&entered).await?;
                (self.probes, self.since) = (Probes::default(), None);
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
            Step::Do(work, until) => {
                self.work(&work, active, &pods, identity).await?;
                Ok(until.since(now))
            }
        }
    }

    /// How things are, for the decision.
    async fn observe(&mut self, active: &Active, next: &Next, pods: &[Pod]) -> Observed {
        let now = self.parts.service.now();
        let issuer = next.issuer.as_ref().map(|(issuer, _)| issuer.as_str());
        let coming = next.coming.as_ref().map(|(next, _)| next.as_str()).filter(|next| *next != active.old);
        let new = active.new.as_deref();
        let is_promoted = new.is_some() && issuer == new;
        let trust = if is_promoted {
            Which::New
        } else if coming.is_some() && (new.is_none() || coming == new) {
            // Whoever trusts the root trusts what it signed.
            Which::Both
        } else {
            Which::Old
        };
        let member = |pod: &Pod| {
            let presents = self.met.get(&pod.uid).and_then(|met| met.issuer.as_deref());
            Member { ready: pod.ready, trusts: trust, uses_new: new.is_some() && presents == new }
        };
        let members = pods.iter().map(|pod| (pod.name.to_string(), member(pod))).collect();
        let use_new = is_promoted || (active.everybody() && coming.is_some());
        let rates = self.rates().await;
        let since = self.since.get_or_insert_with(|| rates.clone());
        let passed = rates.iter().map(|(uid, rate)| rates::between(since.get(uid).copied().unwrap_or_default(), *rate));
        let passed = rates::total(passed);
        let errors_raised = is_raised(active.before, passed);
        if errors_raised {
            self.detail = format!("{} of {} requests failed", passed.failures, passed.requests);
        }
        Observed {
            now,
            is_made: coming.is_some(),
            newcomers: Newcomers { trust, use_new },
            members,
            probes: self.probes,
            errors_raised,
            // What the old has signed verifies under the same root, and who holds it is asked to exchange it.
            old_until: None,
            aborted: active.aborted,
        }
    }

    async fn work(&mut self, work: &Work, active: &Active, pods: &[Pod], identity: &Identity) -> Result<(), Error> {
        let (service, writer) = (&self.parts.service, &self.parts.writer);
        match work {
            Work::Make => service.make_next(writer).await?,
            Work::Trust(Which::New) => service.promote_next(writer).await?,
            Work::Trust(Which::Old) => service.drop_next(writer).await?,
            // The phase that is stored says it, and pods ask whose certificate they are to have.
            Work::Trust(Which::Both) | Work::Use { .. } => {}
            Work::Probe => {
                let (label, detail) = match self.probe(active, pods, identity).await {
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
        }
        Ok(())
    }

    /// Real handshakes: with each that uses the new, whose chain and times are checked, and with everybody else as one that
    /// uses it.
    async fn probe(&self, active: &Active, pods: &[Pod], identity: &Identity) -> Round {
        let service = &self.parts.service;
        let as_new = match service.as_of_next() {
            Ok(as_new) => as_new,
            Err(error) => return Round::Open(error.to_string()),
        };
        let now = service.now();
        // One of the user's own has another issuer, and none that this is about.
        let serves = self.parts.workloads.borrow().content.as_ref().is_none_or(|all| all.intake.tls_secret.is_empty());
        let is_in = |pod: &Pod| active.canary().is_none_or(|canary| canary.contains(&*pod.name));
        let rounds = pods.iter().filter(|pod| pod.ready).cloned().map(|pod| {
            let (field, as_new) = (self.parts.field.clone(), as_new.clone());
            let user = is_in(&pod).then(|| (identity.clone(), active.new.clone(), serves));
            async move { probe(&field, &pod, user, &as_new, now).await }
        });
        let rounds = few(rounds.collect()).await;
        rounds.into_iter().fold(Round::Passed, |worst, round| match (worst, round) {
            (failed @ Round::Failed(_), _) | (_, failed @ Round::Failed(_)) => failed,
            (open @ Round::Open(_), _) | (_, open @ Round::Open(_)) => open,
            (Round::Passed, Round::Passed) => Round::Passed,
        })
    }

    /// Meets every pod; who does not answer is remembered as it was.
    async fn meet(&mut self, identity: &Identity) -> Vec<Pod> {
        let pods = self.parts.field.pods();
        let met = pods.iter().cloned().map(|pod| {
            let (field, identity) = (self.parts.field.clone(), identity.clone());
            async move { (pod.uid.clone(), field.greet(&pod, &identity).await) }
        });
        let met = few(met.collect()).await;
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
    async fn publish(&mut self, next: &Next, active: Option<&Active>) -> Result<(), Error> {
        let pods = self.parts.field.pods();
        let inventory = super::certificates::inventory(&self.parts.service, &pods, &self.met, next, active);
        if inventory == self.inventory {
            return Ok(());
        }
        let text = serde_json::to_string(&inventory).unwrap_or_default();
        self.write(inventory::CONFIG_MAP, inventory::CERTIFICATES, &text).await?;
        self.inventory = inventory;
        Ok(())
    }

    async fn store(&self, state: &State) -> Result<(), Error> {
        let text = serde_json::to_string(state).unwrap_or_default();
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

/// Fingerprint of what is to be exchanged; none where that is not for us.
fn old<'a>(subject: &Subject, next: &'a Next) -> Option<&'a str> {
    match subject {
        Subject::IssuingCa(None) => next.issuer.as_ref().map(|(issuer, _)| issuer.as_str()),
        Subject::IssuingCa(Some(_)) | Subject::Root | Subject::IntakeTls | Subject::SigningKeys(_) => None,
    }
}

/// What comes of all of these, a few at one time.
async fn few<T, W: Future<Output = T>>(work: Vec<W>) -> Vec<T> {
    stream::iter(work).buffer_unordered(AT_ONCE).collect().await
}

/// One pod: as one that uses the new, where it does (`user`), and as one that meets who does.
async fn probe<F: Field>(
    field: &F,
    pod: &Pod,
    user: Option<(Identity, Option<String>, bool)>,
    as_new: &Identity,
    now: Timestamp,
) -> Round {
    if let Some((identity, new, serves)) = user {
        let judge = |met: Result<Presented, Unheard>| match met {
            Ok(met) if met.issuer != new => Round::Open(format!("{} presents the old", pod.name)),
            Ok(met) if met.validity.from <= now && now < met.validity.until => Round::Passed,
            Ok(_) => Round::Failed(format!("{}: its certificate is of another time", pod.name)),
            Err(Unheard::Away(error)) => Round::Open(format!("{}: {error}", pod.name)),
            Err(Unheard::Refused(error)) => Round::Failed(format!("{}: {error}", pod.name)),
        };
        let met = judge(greet(field, pod, &identity).await);
        let visited = if serves { field.visit(pod).await } else { None };
        match (met, visited) {
            // Who may reach the intake is the network's to say: no answer says nothing here.
            (Round::Passed, None | Some(Err(Unheard::Away(_)))) => {}
            (Round::Passed, Some(visited)) => match judge(visited) {
                Round::Passed => {}
                other => return other,
            },
            (other, _) => return other,
        }
    }
    match greet(field, pod, as_new).await {
        Ok(_) => Round::Passed,
        Err(Unheard::Away(error)) => Round::Open(format!("{}: {error}", pod.name)),
        Err(Unheard::Refused(error)) => Round::Failed(format!("{} does not take the new: {error}", pod.name)),
    }
}

/// Once more where there is no handshake: a connection may just have broken.
async fn greet<F: Field>(field: &F, pod: &Pod, identity: &Identity) -> Result<Presented, Unheard> {
    let mut last = field.greet(pod, identity).await;
    for _ in 1..TRIES {
        if last.is_ok() {
            break;
        }
        last = field.greet(pod, identity).await;
    }
    last
}
