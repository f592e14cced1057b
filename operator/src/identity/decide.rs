//! What the leader has to do next, pure: one step at a time, each from what is there.

use zen_model::Timestamp;
use zen_pki::Validity;

use super::source::Found;

/// What is there.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub(super) struct Facts {
    /// The root, and whether one may be made.
    pub(super) root: Found<()>,
    pub(super) may_make_root: bool,
    /// Whether there is one that was to take its place.
    pub(super) next_root_is_there: bool,
    pub(super) issuer: Found<Issuer>,
    /// Whether the issuing CA beneath the root that comes has to be replaced: an exchange may wait for months for a member.
    pub(super) next_issuer_is_due: bool,
    /// Whether the trust bundle is the root's.
    pub(super) bundle_is_current: bool,
    pub(super) now: Timestamp,
}

/// The issuing CA that is there.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub(super) struct Issuer {
    pub(super) validity: Validity,
    /// Whether its key is stored as the custody of the root asks for, and under this root's key.
    pub(super) is_stored_right: bool,
    /// Whether it verifies under the root.
    pub(super) is_of_root: bool,
    /// Whether it says that it vouches for the hub's workloads of this trust domain. One of a release before scopes does not
    /// say so, and one that was made before the trust domain changed says it of another.
    pub(super) is_of_mesh: bool,
    /// Whether it is exchanged in steps when two thirds of its lifetime are over (T-04). Then it is replaced at once only where
    /// that did not come about.
    pub(super) rotates: bool,
}

impl Issuer {
    fn due(&self) -> Timestamp {
        if self.rotates { late(&self.validity) } else { self.validity.renew_at() }
    }
}

/// When an issuing CA is replaced that was to be exchanged in steps: half of what was left for that is over.
pub(super) fn late(validity: &Validity) -> Timestamp {
    let due = validity.renew_at();
    due.plus(validity.until.since(due) / 2)
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing can be done until somebody mends this.
    Blocked(String),
    MakeRoot,
    /// The one that was to take the place of the root that is gone: an exchange goes on, or was hurried by who deleted the old.
    AdoptRoot,
    MakeIssuer,
    /// In place of the one that is there, and why.
    ReplaceIssuer(&'static str),
    /// The one that comes with the next root, which pods use already.
    ReplaceNextIssuer,
    ApplyBundle,
    /// Nothing, before this time or a change.
    Rest(Timestamp),
}

pub(super) fn decide(facts: &Facts) -> Step {
    match &facts.root {
        Found::Unusable(reason) => return Step::Blocked(reason.clone()),
        Found::Missing if facts.next_root_is_there => return Step::AdoptRoot,
        Found::Missing if facts.may_make_root => return Step::MakeRoot,
        Found::Missing => return Step::Blocked("the root CA is not where the operator is told to look".to_owned()),
        Found::There(()) => {}
    }
    // Pods learn of a root before anything is signed under it.
    if !facts.bundle_is_current {
        return Step::ApplyBundle;
    }
    match &facts.issuer {
        Found::Missing => Step::MakeIssuer,
        // Never written over: it may be somebody's only copy.
        Found::Unusable(reason) => Step::Blocked(reason.clone()),
        Found::There(issuer) if !issuer.is_stored_right => {
            Step::ReplaceIssuer("its key is not stored as the custody of this root asks for")
        }
        Found::There(issuer) if !issuer.is_of_root => Step::ReplaceIssuer("it was signed by another root"),
        Found::There(issuer) if !issuer.is_of_mesh => {
            Step::ReplaceIssuer("it does not say that it vouches for this trust domain")
        }
        Found::There(issuer) if facts.now >= issuer.due() => Step::ReplaceIssuer("its lifetime is nearly over"),
        Found::There(_) if facts.next_issuer_is_due => Step::ReplaceNextIssuer,
        Found::There(issuer) => Step::Rest(issuer.due()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn good() -> Facts {
        let validity = Validity { from: Timestamp::from_secs(0), until: Timestamp::from_secs(300 + 90 * DAY) };
        Facts {
            root: Found::There(()),
            may_make_root: true,
            next_root_is_there: false,
            issuer: Found::There(Issuer {
                validity,
                is_stored_right: true,
                is_of_root: true,
                is_of_mesh: true,
                rotates: false,
            }),
            next_issuer_is_due: false,
            bundle_is_current: true,
            now: Timestamp::from_secs(DAY),
        }
    }

    fn of_another_root() -> Found<Issuer> {
        let Found::There(issuer) = good().issuer else { return Found::Missing };
        Found::There(Issuer { is_of_root: false, ..issuer })
    }

    fn of_another_mesh() -> Found<Issuer> {
        let Found::There(issuer) = good().issuer else { return Found::Missing };
        Found::There(Issuer { is_of_mesh: false, ..issuer })
    }

    /// At two thirds it is rotated: half of what is left then is for that.
    fn rotated() -> Found<Issuer> {
        let Found::There(issuer) = good().issuer else { return Found::Missing };
        Found::There(Issuer { rotates: true, ..issuer })
    }

    fn stored_wrong() -> Found<Issuer> {
        let Found::There(issuer) = good().issuer else { return Found::Missing };
        Found::There(Issuer { is_stored_right: false, ..issuer })
    }

    #[test]
    fn one_step_at_a_time() {
        let due = Timestamp::from_secs(300 + 60 * DAY);
        let late = Timestamp::from_secs(300 + 75 * DAY);
        let words = || Found::Unusable("why".to_owned());
        let rows: Vec<(&str, Facts, Step)> = vec![
            ("all is well", good(), Step::Rest(due)),
            (
                "nothing is there",
                Facts { root: Found::Missing, issuer: Found::Missing, bundle_is_current: false, ..good() },
                Step::MakeRoot,
            ),
            (
                "a root that is lost is made anew before anything else",
                Facts { root: Found::Missing, ..good() },
                Step::MakeRoot,
            ),
            (
                "a root that is gone while another was to take its place",
                Facts { root: Found::Missing, next_root_is_there: true, bundle_is_current: false, ..good() },
                Step::AdoptRoot,
            ),
            ("a root that is there is kept", Facts { next_root_is_there: true, ..good() }, Step::Rest(due)),
            (
                "one that cannot be read is left alone all the same",
                Facts { root: Found::Unusable("why".to_owned()), next_root_is_there: true, ..good() },
                Step::Blocked("why".to_owned()),
            ),
            (
                "a folder is never written to",
                Facts { root: Found::Missing, may_make_root: false, ..good() },
                Step::Blocked("the root CA is not where the operator is told to look".to_owned()),
            ),
            (
                "a root that cannot be read is left alone",
                Facts { root: Found::Unusable("why".to_owned()), ..good() },
                Step::Blocked("why".to_owned()),
            ),
            (
                "the bundle comes before the issuer",
                Facts { bundle_is_current: false, issuer: Found::Missing, ..good() },
                Step::ApplyBundle,
            ),
            ("a bundle that drifted", Facts { bundle_is_current: false, ..good() }, Step::ApplyBundle),
            ("no issuer", Facts { issuer: Found::Missing, ..good() }, Step::MakeIssuer),
            (
                "an issuer that cannot be read is left alone",
                Facts { issuer: words(), ..good() },
                Step::Blocked("why".to_owned()),
            ),
            (
                "an issuer whose key others could read, or that nobody can",
                Facts { issuer: stored_wrong(), ..good() },
                Step::ReplaceIssuer("its key is not stored as the custody of this root asks for"),
            ),
            (
                "an issuer of another root",
                Facts { issuer: of_another_root(), ..good() },
                Step::ReplaceIssuer("it was signed by another root"),
            ),
            (
                "an issuer of a release before scopes, or of another trust domain",
                Facts { issuer: of_another_mesh(), ..good() },
                Step::ReplaceIssuer("it does not say that it vouches for this trust domain"),
            ),
            (
                "an exchange of the root that waits for months",
                Facts { next_issuer_is_due: true, ..good() },
                Step::ReplaceNextIssuer,
            ),
            ("due, and rotated", Facts { now: due, issuer: rotated(), ..good() }, Step::Rest(late)),
            (
                "due for long, and not rotated",
                Facts { now: late, issuer: rotated(), ..good() },
                Step::ReplaceIssuer("its lifetime is nearly over"),
            ),
            ("just before it is due", Facts { now: Timestamp(due.0 - 1), ..good() }, Step::Rest(due)),
            ("due", Facts { now: due, ..good() }, Step::ReplaceIssuer("its lifetime is nearly over")),
        ];
        for (what, facts, step) in rows {
            assert_eq!(decide(&facts), step, "{what}");
        }
    }
}
