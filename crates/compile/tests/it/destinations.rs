//! What a Destination becomes: targets, Services, TLS, credentials, limits (D-01, D-04, D-06 to D-09).

use std::time::Duration;

use zen_compile::{Format, Mode, Plane, Target, compile};
use zen_model::{ObjectKey, ObjectReason, retry};

use crate::{destination, objects, own, reasons, secret, standalone, verdict};

#[test]
fn defaults() {
    let compiled = standalone(&own("Destination", "ci", "{target: {url: \"https://CI.example/%7ea?b\"}}"));
    let ci = destination(&compiled, "ci");
    let target = Target::Url { tls: true, host: "ci.example".into(), port: 443, path_and_query: "/~a?b".into() };
    assert_eq!(ci.target, target);
    assert_eq!((ci.server_name.as_str(), ci.tls.is_some()), ("ci.example", true));
    assert_eq!((ci.format, ci.idempotent, ci.paused), (Format::Raw, true, false));
    assert_eq!((ci.connect_timeout, ci.request_timeout), (Duration::from_secs(5), Duration::from_secs(30)));
    assert_eq!((ci.max_response, ci.concurrency), (64 << 10, 64));
    assert_eq!((ci.transient, ci.throttled), (retry::Policy::TRANSIENT, retry::Policy::THROTTLED));
    assert_eq!(
        (ci.breaker, ci.dead_letter_retention),
        (zen_model::breaker::Settings::default(), Duration::from_hours(336))
    );
}

#[test]
fn everything_that_can_be_set() {
    let spec = "
  paused: true
  target: {url: \"http://localhost:9000/x\"}
  network: {allowCidrs: [127.0.0.0/8]}
  authentication: {basic: {secretRef: {name: s}}}
  signing: {secrets: [{secretRef: {name: s, key: new}}, {secretRef: {name: s, key: old}}]}
  headers: {forward: [X-B, X-A, x-b], set: {X-Env: prod}}
  delivery:
    format: structured
    idempotent: false
    timeouts: {connect: 1s, request: 2s}
    maxResponse: 1Ki
    concurrency: 3
    retry: {transient: {attempts: 2, initial: 10ms, factor: 1.5, within: 1m}, throttled: {attempts: 1, within: 2m}}
    circuitBreaker: {failures: 2, openFor: 1s, hold: 1h}
  deadLetter: {retention: 1h}";
    let text = own("Destination", "ci", spec).replace("X-A, x-b", "X-A");
    let compiled = standalone(&(text + &secret("s", "{username: u, password: p, new: whsec_bmV3, old: old}")));
    let ci = destination(&compiled, "ci");
    assert!(ci.paused && ci.tls.is_none() && !ci.idempotent);
    assert_eq!(ci.format, Format::Structured);
    let (name, value) = ci.authentication.as_ref().expect("set");
    assert_eq!(
        (name.as_str(), value.as_bytes(), value.is_sensitive()),
        ("authorization", b"Basic dTpw".as_slice(), true)
    );
    assert_eq!(ci.signing.iter().map(zen_model::Secret::expose).collect::<Vec<_>>(), [b"new", b"old"]);
    assert_eq!(ci.forward, ["x-a", "x-b"]);
    assert_eq!(ci.set.len(), 1);
    assert_eq!((ci.max_response, ci.concurrency, ci.transient.attempts, ci.throttled.attempts), (1024, 3, 2, 1));
    assert!(!format!("{ci:?}").contains("dTpw"), "credentials are not printed");
}

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: ci, namespace: team-a}
spec: {ports: [{name: web, port: 8443}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ci-1, namespace: team-a, labels: {kubernetes.io/service-name: ci}}
addressType: IPv4
ports: [{name: web, port: 9443}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: p}}
- {addresses: [10.0.0.2], conditions: {ready: false}, targetRef: {kind: Pod, name: q}}
- {addresses: [10.0.0.3]}
- {addresses: [169.254.169.254]}
---
";

fn addresses(compiled: &zen_compile::Compiled) -> Vec<String> {
    let ci = destination(compiled, "ci");
    let Target::Service { addresses, .. } = &ci.target else { return vec!["a URL".to_owned()] };
    addresses
        .iter()
        .map(|address| format!("{} {}", address.socket, if address.trusted { "trusted" } else { "guarded" }))
        .collect()
}

#[test]
fn services_and_their_endpoints() {
    let spec = "{target: {service: {name: ci, port: 8443, path: /hooks}}}";
    let objects = objects(&(own("Destination", "ci", spec) + SERVICE));
    for mode in [Mode::Standalone, Mode::Cluster(Plane::Egress)] {
        let compiled = compile(&objects, None, mode);
        assert_eq!(addresses(&compiled), ["10.0.0.1:9443 trusted"], "without a pod the guard decides (D-01)");
        assert_eq!(destination(&compiled, "ci").server_name, "ci.team-a.svc");
        let problem = &compiled.verdicts[0].problems[0];
        assert_eq!(problem.reason, ObjectReason::TargetNotAllowed);
        assert!(compiled.verdicts[0].serving && problem.message.contains("10.0.0.3, behind"), "{problem:?}");
    }
}

#[test]
fn an_endpoint_without_a_pod_needs_a_grant() {
    let spec = "{target: {service: {name: ci, port: 8443}}, network: {allowCidrs: [10.0.0.0/30]}}";
    let mut objects = objects(&(own("Destination", "ci", spec) + SERVICE));
    objects.mesh = None;
    let compiled = compile(&objects, None, Mode::Standalone);
    assert_eq!(addresses(&compiled), ["10.0.0.1:9443 trusted", "10.0.0.3:9443 guarded"]);
    assert!(compiled.verdicts[0].problems.is_empty());
}

#[test]
fn an_override_comes_before_the_service() {
    let mut objects = objects(&own("Destination", "ci", "{target: {service: {name: ci, port: 8443}}}"));
    let compiled = compile(&objects, None, Mode::Standalone);
    assert!(addresses(&compiled).is_empty(), "deliveries are held");
    assert_eq!(
        reasons(verdict(&compiled, "Destination team-a/ci")),
        [("spec.target.service.name", ObjectReason::RefNotFound)]
    );
    objects.overrides.insert(ObjectKey::new("team-a", "ci"), vec!["127.0.0.1:1".parse().expect("address")]);
    let compiled = compile(&objects, Some(&compiled.snapshot), Mode::Standalone);
    assert_eq!(addresses(&compiled), ["127.0.0.1:1 trusted"]);
    assert!(verdict(&compiled, "Destination team-a/ci").accepted());
}

#[test]
fn one_that_cannot_be_used_is_known_not_to_be_deleted() {
    let compiled = standalone(&own("Destination", "ci", "{target: {url: \"https://10.0.0.1/\"}}"));
    let key = ObjectKey::new("team-a", "ci");
    assert!(compiled.snapshot.destination(&key).is_none());
    assert_eq!(compiled.snapshot.unusable.get(&key), Some(&ObjectReason::TargetNotAllowed));
}
