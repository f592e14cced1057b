//! Dead letters: list, show, replay (D-05). A replay is a new attempt and never a duplicate.

use zen_testkit::{Answer, Upstream};

use crate::harness::{Folder, Mesh, zen};

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_replayed() {
    let upstream = Upstream::http().await;
    upstream.always(Answer::status(422).body("no such branch"));
    let folder = Folder::with_manifests(upstream.address());
    let mesh = Mesh::start(&folder).await;
    let mut source = mesh.connect().await;
    for id in ["d-1", "d-2", "d-3"] {
        assert_eq!(source.push(id).await.expect("answers").0, 202);
    }
    upstream.wait_for(3).await;
    let dir = folder.text();
    let list = ["dead-letters", "list", "--dir", dir, "-o", "json"];
    let mut letters = serde_json::Value::Null;
    let deadline = tokio::time::Instant::now() + crate::harness::DEADLINE;
    while letters.as_array().is_none_or(|letters| letters.len() < 3) {
        assert!(tokio::time::Instant::now() < deadline, "{letters:#}");
        letters = zen(&list).await.expect(0).json();
    }
    assert_eq!(letters[0]["reason"], "Rejected");
    assert_eq!(letters[0]["last_status"], 422);
    assert!(letters[0].get("last_response").is_none(), "not in listings");
    let id = letters[0]["id"].as_str().expect("an id");

    let table = zen(&["dead-letters", "list", "--dir", dir]).await.expect(0).stdout;
    assert!(table.starts_with("ID ") && table.contains("team-a/ci"), "{table}");
    let shown = zen(&["dead-letters", "show", id, "--dir", dir]).await.expect(0).stdout;
    assert!(shown.contains("no such branch") && shown.contains("Rejected") && !shown.contains("refs/heads"), "{shown}");
    let payload = zen(&["dead-letters", "show", id, "--payload", "--dir", dir]).await.expect(0).stdout;
    assert!(payload.contains("refs/heads/main"), "{payload}");

    let dry = zen(&["dead-letters", "replay", "--all", "--dry-run", "--dir", dir]).await.expect(0).stdout;
    assert_eq!(dry, "3 dead letters would be replayed\n");
    upstream.always(Answer::status(200));
    let one = zen(&["dead-letters", "replay", id, "--dir", dir]).await.expect(0).stdout;
    assert!(one.contains("1 dead letter replayed"), "{one}");
    upstream.wait_for(4).await;
    zen(&["dead-letters", "replay", "--destination", "team-a/other", "--dry-run", "--dir", dir]).await.expect(0);
    let rest = ["dead-letters", "replay", "--reason", "rejected", "--rate", "50/s", "--yes", "--dir", dir];
    let rest = zen(&rest).await.expect(0).stdout;
    assert!(rest.contains("2 dead letters replayed"), "{rest}");
    let received = upstream.wait_for(6).await;
    let mut ids: Vec<_> = received[3..].iter().filter_map(|delivery| delivery.header("ce-id")).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["d-1", "d-2", "d-3"], "each delivered by its replay, none swallowed as a duplicate");
    let unknown = zen(&["dead-letters", "show", "999999-1", "--dir", dir]).await.expect(1);
    assert!(unknown.stderr.contains("zen dead-letters list"), "{unknown:?}");
    zen(&["dead-letters", "replay", "999999-1", "--dir", dir]).await.expect(1);
}
