use std::collections::BTreeSet;

use super::super::{
    CONTAINERS, DELIVERY, INJECT, KeyFacts, MOUNT_PATH, REFRESH_CHANGES, REFRESH_NOTIFY, Unrepresentable,
};
use super::*;

const SECRET: &str = "zen-mesh-unsealed-x7k2p";

fn settings() -> Settings {
    Settings {
        image: "zenlock-webhook:1".to_owned(),
        pull_policy: Some("Never".to_owned()),
        url: "https://zenlock-webhook.zen-mesh.svc".to_owned(),
        roots: Arguments::encode_roots("PEM"),
        env_files: true,
    }
}

fn known(keys: &[&str]) -> Known {
    let keys = keys.iter().map(|key| ((*key).to_owned(), KeyFacts { size: 7, ..KeyFacts::default() }));
    Known { accounts: BTreeSet::from(["ci".to_owned()]), keys: keys.collect() }
}

fn locks() -> BTreeMap<String, Option<Known>> {
    BTreeMap::from([
        ("ci-token".to_owned(), Some(known(&["token"]))),
        ("db".to_owned(), Some(known(&["password", "user.name"]))),
    ])
}

/// A pod of account `ci` with one container, and what `more` says of its specification.
fn pod(annotations: &[(&str, &str)], more: Value) -> Value {
    let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "shop", "namespace": "team-a", "annotations": annotations},
        "spec": {"serviceAccountName": "ci", "containers": [{"name": "shop", "image": "shop:1"}]},
    });
    if let (Some(spec), Value::Object(more)) = (pod["spec"].as_object_mut(), more) {
        spec.extend(more);
    }
    pod
}

fn outcome(pod: &Value, locks: &BTreeMap<String, Option<Known>>, settings: &Settings) -> Result<Value, Refused> {
    let typed: Pod = serde_json::from_value(pod.clone()).expect("a pod");
    let wanted = Wanted::of(typed.metadata.annotations.as_ref())?.expect("it asks");
    let mutation = mutate(&typed, &wanted, locks, SECRET, settings)?;
    let mut after = pod.clone();
    json_patch::patch(&mut after, &mutation.patch).expect("the patch applies");
    Ok(after)
}

fn mutated(pod: &Value) -> Value {
    outcome(pod, &locks(), &settings()).expect("admitted")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect()
}

/// Z-02: the pods that the controllers of each kind make; their templates differ in what is there already.
#[test]
fn every_kind_of_workload() {
    let usual = [(INJECT, "ci-token,db")];
    let mut deployment = pod(&usual, json!({}));
    deployment["metadata"] = json!({"generateName": "shop-5d6-", "annotations": {INJECT: "ci-token,db"}, "labels": {"pod-template-hash": "5d6"}});
    let claim = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-shop-0"}}]);
    let stateful = json!({"hostname": "shop-0", "volumes": claim,
        "containers": [{"name": "shop", "volumeMounts": [{"name": "data", "mountPath": "/data"}], "env": [{"name": "A", "value": "b"}]}]});
    let job = json!({"restartPolicy": "Never", "initContainers": [{"name": "first"}, {"name": "proxy", "restartPolicy": "Always"}]});
    let daemon =
        json!({"hostNetwork": true, "volumes": [], "tolerations": [{"operator": "Exists"}], "initContainers": []});
    let rows = [
        ("Pod", pod(&usual, json!({}))),
        ("Deployment", deployment),
        ("StatefulSet", pod(&usual, stateful)),
        ("Job", pod(&usual, job.clone())),
        ("CronJob", pod(&usual, job)),
        ("DaemonSet", pod(&usual, daemon)),
    ];
    for (kind, before) in rows {
        let after = mutated(&before);
        let spec = &after["spec"];
        assert_eq!(names(&spec["initContainers"])[0], "zen-mesh-unseal", "{kind}");
        let args: Vec<String> = serde_json::from_value(spec["initContainers"][0]["args"].clone()).expect("args");
        let admitted = Arguments::of_args(&args).expect("ours");
        assert_eq!(
            (admitted.locks, admitted.mode),
            (vec!["ci-token".to_owned(), "db".to_owned()], fetch::Mode::Everyone),
            "{kind}"
        );
        let others = spec["initContainers"].as_array().expect("there").iter().skip(1);
        for container in others.chain(spec["containers"].as_array().expect("there")) {
            let mounts = container["volumeMounts"].as_array().expect("mounts");
            let ours =
                json!({"name": "zen-mesh-secrets", "mountPath": "/var/run/zen", "readOnly": true, "subPath": "files"});
            assert_eq!(mounts.last(), Some(&ours), "{kind}: {container}");
            assert!(container["env"].as_array().is_none_or(|env| env.len() == 1), "{kind}: no variable unasked");
        }
        let volumes = names(&spec["volumes"]);
        assert!(volumes.ends_with(&["zen-mesh-secrets", "zen-mesh-token"]), "{kind}: {volumes:?}");
        // A second call changes nothing.
        assert_eq!(mutated(&after), after, "{kind}");
    }
}

#[test]
fn our_container_takes_no_more_than_restricted_allows() {
    let after = mutated(&pod(&[(INJECT, "ci-token")], json!({"securityContext": {"runAsNonRoot": true}})));
    let init = &after["spec"]["initContainers"][0];
    let context = &init["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!((&context["runAsNonRoot"], &context["runAsUser"]), (&true.into(), &65532.into()));
    assert_eq!(context["seccompProfile"], json!({"type": "RuntimeDefault"}));
    assert_eq!(context["readOnlyRootFilesystem"], true);
    let volumes = &after["spec"]["volumes"];
    assert_eq!(volumes[0]["emptyDir"]["medium"], "Memory");
    let token = &volumes[1]["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!((&token["audience"], &token["expirationSeconds"]), (&"zen-mesh-unseal".into(), &600.into()));
    // Where the API server would put a token of its own.
    assert_eq!(init["volumeMounts"][1]["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
}

#[test]
fn users_and_groups_narrow_who_reads() {
    let mode = |more: Value| {
        let after = mutated(&pod(&[(INJECT, "ci-token")], more));
        let init = &after["spec"]["initContainers"][0];
        let args: Vec<String> = serde_json::from_value(init["args"].clone()).expect("args");
        (init["securityContext"]["runAsUser"].as_i64(), Arguments::of_args(&args).expect("ours").mode)
    };
    assert_eq!(mode(json!({"securityContext": {"runAsUser": 1000}})), (Some(1000), fetch::Mode::Owner));
    assert_eq!(mode(json!({"securityContext": {"fsGroup": 1000}})), (Some(65532), fetch::Mode::Group));
    assert_eq!(mode(json!({})), (Some(65532), fetch::Mode::Everyone));
}

#[test]
fn volumes_of_the_same_name_stay() {
    let volumes = json!([{"name": "zen-mesh-secrets", "emptyDir": {}}, {"name": "zen-mesh-secrets-1", "emptyDir": {}}]);
    let after = mutated(&pod(&[(INJECT, "ci-token")], json!({"volumes": volumes})));
    let found = names(&after["spec"]["volumes"]);
    assert_eq!(found, ["zen-mesh-secrets", "zen-mesh-secrets-1", "zen-mesh-secrets-2", "zen-mesh-token"]);
    assert_eq!(after["spec"]["containers"][0]["volumeMounts"][0]["name"], "zen-mesh-secrets-2");
    assert_eq!(mutated(&after), after);
}

#[test]
fn variables_come_from_a_file_that_only_the_kubelet_reads() {
    let annotations = [(INJECT, "ci-token,db"), (ENV, "db"), (CONTAINERS, "shop"), (MOUNT_PATH, "/secrets")];
    let more = json!({"initContainers": [{"name": "first"}], "ephemeralContainers": [{"name": "debug"}]});
    let after = mutated(&pod(&annotations, more));
    let shop = &after["spec"]["containers"][0];
    let from =
        |key: &str| json!({"fileKeyRef": {"volumeName": "zen-mesh-secrets", "path": "env/variables", "key": key}});
    assert_eq!(
        shop["env"],
        json!([{"name": "PASSWORD", "valueFrom": from("PASSWORD")}, {"name": "USER_NAME", "valueFrom": from("USER_NAME")}])
    );
    assert_eq!(shop["volumeMounts"][0]["mountPath"], "/secrets");
    // Containers that are not named, and ephemeral ones, stay as they are.
    assert_eq!(after["spec"]["initContainers"][1], json!({"name": "first"}));
    assert_eq!(after["spec"]["ephemeralContainers"], json!([{"name": "debug"}]));
    let args = after["spec"]["initContainers"][0]["args"].as_array().expect("args");
    assert!(args.windows(2).any(|pair| pair == [json!("--env"), json!("db")]), "{args:?}");
}

#[test]
fn a_sidecar_follows_changes() {
    let annotations = [(INJECT, "db"), (REFRESH_CHANGES, "true"), (REFRESH_NOTIFY, "http://127.0.0.1:8080/reload")];
    let after = mutated(&pod(&annotations, json!({"initContainers": [{"name": "first"}]})));
    let init = &after["spec"]["initContainers"];
    assert_eq!(names(init), ["zen-mesh-unseal", "zen-mesh-refresh", "first"]);
    assert_eq!((&init[1]["restartPolicy"], &init[0]["restartPolicy"]), (&"Always".into(), &Value::Null));
    let shares = [0, 1].map(|index| init[index]["resources"]["requests"]["cpu"].clone());
    assert_eq!(shares, ["100m", "10m"], "what starts is waited for");
    let args: Vec<String> = serde_json::from_value(init[1]["args"].clone()).expect("args");
    let sidecar = Arguments::of_args(&args).expect("ours");
    assert!(sidecar.watch && sidecar.notify == Some("http://127.0.0.1:8080/reload".parse().expect("valid")));
    assert_eq!(mutated(&after), after);
}

/// After a root was exchanged, a pod whose manifest was made before it trusts the new one.
#[test]
fn another_root_replaces_the_arguments_and_nothing_else() {
    let before = mutated(&pod(&[(INJECT, "db")], json!({})));
    let settings = Settings { roots: Arguments::encode_roots("NEW"), ..settings() };
    let after = outcome(&before, &locks(), &settings).expect("admitted");
    let mut expected = before;
    let args: Vec<String> =
        serde_json::from_value(expected["spec"]["initContainers"][0]["args"].clone()).expect("args");
    let due = Arguments { ca: settings.roots.clone(), ..Arguments::of_args(&args).expect("ours") };
    expected["spec"]["initContainers"][0]["args"] = json!(due.to_args());
    assert_eq!(after, expected);
}

#[test]
fn the_secret_delivery_names_a_secret_of_its_own_and_says_so() {
    let before = pod(&[(INJECT, "ci-token,db"), (ENV, "ci-token"), (DELIVERY, "secret")], json!({}));
    let after = mutated(&before);
    let source = &after["spec"]["volumes"][0]["secret"];
    assert_eq!(source["secretName"], SECRET);
    let items = json!([{"key": "k0", "path": "ci-token/token"}, {"key": "k1", "path": "db/password"}, {"key": "k2", "path": "db/user.name"}]);
    assert_eq!(source["items"], items);
    assert_eq!(after["metadata"]["labels"], json!({"zen-mesh.io/delivery": "secret"}));
    let variable = &after["spec"]["containers"][0]["env"][0];
    assert_eq!(variable["valueFrom"]["secretKeyRef"], json!({"name": SECRET, "key": "k0"}));
    assert!(after["spec"]["initContainers"].is_null(), "nothing has to run in the pod");
    assert_eq!(mutated(&after), after);
    let typed: Pod = serde_json::from_value(before).expect("a pod");
    let wanted = Wanted::of(typed.metadata.annotations.as_ref()).expect("valid").expect("asks");
    let warnings = mutate(&typed, &wanted, &locks(), SECRET, &settings()).expect("admitted").warnings;
    assert!(warnings[0].contains("etcd"), "{warnings:?}");
}

/// Z-04: each refusal, and what its message names.
#[test]
fn refusals_name_what_is_wrong() {
    use LockRefusal as R;
    let usual = [(INJECT, "ci-token,db")];
    let with_env = [(INJECT, "ci-token,db"), (ENV, "ci-token,db")];
    let mut broken = locks();
    if let Some(Some(known)) = broken.get_mut("db") {
        known.keys.entry("password".to_owned()).or_default().problem =
            Some(("UnknownKey", "no identity opens it".to_owned()));
    }
    let mut quoted = locks();
    if let Some(Some(known)) = quoted.get_mut("db") {
        known.keys.entry("password".to_owned()).or_default().unrepresentable = Some(Unrepresentable::Quote);
    }
    let mut large = locks();
    if let Some(Some(known)) = large.get_mut("db") {
        known.keys.entry("password".to_owned()).or_default().size = 1 << 20;
    }
    let mut clash = locks();
    if let Some(Some(known)) = clash.get_mut("db") {
        known.keys.insert("TOKEN".to_owned(), KeyFacts::default());
    }
    let missing = BTreeMap::from([("ci-token".to_owned(), Some(known(&["token"]))), ("db".to_owned(), None)]);
    let old = Settings { env_files: false, ..settings() };
    let at = |path: &str, read_only: bool| json!({"containers": [{"name": "shop", "volumeMounts": [{"name": "v", "mountPath": path, "readOnly": read_only}]}]});
    let env = json!({"containers": [{"name": "shop", "env": [{"name": "TOKEN", "value": "x"}]}]});
    let reserved = json!({"initContainers": [{"name": "zen-mesh-unseal", "args": ["sleep"]}]});
    let no_args = json!({"initContainers": [{"name": "zen-mesh-unseal"}]});
    let app = json!({"containers": [{"name": "zen-mesh-refresh"}]});
    let other = [(INJECT, "ci-token"), (CONTAINERS, "web")];
    let as_secret = [(INJECT, "ci-token,db"), (DELIVERY, "secret")];
    for (annotations, more, locks, settings, reason, words) in [
        (&usual[..], json!({}), &missing, settings(), R::ZenLockNotFound, "ZenLock db"),
        (
            &usual,
            json!({"serviceAccountName": "web"}),
            &locks(),
            settings(),
            R::SubjectNotAllowed,
            "ServiceAccount web",
        ),
        (
            &usual,
            json!({"serviceAccountName": ""}),
            &locks(),
            settings(),
            R::SubjectNotAllowed,
            "ServiceAccount default",
        ),
        (
            &usual,
            json!({}),
            &broken,
            settings(),
            R::NotDecryptable,
            "ZenLock db, key password: no identity opens it (UnknownKey)",
        ),
        (&usual, at("/var/run/zen", false), &locks(), settings(), R::MountPathTaken, "volume v at /var/run/zen"),
        (&usual, at("/var/run/zen/db/", false), &locks(), settings(), R::MountPathTaken, "container shop"),
        (&usual, at("/var/run", true), &locks(), settings(), R::MountPathTaken, "/var/run"),
        (&other, json!({}), &locks(), settings(), R::ContainerNotFound, "names web"),
        (&with_env, env, &locks(), settings(), R::EnvNameTaken, "container shop has a variable TOKEN"),
        (
            &with_env,
            json!({}),
            &clash,
            settings(),
            R::EnvNameTaken,
            "ZenLock db, key TOKEN: key token of ZenLock ci-token",
        ),
        (
            &with_env,
            json!({}),
            &quoted,
            settings(),
            R::EnvNotRepresentable,
            "key password: its value holds a single quote",
        ),
        (&with_env, json!({}), &locks(), old, R::EnvNotRepresentable, "EnvFiles"),
        (&usual, reserved, &locks(), settings(), R::NameReserved, "init container zen-mesh-unseal"),
        (&usual, no_args, &locks(), settings(), R::NameReserved, "init container zen-mesh-unseal"),
        (&usual, app, &locks(), settings(), R::NameReserved, "container zen-mesh-refresh"),
        (&usual, json!({"os": {"name": "windows"}}), &locks(), settings(), R::PodNotSupported, "spec.os"),
        (&as_secret, json!({}), &large, settings(), R::DeliveryTooLarge, "bytes together"),
    ] {
        let refused = outcome(&pod(annotations, more.clone()), locks, &settings).expect_err(reason.code());
        let message = refused.message("pod team-a/shop");
        assert_eq!(refused.reason, reason, "{more}: {message}");
        assert!(message.contains(words) && message.contains(reason.row().hint), "{message}");
    }
    // Unmounted parents that can be written to are no obstacle, and containers that are not served none either.
    assert!(outcome(&pod(&usual, at("/var", false)), &locks(), &settings()).is_ok());
    let unserved = json!({"containers": [{"name": "shop"}, {"name": "web", "volumeMounts": [{"name": "v", "mountPath": "/var/run/zen"}]}]});
    assert!(outcome(&pod(&[(INJECT, "db"), (CONTAINERS, "shop")], unserved), &locks(), &settings()).is_ok());
}

/// A pod that says of itself what it was admitted for, for more than its annotation asks, is not ours.
#[test]
fn arguments_for_another_zenlock_are_not_taken_over() {
    let more = mutated(&pod(&[(INJECT, "ci-token,db")], json!({})));
    let mut less = more;
    less["metadata"]["annotations"][INJECT] = "db".into();
    assert_eq!(outcome(&less, &locks(), &settings()).expect_err("refused").reason, LockRefusal::NameReserved);
}
