//! The first command of the README: signed webhooks accepted, kept and delivered, in one process, and `zen listen`.

use std::process::Stdio;

use serde_json::Value;
use zen_testkit::Reserved;

use crate::harness::{Folder, Mesh, command, until, zen_with};

/// The quickstart with these ports.
fn quickstart(ports: &[Reserved; 3]) -> Folder {
    let folder = Folder::new();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");
    for file in std::fs::read_dir(source).expect("there") {
        let file = file.expect("readable");
        if file.file_type().expect("known").is_file() {
            let mut text = std::fs::read_to_string(file.path()).expect("reads");
            for (port, own) in ["18081", "18082", "18083"].into_iter().zip(ports) {
                text = text.replace(port, &own.port().to_string());
            }
            folder.write(file.file_name().to_str().expect("UTF-8"), &text);
        }
    }
    folder
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_shows_the_way_of_each_event_and_goes_on_serving() {
    let ports = std::array::from_fn(|_| Reserved::loopback());
    let folder = quickstart(&ports);
    let mut mesh = Mesh::start_with(&folder, &["--demo"], &[]).await;
    let shown = until("the demonstration's end", || {
        let output = mesh.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.into_iter().find(|line| line["what"] == "demo" && line["events"].is_array())
    });
    let shown = shown.await;
    let events = shown["events"].as_array().expect("a list");
    assert_eq!(events.len(), 3, "{shown:#}");
    for sample in events {
        assert!(matches!(sample["status"].as_u64(), Some(200..300)), "{sample:#}");
        for delivery in sample["event"]["deliveries"].as_array().expect("a list") {
            assert_eq!(delivery["state"], "delivered", "{sample:#}");
        }
    }
    let retried = events.iter().flat_map(|sample| sample["event"]["deliveries"].as_array().expect("a list").iter());
    assert_eq!(retried.filter(|delivery| delivery["attempts"] == 2).count(), 1, "one retry is shown: {shown:#}");
    let sent = ["send", "github", "--webhook", "team-a/github", "--dir", folder.text()];
    zen_with(&sent, &[]).await.expect(0);
    let state = folder.state();
    let named = [("ZEN_STATE", state.to_str().expect("UTF-8"))];
    let status = zen_with(&["status", "-o", "yaml"], &named).await.expect(0).stdout;
    assert!(status.contains("team-a/billing"), "{status}");
    mesh.signal("INT");
    assert_eq!(mesh.ended().await.code(), Some(0), "{}", mesh.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_receives_and_answers_as_told() {
    let folder = Folder::new();
    let output = folder.path().join("listened");
    let file = std::fs::File::create(&output).expect("creates");
    let mut listening = command(&["listen", "127.0.0.1:0", "--status", "503"]);
    let mut listening = listening.stdout(file).stderr(Stdio::null()).stdin(Stdio::null()).spawn().expect("spawns");
    let lines = || {
        let text = std::fs::read_to_string(&output).expect("reads");
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>()
    };
    let url = until("the address", || lines().first()?["listening"].as_str().map(str::to_owned)).await;
    let sent = zen_with(&["send", "stripe", "--to", &url], &[("ZEN_SECRET", "whsec_x")]).await.expect(1);
    assert!(sent.stdout.starts_with("503"), "{sent:?}");
    let received = until("the request", || lines().get(1).cloned()).await;
    assert_eq!((received["method"].as_str(), received["status"].as_u64()), (Some("POST"), Some(503)));
    assert!(received["headers"]["stripe-signature"].is_string(), "{received:#}");
    listening.kill().expect("kills");
    listening.wait().expect("waits");
}
