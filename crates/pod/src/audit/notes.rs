//! What listeners refuse, and who administers over them: entries that nobody waits for, so few that a flood of what they stand for
//! fills no disk (T-05, A-01).

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use zen_audit::{Action, Log, Record};
use zen_identity::server::{Denial, Denials, Handshakes, Refusals, RemoteAddress, Repeated, Repeats};
use zen_pki::SpiffeId;

use super::{Entries, refused_handshake, refused_peer};
use crate::Arguments;

/// Where they go; never waits. Clones share everything.
#[derive(Clone, Debug)]
pub struct Notes {
    entries: Arc<Entries>,
    seldom: Repeats<Kind, String, More>,
}

/// What is told apart: few.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    action: Action,
    /// Of the policy; or what was done.
    asked: String,
    object: String,
    /// Empty: it was allowed.
    code: &'static str,
}

/// Of the last time.
#[derive(Debug)]
struct More {
    from: Option<IpAddr>,
    request_id: String,
    detail: String,
}

impl Default for Notes {
    /// Of what keeps no log.
    fn default() -> Self {
        Self::into(Arc::new(Entries::nowhere()))
    }
}

impl Notes {
    /// Into these.
    pub fn into(entries: Arc<Entries>) -> Self {
        let keeps = Arc::clone(&entries);
        let seldom = Repeats::telling(move |told| keeps.note(record(told)));
        Self { entries, seldom }
    }

    /// Into this log.
    pub fn of(log: &Log) -> Self {
        let entries = Entries::default();
        entries.open(log);
        Self::into(Arc::new(entries))
    }

    /// What a listener refuses.
    pub fn listener(&self, listener: &'static str) -> Refusals {
        Refusals { handshakes: self.handshakes(listener), denials: self.denials(listener) }
    }

    /// Handshakes that a listener refuses.
    pub fn handshakes(&self, listener: &'static str) -> Handshakes {
        let entries = Arc::clone(&self.entries);
        Handshakes::telling(move |refused| entries.note(refused_handshake(listener, &refused)))
    }

    /// Handshakes that this side began, and broke off because of who answered.
    pub fn dialled(&self, connection: &'static str) -> Handshakes {
        let entries = Arc::clone(&self.entries);
        Handshakes::telling(move |refused| entries.note(refused_peer(&format!("Connection/{connection}"), &refused)))
    }

    /// What was denied to whom at a listener.
    pub fn denials(&self, listener: &'static str) -> Denials {
        let this = self.clone();
        Denials::telling(move |denial| this.denied(listener, denial))
    }

    fn denied(&self, listener: &str, denial: &Denial<'_>) {
        let Denial { who, from, action, code, request_id, detail } = *denial;
        // One that nobody vouches for has failed to say who it is.
        let is_known = !who.is_empty();
        let kind = Kind {
            action: if is_known { Action::Authorize } else { Action::Authenticate },
            asked: action.to_owned(),
            object: format!("Listener/{listener}"),
            code,
        };
        let address = || from.map_or_else(|| "unknown".to_owned(), |from| format!("Address/{from}"));
        let who = if is_known { who.to_owned() } else { address() };
        let more = More { from, request_id: request_id.to_owned(), detail: detail.to_owned() };
        self.seldom.happened(kind, who, more);
    }

    /// These routes of this pod's control API tell who changed something over them, once it is done. Reads are none. Their paths must
    /// be few: what comes from outside is in the query.
    pub fn administering(&self, pod: &Arguments, routes: Router) -> Router {
        let object: Arc<str> = format!("Pod/{}/{}", pod.pod_namespace, pod.pod_name).into();
        routes.layer(from_fn_with_state((self.clone(), object), changes))
    }

    /// Somebody changed something; the first time in a minute at once, the rest with its count.
    fn administered(&self, who: &str, object: &str, done: &str, from: Option<IpAddr>) {
        let (asked, object) = (done.to_owned(), object.to_owned());
        let kind = Kind { action: Action::Administer, asked, object, code: "" };
        let more = More { from, request_id: String::new(), detail: String::new() };
        self.seldom.happened(kind, who.to_owned(), more);
    }

    /// Somebody changed one thing. Each time: those who may are few, and each thing is another.
    pub fn changed(&self, who: &str, object: &str, done: &str) {
        self.entries.note(Record::new(Action::Administer, who, object).allowed().detail("done", done));
    }

    /// Somebody was shown plaintext. Each time, as that.
    pub fn shown(&self, who: &str, object: &str) {
        self.entries.note(Record::new(Action::AccessSecret, who, object).allowed());
    }
}

async fn changes(State((notes, object)): State<(Notes, Arc<str>)>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let done = format!("{} {}", request.method(), request.uri().path());
    let who = request.extensions().get::<SpiffeId>().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    let from = request.extensions().get::<RemoteAddress>().map(|address| address.0.ip());
    let response = next.run(request).await;
    if response.status().is_success() {
        notes.administered(&who, &object, &done, from);
    }
    response
}

fn record(told: Repeated<Kind, String, More>) -> Record {
    let Repeated { what, who, count, detail } = told;
    let Kind { action, asked, object, code } = what;
    let More { from, request_id, detail } = detail;
    let record = Record::new(action, who.as_deref().unwrap_or("many"), &object).reason(code).correlation(&request_id);
    let record = if code.is_empty() { record.allowed().detail("done", &asked) } else { record.detail("asked", &asked) };
    // Of the last of them, where it stands for several.
    let from = from.map(|from| from.to_string()).unwrap_or_default();
    record.detail("count", &count.to_string()).detail("detail", &detail).detail("from", &from)
}
