//! `zen check`: places, order, and folders that cannot be checked.

use std::path::Path;

use zen_live::{Error, Overrides, check, service_override};
use zen_model::{ObjectKey, ObjectReason};

use crate::manifests::{destination, rest, webhook};
use crate::{folder, write};

#[test]
fn findings_name_file_line_object_field_and_hint() {
    let text = rest() + &webhook("  limits:\n    body: many\n");
    let findings = crate::check(&[("sub/a.yaml", &text)]);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let line = text.lines().position(|line| line.contains("body: many")).expect("it stands there") + 1;
    assert_eq!((finding.file.as_path(), finding.line as usize), (Path::new("sub/a.yaml"), line));
    assert_eq!((finding.object.as_str(), finding.field.as_str()), ("Webhook team-a/github", "spec.limits.body"));
    assert!(
        finding
            .to_string()
            .starts_with(&format!("sub/a.yaml:{line}  Webhook team-a/github  spec.limits.body  Invalid  "))
    );
    assert!(finding.to_string().contains("(hint: "));
}

#[test]
fn folders_that_cannot_be_checked() {
    let dir =
        folder(&[("notes.txt", "x"), (".hidden/a.yaml", "a: ["), ("kustomization.yaml", "resources: [a.yaml]\n")]);
    let none = Overrides::new();
    assert!(matches!(check(dir.path(), &none), Err(Error::Empty(_))));
    assert!(matches!(check(&dir.path().join("nowhere"), &none), Err(Error::Missing(_))));
    assert!(matches!(check(&dir.path().join("notes.txt"), &none), Err(Error::NotAFolder(_))));
    write(dir.path(), "deployment.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {a: on}\n");
    assert!(matches!(check(dir.path(), &none), Err(Error::Empty(_))), "kinds that are nobody's business here");
}

#[test]
fn lists_json_and_default_namespaces() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret, metadata: {name: hook}, stringData: {secret: x}}\n";
    let typed = "apiVersion: zen-mesh.io/v1alpha1\nkind: DestinationList\nitems:\n- metadata: {name: ci}\n  spec: {target: {url: \"https://a.example/\"}}\n";
    let json = webhook("").replace(", namespace: team-a", "");
    let (documents, _) = zen_live::yaml::parse(json.as_bytes());
    let json = documents[0].root.to_json().to_string();
    let findings = crate::check(&[("a.yaml", list), ("b.yml", typed), ("c.json", &json)]);
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn services_from_the_command_line() {
    let dir = folder(&[("a.yaml", &destination("{service: {name: s, port: 80}}", ""))]);
    let (service, addresses) = service_override("team-a/s=127.0.0.1:9000").expect("valid");
    assert_eq!(
        (service.clone(), addresses.clone()),
        (ObjectKey::new("team-a", "s"), vec!["127.0.0.1:9000".parse().expect("address")])
    );
    assert_eq!(check(dir.path(), &Overrides::from([(service, addresses)])).expect("readable"), []);
    for bad in ["s=127.0.0.1:1", "a/s", "a/s=127.0.0.1", "a/s=:1:", "a/s=nowhere.invalid:1"] {
        assert!(service_override(bad).is_err(), "{bad}");
    }
}

#[test]
fn no_secret_is_in_any_finding() {
    const MARKER: &str = "MARKERc2VjcmV0";
    let secret = |data: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: hook, namespace: team-a}}\n{data}\n---\n")
    };
    let hook = webhook("");
    for text in [
        hook.clone() + &secret(&format!("data: {{secret: \"{MARKER}*\"}}")),
        hook.clone() + &secret(&format!("stringData: {{secret: [{MARKER}]}}")),
        hook.clone() + &secret(&format!("stringData: {{secret: {MARKER}, secret: {MARKER}}}")),
        hook.clone() + &secret(&format!("stringData: {{secret: \"{MARKER}\n")),
        hook.clone() + &secret(&format!("stringData: {{other: {MARKER}}}")),
        hook + &secret(&format!("stringData: {MARKER}")),
    ] {
        let findings = crate::check(&[("a.yaml", &text)]);
        assert!(!findings.is_empty());
        for finding in findings {
            assert!(!finding.to_string().contains(MARKER), "{finding}");
            assert!(!format!("{finding:?}").contains(MARKER), "{finding:?}");
        }
    }
}

#[test]
fn a_duplicate_names_the_one_in_force() {
    let text = webhook("") + &rest();
    let findings = crate::check(&[("a.yaml", &text), ("b.yaml", &webhook("  path: /team-a/other\n"))]);
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    assert_eq!(finding.reason, ObjectReason::Duplicate);
    assert!(finding.message.contains("a.yaml:1"), "{finding}");
}
