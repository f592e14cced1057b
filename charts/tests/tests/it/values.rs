//! Every value that changes the output, and where. `coverage.rs` sees to it that none is missing here.

use serde_json::{Value, json};
use zen_charts::{Helm, Rendering};
use zen_operator::names;
use zen_operator::settings::{self, Workloads};

/// One value and its effect.
pub struct Row {
    /// The value as `--set-json` takes it, with what it needs beside it.
    pub set: Vec<String>,
    /// `mesh`, `workloads` or `Kind/name`.
    at: String,
    pointer: &'static str,
    /// Null: there is no such field, or no such object.
    expected: Value,
}

const OPERATOR: &str = "Deployment/zen-operator";
const CONTAINER: &str = "/spec/template/spec/containers/0";

fn row(set: &[&str], at: &str, pointer: &'static str, expected: Value) -> Row {
    Row { set: set.iter().map(|&text| text.to_owned()).collect(), at: at.to_owned(), pointer, expected }
}

const NAMED: &str = r#"mesh.certificates.certManager.name="mesh""#;
const WITH_CA: &str =
    r#"mesh.certificates.certManager.ca="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n""#;

/// The table.
pub fn rows() -> Vec<Row> {
    [images(), mesh(), operator(), data_plane(), zen_lock(), audit(), hub(), member(), intake(), switches()]
        .into_iter()
        .flatten()
        .collect()
}

fn images() -> Vec<Row> {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let set = |name: &str| format!("image.digests.{name}={}", json!(digest));
    let image = "/spec/template/spec/containers/0/image";
    vec![
        row(
            &[r#"image.registry="r.example.com:5000/zen""#],
            OPERATOR,
            image,
            json!("r.example.com:5000/zen/zen-operator:0.1.0"),
        ),
        row(
            &[r#"image.registry="r.example.com""#],
            "workloads",
            "/images/ingester",
            json!("r.example.com/zen-ingester:0.1.0"),
        ),
        row(
            &[r#"image.registry="r.example.com""#],
            "Job/zen-mesh-cleanup",
            image,
            json!("r.example.com/zen-operator:0.1.0"),
        ),
        row(&[r#"image.tag="1.2.3""#], OPERATOR, image, json!("zen-operator:1.2.3")),
        row(&[r#"image.tag="1.2.3""#], "workloads", "/images/egress", json!("zen-egress:1.2.3")),
        row(&[&set("operator")], OPERATOR, image, json!(format!("zen-operator@{digest}"))),
        row(
            &[&set("ingester"), r#"image.tag="1.2.3""#],
            "workloads",
            "/images/ingester",
            json!(format!("zen-ingester@{digest}")),
        ),
        row(
            &[&set("zenlock-webhook")],
            "workloads",
            "/images/zenlockWebhook",
            json!(format!("zenlock-webhook@{digest}")),
        ),
        row(&[&set("audit")], "workloads", "/images/audit", json!(format!("zen-audit@{digest}"))),
        row(&[&set("egress")], "workloads", "/images/egress", json!(format!("zen-egress@{digest}"))),
        row(
            &[r#"image.pullPolicy="Always""#],
            OPERATOR,
            "/spec/template/spec/containers/0/imagePullPolicy",
            json!("Always"),
        ),
        row(&[r#"image.pullPolicy="Never""#], "workloads", "/images/pullPolicy", json!("Never")),
        row(
            &[r#"image.pullSecrets=["a","b"]"#],
            OPERATOR,
            "/spec/template/spec/imagePullSecrets",
            json!([{"name": "a"}, {"name": "b"}]),
        ),
        row(&[r#"image.pullSecrets=["a","b"]"#], "workloads", "/images/pullSecrets", json!(["a", "b"])),
        row(
            &[r#"image.pullSecrets=["a"]"#],
            "Job/zen-mesh-wait",
            "/spec/template/spec/imagePullSecrets/0/name",
            json!("a"),
        ),
    ]
}

fn mesh() -> Vec<Row> {
    let grants =
        r#"[{"namespace":"team-a","hosts":["*.a.example.com"],"cidrs":["10.20.0.0/16"],"quota":{"bytes":"10Gi"}}]"#;
    let expected: Value = serde_saphyr::from_str(grants).expect("JSON is YAML");
    let buckets = r#"{"default":{"requests":1000,"per":"1s","burst":2000}}"#;
    vec![
        row(&[r#"mesh.trustDomain="prod.example.com""#], "mesh", "/trustDomain", json!("prod.example.com")),
        row(&[&format!("mesh.grants={grants}")], "mesh", "/grants", expected),
        row(
            &[&format!("mesh.buckets={buckets}")],
            "mesh",
            "/buckets/default",
            json!({"requests": 1000, "per": "1s", "burst": 2000}),
        ),
        row(&[r#"mesh.certificates.lifetime="30m""#], "mesh", "/certificates/lifetime", json!("30m")),
        row(
            &[r#"mesh.certificates.issuer="cert-manager""#, NAMED, WITH_CA],
            "mesh",
            "/certificates/issuer",
            json!("cert-manager"),
        ),
        row(&[NAMED], "mesh", "/certificates/certManager/name", json!("mesh")),
        row(
            &[r#"mesh.certificates.certManager.kind="ClusterIssuer""#],
            "mesh",
            "/certificates/certManager/kind",
            json!("ClusterIssuer"),
        ),
        row(
            &[r#"mesh.certificates.certManager.group="awspca.cert-manager.io""#],
            "mesh",
            "/certificates/certManager/group",
            json!("awspca.cert-manager.io"),
        ),
        row(
            &[WITH_CA],
            "mesh",
            "/certificates/certManager/ca",
            json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ),
        row(&[r#"mesh.drainDelay="0s""#], "mesh", "/drainDelay", json!("0s")),
    ]
}

fn operator() -> Vec<Row> {
    let env = |name: &str, value: Value| json!({"name": name, "value": value});
    let mount = |path: &str| json!({"name": "ca", "mountPath": path, "readOnly": true});
    let secret = r#"certificates.ca.secretName="corp-ca""#;
    let volume = r#"certificates.ca.volume={"csi":{"driver":"secrets-store.csi.k8s.io","readOnly":true}}"#;
    // The Secret zen-mesh-ca is then none of the operator's business.
    let of_pod = |value: &str| format!("operator.pod.{value}");
    let affinity = r#"affinity={"nodeAffinity":{}}"#;
    vec![
        // What comes next is the Secret zen-mesh-age.
        row(&[secret], "Role/zen-operator", "/rules/6/resourceNames", json!(["zen-mesh-age"])),
        row(&["operator.replicas=3"], OPERATOR, "/spec/replicas", json!(3)),
        row(
            &[r#"operator.log="debug,kube=warn""#],
            OPERATOR,
            "/spec/template/spec/containers/0/env/4",
            env("ZEN_LOG", json!("debug,kube=warn")),
        ),
        row(
            &[secret],
            OPERATOR,
            "/spec/template/spec/volumes/1",
            json!({"name": "ca", "secret": {"secretName": "corp-ca", "defaultMode": 288}}),
        ),
        row(&[secret], OPERATOR, "/spec/template/spec/containers/0/volumeMounts/1", mount("/etc/zen-mesh/ca")),
        row(
            &[secret],
            OPERATOR,
            "/spec/template/spec/containers/0/env/5",
            env("ZEN_CA_PATH", json!("/etc/zen-mesh/ca")),
        ),
        row(
            &[volume],
            OPERATOR,
            "/spec/template/spec/volumes/1",
            json!({"name": "ca", "csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}}),
        ),
        row(
            &[volume, r#"certificates.ca.path="/ca""#],
            OPERATOR,
            "/spec/template/spec/containers/0/volumeMounts/1",
            mount("/ca"),
        ),
        row(
            &[volume, r#"certificates.ca.path="/ca""#],
            OPERATOR,
            "/spec/template/spec/containers/0/env/5",
            env("ZEN_CA_PATH", json!("/ca")),
        ),
        row(
            &[&of_pod(r#"resources.requests.cpu="1""#)],
            OPERATOR,
            "/spec/template/spec/containers/0/resources/requests/cpu",
            json!("1"),
        ),
        row(
            &[&of_pod(r#"resources.requests.memory="1Gi""#)],
            OPERATOR,
            "/spec/template/spec/containers/0/resources/requests/memory",
            json!("1Gi"),
        ),
        row(
            &[&of_pod(r#"resources.limits.memory="2Gi""#)],
            OPERATOR,
            "/spec/template/spec/containers/0/resources/limits/memory",
            json!("2Gi"),
        ),
        row(&[&of_pod(r#"nodeSelector={"a":"b"}"#)], OPERATOR, "/spec/template/spec/nodeSelector", json!({"a": "b"})),
        row(
            &[&of_pod(r#"nodeSelector={"a":"b"}"#)],
            "Job/zen-mesh-wait",
            "/spec/template/spec/nodeSelector",
            json!({"a": "b"}),
        ),
        row(
            &[&of_pod(r#"tolerations=[{"operator":"Exists"}]"#)],
            OPERATOR,
            "/spec/template/spec/tolerations",
            json!([{"operator": "Exists"}]),
        ),
        row(
            &[&of_pod(r#"tolerations=[{"operator":"Exists"}]"#)],
            "Job/zen-mesh-cleanup",
            "/spec/template/spec/tolerations/0/operator",
            json!("Exists"),
        ),
        row(&[&of_pod(affinity)], OPERATOR, "/spec/template/spec/affinity", json!({"nodeAffinity": {}})),
        row(&[&of_pod(r#"annotations={"a":"b"}"#)], OPERATOR, "/spec/template/metadata/annotations", json!({"a": "b"})),
        row(&[&of_pod(r#"labels={"team":"x"}"#)], OPERATOR, "/spec/template/metadata/labels/team", json!("x")),
        row(
            &[&of_pod(r#"priorityClassName="high""#)],
            OPERATOR,
            "/spec/template/spec/priorityClassName",
            json!("high"),
        ),
        row(
            &[&of_pod(r#"priorityClassName="high""#)],
            "Job/zen-mesh-cleanup",
            "/spec/template/spec/priorityClassName",
            json!("high"),
        ),
    ]
}

/// What the operator gets to know about a plane.
fn data_plane() -> Vec<Row> {
    let mut rows = Vec::new();
    for (plane, pointers) in [
        ("ingester", ["/ingester/replicas", "/ingester/log", "/ingester/pod"]),
        ("egress", ["/egress/replicas", "/egress/log", "/egress/pod"]),
        ("zenLock", ["/zenLock/replicas", "/zenLock/log", "/zenLock/pod"]),
    ] {
        let set = |value: &str| format!("{plane}.{value}");
        rows.push(row(&[&set("replicas=5")], "workloads", pointers[0], json!(5)));
        rows.push(row(&[&set(r#"log="debug""#)], "workloads", pointers[1], json!("debug")));
        rows.push(whole_pod(plane, pointers[2]));
    }
    let node_port = &[r#"ingester.service.type="NodePort""#, "ingester.service.nodePort=30443"];
    rows.extend([
        row(&[r#"ingester.storage.size="50Gi""#], "workloads", "/ingester/storage/size", json!("50Gi")),
        row(&[r#"ingester.storage.className="fast""#], "workloads", "/ingester/storage/className", json!("fast")),
        row(&[r#"ingester.service.type="LoadBalancer""#], "workloads", "/ingester/service/type", json!("LoadBalancer")),
        row(&["ingester.service.port=8443"], "workloads", "/ingester/service/port", json!(8443)),
        row(node_port, "workloads", "/ingester/service/nodePort", json!(30443)),
        row(
            &[r#"ingester.service.annotations={"a":"b"}"#],
            "workloads",
            "/ingester/service/annotations",
            json!({"a": "b"}),
        ),
    ]);
    rows
}

fn zen_lock() -> Vec<Row> {
    let role = "ClusterRole/zenlock-webhook";
    let secret = r#"zenLock.custody.secretName="corp-age""#;
    let volume = r#"zenLock.custody.volume={"csi":{"driver":"secrets-store.csi.k8s.io","readOnly":true}}"#;
    // Without the right to make the Secret zen-mesh-age.
    let verbs = || json!(["list", "watch"]);
    vec![
        row(&["zenLock.enabled=false"], "workloads", "/zenLock", Value::Null),
        row(&["zenLock.enabled=false"], "workloads", "/images/zenlockWebhook", Value::Null),
        row(&["zenLock.enabled=false"], role, "", Value::Null),
        row(&["zenLock.enabled=false"], "Role/zen-mesh-recipients", "", Value::Null),
        row(&["zenLock.enabled=false"], "ServiceAccount/zenlock-webhook", "", Value::Null),
        row(&["zenLock.enabled=false"], "NetworkPolicy/zen-operator", "/spec/ingress/0/from/4", Value::Null),
        row(&[secret], "workloads", "/zenLock/custody/secretName", json!("corp-age")),
        row(&[secret], "Role/zen-operator", "/rules/7/verbs", verbs()),
        row(
            &[volume],
            "workloads",
            "/zenLock/custody/volume",
            json!({"csi": {"driver": "secrets-store.csi.k8s.io", "readOnly": true}}),
        ),
        row(&[volume], "Role/zen-operator", "/rules/7/verbs", verbs()),
        row(&["zenLock.secretDelivery=true"], "workloads", "/zenLock/secretDelivery", json!(true)),
        row(&["zenLock.secretDelivery=true"], role, "/rules/6/resources", json!(["pods"])),
        row(&["zenLock.secretDelivery=true"], role, "/rules/7/resources", json!(["secrets"])),
    ]
}

fn audit() -> Vec<Row> {
    let (store, strict) = ("/spec/template/spec/containers/0/env/6", "/spec/template/spec/containers/0/env/7/value");
    let off = "audit.enabled=false";
    let mut rows = vec![
        row(&[off], "workloads", "/audit", Value::Null),
        row(&[off], "workloads", "/images/audit", Value::Null),
        row(&[off], "Role/zen-audit", "", Value::Null),
        row(&[off], "RoleBinding/zen-audit", "", Value::Null),
        row(&[off], "ServiceAccount/zen-audit", "", Value::Null),
        row(&[off], "NetworkPolicy/zen-operator", "/spec/ingress/0/from/4", Value::Null),
        row(&[off], "NetworkPolicy/zen-operator", "/spec/egress/5", Value::Null),
        row(&[off], OPERATOR, store, Value::Null),
        row(&["audit.strict=true"], OPERATOR, strict, json!("true")),
        row(&["audit.strict=true"], "workloads", "/audit/strict", json!(true)),
        row(&[r#"audit.storage.size="50Gi""#], "workloads", "/audit/storage/size", json!("50Gi")),
        row(&[r#"audit.storage.className="fast""#], "workloads", "/audit/storage/className", json!("fast")),
        row(&["audit.keepDays=30"], "workloads", "/audit/keepDays", json!(30)),
        row(&["audit.keepMib=100"], "workloads", "/audit/keepMib", json!(100)),
        row(&[r#"audit.log="debug""#], "workloads", "/audit/log", json!("debug")),
    ];
    rows.push(whole_pod("audit", "/audit/pod"));
    rows
}

/// Each leaf by its own path, so that one that is not passed on shows.
fn whole_pod(section: &str, pointer: &'static str) -> Row {
    let pod = json!({
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
        "nodeSelector": {"a": "b"},
        "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "annotations": {"c": "d"},
        "labels": {"e": "f"},
        "priorityClassName": "high",
    });
    let leaves = crate::coverage::leaves(&pod).into_iter();
    let leaves: Vec<_> = leaves.map(|(path, value)| format!("{section}.pod.{path}={value}")).collect();
    let leaves: Vec<_> = leaves.iter().map(String::as_str).collect();
    row(&leaves, "workloads", pointer, pod)
}

fn hub() -> Vec<Row> {
    const SERVICE: &str = "Service/zen-operator-hub";
    let on = ["hub.enabled=true", r#"hub.url="https://hub.example.com:8445""#];
    let with = |more: &[&str], at: &str, pointer: &'static str, expected: Value| {
        let set: Vec<_> = on.iter().copied().chain(more.iter().copied()).collect();
        row(&set, at, pointer, expected)
    };
    let from = r#"networkPolicies.hubFrom=[{"ipBlock":{"cidr":"192.0.2.0/24"}}]"#;
    vec![
        with(&[], OPERATOR, "/spec/template/spec/containers/0/ports/1", json!({"name": "hub", "containerPort": 8445})),
        with(&[], "workloads", "/hub/url", json!("https://hub.example.com:8445")),
        with(
            &[r#"hub.names=["hub.internal","10.0.0.7"]"#],
            "workloads",
            "/hub/names",
            json!(["hub.internal", "10.0.0.7"]),
        ),
        with(&[r#"hub.relay="relay.example.com:9446""#], "workloads", "/hub/relay", json!("relay.example.com:9446")),
        with(&[r#"hub.certificateLifetime="720h""#], "workloads", "/hub/certificateLifetime", json!("720h")),
        with(&[], "workloads", "/hub/relayService/type", json!("LoadBalancer")),
        with(&[r#"hub.relayService.type="NodePort""#], "workloads", "/hub/relayService/type", json!("NodePort")),
        with(&["hub.relayService.port=443"], "workloads", "/hub/relayService/port", json!(443)),
        with(&["hub.relayService.nodePort=30946"], "workloads", "/hub/relayService/nodePort", json!(30946)),
        with(
            &[r#"hub.relayService.annotations={"a":"b"}"#],
            "workloads",
            "/hub/relayService/annotations/a",
            json!("b"),
        ),
        with(&[from], "workloads", "/networkPolicies/hubFrom/0/ipBlock/cidr", json!("192.0.2.0/24")),
        with(&[], SERVICE, "/spec/type", json!("LoadBalancer")),
        with(&[r#"hub.service.type="NodePort""#], SERVICE, "/spec/type", json!("NodePort")),
        with(&["hub.service.port=443"], SERVICE, "/spec/ports/0/port", json!(443)),
        with(&["hub.service.nodePort=30845"], SERVICE, "/spec/ports/0/nodePort", json!(30845)),
        with(&[r#"hub.service.annotations={"a":"b"}"#], SERVICE, "/metadata/annotations/a", json!("b")),
        with(
            &[from],
            "NetworkPolicy/zen-operator",
            "/spec/ingress/1",
            json!({"ports": [{"port": 8445, "protocol": "TCP"}], "from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]}),
        ),
        with(&[], "NetworkPolicy/zen-operator", "/spec/ingress/1/from", Value::Null),
    ]
}

fn intake() -> Vec<Row> {
    let ingress = |more: &'static str| {
        vec![r#"intake.exposure.type="ingress""#, r#"intake.exposure.hosts=["a.example.com","b.example.com"]"#, more]
    };
    let parents =
        r#"intake.exposure.gateway.parentRefs=[{"name":"public","namespace":"gateways","sectionName":"https"}]"#;
    let gateway = |more: &'static str| {
        vec![r#"intake.exposure.type="gateway""#, r#"intake.exposure.hosts=["a.example.com"]"#, parents, more]
    };
    let (route, policy) = ("HTTPRoute/zen-ingester", "BackendTLSPolicy/zen-ingester");
    let own = r#"intake.tlsSecret="intake-tls""#;
    vec![
        row(&[own], "workloads", "/intake/tlsSecret", json!("intake-tls")),
        row(
            &[own],
            "Role/zen-mesh-ingester",
            "/rules/2",
            json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["intake-tls"], "verbs": ["list", "watch"]}),
        ),
        row(&[r#"intake.names=["hooks.example.com"]"#], "workloads", "/intake/names", json!(["hooks.example.com"])),
        row(
            &ingress(r#"intake.names=["n.example.com","b.example.com"]"#),
            "workloads",
            "/intake/names",
            json!(["a.example.com", "b.example.com", "n.example.com"]),
        ),
        row(
            &ingress("spread=true"),
            "Ingress/zen-ingester",
            "/spec/tls",
            json!([{"hosts": ["a.example.com", "b.example.com"]}]),
        ),
        row(&ingress("spread=true"), "Ingress/zen-ingester", "/spec/rules/1/host", json!("b.example.com")),
        row(
            &ingress("ingester.service.port=8443"),
            "Ingress/zen-ingester",
            "/spec/rules/0/http/paths/0",
            json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "zen-ingester", "port": {"number": 8443}}}}),
        ),
        row(
            &ingress(r#"intake.exposure.ingress.className="nginx""#),
            "Ingress/zen-ingester",
            "/spec/ingressClassName",
            json!("nginx"),
        ),
        row(
            &ingress(r#"intake.exposure.ingress.annotations={"a":"b"}"#),
            "Ingress/zen-ingester",
            "/metadata/annotations",
            json!({"a": "b"}),
        ),
        row(
            &ingress(r#"intake.exposure.ingress.tlsSecret="public-tls""#),
            "Ingress/zen-ingester",
            "/spec/tls/0/secretName",
            json!("public-tls"),
        ),
        row(
            &gateway("spread=true"),
            route,
            "/spec/parentRefs",
            json!([{"name": "public", "namespace": "gateways", "sectionName": "https"}]),
        ),
        row(&gateway("spread=true"), route, "/spec/hostnames", json!(["a.example.com"])),
        row(
            &gateway("ingester.service.port=8443"),
            route,
            "/spec/rules/0/backendRefs",
            json!([{"name": "zen-ingester", "port": 8443}]),
        ),
        row(
            &gateway(r#"intake.exposure.gateway.annotations={"a":"b"}"#),
            route,
            "/metadata/annotations",
            json!({"a": "b"}),
        ),
        row(
            &gateway("spread=true"),
            policy,
            "/spec",
            json!({
                "targetRefs": [{"group": "", "kind": "Service", "name": "zen-ingester"}],
                "validation": {
                    "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "zen-mesh-trust"}],
                    "hostname": "zen-ingester.zen-mesh.svc",
                },
            }),
        ),
        row(
            &gateway(r#"intake.exposure.gateway.backendTLS.hostname="a.example.com""#),
            policy,
            "/spec/validation/hostname",
            json!("a.example.com"),
        ),
        row(
            &gateway(r#"intake.exposure.gateway.backendTLS.caConfigMap="corp-ca""#),
            policy,
            "/spec/validation/caCertificateRefs/0/name",
            json!("corp-ca"),
        ),
    ]
}

/// A cluster that delivers for a hub (T-01, K-05): no intake, no root, and what it needs to be enrolled.
fn member() -> Vec<Row> {
    let (on, rights) = ("member.enabled=true", "Role/zen-operator");
    let pin = "ab".repeat(32);
    let set_pin = format!("member.rootFingerprints=[\"{pin}\"]");
    let of = |name: &str, verbs: Value| json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": [name], "verbs": verbs});
    vec![
        row(&[on], "workloads", "/member", json!({"rootFingerprints": []})),
        row(&[on, &set_pin], "workloads", "/member/rootFingerprints/0", json!(pin)),
        row(&[on], rights, "/rules/3/resourceNames", json!(["zen-mesh-issuer", "zen-mesh-egress-keys"])),
        row(&[on], rights, "/rules/1/resourceNames", json!(["zen-mesh-trust"])),
        row(&[on], rights, "/rules/4", of("zen-mesh-member", json!(["list", "create", "patch"]))),
        row(&[on], rights, "/rules/6", of("zen-mesh-enrollment", json!(["list", "watch"]))),
        row(&[on], rights, "/rules/7/resourceNames", json!(["zen-mesh-agent"])),
        row(&[on], rights, "/rules/8/resourceNames", json!(["zen-mesh-issuer-pending"])),
        // In the place where a hub may make its root.
        row(&[on], rights, "/rules/9/resourceNames", json!(["zen-mesh-age"])),
        row(&[on], "Job/zen-mesh-wait", "", Value::Null),
        row(
            &[on, "member.hubPorts=[30445]"],
            "NetworkPolicy/zen-operator",
            "/spec/egress/4",
            json!({"ports": [{"port": 30445, "protocol": "TCP"}]}),
        ),
    ]
}

fn switches() -> Vec<Row> {
    let peers = r#"networkPolicies.intakeFrom=[{"ipBlock":{"cidr":"192.0.2.0/24"}}]"#;
    let none = || Value::Null;
    let api_server = || json!({"ports": [{"port": 16443, "protocol": "TCP"}]});
    vec![
        row(&["api.enabled=false"], "workloads", "/api/enabled", json!(false)),
        row(&["api.enabled=false"], "RoleBinding/zen-ingester-authentication-reader", "", none()),
        row(&["api.enabled=false"], "ClusterRole/zen-ingester", "/rules/4", none()),
        row(&["networkPolicies.enabled=false"], "workloads", "/networkPolicies/enabled", json!(false)),
        row(&["networkPolicies.enabled=false"], "NetworkPolicy/zen-operator", "", none()),
        row(&["networkPolicies.enabled=false"], "NetworkPolicy/zen-mesh-hooks", "", none()),
        row(&[peers], "workloads", "/networkPolicies/intakeFrom", json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}])),
        row(
            &["networkPolicies.apiServerPorts=[16443]"],
            "workloads",
            "/networkPolicies/apiServerPorts",
            json!([16443]),
        ),
        row(&["networkPolicies.apiServerPorts=[16443]"], "NetworkPolicy/zen-operator", "/spec/egress/1", api_server()),
        row(
            &["networkPolicies.apiServerPorts=[16443]"],
            "NetworkPolicy/zen-mesh-hooks",
            "/spec/egress/1",
            api_server(),
        ),
        row(&["podDisruptionBudgets.enabled=false"], "workloads", "/podDisruptionBudgets/enabled", json!(false)),
        row(&["podDisruptionBudgets.enabled=false"], "PodDisruptionBudget/zen-operator", "", none()),
        row(&["rotation.syntheticEvent=false"], "workloads", "/rotation/syntheticEvent", json!(false)),
        row(&["rotation.syntheticEvent=false"], "Role/zen-operator", "/rules/26", none()),
        row(&["spread=false"], "workloads", "/spread", json!(false)),
        row(&["spread=false"], OPERATOR, "/spec/template/spec/topologySpreadConstraints", none()),
        row(&["crds.install=false"], "CustomResourceDefinition/webhooks.zen-mesh.io", "", none()),
        row(&["crds.keep=false"], "CustomResourceDefinition/zenlocks.zen-mesh.io", "/metadata/annotations", none()),
        row(&["roles.enabled=false"], "ClusterRole/zen-mesh-view", "", none()),
        row(&["roles.enabled=false"], "Role/zen-mesh-owner", "", none()),
        row(&["hooks.wait.enabled=false"], "Job/zen-mesh-wait", "", none()),
        row(
            &["hooks.wait.seconds=60"],
            "Job/zen-mesh-wait",
            "/spec/template/spec/containers/0/args",
            json!(["wait", "--timeout", "60s"]),
        ),
        row(&["hooks.wait.seconds=60"], "Job/zen-mesh-wait", "/spec/activeDeadlineSeconds", json!(120)),
        row(&["hooks.cleanup.enabled=false"], "Job/zen-mesh-cleanup", "", none()),
    ]
}

fn found(rendering: &Rendering, row: &Row) -> Value {
    let whole = match row.at.as_str() {
        "mesh" => rendering.mesh().expect("mesh.yaml"),
        "workloads" => rendering.workloads().expect("workloads.yaml"),
        id => rendering.object(id).clone(),
    };
    whole.pointer(row.pointer).cloned().unwrap_or_default()
}

/// The operator takes what the chart writes, with every value in it.
fn read_by_the_operator(rendering: &Rendering) -> Result<Workloads, settings::Error> {
    let config = rendering.object(&format!("ConfigMap/{}", names::WORKLOADS));
    Workloads::parse(config["data"][names::WORKLOADS_KEY].as_str().unwrap_or_default())
}

#[test]
fn each_value_does_what_it_says() {
    let helm = Helm::find().expect("helm");
    let default = helm.render(&[]).expect("renders");
    assert_eq!(read_by_the_operator(&default).expect("valid").ingester.replicas, 2);
    for row in rows() {
        let arguments: Vec<_> = row.set.iter().flat_map(|value| ["--set-json", value]).collect();
        let rendering = helm.render(&arguments).expect("renders");
        read_by_the_operator(&rendering).unwrap_or_else(|error| panic!("{:?}: {error}", row.set));
        let what = format!("{:?} in {} {}", row.set, row.at, row.pointer);
        assert_eq!(found(&rendering, &row), row.expected, "{what}");
        assert_ne!(found(&default, &row), row.expected, "without the value it is the same: {what}");
    }
}

/// The values file for a small cluster: one replica of each, and nothing less safe (K-05).
#[test]
fn values_for_a_small_cluster() {
    let helm = Helm::find().expect("helm");
    let file = zen_charts::root().join("charts/zen-mesh/values-dev.yaml");
    let dev = helm.render(&["--values", &file.to_string_lossy()]).expect("renders");
    let default = helm.render(&[]).expect("renders");
    assert_eq!(dev.object(OPERATOR)["spec"]["replicas"], 1);
    let (small, workloads) = (dev.workloads().expect("workloads"), default.workloads().expect("workloads"));
    assert_eq!((&small["ingester"]["replicas"], &small["egress"]["replicas"]), (&json!(1), &json!(1)));
    assert_eq!(small["zenLock"]["replicas"], 1);
    assert_eq!(small["audit"]["storage"], json!({"size": "1Gi", "className": ""}));
    assert_eq!(small["ingester"]["storage"], json!({"size": "1Gi", "className": ""}));
    for pointer in ["/networkPolicies", "/api", "/intake", "/ingester/service"] {
        assert_eq!(small.pointer(pointer), workloads.pointer(pointer), "{pointer}");
    }
    assert_eq!(dev.mesh().expect("mesh"), default.mesh().expect("mesh"));
    let pod = format!("{CONTAINER}/securityContext");
    assert_eq!(dev.object(OPERATOR).pointer(&pod), default.object(OPERATOR).pointer(&pod));
}
