//! `/v1/drain`: the operator begins a drain, looks at it, and takes it back.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use zen_compile::Snapshot;
use zen_identity::Action;
use zen_identity::control::{DRAIN, DrainState, DrainStatus, PROBED};
use zen_identity::server::require;

use super::{Drain, State, Status};

#[derive(Clone)]
struct Control {
    drain: Drain,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl Drain {
    /// The routes, for the control API's router. `drainDelay` is that of the snapshot in effect when a drain begins; it counts from
    /// when the kubelet knows that this replica is not ready, as it does for a pod that is deleted.
    pub fn routes(&self, snapshot: Arc<ArcSwap<Snapshot>>) -> Router {
        let control = Control { drain: self.clone(), snapshot };
        let methods = get(show).post(begin).delete(resume);
        Router::new().route(DRAIN, methods.layer(require(Action::Drain))).with_state(control)
    }
}

impl Control {
    fn answer(&self) -> Json<DrainStatus> {
        Json(self.drain.status().into())
    }
}

async fn show(Shared(control): Shared<Control>) -> Json<DrainStatus> {
    control.answer()
}

async fn begin(Shared(control): Shared<Control>) -> Json<DrainStatus> {
    let delay: Duration = control.snapshot.load().mesh.drain_delay;
    control.drain.begin(PROBED + delay);
    control.answer()
}

async fn resume(Shared(control): Shared<Control>) -> Json<DrainStatus> {
    control.drain.resume();
    control.answer()
}

impl From<Status> for DrainStatus {
    fn from(status: Status) -> Self {
        let Status { state, waiting, dead_letters, claims } = status;
        Self { state: state.into(), waiting, dead_letters, claims }
    }
}

impl From<State> for DrainState {
    fn from(state: State) -> Self {
        match state {
            State::Serving => Self::Serving,
            State::Draining => Self::Draining,
            State::HandingOver => Self::HandingOver,
            State::Drained => Self::Drained,
        }
    }
}
