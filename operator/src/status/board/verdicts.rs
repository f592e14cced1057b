//! What the compiler says, and what of it is new.

use std::sync::Arc;

use zen_compile::Verdict;
use zen_live::Published;

use super::super::object::{Id, Kind};

/// The verdicts of one publication, looked up by object.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    published: Arc<Published>,
    /// Indices into it by kind and key. It is sorted so already; nothing here relies on it.
    order: Vec<u32>,
}

impl Verdicts {
    /// Takes another publication; the objects about which it says something else.
    pub(super) fn replace(&mut self, published: Arc<Published>) -> Vec<Id> {
        let mut order: Vec<u32> = (0..u32::try_from(published.verdicts.len()).unwrap_or(u32::MAX)).collect();
        order.sort_by_key(|index| sort_key(&published.verdicts[*index as usize]));
        let before = std::mem::replace(self, Self { published, order });
        let mut changed = Vec::new();
        let (mut old, mut new) = (before.iter().peekable(), self.iter().peekable());
        loop {
            let verdict = match (old.peek(), new.peek()) {
                (None, None) => break,
                (Some(a), Some(b)) if sort_key(a) == sort_key(b) => {
                    let (a, b) = (old.next(), new.next());
                    if a.zip(b).is_some_and(|(a, b)| same(a, b)) {
                        continue;
                    }
                    b
                }
                (Some(a), Some(b)) if sort_key(a) < sort_key(b) => old.next(),
                (Some(_), None) => old.next(),
                _ => new.next(),
            };
            changed.extend(verdict.and_then(id_of));
        }
        changed
    }

    /// The verdict on an object.
    pub(super) fn of(&self, id: &Id) -> Option<&Verdict> {
        let wanted = (id.kind.name(), &id.key);
        let found =
            self.order.binary_search_by(|index| sort_key(&self.published.verdicts[*index as usize]).cmp(&wanted));
        found.ok().map(|at| &self.published.verdicts[self.order[at] as usize])
    }

    fn iter(&self) -> impl Iterator<Item = &Verdict> {
        self.order.iter().map(|index| &self.published.verdicts[*index as usize])
    }
}

fn sort_key(verdict: &Verdict) -> (&'static str, &zen_model::ObjectKey) {
    (verdict.kind, &verdict.key)
}

fn id_of(verdict: &Verdict) -> Option<Id> {
    Some(Id::new(Kind::of(verdict.kind)?, verdict.key.clone()))
}

fn same(a: &Verdict, b: &Verdict) -> bool {
    let problems = Arc::ptr_eq(&a.problems, &b.problems) || a.problems == b.problems;
    problems && (a.serving, &a.uid, a.observed_generation) == (b.serving, &b.uid, b.observed_generation)
}
