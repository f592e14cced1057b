//! What one leader took is not taken again by the next, whose memory of nonces is empty (T-01; issue 6, point 1).

use zen_enroll::Redeem;

use super::stage::{Stage, csr};

const ID: &str = "team-a/prod-eu";

#[tokio::test]
async fn a_request_is_not_taken_again_after_a_change_of_leader() {
    let mut stage = Stage::start().await;
    stage.apply(ID, &serde_json::json!({}));
    let opened = stage.bundle(ID, None).await;
    let (request, _) = csr(&opened.cluster);
    let (body, proof) = Redeem::new(&opened, request.clone()).prove(&opened, stage.now()).expect("proven");
    let redeem = zen_enroll::path(&opened.cluster);
    let member = stage.member(&opened).await;
    let (asked, asks) = member.ask(None, stage.now());
    let (identity, sync) = (member.identity("zen-operator", stage.now()), zen_enroll::sync_path(&opened.cluster));
    let synced =
        async |stage: &Stage, proof: &str, body: &[u8]| stage.code(&sync, proof, body.to_vec(), Some(&identity)).await;
    assert_eq!(synced(&stage, &asks.value(), &asked).await, "Issued");
    assert_eq!(synced(&stage, &asks.value(), &asked).await, "RequestReplayed");

    stage.another_leader().await;
    assert_eq!(stage.code(&redeem, &proof.value(), body, None).await, "NotLeader");
    assert_eq!(synced(&stage, &asks.value(), &asked).await, "NotLeader", "it could be one that was heard before");
    // Whoever has the keys proves anew, and is taken once.
    let (asked, asks) = member.ask(None, stage.now());
    assert_eq!(synced(&stage, &asks.value(), &asked).await, "Issued");
    assert_eq!(synced(&stage, &asks.value(), &asked).await, "RequestReplayed");
}
