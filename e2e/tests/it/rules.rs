//! Rules that concern several fields, each with what it refuses and what it just takes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api_server::api_server;
use crate::samples::{named, with};
use crate::verdicts::{both_refuse, both_take};

/// Kind, sample, pointer, value to put there (`null` removes), field and words of the refusal.
type Row = (&'static str, &'static str, &'static str, Value, &'static str, &'static str);

const ONE_SECRET: &str = "exactly one of secretRef and zenLockRef is required";
const ONE_CA: &str = "exactly one of configMapRef and secretRef is required";
const ONE_KEY: &str = "exactly one of header and pointer is required";
const ONE_VALUE: &str = "exactly one of header, pointer and value is required";
const ONE_SUBJECT: &str = "exactly one of eventType, pointer and header is required";
const ONE_TEST: &str = "must validate one and only one schema (oneOf)";
const CIDR: &str = "must be an address range such as 10.20.0.0/16 or 2001:db8::/32";
const FORWARD: &str = "credentials, cookies and headers of the connection are never forwarded";
const SET: &str =
    "credentials belong into authentication; headers of the connection, of CloudEvents and signatures cannot be set";

fn refused() -> Vec<Row> {
    let reference = || json!({"name": "x", "key": "y"});
    let mut rows: Vec<Row> = vec![
        // Unions.
        ("Webhook", "github", "/spec/verification/secrets/0", json!({}), "spec.verification.secrets[0]", ONE_SECRET),
        (
            "Webhook",
            "github",
            "/spec/verification/secrets/0/zenLockRef",
            reference(),
            "spec.verification.secrets[0]",
            ONE_SECRET,
        ),
        ("Webhook", "github", "/spec/verification/verifyToken", json!({}), "spec.verification.verifyToken", ONE_SECRET),
        (
            "Webhook",
            "github",
            "/spec/verification/verifyToken/zenLockRef",
            reference(),
            "spec.verification.verifyToken",
            ONE_SECRET,
        ),
        ("Webhook", "github", "/spec/clientCertificate/caRef", json!({}), "spec.clientCertificate.caRef", ONE_CA),
        (
            "Webhook",
            "github",
            "/spec/clientCertificate/caRef/secretRef",
            reference(),
            "spec.clientCertificate.caRef",
            ONE_CA,
        ),
        ("Webhook", "github", "/spec/event/type", json!({}), "spec.event.type", ONE_VALUE),
        ("Webhook", "github", "/spec/event/type/pointer", json!("/type"), "spec.event.type", ONE_VALUE),
        ("Webhook", "github", "/spec/event/type/value", json!("push"), "spec.event.type", ONE_VALUE),
        ("Webhook", "github", "/spec/event/id", json!({}), "spec.event.id", ONE_KEY),
        ("Webhook", "github", "/spec/event/id/pointer", json!("/id"), "spec.event.id", ONE_KEY),
        ("Webhook", "github", "/spec/idempotency/key", json!({}), "spec.idempotency.key", ONE_KEY),
        ("Webhook", "github", "/spec/idempotency/key/pointer", json!("/id"), "spec.idempotency.key", ONE_KEY),
        (
            "Webhook",
            "github",
            "/spec/schemas/0/configMapRef",
            reference(),
            "spec.schemas[0]",
            "exactly one of json and configMapRef is required",
        ),
        (
            "Webhook",
            "github",
            "/spec/schemas/0/json",
            Value::Null,
            "spec.schemas[0]",
            "exactly one of json and configMapRef is required",
        ),
        ("Webhook", "github", "/spec/routes/0/match/0", json!({}), "spec.routes[0].match[0]", ONE_TEST),
        (
            "Webhook",
            "github",
            "/spec/routes/0/match/0",
            json!({"exists": true}),
            "spec.routes[0].match[0]",
            ONE_SUBJECT,
        ),
        ("Webhook", "github", "/spec/routes/0/match/0/pointer", json!("/a"), "spec.routes[0].match[0]", ONE_SUBJECT),
        ("Webhook", "github", "/spec/routes/0/match/0/exists", json!(true), "spec.routes[0].match[0]", ONE_TEST),
        ("Webhook", "github", "/spec/routes/0/match/1/header", json!("X-A"), "spec.routes[0].match[1]", ONE_SUBJECT),
        ("Webhook", "github", "/spec/routes/0/match/1/in", Value::Null, "spec.routes[0].match[1]", ONE_TEST),
        ("Webhook", "github", "/spec/routes/0/match/1/equals", json!("x"), "spec.routes[0].match[1]", ONE_TEST),
        ("Webhook", "github", "/spec/routes/0/match/1/prefix", json!("x"), "spec.routes[0].match[1]", ONE_TEST),
        ("Webhook", "github", "/spec/routes/0/match/2/equals", json!("x"), "spec.routes[0].match[2]", ONE_TEST),
        (
            "Webhook",
            "query",
            "/spec/verification/apiKey",
            json!({}),
            "spec.verification.apiKey",
            "exactly one of header and query is required",
        ),
        (
            "Webhook",
            "query",
            "/spec/verification/apiKey/header",
            json!("X-Api-Key"),
            "spec.verification.apiKey",
            "exactly one of header and query is required",
        ),
        ("Destination", "ci", "/spec/target", json!({}), "spec.target", "exactly one of service and url is required"),
        (
            "Destination",
            "ci",
            "/spec/target/url",
            json!("https://a.example"),
            "spec.target",
            "exactly one of service and url is required",
        ),
        ("Destination", "ci", "/spec/tls/caRef", json!({}), "spec.tls.caRef", ONE_CA),
        ("Destination", "ci", "/spec/tls/caRef/secretRef", reference(), "spec.tls.caRef", ONE_CA),
        (
            "Destination",
            "ci",
            "/spec/authentication",
            json!({}),
            "spec.authentication",
            "exactly one of bearer, basic and header is required",
        ),
        (
            "Destination",
            "ci",
            "/spec/authentication/basic",
            json!({"secretRef": {"name": "x"}}),
            "spec.authentication",
            "exactly one of bearer, basic and header is required",
        ),
        ("Destination", "ci", "/spec/authentication/bearer", json!({}), "spec.authentication.bearer", ONE_SECRET),
        (
            "Destination",
            "ci",
            "/spec/authentication/bearer/secretRef",
            reference(),
            "spec.authentication.bearer",
            ONE_SECRET,
        ),
        ("Destination", "direct", "/spec/authentication/basic", json!({}), "spec.authentication.basic", ONE_SECRET),
        (
            "Destination",
            "direct",
            "/spec/authentication/basic/zenLockRef",
            json!({"name": "x"}),
            "spec.authentication.basic",
            ONE_SECRET,
        ),
        (
            "Destination",
            "member",
            "/spec/authentication/header/secretRef",
            Value::Null,
            "spec.authentication.header",
            ONE_SECRET,
        ),
        (
            "Destination",
            "member",
            "/spec/authentication/header/zenLockRef",
            reference(),
            "spec.authentication.header",
            ONE_SECRET,
        ),
        ("Destination", "ci", "/spec/signing/secrets/0", json!({}), "spec.signing.secrets[0]", ONE_SECRET),
        ("Destination", "ci", "/spec/delivery/ordering/key", json!({}), "spec.delivery.ordering.key", ONE_KEY),
        (
            "Destination",
            "ci",
            "/spec/delivery/ordering/key/header",
            json!("X-Key"),
            "spec.delivery.ordering.key",
            ONE_KEY,
        ),
        // Verification.
        (
            "Webhook",
            "github",
            "/spec/verification/provider",
            json!("generic"),
            "spec.verification",
            "generic is required for provider generic, and only there",
        ),
        (
            "Webhook",
            "billing",
            "/spec/verification/provider",
            json!("github"),
            "spec.verification",
            "generic is required for provider generic, and only there",
        ),
        (
            "Webhook",
            "github",
            "/spec/verification/provider",
            json!("apiKey"),
            "spec.verification",
            "apiKey is required for provider apiKey, and only there",
        ),
        (
            "Webhook",
            "query",
            "/spec/verification/provider",
            json!("bearer"),
            "spec.verification",
            "apiKey is required for provider apiKey, and only there",
        ),
        (
            "Webhook",
            "bearer",
            "/spec/verification/secrets",
            Value::Null,
            "spec.verification",
            "providers generic, basic, bearer and apiKey need at least one secret",
        ),
        (
            "Webhook",
            "basic",
            "/spec/verification/secrets",
            json!([]),
            "spec.verification",
            "providers generic, basic, bearer and apiKey need at least one secret",
        ),
        (
            "Webhook",
            "bearer",
            "/spec/verification/provider",
            json!("none"),
            "spec.verification",
            "provider none takes no secrets",
        ),
        (
            "Webhook",
            "basic",
            "/spec/verification/provider",
            json!("github"),
            "spec.verification.secrets",
            "each secret needs a key, except for provider basic",
        ),
        (
            "Webhook",
            "bearer",
            "/spec/verification/secrets/0",
            json!({"zenLockRef": {"name": "x"}}),
            "spec.verification.secrets",
            "each secret needs a key, except for provider basic",
        ),
        (
            "Webhook",
            "billing",
            "/spec/verification/generic/timestamp",
            Value::Null,
            "spec.verification.generic",
            "timestamp is required where signedContent has {timestamp}, and only there",
        ),
        (
            "Webhook",
            "billing",
            "/spec/verification/generic/signedContent",
            json!("{nonce}{body}"),
            "spec.verification.generic",
            "timestamp is required where signedContent has {timestamp}, and only there",
        ),
        (
            "Webhook",
            "billing",
            "/spec/verification/generic/nonce",
            Value::Null,
            "spec.verification.generic",
            "nonce is required where signedContent has {nonce}, and only there",
        ),
        (
            "Webhook",
            "billing",
            "/spec/verification/generic/signedContent",
            json!("{timestamp}{body}"),
            "spec.verification.generic",
            "nonce is required where signedContent has {nonce}, and only there",
        ),
        (
            "Webhook",
            "github",
            "/spec/limits/body",
            json!("16Mi"),
            "spec.limits.body",
            "must be between 1 byte and 15Mi",
        ),
        (
            "Webhook",
            "github",
            "/spec/limits/body",
            json!(15_728_641),
            "spec.limits.body",
            "must be between 1 byte and 15Mi",
        ),
        // Destination.
        (
            "Destination",
            "smallest",
            "/spec/target/url",
            json!("http://target.example.com"),
            "spec.target.url",
            "an http URL needs network.allowCidrs; use https otherwise",
        ),
        (
            "Destination",
            "locked",
            "/spec/network/allowCidrs",
            json!([]),
            "spec.target.url",
            "an http URL needs network.allowCidrs; use https otherwise",
        ),
        (
            "Destination",
            "ci",
            "/spec/mode",
            json!("Relay"),
            "spec",
            "cluster is required for mode Relay, and only there",
        ),
        (
            "Destination",
            "ci",
            "/spec/cluster",
            json!("prod-eu"),
            "spec",
            "cluster is required for mode Relay, and only there",
        ),
        ("Destination", "ci", "/spec/mode", json!("Direct"), "spec.mode", "mode Direct needs target.url"),
        (
            "Destination",
            "ci",
            "/spec/target/service/scheme",
            json!("http"),
            "spec.tls",
            "tls is only for https targets",
        ),
        ("Destination", "locked", "/spec/tls", json!({}), "spec.tls", "tls is only for https targets"),
        (
            "Destination",
            "ci",
            "/spec/delivery/maxResponse",
            json!("2Mi"),
            "spec.delivery.maxResponse",
            "must be between 1 byte and 1Mi",
        ),
        (
            "Destination",
            "ci",
            "/spec/delivery/timeouts/connect",
            json!("31s"),
            "spec.delivery.timeouts",
            "connect must not be longer than request, which includes it",
        ),
        (
            "Destination",
            "smallest",
            "/spec/delivery",
            json!({"timeouts": {"request": "4999ms"}}),
            "spec.delivery.timeouts",
            "connect must not be longer than request, which includes it",
        ),
        (
            "Destination",
            "ci",
            "/spec/delivery/retry/transient/initial",
            json!("16m"),
            "spec.delivery.retry.transient",
            "initial must not be longer than within",
        ),
        (
            "Destination",
            "ci",
            "/spec/headers/set",
            json!({"no header": "x"}),
            "spec.headers.set",
            "each name must be a header name such as X-Env",
        ),
        (
            "Destination",
            "ci",
            "/spec/headers/set",
            json!({"": "x"}),
            "spec.headers.set",
            "each name must be a header name such as X-Env",
        ),
        ("ClusterEnrollment", "prod-eu", "/spec/ttl", json!("25h"), "spec.ttl", "must be at most 24h"),
        // Names of the object itself.
        ("Destination", "ci", "/metadata/name", json!("CI"), "metadata.name", "a lowercase RFC 1123 subdomain"),
        (
            "Destination",
            "ci",
            "/metadata/nonsense",
            json!("x"),
            "metadata.nonsense",
            "unknown field \"metadata.nonsense\"",
        ),
        ("Destination", "ci", "/nonsense", json!("x"), "nonsense", "unknown field \"nonsense\""),
        ("Destination", "ci", "/spec", Value::Null, "spec", "Required value"),
    ];
    for bad in [
        "10.0.0.1",
        "10.0.0.0/33",
        "10.0.0/8",
        "010.0.0.0/8",
        "10.0.0.0/08",
        "10.0.0.0/+8",
        "::/129",
        "::ffff:10.0.0.0/104",
        "fe80::%eth0/64",
        "",
        "/8",
        "a/8",
    ] {
        rows.push(("Destination", "ci", "/spec/network/allowCidrs/0", json!(bad), "spec.network.allowCidrs[0]", CIDR));
        rows.push(("Webhook", "github", "/spec/limits/sources/0", json!(bad), "spec.limits.sources[0]", CIDR));
    }
    for bad in [
        "Authorization",
        "cookie",
        "Proxy-Authorization",
        "Connection",
        "host",
        "keep-alive",
        "TE",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "Content-Length",
    ] {
        rows.push(("Destination", "ci", "/spec/headers/forward/0", json!(bad), "spec.headers.forward[0]", FORWARD));
    }
    for bad in [
        "Authorization",
        "cookie",
        "Connection",
        "Host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "Content-Type",
        "X-Zen-Signature",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "CE-Id",
    ] {
        rows.push(("Destination", "ci", "/spec/headers/set", json!({bad: "x"}), "spec.headers.set", SET));
    }
    rows
}

/// Kind, sample, pointer and value: just within what is allowed.
fn taken() -> Vec<(&'static str, &'static str, &'static str, Value)> {
    vec![
        ("Webhook", "smallest", "/spec/verification/secrets", json!([])),
        ("Webhook", "github", "/spec/limits/body", json!("15Mi")),
        ("Webhook", "github", "/spec/limits/body", json!(15_728_640)),
        ("Webhook", "github", "/spec/limits/body", json!("15000k")),
        ("Webhook", "github", "/spec/limits/sources", json!(["0.0.0.0/0", "::/0", "10.1.2.3/8", "2001:DB8::1/128"])),
        ("Webhook", "github", "/spec/active", Value::Null),
        ("Webhook", "github", "/spec/verification/secrets", Value::Null),
        ("Webhook", "github", "/spec/verification/tolerance", json!("999999h")),
        ("Webhook", "github", "/spec/routes", json!([])),
        ("Webhook", "github", "/spec/path", json!("/team-a/a%20b/~c;d=e,f:g@h!$&'()*+")),
        ("Webhook", "github", "/spec/hosts", json!(["a", "10.0.0.1", "xn--bcher-kva.example"])),
        ("Webhook", "github", "/spec/routes/0/match/1/in", json!(["", 0, -1, 2.5, false])),
        ("Webhook", "github", "/spec/routes/0/match/1/pointer", json!("/a~0b~1c//d e/ü")),
        ("Webhook", "github", "/spec/verification/generic", json!(null)),
        (
            "Webhook",
            "billing",
            "/spec/verification/generic",
            json!({"algorithm": "ed25519", "signature": {"header": "X-S"}}),
        ),
        ("Webhook", "basic", "/spec/verification/secrets/0/secretRef/key", json!("password")),
        ("Destination", "ci", "/spec/delivery/timeouts", json!({"connect": "30s", "request": "30000ms"})),
        ("Destination", "ci", "/spec/delivery/retry/transient/factor", json!(1.5)),
        ("Destination", "ci", "/spec/delivery/retry/transient", json!({"initial": "900s"})),
        ("Destination", "ci", "/spec/delivery/maxResponse", json!("1024Ki")),
        ("Destination", "ci", "/spec/headers/set", json!({"X-A.b_c~1": " \t".trim_end_matches('\t')})),
        ("Destination", "ci", "/spec/headers/set", json!({})),
        ("Destination", "ci", "/spec/allowFrom", json!({})),
        ("Destination", "ci", "/spec/tls", json!({})),
        ("Destination", "locked", "/spec/mode", json!("Direct")),
        ("ClusterEnrollment", "prod-eu", "/spec/ttl", json!("24h")),
        (
            "ZenLock",
            "ci-token",
            "/spec/allowedSubjects",
            json!([{"kind": "Webhook", "name": "ci"}, {"kind": "Destination", "name": "ci"}]),
        ),
    ]
}

#[tokio::test]
async fn samples_and_border_cases_are_taken_by_both() {
    let api = api_server().await;
    api.namespace(crate::samples::NAMESPACE).await;
    for sample in crate::samples::all() {
        both_take(&api, &format!("{} {}", sample["kind"], sample["metadata"]["name"]), &sample).await;
    }
    for (kind, name, pointer, value) in taken() {
        both_take(&api, &format!("{kind} {name} {pointer} {value}"), &with(named(kind, name), pointer, value)).await;
    }
}

#[tokio::test]
async fn each_rule_is_refused_by_both_in_the_same_words() {
    let api = api_server().await;
    api.namespace(crate::samples::NAMESPACE).await;
    let mut shown = BTreeSet::new();
    let mut wrong = Vec::new();
    for (kind, name, pointer, value, field, words) in refused() {
        let what = format!("{kind} {name} {pointer} {value}");
        let object = with(named(kind, name), pointer, value);
        wrong.extend(both_refuse(&api, &what, &object, field, words).await.err());
        shown.insert(words);
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    for rule in zen_crds::rules() {
        assert!(shown.contains(rule.message), "no row for the rule {:?}", rule.message);
    }
}
