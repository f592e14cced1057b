//! What `kubectl zen certs` shows.

use zen_rotation::inventory::{CERTIFICATES, CONFIG_MAP, Certificate, Inventory, Standing};

use super::*;

impl Stage {
    /// Those of pods.
    fn shown(&self) -> Vec<Certificate> {
        let object = self.cluster.object(CONFIG_MAP);
        let text = object
            .as_ref()
            .and_then(|object| object["data"][CERTIFICATES].as_str())
            .unwrap_or("{\"certificates\": []}");
        let inventory: Inventory = serde_json::from_str(text).expect("parses");
        inventory.certificates.into_iter().filter(|it| it.name.starts_with("Pod/")).collect()
    }
}

/// Each pod's, and what is served by name, of every standing.
#[tokio::test(start_paused = true)]
async fn every_certificate_is_shown() {
    let mut stage = Stage::start().await;
    until(|| stage.shown().len() > PODS.len()).await;
    let shown: Vec<_> = stage.shown().iter().map(|it| format!("{} {}", it.kind.label(), it.name)).collect();
    let mut expected = Vec::new();
    for pod in PODS {
        expected.extend(pod.starts_with("zen-ingester").then(|| format!("serving Pod/{pod}")));
        expected.push(format!("workload Pod/{pod}"));
    }
    expected.extend(["serving Pod/zen-operator-0", "workload Pod/zen-operator-0"].map(str::to_owned));
    expected.sort_by(|a, b| a.rsplit(' ').cmp(b.rsplit(' ')));
    assert_eq!(shown, expected);
    assert!(stage.shown().iter().all(|it| it.state == Standing::InUse), "{:?}", stage.shown());

    stage.ask(Action::Start);
    let mut next = Vec::new();
    stage
        .follow(|stage| {
            if stage.phase() == Some("rolling_out") {
                next = stage.shown().into_iter().filter(|it| it.state == Standing::Next).map(|it| it.name).collect();
            }
        })
        .await;
    let first = format!("Pod/{}", PODS[0]);
    assert!(next.contains(&first), "{next:?}");
    until(|| stage.shown().iter().all(|it| it.state == Standing::InUse)).await;
}

/// An intake's certificate that is the user's own comes from no issuer that is exchanged here.
#[tokio::test(start_paused = true)]
async fn an_intakes_own_certificate_is_in_use() {
    let stage = synthetic::stage("intake: {tlsSecret: own}").await;
    stage.set(|pods| pods.serves = Some("theirs".to_owned()));
    let theirs = || stage.shown().into_iter().find(|it| it.issuer.as_deref() == Some("theirs"));
    until(|| theirs().is_some()).await;
    let theirs = theirs().expect("seen");
    assert_eq!((theirs.kind.label(), theirs.state), ("serving", Standing::InUse));
}
