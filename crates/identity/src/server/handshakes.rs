//! Handshakes that were refused because of the peer's certificate: told to whoever keeps the record, so seldom that a flood of them
//! fills no disk (T-05, A-01).

use std::fmt;
use std::io;
use std::net::IpAddr;

use zen_model::reason::PeerReason;

use super::repeats::{Repeated, Repeats};

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
pub struct Handshakes(Repeats<PeerReason, IpAddr, String>);

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
        Self(Repeats::telling(move |told: Repeated<PeerReason, IpAddr, String>| {
            let Repeated { what: reason, who, count, detail } = told;
            let from = who.map_or_else(|| "many".to_owned(), |from| from.to_string());
            tracing::warn!(code = reason.code(), from, count, reason = detail, "a handshake was refused");
            tell(RefusedHandshake { reason, from: who, count, detail });
        }))
    }

    /// A handshake that failed; nothing is told of what failed on something else than a certificate.
    pub fn failed(&self, from: IpAddr, error: &io::Error) {
        let error_of_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(reason) = error_of_tls.and_then(zen_pki::refusal_reason) {
            self.0.happened(reason, from, zen_pki::explain(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_certificates_count_and_what_repeats_is_counted() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let keeps = Arc::clone(&told);
        let handshakes =
            Handshakes::telling(move |it| keeps.lock().expect("kept").push((it.reason, it.from, it.count)));
        let from = Ipv4Addr::LOCALHOST.into();
        let failed = |error: rustls::Error| handshakes.failed(from, &io::Error::other(error));
        failed(rustls::Error::DecryptError);
        handshakes.failed(from, &io::Error::other("cut"));
        assert!(told.lock().expect("kept").is_empty());
        for _ in 0..3 {
            failed(rustls::Error::NoCertificatesPresented);
        }
        tokio::time::sleep(super::super::repeats::WINDOW * 2).await;
        let missing = |count| (PeerReason::CertificateMissing, Some(from), count);
        assert_eq!(*told.lock().expect("kept"), [missing(1), missing(2)]);
    }
}
