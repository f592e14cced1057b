//! Without hub, operator and API server delivery goes on, for the life of the certificates and no longer; what comes then waits
//! (T-07; issue 6, point 9).

use std::net::SocketAddr;
use std::time::Duration;

use zen_testkit::Upstream;

use crate::pods::load::Load;
use crate::pods::objects::{HOOK, WEBHOOK, ci, enroll};
use crate::pods::source::Source;
use crate::pods::stage::{ANY, Egress, Ingester, Stage, metric, ready, until};

/// Long enough for what is done while they last, on a busy machine.
const LIFETIME: Duration = Duration::from_mins(1);

/// Seconds, as an alert sees it.
async fn remaining(admin: SocketAddr) -> f64 {
    of(admin, "workload").await
}

async fn of(admin: SocketAddr, usage: &str) -> f64 {
    metric(admin, "zen_identity_certificate_expiry_seconds", &[("usage", usage)]).await.expect("it is told")
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_goes_on_for_the_life_of_the_certificates_and_what_comes_then_waits() {
    let upstream = Upstream::http().await;
    let mut stage = Stage::start().await;
    stage.certificates_last(LIFETIME);
    let (mut ingester, mut egress) = (Ingester::new(0), Egress::new(0));
    stage.apply(&[WEBHOOK, &ci(&upstream, "Egress")]).await;
    ingester.start(&stage, &[]).await;
    egress.start(&stage).await;
    stage.egresses(&[&egress]).await;
    let intake = ingester.addresses().intake.unwrap();
    let mut source = Source::connect(intake, stage.roots()).await;
    until("the Webhook is served", async || source.post(HOOK, "1").await == 202).await;
    until("it is delivered", async || !upstream.received().is_empty()).await;

    // Under load: everything that writes and signs goes, and no request and no delivery fails.
    let load = Load::start(&[intake], &stage.trust());
    until("requests flow", async || load.sent() > 50).await;
    stage.leave();
    let before = load.sent();
    until("and go on", async || load.sent() > before + 300).await;
    let mut arrived = load.end().await + 1;
    until("all of it is delivered", async || upstream.received().len() == arrived).await;

    // Containers that start anew find all they need in their volumes.
    ingester.stop().await;
    egress.stop().await;
    egress.start(&stage).await;
    ingester.start(&stage, &[]).await;
    let admin = ingester.addresses().admin;
    until("ready again", async || ready(admin).await.0 == 200).await;
    let intake = ingester.addresses().intake.unwrap();

    // The metric warns while everything still works.
    let third = LIFETIME.as_secs_f64() / 3.0;
    until("the metric warns", async || {
        remaining(admin).await < third && remaining(egress.addresses().admin).await < third
    })
    .await;
    let mut source = Source::connect(intake, stage.roots()).await;
    assert_eq!(source.post(HOOK, "2").await, 202);
    arrived += 1;
    until("delivery goes on", async || upstream.received().len() == arrived).await;
    assert!(remaining(admin).await > 0.0, "this machine is too slow for certificates of {LIFETIME:?}");

    // They end: no link can be opened anew, nor a connection to an intake whose certificate is ours; events wait.
    until("they have ended", async || {
        // What is open stays open.
        assert_eq!(source.post(HOOK, "2").await, 202);
        arrived += 1;
        remaining(admin).await <= 0.0 && of(admin, "serving").await <= 0.0
    })
    .await;
    until("all of it is delivered", async || upstream.received().len() == arrived).await;
    until("sources check as well", async || Source::try_connect(intake, stage.roots()).await.is_none()).await;
    egress.stop().await;
    tokio::join!(egress.start(&stage), async {
        assert_eq!(source.post(HOOK, "3").await, 202, "connections that are there live on");
        let destination = [("namespace", "team-a"), ("destination", "ci")];
        until("it waits", async || metric(admin, "zen_queue_waiting", &destination).await == Some(1.0)).await;
        assert_eq!(upstream.received().len(), arrived);
        // And goes on by itself: pods ask again, the API server is still away.
        stage.operator_returns();
    });
    arrived += 1;
    until("what waited arrives", async || upstream.received().len() == arrived).await;
    until("they are renewed", async || remaining(admin).await > 0.0 && of(admin, "serving").await > 0.0).await;
    let mut source = Source::connect(intake, stage.roots()).await;
    assert_eq!(source.post(HOOK, "4").await, 202);
    until("and delivery is as before", async || upstream.received().len() == arrived + 1).await;
    ingester.stop().await;
    egress.stop().await;
}

/// The hub's operator and both API servers are away: the member's egress delivers what the hub takes in, also after its container
/// and the hub's started anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_delivers_while_the_hubs_operator_is_away() {
    let upstream = Upstream::http().await;
    let mut stage = Stage::start().await;
    let (mut ingester, mut egress) = (Ingester::new(0), Egress::new(0));
    ingester.start(&stage, &["--relay", ANY]).await;
    enroll(&stage).await;
    stage.apply(&[WEBHOOK, &ci(&upstream, "Relay\n  cluster: eu")]).await;
    let mut source = Source::connect(ingester.addresses().intake.unwrap(), stage.roots()).await;
    until("the Webhook is served", async || source.post(HOOK, "1").await == 202).await;
    egress.start_in_member(&stage, ingester.addresses().relay.unwrap()).await;
    until("it is delivered", async || upstream.received().len() == 1).await;

    stage.leave();
    let load = Load::start(&[ingester.addresses().intake.unwrap()], &stage.trust());
    until("requests flow", async || load.sent() > 200).await;
    let arrived = load.end().await + 1;
    until("all of it is delivered", async || upstream.received().len() == arrived).await;

    egress.stop().await;
    ingester.stop().await;
    ingester.start(&stage, &["--relay", ANY]).await;
    egress.start_in_member(&stage, ingester.addresses().relay.unwrap()).await;
    let mut source = Source::connect(ingester.addresses().intake.unwrap(), stage.roots()).await;
    until("the Webhook is served again", async || source.post(HOOK, "2").await == 202).await;
    until("and delivered", async || upstream.received().len() == arrived + 1).await;
    egress.stop().await;
    ingester.stop().await;
}
