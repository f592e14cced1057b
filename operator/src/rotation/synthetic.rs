//! A signed event from end to end as a probe (docs/adr/0013): posted as a source posts it, at the intake of each pod that goes first,
//! kept, leased, signed and delivered to a target that verifies it.
//!
//! What it goes through is there while something is exchanged: a Webhook, a Destination and the Secret that its source signs with,
//! in the release namespace. The operator sees that it arrived by what the egresses count, and gets nothing of it back (T-08).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret as SecretObject;
use serde_json::json;
use tokio::time::{Instant, sleep};
use zen_crds::{Destination, Webhook};
use zen_identity::Component;
use zen_model::{ObjectKey, Secret};
use zen_pod::sink;
use zen_rotation::Phase;
use zen_rotation::record::Active;
use zen_runtime::metrics::value;
use zen_verify::{Config, LabelledSecret, Sample};

use super::Parts;
use super::desk::few;
use super::field::{Field, Pod, Unheard};
use super::probe::Round;
use super::subject::Scene;
use crate::names::{self, port};
use crate::object::Object;
use crate::writer;

/// From the answer of the intake to that of the target.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks at what was counted.
const LOOK: Duration = Duration::from_millis(200);
/// Events of one round for each egress, until those that go first have had one each.
const ROUNDS: usize = 4;
/// Key in the Secret.
const KEY: &str = "secret";
/// As the table of `zen_verify` names it.
const PRESET: &str = "standard-webhooks";

/// What an egress has counted of the events since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The target took them.
    pub delivered: u64,
    /// It did not: their signature does not verify, or they could not be attempted.
    pub refused: u64,
}

/// What is kept of it between two rounds.
#[derive(Debug, Default)]
pub(super) struct Synthetic {
    /// What the source signs with, from when it was made.
    secret: Option<Secret>,
    /// Why what events go through is not there.
    problem: Option<String>,
    /// Whether it is known that nothing is there. A leader that begins does not know.
    is_away: bool,
    /// Each event has a number.
    sent: u64,
}

/// Phases in which events go round, and that before the first of them: pods learn of new objects in a moment.
const fn is_due(phase: &Phase) -> bool {
    matches!(
        phase,
        Phase::Trusting | Phase::Canary { .. } | Phase::Probing { .. } | Phase::RollingOut | Phase::Verifying
    )
}

/// Why a round cannot begin.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Write(#[from] writer::Error),
    #[error("no random bytes")]
    Random,
}

impl Synthetic {
    /// In time before the first round makes what events go through, and after the last one puts it away.
    pub(super) async fn follow<F>(&mut self, parts: &Parts<F>, phase: &Phase) -> Result<(), writer::Error> {
        if !is_due(phase) || !wants(parts) {
            return self.put_away(parts).await.map(drop);
        }
        // The rounds of probes say it, and end what goes on when its time is over.
        self.problem = match self.set_up(parts).await {
            Ok(()) => None,
            Err(Error::Write(error @ writer::Error::NotLeader(_))) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "failed to make what the events of probes go through");
                Some(error.to_string())
            }
        };
        Ok(())
    }

    /// One event for each ingester that goes first, and more until each egress that does has delivered one.
    pub(super) async fn round<F: Field>(&mut self, scene: &Scene<'_, F>, active: &Active) -> Round {
        if !wants(scene.parts) {
            return Round::Passed;
        }
        let secret = match (&self.problem, &self.secret) {
            (None, Some(secret)) => secret.clone(),
            (problem, _) => {
                let problem = problem.as_deref().unwrap_or("not yet");
                return Round::Open(format!("what an event goes through could not be made: {problem}"));
            }
        };
        let of = |component| {
            let ready = move |pod: &&Pod| pod.component == component && pod.ready;
            let is_first = |pod: &&Pod| active.canary().is_none_or(|canary| canary.contains(&*pod.name));
            let (first, others): (Vec<_>, Vec<_>) = scene.pods.iter().filter(ready).partition(is_first);
            (first, others)
        };
        let (mut intakes, others) = of(Component::Ingester);
        if intakes.is_empty() {
            intakes.extend(others.into_iter().take(1));
        }
        // No ingester is ready: there is nothing that takes events.
        let Some(last) = intakes.len().checked_sub(1) else { return Round::Passed };
        let (first, others) = of(Component::Egress);
        let most = intakes.len() + ROUNDS * (first.len() + others.len());
        let before = arrived(scene).await;
        for number in 0..most {
            if let Err(round) = self.send(scene, intakes[number % intakes.len()], &secret).await {
                return round;
            }
            if number < last {
                continue;
            }
            let now = match until_arrived(scene, &before, number + 1).await {
                Ok(now) => now,
                Err(round) => return round,
            };
            let has_one = |pod: &&Pod| since(&before, &now, &pod.uid).delivered > 0;
            if first.iter().all(has_one) {
                break;
            }
        }
        Round::Passed
    }

    async fn send<F: Field>(&mut self, scene: &Scene<'_, F>, pod: &Pod, secret: &Secret) -> Result<(), Round> {
        self.sent += 1;
        let event = event(&scene.parts.namespace, secret, self.sent, scene.parts.service.now());
        let event = event.map_err(|error| Round::Open(error.to_string()))?;
        // A certificate of the user's own is of no CA that the operator knows.
        let own = scene.parts.has_own_intake();
        match scene.parts.field.post(pod, event, own.then_some(scene.identity)).await {
            Ok(202) => Ok(()),
            // It may not have seen yet what was made a moment ago.
            Ok(status) => Err(Round::Open(format!("{} answers a signed event with {status}", pod.name))),
            Err(Unheard::Away(error)) => Err(Round::Open(format!("{} takes no event: {error}", pod.name))),
            Err(Unheard::Refused(error)) => Err(Round::Failed(format!("{} takes no event: {error}", pod.name))),
        }
    }

    /// Makes what is not there, again where somebody deleted it. The secret is another after each change of the leader, and for each
    /// exchange.
    async fn set_up<F>(&mut self, parts: &Parts<F>) -> Result<(), Error> {
        self.is_away = false;
        let secret = if let Some(secret) = &self.secret {
            secret.clone()
        } else {
            let mut bytes = zeroize::Zeroizing::new([0; 32]);
            rand::fill(&mut *bytes).map_err(|_| Error::Random)?;
            self.secret.insert(Secret::new(format!("whsec_{}", STANDARD.encode(bytes.as_slice())))).clone()
        };
        let owner = parts.workloads.borrow().owner();
        for object in objects(&parts.namespace, &secret) {
            let object = owner.as_ref().map_or_else(|| object.clone(), |owner| object.clone().owned_by(owner));
            parts.writer.apply(&object, None).await?;
        }
        Ok(())
    }

    /// Nothing goes on: nothing of it is left. Whether there was something. It is tried again where that fails.
    ///
    /// # Errors
    ///
    /// [`writer::Error::NotLeader`] alone.
    pub(super) async fn put_away<F>(&mut self, parts: &Parts<F>) -> Result<bool, writer::Error> {
        if self.is_away {
            return Ok(false);
        }
        (self.secret, self.problem) = (None, None);
        match remove(parts).await {
            Err(error @ writer::Error::NotLeader(_)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "failed to put away what the events of probes went through");
                Ok(false)
            }
            Ok(was_there) => {
                self.is_away = true;
                Ok(was_there)
            }
        }
    }
}

/// The Webhook is made first and goes last: where there is none there is nothing, and nothing else has to be looked at.
async fn remove<F>(parts: &Parts<F>) -> Result<bool, writer::Error> {
    let [webhook, destination, secret] = objects(&parts.namespace, &Secret::new(""));
    match parts.writer.is_there(&webhook).await {
        Ok(true) => {}
        // One of somebody else: a round says so.
        Ok(false) | Err(writer::Error::Foreign(_)) => return Ok(false),
        Err(error) => return Err(error),
    }
    for object in [secret, destination, webhook] {
        parts.writer.remove(&object).await?;
    }
    Ok(true)
}

/// Events go through an egress.
fn wants<F>(parts: &Parts<F>) -> bool {
    let workloads = parts.workloads.borrow();
    workloads.content.as_ref().is_some_and(|all| all.rotation.synthetic_event && all.egress.replicas > 0)
}

/// Webhook, Destination and Secret, in the order in which they come.
fn objects(namespace: &str, secret: &Secret) -> [Object; 3] {
    let webhook = json!({"spec": {
        "verification": {"provider": PRESET, "secrets": [{"secretRef": {"name": sink::NAME, "key": KEY}}]},
        "routes": [{"destinations": [{"name": sink::NAME}]}],
    }});
    let destination = json!({"spec": {
        "target": {"service": {"name": names::EGRESS, "port": port::ADMIN, "path": sink::PATH, "scheme": "http"}},
        // It tells how things are, or nothing: what does not arrive soon is of no use.
        "delivery": {"retry": {"transient": {"attempts": 2, "within": "1m"}}},
        "deadLetter": {"retention": "1h"},
    }});
    let secret = json!({"type": "Opaque", "data": {KEY: STANDARD.encode(secret.expose())}});
    [
        Object::new::<Webhook>(Some(namespace), sink::NAME, webhook),
        Object::new::<Destination>(Some(namespace), sink::NAME, destination),
        Object::new::<SecretObject>(Some(namespace), sink::NAME, secret),
    ]
    .map(|object| object.component("operator"))
}

/// As its source would send it.
fn event(
    namespace: &str,
    secret: &Secret,
    number: u64,
    now: zen_model::Timestamp,
) -> Result<Sample, zen_verify::ConfigError> {
    let preset = zen_verify::preset(PRESET).expect("the table has it");
    let secrets = vec![LabelledSecret { label: sink::NAME.to_owned(), secret: secret.clone() }];
    let config = Config { preset, secrets, tolerance: PATIENCE, public_url: None, generic: None, api_key: None };
    let url = format!("https://{}.{namespace}.svc/{namespace}/{}", names::INGESTER, sink::NAME);
    zen_verify::sign(&config, &url, Some(r#"{"type":"zen-mesh.probe"}"#.into()), number, now)
}

/// What each egress says, by UID.
type Counts = HashMap<Arc<str>, Arrived>;

async fn arrived<F: Field>(scene: &Scene<'_, F>) -> Counts {
    let egresses = scene.pods.iter().filter(|pod| pod.component == Component::Egress).cloned();
    let asked = egresses.map(|pod| {
        let field = scene.parts.field.clone();
        async move { Some((pod.uid.clone(), field.arrived(&pod).await?)) }
    });
    few(asked.collect()).await.into_iter().flatten().collect()
}

/// Waits until so many more are delivered.
async fn until_arrived<F: Field>(scene: &Scene<'_, F>, before: &Counts, sent: usize) -> Result<Counts, Round> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = arrived(scene).await;
        let passed: Vec<_> = now.keys().map(|uid| (uid, since(before, &now, uid))).collect();
        if let Some((uid, _)) = passed.iter().find(|(_, passed)| passed.refused > 0) {
            let name = scene.pods.iter().find(|pod| pod.uid == **uid).map_or("?", |pod| &*pod.name);
            return Err(Round::Failed(format!("an event that {name} delivered was refused by its target")));
        }
        let delivered: u64 = passed.iter().map(|(_, passed)| passed.delivered).sum();
        if delivered >= sent as u64 {
            return Ok(now);
        }
        if Instant::now() >= deadline {
            return Err(Round::Open(format!("of {sent} events {delivered} arrived")));
        }
        sleep(LOOK).await;
    }
}

/// One that began anew counts from its beginning.
fn since(before: &Counts, now: &Counts, uid: &Arc<str>) -> Arrived {
    let (before, now) = [before, now].map(|counts| counts.get(uid).copied().unwrap_or_default()).into();
    if now.delivered < before.delivered || now.refused < before.refused {
        return now;
    }
    Arrived { delivered: now.delivered - before.delivered, refused: now.refused - before.refused }
}

/// By the metrics of an egress of the mesh in this namespace.
pub(super) fn counted(text: &str, namespace: &str) -> Arrived {
    let destination = ObjectKey::new(namespace, sink::NAME).to_string();
    let of = |class| value(text, "zen_egress_attempts_total", &[("destination", &destination), ("class", class)]);
    let of = |class| of(class).map_or(0, super::rates::count);
    Arrived { delivered: of("delivered"), refused: of("rejected") + of("gone") + of("refused") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_egress_counted() {
        let text = "\
# TYPE zen_egress_attempts counter
zen_egress_attempts_total{destination=\"zen-mesh/zen-mesh-probe\",class=\"delivered\"} 7
zen_egress_attempts_total{destination=\"zen-mesh/zen-mesh-probe\",class=\"transient\"} 3
zen_egress_attempts_total{destination=\"zen-mesh/zen-mesh-probe\",class=\"rejected\"} 2
zen_egress_attempts_total{destination=\"team-a/ci\",class=\"delivered\"} 90
# EOF
";
        assert_eq!(counted(text, "zen-mesh"), Arrived { delivered: 7, refused: 2 });
        assert_eq!(counted(text, "other"), Arrived::default());
        let counts = |delivered, refused| HashMap::from([("a".into(), Arrived { delivered, refused })]);
        let uid = "a".into();
        assert_eq!(since(&counts(5, 1), &counts(7, 2), &uid), Arrived { delivered: 2, refused: 1 });
        assert_eq!(since(&counts(5, 1), &counts(3, 0), &uid), Arrived { delivered: 3, refused: 0 }, "it began anew");
        assert_eq!(since(&HashMap::new(), &counts(3, 0), &uid), Arrived { delivered: 3, refused: 0 });
    }

    /// What is made is what the data plane takes, and the event is what the Webhook verifies.
    #[test]
    fn the_objects_are_sound() {
        let secret = Secret::new(format!("whsec_{}", STANDARD.encode([7; 32])));
        for object in objects("zen-mesh", &secret) {
            assert_eq!(object.id().name, sink::NAME);
            let body = serde_json::Value::Object(object.body().clone());
            match &*object.id().kind {
                "Webhook" => drop(serde_json::from_value::<Webhook>(body).expect("a Webhook")),
                "Destination" => drop(serde_json::from_value::<Destination>(body).expect("a Destination")),
                kind => assert_eq!(kind, "Secret"),
            }
        }
        let event = event("zen-mesh", &secret, 1, zen_model::Timestamp::now()).expect("it is signed");
        assert_eq!(event.path_and_query, "/zen-mesh/zen-mesh-probe");
        assert!(event.headers.contains_key("webhook-signature"), "{:?}", event.headers);
    }
}
