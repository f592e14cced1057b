//! How many objects of users are all right: for alerts, and for a glance at a mesh of thousands.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::conditions::{State, Status};
use super::object::Kind;

/// What a status comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Every condition holds.
    Fine,
    /// One does not.
    Problem,
    /// Nothing is said yet, or one is not known.
    Unsettled,
}

impl Standing {
    /// Of a status.
    pub fn of(status: &Status) -> Self {
        if status.problem().is_some() {
            Self::Problem
        } else if status.conditions.is_empty() || status.conditions.iter().any(|it| it.state == State::Unknown) {
            Self::Unsettled
        } else {
            Self::Fine
        }
    }
}

/// Counts objects by kind and standing. Zero at a replica that does not lead.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    objects: Family<[(&'static str, &'static str); 2], Gauge>,
}

impl Metrics {
    /// Adds them to the registry, beneath the prefix that it has.
    pub fn register(&self, registry: &mut Registry) {
        let help =
            "Objects of users by kind and by what their conditions say: ok, problem or unsettled; zero unless leading";
        registry.register("objects", help, self.objects.clone());
    }

    /// One object went from here to there; none: it was not, or is no longer.
    pub fn moved(&self, kind: Kind, from: Option<Standing>, to: Option<Standing>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.gauge(kind, from).dec();
        }
        if let Some(to) = to {
            self.gauge(kind, to).inc();
        }
    }

    fn gauge(&self, kind: Kind, standing: Standing) -> impl std::ops::Deref<Target = Gauge> + '_ {
        let state = match standing {
            Standing::Fine => "ok",
            Standing::Problem => "problem",
            Standing::Unsettled => "unsettled",
        };
        self.objects.get_or_create(&[("kind", kind.name()), ("state", state)])
    }
}
