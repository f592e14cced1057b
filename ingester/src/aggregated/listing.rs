//! What a listing may be narrowed by, and how its answer is put together.

use axum::Json;
use axum::response::{IntoResponse, Response};
use form_urlencoded::Serializer;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use zen_model::{ObjectKey, Timestamp};

use super::error::Error;
use super::replicas::Coverage;
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

/// A list, as a table where one is asked for.
pub(super) fn answer(kind: &str, items: &[Value], coverage: Coverage, headers: &HeaderMap) -> Response {
    let body = if table::is_wanted(headers) { table::table(kind, items) } else { object::list(kind, items) };
    warned(Json(body).into_response(), coverage)
}

/// An answer that not every replica has a part in says so in a warning (RFC 9111, 299), which kubectl prints.
pub(super) fn warned(mut response: Response, coverage: Coverage) -> Response {
    let warning = coverage.gap().map(|gap| format!("299 - \"this answer is not complete: {gap}\""));
    if let Some(warning) = warning.and_then(|text| HeaderValue::try_from(text).ok()) {
        response.headers_mut().append(http::header::WARNING, warning);
    }
    response
}
