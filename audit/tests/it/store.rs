//! What the store takes, and what it says of the rest.

use std::path::Path;

use bytes::Bytes;
use zen_audit::{Action, Entry, Log, Options};
use zen_audit_store::store::{self, Answer, Error};
use zen_identity::Component;

use crate::support::{access, entries, open, own, paths, small, verify, writer};

/// The lines of a chain with so many accesses, each with its end.
async fn chain(accesses: u64) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a folder");
    let log = Log::open(Options::new(folder.path(), writer())).expect("opens");
    for n in 0..accesses {
        log.note(access(n));
    }
    log.close().await;
    let text = std::fs::read(&paths(folder.path())[0]).expect("read");
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn bytes(lines: &[Vec<u8>]) -> Bytes {
    lines.concat().into()
}

fn head(line: &[u8]) -> zen_audit::Head {
    Entry::parse(line.strip_suffix(b"\n").expect("whole")).expect("an entry").head()
}

#[tokio::test]
async fn repeats_are_stored_once_and_gaps_are_answered() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), small());
    let lines = chain(30).await;
    let put = |from: usize, to: usize| store.append(Component::ZenLock, &bytes(&lines[from..to]), 1).expect("answered");
    let at = |count: usize| Answer::Stored(head(&lines[count - 1]));
    assert_eq!(put(5, 9), Answer::Conflict(None), "unknown, and the writer has more");
    assert_eq!(put(0, 5), at(5));
    assert_eq!(put(0, 5), at(5));
    assert_eq!(put(3, 9), at(9));
    assert_eq!(put(9, 10), at(10));
    assert_eq!(put(12, 14), Answer::Conflict(Some(head(&lines[9]))));
    assert_eq!(put(2, 4), Answer::Conflict(Some(head(&lines[9]))), "long stored: the writer compares");
    assert_eq!(put(10, 31), at(31));
    store.log().clone().close().await;
    let stored: Vec<u8> = paths(&data.path().join("zenlock-webhook"))
        .iter()
        .flat_map(|file| std::fs::read(file).expect("read"))
        .collect();
    assert_eq!(stored, lines.concat(), "byte for byte, once");

    // A new process knows where it stood, and goes on.
    let more = open(data.path(), small());
    assert_eq!(more.head(&head(&lines[0]).chain), Some(head(&lines[30])));
    let resumed = more.resume(&writer(), &[head(&lines[0]).chain]);
    assert_eq!((resumed.heads, resumed.after), (vec![head(&lines[30])], None));
    let next = more.resume(&"zenlock-webhook/pod-2".parse().expect("valid"), &[]);
    assert_eq!(next.after, Some(head(&lines[30])), "the component's last");
}

#[tokio::test]
async fn another_history_is_refused_and_said_once() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), small());
    let lines = chain(8).await;
    store.append(Component::ZenLock, &bytes(&lines[..5]), 1).expect("stored");
    let mut forged = lines.clone();
    for index in 3..9 {
        let mut entry = Entry::parse(forged[index].strip_suffix(b"\n").expect("whole")).expect("an entry");
        entry.previous = head(&forged[index - 1]).hash;
        entry.who = "somebody else".to_owned();
        entry.seal();
        forged[index] = [entry.to_line(), b"\n".to_vec()].concat();
    }
    for batch in [&forged[..9], &forged[4..9], &forged[5..9]] {
        let answer = store.append(Component::ZenLock, &bytes(batch), 1).expect("answered");
        assert_eq!(answer, Answer::Conflict(Some(head(&lines[4]))));
    }
    store.append(Component::ZenLock, &bytes(&lines), 1).expect("the true one goes on");
    store.log().clone().close().await;
    let said = own(data.path(), Action::FindDamage);
    assert_eq!(said.len(), 1);
    assert_eq!((said[0].reason.as_str(), said[0].allowed), ("AuditChainForked", false));
    assert_eq!(verify(data.path(), &[]).findings, vec![]);
}

#[tokio::test]
async fn what_is_no_chain_is_refused() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), small());
    let lines = chain(6).await;
    let refused = |component, lines: &Bytes| store.append(component, lines, 1).expect_err("refused");
    assert!(matches!(refused(Component::Egress, &bytes(&lines)), Error::OtherWriter("zen-egress", _)));
    let mut edited = lines.concat();
    let at = edited.windows(6).position(|window| window == b"lock-3").expect("there");
    edited[at + 5] = b'4';
    for bad in [
        Bytes::new(),
        Bytes::from_static(b"\n"),
        Bytes::from(edited),
        bytes(&[lines[0].clone(), lines[2].clone()]),
        lines.concat()[..lines.concat().len() - 1].to_vec().into(),
    ] {
        assert!(matches!(refused(Component::ZenLock, &bad), Error::Malformed(_)), "{bad:?}");
    }
    assert!(store.heads().is_empty());
}

/// The store lost its volume, and the writer its first files: the chain is kept from where it is, and that is said.
#[tokio::test]
async fn a_chain_without_its_beginning_is_kept_and_said() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), small());
    let lines = chain(9).await;
    let answer = store.append(Component::ZenLock, &bytes(&lines[4..]), 5).expect("answered");
    assert_eq!(answer, Answer::Stored(head(&lines[9])));
    store.log().clone().close().await;
    let said = own(data.path(), Action::AdoptChain);
    assert_eq!((said.len(), said[0].details["from"].as_str()), (1, "5"));
    assert_eq!(verify(data.path(), &[]).findings[0].fault, "no-beginning", "it is missing all the same");
}

#[tokio::test]
async fn a_torn_end_is_repaired_and_a_damaged_one_left_alone() {
    for damaged in [false, true] {
        let data = tempfile::tempdir().expect("a folder");
        let lines = chain(6).await;
        let store = open(data.path(), store::Options::default());
        store.append(Component::ZenLock, &bytes(&lines[..5]), 1).expect("stored");
        store.log().clone().close().await;
        drop(store);
        let file = paths(&data.path().join("zenlock-webhook")).remove(0);
        let mut text = std::fs::read(&file).expect("read");
        if damaged {
            let at = text.len() - lines[4].len() - 9;
            text[at] ^= 1;
        } else {
            text.extend_from_slice(&lines[5][..40]);
        }
        std::fs::write(&file, &text).expect("written");
        let store = open(data.path(), store::Options::default());
        if damaged {
            let answer = store.append(Component::ZenLock, &bytes(&lines[3..]), 1).expect("answered");
            assert_eq!(answer, Answer::Stored(head(&lines[6])));
            assert_eq!(std::fs::read(&file).expect("read"), text, "evidence is not touched");
        } else {
            store.append(Component::ZenLock, &bytes(&lines[5..]), 1).expect("goes on");
            assert_eq!(std::fs::read(&file).expect("read"), lines.concat());
        }
        store.log().clone().close().await;
        let action = if damaged { Action::FindDamage } else { Action::RepairChain };
        assert_eq!(own(data.path(), action).len(), 1);
        assert_eq!(verify(data.path(), &[]).findings.len(), usize::from(damaged));
    }
}

fn age(file: &Path, hours: u64) {
    let at = std::time::SystemTime::now() - std::time::Duration::from_hours(hours);
    std::fs::File::options().append(true).open(file).expect("there").set_modified(at).expect("set");
}

/// what is too old or too much goes, and what is left verifies, since the store's log says what went.
#[tokio::test]
async fn retention_says_what_it_removes() {
    let data = tempfile::tempdir().expect("a folder");
    let store = open(data.path(), small());
    let (old, live) = (chain(40).await, chain(40).await);
    for lines in [&old, &live] {
        for line in lines {
            store.append(Component::ZenLock, &bytes(std::slice::from_ref(line)), 1).expect("stored");
        }
    }
    let of = |lines: &[Vec<u8>]| data.path().join(format!("zenlock-webhook/pod-1/{}", head(&lines[0]).chain));
    for file in paths(&of(&old)) {
        age(&file, 24 * 91);
    }
    age(&paths(&of(&live))[0], 24 * 91);
    store.log().clone().close().await;
    drop(store);
    let store = open(data.path(), small());
    assert_eq!(store.heads().len(), 2);
    assert!(store.expire().await.expect("removed") >= 3);
    assert_eq!(store.heads(), [head(&live[40])], "the old one is forgotten");
    assert!(!of(&old).exists());
    store.append(Component::ZenLock, &bytes(&chain(1).await), 1).expect("stored");
    store.log().clone().close().await;
    let report = verify(data.path(), &[head(&live[40])]);
    assert_eq!(report.findings, vec![]);
    assert!(entries(data.path()).iter().any(|entry| entry.reason == "AuditRetentionAge"));
}
