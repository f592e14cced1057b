//! Certificates renew themselves at two thirds of their lifetime.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use zen_model::Timestamp;

use crate::{Error, HotCertificate, Identity, KeyPairAndChain, Validity};

/// The wall clock is looked at least this often: timers stand still while a laptop sleeps, certificates do not.
const LOOK: Duration = Duration::from_mins(1);

/// Something whose certificate can be exchanged in use.
pub trait Renewable {
    /// When the certificate in use is good.
    fn validity(&self) -> Validity;
    /// Uses another from now on.
    fn replace(&self, certificate: &KeyPairAndChain) -> Result<(), Error>;
}

impl Renewable for Identity {
    fn validity(&self) -> Validity {
        Self::validity(self)
    }

    fn replace(&self, certificate: &KeyPairAndChain) -> Result<(), Error> {
        Self::replace(self, certificate)
    }
}

impl Renewable for HotCertificate {
    fn validity(&self) -> Validity {
        Self::validity(self)
    }

    fn replace(&self, certificate: &KeyPairAndChain) -> Result<(), Error> {
        Self::replace(self, certificate)
    }
}

/// Renews for as long as it is polled; drop it to stop. A failure is logged and tried again well before the certificate
/// ends; the one in use stays.
pub async fn keep_fresh<T, F, E>(target: &T, issue: impl FnMut() -> F)
where
    T: Renewable,
    F: Future<Output = Result<KeyPairAndChain, E>>,
    E: Display,
{
    keep_fresh_by(target, issue, Timestamp::now).await;
}

/// As [`keep_fresh`] by another wall clock, for tests.
pub async fn keep_fresh_by<T, F, E>(target: &T, mut issue: impl FnMut() -> F, clock: impl Fn() -> Timestamp)
where
    T: Renewable,
    F: Future<Output = Result<KeyPairAndChain, E>>,
    E: Display,
{
    let mut failures = 0_u32;
    loop {
        let validity = target.validity();
        sleep_until(renewal(&validity), &clock).await;
        let renewed = match issue().await {
            Ok(certificate) => target.replace(&certificate).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match renewed {
            Ok(()) => {
                failures = 0;
                tracing::debug!(until = %target.validity().until, "certificate renewed");
            }
            Err(reason) => {
                failures = failures.saturating_add(1);
                tracing::warn!(%reason, until = %validity.until, "failed to renew a certificate; the one in use stays");
            }
        }
        tokio::time::sleep(pause(target.validity().until.since(clock()), failures)).await;
    }
}

/// Until the next look. After a failure the certificate is due at once: a twentieth of what remains tries often enough, and
/// ever more rarely once nothing remains. A success that is due at once again (a lifetime of seconds, or a CA at its
/// end) must not spin either.
pub fn pause(remaining: Duration, failures: u32) -> Duration {
    let pause = if remaining.is_zero() {
        Duration::from_secs(1) * 2_u32.saturating_pow(failures.saturating_sub(1).min(5))
    } else {
        (remaining / 20).clamp(Duration::from_secs(1), LOOK)
    };
    // Replicas that failed together must not come back together.
    pause.mul_f64(0.75 + fastrand::f64() / 4.0)
}

/// Two thirds of the lifetime, up to a tenth of it earlier, so that replicas of one age do not ask at one time.
pub fn renewal(validity: &Validity) -> Timestamp {
    let due = validity.renew_at();
    let early = u64::try_from(validity.until.since(validity.from).as_millis() / 10).unwrap_or(0);
    Timestamp(due.0.saturating_sub(fastrand::u64(0..=early)).max(validity.from.0))
}

async fn sleep_until(due: Timestamp, clock: &impl Fn() -> Timestamp) {
    loop {
        let wait = due.since(clock());
        if wait.is_zero() {
            return;
        }
        tokio::time::sleep(wait.min(LOOK)).await;
    }
}
