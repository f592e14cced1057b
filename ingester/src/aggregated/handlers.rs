//! One function for each verb and resource: ask whether the caller may, ask the replicas, put the answers together.

use std::cmp::Reverse;
use std::collections::HashMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Path, Query};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use zen_identity::server::Denial;
use zen_model::{Namespace, ObjectKey};
use zen_queue::{DeadLetter, EventDetail, EventSummary};

use super::error::Error;
use super::listing::{self, Narrowed};
use super::object::object;
use super::replicas::{Answers, Replicas};
use super::review::Action;
use super::{Api, Caller, merge};
use crate::admin::types::{DeadLetterDetail, DryRun, Replay, ReplayRequest, Status};
use crate::pipeline::answer::generate_request_id;

/// What a path names.
pub(super) struct Target {
    namespace: Option<String>,
    name: Option<String>,
}

impl Target {
    /// To ask whether the caller may.
    fn action(&self, verb: &'static str, resource: &'static str, subresource: Option<&'static str>) -> Action {
        Action { verb, namespace: self.namespace.clone(), resource, subresource, name: self.name.clone() }
    }

    /// Paths with a name have a namespace.
    fn names(&self) -> (&str, &str) {
        (self.namespace.as_deref().unwrap_or_default(), self.name.as_deref().unwrap_or_default())
    }

    fn is_in(&self, namespace: &Namespace) -> bool {
        self.namespace.as_deref() == Some(namespace.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let found: Result<Path<HashMap<String, String>>, _> = Path::from_request_parts(parts, state).await;
        let Path(mut found) = found.map_err(|rejection| Error::BadRequest(rejection.body_text()))?;
        Ok(Self { namespace: found.remove("namespace"), name: found.remove("name") })
    }
}

type Narrow = Result<Query<Narrowed>, axum::extract::rejection::QueryRejection>;

fn narrowed(query: Narrow) -> Result<Narrowed, Error> {
    let Query(narrowed) = query.map_err(|rejection| Error::BadRequest(rejection.body_text()))?;
    narrowed.check()?;
    Ok(narrowed)
}

/// A request: who asks, and for what.
pub(super) struct Call {
    api: Api,
    caller: Caller,
    target: Target,
}

impl FromRequestParts<Api> for Call {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Error> {
        let target = Target::from_request_parts(parts, api).await?;
        // Nobody gets here whom the middleware did not see.
        let caller = parts.extensions.get().cloned().ok_or(Error::Unauthenticated)?;
        Ok(Self { api: api.clone(), caller, target })
    }
}

impl Call {
    async fn may(
        &self,
        verb: &'static str,
        resource: &'static str,
        subresource: Option<&'static str>,
    ) -> Result<(), Error> {
        let checked =
            self.api.parts.reviewer.check(&self.caller, self.target.action(verb, resource, subresource)).await;
        checked.map_err(|error| {
            let (who, detail) = (self.who(), error.to_string());
            let slash = subresource.map(|subresource| format!("/{subresource}")).unwrap_or_default();
            let action = format!("{verb} {resource}{slash}");
            let denial = Denial { who: &who, from: None, action: &action, code: "", request_id: "", detail: &detail };
            self.api.refused(error, &denial)
        })
    }

    /// As an entry of the audit log has it.
    fn who(&self) -> String {
        format!("User/{}", self.caller.user)
    }

    fn shown(&self, object: &str) {
        self.api.parts.notes.shown(&self.who(), object);
    }

    fn changed(&self, replay: &str, done: &str) {
        let (namespace, _) = self.target.names();
        self.api.parts.notes.changed(&self.who(), &format!("Replay/{namespace}/{replay}"), done);
    }

    fn replicas(&self) -> &Replicas {
        &self.api.parts.replicas
    }
}

pub(super) async fn dead_letters(call: Call, query: Narrow, headers: HeaderMap) -> Result<Response, Error> {
    let narrowed = narrowed(query)?;
    call.may("list", "deadletters", None).await?;
    let path = narrowed.path("/dead-letters", call.target.namespace.as_deref());
    let Answers { found, coverage } = call.replicas().get::<Vec<DeadLetter>>(&path).await?;
    let letters = merge::dead_letters(found, narrowed.limit());
    let items: Vec<_> = letters.iter().map(|letter| dead_letter_object(letter, letter)).collect();
    Ok(listing::answer("DeadLetter", &items, coverage, &headers))
}

fn dead_letter_object(letter: &DeadLetter, status: &impl Serialize) -> Value {
    object("DeadLetter", Some(&letter.destination.namespace), &letter.id, Some(letter.since), status)
}

pub(super) async fn dead_letter(call: Call) -> Result<Json<Value>, Error> {
    call.may("get", "deadletters", None).await?;
    let detail = find_dead_letter(&call, false).await?;
    Ok(Json(dead_letter_object(&detail.letter, &detail)))
}

/// The dead letter with its payload, which people with lesser roles do not see.
pub(super) async fn payload(call: Call) -> Result<Json<Value>, Error> {
    call.may("get", "deadletters", Some("payload")).await?;
    let detail = find_dead_letter(&call, true).await?;
    let (namespace, name) = call.target.names();
    call.shown(&format!("DeadLetter/{namespace}/{name}"));
    Ok(Json(dead_letter_object(&detail.letter, &detail)))
}

async fn find_dead_letter(call: &Call, payload: bool) -> Result<DeadLetterDetail, Error> {
    let (_, name) = call.target.names();
    let path = format!("/dead-letters/{}?payload={payload}", segment(name));
    let mut answers = call.replicas().get::<DeadLetterDetail>(&path).await?;
    // One of another namespace is not there for this caller.
    answers.found.retain(|detail| call.target.is_in(&detail.letter.destination.namespace));
    answers.found.pop().ok_or_else(|| answers.coverage.none("dead letter", name))
}

pub(super) async fn events(call: Call, query: Narrow, headers: HeaderMap) -> Result<Response, Error> {
    let narrowed = narrowed(query)?;
    call.may("list", "webhookevents", None).await?;
    let path = narrowed.path("/events", call.target.namespace.as_deref());
    let Answers { found, coverage } = call.replicas().get::<Vec<EventSummary>>(&path).await?;
    let mut events: Vec<_> = found.into_iter().flatten().collect();
    events.sort_by_key(|event| Reverse((event.accepted, event.seq)));
    events.truncate(narrowed.limit());
    let items: Vec<_> = events.iter().map(|event| event_object(event, event)).collect();
    Ok(listing::answer("WebhookEvent", &items, coverage, &headers))
}

fn event_object(event: &EventSummary, status: &impl Serialize) -> Value {
    object("WebhookEvent", Some(&event.webhook.namespace), event.id.as_str(), Some(event.accepted), status)
}

/// Every event of this id: sources may use one twice, and a drained replica's history stays behind.
pub(super) async fn event(call: Call) -> Result<Json<Value>, Error> {
    call.may("get", "webhookevents", None).await?;
    let (namespace, name) = call.target.names();
    let answers = call.replicas().get::<Vec<EventDetail>>(&format!("/events/{}", segment(name))).await?;
    let all = answers.found.iter().flatten();
    let of_namespace: Vec<_> = all.filter(|event| call.target.is_in(&event.summary.webhook.namespace)).collect();
    let Some(first) = of_namespace.iter().max_by_key(|event| event.summary.accepted) else {
        return Err(answers.coverage.none("event", name));
    };
    let status = json!({"events": of_namespace});
    Ok(Json(object("WebhookEvent", Some(&namespace.into()), name, Some(first.summary.accepted), &status)))
}

/// One object: what is in effect in a namespace, or everywhere, and how it does.
pub(super) async fn statuses(call: Call, headers: HeaderMap) -> Result<Response, Error> {
    call.may("list", "meshstatuses", None).await?;
    let namespace = call.target.namespace.as_deref().map(Namespace::from);
    // Of a mesh with ten thousand objects a tenant asks for few.
    let path = namespace
        .as_ref()
        .map_or("/status".to_owned(), |namespace| format!("/status?namespace={}", segment(namespace.as_str())));
    let Answers { found, coverage } = call.replicas().get::<Status>(&path).await?;
    let status = merge::statuses(found, namespace.as_ref()).ok_or_else(|| coverage.none("status", "mesh"))?;
    let item = object("MeshStatus", namespace.as_ref(), "mesh", None, &status);
    Ok(listing::answer("MeshStatus", &[item], coverage, &headers))
}

/// Body: a Replay whose `spec` is the request. With `dryRun` the status tells the count.
pub(super) async fn start_replay(call: Call, body: Result<Json<Value>, JsonRejection>) -> Result<Response, Error> {
    call.may("create", "replays", None).await?;
    let Json(mut body) = body.map_err(|rejection| Error::json(&rejection))?;
    let spec = body.get_mut("spec").map(Value::take).unwrap_or_default();
    let mut request: ReplayRequest =
        serde_json::from_value(spec).map_err(|error| Error::BadRequest(format!("spec: {error}")))?;
    let (namespace, _) = call.target.names();
    let namespace = Namespace::from(namespace);
    if let Some(other) = request.filter.destination.as_ref().filter(|key| key.namespace != namespace) {
        return Err(Error::BadRequest(format!("Destination {other} is not of the namespace {namespace}")));
    }
    request.filter.namespace = Some(namespace.clone());
    let id = generate_request_id();
    request.id = Some(id.clone());
    // Each replica paces its own share.
    let replicas = u32::try_from(call.replicas().peers.borrow().len()).unwrap_or(0).saturating_add(1);
    request.rate = request.rate.map(|rate| if rate == 0 { 0 } else { (rate / replicas).max(1) });
    let body: Bytes = serde_json::to_vec(&request).map_err(|error| Error::BadRequest(error.to_string()))?.into();
    if request.dry_run {
        let Answers { found, coverage } = call.replicas().post::<DryRun>("/replays", body).await?;
        coverage.complete()?;
        let count = DryRun { count: found.iter().map(|dry| dry.count).sum() };
        return Ok(Json(object("Replay", Some(&namespace), &id, None, &count)).into_response());
    }
    let Answers { found, coverage } = call.replicas().post::<Replay>("/replays", body).await?;
    let started = merge::replays(found).pop().ok_or_else(|| coverage.none("replay", &id))?;
    call.changed(&id, "start");
    Ok(listing::warned((StatusCode::CREATED, Json(replay_object(&started))).into_response(), coverage))
}

fn replay_object(replay: &Replay) -> Value {
    object("Replay", replay.namespace.as_ref(), &replay.id, Some(replay.started), replay)
}

pub(super) async fn replays(call: Call, headers: HeaderMap) -> Result<Response, Error> {
    call.may("list", "replays", None).await?;
    let Answers { found, coverage } = call.replicas().get::<Vec<Replay>>("/replays").await?;
    let all = merge::replays(found.into_iter().flatten().collect());
    let own = all.iter().filter(|replay| {
        call.target.namespace.is_none() || replay.namespace.as_ref().is_some_and(|of| call.target.is_in(of))
    });
    let items: Vec<_> = own.map(replay_object).collect();
    Ok(listing::answer("Replay", &items, coverage, &headers))
}

pub(super) async fn replay(call: Call) -> Result<Json<Value>, Error> {
    call.may("get", "replays", None).await?;
    find_replay(&call).await.map(|replay| Json(replay_object(&replay)))
}

async fn find_replay(call: &Call) -> Result<Replay, Error> {
    let (_, name) = call.target.names();
    let Answers { found, coverage } = call.replicas().get::<Replay>(&format!("/replays/{}", segment(name))).await?;
    let own =
        found.into_iter().filter(|replay| replay.namespace.as_ref().is_some_and(|of| call.target.is_in(of))).collect();
    merge::replays(own).pop().ok_or_else(|| coverage.none("replay", name))
}

pub(super) async fn cancel_replay(call: Call) -> Result<Json<Value>, Error> {
    call.may("create", "replays", Some("cancel")).await?;
    // Only one of this namespace.
    find_replay(&call).await?;
    let (_, name) = call.target.names();
    let Answers { found, coverage } = call.replicas().delete::<Replay>(&format!("/replays/{}", segment(name))).await?;
    // Also where not every replica has answered: those that did have ended it.
    call.changed(name, "cancel");
    coverage.complete()?;
    let cancelled = merge::replays(found).pop().ok_or_else(|| Error::NotFound("replay", name.to_owned()))?;
    Ok(Json(replay_object(&cancelled)))
}

/// The key that a target verifies `X-Zen-Signature` with, whether or not the Destination exists yet.
pub(super) async fn signing_key(call: Call) -> Result<Json<Value>, Error> {
    call.may("get", "signingkeys", None).await?;
    let (namespace, name) = call.target.names();
    call.shown(&format!("SigningKey/{namespace}/{name}"));
    let key = ObjectKey::new(namespace, name);
    let signing = &call.api.parts.signing_keys;
    let versions = signing.versions();
    let text = |version: u32| URL_SAFE_NO_PAD.encode(signing.destination_key(&key, version).expose());
    // While keys are exchanged a target may have any of these.
    let one =
        |version: u32| json!({"key_id": version.to_string(), "key": text(version), "until": versions.until(version)});
    let all: Vec<_> = versions.targets().into_iter().map(one).collect();
    let current = versions.current;
    let status = json!({"destination": key, "key_id": current.to_string(), "key": text(current), "keys": all});
    Ok(Json(object("SigningKey", Some(&key.namespace), name, None, &status)))
}

/// Outside text as one segment of a path.
fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
