//! Leaders that are killed or stopped: another one acts within 15 s, and never do two write (K-02; issue 4, point 2).
//!
//! Three times here; `cargo xtask bench leader` does it twenty times (`ZEN_LEADER_KILLS`), which takes four minutes, because
//! a lease of 10 s has to run out each time.
//!
//! A leader is ended while no write is on its way. One that is stopped between the look at its lease and the moment at which
//! its request leaves sends that request when it goes on, however late: server-side apply has no fencing token, so that no
//! client can prevent it. It is one request for each write under way, of what was right when it was decided, and the leader
//! of that time corrects it as any other drift.

use std::collections::BTreeSet;
use std::time::Duration;

use zen_e2e::audit::Entry;

use crate::replica::Stage;

/// From the end of a leader to a write of the next.
const PROMISED: Duration = Duration::from_secs(15);
/// Processes at one time.
const REPLICAS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn another_leads_within_fifteen_seconds_and_never_do_two_write() {
    let ends: usize = std::env::var("ZEN_LEADER_KILLS").map_or(3, |text| text.parse().expect("a number"));
    let stage = Stage::start().await;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        replicas.push(stage.replica().await);
    }
    stage.until_made_again(None).await;
    let mut took = Vec::new();
    for number in 0..ends {
        let leader = stage.leader().await;
        let at = replicas.iter().position(|replica| replica.name == leader).expect("one of ours leads");
        let mut leader = replicas.swap_remove(at);
        // Every third is stopped, and goes on when another leads: it must notice before it writes.
        let stops = number % 3 == 1;
        stage.until_quiet().await;
        leader.signal(if stops { "STOP" } else { "KILL" }).await;
        let ended = tokio::time::Instant::now();
        let before = stage.take_away().await;
        stage.until_made_again(Some(before)).await;
        took.push(ended.elapsed());
        if stops {
            leader.signal("CONT").await;
            let status = leader.ended().await;
            assert!(!status.success(), "a leader without its lease ends with a failure: {status}");
        }
        assert_ne!(stage.leader().await, leader.name);
        replicas.push(stage.replica().await);
    }
    let longest = took.iter().max().copied().unwrap_or_default();
    eprintln!("{ends} leaders ended; the next one wrote after {took:.1?}, at most {longest:.1?}");
    for replica in replicas {
        replica.end().await;
    }
    one_writes_at_a_time(&stage.audit(), ends + 1);
    assert!(longest < PROMISED, "{took:.1?}");
}

/// Each process writes in one stretch of time; when the next one begins it never writes again. Each token is of one process.
fn one_writes_at_a_time(entries: &[Entry], leaders: usize) {
    let mut writes: Vec<_> = entries.iter().filter(|entry| is_leaders(entry)).collect();
    writes.sort_by_key(|entry| &entry.received);
    let stretches: Vec<&[&Entry]> = writes.chunk_by(|a, b| a.credential == b.credential).collect();
    let distinct: BTreeSet<_> = stretches.iter().map(|stretch| &stretch[0].credential).collect();
    let order: Vec<_> = stretches.iter().map(|it| (&it[0].received, &it[0].credential, &it[0].uri)).collect();
    assert_eq!(stretches.len(), distinct.len(), "one writes after another took over: {order:#?}");
    assert!(distinct.len() >= leaders, "{} of {leaders} leaders wrote anything: {order:#?}", distinct.len());
    for pair in stretches.windows(2) {
        let (before, next) = (pair[0], pair[1]);
        let last = before.iter().map(|entry| &entry.answered).max();
        let took = |entry: &&Entry| entry.resource == "leases" && entry.verb == "update" && entry.status < 300;
        let taken = entries.iter().filter(took).filter(|entry| entry.credential == next[0].credential);
        let taken = taken.map(|entry| &entry.received).min();
        assert!(last < taken, "a write went on until {last:?}, though another took the lease at {taken:?}");
    }
}

/// What only a leader does. Every replica asks for the lease, and about tokens.
pub fn is_leaders(entry: &Entry) -> bool {
    entry.user == "system:serviceaccount:zen-mesh:zen-operator"
        && entry.is_write()
        && !["leases", "tokenreviews"].contains(&&*entry.resource)
}
