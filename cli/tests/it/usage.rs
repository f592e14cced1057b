//! What is said, and with which exit code, when a command cannot work.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Folder, Mesh, zen};

#[tokio::test]
async fn usage_errors_are_exit_code_2_and_help_is_good() {
    for arguments in [
        &["upp"][..],
        &["up"],
        &["up", ".", "--intake", "nowhere"],
        &["up", ".", "--service", "ci=1"],
        &["send", "githup", "--to", "https://localhost/"],
        &["send", "github"],
        &["send", "github", "--dir", "."],
        &["send", "github", "--to", "ftp://localhost/", "--secret", "x"],
        &["send", "generic", "--to", "https://localhost/", "--secret", "x"],
        &["send", "github", "--to", "https://localhost/"],
        &["dead-letters", "replay"],
        &["dead-letters", "replay", "--all", "--rate", "fast"],
        &["dead-letters", "list", "--reason", "Tired"],
        &["events", "--since", "yesterday"],
        &["keys", "destination", "ci"],
        &["audit", "verify"],
        &["audit", "verify", "/nowhere"],
        &["audit", "verify", ".", "--anchor", "/nowhere"],
        &["audit", "export", "/nowhere"],
        &["status", "--log", "loud"],
    ] {
        let ran = zen(arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?}: {ran:?}");
        assert!(!ran.stderr.is_empty() && ran.stdout.is_empty(), "{arguments:?}: {ran:?}");
    }
    let suggested = zen(&["dead-leters"]).await.expect(2);
    assert!(suggested.stderr.contains("dead-letters"), "{suggested:?}");
    let help = zen(&["--help"]).await.expect(0).stdout;
    for command in ["up", "check", "send", "listen", "status", "events", "dead-letters", "keys", "audit", "lock"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
        let help = zen(&[command, "--help"]).await.expect(0).stdout;
        assert!(help.contains("Usage: zen"), "{help}");
    }
    assert_eq!(zen(&["--version"]).await.expect(0).stdout, format!("zen {}\n", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn without_a_mesh_the_answer_says_how_to_start_one() {
    let folder = Folder::new();
    for arguments in [&["status"][..], &["events"], &["dead-letters", "list"]] {
        let ran = zen(&[arguments, &["--dir", folder.text()]].concat()).await.expect(1);
        assert!(ran.stderr.contains("no mesh runs") && ran.stderr.contains("zen up"), "{ran:?}");
    }
}

#[tokio::test]
async fn what_keeps_up_from_starting_is_named() {
    let folder = Folder::new();
    let missing = format!("{}/missing", folder.text());
    let ran = zen(&["up", &missing]).await.expect(1);
    assert!(ran.stderr.contains("does not exist"), "{ran:?}");
    assert!(!std::path::Path::new(&missing).exists(), "nothing was made there");

    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let taken = holder.local_addr().expect("bound").to_string();
    let ran = zen(&["up", folder.text(), "--intake", &taken, "--admin", "127.0.0.1:0"]).await.expect(1);
    assert!(ran.stderr.contains("--intake") && ran.stderr.contains("port 0"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    let nobody = zen_testkit::Reserved::loopback();
    let folder = Folder::with_manifests(nobody.address());
    let mut mesh = Mesh::start(&folder).await;
    mesh.kill();
    for file in ["mesh.key", "ca.key", "admin.token"] {
        let file = folder.state().join(file);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changes");
        let ran = zen(&["up", folder.text(), "--intake", "127.0.0.1:0", "--admin", "127.0.0.1:0"]).await.expect(1);
        assert!(ran.stderr.contains("chmod 600"), "{ran:?}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changes");
    }
    for file in ["mesh.key", "ca.key", "admin.token"] {
        let mode = std::fs::metadata(folder.state().join(file)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert_eq!(std::fs::metadata(folder.state()).expect("there").permissions().mode() & 0o777, 0o700);
}
