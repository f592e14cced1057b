//! How requests fare, by the pods' metrics.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use zen_identity::Component;
use zen_model::reason::Refusal;
use zen_rotation::Rate;
use zen_runtime::metrics::value;

/// Metrics are answered in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Refusals that no user brought about.
const OWN: [Refusal; 2] = [Refusal::Overloaded, Refusal::QueueUnavailable];
/// Larger metrics are not read.
const MAX: u64 = 16 << 20;

/// The text at `/metrics`.
pub(super) async fn fetch(admin: std::net::SocketAddr) -> Option<String> {
    let read = async {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(format!("GET /metrics HTTP/1.0\r\nhost: {admin}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = String::from_utf8(timeout(TIMEOUT, read).await.ok()?.ok()?).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
}

/// What is ours to answer for: requests that the intake could not store, deliveries that ended on our side. What a target or a
/// source does wrong is not.
pub(super) fn rate(component: Component, text: &str) -> Option<Rate> {
    let sum = |name: &str, labels: &[(&str, &str)]| count(value(text, name, labels).unwrap_or_default());
    match component {
        Component::Ingester => {
            let refused = |reason: &Refusal| sum("zen_ingester_refusals_total", &[("code", reason.code())]);
            let failures = OWN.iter().map(refused).sum();
            let all = ["accepted", "duplicates", "refusals"];
            let requests = all.iter().map(|name| sum(&format!("zen_ingester_{name}_total"), &[])).sum();
            Some(Rate { requests, failures })
        }
        Component::Egress => {
            let own = sum("zen_egress_attempts_total", &[("class", "our_fault")]);
            let failures = own + sum("zen_egress_signature_failures_total", &[]);
            let requests = sum("zen_egress_attempts_total", &[]) + sum("zen_egress_signature_failures_total", &[]);
            Some(Rate { requests, failures })
        }
        Component::Operator | Component::ZenLock | Component::Audit => None,
    }
}

/// Counters are whole; what is none counts for nothing.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole, and bounded here")]
pub(super) fn count(value: f64) -> u64 {
    value.clamp(0.0, 9e15) as u64
}

/// What came between two looks; a pod that began anew counts from its beginning.
pub(super) fn between(before: Rate, now: Rate) -> Rate {
    if now.requests < before.requests || now.failures < before.failures {
        return now;
    }
    Rate { requests: now.requests - before.requests, failures: now.failures - before.failures }
}

/// Together.
pub(super) fn total(rates: impl IntoIterator<Item = Rate>) -> Rate {
    rates.into_iter().fold(Rate::default(), |sum, rate| Rate {
        requests: sum.requests + rate.requests,
        failures: sum.failures + rate.failures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_to_answer_for_is_a_failure() {
        let text = "\
# TYPE zen_ingester_accepted counter
zen_ingester_accepted_total{provider=\"github\"} 90
zen_ingester_accepted_total{provider=\"stripe\"} 5
# TYPE zen_ingester_refusals counter
zen_ingester_refusals_total{code=\"SignatureMismatch\"} 4
zen_ingester_refusals_total{code=\"QueueUnavailable\"} 0
# EOF
";
        let rate_of = |text: &str| rate(Component::Ingester, text).expect("an ingester");
        assert_eq!(rate_of(text), Rate { requests: 99, failures: 0 });
        let failing = text.replace("QueueUnavailable\"} 0", "QueueUnavailable\"} 7");
        assert_eq!(rate_of(&failing), Rate { requests: 106, failures: 7 });
        assert_eq!(rate_of("nonsense"), Rate::default());
        let egress = "\
# TYPE zen_egress_attempts counter
zen_egress_attempts_total{destination=\"a/b\",class=\"transient\"} 7
zen_egress_attempts_total{destination=\"a/b\",class=\"our_fault\"} 2
# TYPE zen_egress_signature_failures counter
zen_egress_signature_failures_total{reason=\"key\"} 1
# EOF
";
        assert_eq!(rate(Component::Egress, egress), Some(Rate { requests: 10, failures: 3 }));
    }

    #[test]
    fn a_pod_that_began_anew_counts_from_its_beginning() {
        let rate = |requests, failures| Rate { requests, failures };
        assert_eq!(between(rate(10, 1), rate(25, 3)), rate(15, 2));
        assert_eq!(between(rate(10, 1), rate(5, 0)), rate(5, 0));
        assert_eq!(total([rate(1, 0), rate(2, 1)]), rate(3, 1));
    }
}
