//! Heads in a third place.

use std::collections::BTreeMap;

use zen_audit::{Action, ChainId, Head, Log, Options};
use zen_audit_store::{anchoring, store};
use zen_identity::Component;

use crate::support::{Kept, access, open, own, paths, small, verify, writer};

fn ends(data: &std::path::Path) -> BTreeMap<ChainId, Head> {
    let found = store::scan(data).expect("readable");
    found.into_iter().filter_map(|found| found.tail.head).map(|head| (head.chain.clone(), head)).collect()
}

#[tokio::test]
async fn a_volume_that_was_cut_or_exchanged_is_noticed() {
    let (data, run) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let log = Log::open(Options::new(run.path(), writer())).expect("opens");
    for n in 0..6 {
        log.note(access(n));
    }
    log.close().await;
    let lines = std::fs::read(&paths(run.path())[0]).expect("read");
    let store = open(data.path(), small());
    store.append(Component::ZenLock, &lines.into(), 1).expect("stored");
    let (kept, mut anchored) = (Kept::default(), None);
    anchoring::step(&store, &kept, &mut anchored).await;
    let heads = kept.heads();
    assert_eq!((heads.len(), heads[0].writer.component()), (2, "zen-audit"));
    // Nothing new: nothing is written.
    kept.0.lock().expect("no panic").clear();
    anchoring::step(&store, &kept, &mut anchored).await;
    assert!(kept.heads().is_empty());
    store.log().clone().close().await;
    drop(store);
    assert_eq!(verify(data.path(), &heads).findings, vec![]);

    let store = open(data.path(), small());
    assert_eq!(anchoring::compare(&store, &heads, &ends(data.path())).await, 0);
    store.log().clone().close().await;
    drop(store);

    // The last entry goes. The anchor tells, and so does the store's own log, without any anchor.
    let file = paths(&data.path().join("zenlock-webhook")).remove(0);
    let text = std::fs::read_to_string(&file).expect("read");
    let cut = text.trim_end().rfind('\n').expect("lines") + 1;
    std::fs::write(&file, &text[..cut]).expect("written");
    for anchors in [&heads[..], &[]] {
        let report = verify(data.path(), anchors);
        assert_eq!((report.findings.len(), report.findings[0].fault), (1, "truncated"));
    }
    let store = open(data.path(), small());
    assert_eq!(anchoring::compare(&store, &heads, &ends(data.path())).await, 1);
    store.log().clone().close().await;
    let said = own(data.path(), Action::FindDamage);
    assert_eq!((said.len(), said[0].reason.as_str()), (1, "AuditAnchorAhead"));
    assert_eq!(said[0].details["anchored"], heads[1].to_string());
}
