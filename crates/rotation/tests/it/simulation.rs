//! Whole rotations. At every moment each pod takes each other, whatever goes wrong, and in the end there is one material.

use proptest::prelude::*;
use zen_model::Timestamp;
use zen_model::reason::RotationReason as R;
use zen_rotation::{Phase, Plan, Rotation, Subject, Which};

use crate::mesh::{Event, Mesh};

const START: Timestamp = Timestamp::from_secs(1_700_000_000);

fn mesh(pods: usize) -> Mesh {
    Mesh::new(Rotation::new(Subject::Root, Plan::default(), START), pods)
}

/// Goes on to the end with nothing more going wrong.
fn finish(mesh: &mut Mesh) -> Result<(), String> {
    for _ in 0..5000 {
        mesh.connects()?;
        if !mesh.step() {
            return Ok(());
        }
    }
    Err(format!("it does not end: {:?}", mesh.rotation))
}

fn is_settled(mesh: &Mesh) -> bool {
    let new = mesh.rotation.phase == Phase::Finished;
    mesh.seen
        .members
        .values()
        .all(|member| (member.uses_new, member.trusts) == (new, if new { Which::New } else { Which::Old }))
}

#[test]
fn it_goes_well() {
    for pods in [0, 1, 2, 3, 30] {
        let mut mesh = mesh(pods);
        finish(&mut mesh).expect("connects");
        assert_eq!(mesh.rotation.phase, Phase::Finished);
        assert!(is_settled(&mesh));
    }
}

/// One failure at each step of a rotation that would go well.
#[test]
fn it_goes_back_from_anywhere() {
    for (event, reason) in
        [(Event::ProbeFails, R::ProbeFailed), (Event::Errors, R::ErrorsRaised), (Event::Abort, R::RotationAborted)]
    {
        let mut went_back = 0;
        for steps in 0..60 {
            let mut mesh = mesh(5);
            for _ in 0..steps {
                mesh.connects().expect("connects");
                mesh.step();
            }
            mesh.happens(event);
            finish(&mut mesh).expect("connects");
            assert!(is_settled(&mesh), "{event:?} after {steps} steps: {:?}", mesh.seen);
            if mesh.rotation.phase != Phase::Finished {
                assert_eq!(mesh.rotation.phase, Phase::RolledBack { failure: reason });
                went_back += 1;
            }
        }
        assert!(went_back > 9, "{event:?} sent it back {went_back} times");
    }
}

/// A canary that comes up with the new and does not work must not take anybody with it.
#[test]
fn a_bad_canary_goes_alone() {
    let mut mesh = mesh(20);
    while !matches!(mesh.rotation.phase, Phase::Canary { .. }) {
        mesh.step();
    }
    for at in 0..2 {
        mesh.happens(Event::Breaks(at));
    }
    let mut most = 0;
    while mesh.step() {
        mesh.connects().expect("connects");
        most = most.max(mesh.seen.members.values().filter(|member| member.uses_new).count());
    }
    assert_eq!(mesh.rotation.phase, Phase::RolledBack { failure: R::CanaryStuck });
    assert_eq!(most, 2, "a tenth went first, nobody else");
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..400_u16).prop_map(Event::Wait),
        3 => Just(Event::Comes),
        3 => any::<u8>().prop_map(Event::Goes),
        1 => any::<u8>().prop_map(Event::Breaks),
        2 => any::<u8>().prop_map(Event::Mends),
        1 => (0..400_u16).prop_map(Event::ClockBack),
        1 => Just(Event::ProbeFails),
        1 => Just(Event::Errors),
        1 => Just(Event::Abort),
        4 => (0..4_u8).prop_map(Event::Slow),
        4 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_request_fails_whatever_happens(
        pods in 0..7_usize,
        events in prop::collection::vec((0..8_u8, event()), 0..40),
    ) {
        let mut mesh = mesh(pods);
        for (steps, event) in events {
            for _ in 0..steps {
                mesh.step();
                prop_assert_eq!(mesh.connects(), Ok(()));
            }
            mesh.happens(event);
            prop_assert_eq!(mesh.connects(), Ok(()), "{:?}", event);
        }
        // Then everything works again.
        mesh.happens(Event::Slow(u8::MAX));
        for at in 0..=u8::MAX {
            mesh.happens(Event::Mends(at));
        }
        prop_assert_eq!(finish(&mut mesh), Ok(()));
        prop_assert!(is_settled(&mesh), "{:?}", mesh.seen);
    }
}
