//! No secret, payload, signature or token in any output (A-06): markers are planted, the whole path is run at trace
//! level with refusals and failures, and everything that the mesh says is searched.

use std::fmt::Write as _;

use zen_testkit::{Answer, Upstream};

use crate::harness::{DEADLINE, Folder, Mesh, get, get_with, zen};

/// In every secret. Long enough to be found in base64 and hex too, whatever the alignment.
const SECRET: &str = "MARKERSECRETMARKERSECRETMARKERSECRET";
const BODY: &str = "MARKERBODYMARKERBODYMARKERBODY";
const TOKEN: &str = "MARKERTOKENMARKERTOKENMARKERTOKEN";
const SIGNATURE: &str = "MARKERSIGNATUREMARKERSIGNATURE";

fn manifests(upstream: &str) -> String {
    format!(
        r#"
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: github, namespace: team-a}}
spec:
  verification: {{provider: github, secrets: [{{secretRef: {{name: all, key: secret}}}}]}}
  routes:
    - match: [{{pointer: /kind, equals: fails}}]
      destinations: [{{name: fails}}]
    - match: [{{pointer: /kind, equals: works}}]
      destinations: [{{name: works}}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {{name: bearer, namespace: team-a}}
spec:
  verification: {{provider: bearer, secrets: [{{secretRef: {{name: all, key: token}}}}]}}
  routes: [{{destinations: [{{name: works}}]}}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: works, namespace: team-a}}
spec:
  target: {{url: "http://{upstream}/works?token={TOKEN}"}}
  network: {{allowCidrs: [127.0.0.0/8]}}
  authentication: {{bearer: {{secretRef: {{name: all, key: token}}}}}}
  signing: {{secrets: [{{secretRef: {{name: all, key: signing}}}}]}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: fails, namespace: team-a}}
spec:
  target: {{url: "http://{upstream}/fails"}}
  network: {{allowCidrs: [127.0.0.0/8]}}
  authentication: {{bearer: {{secretRef: {{name: all, key: token}}}}}}
  delivery: {{retry: {{transient: {{attempts: 2, initial: 1s, factor: 1, within: 1m}}}}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: all, namespace: team-a}}
stringData: {{secret: {SECRET}, token: {TOKEN}, signing: "{SECRET}"}}
"#
    )
}

/// The markers as they are, and the cores of their base64 and hex forms.
fn forms() -> Vec<String> {
    use base64::Engine as _;
    let mut forms = Vec::new();
    for marker in [SECRET, BODY, TOKEN, SIGNATURE] {
        forms.push(marker.to_owned());
        forms.push(marker.bytes().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }));
        for skip in 0..3 {
            // Whole groups only, so that what stands before and after changes nothing.
            let whole = &marker.as_bytes()[skip..];
            let whole = &whole[..whole.len() / 3 * 3];
            forms.push(base64::engine::general_purpose::STANDARD.encode(whole));
        }
    }
    forms
}

/// The sweep would notice: whatever stands around a marker, in whatever of these forms.
#[test]
fn the_sweep_finds_what_it_is_after() {
    use base64::Engine as _;
    let finds = |text: &str| forms().iter().any(|form| text.contains(form));
    for before in ["", "a", "ab", "abc"] {
        let text = format!("{before}{SECRET}after");
        assert!(finds(&text));
        assert!(finds(&base64::engine::general_purpose::STANDARD.encode(&text)), "{before:?}");
        assert!(finds(&text.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()));
    }
    assert!(!finds("nothing of the kind"));
}

#[track_caller]
fn clean(place: &str, text: &str) {
    for form in forms() {
        if let Some(at) = text.find(&form) {
            let from = text[..at].char_indices().rev().nth(200).map_or(0, |(at, _)| at);
            panic!("{place} holds {form}: …{}", &text[from..at + form.len()]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_said_anywhere() {
    let upstream = Upstream::http().await;
    upstream.always_with(|request| match request.target.as_str() {
        "/fails" => Answer::status(500).body("broken"),
        _ => Answer::status(200).header("set-cookie", TOKEN).body(BODY),
    });
    let folder = Folder::new();
    folder.write("objects.yaml", &manifests(&upstream.address().to_string()));
    let mut mesh = Mesh::start_with(&folder, &[], &[("ZEN_LOG", "trace")]).await;
    let mut source = mesh.connect().await;

    // Accepted, repeated, failed, dead; refused for a wrong secret, a wrong signature, a broken body, an unknown path.
    for (path, secret, id, body) in [
        ("/team-a/github", SECRET, "works-1", format!("{{\"kind\":\"works\",\"x\":\"{BODY}\"}}")),
        ("/team-a/github", SECRET, "works-1", format!("{{\"kind\":\"works\",\"x\":\"{BODY}\"}}")),
        ("/team-a/github", SECRET, "fails-1", format!("{{\"kind\":\"fails\",\"x\":\"{BODY}\"}}")),
        ("/team-a/github", SECRET, "unrouted", format!("{{\"kind\":\"other\",\"x\":\"{BODY}\"}}")),
        ("/team-a/github", SECRET, "broken", format!("{{{BODY}")),
        ("/team-a/github", "another", "wrong-secret", BODY.to_owned()),
        ("/team-a/unknown", SECRET, "unknown", BODY.to_owned()),
    ] {
        let request = source.signed(path, secret, id, &body);
        let (status, answer) = source.send(request).await.expect("answers");
        clean(&format!("the answer {status}"), &answer.to_string());
    }
    let mut request = source.signed("/team-a/github", SECRET, "marked", BODY);
    request.headers_mut().insert("x-hub-signature-256", format!("sha256={SIGNATURE}").parse().expect("valid"));
    request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().expect("valid"));
    request.headers_mut().insert("cookie", TOKEN.parse().expect("valid"));
    assert_eq!(source.send(request).await.expect("answers").0, 401);
    for token in [TOKEN, SIGNATURE] {
        let mut request = source.signed("/team-a/bearer", SECRET, token, &format!("{{\"x\":\"{BODY}\"}}"));
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().expect("valid"));
        request.headers_mut().remove("x-github-delivery");
        let (status, answer) = source.send(request).await.expect("answers");
        assert_eq!(status, if token == TOKEN { 202 } else { 401 });
        clean("the answer", &answer.to_string());
    }
    // A manifest that does not parse, around a secret.
    folder.write(
        "broken.yaml",
        &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: b}}\nstringData: {{a: [{SECRET}\n"),
    );
    folder.write(
        "typo.yaml",
        &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: t}}\ndata: {{a: '{SECRET}!'}}\n"),
    );

    let dir = folder.text();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    let dead = loop {
        let letters = zen(&["dead-letters", "list", "--dir", dir, "-o", "json"]).await.expect(0);
        clean("dead-letters list", &letters.stdout);
        if let Some(id) = letters.json()[0]["id"].as_str() {
            break id.to_owned();
        }
        assert!(tokio::time::Instant::now() < deadline, "no dead letter");
    };
    crate::harness::until("the report", || mesh.output().contains("broken.yaml").then_some(())).await;

    let token = std::fs::read_to_string(folder.state().join("admin.token")).expect("reads");
    for path in
        ["status", "events", "dead-letters", &format!("dead-letters/{dead}"), "events/works-1", "events/fails-1"]
    {
        let path = format!("/api/v1/{path}");
        let (status, body) = get_with(&mesh.admin(), &path, Some(token.trim())).await.expect("answers");
        assert_eq!(status, 200, "{path}: {body}");
        clean(&path, &body);
        assert_eq!(get(&mesh.admin(), &path).await.expect("answers").0, 401, "{path} without a token");
    }
    for path in ["/metrics", "/readyz", "/healthz"] {
        clean(path, &get(&mesh.admin(), path).await.expect("answers").1);
    }
    for arguments in [&["status"][..], &["events"], &["events", "fails-1"], &["dead-letters", "show", &dead]] {
        let ran = zen(&[arguments, &["--dir", dir]].concat()).await.expect(0);
        clean(&format!("{arguments:?}"), &format!("{}{}", ran.stdout, ran.stderr));
    }
    let checked = zen(&["check", dir]).await.expect(1);
    clean("zen check", &format!("{}{}", checked.stdout, checked.stderr));
    mesh.signal("TERM");
    assert_eq!(mesh.ended().await.code(), Some(0));
    clean("standard output", &mesh.output());
    let log = mesh.errors();
    clean("the log", &log);
    let key = std::fs::read_to_string(folder.state().join("mesh.key")).expect("reads");
    let key = key.lines().last().expect("a line").to_owned();
    for own in [token.trim(), &key] {
        assert!(own.len() > 40 && !log.contains(own) && !mesh.output().contains(own), "a key of the mesh was said");
    }
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the log was at trace level: {log}");
    // The one place that is meant to: somebody asked for the payload by name.
    let _mesh = Mesh::start(&folder).await;
    let shown = zen(&["dead-letters", "show", &dead, "--payload", "--dir", dir]).await.expect(0);
    assert!(shown.stdout.contains(BODY), "{shown:?}");
}
