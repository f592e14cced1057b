//! What a listing may be narrowed by, and how its answer is put together.

use axum::Json;
use axum::response::{IntoResponse, Response};
use form_urlencoded::Serializer;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use zen_model::{ObjectKey, Timestamp};

use super::error::Error;
use super::{object, table};

/// A listing without a limit holds so many lines, and never more than [`MAX_LIMIT`].
const LIMIT: usize = 100;
/// The most that one replica lists at once.
const MAX_LIMIT: usize = 1000;

/// Query of a listing. What kubectl adds of its own accord is passed over; what would narrow a listing and is not known is
/// refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Narrowed {
    pub destination: Option<ObjectKey>,
    pub webhook: Option<ObjectKey>,
    pub reason: Option<String>,
    pub state: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    limit: usize,
    label_selector: Option<String>,
    field_selector: Option<String>,
    watch: Option<String>,
}

impl Narrowed {
    pub(super) fn check(&self) -> Result<(), Error> {
        let is_set = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        if is_set(&self.label_selector) || is_set(&self.field_selector) {
            return Err(Error::BadRequest(
                "selectors are not supported; narrow by destination, webhook, reason, state, since, until".to_owned(),
            ));
        }
        if self.watch.as_deref().is_some_and(|watch| watch != "false" && watch != "0") {
            return Err(Error::MethodNotAllowed);
        }
        Ok(())
    }

    pub(super) fn limit(&self) -> usize {
        if self.limit == 0 { LIMIT } else { self.limit.min(MAX_LIMIT) }
    }

    /// As the query of one replica's admin API.
    pub(super) fn path(&self, path: &str, namespace: Option<&str>) -> String {
        let mut query = Serializer::new(format!("{path}?"));
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        };
        add("namespace", namespace.map(str::to_owned));
        add("destination", self.destination.as_ref().map(ToString::to_string));
        add("webhook", self.webhook.as_ref().map(ToString::to_string));
        add("reason", self.reason.clone());
        add("state", self.state.clone());
        add("since", self.since.map(|since| since.to_string()));
        add("until", self.until.map(|until| until.to_string()));
        add("limit", Some(self.limit().to_string()));
        query.finish()
    }
}

/// A list, as a table where one is asked for. Replicas that did not answer are named in a warning (RFC 9111, 299), which
/// kubectl prints.
pub(super) fn answer(kind: &str, items: &[Value], missing: &[String], headers: &HeaderMap) -> Response {
    let body = if table::is_wanted(headers) { table::table(kind, items) } else { object::list(kind, items) };
    let mut response = Json(body).into_response();
    for text in missing {
        let text: String =
            text.chars().filter(|c| c.is_ascii() && !c.is_ascii_control() && !"\"\\".contains(*c)).collect();
        let warning = format!("299 - \"this answer is not complete: {text}\"");
        if let Ok(value) = HeaderValue::from_str(&warning) {
            response.headers_mut().append(http::header::WARNING, value);
        }
    }
    response
}
