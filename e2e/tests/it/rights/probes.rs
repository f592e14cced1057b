//! What the events of probes go through: made and put away by the operator, with the rights that it has for it (T-04).

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_events_of_probes_go_through_is_there_while_something_is_exchanged() {
    let mut stage = Stage::plain().await;
    stage.start_operator().await;
    let webhooks: Api<zen_crds::Webhook> = Api::namespaced(stage.admin(), NAMESPACE);
    let is_there = async || webhooks.get_opt(zen_pod::sink::NAME).await.unwrap().is_some();
    assert!(!is_there().await, "nothing is exchanged");
    rotation(&stage).await;
    until("it is put away", async || !is_there().await).await;
    // The data plane's role for it follows the objects.
    until("nothing is granted any more", async || {
        let roles: Api<Role> = Api::namespaced(stage.admin(), NAMESPACE);
        roles.get_opt("zen-ingester").await.unwrap().is_none()
    })
    .await;
    // The audit log is written a moment later.
    until("each right for it was used, and nothing else", async || {
        let problems = problems(&stage, &["zen-operator"], &[]).await;
        !problems.iter().any(|problem| problem.contains(zen_pod::sink::NAME))
    })
    .await;
    stage.stop().await;
}
