//! What a pod says of the signing keys that it has, by its metrics.

use zen_rotation::Which;
use zen_runtime::metrics::{parse, value};

/// What it signs with and verifies at the link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The version that it signs with.
    pub signs: Option<u32>,
    /// Versions that it verifies.
    pub verifies: Vec<u32>,
    /// Signatures so far of a key that it does not know, or that were wrong. Old ones say nothing about keys.
    pub wrong: u64,
}

impl Told {
    /// What it takes of two versions.
    pub(super) fn trusts(&self, old: u32, new: u32) -> Which {
        which(&self.verifies, old, new)
    }
}

/// What whoever verifies these takes of two versions.
pub(super) fn which(verified: &[u32], old: u32, new: u32) -> Which {
    match (verified.contains(&old), verified.contains(&new)) {
        (true, true) => Which::Both,
        (false, true) => Which::New,
        (_, false) => Which::Old,
    }
}

/// None: it says nothing of them, as a release before.
pub(super) fn told(text: &str) -> Option<Told> {
    let families = parse(text).ok()?;
    let family = families.iter().find(|family| family.name == "zen_signing_key_versions")?;
    let of = |what: &'static str| {
        let samples = family
            .samples
            .iter()
            .filter(move |sample| sample.value > 0.0 && sample.labels.get("use").is_some_and(|label| label == what));
        samples.filter_map(|sample| sample.labels.get("version")?.parse::<u32>().ok())
    };
    let wrong = ["unknown_key", "mismatch"]
        .map(|reason| value(text, "zen_egress_signature_failures_total", &[("reason", reason)]).unwrap_or_default());
    Some(Told {
        signs: of("signs").next(),
        verifies: of("verifies").collect(),
        wrong: super::rates::count(wrong.iter().sum()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_says() {
        let text = "\
# HELP zen_signing_key_versions 1 for each
# TYPE zen_signing_key_versions gauge
zen_signing_key_versions{use=\"signs\",version=\"1\"} 1
zen_signing_key_versions{use=\"verifies\",version=\"1\"} 1
zen_signing_key_versions{use=\"verifies\",version=\"2\"} 1
zen_signing_key_versions{use=\"targets\",version=\"3\"} 1
# HELP zen_egress_signature_failures Leases
# TYPE zen_egress_signature_failures counter
zen_egress_signature_failures_total{reason=\"unknown_key\"} 2
zen_egress_signature_failures_total{reason=\"stale\"} 9
zen_egress_signature_failures_total{reason=\"mismatch\"} 1
# EOF
";
        let pod = told(text).expect("it says it");
        assert_eq!(pod, Told { signs: Some(1), verifies: vec![1, 2], wrong: 3 });
        assert_eq!((pod.trusts(1, 2), pod.trusts(0, 2), pod.trusts(2, 3)), (Which::Both, Which::New, Which::Old));
        assert_eq!(told("# EOF\n"), None, "a release before");
        assert_eq!(told("nonsense"), None);
    }
}
