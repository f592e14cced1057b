//! What the leader of a member has to do next, pure: one step at a time, each from what is there.

use std::time::Duration;

use zen_enroll::Stamp;
use zen_model::Timestamp;

use super::state::Purpose;

/// Between two questions to the hub.
pub(super) const SYNC: Duration = Duration::from_secs(30);

/// What is there.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The key that bundles are sealed to.
    pub(super) identity: Found<()>,
    /// Whether its public half is published.
    pub(super) is_published: bool,
    /// The bundle, opened.
    pub(super) bundle: Bundle,
    /// A key that waits for its certificate.
    pub(super) pending: Option<PendingKey>,
    /// What the hub gave.
    pub(super) agent: Found<Held>,
    /// The issuing CA in use.
    pub(super) issuer: Issuer,
    /// Whether the trust bundle is what the hub gave.
    pub(super) trust_is_current: bool,
    /// Whether the planes have the keys that the hub gave.
    pub(super) keys_are_current: bool,
    /// When the hub is to be asked again.
    pub(super) ask_at: Timestamp,
    pub(super) now: Timestamp,
}

/// Something that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found<T> {
    Missing,
    /// There, and of no use; the reason in words.
    Unusable(String),
    There(T),
}

/// The bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bundle {
    None,
    /// Not to be used; it is said, and changes nothing else.
    Refused,
    /// To be redeemed, unless it was.
    Open(Stamp),
    /// The hub said no to it, or it did not answer; not again before then.
    Held(Stamp, Timestamp),
}

/// A key that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PendingKey {
    pub(super) purpose: Purpose,
    /// Whether it is the key of the certificate that the hub gave last.
    pub(super) is_signed: bool,
}

/// What the hub gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The bundle that was redeemed.
    pub(super) stamp: Stamp,
    /// Names the certificate of the issuing CA.
    pub(super) issued: String,
    /// When that is to be renewed.
    pub(super) renew_at: Timestamp,
    /// When it ends.
    pub(super) until: Timestamp,
}

/// The issuing CA in its Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Issuer {
    Missing,
    /// The one that the hub gave last.
    Current,
    /// One of this cluster, that the hub gave before; or one of no use.
    Other,
    /// One that was not given by a hub: this cluster was a hub itself.
    Foreign,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing can be done until somebody mends this.
    Blocked(String),
    /// The key that bundles are sealed to, once.
    MakeIdentity,
    PublishRecipient,
    /// The key of an issuing CA, stored before anybody signs it.
    MakePending(Purpose),
    Redeem,
    ApplyTrust,
    /// The signed key takes the place of the one before.
    ApplyIssuer,
    ApplyKeys,
    /// It is in use, or for nothing.
    DropPending,
    /// Ask the hub what changed, and with `renew` for a certificate for the pending key.
    Sync {
        renew: bool,
    },
    /// There is no way back to the hub but a new bundle; why.
    NeedBundle(&'static str),
    /// Nothing, before this time or a change.
    Rest(Timestamp),
}

pub(super) const ENDED: &str = "the issuing CA has ended while the hub did not renew it";
pub(super) const LOST: &str = "the key of the issuing CA is lost";
pub(super) const NONE: &str = "this cluster is not enrolled";

pub(super) fn decide(facts: &Facts) -> Step {
    match &facts.identity {
        Found::Missing => return Step::MakeIdentity,
        Found::Unusable(reason) => return Step::Blocked(reason.clone()),
        Found::There(()) => {}
    }
    if !facts.is_published {
        return Step::PublishRecipient;
    }
    if facts.issuer == Issuer::Foreign {
        return Step::Blocked(
            "the Secret zen-mesh-issuer is of a mesh with a root of its own: a member is installed in a namespace without one. \
             To make this cluster a member, delete the Secrets zen-mesh-issuer and zen-mesh-ca"
                .to_owned(),
        );
    }
    let agent = match &facts.agent {
        Found::There(agent) => Some(agent),
        // Without it nothing is known of the hub; a bundle brings it back.
        Found::Missing | Found::Unusable(_) => None,
    };
    if let Some(step) = redeem(facts, agent) {
        return step;
    }
    let Some(agent) = agent else {
        return match (&facts.bundle, &facts.agent) {
            (Bundle::Held(_, until), _) => Step::Rest(*until),
            (_, Found::Unusable(reason)) => Step::Blocked(reason.clone()),
            _ => Step::NeedBundle(NONE),
        };
    };
    // Pods learn of a root before anything is signed under it.
    if !facts.trust_is_current {
        return Step::ApplyTrust;
    }
    match (&facts.issuer, &facts.pending) {
        (Issuer::Current, _) => {}
        (_, Some(PendingKey { is_signed: true, .. })) => return Step::ApplyIssuer,
        _ => return Step::NeedBundle(LOST),
    }
    if !facts.keys_are_current {
        return Step::ApplyKeys;
    }
    if facts.now >= agent.until {
        return Step::NeedBundle(ENDED);
    }
    keep(facts, agent)
}

/// What a bundle that is not redeemed yet calls for.
fn redeem(facts: &Facts, agent: Option<&Held>) -> Option<Step> {
    let (stamp, held) = match &facts.bundle {
        Bundle::None | Bundle::Refused => return None,
        Bundle::Open(stamp) => (stamp, false),
        Bundle::Held(stamp, until) => (stamp, facts.now < *until),
    };
    if agent.is_some_and(|agent| agent.stamp == *stamp) || held {
        return None;
    }
    let purpose = Purpose::Bundle(stamp.clone());
    let is_pending = facts.pending.as_ref().is_some_and(|pending| pending.purpose == purpose);
    Some(if is_pending { Step::Redeem } else { Step::MakePending(purpose) })
}

/// Everything is in its place: what is due with time.
fn keep(facts: &Facts, agent: &Held) -> Step {
    let renewal = Purpose::Renewal(agent.issued.clone());
    let is_due = facts.now >= agent.renew_at;
    match &facts.pending {
        Some(pending) if is_due && pending.purpose == renewal => {}
        _ if is_due && facts.now >= facts.ask_at => return Step::MakePending(renewal),
        // A bundle that the hub does not answer for may still be answered: its key stays.
        Some(pending) if !is_due && !waits(facts, pending) => return Step::DropPending,
        _ => {}
    }
    if facts.now < facts.ask_at {
        return Step::Rest(facts.ask_at);
    }
    Step::Sync { renew: is_due }
}

fn waits(facts: &Facts, pending: &PendingKey) -> bool {
    matches!((&facts.bundle, &pending.purpose), (Bundle::Held(held, _), Purpose::Bundle(stamp)) if held == stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn stamp(bundle: &str) -> Stamp {
        Stamp { uid: "u".to_owned(), bundle: bundle.to_owned(), issued_at: Timestamp::from_secs(0) }
    }

    fn held() -> Held {
        Held {
            stamp: stamp("1"),
            issued: "first".to_owned(),
            renew_at: Timestamp::from_secs(60 * DAY),
            until: Timestamp::from_secs(90 * DAY),
        }
    }

    /// Enrolled with bundle 1, which still lies there; asked a moment ago.
    fn good() -> Facts {
        Facts {
            identity: Found::There(()),
            is_published: true,
            bundle: Bundle::Open(stamp("1")),
            pending: None,
            agent: Found::There(held()),
            issuer: Issuer::Current,
            trust_is_current: true,
            keys_are_current: true,
            ask_at: Timestamp::from_secs(DAY + 30),
            now: Timestamp::from_secs(DAY),
        }
    }

    /// Nothing of a hub is there.
    fn fresh() -> Facts {
        Facts {
            bundle: Bundle::None,
            agent: Found::Missing,
            issuer: Issuer::Missing,
            trust_is_current: false,
            keys_are_current: false,
            ..good()
        }
    }

    fn key(purpose: Purpose, is_signed: bool) -> PendingKey {
        PendingKey { purpose, is_signed }
    }

    fn of_bundle(bundle: &str) -> Purpose {
        Purpose::Bundle(stamp(bundle))
    }

    fn renewal() -> Purpose {
        Purpose::Renewal("first".to_owned())
    }

    fn at(facts: Facts, day: u64, asked: u64) -> Facts {
        Facts { now: Timestamp::from_secs(day * DAY), ask_at: Timestamp::from_secs(asked * DAY), ..facts }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table")]
    fn one_step_at_a_time() {
        let asked = Timestamp::from_secs(DAY + 30);
        let later = Timestamp::from_secs(2 * DAY);
        let why = || Found::Unusable("why".to_owned());
        let blocked = || Step::Blocked("why".to_owned());
        let rows: Vec<(&str, Facts, Step)> = vec![
            ("nothing is there", Facts { identity: Found::Missing, ..fresh() }, Step::MakeIdentity),
            (
                "a key for bundles that cannot be read is left alone",
                Facts { identity: Found::Unusable("why".to_owned()), ..fresh() },
                blocked(),
            ),
            ("its public half", Facts { is_published: false, ..fresh() }, Step::PublishRecipient),
            ("no bundle yet", fresh(), Step::NeedBundle(NONE)),
            ("a bundle of no use", Facts { bundle: Bundle::Refused, ..fresh() }, Step::NeedBundle(NONE)),
            ("a bundle", Facts { bundle: Bundle::Open(stamp("1")), ..fresh() }, Step::MakePending(of_bundle("1"))),
            (
                "a bundle, and a key for another one",
                Facts { bundle: Bundle::Open(stamp("1")), pending: Some(key(of_bundle("0"), false)), ..fresh() },
                Step::MakePending(of_bundle("1")),
            ),
            (
                "a bundle, and its key",
                Facts { bundle: Bundle::Open(stamp("1")), pending: Some(key(of_bundle("1"), false)), ..fresh() },
                Step::Redeem,
            ),
            (
                "a bundle that the hub refused",
                Facts { bundle: Bundle::Held(stamp("1"), later), pending: Some(key(of_bundle("1"), false)), ..fresh() },
                Step::Rest(later),
            ),
            (
                "and after a while",
                Facts {
                    bundle: Bundle::Held(stamp("1"), Timestamp::from_secs(DAY)),
                    pending: Some(key(of_bundle("1"), false)),
                    ..fresh()
                },
                Step::Redeem,
            ),
            ("a mesh of its own is not overwritten", Facts { issuer: Issuer::Foreign, ..fresh() }, {
                let Step::Blocked(text) = decide(&Facts { issuer: Issuer::Foreign, ..fresh() }) else { panic!() };
                assert!(text.contains("zen-mesh-ca"), "{text}");
                Step::Blocked(text)
            }),
            ("what the hub gave cannot be read", Facts { agent: why(), bundle: Bundle::None, ..good() }, blocked()),
            (
                "and a bundle brings it back",
                Facts { agent: why(), bundle: Bundle::Open(stamp("2")), ..good() },
                Step::MakePending(of_bundle("2")),
            ),
            (
                "redeemed: the trust bundle first",
                Facts {
                    trust_is_current: false,
                    keys_are_current: false,
                    issuer: Issuer::Missing,
                    pending: Some(key(of_bundle("1"), true)),
                    ..good()
                },
                Step::ApplyTrust,
            ),
            (
                "then the issuing CA",
                Facts {
                    keys_are_current: false,
                    issuer: Issuer::Missing,
                    pending: Some(key(of_bundle("1"), true)),
                    ..good()
                },
                Step::ApplyIssuer,
            ),
            (
                "then the keys",
                Facts { keys_are_current: false, pending: Some(key(of_bundle("1"), true)), ..good() },
                Step::ApplyKeys,
            ),
            (
                "then the pending key is in use and goes",
                Facts { pending: Some(key(of_bundle("1"), true)), ..good() },
                Step::DropPending,
            ),
            ("all is well", good(), Step::Rest(asked)),
            ("the bundle may go", Facts { bundle: Bundle::None, ..good() }, Step::Rest(asked)),
            ("a bundle of no use changes nothing", Facts { bundle: Bundle::Refused, ..good() }, Step::Rest(asked)),
            (
                "a bundle that is refused keeps its key, and nothing else waits for it",
                Facts { bundle: Bundle::Held(stamp("2"), later), pending: Some(key(of_bundle("2"), false)), ..good() },
                Step::Rest(asked),
            ),
            (
                "another bundle enrolls anew",
                Facts { bundle: Bundle::Open(stamp("2")), ..good() },
                Step::MakePending(of_bundle("2")),
            ),
            ("a trust bundle that drifted", Facts { trust_is_current: false, ..good() }, Step::ApplyTrust),
            ("keys that drifted", Facts { keys_are_current: false, ..good() }, Step::ApplyKeys),
            ("an issuing key that is lost", Facts { issuer: Issuer::Missing, ..good() }, Step::NeedBundle(LOST)),
            ("and one that does not fit", Facts { issuer: Issuer::Other, ..good() }, Step::NeedBundle(LOST)),
            ("time to ask", at(good(), 2, 1), Step::Sync { renew: false }),
            ("due: a new key first", at(good(), 60, 60), Step::MakePending(renewal())),
            (
                "due: an old key of another time",
                at(Facts { pending: Some(key(of_bundle("1"), true)), ..good() }, 60, 60),
                Step::MakePending(renewal()),
            ),
            (
                "due, and the key is there",
                at(Facts { pending: Some(key(renewal(), false)), ..good() }, 60, 60),
                Step::Sync { renew: true },
            ),
            (
                "due, and the hub did not answer a moment ago",
                at(Facts { pending: Some(key(renewal(), false)), ..good() }, 60, 61),
                Step::Rest(Timestamp::from_secs(61 * DAY)),
            ),
            (
                "renewed: the signed key takes the place",
                at(Facts { pending: Some(key(renewal(), true)), issuer: Issuer::Other, ..good() }, 60, 61),
                Step::ApplyIssuer,
            ),
            ("ended", at(good(), 90, 90), Step::NeedBundle(ENDED)),
            (
                "ended, and a new bundle",
                at(Facts { bundle: Bundle::Open(stamp("2")), ..good() }, 90, 90),
                Step::MakePending(of_bundle("2")),
            ),
        ];
        for (what, facts, step) in rows {
            assert_eq!(decide(&facts), step, "{what}");
        }
    }
}
