//! What each plane of a cluster compiles, reads and says (K-06, D-02).

use std::sync::Arc;

use zen_compile::{
    Compiled, DeliveryMode, Mode, Objects, Plane, Reference, ReferenceKind, Serving, Target, Unavailable, compile,
};
use zen_model::{ObjectKey, ObjectReason};

use crate::{destination, objects, own, reasons, secret, verdict, webhook};

const PLANES: [Plane; 3] = [Plane::Ingester, Plane::Egress, Plane::Operator];

fn hook(name: &str, of: &str) -> String {
    own(
        "Webhook",
        name,
        &format!(
            "{{verification: {{provider: github, secrets: [{{secretRef: {{name: {of}, key: k}}}}]}}, routes: [{{destinations: [{{name: ci}}]}}]}}"
        ),
    )
}

const FULL: &str = "{target: {service: {name: web, port: 443}},
  tls: {caRef: {configMapRef: {name: ca, key: ca.crt}}, clientCertificateRef: {name: client}},
  authentication: {bearer: {secretRef: {name: token, key: t}}},
  signing: {secrets: [{secretRef: {name: signing, key: k}}, {secretRef: {name: token, key: k}}]},
  headers: {forward: [X-A]}, delivery: {concurrency: 7}}";

const DIRECT: &str = "{mode: Direct, target: {url: \"https://api.example/\"},
  authentication: {basic: {secretRef: {name: login}}}}";

fn everything() -> String {
    hook("hook", "s") + &own("Destination", "ci", FULL) + &own("Destination", "direct", DIRECT)
}

fn of(plane: Plane, objects: &Objects) -> Compiled {
    compile(objects, None, Mode::Cluster(plane))
}

fn named(compiled: &Compiled) -> Vec<String> {
    let name = |Reference { plane, kind, key }: &Reference| format!("{plane:?} {} {}", kind.as_str(), key.name);
    compiled.references.iter().map(name).collect()
}

#[test]
fn each_plane_names_what_it_reads_and_the_operator_names_all() {
    let objects = objects(&everything());
    let ingester = ["Ingester Secret login", "Ingester Secret s"];
    let egress = ["Egress Secret client", "Egress Secret signing", "Egress Secret token", "Egress ConfigMap ca"];
    assert_eq!(named(&of(Plane::Ingester, &objects)), ingester);
    assert_eq!(named(&of(Plane::Egress, &objects)), egress);
    assert_eq!(named(&of(Plane::Operator, &objects)), [ingester.as_slice(), &egress].concat());
}

#[test]
fn references_are_named_whether_they_resolve_or_not() {
    let mut objects = objects(&(everything() + &secret("s", "{k: one}")));
    for plane in PLANES {
        let without = named(&of(plane, &objects));
        let key = ObjectKey::new("team-a", "login");
        objects.unavailable.insert((ReferenceKind::Secret, key), Unavailable::Absent);
        assert_eq!(named(&of(plane, &objects)), without, "{plane:?}");
    }
}

#[test]
fn nothing_is_read_for_an_object_that_is_refused_itself() {
    let foreign = hook("a", "other").replace("verification", "path: /team-b/a, verification");
    let limited = hook("b", "other").replace("verification", "limits: {rate: {requests: 1}}, verification");
    let unknown = hook("c", "other").replace("github", "nobody");
    let cidr = own(
        "Destination",
        "d",
        "{target: {url: \"https://d.example/\"}, network: {allowCidrs: [10.0.0.0/8]}, signing: {secrets: [{secretRef: {name: other, key: k}}]}}",
    );
    for text in [foreign, limited, unknown, cidr] {
        let (objects, _) = zen_live::testing::objects(&text);
        for plane in PLANES {
            let compiled = of(plane, &objects);
            assert!(compiled.references.is_empty(), "{plane:?} {text}");
            let pending = compiled.verdicts.iter().flat_map(|verdict| reasons(verdict).into_iter());
            assert!(pending.into_iter().all(|(_, reason)| reason != ObjectReason::RefPending), "{plane:?} {text}");
        }
    }
}

#[test]
fn the_loser_of_a_place_gets_nothing_read() {
    let text = hook("a", "one") + &hook("b", "two").replace("verification", "path: /team-a/a, verification");
    assert_eq!(named(&of(Plane::Operator, &objects(&text))), ["Ingester Secret one"]);
}

#[test]
fn the_ingester_knows_of_other_planes_destinations_what_leases_need() {
    let compiled = of(Plane::Ingester, &objects(&(everything() + &secret("s", "{k: one}"))));
    let ci = destination(&compiled, "ci");
    assert_eq!((ci.mode, ci.concurrency, ci.forward.len()), (DeliveryMode::Egress, 7, 1));
    assert!(ci.tls.is_none() && ci.authentication.is_none() && ci.signing.is_empty());
    assert!(matches!(&ci.target, Target::Service { addresses, .. } if addresses.is_empty()));
    assert!(verdict(&compiled, "Destination team-a/ci").problems.is_empty(), "the egress says what it lacks");
    assert!(matches!(webhook(&compiled, "hook").serving, Serving::Active(_)));
    let direct = verdict(&compiled, "Destination team-a/direct");
    let pending = ("spec.authentication.basic.secretRef.name", ObjectReason::RefPending);
    assert_eq!((reasons(direct), direct.serving), (vec![pending], false));
}

#[test]
fn the_egress_has_neither_webhooks_nor_what_others_deliver() {
    let text = everything() + &own("Webhook", "broken", "{verification: {provider: nobody}}");
    let (mut objects, _) = zen_live::testing::objects(&text);
    objects.refused.push(zen_compile::Refused {
        kind: "Webhook",
        key: ObjectKey::new("team-a", "unread"),
        problems: Vec::new(),
        place: None,
        uid: None,
        generation: None,
    });
    let compiled = of(Plane::Egress, &objects);
    assert!(compiled.snapshot.webhooks.is_empty() && compiled.snapshot.webhook("h", "/team-a/hook").is_none());
    let known: Vec<_> = compiled.verdicts.iter().map(|verdict| verdict.key.name.to_string()).collect();
    assert_eq!(known, ["ci"]);
    assert!(compiled.snapshot.unusable.contains_key(&ObjectKey::new("team-a", "ci")));
    assert!(!compiled.snapshot.unusable.contains_key(&ObjectKey::new("team-a", "direct")));
}

#[test]
fn the_operator_takes_references_to_resolve_and_checks_the_rest() {
    let generic = own(
        "Webhook",
        "generic",
        "{verification: {provider: generic, generic: {algorithm: ed25519, signature: {header: X-S, encoding: hex}, signedContent: \"{body}\"}, secrets: [{secretRef: {name: s, key: k}}]}, routes: [{destinations: [{name: nowhere}]}]}",
    );
    let compiled = of(Plane::Operator, &objects(&(everything() + &generic)));
    for object in ["Webhook team-a/hook", "Destination team-a/ci", "Destination team-a/direct"] {
        let verdict = verdict(&compiled, object);
        assert!(verdict.serving && verdict.problems.is_empty(), "{object}: {:?}", verdict.problems);
    }
    let generic = verdict(&compiled, "Webhook team-a/generic");
    assert_eq!(reasons(generic), [("spec.routes[0].destinations[0]", ObjectReason::RefNotFound)]);
    assert!(generic.serving);

    // What stands in the object itself is found without its secrets.
    for (spec, field) in [
        (
            "{verification: {provider: square, publicUrl: \"ftp://x\", secrets: [{secretRef: {name: s, key: k}}]}}",
            "spec.verification.publicUrl",
        ),
        (
            "{verification: {provider: stripe, tolerance: soon, secrets: [{secretRef: {name: s, key: k}}]}}",
            "spec.verification.tolerance",
        ),
        ("{verification: {provider: github}}", "spec.verification.secrets"),
    ] {
        let mut made = objects("");
        let spec = zen_live::testing::json(spec);
        let webhook = zen_crds::Webhook::new("w", serde_json::from_value(spec).expect("a spec"));
        made.webhooks.insert(ObjectKey::new("team-a", "w"), Arc::new(webhook));
        let compiled = of(Plane::Operator, &made);
        let found = verdict(&compiled, "Webhook team-a/w");
        assert!(!found.serving && reasons(found).iter().any(|(at, _)| at.starts_with(field)), "{field}: {found:?}");
    }
}

/// A Secret that is not there is told from one that may not be read yet, and from one that was not read yet.
#[test]
fn a_missing_secret_and_a_missing_grant() {
    let mut objects = objects(&hook("hook", "s"));
    let key = (ReferenceKind::Secret, ObjectKey::new("team-a", "s"));
    for (unavailable, reason, word) in [
        (None, ObjectReason::RefPending, "was not read yet"),
        (Some(Unavailable::Forbidden), ObjectReason::RefPending, "may not be read yet"),
        (Some(Unavailable::Absent), ObjectReason::RefNotFound, "does not exist"),
    ] {
        match unavailable {
            Some(unavailable) => drop(objects.unavailable.insert(key.clone(), unavailable)),
            None => drop(objects.unavailable.remove(&key)),
        }
        let compiled = of(Plane::Ingester, &objects);
        let verdict = verdict(&compiled, "Webhook team-a/hook");
        let problem = verdict.problems.iter().find(|problem| problem.reason == reason).expect("told");
        assert!(problem.message.contains(word) && !verdict.serving, "{problem:?}");
        assert!(matches!(webhook(&compiled, "hook").serving, Serving::Invalid(own) if own == reason));
    }
    let standalone = compile(&crate::objects(&hook("hook", "s")), None, Mode::Standalone);
    let found = reasons(verdict(&standalone, "Webhook team-a/hook"));
    assert_eq!(found[0].1, ObjectReason::RefNotFound, "a folder was read whole");
}

/// D-02: `Direct` goes to URLs under the same guard, and never to what only the egress may reach.
#[test]
fn direct_is_for_urls() {
    let spec = |target: &str, rest: &str| own("Destination", "d", &format!("{{mode: Direct, target: {target}{rest}}}"));
    let public = spec("{url: \"https://d.example/\"}", "");
    let private = spec("{url: \"https://10.0.0.1/\"}", "");
    for mode in [Mode::Standalone, Mode::Cluster(Plane::Ingester), Mode::Cluster(Plane::Operator)] {
        let compiled = compile(&objects(&public), None, mode);
        assert_eq!(destination(&compiled, "d").mode, DeliveryMode::Direct, "{mode:?}");
        let compiled = compile(&objects(&private), None, mode);
        let found = reasons(verdict(&compiled, "Destination team-a/d"));
        assert_eq!(found, [("spec.target.url", ObjectReason::TargetNotAllowed)], "{mode:?}");
    }
    let granted = spec("{url: \"https://10.0.0.1/\"}", ", network: {allowCidrs: [10.0.0.0/8]}");
    assert_eq!(crate::standalone(&granted).snapshot.destinations.len(), 1);
    // The reader refuses it as the API server does; the compiler would too.
    let (mut read, findings) = zen_live::testing::objects(&spec("{service: {name: s, port: 443}}", ""));
    assert!(findings.iter().any(|finding| finding.field == "spec.mode"), "{findings:?}");
    read.refused.clear();
    let service =
        zen_crds::ServiceTarget { name: "s".into(), port: 443, path: "/".into(), ..zen_crds::ServiceTarget::default() };
    let own = zen_crds::DestinationSpec {
        mode: zen_crds::Mode::Direct,
        target: zen_crds::Target { service: Some(service), url: None },
        ..zen_crds::DestinationSpec::default()
    };
    read.destinations.insert(ObjectKey::new("team-a", "d"), Arc::new(zen_crds::Destination::new("d", own)));
    let compiled = of(Plane::Ingester, &read);
    assert!(reasons(verdict(&compiled, "Destination team-a/d")).iter().any(|(field, _)| *field == "spec.mode"));
}

/// What is not known because its watch is broken is not deleted: events for it wait, whoever it belongs to.
#[test]
fn a_destination_that_is_not_known_is_not_missing() {
    let routes = "{verification: {provider: none}, routes: [{destinations: [{name: a}, {name: b, namespace: other}]}]}";
    let mut objects = objects(&own("Webhook", "w", routes));
    let destinations = |compiled: &Compiled| webhook(compiled, "w").routes[0].destinations.len();
    let before = of(Plane::Ingester, &objects);
    assert_eq!(destinations(&before), 1, "nothing goes to another namespace without consent");
    objects.incomplete = true;
    let unknown = compile(&objects, Some(&before.snapshot), Mode::Cluster(Plane::Ingester));
    assert_eq!(destinations(&unknown), 2);
    let told = verdict(&unknown, "Webhook team-a/w");
    assert!(
        told.serving && told.problems.iter().filter(|problem| problem.reason == ObjectReason::RefPending).count() == 2
    );
    objects.incomplete = false;
    let after = compile(&objects, Some(&unknown.snapshot), Mode::Cluster(Plane::Ingester));
    assert_eq!(destinations(&after), 1);
}

#[test]
fn verdicts_name_the_object_and_the_version_that_they_are_about() {
    let mut objects = objects(&everything());
    let key = ObjectKey::new("team-a", "hook");
    let mut before = None;
    for (uid, generation) in [("one", 1), ("one", 2), ("two", 1)] {
        let webhook = Arc::make_mut(objects.webhooks.get_mut(&key).expect("exists"));
        webhook.metadata.uid = Some(uid.to_owned());
        webhook.metadata.generation = Some(generation);
        let compiled = compile(&objects, before.as_ref(), Mode::Cluster(Plane::Ingester));
        let verdict = verdict(&compiled, "Webhook team-a/hook");
        assert_eq!((verdict.uid.as_deref(), verdict.observed_generation), (Some(uid), Some(generation)));
        before = Some(compiled.snapshot);
    }
}
