//! Refusals as the API server words them: a `Status` object, so that kubectl and client libraries show them.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use zen_model::reason::TrustRefusal;

/// Why a request fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the request did not come through the API server")]
    Unauthenticated,
    #[error("{0}")]
    Forbidden(String),
    #[error("there is no such {0} {1:?}")]
    NotFound(&'static str, String),
    #[error("the resource does not support this; watches are not served, list again instead")]
    MethodNotAllowed,
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    pub(super) fn json(rejection: &JsonRejection) -> Self {
        Self::BadRequest(rejection.body_text())
    }

    /// Why somebody may not, in the words of the mesh.
    pub(super) const fn refusal(&self) -> Option<TrustRefusal> {
        match self {
            Self::Unauthenticated => Some(TrustRefusal::CallerUnproven),
            Self::Forbidden(_) => Some(TrustRefusal::CallerForbidden),
            _ => None,
        }
    }

    /// Status and reason of the Kubernetes API conventions.
    const fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::NotFound(..) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "Conflict"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, reason) = self.parts();
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": status.as_u16(),
        });
        if let Some(refusal) = self.refusal() {
            body["details"] = json!({"causes": [{"reason": refusal.code(), "message": refusal.row().meaning}]});
        }
        (status, Json(body)).into_response()
    }
}
