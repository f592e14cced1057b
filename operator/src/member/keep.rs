//! What the leader of a member does: one step after another, each stored before the next.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::core::ApiResource;
use kube::{Api, Resource as _};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use zen_enroll::{Stamp, bundle};
use zen_identity::Component;
use zen_model::Timestamp;
use zen_model::reason::{EnrollRefusal, TrustRefusal};
use zen_pki::issuer_request;

use super::decide::{Bundle, NONE, SYNC, Step, decide};
use super::hub::{Error as HubError, Hub};
use super::look::{View, look};
use super::objects::{self, Objects};
use super::state::{Agent, Purpose, usable};
use super::{AGENT, Inner, Leads, PENDING, answer, pins};
use crate::identity::{ISSUER, Seen, administered, follow};
use crate::object::Present;
use crate::writer::{Error as WriteError, Notice, Requeue};
use crate::{Object, names};

/// Reading a few objects takes milliseconds.
const READ: Duration = Duration::from_secs(10);
/// After something that only people can mend, and after a refusal of the hub.
const BLOCKED: Duration = Duration::from_mins(1);
/// An Event is written within this, or not.
const EVENT: Duration = Duration::from_secs(5);

/// Why a step was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The API server was asked.
    #[error("failed to read the Secrets of this member: {0}")]
    Read(#[from] kube::Error),
    /// There was no answer in time.
    #[error("failed to read the Secrets of this member: no answer within {} s", READ.as_secs())]
    Slow,
    /// It did not take a write.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A key could not be made.
    #[error(transparent)]
    Pki(#[from] zen_pki::Error),
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
}

/// What to do after a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Again,
    Wait(Duration),
}

pub(super) struct Keeper<'a> {
    inner: &'a Inner,
    leads: &'a Leads<'a>,
    /// A bundle that the hub refused, and until when it is left alone.
    held: Option<(Stamp, Timestamp)>,
    /// When the hub is asked again.
    ask_at: Timestamp,
    /// Questions to the hub that had no answer, one after another.
    unanswered: u32,
    failures: u32,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(inner: &'a Inner, leads: &'a Leads<'a>) -> Self {
        Self { inner, leads, held: None, ask_at: Timestamp(0), unanswered: 0, failures: 0 }
    }

    pub(super) async fn until_enrolled(mut self) {
        self.run(true).await;
    }

    pub(super) async fn forever(mut self) {
        self.run(false).await;
    }

    async fn run(&mut self, until_enrolled: bool) {
        let seen = watch::Sender::new(Seen::<Secret>::default());
        let mut bundle = seen.subscribe();
        let mut workloads = self.leads.workloads.clone();
        let bundles = Api::namespaced(self.inner.client.clone(), &self.inner.namespace);
        let work = async {
            loop {
                bundle.mark_unchanged();
                workloads.mark_unchanged();
                let wait = match Box::pin(self.step(until_enrolled)).await {
                    Ok(None) => return,
                    Ok(Some(next)) => {
                        self.failures = 0;
                        match next {
                            Next::Again => continue,
                            Next::Wait(wait) => wait,
                        }
                    }
                    Err(error) => self.failed(error).await,
                };
                tokio::select! {
                    () = sleep(wait) => {}
                    // An error: nobody changes it any more.
                    Ok(()) = bundle.changed() => {}
                    Ok(()) = workloads.changed() => {}
                }
            }
        };
        tokio::select! {
            () = follow::object(bundles, bundle::SECRET, &seen) => {}
            () = work => {}
        }
    }

    async fn failed(&mut self, error: Error) -> Duration {
        self.failures = self.failures.saturating_add(1);
        match error {
            Error::Write(error) if error.requeue() == Requeue::Change => {
                self.blocked(&error.to_string()).await;
                BLOCKED
            }
            error => {
                tracing::warn!(%error, "failed to keep what this member has of its hub; trying again");
                self.stands(Some(error.to_string()));
                zen_pki::pause(Duration::ZERO, self.failures)
            }
        }
    }

    /// One step. None: this cluster is enrolled, and that was all that was asked for.
    pub(super) async fn step(&mut self, until_enrolled: bool) -> Result<Option<Next>, Error> {
        let inner = self.inner;
        let read = timeout(READ, Box::pin(Objects::read(&inner.client, &inner.namespace))).await;
        let objects = read.map_err(|_| Error::Slow)??;
        let pins = pins(&self.leads.workloads.borrow());
        let view = look(&objects, &inner.domain, &pins, self.held.as_ref(), self.ask_at, inner.now());
        if until_enrolled && view.agent.is_some() {
            return Ok(None);
        }
        if let Some(refusal) = &view.refusal {
            inner.metrics.refused(refusal.reason.code());
            self.say_refused(&objects, refusal.reason, &refusal.words).await;
        }
        let step = decide(&view.facts);
        tracing::debug!(?step, "the next step of this member");
        let needs_bundle = matches!(step, Step::NeedBundle(_));
        inner.metrics.stands(view.agent.is_some(), needs_bundle);
        if !needs_bundle && !matches!(step, Step::Blocked(_)) && view.agent.is_some() {
            self.stands(None);
        }
        Box::pin(self.take(step, &objects, view)).await.map(Some)
    }

    async fn take(&mut self, step: Step, objects: &Objects, view: View) -> Result<Next, Error> {
        let (inner, namespace) = (self.inner, &*self.inner.namespace);
        let writer = self.leads.writer;
        match (step, &view.agent) {
            (Step::MakeIdentity, _) => {
                // One that another operator makes at the same time wins or loses here; the next look reads what is there.
                if writer.create(&objects::identity(namespace, jiff::Timestamp::now())).await? {
                    tracing::info!(secret = super::MEMBER, "made the key that bundles are sealed to");
                }
            }
            (Step::PublishRecipient, _) => {
                let object = objects::recipient(namespace, &view.recipient);
                self.apply(&object, objects.recipient.as_ref().map(|there| there as _)).await?;
                tracing::info!(recipient = view.recipient, "for spec.recipient of the hub's ClusterEnrollment");
            }
            (Step::MakePending(purpose), agent) => {
                let scope = match (&purpose, &view.opened, agent) {
                    (Purpose::Bundle(_), Some(opened), _) => zen_pki::Scope::Cluster(opened.cluster.clone()),
                    (Purpose::Renewal(_), _, Some(agent)) => agent.scope(),
                    _ => return Ok(Next::Wait(BLOCKED)),
                };
                let (request, key) = issuer_request(&inner.domain, &scope)?;
                let object = objects::pending(namespace, &purpose, &request, &key);
                self.apply(&object, objects.pending.as_ref().map(|there| there as _)).await?;
            }
            (Step::Redeem, _) => return Box::pin(self.redeem(objects, &view)).await,
            (Step::ApplyTrust, Some(agent)) => {
                let object = objects::trust(namespace, agent);
                let owner = self.leads.workloads.borrow().owner();
                let object = owner.iter().fold(object, Object::owned_by);
                self.apply(&object, objects.trust.as_ref().map(|there| there as _)).await?;
            }
            (Step::ApplyIssuer, Some(agent)) => {
                let Some(pending) = &view.pending else { return Ok(Next::Again) };
                let object = objects::issuer(namespace, agent, pending);
                self.apply(&object, objects.issuer.as_ref().map(|there| there as _)).await?;
                tracing::info!(secret = ISSUER, until = %agent.issued.not_after, "the issuing CA of this member is in use");
            }
            (Step::ApplyKeys, Some(agent)) => {
                let Some(object) = objects::planes(namespace, agent) else { return Ok(Next::Wait(BLOCKED)) };
                self.apply(&object, objects.keys.as_ref().map(|there| there as _)).await?;
            }
            (Step::DropPending, _) => {
                if let Some(pending) = &objects.pending {
                    writer.delete(&ApiResource::erase::<Secret>(&()), pending).await?;
                }
            }
            (Step::Sync { renew }, Some(agent)) => return Box::pin(self.sync(objects, &view, agent, renew)).await,
            (Step::NeedBundle(why), _) => {
                self.needs_bundle(why, &view).await;
                return Ok(Next::Wait(BLOCKED));
            }
            (Step::Blocked(reason), _) => {
                self.blocked(&reason).await;
                return Ok(Next::Wait(BLOCKED));
            }
            (Step::Rest(until), _) => {
                return Ok(Next::Wait(until.since(inner.now()).clamp(Duration::from_millis(100), SYNC)));
            }
            (Step::ApplyTrust | Step::ApplyIssuer | Step::ApplyKeys | Step::Sync { .. }, None) => {
                return Ok(Next::Wait(BLOCKED));
            }
        }
        Ok(Next::Again)
    }

    async fn redeem(&mut self, objects: &Objects, view: &View) -> Result<Next, Error> {
        let (Some(opened), Some(pending)) = (&view.opened, &view.pending) else { return Ok(Next::Again) };
        let inner = self.inner;
        let asked = async {
            let resolver = inner.resolver.clone();
            let hub = Hub::new(&opened.clear.hub, &opened.roots, &inner.domain, None, resolver)?;
            let answer = hub.redeem(opened, &pending.request, || inner.now()).await?;
            answer::redeemed(opened, answer, pending, &inner.domain, inner.now())
        };
        let answer = asked.await;
        inner.metrics.asked("redeem", answer.as_ref().map_or_else(HubError::label, |_| "ok"), inner.now());
        match answer {
            Ok(agent) => {
                if answer::is_another(view.agent.as_ref(), &agent.cluster) {
                    tracing::warn!(cluster = %agent.cluster, "this cluster is another one of the hub's from now on");
                }
                self.store(objects, &agent).await?;
                tracing::info!(cluster = %agent.cluster, hub = agent.hub, until = %agent.issued.not_after, "enrolled");
                self.note(&agent, "redeemed a bundle");
                let note = format!("this cluster is {} at {}", agent.cluster, agent.hub);
                let notice = Notice { warning: false, reason: "Enrolled", action: "Enroll", note: &note };
                self.event(objects.bundle.as_ref().map(|bundle| bundle.object_ref(&())), &notice).await;
                self.heard();
                Ok(Next::Again)
            }
            Err(error @ HubError::Refused { .. }) => {
                let until = inner.now().plus(BLOCKED.mul_f64(0.75 + fastrand::f64() / 2.0));
                self.held = Some((opened.stamp.clone(), until));
                let reason = error.refusal();
                inner.metrics.refused(reason.map_or("Other", EnrollRefusal::code));
                match reason {
                    Some(reason) => self.say_refused(objects, reason, &error.to_string()).await,
                    None => self.say(objects, TrustRefusal::IssuerUnavailable.code(), &error.to_string()).await,
                }
                Ok(Next::Again)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn sync(&mut self, objects: &Objects, view: &View, agent: &Agent, renew: bool) -> Result<Next, Error> {
        let inner = self.inner;
        let Some(identity) = self.leads.identity.and_then(|identity| identity()) else {
            // The operator's own certificate comes within a moment of the issuing CA.
            return Ok(Next::Wait(Duration::from_secs(1)));
        };
        let pending = view.pending.as_ref().filter(|_| renew);
        let asked = async {
            let resolver = inner.resolver.clone();
            let hub = Hub::new(&agent.hub, &agent.given.roots, &inner.domain, Some(&identity), resolver)?;
            let no_keys = || HubError::Answer("it gave no keys".to_owned());
            let key = agent.keys().and_then(|(_, keys)| keys.into_iter().next()).ok_or_else(no_keys)?;
            let request = pending.map(|pending| &*pending.request);
            let synced = hub.sync(&agent.cluster, request, agent.holds(), &key, || inner.now()).await?;
            let now = inner.now();
            let in_use = |next: &Agent| match &view.issuer_key {
                Some(key) => usable(&next.issued.chain, key, ISSUER, next, &inner.domain, now).map(drop),
                None => Err("there is no issuing CA in use".to_owned()),
            };
            answer::synced(agent, synced, pending, &inner.domain, now, in_use)
        };
        let next = asked.await;
        let kind = if renew { "renew" } else { "sync" };
        inner.metrics.asked(kind, next.as_ref().map_or_else(HubError::label, |_| "ok"), inner.now());
        match next {
            Ok(next) => {
                self.heard();
                if next != *agent {
                    self.store(objects, &next).await?;
                    if next.issued != agent.issued {
                        self.note(&next, "had the issuing CA renewed by the hub");
                    }
                    if next.given.roots != agent.given.roots || next.given.root != agent.given.root {
                        // The hub waits to hear that this cluster has it, or for it to ask for another issuing CA.
                        self.ask_at = inner.now();
                    }
                    let versions: Vec<_> = next.given.keys.iter().map(|keys| keys.version).collect();
                    tracing::info!(?versions, relay = next.given.relay, "took what the hub changed");
                }
                Ok(Next::Again)
            }
            Err(error) => {
                self.unheard(&error).await;
                Ok(Next::Again)
            }
        }
    }

    /// The hub has answered: everything is as it should be until the next question.
    fn heard(&mut self) {
        if self.unanswered > 0 {
            tracing::info!(after = self.unanswered, "the hub answers again");
        }
        self.unanswered = 0;
        self.ask_at = self.inner.now().plus(SYNC.mul_f64(0.9 + fastrand::f64() / 5.0));
    }

    async fn unheard(&mut self, error: &HubError) {
        self.unanswered = self.unanswered.saturating_add(1);
        let pause = match error {
            HubError::Refused { .. } => SYNC,
            _ => zen_pki::pause(Duration::ZERO, self.unanswered),
        };
        self.ask_at = self.inner.now().plus(pause);
        if self.unanswered == 1 {
            tracing::warn!(%error, "what this member has of its hub stays as it is");
        }
        if let HubError::Refused { .. } = error {
            let reason = error.refusal();
            self.inner.metrics.refused(reason.map_or("Other", EnrollRefusal::code));
            let hint =
                reason.map_or("Look for the request in the log of the hub's operator.", |reason| reason.row().hint);
            let code = reason.map_or(TrustRefusal::IssuerUnavailable.code(), EnrollRefusal::code);
            self.say_settings(code, &format!("{error}. {hint}")).await;
        }
    }

    /// From here on it counts, whatever happens to this process.
    async fn store(&self, objects: &Objects, agent: &Agent) -> Result<(), Error> {
        let object = objects::agent(&self.inner.namespace, agent);
        self.apply(&object, objects.agent.as_ref().map(|there| there as _)).await
    }

    async fn apply(&self, object: &Object, observed: Option<&dyn Present>) -> Result<(), Error> {
        self.leads.writer.apply(object, observed).await?;
        Ok(())
    }

    fn note(&self, agent: &Agent, done: &str) {
        let Ok(operator) =
            agent.scope().workload(&self.inner.domain, &self.inner.namespace, Component::Operator.account())
        else {
            return;
        };
        let object = format!("Secret/{}/{AGENT}", self.inner.namespace);
        let record = administered(&operator, &object, done).detail("cluster", &agent.cluster.to_string());
        let record = record.detail("hub", &agent.hub).detail("until", &agent.issued.not_after.to_string());
        (self.leads.note)(record);
    }

    async fn needs_bundle(&self, why: &'static str, view: &View) {
        let (recipient, waits) = (&view.recipient, why == NONE);
        let held = matches!(view.facts.bundle, Bundle::Held(..) | Bundle::Refused);
        let text = format!(
            "{why}: on the hub, name {recipient} as spec.recipient of a ClusterEnrollment{new}, and apply here what kubectl zen \
             enroll prints there",
            new = if waits { "" } else { " and change its spec.bundle" }
        );
        if !held || !waits {
            tracing::warn!(why, recipient, "a bundle of the hub is needed");
        }
        // What is wrong with the bundle that is there says more.
        if view.refusal.is_none() {
            self.stands(Some(text.clone()));
        }
        let reason = if waits { "NotEnrolled" } else { TrustRefusal::IssuerUnavailable.code() };
        let notice = Notice { warning: !waits, reason, action: "Enroll", note: &text };
        let regarding = self.leads.workloads.borrow().object.clone();
        self.event(regarding, &notice).await;
    }

    async fn blocked(&self, reason: &str) {
        tracing::error!(%reason, pending = PENDING, "what this member has of its hub cannot be kept");
        self.stands(Some(reason.to_owned()));
        self.say_settings(TrustRefusal::IssuerUnavailable.code(), reason).await;
    }

    async fn say_refused(&self, objects: &Objects, reason: EnrollRefusal, words: &str) {
        self.say(objects, reason.code(), &format!("{words}. {}", reason.row().hint)).await;
    }

    /// About the bundle, where whoever applied it looks.
    async fn say(&self, objects: &Objects, reason: &str, text: &str) {
        tracing::warn!(reason, text, "the bundle is not used");
        self.stands(Some(format!("{reason}: {text}")));
        let regarding = objects.bundle.as_ref().map(|bundle| bundle.object_ref(&()));
        self.event(regarding, &Notice { warning: true, reason, action: "Enroll", note: text }).await;
    }

    async fn say_settings(&self, reason: &str, text: &str) {
        let notice = Notice { warning: true, reason, action: "Enroll", note: text };
        let regarding = self.leads.workloads.borrow().object.clone();
        self.event(regarding.or_else(|| Some(self.settings())), &notice).await;
    }

    fn settings(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("ConfigMap".to_owned()),
            namespace: Some(self.inner.namespace.clone()),
            name: Some(names::WORKLOADS.to_owned()),
            ..ObjectReference::default()
        }
    }

    async fn event(&self, regarding: Option<ObjectReference>, notice: &Notice<'_>) {
        let Some(regarding) = regarding else { return };
        if let Ok(Err(error)) = timeout(EVENT, self.leads.writer.event(&regarding, notice)).await {
            tracing::debug!(%error, "failed to write an Event");
        }
    }

    fn stands(&self, problem: Option<String>) {
        self.inner.problem.store(std::sync::Arc::new(problem));
    }
}
