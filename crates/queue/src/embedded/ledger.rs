//! Byte quotas of waiting events (W-15): counters that intake reads without a lock held by the writer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use zen_model::{Namespace, ObjectKey};

use crate::{CommitError, QuotaScope, Quotas};

/// A counter of bytes.
pub(crate) type Account = Arc<AtomicU64>;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub global: AtomicU64,
    quotas: RwLock<Arc<Quotas>>,
    namespaces: RwLock<HashMap<Namespace, Account>>,
    destinations: RwLock<HashMap<ObjectKey, Account>>,
}

impl Ledger {
    pub(crate) fn set(&self, quotas: Quotas) {
        *self.quotas.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(quotas);
    }

    /// Whether `bytes` more would fit everywhere.
    pub(crate) fn admit(&self, of: &Namespace, to: &[ObjectKey], bytes: usize) -> Result<(), CommitError> {
        let quotas = Arc::clone(&self.quotas.read().unwrap_or_else(PoisonError::into_inner));
        let full = |scope| Err(CommitError::Full { scope });
        let over = |used: u64, limit: u64| used.saturating_add(bytes as u64) > limit;
        if quotas.global.is_some_and(|limit| over(self.global.load(Ordering::Relaxed), limit)) {
            return full(QuotaScope::Global);
        }
        if let Some(&limit) = quotas.namespaces.get(of)
            && over(self.namespace(of).load(Ordering::Relaxed), limit)
        {
            return full(QuotaScope::Namespace(of.clone()));
        }
        if let Some(limit) = quotas.each_destination {
            for key in to {
                if over(self.destination(key).load(Ordering::Relaxed), limit) {
                    return full(QuotaScope::Destination(key.clone()));
                }
            }
        }
        Ok(())
    }

    /// Takes room for an event and its deliveries; given back by [`Ledger::refund`] unless it is committed.
    pub(crate) fn reserve(&self, of: &Namespace, to: &[ObjectKey], bytes: usize) -> Result<(), CommitError> {
        if to.is_empty() {
            return Ok(());
        }
        self.admit(of, to, bytes)?;
        self.global.fetch_add(bytes as u64, Ordering::Relaxed);
        self.namespace(of).fetch_add(bytes as u64, Ordering::Relaxed);
        for key in to {
            self.destination(key).fetch_add(bytes as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    pub(crate) fn refund(&self, of: &Namespace, to: &[ObjectKey], bytes: usize) {
        if to.is_empty() {
            return;
        }
        subtract(&self.global, bytes as u64);
        subtract(&self.namespace(of), bytes as u64);
        for key in to {
            subtract(&self.destination(key), bytes as u64);
        }
    }

    pub(crate) fn namespace(&self, name: &Namespace) -> Account {
        account(&self.namespaces, name)
    }

    pub(crate) fn destination(&self, key: &ObjectKey) -> Account {
        account(&self.destinations, key)
    }
}

/// Never below zero: a counter that wrapped would close the intake for ever.
pub(crate) fn subtract(counter: &AtomicU64, bytes: u64) {
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| Some(now.saturating_sub(bytes)));
}

fn account<K: Clone + Eq + Hash>(accounts: &RwLock<HashMap<K, Account>>, key: &K) -> Account {
    if let Some(account) = accounts.read().unwrap_or_else(PoisonError::into_inner).get(key) {
        return Arc::clone(account);
    }
    Arc::clone(accounts.write().unwrap_or_else(PoisonError::into_inner).entry(key.clone()).or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_quota_is_named_and_only_its_owner_refused() {
        let ledger = Ledger::default();
        let (a, b) = (Namespace::from("a"), Namespace::from("b"));
        let (x, y) = ([ObjectKey::new("a", "x")], [ObjectKey::new("a", "y")]);
        ledger.set(Quotas { global: Some(300), namespaces: [(a.clone(), 100)].into(), each_destination: Some(150) });
        ledger.reserve(&a, &x, 100).expect("fits");
        let scope = |result: Result<(), CommitError>| match result {
            Err(CommitError::Full { scope }) => Some(scope),
            _ => None,
        };
        assert_eq!(scope(ledger.admit(&a, &y, 1)), Some(QuotaScope::Namespace(a.clone())));
        assert_eq!(scope(ledger.admit(&b, &x, 60)), Some(QuotaScope::Destination(x[0].clone())));
        assert_eq!(scope(ledger.admit(&b, &y, 150)), None);
        assert_eq!(scope(ledger.admit(&b, &y, 201)), Some(QuotaScope::Global));
        ledger.refund(&a, &x, 100);
        assert_eq!(scope(ledger.admit(&a, &x, 100)), None);
    }
}
