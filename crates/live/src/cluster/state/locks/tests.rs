//! What the watch and the unseal API say, in any order, and what objects have of a `ZenLock` then.

use std::collections::BTreeMap;

use zen_compile::{Access, LockData};
use zen_crds::{Subject, SubjectKind};
use zen_model::reason::LockRefusal;
use zen_model::{LockReason, Secret};

use super::*;
use crate::cluster::unseal::Refused;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("n", name)
}

fn used(lock: &str, name: &str) -> LockUse {
    LockUse { lock: key(lock), kind: SubjectKind::Webhook, name: name.into(), plane: Plane::Ingester }
}

/// A version of a `ZenLock`: which of its name, which generation, which revision.
fn head(uid: &str, generation: i64, revision: &str, listed: &[&str]) -> Arc<LockHead> {
    let subjects = listed.iter().map(|name| Subject { kind: SubjectKind::Webhook, name: (*name).into() });
    let version = LockVersion { uid: Some(uid.to_owned()), generation: Some(generation) };
    Arc::new(LockHead { version, revision: Some(revision.to_owned()), subjects: subjects.collect() })
}

fn values(value: &str) -> BTreeMap<String, Result<Secret, LockReason>> {
    BTreeMap::from([("k".to_owned(), Ok(Secret::new(value)))])
}

/// Gives everything that was asked for.
fn given(ask: &Ask, value: &str) -> Unsealed {
    let opened = ask.versions.keys().map(|key| (key.clone(), values(value))).collect();
    Unsealed { opened, ..Unsealed::default() }
}

fn refused(ask: &Ask, reason: LockRefusal) -> Unsealed {
    let refused = Refused { reason: Some(reason), message: "it says no".to_owned() };
    let refused = ask.uses.iter().map(|used| (used.clone(), refused.clone())).collect();
    Unsealed { refused, ..Unsealed::default() }
}

/// The one question that is due.
fn only(locks: &mut Locks, now: Instant) -> Ask {
    let mut asks = locks.asks(now);
    assert_eq!(asks.len(), 1, "{asks:?}");
    asks.remove(0)
}

/// One that these objects use, and the compiler's view of it.
struct World {
    locks: Locks,
    objects: Objects,
    now: Instant,
}

impl World {
    fn new(uses: &[LockUse]) -> Self {
        let mut locks = Locks::new(Plane::Ingester);
        locks.came(uses.to_vec());
        locks.align(std::iter::empty());
        Self { locks, objects: Objects::default(), now: Instant::now() }
    }

    fn with(uses: &[LockUse], head: &Arc<LockHead>) -> Self {
        let mut world = Self::new(uses);
        world.hear(Signal::Reset(vec![(key("l"), Arc::clone(head))]));
        world
    }

    fn hear(&mut self, signal: Signal<Arc<LockHead>>) {
        self.locks.hear(signal, self.now);
    }

    fn answer(&mut self, answer: impl FnOnce(&Ask) -> Unsealed) {
        let ask = only(&mut self.locks, self.now);
        let answer = answer(&ask);
        self.locks.answered(&ask, Ok(answer), self.now);
    }

    fn unanswered(&mut self) {
        let ask = only(&mut self.locks, self.now);
        self.locks.answered(&ask, Err(Unanswered("nobody is there".to_owned())), self.now);
    }

    fn quiet(&mut self) {
        assert_eq!(self.locks.asks(self.now).len(), 0);
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }

    fn shown(&mut self) -> Option<&LockData> {
        self.locks.show(&mut self.objects);
        self.objects.zen_locks.as_ref()?.get(&key("l")).map(|lock| &**lock)
    }

    /// What an object has of it.
    fn has(&mut self, name: &str) -> String {
        let Some(lock) = self.shown() else { return "no ZenLock".to_owned() };
        match lock.access(SubjectKind::Webhook, name) {
            Access::Open => match lock.get("k") {
                Some(Ok(value)) => String::from_utf8_lossy(value.expose()).into_owned(),
                Some(Err(reason)) => reason.code().to_owned(),
                None => "no key".to_owned(),
            },
            Access::NotListed => "not listed".to_owned(),
            Access::Awaited => "awaited".to_owned(),
            Access::Withheld(withheld) => format!("{}: {}", withheld.reason.code(), withheld.why),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_opened_is_in_force_until_it_is_opened_anew() {
    let mut world = World::new(&[used("l", "a"), used("l", "b")]);
    assert!(!world.locks.are_answered() && world.locks.asks(world.now).is_empty(), "the watch told nothing yet");
    world.hear(Signal::Reset(vec![
        (key("l"), head("u", 1, "1", &["a", "b"])),
        (key("other"), head("v", 1, "1", &["a"])),
    ]));
    assert_eq!((world.has("a").as_str(), world.locks.are_answered()), ("awaited", false));
    let ask = only(&mut world.locks, world.now);
    assert_eq!(ask.uses, [used("l", "a"), used("l", "b")], "what nobody uses is not asked for");
    world.quiet();
    world.locks.answered(&ask, Ok(given(&ask, "one")), world.now);
    assert_eq!((world.has("a"), world.has("b")), ("one".to_owned(), "one".to_owned()));
    assert!(world.locks.are_answered() && !world.locks.show(&mut world.objects), "told once");
    world.quiet();

    // Its status is no change of it.
    world.hear(Signal::Apply(key("l"), head("u", 1, "2", &["a", "b"])));
    world.quiet();
    world.hear(Signal::Apply(key("l"), head("u", 2, "3", &["a", "b"])));
    let ask = only(&mut world.locks, world.now);
    assert_eq!(world.has("a"), "one");
    // It changes again while that is asked for.
    world.hear(Signal::Apply(key("l"), head("u", 3, "4", &["a", "b"])));
    world.quiet();
    world.locks.answered(&ask, Ok(given(&ask, "two")), world.now);
    assert_eq!(world.has("b"), "two");
    world.answer(|ask| given(ask, "three"));
    assert_eq!(world.has("b"), "three");
    world.quiet();
    assert_eq!(world.locks.next(), None);
}

/// Who is taken off the list has nothing at once, whatever the unseal API does.
#[tokio::test(start_paused = true)]
async fn the_list_counts_at_once_and_what_nobody_may_have_is_forgotten() {
    let mut world = World::with(&[used("l", "a"), used("l", "b")], &head("u", 1, "1", &["a"]));
    assert_eq!(world.has("b"), "not listed");
    world.answer(|ask| {
        assert_eq!(ask.uses, [used("l", "a")], "who is not listed is not asked for");
        given(ask, "one")
    });
    assert!(world.locks.is_settled(&used("l", "a")) && world.locks.is_settled(&used("l", "b")));
    world.hear(Signal::Apply(key("l"), head("u", 2, "2", &["b"])));
    assert_eq!((world.has("a"), world.has("b")), ("not listed".to_owned(), "awaited".to_owned()));
    assert_eq!(world.shown().expect("is there").keys().count(), 0, "no plaintext is left");
    world.answer(|ask| {
        assert_eq!(ask.uses, [used("l", "b")]);
        given(ask, "two")
    });
    assert_eq!(world.has("b"), "two");
    // Listed again: asked for again.
    world.hear(Signal::Apply(key("l"), head("u", 3, "3", &["a", "b"])));
    assert_eq!((world.has("a"), world.has("b")), ("awaited".to_owned(), "two".to_owned()));
    world.answer(|ask| {
        assert_eq!(ask.uses.len(), 2);
        given(ask, "three")
    });
    assert_eq!(world.has("a"), "three");
    // Nobody uses it any more.
    world.locks.compiled(&[]);
    world.locks.align(std::iter::empty());
    assert!(world.locks.show(&mut world.objects) && world.objects.zen_locks.as_ref().is_some_and(BTreeMap::is_empty));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_gone_is_gone_and_another_of_its_name_is_another() {
    let mut world = World::with(&[used("l", "a")], &head("u", 1, "1", &["a"]));
    world.answer(|ask| given(ask, "one"));
    assert_eq!(world.has("a"), "one");
    world.hear(Signal::Delete(key("l")));
    assert_eq!((world.has("a").as_str(), world.objects.unlisted), ("no ZenLock", Unlisted::Absent));
    assert!(world.locks.are_answered() && world.locks.is_settled(&used("l", "a")));
    world.quiet();
    world.hear(Signal::Apply(key("l"), head("v", 1, "5", &["a"])));
    assert_eq!(world.has("a"), "awaited");
    let ask = only(&mut world.locks, world.now);
    // Replaced while it is asked for: what was in the one before is not taken, also when it comes late.
    world.hear(Signal::Reset(vec![(key("l"), head("w", 1, "9", &["a"]))]));
    world.locks.answered(&ask, Ok(given(&ask, "of v")), world.now);
    assert_eq!(world.has("a"), "awaited");
    world.answer(|ask| given(ask, "of w"));
    assert_eq!(world.has("a"), "of w");
}

#[tokio::test(start_paused = true)]
async fn while_nobody_answers_what_is_in_memory_is_used_and_the_rest_is_asked_for_ever_more_rarely() {
    let mut world = World::with(&[used("l", "a"), used("l", "b")], &head("u", 1, "1", &["a"]));
    world.answer(|ask| given(ask, "one"));
    world.hear(Signal::Apply(key("l"), head("u", 2, "2", &["a", "b"])));
    let mut rests = Vec::new();
    for _ in 0..12 {
        world.unanswered();
        assert_eq!(world.has("a"), "one");
        assert_eq!(world.has("b"), "UnsealUnavailable: nobody is there; it is asked again");
        assert!(world.locks.are_answered() && !world.locks.is_settled(&used("l", "b")));
        let next = world.locks.next().expect("it is asked again");
        rests.push(next - world.now);
        world.quiet();
        world.now = next;
    }
    assert!(rests[0] <= Duration::from_millis(400) && rests[11] >= Duration::from_secs(15), "{rests:?}");
    assert!(rests.iter().all(|rest| *rest <= Duration::from_secs(30)), "{rests:?}");
    world.answer(|ask| given(ask, "two"));
    assert_eq!((world.has("a"), world.has("b")), ("two".to_owned(), "two".to_owned()));
    world.quiet();
    assert_eq!(world.locks.next(), None);
}

/// One row for each kind of refusal: what an object has that had nothing, and what one has that had it open.
#[tokio::test(start_paused = true)]
async fn refusals_become_the_reasons_of_a_standalone_mesh() {
    use LockRefusal as R;
    let unavailable = |code: &str| format!("UnsealUnavailable: the unseal API refuses it ({code}): it says no");
    for (refusal, fresh, had) in [
        (R::SubjectNotAllowed, "not listed".to_owned(), "not listed"),
        (R::KeysUnavailable, "NoIdentity: it says no".to_owned(), "one"),
        (R::SubjectNotPermitted, unavailable("SubjectNotPermitted"), "one"),
        (R::ZenLockNotFound, unavailable("ZenLockNotFound"), "one"),
        (R::ApiUnavailable, unavailable("ApiUnavailable"), "one"),
    ] {
        let mut world = World::with(&[used("l", "a")], &head("u", 1, "1", &["a"]));
        world.answer(|ask| refused(ask, refusal));
        assert_eq!(world.has("a"), fresh, "{refusal:?}");
        assert!(world.locks.are_answered());
        // It is asked again, by itself or when the ZenLock's status changes.
        world.quiet();
        let next = world.locks.next().expect("asked again");
        assert!(next <= world.now + AGAIN_AT_MOST, "{refusal:?}");
        world.hear(Signal::Apply(key("l"), head("u", 1, "2", &["a"])));
        world.answer(|ask| given(ask, "one"));
        assert_eq!(world.has("a"), "one");
        world.hear(Signal::Apply(key("l"), head("u", 2, "3", &["a"])));
        world.answer(|ask| refused(ask, refusal));
        assert_eq!(world.has("a"), had, "{refusal:?}");
        world.later(AGAIN_AT_MOST);
        world.answer(|ask| given(ask, "two"));
        assert_eq!(world.has("a"), "two");
    }
}

const AGAIN_AT_MOST: Duration = Duration::from_mins(2);

#[tokio::test(start_paused = true)]
async fn a_key_that_does_not_open_is_asked_for_again_and_the_others_serve() {
    let mut world = World::with(&[used("l", "a"), used("l", "b")], &head("u", 1, "1", &["a", "b"]));
    let closed = |ask: &Ask, reason| {
        let mut answer = given(ask, "x");
        let other = ("other".to_owned(), Ok(Secret::new("y")));
        answer.opened.insert(key("l"), BTreeMap::from([("k".to_owned(), Err(reason)), other]));
        answer
    };
    world.answer(|ask| closed(ask, LockReason::UnknownKey));
    assert_eq!((world.has("a").as_str(), world.has("b").as_str()), ("UnknownKey", "UnknownKey"));
    assert!(matches!(world.shown().expect("is there").get("other"), Some(Ok(_))));
    world.later(AGAIN_AT_MOST);
    world.answer(|ask| {
        assert_eq!(ask.uses.len(), 1, "one asks for all");
        given(ask, "one")
    });
    assert_eq!((world.has("a").as_str(), world.has("b").as_str()), ("one", "one"));
    // What no key opens is asked for when it changes.
    world.hear(Signal::Apply(key("l"), head("u", 2, "2", &["a", "b"])));
    world.answer(|ask| closed(ask, LockReason::CorruptCiphertext));
    world.quiet();
    assert_eq!((world.has("a").as_str(), world.locks.next()), ("CorruptCiphertext", None));
}

#[tokio::test(start_paused = true)]
async fn thousands_are_asked_for_in_batches() {
    let uses: Vec<_> =
        (0..70).flat_map(|lock| (0..10).map(move |name| used(&format!("l{lock}"), &name.to_string()))).collect();
    let names: Vec<_> = (0..10).map(|name| name.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut world = World::new(&uses);
    world.hear(Signal::Reset((0..70).map(|lock| (key(&format!("l{lock}")), head("u", 1, "1", &names))).collect()));
    let mut waiting = world.locks.asks(world.now);
    assert_eq!(waiting.len(), ASKING);
    let (mut asked, mut questions) = (BTreeSet::new(), 0);
    while let Some(ask) = waiting.pop() {
        assert!(ask.versions.len() <= MAX_BATCH_LOCKS && ask.uses.len() <= MAX_BATCH);
        assert!(ask.uses.iter().all(|used| asked.insert(used.clone())), "each once");
        world.locks.answered(&ask, Ok(given(&ask, "x")), world.now);
        questions += 1;
        waiting.extend(world.locks.asks(world.now));
        assert!(waiting.len() <= ASKING);
    }
    assert_eq!((asked.len(), questions), (700, 5));
    assert!(world.locks.are_answered());

    // One that more use than fit into a batch: one batch after the other, so that none is older than the one before.
    let names: Vec<_> = (0..600).map(|name| name.to_string()).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let uses: Vec<_> = names.iter().map(|name| used("l", name)).collect();
    let mut world = World::with(&uses, &head("u", 1, "1", &names));
    for expected in [MAX_BATCH, MAX_BATCH, 600 - 2 * MAX_BATCH] {
        world.answer(|ask| {
            assert_eq!(ask.uses.len(), expected);
            given(ask, "x")
        });
    }
    world.quiet();
    assert!(world.locks.are_answered());
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_not_granted_keeps_nobody_waiting() {
    let mut world = World::new(&[used("l", "a")]);
    world.hear(Signal::Failed { forbidden: false });
    assert!(world.locks.show(&mut world.objects) || world.objects.unlisted == Unlisted::Unread);
    assert!(world.locks.are_answered());
    world.hear(Signal::Failed { forbidden: true });
    world.locks.show(&mut world.objects);
    assert_eq!(world.objects.unlisted, Unlisted::Forbidden);
    assert!(!world.locks.is_settled(&used("l", "a")), "the version before stays in force");
    world.hear(Signal::Reset(vec![(key("l"), head("u", 1, "1", &["a"]))]));
    world.answer(|ask| given(ask, "one"));
    // What was told stays true.
    world.hear(Signal::Failed { forbidden: true });
    assert_eq!((world.has("a").as_str(), world.objects.unlisted), ("one", Unlisted::Absent));
}
