//! What is decided, as YAML: `cargo insta review` shows what a change does to the cluster. K-03, K-05.

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::*;
use crate::settings::tests::{DEFAULT, LEAST};

fn owner() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": names::WORKLOADS, "uid": "u1"})
}

fn inputs<'a>(workloads: &'a Workloads, owner: &'a Value) -> Inputs<'a> {
    Inputs {
        namespace: "zen-mesh",
        owner,
        workloads,
        drain_delay: Duration::from_secs(5),
        trust: Some("-----BEGIN CERTIFICATE-----\n"),
        age: true,
        keys: Some("0123456789abcdef"),
        ingester_replicas: workloads.ingester.replicas,
        storage: None,
        audit_storage: None,
        api_answers: true,
    }
}

fn decided(text: &str, change: impl Fn(&mut Inputs<'_>)) -> Plan {
    let (workloads, owner) = (Workloads::parse(text).expect("valid"), owner());
    let mut inputs = inputs(&workloads, &owner);
    change(&mut inputs);
    decide(&inputs)
}

fn yaml(plan: &Plan) -> String {
    let documents = plan.wanted.values().map(|object| serde_saphyr::to_string(object.body()).expect("YAML"));
    documents.collect::<Vec<_>>().join("---\n")
}

#[test]
fn the_charts_defaults() {
    insta::assert_snapshot!(yaml(&decided(DEFAULT, |_| {})));
}

/// A member delivers: no intake, no queue, no API over one, and nobody dials it (D-02, T-01).
#[test]
fn a_member_has_an_egress_and_no_ingester() {
    let plan = decided(&format!("{DEFAULT}member: {{}}\n"), |_| {});
    let names: BTreeSet<_> = plan.wanted.keys().map(|id| id.name.as_str()).collect();
    assert!(
        names.contains(names::EGRESS) && names.contains(names::ZENLOCK) && names.contains(names::AUDIT),
        "{names:?}"
    );
    assert!(!names.iter().any(|name| name.contains("ingester") || *name == names::API_SERVICE), "{names:?}");
    // What may hold events is left alone; what serves an API that is not there is not.
    let unwanted: Vec<_> = plan.unwanted.iter().map(ToString::to_string).collect();
    assert!(!unwanted.iter().any(|id| id.starts_with("StatefulSet")), "{unwanted:?}");
    let api = Id::new::<Service>("zen-mesh", names::INGESTER_API);
    assert!(plan.unwanted.contains(&api), "{unwanted:?}");
    let policy = &plan.wanted[&Id::new::<NetworkPolicy>("zen-mesh", names::EGRESS)];
    let inbound = policy.body()["spec"]["ingress"].to_string();
    assert!(!inbound.contains("9444"), "{inbound}");
}

/// A field that the API does not have would be lost here, and refused by the API server there.
#[test]
fn every_field_is_one_of_the_api() {
    fn round<K: DeserializeOwned + Serialize>(object: &Object) -> Value {
        let typed: K = serde_json::from_value(Value::Object(object.body().clone())).expect("of this kind");
        serde_json::to_value(typed).expect("JSON")
    }
    let zen_lock = "replicas: 1}\nzenLock: {replicas: 1, custody: {volume: {csi: {driver: d}}}}";
    let least =
        LEAST.replace("egress: e}", "egress: e, zenlockWebhook: z}").replace("replicas: 1}", zen_lock) + "\n" + HUB;
    let workloads = Workloads::parse(&least.replace(
        "{size: 1Gi}}",
        "{size: 1Gi, className: fast}, service: {type: NodePort, nodePort: 30443, annotations: {a: b}}, pod: {tolerations: \
         [{key: k, operator: Exists}], nodeSelector: {a: b}, priorityClassName: high, labels: {x: y}, annotations: {x: y}}}",
    ))
    .expect("valid");
    let owner = owner();
    let inputs = inputs(&workloads, &owner);
    let plan = decide(&inputs);
    let drain = Arc::new(drain_pod(&inputs, "k", 3));
    for object in plan.wanted.values().chain([&drain]) {
        let back = match &*object.id().kind {
            "StatefulSet" => round::<StatefulSet>(object),
            "Deployment" => round::<Deployment>(object),
            "Service" => round::<Service>(object),
            "NetworkPolicy" => round::<NetworkPolicy>(object),
            "PodDisruptionBudget" => round::<PodDisruptionBudget>(object),
            "APIService" => round::<APIService>(object),
            "MutatingWebhookConfiguration" => round::<MutatingWebhookConfiguration>(object),
            "ValidatingWebhookConfiguration" => round::<ValidatingWebhookConfiguration>(object),
            "Pod" => round::<Pod>(object),
            other => panic!("{other}"),
        };
        assert_eq!(back, Value::Object(object.body().clone()), "{object:?}");
    }
}

/// Appended to [`DEFAULT`].
const HUB: &str = "hub: {url: 'https://hub.example.com', relay: 'relay.example.com:443', \
    relayService: {type: LoadBalancer, port: 9000, nodePort: 30446, annotations: {a: b}}}\n";

fn unwanted(plan: &Plan) -> Vec<String> {
    plan.unwanted.iter().map(ToString::to_string).collect()
}

/// D-02: members reach the ingesters, and these each other for them, at a hub and nowhere else.
#[test]
fn a_hub_has_a_port_for_members() {
    let of = |text: &str| {
        let plan = decided(text, |_| {});
        let set =
            plan.wanted[&Id::new::<StatefulSet>("zen-mesh", "zen-ingester")].body()["spec"]["template"].to_string();
        let policy = &plan.wanted[&Id::new::<NetworkPolicy>("zen-mesh", "zen-ingester")].body()["spec"];
        let rules = |way: &str| {
            let rules =
                policy[way].as_array().expect("rules").iter().filter(|rule| rule["ports"].to_string().contains("9446"));
            rules.cloned().collect::<Vec<_>>()
        };
        let service = plan.wanted.get(&Id::new::<Service>("zen-mesh", "zen-ingester-relay"));
        (set.contains("ZEN_RELAY"), set.contains("9446"), rules("ingress"), rules("egress"), service.cloned())
    };
    assert_eq!(of(DEFAULT), (false, false, vec![], vec![], None));
    let (listens, has_port, inbound, outbound, service) = of(&(DEFAULT.to_owned() + HUB));
    assert!(listens && has_port);
    let relay = json!({"port": 9446, "protocol": "TCP"});
    assert_eq!(inbound, [json!({"ports": [relay]})], "from other clusters too");
    let from = "hubFrom: [{ipBlock: {cidr: 192.0.2.0/24}}]";
    let (_, _, restricted, ..) = of(&(DEFAULT.replace("hubFrom: []", from) + HUB));
    let peers = json!({"podSelector": {"matchLabels": pod::component_labels(names::INGESTER)}});
    assert_eq!(restricted[0]["from"], json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}, peers]), "ingesters always");
    assert_eq!(outbound.len(), 1);
    assert_eq!(outbound[0]["to"], json!([{"podSelector": {"matchLabels": pod::component_labels(names::INGESTER)}}]));
    let service = service.expect("a Service");
    let spec = &service.body()["spec"];
    assert_eq!(
        (&spec["type"], &service.body()["metadata"]["annotations"]),
        (&json!("LoadBalancer"), &json!({"a": "b"}))
    );
    assert_eq!(
        spec["ports"],
        json!([{"name": "relay", "port": 9000, "targetPort": "relay", "protocol": "TCP", "nodePort": 30446}])
    );
}

#[test]
fn what_is_switched_off_is_unwanted_and_nothing_else() {
    let off = DEFAULT
        .replace("api: {enabled: true}", "api: {enabled: false}")
        .replace("networkPolicies: {enabled: true", "networkPolicies: {enabled: false")
        .replace("podDisruptionBudgets: {enabled: true}", "podDisruptionBudgets: {enabled: false}");
    let plan = decided(&off, |_| {});
    let unwanted: Vec<_> = plan.unwanted.iter().map(ToString::to_string).collect();
    assert_eq!(
        unwanted,
        [
            "APIService v1alpha1.data.zen-mesh.io",
            "NetworkPolicy zen-mesh/zen-audit",
            "NetworkPolicy zen-mesh/zen-egress",
            "NetworkPolicy zen-mesh/zen-ingester",
            "NetworkPolicy zen-mesh/zenlock-webhook",
            "PodDisruptionBudget zen-mesh/zen-egress",
            "PodDisruptionBudget zen-mesh/zen-ingester",
            "PodDisruptionBudget zen-mesh/zenlock-webhook",
            "Service zen-mesh/zen-ingester-api",
            "Service zen-mesh/zen-ingester-relay",
        ]
    );
    let unwanted: Vec<_> = decided(LEAST, |_| {}).unwanted.iter().map(ToString::to_string).collect();
    assert_eq!(
        unwanted,
        [
            "Deployment zen-mesh/zenlock-webhook",
            "MutatingWebhookConfiguration zenlock-webhook.zen-mesh.io",
            "NetworkPolicy zen-mesh/zen-audit",
            "NetworkPolicy zen-mesh/zenlock-webhook",
            "PodDisruptionBudget zen-mesh/zenlock-webhook",
            "Service zen-mesh/zen-audit",
            "Service zen-mesh/zen-ingester-relay",
            "Service zen-mesh/zenlock-webhook",
            "StatefulSet zen-mesh/zen-audit",
            "ValidatingWebhookConfiguration zenlock-webhook.zen-mesh.io",
        ],
        "without ZenLocks, audit and members"
    );
    assert!(decided(&(DEFAULT.to_owned() + HUB), |_| {}).unwanted.is_empty());
}

/// Nobody listens at a port that no Service leads to and no policy lets through.
#[test]
fn a_pod_serves_no_api_that_is_switched_off() {
    let of = |text: &str| {
        let plan = decided(text, |_| {});
        let set = &plan.wanted[&Id::new::<StatefulSet>("zen-mesh", "zen-ingester")];
        let container = &set.body()["spec"]["template"]["spec"]["containers"][0];
        let variables = container["env"].as_array().expect("variables").clone();
        let switch = variables.into_iter().find(|variable| variable["name"] == "ZEN_API_ENABLED");
        (switch, container["ports"].to_string().contains("9443"))
    };
    assert_eq!(of(DEFAULT), (None, true));
    let off = json!({"name": "ZEN_API_ENABLED", "value": "false"});
    assert_eq!(of(&DEFAULT.replace("api: {enabled: true}", "api: {enabled: false}")), (Some(off), false));
}

/// Z-03: the planes have a token for the unseal API, and the way to it, where there is one.
#[test]
fn planes_have_zen_locks_opened_where_something_opens_them() {
    let of = |text: &str| {
        let plan = decided(text, |_| {});
        let pods =
            [Id::new::<StatefulSet>("zen-mesh", "zen-ingester"), Id::new::<Deployment>("zen-mesh", "zen-egress")];
        let pods = pods.map(|id| plan.wanted[&id].body()["spec"]["template"]["spec"].to_string());
        let policy =
            plan.wanted[&Id::new::<NetworkPolicy>("zen-mesh", "zen-ingester")].body()["spec"]["egress"].to_string();
        (
            pods.map(|pod| (pod.contains("ZEN_UNSEAL_URL"), pod.contains("zen-mesh-unseal"))),
            policy.contains("zenlock-webhook"),
        )
    };
    assert_eq!(of(DEFAULT), ([(true, true); 2], true));
    assert_eq!(of(LEAST), ([(false, false); 2], false));
}

/// What a row changes before it is decided.
type Change = fn(&mut Inputs<'_>);

#[test]
fn pods_wait_for_what_they_mount_and_nothing_that_runs_is_deleted_for_it() {
    let trust = |inputs: &mut Inputs<'_>| inputs.trust = None;
    let keys = |inputs: &mut Inputs<'_>| inputs.keys = None;
    let age = |inputs: &mut Inputs<'_>| inputs.age = false;
    let (planes, others) = (["zen-audit", "zen-egress", "zen-ingester"], ["zen-audit", "zenlock-webhook"]);
    let rows: [(Change, &[&str]); 3] = [(trust, &[]), (keys, &others), (age, &planes)];
    for (change, expected) in rows {
        let plan = decided(DEFAULT, change);
        let pods = plan.wanted.keys().filter(|id| ["StatefulSet", "Deployment"].contains(&&*id.kind));
        let mut pods: Vec<_> = pods.map(|id| &*id.name).collect();
        pods.sort_unstable();
        assert_eq!(pods, expected);
        assert!(plan.wanted.keys().any(|id| id.kind == "Service"));
        assert_eq!(unwanted(&plan), ["Service zen-mesh/zen-ingester-relay"], "no hub");
    }
}

#[test]
fn the_aggregated_api_is_registered_when_it_answers() {
    let registered = |plan: &Plan| plan.wanted.keys().any(|id| id.kind == "APIService");
    assert!(registered(&decided(DEFAULT, |_| {})));
    let plan = decided(DEFAULT, |inputs| inputs.api_answers = false);
    assert!(!registered(&plan) && unwanted(&plan) == ["Service zen-mesh/zen-ingester-relay"]);
}

#[test]
fn mesh_settings_restart_nothing() {
    let template = |plan: &Plan| {
        let sets = plan.wanted.values().filter(|object| ["StatefulSet", "Deployment"].contains(&&*object.id().kind));
        sets.map(|object| object.body()["spec"]["template"].clone()).collect::<Vec<_>>()
    };
    let before = template(&decided(DEFAULT, |_| {}));
    let change = |inputs: &mut Inputs<'_>| {
        inputs.drain_delay = Duration::from_secs(20);
        inputs.trust = Some("another bundle");
        inputs.ingester_replicas = 5;
        inputs.api_answers = false;
    };
    assert_eq!(before, template(&decided(DEFAULT, change)));
    assert_ne!(before, template(&decided(DEFAULT, |inputs| inputs.keys = Some("other"))));
}

#[test]
fn volumes_that_exist_stay_and_it_is_said() {
    let change = |inputs: &mut Inputs<'_>| {
        inputs.storage = Some(Storage { size: "5Gi".to_owned(), class_name: "fast".to_owned() });
    };
    let plan = decided(DEFAULT, change);
    let set = &plan.wanted[&Id::new::<StatefulSet>("zen-mesh", names::INGESTER)];
    let set: StatefulSet = serde_json::from_value(Value::Object(set.body().clone())).expect("a StatefulSet");
    assert_eq!(Storage::of(&set, names::QUEUE).map(|storage| storage.size), Some("5Gi".to_owned()));
    assert_eq!(plan.problems.len(), 1);
    assert!(plan.problems[0].message.contains("10Gi of the default class"), "{:?}", plan.problems);
    // The same size in other words is the same size.
    let same = |inputs: &mut Inputs<'_>| {
        inputs.storage = Some(Storage { size: "10240Mi".to_owned(), class_name: String::new() });
    };
    assert!(decided(DEFAULT, same).problems.is_empty());
}

#[test]
fn a_pod_that_empties_a_queue() {
    let (workloads, owner) = (Workloads::parse(DEFAULT).expect("valid"), owner());
    let pod = drain_pod(&inputs(&workloads, &owner), "0123456789abcdef", 3);
    insta::assert_snapshot!(serde_saphyr::to_string(pod.body()).expect("YAML"));
    // No Service leads to it, no StatefulSet takes it for one of its own.
    let plan = decided(DEFAULT, |_| {});
    let labels = &pod.body()["metadata"]["labels"];
    for object in plan.wanted.values().filter(|object| object.id().kind == "Service") {
        let selector = object.body()["spec"]["selector"].as_object().expect("a selector");
        assert!(selector.iter().any(|(key, value)| labels[key] != *value), "{object:?}");
    }
}

#[test]
fn intake_from_names_who_may_send() {
    let text = DEFAULT.replace("intakeFrom: []", "intakeFrom: [{namespaceSelector: {matchLabels: {a: b}}}]");
    let plan = decided(&text, |_| {});
    let policy = &plan.wanted[&Id::new::<NetworkPolicy>("zen-mesh", "zen-ingester")];
    assert_eq!(policy.body()["spec"]["ingress"][0]["from"][0]["namespaceSelector"]["matchLabels"]["a"], "b");
}

#[test]
fn pods_reach_the_api_server_where_it_is() {
    let plan = decided(&DEFAULT.replace("apiServerPorts: [443, 6443]", "apiServerPorts: [443, 16443]"), |_| {});
    for name in ["zen-ingester", "zen-egress"] {
        let policy = plan.wanted[&Id::new::<NetworkPolicy>("zen-mesh", name)].body();
        assert_eq!(policy["spec"]["egress"][1]["ports"][1]["port"], 16443, "{name}");
    }
}

/// writers are told where the store is, and how strict they are to be; switched off, each keeps its own log.
#[test]
fn the_audit_store_and_its_writers() {
    let told = |plan: &Plan, id: &Id| {
        let workload = plan.wanted[id].body().clone();
        let variables = workload["spec"]["template"]["spec"]["containers"][0]["env"].as_array().cloned();
        let told = variables.unwrap_or_default().into_iter().filter(|it| it["name"].to_string().contains("ZEN_AUDIT"));
        told.map(|it| it["value"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let webhook = |plan: &Plan| told(plan, &Id::new::<Deployment>("zen-mesh", names::ZENLOCK));
    let planes = |plan: &Plan| {
        let (egress, ingester) = (names::EGRESS, names::INGESTER);
        [Id::new::<Deployment>("zen-mesh", egress), Id::new::<StatefulSet>("zen-mesh", ingester)]
            .map(|id| told(plan, &id))
    };
    let to_store = |plan: &Plan, name: &str| {
        let policy = plan.wanted[&Id::new::<NetworkPolicy>("zen-mesh", name)].body().clone();
        policy["spec"]["egress"].to_string().contains("9445")
    };
    let on = decided(&DEFAULT.replace("strict: false", "strict: true"), |_| {});
    assert_eq!(webhook(&on), ["zen-audit.zen-mesh.svc", "true"]);
    // No plane is ever strict.
    assert_eq!(planes(&on), [["16", "zen-audit.zen-mesh.svc"]; 2]);
    assert!(to_store(&on, names::ZENLOCK) && to_store(&on, names::INGESTER));
    assert!(!to_store(&on, names::EGRESS), "it reaches every pod of the cluster");
    let store = on.wanted[&Id::new::<NetworkPolicy>("zen-mesh", names::AUDIT)].body();
    let from = store["spec"]["ingress"][0]["from"].as_array().expect("writers").iter();
    let from: Vec<_> = from.map(|from| from["podSelector"]["matchLabels"][names::COMPONENT_LABEL].clone()).collect();
    assert_eq!(from, ["operator", "ingester", "egress", "zenlock-webhook"]);
    let set = on.wanted[&Id::new::<StatefulSet>("zen-mesh", names::AUDIT)].body();
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["args"], json!(["serve"]));

    let (before, after) = DEFAULT.split_once("audit:\n").expect("a section");
    let off = format!("{before}{}", &after[after.find("egress:").expect("the next section")..]);
    let off = decided(&off, |_| {});
    assert!(webhook(&off).is_empty() && !to_store(&off, names::ZENLOCK));
    assert_eq!(planes(&off), [["16"]; 2]);
    assert!(!to_store(&off, names::INGESTER));
    let unwanted: Vec<_> = off.unwanted.iter().map(ToString::to_string).collect();
    let of_store = [
        "NetworkPolicy zen-mesh/zen-audit",
        "Service zen-mesh/zen-audit",
        "Service zen-mesh/zen-ingester-relay",
        "StatefulSet zen-mesh/zen-audit",
    ];
    assert_eq!(unwanted, of_store);

    let grown = decided(DEFAULT, |inputs| {
        inputs.audit_storage = Some(Storage { size: "5Gi".to_owned(), class_name: String::new() });
    });
    assert!(grown.problems[0].message.starts_with("audit.storage asks for 10Gi"), "{:?}", grown.problems);
    let set = grown.wanted[&Id::new::<StatefulSet>("zen-mesh", names::AUDIT)].body();
    assert!(set["spec"]["volumeClaimTemplates"][0].to_string().contains("5Gi"));
}
