//! Scale-down loses nothing (DESIGN 13): what a queue hands over, and what a peer makes of it.

use prost::Message;

use super::prelude::*;
use crate::handover::{Batch, Budget, Cursor, Page};
use crate::{AdoptError, DeliveryState, EventFilter, QueueId, Quotas};

const BUDGET: Budget = Budget { bytes: 1 << 20, hold: Duration::from_mins(1) };

async fn export(queue: &dyn Queue, cursor: Cursor) -> Page {
    queue.export(cursor, BUDGET).await.expect("exports")
}

/// Hands everything over, as a sender does. Returns how many deliveries were new there.
async fn move_all(from: &dyn Queue, to: &dyn Queue) -> u64 {
    let mut new = 0;
    let mut next = Some(Cursor::default());
    while let Some(cursor) = next {
        let page = export(from, cursor).await;
        // Over the wire, every time.
        let batch = Batch::parse(page.batch.encode()).expect("makes sense");
        new += to.adopt(batch).await.expect("adopts").deliveries;
        from.forget(page.exported).await.expect("forgets");
        next = page.next;
    }
    new
}

async fn two(store: &Arc<dyn Store>) -> (Arc<dyn Queue>, Arc<dyn Queue>) {
    (store.open().await, store.another().open().await)
}

fn is_empty(queue: &dyn Queue) -> bool {
    let stats = queue.stats();
    let empty = stats.destinations.values().all(|to| (to.waiting, to.dead, to.bytes) == (0, 0, 0));
    empty && (stats.bytes, stats.claims) == (0, 0)
}

async fn dead(queue: &dyn Queue) -> Vec<crate::DeadLetter> {
    queue.dead_letters(DeadFilter::default()).await.expect("lists")
}

pub(super) async fn what_waits_moves_with_its_attempts(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    accept(&*from, entry("tried", &["ci"])).await;
    let tried = lease_one(&*from, "ci").await;
    retry(&*from, tried.token, 100).await;
    accept(&*from, entry("fresh", &["ci"])).await;
    accept(&*from, entry("later", &["ci"])).await;
    assert_eq!(move_all(&*from, &*to).await, 3);
    assert!(is_empty(&*from), "{:?}", from.stats());
    assert!(lease(&*from, "ci", 9).await.is_empty());
    let leased = lease(&*to, "ci", 9).await;
    let ids: Vec<_> = leased.iter().map(|leased| leased.event.id.as_str()).collect();
    assert_eq!(ids, ["fresh", "later"], "in the order of their acceptance");
    assert_eq!((leased[0].attempts, leased[0].first_attempt), (0, None));
    assert_eq!(leased[0].record, Bytes::from(leased[0].event.encode_to_vec()), "as it was committed");
    pass(&*to, Duration::from_secs(101)).await;
    let again = lease(&*to, "ci", 9).await.into_iter().find(|leased| leased.event.id == "tried").expect("due now");
    assert_eq!((again.attempts, &again.event), (1, &tried.event));
    assert!(again.first_attempt.is_some());
    ack(&*to, again.token).await;
    assert_eq!(of(&*to, "ci").waiting, 2);
}

pub(super) async fn a_dead_letter_moves_as_it_is(store: Arc<dyn Store>) {
    let here = store.another();
    let (from, to) = (store.open().await, here.open().await);
    accept(&*from, entry("e1", &["ci"])).await;
    let leased = lease_one(&*from, "ci").await;
    retry(&*from, leased.token, 1).await;
    pass(&*from, Duration::from_secs(1)).await;
    let leased = lease_one(&*from, "ci").await;
    kill(&*from, leased.token).await;
    let before = dead(&*from).await.remove(0);
    pass(&*from, Duration::from_hours(1)).await;
    assert_eq!(move_all(&*from, &*to).await, 1);
    assert!(is_empty(&*from) && dead(&*from).await.is_empty());
    to.close().await;
    let to = here.open().await;
    let after = dead(&*to).await.remove(0);
    let facts = |letter: &crate::DeadLetter| {
        let letter = letter.clone();
        let times = (letter.accepted, letter.since);
        (letter.event, letter.reason, letter.attempts, times, letter.last_status, letter.last_error, letter.bytes)
    };
    assert_eq!(facts(&after), facts(&before));
    assert_eq!(
        (&after.webhook, &after.destination, &after.r#type),
        (&before.webhook, &before.destination, &before.r#type)
    );
    let id = after.id.parse().expect("an id");
    let (letter, event) = to.dead_letter(id).await.expect("reads").expect("there");
    assert_eq!((event, letter.last_response.as_deref()), (leased.event, Some("no such hook")));
    assert_eq!(to.replay(DeadFilter::default(), 9).await.expect("replays"), 1);
    assert_eq!(lease_one(&*to, "ci").await.event.id, "e1");
}

pub(super) async fn a_delivery_id_outlives_the_move(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    // The other one met its Destinations in another order.
    accept(&*to, entry("x", &["audit", "ci"])).await;
    accept(&*from, entry("e1", &["ci", "audit"])).await;
    for name in ["ci", "audit"] {
        let leased = lease_one(&*from, name).await;
        kill(&*from, leased.token).await;
    }
    let ids = |letters: Vec<crate::DeadLetter>| {
        let mut ids: Vec<_> = letters.into_iter().map(|letter| (letter.destination, letter.id)).collect();
        ids.sort();
        ids
    };
    let before = ids(dead(&*from).await);
    move_all(&*from, &*to).await;
    assert_eq!(ids(dead(&*to).await), before);
}

pub(super) async fn claims_move_and_the_later_end_counts(store: Arc<dyn Store>) {
    let here = store.another();
    let (from, to) = (store.open().await, here.open().await);
    let claim = |number: u8, minutes: u64| Some(Claim { hash: [number; 16], window: Duration::from_mins(minutes) });
    for (number, minutes) in [(1, 10), (2, 10), (3, 30)] {
        accept(&*from, NewEvent { claim: claim(number, minutes), ..entry(&format!("from-{number}"), &[]) }).await;
    }
    for (number, minutes) in [(2, 30), (3, 10)] {
        accept(&*to, NewEvent { claim: claim(number, minutes), ..entry(&format!("to-{number}"), &[]) }).await;
    }
    move_all(&*from, &*to).await;
    assert!(is_empty(&*from), "{:?}", from.stats());
    to.close().await;
    let to = here.open().await;
    let holder = async |number: u8| match to.commit(NewEvent { claim: claim(number, 1), ..entry("n", &[]) }).await {
        Ok(Committed::Duplicate { id, .. }) => Some(id.as_str().to_owned()),
        _ => None,
    };
    for (number, id) in [(1, "from-1"), (2, "to-2"), (3, "from-3")] {
        assert_eq!(holder(number).await.as_deref(), Some(id));
    }
    pass(&*to, Duration::from_mins(11)).await;
    assert_eq!(holder(1).await, None, "over");
    assert_eq!((holder(2).await.as_deref(), holder(3).await.as_deref()), (Some("to-2"), Some("from-3")));
}

/// W-07 holds wherever the repeat arrives.
pub(super) async fn a_repeat_rearms_what_was_adopted(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    accept(&*from, NewEvent { claim: claim(1), ..entry("e1", &["ci"]) }).await;
    let leased = lease_one(&*from, "ci").await;
    kill(&*from, leased.token).await;
    move_all(&*from, &*to).await;
    let repeat = to.commit(NewEvent { claim: claim(1), ..entry("e2", &["ci"]) }).await.expect("answers");
    assert_eq!(repeat, Committed::Duplicate { id: "e1".into(), rearmed: 1 });
    assert_eq!(lease_one(&*to, "ci").await.event.id, "e1");
}

pub(super) async fn adopting_again_is_once(store: Arc<dyn Store>) {
    let here = store.another();
    let (from, to) = (store.open().await, here.open().await);
    accept(&*from, NewEvent { claim: claim(1), ..entry("dead", &["ci"]) }).await;
    let leased = lease_one(&*from, "ci").await;
    kill(&*from, leased.token).await;
    accept(&*from, entry("waits", &["ci"])).await;
    let page = export(&*from, Cursor::default()).await;
    let first = to.adopt(page.batch.clone()).await.expect("adopts");
    assert_eq!((first.deliveries, first.known, first.claims), (2, 0, 1));
    let again = to.adopt(page.batch.clone()).await.expect("adopts");
    assert_eq!((again.deliveries, again.known, again.claims), (0, 2, 0));
    assert_eq!((of(&*to, "ci").waiting, of(&*to, "ci").dead, to.stats().claims), (1, 1, 1));
    // The answer was lost, and much happened until the page came again.
    let leased = lease_one(&*to, "ci").await;
    ack(&*to, leased.token).await;
    to.replay(DeadFilter::default(), 9).await.expect("replays");
    let leased = lease_one(&*to, "ci").await;
    ack(&*to, leased.token).await;
    to.close().await;
    let to = here.open().await;
    let again = to.adopt(page.batch).await.expect("adopts");
    assert_eq!((again.deliveries, again.known), (0, 2));
    assert_eq!((of(&*to, "ci").waiting, of(&*to, "ci").dead, to.stats().bytes), (0, 0, 0));
}

pub(super) async fn forgetting_again_is_once(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    accept(&*from, NewEvent { claim: claim(1), ..entry("e1", &["ci"]) }).await;
    let page = export(&*from, Cursor::default()).await;
    to.adopt(page.batch).await.expect("adopts");
    for _ in 0..2 {
        from.forget(page.exported.clone()).await.expect("forgets");
        assert!(is_empty(&*from));
    }
    accept(&*from, NewEvent { claim: claim(2), ..entry("e2", &["ci"]) }).await;
    from.forget(page.exported).await.expect("forgets");
    assert_eq!((of(&*from, "ci").waiting, from.stats().claims), (1, 1), "what came later stays");
}

pub(super) async fn what_is_leased_is_not_exported(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    for id in ["e1", "e2", "e3"] {
        accept(&*from, entry(id, &["ci"])).await;
    }
    let leased = lease(&*from, "ci", 2).await;
    assert_eq!(move_all(&*from, &*to).await, 1);
    assert_eq!(of(&*from, "ci").waiting, 2);
    ack(&*from, leased[0].token).await;
    retry(&*from, leased[1].token, 60).await;
    assert_eq!(move_all(&*from, &*to).await, 1);
    assert!(is_empty(&*from), "{:?}", from.stats());
    assert_eq!((of(&*to, "ci").waiting, of(&*from, "ci").waiting), (2, 0));
    accept(&*from, entry("void", &["ci"])).await;
    lease_one(&*from, "ci").await;
    pass(&*from, TERM).await;
    assert_eq!(move_all(&*from, &*to).await, 1, "a lease that is void holds nothing back");
}

pub(super) async fn a_page_is_held_until_it_is_kept_or_its_time_is_over(store: Arc<dyn Store>) {
    let queue = store.open().await;
    accept(&*queue, entry("e1", &["ci"])).await;
    let page = export(&*queue, Cursor::default()).await;
    assert!(lease(&*queue, "ci", 9).await.is_empty(), "it may be at a peer");
    assert_eq!((of(&*queue, "ci").waiting, of(&*queue, "ci").leased), (1, 0));
    queue.keep(&page.exported);
    drain(&*queue).await;
    let leased = lease_one(&*queue, "ci").await;
    release(&*queue, leased.token, 0).await;
    let page = export(&*queue, Cursor::default()).await;
    pass(&*queue, Duration::from_secs(50)).await;
    queue.hold(&page.exported, Duration::from_mins(1));
    pass(&*queue, Duration::from_secs(50)).await;
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    pass(&*queue, Duration::from_secs(11)).await;
    let leased = lease_one(&*queue, "ci").await;
    assert_eq!(leased.attempts, 0, "that is no lost lease");
    ack(&*queue, leased.token).await;
    // The answer comes all the same.
    queue.forget(page.exported).await.expect("forgets");
    assert!(is_empty(&*queue));
    // Held, and the process ends: still held, until the page is exported again or its time is over.
    accept(&*queue, entry("e2", &["ci"])).await;
    export(&*queue, Cursor::default()).await;
    queue.close().await;
    let queue = store.open().await;
    assert!(lease(&*queue, "ci", 9).await.is_empty());
    let page = export(&*queue, Cursor::default()).await;
    assert_eq!(page.batch.deliveries.len(), 1);
    queue.keep(&page.exported);
    drain(&*queue).await;
    assert_eq!(lease_one(&*queue, "ci").await.event.id, "e2");
}

pub(super) async fn pages_are_bounded_and_go_on(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    for n in 0..30 {
        let mut new = NewEvent { claim: claim(n), ..entry(&format!("e{n}"), &["ci", "audit"]) };
        new.event.body = Bytes::from(vec![b'x'; 1000]);
        accept(&*from, new).await;
    }
    for n in 0..20 {
        let leased = lease_one(&*from, "ci").await;
        if n % 2 == 0 {
            retry(&*from, leased.token, 600 + n).await;
        } else {
            kill(&*from, leased.token).await;
        }
    }
    let budget = Budget { bytes: 10_000, ..BUDGET };
    let (mut next, mut pages) = (Some(Cursor::default()), 0);
    while let Some(cursor) = next {
        let page = from.export(cursor, budget).await.expect("exports");
        assert!(page.batch.encode().len() <= 10_000);
        to.adopt(page.batch).await.expect("adopts");
        from.forget(page.exported).await.expect("forgets");
        (next, pages) = (page.next, pages + 1);
    }
    assert!(pages >= 6, "{pages}");
    assert!(is_empty(&*from), "{:?}", from.stats());
    let (ci, audit) = (of(&*to, "ci"), of(&*to, "audit"));
    assert_eq!((ci.waiting, ci.dead, audit.waiting, audit.dead, to.stats().claims), (20, 10, 30, 0, 30));
    // One delivery that is larger than the budget is a page.
    accept(&*from, entry("large", &["ci"])).await;
    let page = from.export(Cursor::default(), Budget { bytes: 1, ..BUDGET }).await.expect("exports");
    assert_eq!(page.batch.deliveries.len(), 1);
}

pub(super) async fn an_event_of_many_is_stored_once(store: Arc<dyn Store>) {
    let here = store.another();
    let (from, to) = (store.open().await, here.open().await);
    accept(&*from, entry("e1", &["ci", "audit", "search"])).await;
    let one = from.stats().bytes;
    let leased = lease_one(&*from, "audit").await;
    assert_eq!(move_all(&*from, &*to).await, 2);
    assert_eq!((to.stats().bytes, from.stats().bytes), (one, one));
    kill(&*from, leased.token).await;
    assert_eq!(move_all(&*from, &*to).await, 1);
    assert!(is_empty(&*from));
    assert_eq!((to.stats().bytes, of(&*to, "audit").bytes, of(&*to, "audit").dead), (one, one, 1));
    to.close().await;
    let to = here.open().await;
    assert_eq!((to.stats().bytes, of(&*to, "ci").bytes), (one, one));
    to.replay(DeadFilter::default(), 9).await.expect("replays");
    for name in ["ci", "audit", "search"] {
        assert_ne!(to.stats().bytes, 0);
        let leased = lease_one(&*to, name).await;
        assert_eq!(leased.event.id, "e1");
        ack(&*to, leased.token).await;
    }
    assert_eq!(to.stats().bytes, 0);
}

pub(super) async fn quotas_refuse_no_adoption(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    accept(&*from, entry("e1", &["ci"])).await;
    to.set_quotas(Quotas { global: Some(1), namespaces: [("team-a".into(), 1)].into(), each_destination: Some(1) });
    to.commit(entry("e2", &["ci"])).await.expect_err("full");
    assert_eq!(move_all(&*from, &*to).await, 1);
    assert_ne!(to.stats().bytes, 0, "but it counts");
}

/// Down and up again: A hands over to B, B to A, A to B. What B remembers of the first time must not swallow it.
pub(super) async fn what_comes_home_is_not_lost(store: Arc<dyn Store>) {
    let (a, b) = two(&store).await;
    accept(&*a, NewEvent { claim: claim(1), ..entry("waits", &["ci"]) }).await;
    accept(&*a, entry("dead", &["audit"])).await;
    let leased = lease_one(&*a, "audit").await;
    kill(&*a, leased.token).await;
    let id = dead(&*a).await.remove(0).id;
    for (from, to) in [(&a, &b), (&b, &a), (&a, &b), (&b, &a)] {
        assert_eq!(move_all(&**from, &**to).await, 2);
        assert!(is_empty(&**from));
        assert_eq!((of(&**to, "ci").waiting, of(&**to, "audit").dead, to.stats().claims), (1, 1, 1));
    }
    assert_eq!(dead(&*a).await.remove(0).id, id, "home again under its own name");
    assert_eq!(lease_one(&*a, "ci").await.event.id, "waits");
    accept(&*a, entry("next", &["ci"])).await;
    assert_eq!(lease_one(&*a, "ci").await.event.id, "next");
}

/// A dies before it hears that B has taken a page, and before it asks again B hands it back.
pub(super) async fn what_comes_home_before_it_was_forgotten_is_not_lost(store: Arc<dyn Store>) {
    let (a, b) = two(&store).await;
    accept(&*a, entry("waits", &["ci"])).await;
    accept(&*a, entry("dead", &["audit"])).await;
    let leased = lease_one(&*a, "audit").await;
    kill(&*a, leased.token).await;
    let page = export(&*a, Cursor::default()).await;
    b.adopt(page.batch.clone()).await.expect("adopts");
    assert_eq!(move_all(&*b, &*a).await, 0, "they are still there");
    assert!(is_empty(&*b));
    // The first page, late: B gave it away, so that A's copy is the only one.
    assert_eq!(b.adopt(page.batch).await.expect("adopts").deliveries, 0);
    a.forget(page.exported).await.expect("forgets");
    assert_eq!((of(&*a, "ci").waiting, of(&*a, "audit").dead), (1, 1));
    assert_eq!(move_all(&*a, &*b).await, 2);
    assert!(is_empty(&*a));
    assert_eq!((of(&*b, "ci").waiting, of(&*b, "audit").dead), (1, 1));
}

pub(super) async fn nothing_of_a_malformed_page_is_stored(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    accept(&*from, NewEvent { claim: claim(1), ..entry("e1", &["ci"]) }).await;
    accept(&*from, entry("e2", &["ci"])).await;
    let mut batch = export(&*from, Cursor::default()).await.batch;
    "nonsense".clone_into(&mut batch.deliveries[1].destination);
    let refused = to.adopt(batch).await.expect_err("refused");
    assert!(matches!(refused, AdoptError::Malformed(_)), "{refused:?}");
    assert!(is_empty(&*to));
}

pub(super) async fn listings_follow_the_move(store: Arc<dyn Store>) {
    let (from, to) = two(&store).await;
    accept(&*from, entry("e1", &["ci", "audit"])).await;
    let leased = lease_one(&*from, "audit").await;
    kill(&*from, leased.token).await;
    accept(&*to, entry("own", &["ci"])).await;
    move_all(&*from, &*to).await;
    assert!(from.events(EventFilter::default()).await.expect("lists").is_empty());
    let steps = |details: Vec<crate::EventDetail>| -> Vec<String> {
        details.into_iter().flat_map(|detail| detail.history).map(|step| step.what).collect()
    };
    let left = steps(from.event("e1".into()).await.expect("lists"));
    assert_eq!(left.iter().filter(|what| *what == "handed-over").count(), 2, "{left:?}");
    let listed = to.events(EventFilter::default()).await.expect("lists");
    assert_eq!(listed.len(), 2);
    let moved = listed.iter().find(|event| event.id.as_str() == "e1").expect("listed");
    let mut states: Vec<_> =
        moved.deliveries.iter().map(|to| (to.destination.name.as_str().to_owned(), to.state)).collect();
    states.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(states, [("audit".to_owned(), DeliveryState::Dead), ("ci".to_owned(), DeliveryState::Waiting)]);
    assert_eq!((moved.webhook.clone(), moved.r#type.as_str()), (key("github"), "push"));
    let come = to.event("e1".into()).await.expect("lists");
    assert_eq!(come[0].request_id, "request-e1");
    assert_eq!(steps(come).iter().filter(|what| *what == "adopted").count(), 2);
}

pub(super) async fn the_heir_is_known_after_a_restart(store: Arc<dyn Store>) {
    let queue = store.open().await;
    assert_eq!(queue.heir().await.expect("reads"), None);
    queue.set_heir(Some(QueueId([7; 16]))).await.expect("writes");
    let id = queue.id();
    queue.close().await;
    let queue = store.open().await;
    assert_eq!((queue.heir().await.expect("reads"), queue.id()), (Some(QueueId([7; 16])), id));
    assert_ne!(store.another().open().await.id(), id);
    queue.set_heir(None).await.expect("writes");
    assert_eq!(queue.heir().await.expect("reads"), None);
}
