use super::*;

const FILE: &str = "\
# Secrets of team-a.
apiVersion: v1
kind: ConfigMap
metadata: {name: other}   # untouched
data:
  odd:   'x'
---
apiVersion: zen-mesh.io/v1alpha1
kind: ZenLock
metadata: {name: ci-token, namespace: team-a}
spec:
    encryptedData:
        # the token of the build
        token: |   # renewed in May
            -----BEGIN AGE ENCRYPTED FILE-----
            AAAA
            -----END AGE ENCRYPTED FILE-----

        user: \"-----BEGIN AGE ENCRYPTED FILE-----\\nBBBB\\n-----END AGE ENCRYPTED FILE-----\\n\"   # quoted
    allowedSubjects:
    - {kind: ServiceAccount, name: ci}
---
kind: ZenLock
apiVersion: zen-mesh.io/v1alpha1
metadata: {name: flow}
spec: {encryptedData: {a: \"-----BEGIN AGE ENCRYPTED FILE-----\\nCCCC\\n-----END AGE ENCRYPTED FILE-----\"}}
";

fn armored(body: &str) -> String {
    format!("-----BEGIN AGE ENCRYPTED FILE-----\n{body}\n-----END AGE ENCRYPTED FILE-----\n")
}

fn edits(entries: &[(&str, Option<&str>)]) -> Edits {
    entries.iter().map(|(key, body)| ((*key).to_owned(), body.map(armored))).collect()
}

#[test]
fn locks_are_found_among_other_documents() {
    let found = Manifests::parse(FILE).expect("reads");
    let shown: Vec<_> =
        found.locks().iter().map(|lock| (lock.name.as_str(), lock.namespace.as_deref(), lock.line)).collect();
    assert_eq!(shown, [("ci-token", Some("team-a"), 8), ("flow", None, 23)]);
    let keys: Vec<_> = found.locks()[0].entries.iter().map(|entry| (entry.key.as_str(), entry.line)).collect();
    assert_eq!(keys, [("token", 14), ("user", 19)]);
    assert_eq!(found.locks()[0].entries[0].armored, armored("AAAA"));
}

#[test]
fn an_edit_changes_its_values_and_no_other_byte() {
    let mut found = Manifests::parse(FILE).expect("reads");
    found.edit(0, &edits(&[("token", Some("XXXX"))])).expect("edits");
    assert_eq!(found.text(), FILE.replace("AAAA", "XXXX"));
    found.edit(1, &edits(&[("a", Some("YYYY"))])).expect("edits in flow style");
    let expected = FILE
        .replace("AAAA", "XXXX")
        .replace("CCCC\\n-----END AGE ENCRYPTED FILE-----", "YYYY\\n-----END AGE ENCRYPTED FILE-----\\n");
    assert_eq!(found.text(), expected);
    assert_eq!(found.locks()[1].entries[0].armored, armored("YYYY"));
}

#[test]
fn a_quoted_value_stays_quoted() {
    let mut found = Manifests::parse(FILE).expect("reads");
    found.edit(0, &edits(&[("user", Some("ZZZZ"))])).expect("edits");
    assert_eq!(found.text(), FILE.replace("BBBB", "ZZZZ"));
}

#[test]
fn keys_come_and_go_with_their_lines() {
    let mut found = Manifests::parse(FILE).expect("reads");
    found.edit(0, &edits(&[("token", None), ("new", Some("NNNN"))])).expect("edits");
    let text = found.text();
    assert!(
        !text.contains("AAAA") && text.contains("# the token of the build") && text.contains("        new: |\n"),
        "{text}"
    );
    let keys: Vec<_> = found.locks()[0].entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["user", "new"]);
    let refused = found.edit(1, &edits(&[("b", Some("DDDD"))])).expect_err("in one line");
    assert_eq!(refused, ManifestError::NotABlock { line: found.locks()[1].entries[0].line });
}

#[test]
fn the_end_of_the_file_and_windows_line_ends() {
    let text = FILE.split("\n---\n").nth(1).expect("the lock");
    let text = text.split("    allowedSubjects").next().expect("its keys").trim_end();
    let mut found = Manifests::parse(text).expect("reads");
    found.edit(0, &edits(&[("last", Some("LLLL"))])).expect("edits without a line end at the end");
    assert_eq!(found.locks()[0].entries.len(), 3);
    let windows = text.replace('\n', "\r\n");
    let mut found = Manifests::parse(&windows).expect("reads");
    found.edit(0, &edits(&[("token", Some("WWWW"))])).expect("edits");
    assert_eq!(found.text(), windows.replace("AAAA", "WWWW"));
}

#[test]
fn a_new_manifest_reads_as_it_was_meant() {
    let one = armored("AAAA");
    let manifest = NewManifest {
        name: "123",
        namespace: Some("on"),
        labels: vec![("app.kubernetes.io/name", "1.0"), ("x", "")],
        entries: vec![("token", &one), (".env", &one), ("007", &one)],
        subjects: vec![SubjectRef { kind: "ServiceAccount".to_owned(), name: "ci".to_owned() }],
    };
    let text = render(&manifest);
    let found = Manifests::parse(&text).expect("reads");
    let lock = &found.locks()[0];
    assert_eq!((lock.name.as_str(), lock.namespace.as_deref()), ("123", Some("on")));
    let read: Vec<_> = lock.entries.iter().map(|entry| (entry.key.as_str(), entry.armored.as_str())).collect();
    assert_eq!(read, manifest.entries);
    assert!(
        text.contains("name: \"123\"") && text.contains("namespace: \"on\"") && text.contains("    token: |\n"),
        "{text}"
    );
}

#[test]
fn what_is_no_manifest_is_refused_by_line() {
    assert!(matches!(Manifests::parse("a: [1,\n"), Err(ManifestError::Syntax { .. })));
    let list = "kind: ZenLock\napiVersion: zen-mesh.io/v1alpha1\nspec:\n  encryptedData:\n    a: [x]\n";
    assert_eq!(Manifests::parse(list).expect_err("no text"), ManifestError::NotText { line: 5, key: "a".to_owned() });
    assert!(Manifests::parse("").expect("empty").locks().is_empty());
    assert!(Manifests::parse("kind: Secret\n---\n- a\n").expect("others").locks().is_empty());
}
