//! `zen send`: every preset, signed so that the mesh takes it, with no secret on any command line (W-03).

use std::fmt::Write as _;

use zen_testkit::Upstream;

use crate::harness::{Folder, MANIFESTS, Mesh, SECRET, zen, zen_with};

/// A Webhook for each preset, all to one target.
fn every_preset(upstream: &str) -> (String, Vec<(&'static str, String)>) {
    let mut text = MANIFESTS.replace("UPSTREAM", upstream);
    let mut webhooks = Vec::new();
    for preset in zen_verify::presets() {
        let name = preset.name.to_ascii_lowercase();
        let more = match preset.name {
            "generic" => {
                ", generic: {algorithm: hmac-sha512, signature: {header: X-Signature, prefix: \"v=\", encoding: base64}, \
                 signedContent: \"{timestamp}.{body}\", timestamp: {header: X-Time, format: unixMillis}}"
            }
            "apiKey" => ", apiKey: {query: key}",
            _ => "",
        };
        let secrets = match preset.name {
            "none" => String::new(),
            "basic" => ", secrets: [{secretRef: {name: basic}}]".to_owned(),
            "standard-webhooks" => ", secrets: [{secretRef: {name: presets, key: standard}}]".to_owned(),
            _ => ", secrets: [{secretRef: {name: presets, key: secret}}]".to_owned(),
        };
        let _ = write!(
            text,
            "---\napiVersion: zen-mesh.io/v1alpha1\nkind: Webhook\nmetadata: {{name: {name}-all, namespace: team-a}}\nspec:\n  \
             verification: {{provider: {}{secrets}{more}}}\n  routes: [{{destinations: [{{name: ci}}]}}]\n",
            preset.name,
        );
        webhooks.push((preset.name, format!("team-a/{name}-all")));
    }
    text.push_str(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {name: presets, namespace: team-a}\nstringData:\n  \
         secret: 0123456789abcdef0123456789abcdef\n  standard: whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3\n\
         ---\napiVersion: v1\nkind: Secret\nmetadata: {name: basic, namespace: team-a}\nstringData: {username: u, password: p}\n",
    );
    (text, webhooks)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_preset_can_be_sent_and_arrives() {
    let upstream = Upstream::http().await;
    let folder = Folder::new();
    let (text, webhooks) = every_preset(&upstream.address().to_string());
    folder.write("objects.yaml", &text);
    zen(&["check", folder.text()]).await.expect(0);
    let _mesh = Mesh::start(&folder).await;
    for (preset, webhook) in &webhooks {
        let sent = zen(&["send", preset, "--dir", folder.text(), "--webhook", webhook, "--count", "2"]).await;
        assert_eq!(sent.code, 0, "{preset}: {sent:?}");
    }
    let received = upstream.wait_for(2 * webhooks.len()).await;
    assert_eq!(received.len(), 2 * webhooks.len(), "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_and_a_secret_from_the_environment_do_too() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let mesh = Mesh::start(&folder).await;
    let url = format!("https://{}/team-a/github", mesh.intake());
    let ca = folder.state().join("ca.crt");
    let ca = ca.to_str().expect("UTF-8");
    let arguments = ["send", "github", "--to", &url, "--ca", ca];
    zen_with(&arguments, &[("ZEN_SECRET", SECRET)]).await.expect(0);
    upstream.wait_for(1).await;
    let refused = zen_with(&arguments, &[("ZEN_SECRET", "another")]).await.expect(1);
    assert!(refused.stdout.starts_with("401 ") && refused.stdout.contains("Unauthenticated"), "{refused:?}");
    let untrusted = zen_with(&["send", "github", "--to", &url], &[("ZEN_SECRET", SECRET)]).await.expect(1);
    assert!(untrusted.stderr.contains("--ca"), "{untrusted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_be_sent_and_many_are_summed_up() {
    let upstream = Upstream::http().await;
    let folder = Folder::with_manifests(upstream.address());
    let _mesh = Mesh::start(&folder).await;
    let data = folder.path().join(".data.json");
    std::fs::write(&data, "{\"mine\":true}").expect("writes");
    let send = ["send", "github", "--dir", folder.text(), "--webhook", "team-a/github"];
    let with_data = [&send[..], &["--data", data.to_str().expect("UTF-8")]].concat();
    zen(&with_data).await.expect(0);
    assert_eq!(upstream.wait_for(1).await[0].body, "{\"mine\":true}", "byte for byte (W-10)");
    let many = zen(&[&send[..], &["--count", "30"]].concat()).await.expect(0);
    assert!(many.stdout.contains("sent 30 in ") && many.stdout.contains("30 × 202"), "{many:?}");
    upstream.wait_for(31).await;
    let wrong = zen(&["send", "stripe", "--dir", folder.text(), "--webhook", "team-a/github"]).await.expect(2);
    assert!(wrong.stderr.contains("zen send github"), "{wrong:?}");
    let unknown = zen(&["send", "github", "--dir", folder.text(), "--webhook", "team-a/none"]).await.expect(1);
    assert!(unknown.stderr.contains("it has team-a/github"), "{unknown:?}");
}
