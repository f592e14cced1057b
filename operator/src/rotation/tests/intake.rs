//! Whole rotations of the certificate that ingesters present to sources (T-04).

use super::*;

const INGESTERS: [&str; 2] = ["zen-ingester-0", "zen-ingester-1"];
/// As leaves are.
const BACKDATED: Duration = Duration::from_mins(5);

fn ask(stage: &Stage) {
    let plan = Plan { soak_seconds: 30, patience_seconds: 120, ..Plan::default() };
    let request = Request { id: "r".to_owned(), action: Action::Start, subject: Subject::IntakeTls, plan };
    let mut object = stage.cluster.object(record::CONFIG_MAP).expect("there");
    object["data"][record::REQUEST] = serde_json::to_string(&request).expect("serializes").into();
    stage.cluster.put(object);
}

fn issued(now: Timestamp) -> Validity {
    let from = Timestamp(now.0 - u64::try_from(BACKDATED.as_millis()).expect("short"));
    Validity { from, until: now.plus(Duration::from_hours(24)) }
}

/// Each ingester that is told so has another leaf, unless it is one that has not. Until all is over; who went first.
async fn follow(stage: &mut Stage, stays: Option<&str>, refused: bool) -> Vec<&'static str> {
    let (before, clock) = (issued(Timestamp((stage.cluster.clock)().0 - 60_000)), Arc::clone(&stage.cluster.clock));
    stage.set(|pods| pods.intakes = INGESTERS.map(|pod| (pod, before)).into());
    ask(stage);
    let mut first = Vec::new();
    until(|| stage.phase().is_some()).await;
    let deadline = Instant::now() + Duration::from_hours(2);
    while stage.state().active.is_some() {
        assert!(Instant::now() < deadline, "stuck in {:?}", stage.state());
        for pod in INGESTERS.into_iter().filter(|pod| stays != Some(*pod)) {
            let Some(since) = stage.state().serving_since(pod) else { continue };
            stage.set(|pods| {
                if pods.intakes[pod].issued() < since {
                    pods.intakes.insert(pod, issued(clock()));
                    pods.refused = refused.then_some(pod);
                }
            });
        }
        if stage.phase() == Some("probing") {
            first = stage.set(|pods| {
                INGESTERS.into_iter().filter(|pod| pods.intakes[pod].until != before.until).collect::<Vec<_>>()
            });
        }
        sleep(Duration::from_secs(1)).await;
    }
    let renewed = stage.set(|pods| pods.intakes.values().filter(|intake| intake.until != before.until).count());
    assert_eq!(renewed == INGESTERS.len(), stage.state().ended[0].reason == RotationReason::RotationFinished);
    first
}

#[tokio::test(start_paused = true)]
async fn the_intakes_certificate_is_exchanged_by_a_canary_first() {
    let mut stage = Stage::start().await;
    let issuers = stage.issuers();
    let first = follow(&mut stage, None, false).await;
    assert_eq!(first, ["zen-ingester-0"]);
    let stored = stage.state();
    assert_eq!(stored.ended[0].reason, RotationReason::RotationFinished, "{:?}", stored.ended[0]);
    assert_eq!(stored.serving_since("zen-ingester-0"), None, "its age makes no difference any more");
    assert_eq!(stage.issuers(), issuers, "of the same issuing CA");
}

#[tokio::test(start_paused = true)]
async fn an_intake_that_cannot_be_met_with_the_new_takes_it_back() {
    let mut stage = Stage::start().await;
    follow(&mut stage, None, true).await;
    let ended = stage.state().ended[0].clone();
    assert!(matches!(ended.reason, RotationReason::ProbeFailed | RotationReason::CanaryStuck), "{ended:?}");
    assert!(stage.said(ended.reason.row().code));
    let mut stage = Stage::start().await;
    follow(&mut stage, Some("zen-ingester-1"), false).await;
    assert_eq!(stage.state().ended[0].reason, RotationReason::RolloutStuck);
}
