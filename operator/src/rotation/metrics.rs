use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use zen_model::reason::RotationReason;
use zen_rotation::Subject;
use zen_rotation::record::State;

/// What goes on, and what came of it.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    phase: Family<[(&'static str, &'static str); 2], Gauge>,
    ended: Family<[(&'static str, &'static str); 2], Counter>,
    probes: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Adds them to the registry, beneath the prefix that it has.
    pub fn register(&self, registry: &mut Registry) {
        let help = "1 for the phase in which a rotation is; none while nothing is rotated";
        registry.register("rotation_phase", help, self.phase.clone());
        registry.register("rotations", "Rotations that are over, by subject and reason", self.ended.clone());
        registry.register("rotation_probes", "Rounds of probes, by result", self.probes.clone());
    }

    pub(super) fn state(&self, state: &State) {
        self.phase.clear();
        if let Some(active) = &state.active {
            let labels = [("subject", active.rotation.subject.label()), ("phase", active.rotation.phase.label())];
            self.phase.get_or_create(&labels).set(1);
        }
    }

    pub(super) fn ended(&self, subject: &Subject, reason: RotationReason) {
        self.ended.get_or_create(&[("subject", subject.label()), ("reason", reason.row().code)]).inc();
    }

    pub(super) fn probed(&self, result: &'static str) {
        self.probes.get_or_create(&[("result", result)]).inc();
    }
}
