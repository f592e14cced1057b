//! Another version of a member's keys because somebody asks for it (T-06, W-12).

use std::time::Duration;

use serde_json::json;
use zen_enroll::{Synced, sync_path};
use zen_runtime::lease::Leadership;
use zen_seal::cluster::ClusterKey;

use super::super::rotate::{Error, Rotated, rotate, version};
use super::stage::{Member, Stage, cluster};
use crate::{Writer, writer};

const ID: &str = "team-a/prod-eu";
const HOUR: Duration = Duration::from_hours(1);

async fn told(stage: &Stage, member: &Member) -> Result<Synced, String> {
    let identity = member.identity("zen-operator", zen_model::Timestamp::now());
    let (body, proof) = member.ask(None, stage.now());
    let path = sync_path(&member.cluster);
    let (status, answer) = stage.raw(&path, Some(&proof.value()), body, Some(&identity)).await.expect("an answer");
    if status != 200 {
        return Err(answer["code"].as_str().expect("a code").to_owned());
    }
    Ok(serde_json::from_value(answer).expect("told"))
}

#[tokio::test]
async fn another_version_of_a_members_keys_comes_beside_the_one_before() {
    let stage = Stage::start().await;
    let mut member = stage.enroll(ID).await;
    let client = stage.cluster.server.client();
    let writer = Writer::new(client.clone(), Leadership::unguarded(), "zen-operator-0", writer::Metrics::default());
    let cluster = cluster(ID);
    let old = version(&client, &cluster, stage.now()).await.expect("enrolled");
    let by = async |old: i64, overlap| {
        // The loop of the leader writes the status, too, where the member was just heard.
        for _ in 0..5 {
            match rotate(&client, &writer, &cluster, old, overlap, stage.now()).await {
                Ok(rotated) => return rotated,
                Err(error) => assert!(matches!(error, Error::Write(writer::Error::Conflict(_))), "{error}"),
            }
        }
        panic!("never")
    };
    let Rotated::Done { version: new, until: Some(until) } = by(old, HOUR).await else { panic!("rotated") };
    assert_eq!((new, until.since(stage.now()).as_secs() / 60), (old + 1, 59));
    // As after a crash: nothing is done twice.
    assert_eq!(by(old, HOUR).await, Rotated::Done { version: new, until: Some(until) });
    let versions = |synced: &Synced| synced.given.keys.iter().map(|key| i64::from(key.version)).collect::<Vec<_>>();
    stage.until(async || told(&stage, &member).await.is_ok_and(|synced| versions(&synced) == [new, old])).await;

    // The member goes over to it, and the one before ends by itself.
    let synced = told(&stage, &member).await.expect("with the key that it had");
    let newest = &synced.given.keys[0];
    let before = std::mem::replace(
        &mut member.key,
        ClusterKey::given(&newest.agent_key.0, &member.cluster, newest.version).expect("32 bytes"),
    );
    assert_eq!(versions(&told(&stage, &member).await.expect("with the new one")), [new, old]);
    stage.later(HOUR);
    stage.until(async || stage.status(ID)["keys"].as_array().is_some_and(|keys| keys.len() == 1)).await;
    assert_eq!(versions(&told(&stage, &member).await.expect("with the new one")), [new]);
    member.key = before;
    assert_eq!(told(&stage, &member).await.err().as_deref(), Some("KeyNotAccepted"));

    // An overlap in which a member could not even ask is none.
    let Rotated::Done { until: Some(until), .. } = by(new, Duration::ZERO).await else { panic!("rotated") };
    assert!(until.since(stage.now()) > Duration::from_mins(9), "{until}");
    for number in 2..4 {
        assert!(matches!(by(old + number, HOUR).await, Rotated::Done { .. }), "{number}");
    }
    let full = version(&client, &cluster, stage.now()).await.expect_err("too many");
    assert!(full.contains("4 versions"), "{full}");

    // What counts no more is not rotated.
    assert_eq!(by(old, HOUR).await, Rotated::Not(format!("{ID} was enrolled anew meanwhile")));
    stage.apply(ID, &json!({"disabled": true}));
    stage.phase(ID, "Disabled").await;
    assert_eq!(by(old + 4, HOUR).await, Rotated::Not(format!("{ID} is not enrolled any more")));
    assert!(version(&client, &cluster, stage.now()).await.is_err());
    stage.delete(ID);
    assert_eq!(by(old + 4, HOUR).await, Rotated::Not(format!("{ID} is not enrolled any more")));
}
