//! `zen lock`, as people and pipelines use it (Z-01, Z-06, Z-07), and ZenLocks under `zen up`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use zen_testkit::Upstream;

use crate::harness::{DEADLINE, Folder, MANIFESTS, Mesh, SECRET, zen, zen_with};

const SECRET_MANIFEST: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: ci-token, namespace: team-a}\n\
    stringData: {token: hunter2-marker}\ndata: {user: Y2k=}\n";

/// A key pair in the folder: the path of its file, and the public key.
async fn key(folder: &Folder, name: &str) -> (String, String) {
    let path = format!("{}/{name}", folder.text());
    let made = zen(&["lock", "keygen", "-o", &path]).await.expect(0);
    (path, made.stdout.trim().to_owned())
}

fn text(path: &str) -> String {
    fs::read_to_string(path).expect("the file")
}

#[tokio::test]
async fn keys_are_private_files() {
    let folder = Folder::new();
    let (path, public) = key(&folder, "key.txt").await;
    assert!(public.starts_with("age1") && public.len() == 62, "{public}");
    assert_eq!(fs::metadata(&path).expect("made").permissions().mode() & 0o777, 0o600);
    assert!(text(&path).contains(&format!("# public key: {public}\nAGE-SECRET-KEY-1")));
    assert_eq!(zen(&["lock", "pubkey", &path]).await.expect(0).stdout.trim(), public);
    let again = zen(&["lock", "keygen", "-o", &path]).await.expect(1);
    assert!(again.stderr.contains("never overwritten"), "{again:?}");
    let shown = zen(&["lock", "keygen"]).await.expect(0);
    assert!(shown.stdout.contains("AGE-SECRET-KEY-1") && shown.stderr.contains("Public key: age1"), "as age-keygen");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("changes");
    for arguments in [&["lock", "pubkey", &path][..], &["lock", "decrypt", "-i", &path, "x.yaml"]] {
        let refused = zen(arguments).await.expect(2);
        assert!(refused.stderr.contains("others may read") && refused.stderr.contains("chmod 600"), "{refused:?}");
        assert!(!refused.stderr.contains("AGE-SECRET-KEY"), "{refused:?}");
    }
}

/// Z-07: a Secret becomes a ZenLock and a Secret again; what did not change keeps its ciphertext.
#[tokio::test]
async fn a_secret_there_and_back() {
    let folder = Folder::new();
    let (key, public) = key(&folder, "key.txt").await;
    let (plain, out) = (format!("{}/secret.txt", folder.text()), format!("{}/lock.yaml", folder.text()));
    folder.write("secret.txt", SECRET_MANIFEST);
    let printed = zen(&["lock", "encrypt", "-r", &public, "--allow", "ci", &plain]).await.expect(0).stdout;
    assert!(printed.contains("kind: ZenLock") && printed.contains("kind: ServiceAccount\n      name: ci"), "{printed}");
    assert!(!printed.contains("hunter2-marker"), "{printed}");

    folder.write("lock.yaml", "# kept\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n");
    let arguments = ["lock", "encrypt", "-r", &public, "-i", &key, "-o", &out, &plain];
    zen(&arguments).await.expect(0);
    let first = text(&out);
    assert!(first.starts_with("# kept\nkind: ConfigMap") && first.contains("---\napiVersion: zen-mesh.io"), "{first}");
    zen(&arguments).await.expect(0);
    assert_eq!(text(&out), first, "nothing changed, and Git sees nothing");
    folder.write("secret.txt", &SECRET_MANIFEST.replace("hunter2", "hunter3"));
    let told = zen(&arguments).await.expect(0).stderr;
    assert!(told.contains("1 key sealed, 1 kept"), "{told}");
    let (token, user) = first.split_once("    user: |").expect("both keys");
    assert!(text(&out).ends_with(user) && !text(&out).starts_with(token), "only the token changed");

    let secret = zen(&["lock", "decrypt", "-i", &key, &out]).await.expect(0).stdout;
    assert!(secret.contains("kind: Secret") && secret.contains("aHVudGVyMy1tYXJrZXI="), "{secret}");
    let value = zen(&["lock", "decrypt", "-i", &key, "--key", "token", &out]).await.expect(0).stdout;
    assert_eq!(value, "hunter3-marker");
    assert_eq!(zen(&["check", folder.text()]).await.code, 0, "what is written passes the check");
}

#[tokio::test]
async fn env_files_and_plain_files() {
    let folder = Folder::new();
    let (key, public) = key(&folder, "key.txt").await;
    folder.write("app.env", "# c\nexport A=1\nB=\"two words\"\n");
    folder.write("blob", "raw\n");
    let (env, blob) = (format!("{}/app.env", folder.text()), format!("{}/blob", folder.text()));
    let from = format!("file.bin={blob}");
    let arguments = ["lock", "encrypt", "-r", &public, "--name", "web", "--from-env-file", &env, "--from-file", &from];
    let lock = zen(&arguments).await.expect(0).stdout;
    folder.write("lock.yaml", &lock);
    let out = format!("{}/lock.yaml", folder.text());
    for (name, value) in [("A", "1"), ("B", "two words"), ("file.bin", "raw\n")] {
        assert_eq!(zen(&["lock", "decrypt", "-i", &key, "--key", name, &out]).await.expect(0).stdout, value);
    }
    zen(&["lock", "encrypt", "-r", &public, "--name", "web", &env]).await.expect(0);
    let unnamed = zen(&["lock", "encrypt", "-r", &public, &env]).await.expect(2);
    assert!(unnamed.stderr.contains("--name"), "{unnamed:?}");
}

/// The editor sees a private file in memory, and nothing of it is left behind.
#[tokio::test]
async fn edit_changes_what_was_edited() {
    let folder = Folder::new();
    let (key, public) = key(&folder, "key.txt").await;
    folder.write("secret.txt", SECRET_MANIFEST);
    let (plain, out) = (format!("{}/secret.txt", folder.text()), format!("{}/lock.yaml", folder.text()));
    zen(&["lock", "encrypt", "-r", &public, "-o", &out, &plain]).await.expect(0);
    let before = text(&out);
    let seen = format!("{}/seen", folder.text());
    let script = format!("{}/editor.sh", folder.text());
    folder.write(
        "editor.sh",
        &format!(
            "#!/bin/sh\nstat -c '%a %n' \"$1\" \"$(dirname \"$1\")\" > {seen}\nsed -i 's/hunter2/hunter4/' \"$1\"\n"
        ),
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("changes");
    let arguments = ["lock", "edit", "-i", &key, &out];
    let told = zen_with(&arguments, &[("KUBE_EDITOR", &script)]).await.expect(0).stderr;
    assert!(told.contains("1 key sealed, 0 removed"), "{told}");
    let value = zen(&["lock", "decrypt", "-i", &key, "--key", "token", &out]).await.expect(0).stdout;
    assert_eq!(value, "hunter4-marker");
    assert!(
        text(&out).contains(before.split("    user: |").nth(1).expect("the other key")),
        "user keeps its ciphertext"
    );
    let seen = text(&seen);
    let mut lines = seen.lines();
    let (file, parent) = (lines.next().expect("the file"), lines.next().expect("its folder"));
    assert!(file.starts_with("600 ") && parent.starts_with("700 "), "{seen}");
    let gone = parent.split_once(' ').expect("a path").1;
    assert!(!std::path::Path::new(gone).exists(), "{gone} is left behind");

    let unchanged = text(&out);
    zen_with(&arguments, &[("KUBE_EDITOR", "true")]).await.expect(0);
    zen_with(&arguments, &[("KUBE_EDITOR", "false")]).await.expect(1);
    assert_eq!(text(&out), unchanged);
}

/// Z-06: a folder goes from one key to another, and a second run finds nothing to do.
#[tokio::test]
async fn rotate_seals_a_folder_to_another_key() {
    let folder = Folder::new();
    let (old, old_public) = key(&folder, "old.txt").await;
    let (new, new_public) = key(&folder, "new.txt").await;
    folder.write("secret.txt", SECRET_MANIFEST);
    let (plain, out) = (format!("{}/secret.txt", folder.text()), format!("{}/git/a/lock.yaml", folder.text()));
    fs::create_dir_all(folder.path().join("git/a")).expect("creates");
    zen(&["lock", "encrypt", "-r", &old_public, "-o", &out, &plain]).await.expect(0);
    fs::write(&out, format!("# head\n{}# tail\n", text(&out))).expect("writes");
    let git = format!("{}/git", folder.text());

    let wrong = zen(&["lock", "rotate", "-i", &new, "-r", &new_public, &git]).await.expect(1);
    assert!(wrong.stdout.contains("team-a/ci-token") && wrong.stdout.contains("key token"), "{wrong:?}");
    let arguments = ["lock", "rotate", "-i", &new, "-i", &old, "-r", &new_public, &git];
    let done = zen(&arguments).await.expect(0);
    assert!(done.stdout.contains("2 keys sealed"), "{done:?}");
    let rotated = text(&out);
    assert!(rotated.starts_with("# head\n") && rotated.ends_with("# tail\n"), "{rotated}");
    assert!(zen(&arguments).await.expect(0).stdout.contains("up to date"));
    assert_eq!(text(&out), rotated);
    zen(&["lock", "decrypt", "-i", &new, &out]).await.expect(0);
    let refused = zen(&["lock", "decrypt", "-i", &old, &out]).await.expect(1);
    for part in ["lock.yaml", "team-a/ci-token", "key token", "hint: "] {
        assert!(refused.stderr.contains(part), "{part}: {refused:?}");
    }
}

#[tokio::test]
async fn diff_shows_keys_and_no_values() {
    let folder = Folder::new();
    let (key, public) = key(&folder, "key.txt").await;
    folder.write("a.txt", SECRET_MANIFEST);
    folder.write("b.txt", &SECRET_MANIFEST.replace("hunter2", "hunter5").replace("user", "login"));
    let path = |name: &str| format!("{}/{name}", folder.text());
    for name in ["a", "b"] {
        let (plain, lock) = (path(&format!("{name}.txt")), path(&format!("{name}.yaml")));
        zen(&["lock", "encrypt", "-r", &public, "-o", &lock, &plain]).await.expect(0);
    }
    let differ = zen(&["lock", "diff", "-i", &key, "-o", "json", &path("a.yaml"), &path("b.yaml")]).await.expect(1);
    let changes: Vec<_> =
        differ.json().as_array().expect("rows").iter().map(|row| format!("{} {}", row["key"], row["change"])).collect();
    assert_eq!(changes, ["\"login\" \"added\"", "\"token\" \"changed\"", "\"user\" \"removed\""]);
    assert!(!format!("{differ:?}").contains("hunter"), "{differ:?}");
    zen(&["lock", "diff", "-i", &key, &path("a.txt"), &path("a.yaml")]).await.expect(0);
    let closed = zen(&["lock", "diff", &path("a.yaml"), &path("b.yaml")]).await.expect(1);
    assert!(closed.stdout.contains("unknown"), "{closed:?}");
    zen(&["lock", "diff", &path("a.yaml"), &path("nowhere")]).await.expect(2);
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let folder = Folder::new();
    folder.write("secret.txt", SECRET_MANIFEST);
    let plain = format!("{}/secret.txt", folder.text());
    let nowhere = format!("{}/no-kubeconfig", folder.text());
    let refused = zen_with(&["lock", "encrypt", &plain], &[("KUBECONFIG", &nowhere)]).await.expect(2);
    assert!(refused.stderr.contains("-r age1"), "{refused:?}");
    for (recipient, what) in [("age1nonsense", "not an age public key"), ("AGE-SECRET-KEY-1X", "private key")] {
        let refused = zen(&["lock", "encrypt", "-r", recipient, &plain]).await.expect(2);
        assert!(refused.stderr.contains(what), "{refused:?}");
    }
    let refused = zen(&["lock", "decrypt", &plain]).await.expect(2);
    assert!(refused.stderr.contains("-i IDENTITY"), "{refused:?}");
}

/// Z-05 and issue item 10: a Webhook verifies with a ZenLock's secret, and a changed ZenLock is in effect at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_verifies_with_a_zenlock() {
    let upstream = Upstream::http().await;
    let folder = Folder::new();
    let keys = Folder::new();
    let (key, public) = key(&keys, "key.txt").await;
    let manifests = MANIFESTS.replace("UPSTREAM", &upstream.address().to_string()).replace("secretRef", "zenLockRef");
    folder
        .write("mesh-objects.yaml", manifests.split("---\napiVersion: v1\nkind: Secret").next().expect("the objects"));
    keys.write("secret.txt", &format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: github, namespace: team-a}}\nstringData: {{secret: {SECRET}}}\n"));
    let (plain, lock) = (format!("{}/secret.txt", keys.text()), format!("{}/lock.yaml", folder.text()));
    let encrypt = ["lock", "encrypt", "-r", &public, "--allow", "Webhook/github", "-o", &lock, &plain];
    zen(&encrypt).await.expect(0);

    let checked = zen(&["check", folder.text()]).await.expect(0);
    assert!(checked.stdout.contains("NoIdentity"), "without the key only a warning: {checked:?}");
    let checked = zen(&["check", folder.text(), "--identity", &key]).await.expect(0);
    assert!(checked.stdout.contains("no problems"), "{checked:?}");

    let mesh = Mesh::start_with(&folder, &["--identity", &key], &[]).await;
    let mut source = mesh.connect().await;
    let (status, _) = source.send(source.signed("/team-a/github", SECRET, "one", "{}")).await.expect("answers");
    assert_eq!(status, 202);

    keys.write("secret.txt", &text(&plain).replace(SECRET, "another-secret"));
    zen(&encrypt).await.expect(0);
    let deadline = tokio::time::Instant::now() + DEADLINE;
    for n in 0.. {
        let request = source.signed("/team-a/github", "another-secret", &format!("new-{n}"), "{}");
        if source.send(request).await.expect("answers").0 == 202 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the changed ZenLock is not in effect");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (status, _) = source.send(source.signed("/team-a/github", SECRET, "old", "{}")).await.expect("answers");
    assert_eq!(status, 401, "the old secret verifies nothing any more");
}
