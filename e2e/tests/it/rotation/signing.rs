//! The signing keys are exchanged under load, taken back by a probe and by hand, and no request fails; a target verifies with
//! the old key, and with the new one, for as long as both count (W-12, D-09, T-04).

use std::path::PathBuf;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use zen_model::signing::Versions;
use zen_model::{ObjectKey, Timestamp};
use zen_operator::names::{EGRESS_KEYS, INGESTER_KEYS, ROOT, ROOT_KEY};
use zen_operator::reconcile;
use zen_operator::scale::drains::{Known, Orders};
use zen_pod::keys::{SIGNING, VERSIONS};
use zen_testkit::Received;
use zen_verify::zen_signature::Keys;

use super::*;
use crate::pods::stage::get;

/// How long the kubelets of this test take, one after another.
const KUBELET: Duration = Duration::from_millis(300);

/// The part of the operator that writes what the planes mount.
fn reconcile(client: &kube::Client, service: &Service) {
    let writer = Writer::new(client.clone(), Leadership::unguarded(), "zen-operator-0", writer::Metrics::default());
    let parts = reconcile::Parts {
        client: client.clone(),
        writer,
        namespace: NAMESPACE.to_owned(),
        workloads: watch::channel(Followed::default()).1,
        mesh: watch::channel(Followed::default()).1,
        bundles: service.bundles(),
        signing: service.signing_versions(),
        published: watch::channel(Arc::default()).1,
        orders: watch::channel(Orders::default()).0,
        known: watch::channel(Known::new()).1,
        metrics: reconcile::Metrics::default(),
    };
    tokio::spawn(async move { Box::pin(reconcile::run(parts, CancellationToken::new())).await });
}

/// Brings what stands in the Secrets into the folders of the pods, one after another.
async fn kubelets(secrets: Api<Secret>, mounts: Vec<(&'static str, PathBuf)>) {
    loop {
        for (name, folder) in &mounts {
            tokio::time::sleep(KUBELET).await;
            let Ok(Some(secret)) = secrets.get_opt(name).await else { continue };
            let data = secret.data.unwrap_or_default();
            for (entry, ByteString(content)) in data.iter().filter(|(entry, _)| *entry == VERSIONS) {
                let half = folder.join("half");
                std::fs::write(&half, content).unwrap();
                std::fs::rename(half, folder.join(entry)).unwrap();
            }
        }
    }
}

async fn mounted(secrets: &Api<Secret>) -> [Versions; 2] {
    let mut found = Vec::new();
    for name in [INGESTER_KEYS, EGRESS_KEYS] {
        let data = secrets.get(name).await.unwrap().data.unwrap_or_default();
        found.push(data.get(VERSIONS).map_or_else(Versions::default, |text| Versions::from_json(&text.0).unwrap()));
    }
    found.try_into().unwrap()
}

async fn ask_about_keys(config_maps: &Api<ConfigMap>, id: &str, action: Action) {
    ask_for(config_maps, id, action, Subject::SigningKeys(None)).await;
}

async fn ask_for(config_maps: &Api<ConfigMap>, id: &str, action: Action, subject: Subject) {
    ask(config_maps, id, action, &subject, 10).await;
}

/// Whether a target that has the key of this version alone takes an event.
fn takes(stage: &Stage, version: u32, event: &Received) -> bool {
    let key = stage.signing().destination_key(&ObjectKey::new("team-a", "ci"), version);
    let keys = Keys::new(vec![(version.to_string(), key)]).unwrap();
    let hash = digest::digest(&digest::SHA256, &event.body);
    let (value, id) = (event.header("x-zen-signature").unwrap(), event.header("ce-id").unwrap());
    keys.verify(value, id, hash.as_ref(), Timestamp::now(), Duration::from_mins(10)).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_keys_are_exchanged_and_taken_back_under_load_and_no_request_fails() {
    let upstream = Upstream::http().await;
    let refuses = Arc::new(AtomicBool::new(true));
    let mut stage = Stage::start().await;
    let (service, events) = operator(&stage.client(), &refuses);
    stage.issued_by(&service).await;
    let config_maps: Api<ConfigMap> = Api::namespaced(stage.client(), NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(stage.client(), NAMESPACE);
    let root = STANDARD.encode(stage.root_key());
    let root = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {ROOT}, namespace: {NAMESPACE}}}\ndata: {{{ROOT_KEY}: '{root}'}}\n"
    );
    stage.apply(&[&root, WEBHOOK, &ci(&upstream, "Egress"), SINK]).await;
    reconcile(&stage.client(), &service);
    let fleet = Fleet::start(&stage).await;
    until("the keys are there", async || secrets.get_opt(EGRESS_KEYS).await.unwrap().is_some()).await;
    let given = secrets.get(EGRESS_KEYS).await.unwrap().data.unwrap();
    assert_eq!(given.keys().map(String::as_str).collect::<Vec<_>>(), [SIGNING], "never rotated: as it was");
    let mounts = fleet.ingesters.iter().map(|it| (INGESTER_KEYS, it.keys()));
    let mounts = mounts.chain(fleet.egresses.iter().map(|it| (EGRESS_KEYS, it.keys()))).collect();
    let kubelets = tokio::spawn(kubelets(secrets.clone(), mounts));
    let load = fleet.load(&stage).await;
    until("rotations are kept", async || config_maps.get_opt(record::CONFIG_MAP).await.unwrap().is_some()).await;

    // A probe fails while the first sign with the new.
    let began = std::time::SystemTime::now();
    ask_about_keys(&config_maps, "first", Action::Start).await;
    until("it is taken back", async || state(&config_maps).await.ended.len() == 1).await;
    let ended = state(&config_maps).await.ended[0].clone();
    assert_eq!(ended.reason.row().code, "ProbeFailed", "{ended:?}");
    eprintln!("taken back from the canary in {:?}: {}", began.elapsed().unwrap(), ended.detail);
    refuses.store(false, Ordering::Relaxed);

    // By hand, when everybody signs with it.
    let began = std::time::SystemTime::now();
    ask_about_keys(&config_maps, "second", Action::Start).await;
    until("all sign with it", async || phase(&config_maps).await == Some("overlap")).await;
    let metrics = get(fleet.egresses[0].addresses().admin, "/metrics").await.1;
    assert!(metrics.contains(r#"zen_signing_key_versions{use="verifies",version="2"} 1"#), "{metrics}");
    ask_about_keys(&config_maps, "back", Action::Abort).await;
    until("it is taken back", async || state(&config_maps).await.ended.len() == 2).await;
    assert_eq!(state(&config_maps).await.ended[0].reason.row().code, "RotationAborted");
    until("as before", async || mounted(&secrets).await == [Versions::default(), Versions::default()]).await;
    eprintln!("taken back from all in {:?}", began.elapsed().unwrap());

    // And now it goes well.
    let began = std::time::SystemTime::now();
    ask_about_keys(&config_maps, "third", Action::Start).await;
    until("all sign with it", async || phase(&config_maps).await == Some("overlap")).await;
    let shown = upstream.received().len();
    until("it is over", async || state(&config_maps).await.ended.len() == 3).await;
    let done = state(&config_maps).await.ended[0].clone();
    assert_eq!((done.reason.row().code, done.old.as_str()), ("RotationFinished", "1"), "{done:?}");
    eprintln!("exchanged in {:?}", began.elapsed().unwrap());
    let during = upstream.received();
    assert!(during.len() > shown, "events came meanwhile");
    assert!(during.iter().all(|event| takes(&stage, 1, event)), "a target with the old key has taken everything");
    assert!(during[shown..].iter().all(|event| takes(&stage, 2, event)), "and so has one with the new");
    let [ingester, egress] = mounted(&secrets).await;
    assert_eq!((ingester.current, ingester == egress), (2, true));

    // The time of the targets ends.
    until("the old is gone", async || mounted(&secrets).await[1].targets() == [2]).await;
    let alone = async || {
        let all = upstream.received();
        let last = all.last().unwrap();
        takes(&stage, 2, last) && !takes(&stage, 1, last)
    };
    until("events are signed with the new alone", alone).await;
    assert!(upstream.received()[shown..].iter().all(|event| takes(&stage, 2, event)));

    // What sources are presented, meanwhile, by a canary first.
    let began = std::time::SystemTime::now();
    ask_for(&config_maps, "fourth", Action::Start, Subject::IntakeTls).await;
    until("every intake has another certificate", async || state(&config_maps).await.ended.len() == 4).await;
    let done = state(&config_maps).await.ended[0].clone();
    assert_eq!((&done.subject, done.reason.row().code), (&Subject::IntakeTls, "RotationFinished"), "{done:?}");
    eprintln!("the intake's certificate exchanged in {:?}", began.elapsed().unwrap());

    let [posted, delivered] = events.each_ref().map(|count| count.load(Ordering::Relaxed));
    eprintln!("{posted} events of probes, of which one egress was seen to deliver {delivered}");
    assert!(posted >= 4 && delivered > 0, "each round has one, of the keys and of the intake");
    fleet.delivered(load, &upstream).await;
    for egress in &fleet.egresses {
        let metrics = get(egress.addresses().admin, "/metrics").await.1;
        let failures = metrics.lines().filter(|line| line.starts_with("zen_egress_signature_failures_total"));
        let failures: Vec<_> = failures.filter(|line| !line.ends_with(" 0")).collect();
        assert!(failures.is_empty(), "no signature was refused: {failures:?}");
    }
    kubelets.abort();
    fleet.stop().await;
}

async fn phase(config_maps: &Api<ConfigMap>) -> Option<&'static str> {
    state(config_maps).await.active.map(|active| active.rotation.phase.label())
}
