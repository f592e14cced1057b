//! What the hub answers, before it is stored: a hub that is wrong, or somebody in its place, costs nothing that works.

use zen_enroll::{Answer, Opened, Synced};
use zen_model::{ClusterId, Timestamp};
use zen_pki::TrustDomain;

use super::hub::Error;
use super::state::{Agent, Pending};

/// Of a bundle that was redeemed.
pub(super) fn redeemed(
    opened: &Opened,
    answer: Answer,
    pending: &Pending,
    domain: &TrustDomain,
    now: Timestamp,
) -> Result<Agent, Error> {
    let agent = Agent {
        cluster: opened.cluster.clone(),
        trust_domain: opened.clear.trust_domain.clone(),
        hub: opened.clear.hub.clone(),
        stamp: opened.stamp.clone(),
        issued: answer.issued,
        given: answer.given,
    };
    check(&agent)?;
    pending.with(&agent, domain, now).map_err(Error::Answer)?;
    Ok(agent)
}

/// Of a question for what changed. `in_use` says whether the issuing CA in use stays good with an answer's roots.
pub(super) fn synced(
    agent: &Agent,
    synced: Synced,
    pending: Option<&Pending>,
    domain: &TrustDomain,
    now: Timestamp,
    in_use: impl Fn(&Agent) -> Result<(), String>,
) -> Result<Agent, Error> {
    let mut next = Agent { given: synced.given, ..agent.clone() };
    check(&next)?;
    match (synced.issued, pending) {
        (Some(issued), Some(pending)) => {
            next.issued = issued;
            pending.with(&next, domain, now).map_err(Error::Answer)?;
        }
        // Roots that do not cover what pods present would cut them all off.
        _ => in_use(&next).map_err(Error::Answer)?,
    }
    Ok(next)
}

fn check(agent: &Agent) -> Result<(), Error> {
    let wrong = |what: &str| Err(Error::Answer(what.to_owned()));
    if agent.keys().is_none() {
        return wrong("it has no keys of this cluster");
    }
    let is_address = |text: &str| {
        let (host, port) = text.rsplit_once(':').unwrap_or_default();
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if agent.given.relay.as_deref().is_some_and(|relay| !is_address(relay)) {
        return wrong("its relay is not <host>:<port>");
    }
    Ok(())
}

/// Whether an enrolled cluster may become this one: anybody who brings a new bundle may say so, for the hub of the roots that
/// are expected decides.
pub(super) fn is_another(agent: Option<&Agent>, cluster: &ClusterId) -> bool {
    agent.is_some_and(|agent| agent.cluster != *cluster)
}
