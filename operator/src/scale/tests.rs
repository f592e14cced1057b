//! The table of scale-down. DESIGN 13.

use DrainState::{Drained, Draining, HandingOver, Serving};
use Replica::{NotRunning, Said, Silent};

use super::*;

#[derive(Default)]
struct Case {
    seen: Observation,
}

fn case(wanted: u32, current: impl Into<Option<u32>>) -> Case {
    let current = current.into();
    let claims = (0..current.unwrap_or_default()).map(|ordinal| (ordinal, false)).collect();
    let pods = (0..current.unwrap_or_default()).map(|ordinal| (ordinal, Said(Serving))).collect();
    Case { seen: Observation { wanted, current, pods, claims, ..Observation::default() } }
}

impl Case {
    fn pod(mut self, ordinal: u32, pod: impl Into<Option<Replica>>) -> Self {
        match pod.into() {
            Some(pod) => self.seen.pods.insert(ordinal, pod),
            None => self.seen.pods.remove(&ordinal),
        };
        self
    }

    fn claim(mut self, ordinal: u32, marked: bool) -> Self {
        self.seen.claims.insert(ordinal, marked);
        self
    }

    fn drain_pod(mut self, ordinal: u32, pod: DrainPod) -> Self {
        self.seen.drain_pods.insert(ordinal, pod);
        self
    }

    /// What is decided, in words; `waiting` apart.
    fn decides(&self) -> String {
        let Decision { replicas, drain, resume, mark, unmark, make, remove, waiting: _ } = decide(&self.seen);
        let mut words = vec![replicas.to_string()];
        for (word, ordinals) in [
            ("drain", drain),
            ("resume", resume),
            ("mark", mark),
            ("unmark", unmark),
            ("make", make),
            ("remove", remove),
        ] {
            words.extend(ordinals.into_iter().map(|ordinal| format!("{word}-{ordinal}")));
        }
        words.join(" ")
    }
}

#[test]
fn the_table() {
    let day = Duration::from_hours(24);
    for (what, case, expected) in [
        ("the first start", case(3, None), "3"),
        ("as it is to be", case(3, 3), "3"),
        ("more", case(5, 3), "5"),
        ("fewer: those that go are drained first", case(1, 3), "3 drain-1 drain-2"),
        ("one of two is done", case(1, 3).pod(1, Said(Draining)).pod(2, Said(Drained)), "3"),
        ("handing over is not done", case(1, 2).pod(1, Said(HandingOver)), "2"),
        ("done: marked", case(1, 2).pod(1, Said(Drained)), "2 mark-1"),
        ("then gone", case(1, 2).pod(1, Said(Drained)).claim(1, true), "1"),
        ("gone and marked: nothing is left to do", case(1, 1).claim(1, true), "1"),
        (
            "still ending: two writers of one queue must never be",
            case(1, 1).pod(1, Said(Draining)).claim(1, false),
            "1",
        ),
        ("no pod of a replica that goes: emptied later", case(1, 2).pod(1, None), "1"),
        ("and now", case(1, 1).claim(1, false), "1 make-1"),
        ("a pod that never ran", case(1, 2).pod(1, NotRunning), "1"),
        ("silent for a moment", case(1, 2).pod(1, Silent(Duration::from_secs(3))), "2 drain-1"),
        ("silent for long", case(1, 2).pod(1, Silent(day)), "1"),
        ("second thoughts while draining", case(3, 3).pod(2, Said(Draining)), "3 resume-2"),
        ("second thoughts when it was marked", case(2, 2).pod(1, Said(Drained)).claim(1, true), "2 resume-1 unmark-1"),
        ("up again", case(2, 1).claim(1, true), "2 unmark-1"),
        ("at work", case(1, 1).claim(1, false).drain_pod(1, DrainPod::Working), "1"),
        ("empty", case(1, 1).claim(1, false).drain_pod(1, DrainPod::Succeeded), "1 mark-1"),
        ("empty and marked", case(1, 1).claim(1, true).drain_pod(1, DrainPod::Succeeded), "1 remove-1"),
        ("evicted", case(1, 1).claim(1, false).drain_pod(1, DrainPod::Failed), "1 remove-1"),
        ("its volume was deleted", case(1, 1).drain_pod(1, DrainPod::Working), "1 remove-1"),
        ("up again while it is at work", case(3, 1).claim(1, false).drain_pod(1, DrainPod::Working), "1 remove-1"),
        ("and while it ends", case(3, 1).claim(1, false).drain_pod(1, DrainPod::Ending), "1"),
        ("up to below it", case(4, 1).claim(2, false).drain_pod(2, DrainPod::Ending), "2"),
        (
            "an install over volumes of one with more replicas",
            case(1, None).claim(0, false).claim(2, false),
            "1 make-2",
        ),
    ] {
        assert_eq!(case.decides(), expected, "{what}");
    }
}

/// Whatever is seen: no volume is given to two pods, none that holds something is called empty, and nothing that waits is
/// dropped.
#[test]
fn no_decision_loses_anything() {
    use proptest::prelude::*;
    let replica = prop_oneof![
        Just(NotRunning),
        (0u64..300).prop_map(|seconds| Silent(Duration::from_secs(seconds))),
        prop::sample::select(vec![Said(Serving), Said(Draining), Said(HandingOver), Said(Drained)]),
    ];
    let drain_pod =
        prop::sample::select(vec![DrainPod::Working, DrainPod::Succeeded, DrainPod::Failed, DrainPod::Ending]);
    let seen = (
        1u32..5,
        prop::option::of(1u32..5),
        prop::collection::btree_map(0u32..6, replica, 0..6),
        prop::collection::btree_map(0u32..6, drain_pod, 0..3),
        prop::collection::btree_map(0u32..6, any::<bool>(), 0..6),
    )
        .prop_map(|(wanted, current, pods, drain_pods, claims)| Observation {
            wanted,
            current,
            pods,
            drain_pods,
            claims,
        });
    proptest!(|(seen in seen)| {
        let decision = decide(&seen);
        let current = seen.current.unwrap_or_default();
        for ordinal in &decision.make {
            prop_assert!(*ordinal >= decision.replicas.max(current) && !seen.pods.contains_key(ordinal));
            prop_assert!(!seen.drain_pods.contains_key(ordinal));
        }
        for ordinal in current..decision.replicas {
            prop_assert!(!seen.drain_pods.contains_key(&ordinal), "two pods on volume {}", ordinal);
        }
        for ordinal in &decision.mark {
            let drained = seen.pods.get(ordinal) == Some(&Said(Drained));
            let emptied = !seen.pods.contains_key(ordinal)
                && seen.drain_pods.get(ordinal) == Some(&DrainPod::Succeeded);
            prop_assert!(drained || emptied);
        }
        for ordinal in decision.replicas..current {
            if let Some(Said(state)) = seen.pods.get(&ordinal) {
                prop_assert_eq!(*state, Drained);
            }
        }
        prop_assert!(decision.drain.is_disjoint(&decision.resume));
    });
}
