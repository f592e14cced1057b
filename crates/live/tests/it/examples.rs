//! Golden snapshots: the verdicts of every folder of examples.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use zen_live::{Live, Options};
use zen_lock::{Identity, Keyring};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn folders() -> Vec<PathBuf> {
    let examples = examples();
    let Ok(entries) = std::fs::read_dir(&examples) else { return Vec::new() };
    let mut folders: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    // Each of two clusters has a folder of its own.
    folders.retain(|path| !path.ends_with("relay"));
    folders.extend(["relay/hub", "relay/member"].map(|folder| examples.join(folder)));
    folders.sort();
    folders
}

#[tokio::test]
async fn verdicts_of_the_examples() {
    for folder in folders() {
        let name = folder.strip_prefix(examples()).expect("an example").to_string_lossy().replace('/', "-");
        // The only one with a key is there to be opened by everybody.
        let identity = std::fs::read_to_string(folder.join("demo-identity.txt")).unwrap_or_default();
        let keyring = Keyring::new(Identity::parse_file(&identity).unwrap_or_default());
        let live =
            Live::start(&folder, Options { keyring, ..Options::default() }).await.expect("the example can be read");
        let published = live.published().borrow().clone();
        let mut text = String::new();
        for verdict in &published.verdicts {
            let state = if verdict.serving { "serving" } else { "not serving" };
            writeln!(text, "{} {}: {state}", verdict.kind, verdict.key).expect("writes to a string");
        }
        for finding in &published.findings {
            writeln!(text, "{finding}").expect("writes to a string");
        }
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("example-{name}"), text);
        });
    }
}
