//! Refusals of the admin API, in the same form as the intake's: `{code, message, request_id}`.

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::pipeline::answer;

/// Why an admin request fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the bearer token is missing or wrong")]
    Unauthenticated,
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("{0}")]
    BadRequest(String),
    #[error("too many replays are running, {0} of them of this namespace; wait for one or cancel it")]
    TooManyReplays(usize),
    #[error(transparent)]
    Queue(#[from] zen_queue::Error),
}

impl Error {
    pub(super) fn query(rejection: &QueryRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }

    pub(super) fn json(rejection: &JsonRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }

    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthenticated"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::TooManyReplays(_) => (StatusCode::CONFLICT, "TooManyReplays"),
            Self::Queue(_) => (StatusCode::SERVICE_UNAVAILABLE, "QueueUnavailable"),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code) = self.parts();
        let request_id = answer::generate_request_id();
        let body = json!({"code": code, "message": self.to_string(), "request_id": request_id});
        (status, [("x-request-id", request_id)], Json(body)).into_response()
    }
}
