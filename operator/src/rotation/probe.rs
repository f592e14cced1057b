//! Probes: real handshakes, by which it is told whether the new works.

use zen_model::Timestamp;
use zen_pki::{Identity, Presented};

use super::field::{Field, Pod, Unheard};

/// A pod that does not answer is asked so often in a round of probes.
const TRIES: usize = 3;

/// What came of a round of probes.
#[derive(Debug)]
pub(super) enum Round {
    Passed,
    /// It says nothing about the new: somebody did not answer.
    Open(String),
    Failed(String),
}

impl Round {
    /// Of many, the worst.
    pub(super) fn worst(rounds: impl IntoIterator<Item = Self>) -> Self {
        rounds.into_iter().fold(Self::Passed, |worst, round| match (worst, round) {
            (failed @ Self::Failed(_), _) | (_, failed @ Self::Failed(_)) => failed,
            (open @ Self::Open(_), _) | (_, open @ Self::Open(_)) => open,
            (Self::Passed, Self::Passed) => Self::Passed,
        })
    }
}

/// One pod: as one that uses the new, where it does (`user`), and as one that meets who does.
pub(super) async fn probe<F: Field>(
    field: &F,
    pod: &Pod,
    user: Option<(Identity, Option<String>, bool)>,
    as_new: &Identity,
    now: Timestamp,
) -> Round {
    if let Some((identity, new, serves)) = user {
        let judge = |met: Result<Presented, Unheard>| match met {
            Ok(met) if met.issuer != new => Round::Open(format!("{} presents the old", pod.name)),
            Ok(met) if met.validity.from <= now && now < met.validity.until => Round::Passed,
            Ok(_) => Round::Failed(format!("{}: its certificate is of another time", pod.name)),
            Err(Unheard::Away(error)) => Round::Open(format!("{}: {error}", pod.name)),
            Err(Unheard::Refused(error)) => Round::Failed(format!("{}: {error}", pod.name)),
        };
        let met = judge(greet(field, pod, &identity).await);
        let visited = if serves { field.visit(pod).await } else { None };
        match (met, visited) {
            // Who may reach the intake is the network's to say: no answer says nothing here.
            (Round::Passed, None | Some(Err(Unheard::Away(_)))) => {}
            (Round::Passed, Some(visited)) => match judge(visited) {
                Round::Passed => {}
                other => return other,
            },
            (other, _) => return other,
        }
    }
    match greet(field, pod, as_new).await {
        Ok(_) => Round::Passed,
        Err(Unheard::Away(error)) => Round::Open(format!("{}: {error}", pod.name)),
        Err(Unheard::Refused(error)) => Round::Failed(format!("{} does not take the new: {error}", pod.name)),
    }
}

/// Once more where there is no handshake: a connection may just have broken.
pub(super) async fn greet<F: Field>(field: &F, pod: &Pod, identity: &Identity) -> Result<Presented, Unheard> {
    let mut last = field.greet(pod, identity).await;
    for _ in 1..TRIES {
        if last.is_ok() {
            break;
        }
        last = field.greet(pod, identity).await;
    }
    last
}
