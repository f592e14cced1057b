//! What somebody does again and again, told so seldom that a flood of it fills no disk (T-05, A-01).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What repeats within it is told once more, at its end, with its count.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// Pairs of what and who that are told apart in it; further ones count together, by what.
const PAIRS: usize = 64;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeated<W, P, D> {
    /// What was done.
    pub what: W,
    /// By whom; none: by many.
    pub who: Option<P>,
    /// How often, since it was told last.
    pub count: u64,
    /// More about the last time.
    pub detail: D,
}

/// Tells of what somebody does: the first of a pair of what and who at once, the rest of the minute at its end. That is, in a
/// minute and whatever comes, twice 64 times and twice for each kind of what at most: kinds must be few. Clones share everything.
pub struct Repeats<W, P, D>(Arc<Inner<W, P, D>>);

struct Inner<W, P, D> {
    tell: Box<dyn Fn(Repeated<W, P, D>) + Send + Sync>,
    seen: Mutex<Seen<W, P, D>>,
}

type Seen<W, P, D> = BTreeMap<(W, Option<P>), More<D>>;

/// What is not told yet.
struct More<D> {
    count: u64,
    last: Option<D>,
}

impl<W, P, D> Clone for Repeats<W, P, D> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<W, P, D> fmt::Debug for Repeats<W, P, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Repeats")
    }
}

impl<W, P, D> Repeats<W, P, D>
where
    W: Ord + Clone + Send + 'static,
    P: Ord + Clone + Send + 'static,
    D: Send + 'static,
{
    /// To `tell`, which must not block.
    pub fn telling(tell: impl Fn(Repeated<W, P, D>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { tell: Box::new(tell), seen: Mutex::default() }))
    }

    /// It was done once more. Never waits; has to be called on a runtime.
    pub fn happened(&self, what: W, who: P, detail: D) {
        let mut seen = self.seen();
        if seen.is_empty() {
            let this = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WINDOW).await;
                this.rest();
            });
        }
        let alone = (what, Some(who));
        let key = if seen.contains_key(&alone) || seen.len() < PAIRS { alone } else { (alone.0, None) };
        if let Some(more) = seen.get_mut(&key) {
            (more.count, more.last) = (more.count + 1, Some(detail));
            return;
        }
        let (what, who) = key.clone();
        seen.insert(key, More { count: 0, last: None });
        drop(seen);
        (self.0.tell)(Repeated { what, who, count: 1, detail });
    }

    /// The end of a minute.
    fn rest(&self) {
        let seen = std::mem::take(&mut *self.seen());
        for ((what, who), More { count, last }) in seen {
            if let Some(detail) = last {
                (self.0.tell)(Repeated { what, who, count, detail });
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen<W, P, D>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = Arc<Mutex<Vec<(u8, Option<u32>, u64)>>>;

    fn kept() -> (Repeats<u8, u32, ()>, Told) {
        let told = Told::default();
        let keeps = Arc::clone(&told);
        (Repeats::telling(move |it| keeps.lock().expect("kept").push((it.what, it.who, it.count))), told)
    }

    #[tokio::test(start_paused = true)]
    async fn what_repeats_is_counted() {
        let (repeats, told) = kept();
        for _ in 0..1000 {
            repeats.happened(1, 1, ());
        }
        repeats.happened(1, 2, ());
        repeats.happened(2, 1, ());
        let first = [(1, Some(1), 1), (1, Some(2), 1), (2, Some(1), 1)];
        assert_eq!(*told.lock().expect("kept"), first, "the first of each at once");
        tokio::time::sleep(WINDOW + Duration::from_secs(1)).await;
        assert_eq!(told.lock().expect("kept")[3..], [(1, Some(1), 999)], "and the rest at the end of the minute");
        tokio::time::sleep(WINDOW * 3).await;
        assert_eq!(told.lock().expect("kept").len(), 4);
        repeats.happened(1, 1, ());
        assert_eq!(told.lock().expect("kept")[4..], [(1, Some(1), 1)], "another minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_everybody_is_a_handful_and_nothing_is_lost() {
        let (repeats, told) = kept();
        for what in 0..16 {
            for who in 0..500 {
                repeats.happened(what, who, ());
                repeats.happened(what, who, ());
            }
        }
        tokio::time::sleep(WINDOW + Duration::from_secs(1)).await;
        let told = told.lock().expect("kept");
        assert!(told.len() <= 160, "{}", told.len());
        assert_eq!(told.iter().map(|(_, _, count)| count).sum::<u64>(), 16 * 1000);
    }
}
