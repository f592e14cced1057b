//! ZenLocks in real pods: every kind of workload has its files, nothing of them is in etcd, and who must not have them is
//! refused (Z-02…Z-05; issue 5, points 3, 4, 6 and 11).

mod audited;
mod in_secrets;
mod mesh;
mod stage;

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use zen_e2e_node::{Cluster, Mesh, Part, until};

use crate::stage::SOON;
use stage::{Found, Stage, Workload};

/// One update of a ZenLock is in the files of every pod that follows it.
const PROMISED: SignedDuration = SignedDuration::from_secs(5);

/// A value that is nowhere else.
fn marker(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("plaintext-marker-{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[tokio::test]
async fn every_kind_of_workload_has_its_files_and_etcd_has_none_of_it() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "zenlock", "restricted").await;
    let (password, token) = (marker("password"), marker("token"));
    stage.lock("db", &[("password", &password), ("user.name", "shop")], &["ci"]).await;
    stage.lock("ci-token", &[("token", &token)], &["ci"]).await;

    let one_user = |name, kind| Workload::new(name, kind).pod(json!({"securityContext": {"runAsUser": 1000}}));
    let two_users = |name, kind, more| {
        let mut workload = Workload::new(name, kind).pod(more);
        workload.spec["containers"][0]["securityContext"]["runAsUser"] = 1000.into();
        let mut second = workload.spec["containers"][0].clone();
        (second["name"], second["securityContext"]["runAsUser"]) = ("second".into(), 1001.into());
        workload.spec["containers"].as_array_mut().unwrap().push(second);
        workload
    };
    // A volume of our name, an init container and a sidecar of its own, which have the files too.
    let mut daemon = one_user("daemon", "DaemonSet");
    daemon.spec["volumes"] = json!([{"name": "zen-mesh-secrets", "emptyDir": {}}]);
    daemon.spec["containers"][0]["volumeMounts"] = json!([{"name": "zen-mesh-secrets", "mountPath": "/work"}]);
    let own = |name: &str, sidecar: bool| {
        let mut container = daemon.spec["containers"][0].clone();
        container["name"] = name.into();
        if sidecar {
            container["restartPolicy"] = "Always".into();
        } else {
            container["command"][3] = stage::once().into();
        }
        container
    };
    daemon.spec["initContainers"] = json!([own("before", false), own("beside", true)]);

    // What runs, and what each of its containers must find: user, owner, group and mode, value, variable, and how many do.
    let rows = [
        (one_user("bare", "Pod"), "1000:0 400", None, 1),
        (two_users("web", "Deployment", json!({})).replicas(2), "65532:0 444", None, 4),
        (two_users("store", "StatefulSet", json!({"securityContext": {"fsGroup": 3000}})), "65532:3000 440", None, 2),
        (daemon, "1000:0 400", None, 3),
        (one_user("job", "Job").env("ci-token"), "1000:0 400", Some(&*token), 1),
        (one_user("cron", "CronJob").env("ci-token"), "1000:0 400", Some(&*token), 1),
    ];
    for (workload, ..) in &rows {
        stage.apply(&workload.clone().inject("db,ci-token")).await.unwrap();
    }
    cluster
        .kubectl(&["create", "job", "cron-now", "--from=cronjob/cron", "--namespace", &stage.namespace.name])
        .await
        .unwrap();
    for (workload, owner, variable, count) in &rows {
        let found = stage.found(&workload.name, *count).await;
        for one in &found {
            let expected = Found {
                user: one.user.clone(),
                owner: (*owner).to_owned(),
                value: password.clone(),
                variable: variable.unwrap_or("none").to_owned(),
                writable: false,
            };
            assert_eq!(*one, expected, "{}", workload.name);
            assert!(["1000", "1001"].contains(&&*one.user), "{one:?}");
        }
    }
    nowhere_in_etcd(&cluster, &[&password, &token]);
}

/// As it is, and as it would stand in a Secret: base64 at each of the three alignments.
fn nowhere_in_etcd(cluster: &Cluster, values: &[&str]) {
    let encoded: Vec<Vec<u8>> = values.iter().flat_map(|value| stage::base64_within(value)).collect();
    let plain = values.iter().map(|value| value.as_bytes());
    let needles: Vec<&[u8]> = plain.chain(encoded.iter().map(Vec::as_slice)).collect();
    let found: Vec<_> = cluster.found_in_etcd(&needles).unwrap().into_iter().map(String::from_utf8_lossy).collect();
    assert!(found.is_empty(), "etcd has {found:?}");
    // The search does find what is there.
    assert_eq!(cluster.found_in_etcd(&[b"/registry/configmaps/zen-mesh/zen-mesh-recipients"]).unwrap().len(), 1);
}

#[tokio::test]
async fn who_must_not_have_it_is_refused_by_name_and_reason() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "refused", "restricted").await;
    let other = Stage::new(&cluster, "refused-other", "restricted").await;
    let secret = marker("refused");
    stage.lock("db", &[("password", &secret)], &["ci"]).await;
    stage.lock("quoted", &[("it", "can't")], &["ci"]).await;

    let pod = || Workload::new("refused", "Pod").pod(json!({"securityContext": {"runAsUser": 1000}})).inject("db");
    let rows = [
        (&stage, pod().account("default"), "SubjectNotAllowed", "db"),
        (&stage, pod().inject("missing"), "ZenLockNotFound", "missing"),
        (&other, pod(), "ZenLockNotFound", "db"),
        (&stage, pod().annotation("mount-path", "/etc"), "MountPathUnsafe", "/etc"),
        (&stage, pod().annotation("containers", "nobody"), "ContainerNotFound", "nobody"),
        (&stage, pod().annotation("delivery", "secret"), "DeliveryDisabled", "secretDelivery"),
        (&stage, pod().annotation("delivery", "disk"), "AnnotationInvalid", "zen-mesh.io/delivery"),
        (&stage, pod().inject("quoted").env("quoted"), "EnvNotRepresentable", "quoted"),
    ];
    for (stage, pod, reason, named) in rows {
        let told = stage.apply(&pod).await.expect_err(reason);
        assert!(told.contains(reason) && told.contains(named) && told.contains("refused"), "{reason}: {told}");
        assert!(!told.contains(&secret) && !told.contains("BEGIN AGE"), "{told}");
    }
    // Through a controller it is said where its owner looks.
    let deployment = Workload::new("deployed", "Deployment").account("default");
    stage.apply(&deployment.pod(json!({"securityContext": {"runAsUser": 1000}})).inject("db")).await.unwrap();
    until("the ReplicaSet says why", SOON, async || {
        let events = ["get", "events", "--namespace", &stage.namespace.name, "--output", "jsonpath={..message}"];
        Ok(cluster.kubectl(&events).await?.contains("SubjectNotAllowed").then_some(()))
    })
    .await
    .unwrap();
    // Ciphertext that was cut, and that of somebody else's key.
    let manifest = stage.sealed("cut", &[("password", &secret)], &["ci"], &[]).await;
    let (most, end) = manifest.split_once("\n      -----END").expect("armour");
    let (most, _) = most.rsplit_once('\n').expect("several lines");
    let cut = format!("{most}\n      -----END{end}");
    let told = format!("{:#}", cluster.apply(&cut).await.expect_err("cut"));
    assert!(told.contains("denied the request: ZenLock") && told.contains("/cut, key password"), "{told}");
    // Of the age project's own documentation.
    let stranger = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let foreign = stage.sealed("foreign", &[("password", &secret)], &["ci"], &["-r", stranger]).await;
    let told = format!("{:#}", cluster.apply(&foreign).await.expect_err("of another key"));
    assert!(told.contains("NotDecryptable") && told.contains("foreign"), "{told}");
    nowhere_in_etcd(&cluster, &[&secret]);
}

/// The webhook is killed again and again while pods start: each has its files in the end, and none started without.
#[tokio::test]
async fn a_webhook_that_dies_keeps_no_pod_from_its_files() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "killed", "restricted").await;
    let secret = marker("killed");
    stage.lock("db", &[("password", &secret)], &["ci"]).await;
    let pods = 12;
    let web = Workload::new("web", "Deployment").pod(json!({"securityContext": {"runAsUser": 1000}}));
    stage.apply(&web.replicas(pods).inject("db")).await.unwrap();
    let webhooks = Mesh::of(&cluster).pods(Part::ZenLock).await.unwrap();
    for _ in 0..2 {
        for pod in &webhooks {
            let container = cluster.container("zen-mesh", &pod.name, Part::ZenLock.name()).await;
            if let Ok(container) = container {
                cluster.kill_container(&container).await.unwrap();
            }
        }
    }
    let found = stage.found("web", pods).await;
    assert!(found.iter().all(|one| one.value == secret), "{found:?}");
    Mesh::of(&cluster).whole(Part::ZenLock, webhooks.len(), &[], SOON).await.unwrap();
}

/// A pod whose sandbox dies runs its init containers again: it asks again, and has the value of that moment. Pods that follow
/// have a change within five seconds, also where they may use next to nothing of a processor, and never half of one.
#[tokio::test]
async fn changes_reach_pods_that_follow_and_those_that_start_anew() {
    let cluster = Cluster::open().await.unwrap();
    let stage = Stage::new(&cluster, "follows", "restricted").await;
    stage.lock("db", &[("password", "value-0")], &["ci"]).await;
    let pods = 5;
    let following = |resources: serde_json::Value| {
        let mut follows = Workload::new("follows", "Deployment").pod(json!({"securityContext": {"runAsUser": 1000}}));
        follows.spec["containers"][0]["command"][3] = stage::following().into();
        follows.spec["containers"][0]["resources"] = resources;
        follows.inject("db").annotation("refresh", "true")
    };
    stage.apply(&following(json!({})).replicas(pods - 1)).await.unwrap();
    // Whose class is Guaranteed, and stays so.
    let mut guaranteed = following(json!({"limits": {"cpu": "50m", "memory": "32Mi"}}));
    guaranteed.name = "guaranteed".to_owned();
    stage.apply(&guaranteed).await.unwrap();
    let saw = async |value: &str| {
        until(&format!("every pod has {value}"), SOON, async || {
            let mut seen = stage.stamped("follows").await?;
            seen.extend(stage.stamped("guaranteed").await?);
            let seen: Vec<_> = seen.into_iter().filter(|(_, line)| *line == format!("SEES {value}")).collect();
            Ok((seen.len() == pods).then(|| seen.into_iter().map(|(at, _)| at).max()).flatten())
        })
        .await
        .unwrap()
    };
    saw("value-0").await;
    let class =
        ["get", "pods", "--selector", "workload=guaranteed", "--output", "jsonpath={.items[*].status.qosClass}"];
    let class = cluster.kubectl(&[&class[..], &["--namespace", &stage.namespace.name]].concat()).await.unwrap();
    assert_eq!(class.trim(), "Guaranteed");
    for round in 1..=3 {
        let value = format!("value-{round}");
        let manifest = stage.sealed("db", &[("password", &value)], &["ci"], &[]).await;
        let changed = Timestamp::now();
        cluster.apply(&manifest).await.unwrap();
        // By what the pods' runtime says: to look at them takes its time too.
        let took = saw(&value).await.duration_since(changed);
        println!("a changed ZenLock was in the files of {pods} pods after {:.1?}", took.unsigned_abs());
        assert!(took < PROMISED, "{took:?}");
    }
    let logs = stage.logs("follows").await.unwrap() + &stage.logs("guaranteed").await.unwrap();
    let torn: Vec<_> =
        logs.lines().filter(|line| line.starts_with("SEES") && !line.starts_with("SEES value-")).collect();
    assert!(torn.is_empty(), "{torn:?}");

    // One that does not follow, and whose sandbox ends.
    let bare = Workload::new("anew", "Pod").pod(json!({"securityContext": {"runAsUser": 1000}})).inject("db");
    stage.apply(&bare).await.unwrap();
    assert_eq!(stage.found("anew", 1).await[0].value, "value-3");
    stage.lock("db", &[("password", "value-4")], &["ci"]).await;
    cluster.kill_sandbox(&stage.namespace.name, "anew").await.unwrap();
    until("it has the value of now", SOON, async || {
        let logs = stage.logs("anew").await?;
        Ok(logs.contains(&format!(" {} ", "value-4")).then_some(()))
    })
    .await
    .unwrap();
}
