//! Changes of real files: write, rename, delete, damage and mend, and the swap of a mounted `ConfigMap`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zen_compile::Serving;
use zen_live::{Error, Live, Options, Published};
use zen_model::{ObjectKey, ObjectReason};

use crate::manifests::{good_destination, rest, secret, webhook};
use crate::{folder, write};

/// Waits until what is in effect fits; the deadline only ends a test that fails.
async fn until(live: &Live, what: &str, fits: impl Fn(&Published) -> bool) -> Arc<Published> {
    let mut published = live.published();
    let waited = tokio::time::timeout(Duration::from_secs(20), published.wait_for(|published| fits(published))).await;
    let found = waited.ok().and_then(|found| Some(Arc::clone(&*found.ok()?)));
    assert!(found.is_some(), "{what}: {:?}", live.published().borrow());
    found.expect("asserted")
}

fn verdict<'a>(published: &'a Published, object: &str) -> Option<&'a zen_compile::Verdict> {
    published.verdicts.iter().find(|verdict| format!("{} {}", verdict.kind, verdict.key) == object)
}

fn serves(published: &Published, object: &str) -> bool {
    verdict(published, object).is_some_and(|verdict| verdict.serving)
}

async fn start(dir: &Path) -> Live {
    Live::start(dir, Options::default()).await.expect("starts")
}

const HOOK: &str = "Webhook team-a/github";
const CI: &str = "Destination team-a/ci";

#[tokio::test]
async fn write_rename_and_delete() {
    let dir = folder(&[("a.yaml", &rest())]);
    let live = start(dir.path()).await;
    let snapshot = live.snapshot();
    let destination = Arc::clone(&snapshot.load().destinations[&ObjectKey::new("team-a", "ci")]);

    write(dir.path(), "b.yaml", &webhook(""));
    until(&live, "written", |published| serves(published, HOOK)).await;
    assert!(snapshot.load().webhook("any.example", "/team-a/github").is_some());
    let unchanged = Arc::clone(&snapshot.load().destinations[&ObjectKey::new("team-a", "ci")]);
    assert!(Arc::ptr_eq(&destination, &unchanged), "what did not change keeps its place in memory");

    fs::rename(dir.path().join("b.yaml"), dir.path().join("c.yaml")).expect("renames");
    write(dir.path(), "c.yaml", &webhook("  path: /team-a/moved\n"));
    until(&live, "renamed and changed", |_| snapshot.load().webhook("h", "/team-a/moved").is_some()).await;
    assert!(snapshot.load().webhook("h", "/team-a/github").is_none());

    fs::remove_file(dir.path().join("c.yaml")).expect("deletes");
    until(&live, "deleted", |published| verdict(published, HOOK).is_none()).await;
    assert!(snapshot.load().webhooks.is_empty());
}

#[tokio::test]
async fn a_bad_file_leaves_its_last_good_objects_in_force() {
    let dir = folder(&[("hook.yaml", &webhook("")), ("rest.yaml", &rest())]);
    let live = start(dir.path()).await;
    let before = live.published().borrow().generation;
    assert!(serves(&live.published().borrow(), HOOK));

    for bad in ["spec: [", &webhook("  pathh: /x\n"), &webhook("  active: maybe\n")] {
        write(dir.path(), "hook.yaml", bad);
        let published = until(&live, bad, |published| {
            published.generation > before && published.findings.iter().any(|finding| !finding.warning)
        })
        .await;
        assert!(serves(&published, HOOK), "{bad}");
        assert!(!published.complete, "what is missing may stand in the bad file: {bad}");
        assert!(published.findings.iter().any(|finding| finding.message.contains("last good version")), "{bad}");
    }
    write(dir.path(), "hook.yaml", &webhook("  path: /team-a/mended\n"));
    let published = until(&live, "mended", |published| published.findings.is_empty()).await;
    assert!(serves(&published, HOOK));
    assert!(published.complete && live.snapshot().load().webhook("h", "/team-a/mended").is_some());
}

#[tokio::test]
async fn an_emptied_file_is_not_a_deletion_at_once() {
    let dir = folder(&[("a.yaml", &rest())]);
    let live = start(dir.path()).await;
    // As editors do: truncate, then write.
    let generation = live.published().borrow().generation;
    write(dir.path(), "a.yaml", "");
    write(dir.path(), "b.yaml", &webhook(""));
    let published = until(&live, "the other file", |published| published.generation > generation).await;
    assert!(serves(&published, CI), "the Destination must not vanish while its file is being written");
    until(&live, "in the end it is", |published| verdict(published, CI).is_none()).await;
}

#[tokio::test]
async fn secrets_and_destinations_that_come_later() {
    let dir = folder(&[("hook.yaml", &webhook(""))]);
    let live = start(dir.path()).await;
    let snapshot = live.snapshot();
    let key = ObjectKey::new("team-a", "github");
    assert!(matches!(snapshot.load().webhooks[&key].serving, Serving::Invalid(ObjectReason::RefNotFound)));
    write(dir.path(), "secret.yaml", &secret("hook", "{secret: one}"));
    until(&live, "the secret", |published| serves(published, HOOK)).await;
    let first = snapshot.load().webhooks[&key].revision;
    write(dir.path(), "secret.yaml", &secret("hook", "{secret: two}"));
    until(&live, "a rotated secret", |_| snapshot.load().webhooks[&key].revision != first).await;
    write(dir.path(), "deep/er/dest.yaml", &good_destination());
    until(&live, "new folders", |published| serves(published, CI) && published.findings.is_empty()).await;
}

#[cfg(unix)]
#[tokio::test]
async fn the_swap_of_a_mounted_config_map() {
    use std::os::unix::fs::symlink;
    let dir = folder(&[("..1/a.yaml", &rest())]);
    symlink("..1", dir.path().join("..data")).expect("links");
    symlink("..data/a.yaml", dir.path().join("a.yaml")).expect("links");
    let live = start(dir.path()).await;
    assert!(serves(&live.published().borrow(), CI));
    write(dir.path(), "..2/a.yaml", &(rest() + &webhook("")));
    symlink("..2", dir.path().join("..data_tmp")).expect("links");
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).expect("swaps");
    let published = until(&live, "swapped", |published| serves(published, HOOK)).await;
    assert!(published.findings.is_empty(), "each file counts once: {:?}", published.findings);
}

#[tokio::test]
async fn the_state_folder_wakes_nobody() {
    let dir = folder(&[("a.yaml", &rest()), (".zen/queue/x.yaml", "a: [")]);
    let live = start(dir.path()).await;
    assert!(live.published().borrow().findings.is_empty());
    write(dir.path(), ".zen/queue/y.yaml", "b: [");
    write(dir.path(), "b.yaml", &webhook(""));
    let published = until(&live, "a manifest", |published| serves(published, HOOK)).await;
    assert!(published.findings.is_empty());
}

#[tokio::test]
async fn a_missing_folder_is_an_error() {
    let dir = folder(&[]);
    let missing = Live::start(&dir.path().join("nowhere"), Options::default()).await;
    assert!(matches!(missing, Err(Error::Missing(_))), "{missing:?}");
}

#[tokio::test]
async fn a_mesh_configuration_that_is_bad_from_the_start_grants_nothing() {
    let dir = folder(&[("a.yaml", &(webhook("  path: /anywhere\n") + &rest())), ("mesh.yaml", "grants: 5\n")]);
    let live = start(dir.path()).await;
    assert!(!serves(&live.published().borrow(), HOOK));
    fs::remove_file(dir.path().join("mesh.yaml")).expect("deletes");
    until(&live, "without it", |published| serves(published, HOOK)).await;
}
