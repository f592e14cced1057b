use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use zen_model::Timestamp;
use zen_pki::{Ca, Error};

use crate::support::{HOUR, domain, id};

fn load(folder: &Path) -> Result<Ca, Error> {
    Ca::load_or_create(folder, &domain())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[test]
fn a_restart_finds_the_same_ca() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let first = load(&state).expect("created");
    assert_eq!((mode(&state.join("ca.key")), mode(&state.join("ca.crt")), mode(&state)), (0o600, 0o644, 0o700));
    let second = load(&state).expect("loaded");
    assert_eq!(first.certificate_pem(), second.certificate_pem());
    assert_eq!(first.validity().until.as_secs(), second.validity().until.as_secs());
    assert_eq!(fs::read_dir(&state).expect("a folder").count(), 2, "temporary files stay behind");
}

#[test]
fn a_lost_certificate_is_made_again_and_old_clients_still_verify() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = load(folder.path()).expect("created");
    fs::remove_file(folder.path().join("ca.crt")).expect("removed");
    let new = load(folder.path()).expect("made again");
    let leaf = new.issue_workload(&id("a"), HOUR).expect("issued");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let theirs = zen_pki::Identity::new(&leaf, &new.roots().expect("roots")).expect("an identity");
    let ours = zen_pki::Identity::new(&leaf, &old.roots().expect("roots")).expect("an identity");
    let server = zen_pki::mtls_server(&theirs, vec![id("a")]).expect("a configuration");
    let client = zen_pki::mtls_client(&ours, id("a")).expect("a configuration");
    runtime.block_on(crate::support::connect(client, server)).expect("verifies");
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    load(folder.path()).expect("created");
    let key = folder.path().join("ca.key");
    for bits in [0o640, 0o604, 0o666] {
        fs::set_permissions(&key, Permissions::from_mode(bits)).expect("set");
        let error = load(folder.path()).expect_err("refused");
        assert!(matches!(error, Error::Exposed { mode, .. } if mode == bits), "{error}");
    }
}

#[test]
fn what_does_not_belong_together_is_named() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    load(one.path()).expect("created");
    load(other.path()).expect("created");
    fs::copy(other.path().join("ca.key"), one.path().join("ca.key")).expect("copied");
    let error = load(one.path()).expect_err("refused").to_string();
    assert!(error.contains("belongs to another certificate"), "{error}");

    fs::remove_file(one.path().join("ca.key")).expect("removed");
    let error = load(one.path()).expect_err("refused").to_string();
    assert!(error.contains("missing beside ca.crt"), "{error}");
}

#[test]
fn damaged_files_are_refused_without_showing_them() {
    let folder = tempfile::tempdir().expect("a folder");
    load(folder.path()).expect("created");
    for (file, content) in [
        ("ca.crt", "MARKER"),
        ("ca.key", "MARKER"),
        ("ca.key", "-----BEGIN PRIVATE KEY-----\nTUFSS0VS\n-----END PRIVATE KEY-----\n"),
    ] {
        let path = folder.path().join(file);
        let good = fs::read(&path).expect("read");
        fs::write(&path, content).expect("written");
        let error = load(folder.path()).expect_err("refused");
        assert!(matches!(error, Error::Malformed { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("MARKER") && !error.to_string().contains("TUFSS0VS"));
        fs::write(&path, good).expect("written");
    }
}

#[test]
fn an_expired_ca_is_refused_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let created = load(folder.path()).expect("created");
    let later = created.validity().until.plus(Duration::from_secs(1));
    let error = Ca::load_or_create_at(folder.path(), &domain(), later).expect_err("refused");
    assert!(matches!(error, Error::Expired { .. }), "{error}");
    assert!(error.to_string().contains("remove ca.key and ca.crt"), "{error}");
}

#[test]
fn no_leaf_outlives_its_ca() {
    let ca = crate::support::ca();
    let server = ca.issue_server(&["localhost".to_owned()], Duration::from_hours(20 * 365 * 24)).expect("issued");
    assert_eq!(server.validity().until, ca.validity().until);
    // A root's workloads are signed by an issuing CA of 90 days in memory.
    let leaf = ca.issue_workload_at(&id("a"), Timestamp::now(), Duration::from_hours(20 * 365 * 24)).expect("issued");
    let days = leaf.validity().until.since(Timestamp::now());
    assert!(days > Duration::from_hours(89 * 24) && days <= Duration::from_hours(90 * 24), "{days:?}");
    let now = Timestamp::now();
    let leaf = ca.issue_workload_at(&id("a"), now, HOUR).expect("issued");
    assert_eq!((now.since(leaf.validity().from), leaf.validity().until), (Duration::from_mins(5), now.plus(HOUR)));
}

#[test]
fn only_workloads_of_the_own_domain_are_issued() {
    let ca = crate::support::ca();
    for foreign in ["spiffe://other.local/ns/a/sa/b", "spiffe://zen-mesh.local", "spiffe://zen-mesh.local.evil/a"] {
        let error = ca.issue_workload(&foreign.parse().expect("valid"), HOUR).expect_err("refused");
        assert!(matches!(error, Error::Foreign { .. }), "{error}");
    }
}

#[test]
fn server_names_are_checked() {
    let ca = crate::support::ca();
    for good in ["localhost", "hooks.example.com", "*.example.com", "127.0.0.1", "::1"] {
        ca.issue_server(&[good.to_owned()], HOUR).expect(good);
    }
    for bad in ["", "a b", "http://a", "a..b", "bücher.example", "a:80", "*.*.example.com"] {
        assert!(matches!(ca.issue_server(&[bad.to_owned()], HOUR), Err(Error::Name { .. })), "{bad}");
    }
}
