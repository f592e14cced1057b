//! One row, or more, for each reason code: what is refused, where it is reported, and what is taken right beside it.

use std::collections::BTreeSet;

use zen_model::ObjectReason as R;
use zen_model::{LockReason, ObjectReason};

use crate::manifests::{destination, good_destination, head, rest, secret, webhook, webhook_named};

/// No finding at all, warnings included.
fn accepts(files: &[(&str, &str)]) {
    let findings = crate::check(files);
    assert!(findings.is_empty(), "{files:?}\n{}", lines(&findings));
}

/// The reason is reported for the field, and nothing else but the codes in `also`.
fn rejects(files: &[(&str, &str)], reason: ObjectReason, field: &str) -> ObjectReason {
    let findings = crate::check(files);
    let found = findings.iter().any(|finding| finding.reason == reason && finding.field == field);
    assert!(found, "{files:?}\nwanted {} at {field:?}, got\n{}", reason.code(), lines(&findings));
    let others: Vec<_> = findings.iter().filter(|finding| finding.reason != reason).cloned().collect();
    assert!(others.is_empty(), "{files:?}\nbeside {} also\n{}", reason.code(), lines(&others));
    assert!(findings.iter().all(|finding| finding.line > 0 && !finding.message.is_empty()), "{}", lines(&findings));
    reason
}

fn lines(findings: &[zen_live::Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn one(text: &str) -> [(&str, &str); 1] {
    [("a.yaml", text)]
}

#[test]
fn every_reason_has_a_row() {
    // A folder is read whole: nothing in it is pending.
    // What is not armoured does not pass the schema; crates/lock has the row.
    // cluster/locks.rs has that of the unseal API.
    // Whether a cluster joined, or is this one, is nothing that a folder says; crates/compile has the rows.
    let mut seen = BTreeSet::from([
        R::Accepted,
        R::RefPending,
        R::ClusterPending,
        R::ClusterAway,
        R::ClusterElsewhere,
        LockReason::NotArmored.into(),
        LockReason::UnsealUnavailable.into(),
    ]);
    accepts(&one(&(webhook("") + &rest())));
    let all = [
        files(),
        providers(),
        references(),
        clusters(),
        secrets_(),
        grants(),
        targets(),
        certificates(),
        notices(),
        crate::zen_locks::reasons(),
    ];
    seen.extend(all.into_iter().flatten());
    let missing: Vec<_> = R::all().filter(|reason| !seen.contains(reason)).map(R::code).collect();
    assert!(missing.is_empty(), "without a row: {missing:?}");
}

fn files() -> Vec<ObjectReason> {
    let good = webhook("") + &rest();
    vec![
        rejects(&[("a.yaml", &good), ("b.yaml", "a: [1,\n")], R::Unreadable, ""),
        rejects(&[("a.yaml", &good), ("b.yaml", "- 1\n")], R::Unreadable, ""),
        rejects(&[("a.yaml", &good), ("b.yaml", "metadata: {name: x}\n")], R::Unreadable, ""),
        rejects(&one(&(webhook("  pathh: /x\n") + &rest())), R::UnknownField, "spec.pathh"),
        rejects(&[("a.yaml", &good), ("mesh.yaml", "grant: []\n")], R::UnknownField, "grant"),
        rejects(&one(&(webhook("  active: 5\n") + &rest())), R::Invalid, "spec.active"),
        rejects(&one(&(webhook("  limits: {body: many}\n") + &rest())), R::Invalid, "spec.limits.body"),
        rejects(&one(&(head("Webhok", "x") + "spec: {}\n---\n" + &good)), R::Invalid, ""),
        rejects(&one(&(secret("x", "{a: 5}") + &good)), R::Invalid, "stringData.a"),
        rejects(&[("a.yaml", &good), ("b.yaml", &good_destination())], R::Duplicate, ""),
    ]
}

fn providers() -> Vec<ObjectReason> {
    let hook = |verification: &str| webhook_named("x", verification, "") + &rest();
    let generic = "provider: generic, secrets: [{secretRef: {name: hook, key: secret}}], generic: {algorithm: hmac-sha256, signature: {header: X-Signature}";
    accepts(&one(&hook(&format!("{{{generic}}}}}"))));
    vec![
        rejects(
            &one(&hook("{provider: githubb, secrets: [{secretRef: {name: hook, key: secret}}]}")),
            R::UnknownProvider,
            "spec.verification.provider",
        ),
        rejects(
            &one(&hook(&format!("{{{generic}, nonce: {{header: X-Nonce}}, signedContent: \"{{nonce}}.{{body}}\"}}}}"))),
            R::NotSupported,
            "spec.verification.generic.nonce",
        ),
        rejects(
            &one(&hook("{provider: github, secrets: [{secretRef: {name: hook, key: secret}}], parameters: {a: b}}")),
            R::NotSupported,
            "spec.verification.parameters",
        ),
        rejects(
            &one(&hook(
                "{provider: github, secrets: [{secretRef: {name: hook, key: secret}}], verifyToken: {secretRef: {name: hook, key: secret}}}",
            )),
            R::NotSupported,
            "spec.verification.verifyToken",
        ),
        rejects(&one(&(webhook("  limits: {rate: {requests: 1}}\n") + &rest())), R::NotSupported, "spec.limits.rate"),
        rejects(&one(&(webhook("  limits: {bucket: b}\n") + &rest())), R::NotSupported, "spec.limits.bucket"),
        rejects(
            &one(&(webhook("  schemas: [{version: v1, json: {type: object}}]\n") + &rest())),
            R::NotSupported,
            "spec.schemas",
        ),
        rejects(
            &one(&(webhook("  clientCertificate: {caRef: {configMapRef: {name: a, key: b}}}\n") + &rest())),
            R::NotSupported,
            "spec.clientCertificate",
        ),
        unbuilt("  delivery: {rate: {requests: 1}}\n", "spec.delivery.rate"),
        unbuilt("  delivery: {ordering: {key: {pointer: /id}}}\n", "spec.delivery.ordering"),
        unbuilt("  deadLetter: {autoReplay: true}\n", "spec.deadLetter.autoReplay"),
    ]
}

fn unbuilt(spec: &str, field: &str) -> ObjectReason {
    rejects(&one(&destination("{url: \"https://a.example/\"}", spec)), R::NotSupported, field)
}

fn clusters() -> Vec<ObjectReason> {
    let relay = destination("{url: \"https://a.example/\"}", "  mode: Relay\n  cluster: eu\n");
    let enrollment = |rest: &str| {
        format!(
            "---\napiVersion: zen-mesh.io/v1alpha1\nkind: ClusterEnrollment\nmetadata: {{name: eu, namespace: team-a}}\n\
             spec: {{recipient: age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq{rest}}}\n"
        )
    };
    accepts(&one(&(relay.clone() + &enrollment(""))));
    let elsewhere = enrollment("").replace("namespace: team-a", "namespace: team-b");
    let missing = crate::check(&one(&relay));
    assert!(missing.iter().all(|finding| finding.warning), "a folder of a member has no enrollments: {missing:?}");
    vec![
        rejects(&one(&relay), R::ClusterNotFound, "spec.cluster"),
        rejects(&one(&(relay.clone() + &elsewhere)), R::ClusterNotFound, "spec.cluster"),
        rejects(&one(&(relay + &enrollment(", disabled: true"))), R::ClusterDisabled, "spec.cluster"),
    ]
}

fn references() -> Vec<ObjectReason> {
    let others = |allow: &str| {
        format!(
            "apiVersion: zen-mesh.io/v1alpha1\nkind: Destination\nmetadata: {{name: audit, namespace: security}}\n\
             spec: {{target: {{url: \"https://a.example/\"}}{allow}}}\n---\n{}",
            webhook("  routes: [{destinations: [{name: audit, namespace: security}]}]\n") + &rest()
        )
    };
    let labelled = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team-a, labels: {tier: gold}}\n---\n";
    accepts(&one(&others(", allowFrom: {namespaces: [team-a]}")));
    accepts(&one(&(labelled.to_owned() + &others(", allowFrom: {selector: {matchLabels: {tier: gold}}}"))));
    let by_name = ", allowFrom: {selector: {matchLabels: {kubernetes.io/metadata.name: team-a}}}";
    accepts(&one(&others(by_name)));
    vec![
        rejects(
            &one(&(webhook("") + &secret("hook", "{secret: x}"))),
            R::RefNotFound,
            "spec.routes[0].destinations[0]",
        ),
        rejects(
            &one(&(webhook("") + &good_destination())),
            R::RefNotFound,
            "spec.verification.secrets[0].secretRef.name",
        ),
        rejects(&one(&destination("{service: {name: s, port: 80}}", "")), R::RefNotFound, "spec.target.service.name"),
        rejects(
            &one(&(service("[{port: 81}]", "ClusterIP") + &destination("{service: {name: s, port: 80}}", ""))),
            R::RefNotFound,
            "spec.target.service.port",
        ),
        rejects(&one(&others("")), R::RefNotPermitted, "spec.routes[0].destinations[0]"),
        rejects(
            &one(&others(", allowFrom: {namespaces: [team-b]}")),
            R::RefNotPermitted,
            "spec.routes[0].destinations[0]",
        ),
        rejects(
            &one(&(labelled.to_owned() + &others(", allowFrom: {selector: {matchLabels: {tier: silver}}}"))),
            R::RefNotPermitted,
            "spec.routes[0].destinations[0]",
        ),
    ]
}

fn service(ports: &str, r#type: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: team-a}}\nspec: {{type: {type}, ports: {ports}}}\n---\n"
    )
}

fn secrets_() -> Vec<ObjectReason> {
    let hook = |data: &str| webhook("") + &good_destination() + &secret("hook", data);
    let basic = webhook_named("x", "{provider: basic, secrets: [{secretRef: {name: pair}}]}", "") + &good_destination();
    let signing = |value: &str| {
        destination("{url: \"https://a.example/\"}", "  signing: {secrets: [{secretRef: {name: s, key: k}}]}\n")
            + &secret("s", &format!("{{k: {value}}}"))
    };
    accepts(&one(&(basic.clone() + &secret("pair", "{username: u, password: p}"))));
    accepts(&one(&signing("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")));
    accepts(&one(&signing("plain")));
    vec![
        rejects(&one(&hook("{other: x}")), R::KeyNotFound, "spec.verification.secrets[0].secretRef.key"),
        rejects(&one(&hook("{secret: ''}")), R::EmptySecret, "spec.verification.secrets[0].secretRef.key"),
        rejects(
            &one(&(basic.clone() + &secret("pair", "{username: u}"))),
            R::KeyNotFound,
            "spec.verification.secrets[0].secretRef.name",
        ),
        rejects(
            &one(&(basic + &secret("pair", "{username: 'u:v', password: p}"))),
            R::BadSecret,
            "spec.verification.secrets[0].secretRef.name",
        ),
        rejects(&one(&signing("whsec_***")), R::BadSecret, "spec.signing.secrets[0]"),
        rejects(
            &one(&(destination(
                "{url: \"https://a.example/\"}",
                "  authentication: {bearer: {secretRef: {name: s, key: k}}}\n",
            ) + &secret("s", "{k: \"a\\nb\"}"))),
            R::BadSecret,
            "spec.authentication.bearer",
        ),
    ]
}

const MESH: &str = "grants:\n- {namespace: team-a, hosts: [a.example], cidrs: [10.20.0.0/16]}\n- {namespace: team-b, hosts: [b.example]}\n";

fn grants() -> Vec<ObjectReason> {
    let hook = |rest_of_spec: &str| webhook(rest_of_spec) + &rest();
    let network = |cidr: &str| {
        destination("{url: \"https://a.example/\"}", &format!("  network: {{allowCidrs: [\"{cidr}\"]}}\n"))
    };
    accepts(&one(&hook("  path: /anywhere\n")));
    accepts(&[("a.yaml", &hook("  path: /anywhere\n  hosts: [a.example]\n")), ("mesh.yaml", MESH)]);
    accepts(&[("a.yaml", &hook("  path: /team-a/x/y\n  hosts: [other.example]\n")), ("mesh.yaml", MESH)]);
    accepts(&[("a.yaml", &network("10.20.1.0/24")), ("mesh.yaml", MESH)]);
    accepts(&one(&network("127.0.0.0/8")));
    let two = webhook("  path: /team-a/x\n")
        + &webhook("  path: /team-a/x\n").replace("name: github", "name: other")
        + &rest();
    vec![
        rejects(&[("a.yaml", &hook("  path: /anywhere\n")), ("mesh.yaml", MESH)], R::PathNotGranted, "spec.path"),
        rejects(&[("a.yaml", &hook("  path: /team-b/x\n")), ("mesh.yaml", MESH)], R::PathNotGranted, "spec.path"),
        rejects(
            &[("a.yaml", &hook("  path: /x\n  hosts: [a.example, c.example]\n")), ("mesh.yaml", MESH)],
            R::PathNotGranted,
            "spec.path",
        ),
        rejects(
            &[("a.yaml", &hook("  hosts: [b.example]\n")), ("mesh.yaml", MESH)],
            R::HostNotGranted,
            "spec.hosts[0]",
        ),
        rejects(
            &[("a.yaml", &network("10.0.0.0/8")), ("mesh.yaml", MESH)],
            R::CidrNotGranted,
            "spec.network.allowCidrs[0]",
        ),
        rejects(&one(&network("169.254.169.254/32")), R::CidrNotGranted, "spec.network.allowCidrs[0]"),
        rejects(&one(&two), R::Conflicted, "spec.path"),
    ]
}

fn targets() -> Vec<ObjectReason> {
    let url = |url: &str, cidrs: &str| {
        destination(&format!("{{url: \"{url}\"}}"), &format!("  network: {{allowCidrs: [{cidrs}]}}\n"))
    };
    accepts(&one(&url("http://127.0.0.1:8080/", "127.0.0.0/8")));
    accepts(&one(&url("http://localhost:8080/", "127.0.0.1/32")));
    let mut rows = vec![rejects(
        &one(&(service("[{port: 80}]", "ExternalName") + &destination("{service: {name: s, port: 80}}", ""))),
        R::TargetNotAllowed,
        "spec.target.service.name",
    )];
    rows.push(rejects(&one(&url("http://ci.example.com/", "")), R::Invalid, "spec.target.url"));
    for (target, cidrs) in [
        ("https://10.1.2.3/", ""),
        ("https://10.1.2.3/", "10.2.0.0/16"),
        ("https://localhost/", ""),
        ("https://169.254.169.254/", "0.0.0.0/0"),
        ("https://metadata.google.internal/", ""),
        ("https://a.example:22/", ""),
    ] {
        rows.push(rejects(&one(&url(target, cidrs)), R::TargetNotAllowed, "spec.target.url"));
    }
    rows
}

fn certificates() -> Vec<ObjectReason> {
    let issued = rcgen::generate_simple_self_signed(["ci.example".to_owned()]).expect("issues");
    let other = rcgen::generate_simple_self_signed(["ci.example".to_owned()]).expect("issues");
    let indented = |pem: &str| format!("    {}\n", pem.trim_end().replace('\n', "\n    "));
    let tls = |r#type: &str, chain: &str, key: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\ntype: {type}\nmetadata: {{name: t, namespace: team-a}}\nstringData:\n  tls.crt: |\n{}  tls.key: |\n{}---\n",
            indented(chain),
            indented(key)
        )
    };
    let ca = |pem: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: ca, namespace: team-a}}\ndata:\n  ca.crt: |\n{}---\n",
            indented(pem)
        )
    };
    let with_ca =
        destination("{url: \"https://a.example/\"}", "  tls: {caRef: {configMapRef: {name: ca, key: ca.crt}}}\n");
    let with_identity = destination("{url: \"https://a.example/\"}", "  tls: {clientCertificateRef: {name: t}}\n");
    let (chain, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
    accepts(&one(&(ca(&chain) + &with_ca)));
    accepts(&one(&(tls("kubernetes.io/tls", &chain, &key) + &with_identity)));
    vec![
        rejects(&one(&(ca("nothing") + &with_ca)), R::BadCertificate, "spec.tls.caRef"),
        rejects(
            &one(&(tls("Opaque", &chain, &key) + &with_identity)),
            R::BadCertificate,
            "spec.tls.clientCertificateRef.name",
        ),
        rejects(
            &one(&(tls("kubernetes.io/tls", &chain, &other.signing_key.serialize_pem()) + &with_identity)),
            R::BadCertificate,
            "spec.tls.clientCertificateRef",
        ),
        rejects(
            &one(&(tls("kubernetes.io/tls", "x", &key) + &with_identity)),
            R::BadCertificate,
            "spec.tls.clientCertificateRef",
        ),
        rejects(
            &one(&(tls("kubernetes.io/tls", &chain, "x") + &with_identity)),
            R::BadCertificate,
            "spec.tls.clientCertificateRef",
        ),
        rejects(&one(&with_ca), R::RefNotFound, "spec.tls.caRef.configMapRef.name"),
        rejects(&one(&with_identity), R::RefNotFound, "spec.tls.clientCertificateRef.name"),
    ]
}

fn notices() -> Vec<ObjectReason> {
    let hook = |verification: &str| webhook_named("x", verification, "") + &rest();
    vec![
        rejects(&one(&(secret("x", "{a: on}") + &webhook("") + &rest())), R::AmbiguousYaml, ""),
        rejects(
            &one(&hook("{provider: github, tolerance: 5m, secrets: [{secretRef: {name: hook, key: secret}}]}")),
            R::NoEffect,
            "spec.verification.tolerance",
        ),
        rejects(&one(&hook("{provider: none}")), R::NoEffect, "spec.verification.provider"),
        rejects(&one(&(webhook("  routes: []\n") + &rest())), R::NoEffect, "spec.routes"),
    ]
}
