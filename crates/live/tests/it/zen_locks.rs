//! `ZenLock`s of a folder: what is wrong with one, who may use it, and that a changed one is in effect at once (Z-01, Z-05).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zen_live::{Finding, Live, Options, Overrides, check_with};
use zen_lock::{Identity, Keyring, seal};
use zen_model::{LockReason as L, ObjectReason, Secret};

use crate::manifests::{good_destination, head, webhook, webhook_named};
use crate::{folder, write};

const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const SUBJECTS: &str = "[{kind: Webhook, name: github}, {kind: Destination, name: ci}]";

fn sealed(text: &str, to: &Identity) -> String {
    seal(&Secret::new(text), &[to.recipient()]).expect("seals")
}

fn armored(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("{BEGIN}\n{}\n{END}\n", lines.join("\n"))
}

/// The same file with its last byte changed: of the payload's authentication tag.
fn damaged(file: &str) -> String {
    let body: String = file.lines().filter(|line| !line.starts_with('-')).collect();
    let mut bytes = STANDARD.decode(body).expect("base64");
    *bytes.last_mut().expect("a byte") ^= 1;
    armored(&bytes)
}

fn lock(entries: &[(&str, &str)], subjects: &str) -> String {
    let entry = |(key, file): &(&str, &str)| {
        let lines: Vec<_> = file.lines().map(|line| format!("      {line}")).collect();
        format!("    {key}: |\n{}\n", lines.join("\n"))
    };
    let entries: String = entries.iter().map(entry).collect();
    format!("{}spec:\n  encryptedData:\n{entries}  allowedSubjects: {subjects}\n---\n", head("ZenLock", "hook"))
}

/// A Webhook that verifies with key `secret` of the `ZenLock`, and where it goes.
fn hook() -> String {
    let verification = "{provider: github, secrets: [{zenLockRef: {name: hook, key: secret}}]}";
    webhook_named("github", verification, "") + &good_destination()
}

fn found(text: &str, identities: Vec<Identity>) -> Vec<Finding> {
    let dir = folder(&[("a.yaml", text)]);
    check_with(dir.path(), &Overrides::new(), Keyring::new(identities)).expect("the folder can be read")
}

/// One row for each reason: what is reported, and where.
pub(crate) fn reasons() -> Vec<ObjectReason> {
    let ours = Identity::generate();
    let good = sealed("It's a Secret to Everybody", &ours);
    let keys = || vec![ours.clone()];
    assert_eq!(found(&(hook() + &lock(&[("secret", &good)], SUBJECTS)), keys()), []);

    let own = |text: &str| hook() + &lock(&[("secret", text)], SUBJECTS);
    let ssh = format!("age-encryption.org/v1\n-> ssh-rsa aaaa\nQUFB\n--- {}\n{}", "A".repeat(43), "n".repeat(40));
    let large = sealed(&"x".repeat(620_000), &ours);
    let (at_lock, at_hook) = ("spec.encryptedData.secret", "spec.verification.secrets[0].zenLockRef.key");
    let rows = [
        (own(&format!("{BEGIN}\nAAAA\n{END}\n")), keys(), L::BadCiphertext, at_lock),
        (own(&armored(ssh.as_bytes())), keys(), L::NoX25519Recipient, at_lock),
        (own(&sealed("x", &Identity::generate())), keys(), L::UnknownKey, at_hook),
        (own(&damaged(&good)), keys(), L::CorruptCiphertext, at_hook),
        (hook() + &lock(&[("secret", &large), ("more", &large)], SUBJECTS), keys(), L::TooLarge, "spec.encryptedData"),
        (
            hook()
                + &lock(
                    &[("secret", &good)],
                    "[{kind: ServiceAccount, name: github}, {kind: Destination, name: github}]",
                ),
            keys(),
            L::SubjectNotAllowed,
            "spec.verification.secrets[0].zenLockRef.name",
        ),
        (own(&good), Vec::new(), L::NoIdentity, at_hook),
    ];
    let mut seen = Vec::new();
    for (text, identities, reason, field) in rows {
        let findings = found(&text, identities);
        let fits = findings
            .iter()
            .any(|finding| finding.reason == reason.into() && finding.field == field && finding.line > 0);
        assert!(fits, "wanted {} at {field}, got {findings:?}", reason.code());
        let is_warning = findings.iter().all(|finding| finding.warning);
        assert_eq!(is_warning, reason == L::NoIdentity, "{findings:?}");
        seen.push(reason.into());
    }
    seen
}

#[test]
fn references_are_resolved_like_those_of_secrets() {
    let ours = Identity::generate();
    let (good, empty) = (sealed("It's a Secret to Everybody", &ours), sealed("", &ours));
    let rows = [
        (hook(), ObjectReason::RefNotFound, "name"),
        (hook() + &lock(&[("other", &good)], SUBJECTS), ObjectReason::KeyNotFound, "key"),
        (hook() + &lock(&[("secret", &empty)], SUBJECTS), ObjectReason::EmptySecret, "key"),
    ];
    for (text, reason, part) in rows {
        let findings = found(&text, vec![ours.clone()]);
        let field = format!("spec.verification.secrets[0].zenLockRef.{part}");
        assert!(findings.iter().any(|finding| finding.reason == reason && finding.field == field), "{findings:?}");
    }
}

/// D-09: each place of a Destination that takes a secret takes it from a `ZenLock`.
#[test]
fn destinations_take_credentials_and_signing_keys() {
    let ours = Identity::generate();
    let (token, name) = (sealed("a-token", &ours), sealed("ci", &ours));
    let lock = lock(&[("token", &token), ("username", &name), ("password", &token)], SUBJECTS);
    for spec in [
        "  authentication: {bearer: {zenLockRef: {name: hook, key: token}}}",
        "  authentication: {basic: {zenLockRef: {name: hook}}}",
        "  authentication: {header: {name: X-Token, zenLockRef: {name: hook, key: token}}}",
        "  signing: {secrets: [{zenLockRef: {name: hook, key: token}}]}",
    ] {
        let text = crate::manifests::destination("{url: \"https://a.example/\"}", spec) + &lock;
        assert_eq!(found(&text, vec![ours.clone()]), [], "{spec}");
        let findings =
            found(&text.replace("kind: Destination, name: ci", "kind: Destination, name: other"), vec![ours.clone()]);
        assert!(findings.iter().any(|finding| finding.reason == L::SubjectNotAllowed.into()), "{spec}: {findings:?}");
    }
}

#[tokio::test]
async fn a_changed_lock_is_in_effect_at_once_and_an_unchanged_one_is_not_opened_again() {
    let ours = Identity::generate();
    let first = sealed("the first secret", &ours);
    let dir = folder(&[("a.yaml", &hook()), ("lock.yaml", &lock(&[("secret", &first)], SUBJECTS))]);
    let options = Options { keyring: Keyring::new(vec![ours.clone()]), ..Options::default() };
    let live = Live::start(dir.path(), options).await.expect("starts");
    let mut published = live.published();
    let verifier = || live.snapshot().load().webhook("any.example", "/team-a/github").map(|webhook| webhook.revision);
    let before = verifier().expect("serves");

    write(dir.path(), "b.yaml", &webhook("  path: /team-a/other\n").replace("name: github,", "name: other,"));
    let seen = |published: &zen_live::Published, count: usize| published.verdicts.len() == count;
    let wait = std::time::Duration::from_secs(20);
    tokio::time::timeout(wait, published.wait_for(|now| seen(now, 3))).await.expect("in time").expect("lives");
    assert_eq!(verifier(), Some(before), "what did not change keeps its revision");

    write(dir.path(), "lock.yaml", &lock(&[("secret", &sealed("the second secret", &ours))], SUBJECTS));
    let generation = published.borrow().generation;
    tokio::time::timeout(wait, published.wait_for(|now| now.generation > generation))
        .await
        .expect("in time")
        .expect("lives");
    assert_ne!(verifier().expect("serves"), before, "the new secret is in effect");
}
