//! SIGKILL at random instants under load: nothing that was acknowledged is lost (Q-01, D-15).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use zen_testkit::Upstream;

use crate::harness::{Folder, Mesh, until};

const ROUNDS: usize = 25;
const SOURCES: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_event_arrives() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let seed: u64 = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for round in 0..ROUNDS {
        // Every fifth time a start is cut off first: recovery must survive being killed itself.
        if round % 5 == 4 {
            let mut cut_off = Mesh::spawn(&folder, &[], &[]);
            tokio::time::sleep(Duration::from_millis(random.u64(0..150))).await;
            cut_off.kill();
        }
        let mut mesh = Mesh::start(&folder).await;
        let mut load = JoinSet::new();
        for n in 0..SOURCES {
            let (intake, ca) = (mesh.intake(), folder.state().join("ca.crt"));
            let acknowledged = Arc::clone(&acknowledged);
            load.spawn(async move {
                let Some(mut source) = crate::harness::Source::connect(&intake, &ca).await else { return };
                for i in 0.. {
                    let id = format!("{round}-{n}-{i}");
                    match source.push(&id).await {
                        Some((202, body)) => {
                            assert_eq!(body["id"], id.as_str());
                            acknowledged.lock().expect("not poisoned").insert(id);
                        }
                        // Backpressure is no acknowledgement.
                        Some((status, _)) => assert_eq!(status, 503),
                        None => return,
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(random.u64(5..250))).await;
        mesh.kill();
        while let Some(ended) = load.join_next().await {
            ended.expect("no wrong answer");
        }
    }
    let mesh = Mesh::start(&folder).await;
    let acknowledged = acknowledged.lock().expect("not poisoned").clone();
    assert!(acknowledged.len() > 100, "the load was no load: {} acknowledged", acknowledged.len());
    let arrived = || {
        let mut arrived = BTreeMap::<String, usize>::new();
        for received in upstream.received() {
            *arrived.entry(received.header("ce-id").expect("an id").to_owned()).or_default() += 1;
        }
        arrived
    };
    until(&format!("every acknowledged event (seed {seed})"), || {
        let arrived = arrived();
        acknowledged.iter().all(|id| arrived.contains_key(id)).then_some(())
    })
    .await;
    let arrived = arrived();
    let repeats: usize = arrived.values().map(|times| times - 1).sum();
    println!("{} acknowledged, {} arrived, {repeats} repeats, seed {seed}", acknowledged.len(), arrived.len());
    // At least once: what was in flight at a kill comes again, no more often than there were kills.
    assert!(arrived.values().all(|times| *times <= ROUNDS + 1));
    drop(mesh);
}
