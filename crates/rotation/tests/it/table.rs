//! Each phase, each thing that counts in it.

use std::collections::BTreeSet;

use zen_model::Timestamp;
use zen_model::reason::RotationReason as R;
use zen_rotation::{
    Half, Member, Newcomers, Observed, Phase, Plan, Probes, Rotation, Step, Subject, Which, Work, decide, dry_run,
};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn pods(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// `o` uses the old, `n` the new; in capitals it does not work. `-` trusts the old alone, `+` both, `*` the new alone.
fn seen(members: &[(&str, &str)], at: u64) -> Observed {
    let member = |text: &str| Member {
        half: None,
        ready: text.contains(['o', 'n']),
        uses_new: text.contains(['n', 'N']),
        trusts: match text {
            text if text.contains('-') => Which::Old,
            text if text.contains('*') => Which::New,
            _ => Which::Both,
        },
    };
    Observed {
        now: START.plus(std::time::Duration::from_secs(at)),
        is_made: true,
        newcomers: Newcomers { trust: Which::Both, use_new: true },
        members: members.iter().map(|(name, text)| ((*name).to_owned(), member(text))).collect(),
        ..Observed::default()
    }
}

fn rotation(phase: Phase) -> Rotation {
    Rotation::new(Subject::Root, Plan::default(), START).enter(phase, START)
}

fn passed(mut seen: Observed, passed: u32) -> Observed {
    seen.probes = Probes { passed, failed: false };
    seen
}

fn back(failure: R) -> Step {
    Step::Enter(Phase::RollingBack { failure })
}

/// The work, without when to look again; that is five seconds later.
fn to_do(work: Work, at: u64) -> Step {
    Step::Do(work, START.plus(std::time::Duration::from_secs(at + 5)))
}

fn using(names: &[&str], new: bool, everybody: bool) -> Work {
    Work::Use { pods: pods(names), new, everybody }
}

/// As the rows of the way back begin: who comes is given the old.
fn old(mut seen: Observed) -> Observed {
    seen.newcomers.use_new = false;
    seen
}

fn published(mut seen: Observed, which: Which) -> Observed {
    seen.newcomers.trust = which;
    seen
}

type Row = (&'static str, Phase, Observed, Step);

fn check(rows: Vec<Row>) {
    for (what, phase, seen, expected) in rows {
        assert_eq!(decide(&rotation(phase.clone()), &seen), expected, "{phase:?}: {what}");
    }
}

#[test]
fn until_the_canary_is_shown_to_work() {
    let canary = |names: &[&str]| Phase::Canary { pods: pods(names) };
    let probing = |names: &[&str]| Phase::Probing { pods: pods(names) };
    let unmade = |at| Observed { is_made: false, ..seen(&[("a", "o-")], at) };
    check(vec![
        ("nothing is made", Phase::Planned, unmade(0), to_do(Work::Make, 0)),
        ("for too long", Phase::Planned, unmade(601), back(R::MaterialNotMade)),
        ("made", Phase::Planned, seen(&[("a", "o-")], 0), Step::Enter(Phase::Trusting)),
        (
            "one does not trust it",
            Phase::Trusting,
            seen(&[("a", "o+"), ("b", "o-")], 600),
            to_do(Work::Trust(Which::Both), 600),
        ),
        ("for too long", Phase::Trusting, seen(&[("a", "o+"), ("b", "o-")], 601), back(R::TrustNotSpread)),
        (
            "all do: the first goes first",
            Phase::Trusting,
            seen(&[("a", "o+"), ("b", "o+")], 0),
            Step::Enter(canary(&["a"])),
        ),
        (
            "one that works goes first",
            Phase::Trusting,
            seen(&[("a", "O+"), ("b", "o+")], 0),
            Step::Enter(canary(&["b"])),
        ),
        ("nobody is there", Phase::Trusting, seen(&[], 0), Step::Enter(canary(&[]))),
        ("it uses the old", canary(&["a"]), seen(&[("a", "o+"), ("b", "o+")], 0), to_do(using(&["a"], true, false), 0)),
        (
            "it does not work",
            canary(&["a"]),
            seen(&[("a", "N+"), ("b", "o+")], 0),
            to_do(using(&["a"], true, false), 0),
        ),
        ("for too long", canary(&["a"]), seen(&[("a", "N+"), ("b", "o+")], 601), back(R::CanaryStuck)),
        ("it uses the new", canary(&["a"]), seen(&[("a", "n+"), ("b", "o+")], 0), Step::Enter(probing(&["a"]))),
        ("it is gone: another", canary(&["a"]), seen(&[("b", "o+")], 0), Step::Enter(canary(&["b"]))),
        ("one of two is gone", canary(&["a", "b"]), seen(&[("b", "n+"), ("c", "o+")], 0), Step::Enter(probing(&["b"]))),
        (
            "one came that does not trust it",
            canary(&["a"]),
            seen(&[("a", "o+"), ("b", "o-")], 0),
            to_do(Work::Trust(Which::Both), 0),
        ),
        ("no probe has passed", probing(&["a"]), seen(&[("a", "n+")], 61), to_do(Work::Probe, 61)),
        ("too few have", probing(&["a"]), passed(seen(&[("a", "n+")], 61), 2), to_do(Work::Probe, 61)),
        ("too early", probing(&["a"]), passed(seen(&[("a", "n+")], 59), 9), to_do(Work::Probe, 59)),
        ("enough", probing(&["a"]), passed(seen(&[("a", "n+")], 60), 3), Step::Enter(Phase::RollingOut)),
        ("none for too long", probing(&["a"]), seen(&[("a", "n+")], 661), back(R::ProbesMissing)),
        ("it is gone", probing(&["a"]), passed(seen(&[("b", "o+")], 60), 3), Step::Enter(canary(&["a"]))),
        ("it uses the old again", probing(&["a"]), passed(seen(&[("a", "o+")], 60), 3), Step::Enter(canary(&["a"]))),
        ("it works no more", probing(&["a"]), passed(seen(&[("a", "N+")], 60), 3), Step::Enter(canary(&["a"]))),
    ]);
}

/// What the events of probes go through is among those that go first.
#[test]
fn both_halves_of_an_events_way_go_first() {
    let of = |members: &[(&str, &str)], percent: u8| {
        let mut seen = seen(members, 0);
        for (name, member) in &mut seen.members {
            member.half = match name.as_bytes()[0] {
                b'e' => Some(Half::Delivers),
                b'i' => Some(Half::Takes),
                _ => None,
            };
        }
        let mut rotation = rotation(Phase::Trusting);
        rotation.plan.canary_percent = percent;
        decide(&rotation, &seen)
    };
    let all = [("a", "o+"), ("e0", "O+"), ("e1", "o+"), ("i0", "o+"), ("i1", "o+"), ("z", "o+")];
    for (what, members, percent, expected) in [
        ("a tenth of six, which is one", &all[..], 10, &["e1", "i0"][..]),
        ("half of them: and the first of all names", &all, 50, &["a", "e1", "i0"]),
        ("all", &all, 100, &["a", "e0", "e1", "i0", "i1", "z"]),
        ("ingesters alone", &all[3..5], 10, &["i0"]),
        ("none of either", &all[..1], 10, &["a"]),
        ("none that works", &all[..2], 10, &["a"]),
    ] {
        assert_eq!(of(members, percent), Step::Enter(Phase::Canary { pods: pods(expected) }), "{what}");
    }
}

#[test]
fn until_the_old_is_gone() {
    let rest = |until| Observed {
        old_until: Some(START.plus(std::time::Duration::from_secs(until))),
        ..seen(&[("a", "n+"), ("b", "n+")], 100)
    };
    let at = |seconds| START.plus(std::time::Duration::from_secs(seconds));
    check(vec![
        (
            "nobody is there, who comes is given the old",
            Phase::RollingOut,
            old(seen(&[], 0)),
            to_do(using(&[], true, true), 0),
        ),
        (
            "nobody is there, who comes trusts the old",
            Phase::RollingOut,
            published(seen(&[], 0), Which::Old),
            to_do(Work::Trust(Which::Both), 0),
        ),
        ("one is left", Phase::RollingOut, seen(&[("a", "n+"), ("b", "o+")], 0), to_do(using(&["b"], true, true), 0)),
        ("for too long", Phase::RollingOut, seen(&[("a", "n+"), ("b", "o+")], 601), back(R::RolloutStuck)),
        ("one came", Phase::RollingOut, seen(&[("a", "n+"), ("b", "n-")], 0), to_do(Work::Trust(Which::Both), 0)),
        ("all", Phase::RollingOut, seen(&[("a", "n+"), ("b", "n+")], 0), Step::Enter(Phase::Verifying)),
        ("too few probes", Phase::Verifying, passed(seen(&[("a", "n+")], 0), 2), to_do(Work::Probe, 0)),
        ("enough", Phase::Verifying, passed(seen(&[("a", "n+")], 0), 3), Step::Enter(Phase::Overlap)),
        ("none for too long", Phase::Verifying, seen(&[("a", "n+")], 661), back(R::ProbesMissing)),
        ("one came with the old", Phase::Verifying, passed(seen(&[("a", "o+")], 0), 3), Step::Enter(Phase::RollingOut)),
        ("the old is out there", Phase::Overlap, rest(200), Step::Wait(at(105))),
        ("for a little longer", Phase::Overlap, rest(102), Step::Wait(at(102))),
        ("no longer", Phase::Overlap, rest(100), Step::Enter(Phase::Retiring)),
        ("nothing of it ever was", Phase::Overlap, seen(&[("a", "n+")], 0), Step::Enter(Phase::Retiring)),
        ("one came with the old", Phase::Overlap, seen(&[("a", "o+")], 9), Step::Enter(Phase::RollingOut)),
        ("after hours one comes", Phase::Overlap, seen(&[("a", "n-")], 9999), to_do(Work::Trust(Which::Both), 9999)),
        ("all trust both", Phase::Retiring, seen(&[("a", "n+"), ("b", "n+")], 0), to_do(Work::Trust(Which::New), 0)),
        (
            "one still does",
            Phase::Retiring,
            seen(&[("a", "n*"), ("b", "n+")], 9999),
            to_do(Work::Trust(Which::New), 9999),
        ),
        (
            "one uses the old",
            Phase::Retiring,
            seen(&[("a", "n*"), ("b", "o+")], 0),
            to_do(using(&["b"], true, true), 0),
        ),
        (
            "one trusts the old alone",
            Phase::Retiring,
            seen(&[("a", "n+"), ("b", "n-")], 0),
            to_do(Work::Trust(Which::Both), 0),
        ),
        ("who comes trusts both", Phase::Retiring, seen(&[("a", "n*")], 0), to_do(Work::Trust(Which::New), 0)),
        ("who comes is given the old", Phase::Retiring, old(seen(&[("a", "n*")], 0)), to_do(using(&[], true, true), 0)),
        (
            "nobody trusts the old",
            Phase::Retiring,
            published(seen(&[("a", "n*"), ("b", "n*")], 0), Which::New),
            Step::Enter(Phase::Finished),
        ),
        ("done", Phase::Finished, seen(&[("a", "o-")], 0), Step::Over),
    ]);
}

#[test]
fn on_the_way_back() {
    let failure = R::ProbeFailed;
    let rolling = || Phase::RollingBack { failure };
    let distrusting = || Phase::Distrusting { failure };
    check(vec![
        (
            "two use the new",
            rolling(),
            seen(&[("a", "n+"), ("b", "N+"), ("c", "o+")], 9999),
            to_do(using(&["a", "b"], false, true), 9999),
        ),
        ("who comes does", rolling(), seen(&[("a", "o+")], 0), to_do(using(&[], false, true), 0)),
        ("nobody does", rolling(), old(seen(&[("a", "o+"), ("b", "O-")], 0)), Step::Enter(distrusting())),
        ("all trust both", distrusting(), old(seen(&[("a", "o+"), ("b", "o+")], 0)), to_do(Work::Trust(Which::Old), 0)),
        (
            "one still does",
            distrusting(),
            old(published(seen(&[("a", "o-"), ("b", "o+")], 9999), Which::Old)),
            to_do(Work::Trust(Which::Old), 9999),
        ),
        ("who comes is given the new", distrusting(), seen(&[("a", "o+")], 0), Step::Enter(rolling())),
        ("who comes trusts both", distrusting(), old(seen(&[("a", "o-")], 0)), to_do(Work::Trust(Which::Old), 0)),
        ("one uses the new again", distrusting(), old(seen(&[("a", "n+")], 0)), Step::Enter(rolling())),
        (
            "nobody trusts the new",
            distrusting(),
            old(published(seen(&[("a", "o-"), ("b", "o-")], 0), Which::Old)),
            Step::Enter(Phase::RolledBack { failure }),
        ),
        ("done", Phase::RolledBack { failure }, seen(&[("a", "n*")], 0), Step::Over),
    ]);
    assert_eq!(rotation(Phase::RolledBack { failure }).reason(), failure);
}

/// What happens, and the reason that is told.
type Cause = (fn(&mut Observed), R);

/// In every phase: what sends it back, and where nothing does any more.
#[test]
fn what_sends_it_back() {
    let canary = pods(&["a"]);
    let forward = [
        Phase::Trusting,
        Phase::Canary { pods: canary.clone() },
        Phase::Probing { pods: canary },
        Phase::RollingOut,
        Phase::Verifying,
        Phase::Overlap,
    ];
    let failure = R::CanaryStuck;
    let settled = [
        Phase::Retiring,
        Phase::Finished,
        Phase::RollingBack { failure },
        Phase::Distrusting { failure },
        Phase::RolledBack { failure },
    ];
    let causes: [Cause; 4] = [
        (|seen| seen.aborted = true, R::RotationAborted),
        (|seen| seen.probes.failed = true, R::ProbeFailed),
        (|seen| seen.errors_raised = true, R::ErrorsRaised),
        (|seen| (seen.probes.failed, seen.errors_raised) = (true, true), R::ProbeFailed),
    ];
    for (cause, reason) in causes {
        for members in [&[("a", "n+"), ("b", "n+")], &[("a", "o+"), ("b", "n+")], &[("a", "o-"), ("b", "o-")]] {
            let quiet = passed(seen(members, 60), 3);
            let mut loud = quiet.clone();
            cause(&mut loud);
            for phase in &forward {
                assert_eq!(decide(&rotation(phase.clone()), &loud), back(reason), "{phase:?}");
            }
            for phase in &settled {
                let rotation = rotation(phase.clone());
                assert_eq!(decide(&rotation, &loud), decide(&rotation, &quiet), "{phase:?}");
            }
        }
    }
    // Before anything was done, only people can take it back.
    let mut loud = seen(&[("a", "o-")], 0);
    (loud.errors_raised, loud.probes.failed) = (true, true);
    assert_eq!(decide(&rotation(Phase::Planned), &loud), Step::Enter(Phase::Trusting));
    loud.aborted = true;
    assert_eq!(decide(&rotation(Phase::Planned), &loud), back(R::RotationAborted));
}

#[test]
fn the_canary_is_a_part_and_never_nobody() {
    for (members, percent, expected) in
        [(1, 10, 1), (9, 10, 1), (10, 10, 1), (11, 10, 2), (3, 0, 1), (4, 50, 2), (4, 200, 4)]
    {
        let names: Vec<_> = (0..members).map(|at| format!("pod-{at:02}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "o+")).collect();
        let mut rotation = rotation(Phase::Trusting);
        rotation.plan.canary_percent = percent;
        let Step::Enter(Phase::Canary { pods }) = decide(&rotation, &seen(&all, 0)) else { panic!("a canary") };
        assert_eq!(pods.len(), expected, "{percent} % of {members}");
    }
}

/// What is stored is stable: an operator of the next release reads what one of this wrote.
#[test]
fn what_is_stored_is_read_again() {
    let subject = Subject::IssuingCa(Some("team-a/eu".parse().expect("a cluster")));
    let rotation = Rotation::new(subject, Plan::default(), START);
    let rotation = rotation.enter(Phase::Probing { pods: pods(&["a"]) }, START.plus(std::time::Duration::from_secs(9)));
    let text = serde_json::to_string(&rotation).expect("written");
    assert_eq!(
        text,
        concat!(
            r#"{"subject":{"kind":"issuingCa","cluster":"team-a/eu"},"started":"2023-11-14T22:13:20.000Z","#,
            r#""phase":{"name":"probing","pods":["a"]},"since":"2023-11-14T22:13:29.000Z","#,
            r#""plan":{"canaryPercent":10,"probes":3,"soakSeconds":60,"patienceSeconds":600,"intervalSeconds":5,"#,
            r#""settleSeconds":180}}"#
        )
    );
    assert_eq!(serde_json::from_str::<Rotation>(&text).expect("read"), rotation);
    // One that a release before has stored goes on.
    let text = text.replace(r#","settleSeconds":180"#, "");
    assert_eq!(serde_json::from_str::<Rotation>(&text).expect("read"), rotation);
    let back = rotation.enter(Phase::RollingBack { failure: R::ErrorsRaised }, START);
    let text = serde_json::to_string(&back).expect("written");
    assert!(text.contains(r#"{"name":"rollingBack","failure":"ErrorsRaised"}"#), "{text}");
    assert_eq!(serde_json::from_str::<Rotation>(&text).expect("read"), back);
}

#[test]
fn a_dry_run_says_what_would_be_done() {
    let mut seen = seen(&[("a", "o-"), ("b", "o-"), ("c", "o-")], 0);
    (seen.is_made, seen.newcomers.trust, seen.newcomers.use_new) = (false, Which::Old, false);
    seen.old_until = Some(START.plus(std::time::Duration::from_hours(1)));
    let phases = dry_run(&Rotation::new(Subject::Root, Plan::default(), START), &seen);
    let shown: Vec<_> = phases.iter().map(|(phase, work)| (phase.label(), work.clone())).collect();
    assert_eq!(
        shown,
        [
            ("planned", vec![Work::Make]),
            ("trusting", vec![Work::Trust(Which::Both)]),
            ("canary", vec![using(&["a"], true, false)]),
            ("probing", vec![Work::Probe]),
            ("rolling_out", vec![using(&["b", "c"], true, true)]),
            ("verifying", vec![Work::Probe]),
            ("overlap", vec![]),
            ("retiring", vec![Work::Trust(Which::New)]),
            ("finished", vec![]),
        ]
    );
}
