//! `zen audit`: exit codes, and the first bad entry with its place.

use zen_audit::{Action, Head, Log, Options, Record};

use crate::harness::{Folder, zen};

/// A log with 20 accesses in `folder`/audit; its file and its head.
async fn log(folder: &Folder) -> (String, Head) {
    let path = format!("{}/audit", folder.text());
    let log = Log::open(Options::new(&path, "zenlock-webhook/pod-1".parse().expect("valid"))).expect("opens");
    for n in 0..20 {
        let record = Record::new(Action::AccessSecret, "Pod/team-a/web-1", &format!("ZenLock/team-a/lock-{n}"));
        log.record(if n % 2 == 0 { record.allowed() } else { record.reason("SubjectNotAllowed") })
            .await
            .expect("written");
    }
    let head = log.head();
    log.close().await;
    (format!("{path}/{}/00000000000000000001.jsonl", head.chain), head)
}

#[tokio::test]
async fn verify_says_whether_a_log_is_intact_and_what_is_not() {
    let folder = Folder::new();
    let (file, head) = log(&folder).await;
    let audit = format!("{}/audit", folder.text());
    let intact = zen(&["audit", "verify", &audit, "--anchor", &head.to_string()]).await.expect(0);
    assert_eq!(intact.stdout, "intact: 21 entries of 1 chains, 1 anchored heads compared\n");

    let text = std::fs::read_to_string(&file).expect("there");
    std::fs::write(&file, text.replace("lock-7\"", "lock-8\"")).expect("written");
    let edited = zen(&["audit", "verify", &file]).await.expect(1);
    let place = format!("{file}:9  zenlock-webhook/pod-1/{}@9  altered  ", head.chain);
    assert!(edited.stdout.starts_with(&place), "{edited:?}");
    let json = zen(&["audit", "verify", &file, "-o", "json"]).await.expect(1).json();
    assert_eq!((&json["findings"][0]["line"], &json["findings"][0]["fault"]), (&9.into(), &"altered".into()));

    let cut = text.rfind("\n{").expect("lines") + 1;
    std::fs::write(&file, &text[..cut]).expect("written");
    zen(&["audit", "verify", &file]).await.expect(0);
    folder.write("heads", &format!("# kept elsewhere\n\n{head}\n"));
    let anchor = format!("{}/heads", folder.text());
    let truncated = zen(&["audit", "verify", &file, "--anchor", &anchor]).await.expect(1);
    assert!(truncated.stdout.contains(":20  ") && truncated.stdout.contains("  truncated  "), "{truncated:?}");
    folder.write("heads", "nonsense\n");
    zen(&["audit", "verify", &file, "--anchor", &anchor]).await.expect(2);
}

#[tokio::test]
async fn export_writes_lines_as_they_are() {
    let folder = Folder::new();
    let (file, _) = log(&folder).await;
    let text = std::fs::read_to_string(&file).expect("there");
    assert_eq!(zen(&["audit", "export", &file]).await.expect(0).stdout, text);
    let audit = format!("{}/audit", folder.text());
    let refused = zen(&["audit", "export", &audit, "--refused", "--action", "secret.access"]).await.expect(0).stdout;
    assert_eq!(refused.lines().count(), 10);
    assert!(refused.lines().all(|line| text.contains(line) && line.contains("SubjectNotAllowed")));
    assert_eq!(zen(&["audit", "export", &file, "--writer", "zen-egress"]).await.expect(0).stdout, "");
    assert_eq!(zen(&["audit", "export", &file, "--until", "1h"]).await.expect(0).stdout, "");
}
