use clap::Parser as _;
use zen_testkit::api_server::{ApiServer, Call, Reply};

use super::*;

const PATH: &str = "/apis/zen-mesh.io/v1alpha1/namespaces/team-a/clusterenrollments/prod-eu";

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    enroll: Enroll,
}

fn clear() -> String {
    json!({
        "version": 1, "trustDomain": "zen-mesh.local", "hub": "https://hub.example.com:8445", "tenant": "team-a",
        "cluster": "prod-eu", "uid": "u", "bundle": "1", "issuedAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T00:30:00Z",
    })
    .to_string()
}

fn enrollment(spec: &Value, status: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "zen-mesh.io/v1alpha1", "kind": "ClusterEnrollment",
        "metadata": {"name": "prod-eu", "namespace": "team-a", "generation": 2},
        "spec": {"recipient": "age1x", "bundle": "1"},
    });
    for (key, value) in spec.as_object().expect("a map") {
        object["spec"][key] = value.clone();
    }
    if !status.is_null() {
        object["status"] = status.clone();
        if object["status"]["observedGeneration"].is_null() {
            object["status"]["observedGeneration"] = 2.into();
        }
    }
    object
}

fn bundle(data: bool, used: bool) -> Value {
    let mut bundle = json!({"id": "1", "issuedAt": "2026-01-01T00:00:00Z", "expiresAt": "2026-01-01T00:30:00Z"});
    if data {
        bundle["data"] = json!({"clear": clear(), "sealed": "-----BEGIN AGE-----\nx\n", "fingerprints": ["ab"]});
    }
    if used {
        bundle["usedAt"] = "2026-01-01T00:10:00Z".into();
    }
    json!({"phase": "BundleIssued", "bundle": bundle})
}

fn found(spec: &Value, status: &Value) -> ClusterEnrollment {
    serde_json::from_value(enrollment(spec, status)).expect("an enrollment")
}

#[test]
fn what_an_enrollment_says() {
    let none = json!({});
    let condition = |reason: &str| {
        json!({"conditions": [{"type": "Accepted", "status": "False", "reason": reason, "message": "set hub.url",
               "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
    };
    for (what, spec, status, expected) in [
        ("no status", none.clone(), Value::Null, "wait: the hub has not looked at the enrollment"),
        (
            "an older one",
            none.clone(),
            json!({"observedGeneration": 1}),
            "wait: the hub has not looked at this generation",
        ),
        ("no bundle", none.clone(), json!({"phase": "Pending"}), "wait: the hub has not made the bundle"),
        ("another bundle", json!({"bundle": "2"}), bundle(true, false), "wait: the hub has not made the bundle"),
        ("there", none.clone(), bundle(true, false), "ready"),
        ("used", none.clone(), bundle(false, true), "never: the bundle 1 was used at 2026-01-01T00:10:00Z"),
        ("ended", none.clone(), bundle(false, false), "never: the bundle 1 ended at 2026-01-01T00:30:00Z"),
        ("no hub", none.clone(), condition("HubNotConfigured"), "never: set hub.url"),
        ("no root yet", none, condition("IssuerUnavailable"), "wait: set hub.url"),
        ("disabled", json!({"disabled": true}), bundle(true, false), "never: the enrollment is disabled"),
    ] {
        let said = match look(&found(&spec, &status)) {
            Look::Ready(_) => "ready".to_owned(),
            Look::Wait(why) => format!("wait: {why}"),
            Look::Never { what, .. } => format!("never: {what}"),
        };
        assert!(said.starts_with(expected), "{what}: {said}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_waits_for_the_hub_and_not_for_ever() {
    let server = ApiServer::new();
    let get = || Call::get(PATH);
    server.expect(get(), Reply::ok(enrollment(&json!({}), &Value::Null)));
    server.expect(get(), Reply::ok(enrollment(&json!({}), &bundle(true, false))));
    let api: Api<ClusterEnrollment> = Api::namespaced(server.client(), "team-a");
    let ready = wait(&api, "team-a", "prod-eu", Duration::from_mins(1)).await.expect("made");
    assert_eq!(ready.fingerprints, ["ab"]);
    server.expect(get(), Reply::not_found());
    let gone = wait(&api, "team-a", "prod-eu", Duration::from_mins(1)).await.expect_err("none").to_string();
    assert!(gone.starts_with("there is no ClusterEnrollment team-a/prod-eu") && gone.contains("hint:"), "{gone}");
    server.allow(get(), Reply::ok(enrollment(&json!({}), &Value::Null)));
    let late = wait(&api, "team-a", "prod-eu", Duration::from_mins(1)).await.expect_err("late").to_string();
    assert!(late.starts_with("there is no bundle after 60 s: the hub has not looked"), "{late}");
    server.finish();
}

#[test]
fn what_is_printed_is_a_manifest_with_what_the_member_needs() {
    let Look::Ready(ready) = look(&found(&json!({}), &bundle(true, false))) else { panic!("ready") };
    let bundle = Bundle::from_data(&ready.clear, &ready.sealed).expect("a bundle");
    let text = steps(&ready, &bundle, "mesh") + &bundle.manifest("mesh");
    let object: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(object["metadata"], json!({"name": "zen-mesh-enrollment", "namespace": "mesh"}));
    assert_eq!(object["stringData"]["enrollment.json"], clear());
    for part in [
        "#   ab\n",
        "--set member.enabled=true",
        "mesh.trustDomain=zen-mesh.local",
        r#"'member.rootFingerprints=["ab"]'"#,
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let object = secret(&ready, "mesh");
    assert_eq!(object["metadata"]["annotations"][FINGERPRINTS], "ab");
    assert_eq!(
        (object["type"].as_str(), &object["stringData"]["enrollment.age"]),
        (Some("zen-mesh.io/enrollment"), &json!(ready.sealed))
    );
}

#[test]
fn a_name_or_the_word_recipient() {
    let parsed = |line: &[&str]| Line::try_parse_from(std::iter::once(&"zen").chain(line));
    assert!(parsed(&[]).is_err_and(|error| error.to_string().contains("<NAME>")));
    assert_eq!(parsed(&["prod-eu", "-n", "team-a"]).expect("valid").enroll.name.as_deref(), Some("prod-eu"));
    assert!(matches!(parsed(&["recipient"]).expect("valid").enroll.which, Some(Which::Recipient { .. })));
    assert!(parsed(&["prod-eu", "--timeout", "soon"]).is_err());
}
