//! Numbers of names: an event row holds a number where it would hold a name.

use std::collections::{HashMap, HashSet};

use zen_model::ObjectKey;

/// The numbers of one kind of names, those that are durable.
#[derive(Debug, Default)]
pub(crate) struct Numbered {
    known: HashMap<ObjectKey, u32>,
    taken: HashSet<u32>,
    /// Numbers follow from the names, so that every replica gives a name the same one.
    by_name: bool,
}

/// All numbers of a queue.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub webhooks: Numbered,
    pub destinations: Numbered,
}

impl Numbered {
    pub(crate) fn new(by_name: bool) -> Self {
        Self { by_name, ..Self::default() }
    }

    pub(crate) fn of(&self, key: &ObjectKey) -> Option<u32> {
        self.known.get(key).copied()
    }

    /// The number became durable.
    pub(crate) fn add(&mut self, key: ObjectKey, number: u32) {
        self.taken.insert(number);
        self.known.insert(key, number);
    }

    /// The number for a new name; `new` are those of the batch under way.
    pub(crate) fn next(&self, key: &ObjectKey, new: &[(ObjectKey, u32)]) -> u32 {
        if !self.by_name {
            return u32::try_from(self.known.len() + new.len() + 1).unwrap_or(u32::MAX);
        }
        let mut number = tag(key);
        // Two names of one tag: the later one gets a number that only this queue knows it by.
        while self.taken.contains(&number) || new.iter().any(|(_, other)| *other == number) {
            number = (number % MAX_TAG) + 1;
        }
        number
    }
}

/// Numbers stay positive in 32 bits.
const MAX_TAG: u32 = i32::MAX.cast_unsigned();

/// FNV-1a of the name, 1 to [`MAX_TAG`]. It is part of delivery ids: for ever.
fn tag(key: &ObjectKey) -> u32 {
    let bytes = key.namespace.as_str().bytes().chain([b'/']).chain(key.name.as_str().bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let folded = u32::try_from((hash ^ (hash >> 32)) & u64::from(MAX_TAG)).unwrap_or(1);
    folded.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_name_are_stable_and_never_given_twice() {
        let ci = ObjectKey::new("team-a", "ci");
        let mut one = Numbered::new(true);
        let number = one.next(&ci, &[]);
        assert_eq!(number, 919_954_568, "part of delivery ids: it must not change");
        one.add(ObjectKey::new("other", "name"), number);
        assert_eq!(one.next(&ci, &[]), number + 1, "a collision goes on to the next");
        assert_eq!(one.next(&ci, &[(ObjectKey::new("x", "y"), number + 1)]), number + 2);
    }

    #[test]
    fn numbers_by_order_are_dense() {
        let mut numbers = Numbered::new(false);
        let key = |name: &str| ObjectKey::new("a", name);
        assert_eq!(numbers.next(&key("x"), &[]), 1);
        numbers.add(key("x"), 1);
        assert_eq!((numbers.of(&key("x")), numbers.next(&key("z"), &[(key("y"), 2)])), (Some(1), 3));
    }
}
