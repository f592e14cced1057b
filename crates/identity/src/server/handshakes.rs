//! Handshakes that were refused because of the peer's certificate: told to whoever keeps the record, so seldom that a flood of them
//! fills no disk (T-05, A-01).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zen_model::reason::PeerReason;

/// What repeats within it is told once more, at its end, with its count.
const WINDOW: Duration = Duration::from_mins(1);
/// Pairs of reason and address that are told apart in it; further addresses count together, by reason.
const PAIRS: usize = 64;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedHandshake {
    /// What is wrong with the certificate.
    pub reason: PeerReason,
    /// From where; none: from many places.
    pub from: Option<IpAddr>,
    /// How often, since it was told last.
    pub count: u64,
    /// In words for people. Holds what the peer says of itself, and no secret.
    pub detail: String,
}

/// Tells of them: the first of a reason and an address at once, the rest of the minute at its end. That is 160 times in a minute at
/// most, whatever comes. Clones share everything.
#[derive(Clone)]
pub struct Handshakes(Arc<Inner>);

struct Inner {
    tell: Box<dyn Fn(RefusedHandshake) + Send + Sync>,
    seen: Mutex<BTreeMap<(PeerReason, Option<IpAddr>), More>>,
}

/// What is not told yet.
struct More {
    count: u64,
    detail: String,
}

impl Default for Handshakes {
    /// In the log alone.
    fn default() -> Self {
        Self::telling(|_| ())
    }
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshakes")
    }
}

impl Handshakes {
    /// In the log, and to `tell`, which must not block.
    pub fn telling(tell: impl Fn(RefusedHandshake) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { tell: Box::new(tell), seen: Mutex::default() }))
    }

    /// A handshake that failed; nothing is told of what failed on something else than a certificate.
    pub(super) fn failed(&self, from: IpAddr, error: &io::Error) {
        let error_of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(reason) = error_of_tls.and_then(zen_pki::refusal_reason) {
            self.refused(reason, from, zen_pki::explain(error));
        }
    }

    fn refused(&self, reason: PeerReason, from: IpAddr, detail: String) {
        let mut seen = self.seen();
        if seen.is_empty() {
            let this = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WINDOW).await;
                this.rest();
            });
        }
        let alone = (reason, Some(from));
        let key = if seen.contains_key(&alone) || seen.len() < PAIRS { alone } else { (reason, None) };
        if let Some(more) = seen.get_mut(&key) {
            (more.count, more.detail) = (more.count + 1, detail);
            return;
        }
        seen.insert(key, More { count: 0, detail: String::new() });
        drop(seen);
        self.tell(RefusedHandshake { reason, from: key.1, count: 1, detail });
    }

    /// The end of a minute.
    fn rest(&self) {
        let seen = std::mem::take(&mut *self.seen());
        for ((reason, from), More { count, detail }) in seen.into_iter().filter(|(_, more)| more.count > 0) {
            self.tell(RefusedHandshake { reason, from, count, detail });
        }
    }

    fn tell(&self, refused: RefusedHandshake) {
        let from = refused.from.map_or_else(|| "many".to_owned(), |from| from.to_string());
        let RefusedHandshake { reason, count, detail, .. } = &refused;
        tracing::warn!(code = reason.code(), from, count, reason = detail, "a handshake was refused");
        (self.0.tell)(refused);
    }

    fn seen(&self) -> MutexGuard<'_, BTreeMap<(PeerReason, Option<IpAddr>), More>> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    type Told = Arc<Mutex<Vec<(Option<IpAddr>, u64)>>>;

    fn kept() -> (Handshakes, Told) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&told);
        let tell = move |it: RefusedHandshake| keeps.lock().expect("kept").push((it.from, it.count));
        (Handshakes::telling(tell), told)
    }

    fn from(number: u32) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn what_repeats_is_counted() {
        let (handshakes, told) = kept();
        let refuse = |number| handshakes.refused(PeerReason::IssuerUnknown, from(number), "x".to_owned());
        for _ in 0..1000 {
            refuse(1);
        }
        refuse(2);
        assert_eq!(*told.lock().expect("kept"), [(Some(from(1)), 1), (Some(from(2)), 1)], "the first of each at once");
        tokio::time::sleep(WINDOW + Duration::from_secs(1)).await;
        assert_eq!(told.lock().expect("kept")[2..], [(Some(from(1)), 999)], "and the rest at the end of the minute");
        tokio::time::sleep(WINDOW * 3).await;
        assert_eq!(told.lock().expect("kept").len(), 3);
        refuse(1);
        assert_eq!(told.lock().expect("kept")[3..], [(Some(from(1)), 1)], "another minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_everywhere_is_a_handful_and_nothing_is_lost() {
        let (handshakes, told) = kept();
        for reason in PeerReason::ALL {
            for number in 0..500 {
                handshakes.refused(reason, from(number), "x".to_owned());
                handshakes.refused(reason, from(number), "x".to_owned());
            }
        }
        tokio::time::sleep(WINDOW + Duration::from_secs(1)).await;
        let told = told.lock().expect("kept");
        assert!(told.len() <= 160, "{}", told.len());
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>(), 16 * 1000);
    }

    #[tokio::test]
    async fn only_certificates_count() {
        let (handshakes, told) = kept();
        let of = |error: rustls::Error| io::Error::other(error);
        handshakes.failed(from(1), &of(rustls::Error::DecryptError));
        handshakes.failed(from(1), &io::Error::other("cut"));
        assert!(told.lock().expect("kept").is_empty());
        handshakes.failed(from(1), &of(rustls::Error::NoCertificatesPresented));
        assert_eq!(told.lock().expect("kept").len(), 1);
    }
}
