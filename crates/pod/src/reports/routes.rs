//! `GET /v1/report`.

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use zen_identity::Action;
use zen_identity::control::{REPORT, Report, ReportQuery};
use zen_identity::server::require;

use super::Reports;

impl Reports {
    /// The route, for the control API's router.
    pub fn routes(&self) -> Router {
        Router::new().route(REPORT, get(report).layer(require(Action::Report))).with_state(self.clone())
    }
}

async fn report(State(reports): State<Reports>, Query(query): Query<ReportQuery>) -> Json<Report> {
    Json(reports.after(&query).await)
}
