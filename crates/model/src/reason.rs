//! Reason codes: one table for responses, logs, metrics, statuses and dead letters.
//!
//! `docs/reference/reasons.md` is generated from [`TABLE`]; a test of this module fails when a code has no row or two rows.

mod audit;
mod condition;
mod dead;
mod enroll;
mod link;
mod lock_reason;
mod lock_refusal;
mod object;
mod peer;
mod refusal;
mod rotation;
mod trust;

pub use audit::AuditReason;
pub use condition::ConditionReason;
pub use dead::DeadReason;
pub use enroll::EnrollRefusal;
pub use link::LinkRefusal;
pub use lock_reason::LockReason;
pub use lock_refusal::LockRefusal;
pub use object::ObjectReason;
pub use peer::PeerReason;
pub use refusal::Refusal;
pub use rotation::RotationReason;
pub use trust::TrustRefusal;

/// Where a code can appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Area {
    /// The answer of the intake to a webhook source.
    Intake,
    /// A condition of an object, a line of `zen check`.
    Object,
    /// A dead letter.
    DeadLetter,
    /// The answer of the identity service or a control API to one of our own parts.
    Trust,
    /// The answer of a hub to a cluster that would be enrolled, or a member's verdict on its bundle.
    Enroll,
    /// A handshake among our own parts that one of them broke off.
    Handshake,
    /// How an exchange of keys and certificates stands.
    Rotation,
    /// The answer of `zenlock-webhook` to the API server, to a pod or to a plane.
    Lock,
    /// An entry that the audit log writes about itself.
    Audit,
}

/// One documented code.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The stable code, in upper camel case.
    pub code: &'static str,
    /// Where it appears.
    pub area: Area,
    /// HTTP status of a refusal (intake, trust, lock); 0 elsewhere.
    pub status: u16,
    /// What happened, one sentence for people.
    pub meaning: &'static str,
    /// What to do about it.
    pub hint: &'static str,
}

/// Every code of every area, in the order of the documentation.
pub fn table() -> Vec<Row> {
    let intake = Refusal::ALL.iter().map(|refusal| refusal.row());
    let object = ObjectReason::all().map(ObjectReason::row);
    let condition = ConditionReason::ALL.iter().map(|reason| reason.row());
    let dead = DeadReason::ALL.iter().map(|reason| reason.row());
    let trust = TrustRefusal::ALL.iter().map(|refusal| refusal.row());
    let enroll = EnrollRefusal::ALL.iter().map(|refusal| refusal.row());
    let peer = PeerReason::ALL.iter().map(|reason| reason.row());
    let link = LinkRefusal::ALL.iter().map(|reason| reason.row());
    let rotation = RotationReason::ALL.iter().map(|reason| reason.row());
    let lock = LockRefusal::ALL.iter().map(|refusal| refusal.row());
    let audit = AuditReason::ALL.iter().map(|reason| reason.row());
    intake
        .chain(object)
        .chain(condition)
        .chain(dead)
        .chain(trust)
        .chain(enroll)
        .chain(peer)
        .chain(link)
        .chain(rotation)
        .chain(lock)
        .chain(audit)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_one_documented_row_in_its_area() {
        let rows = table();
        let codes: BTreeSet<_> = rows.iter().map(|row| (row.code, row.area as u8)).collect();
        assert_eq!(codes.len(), rows.len(), "a code stands twice");
        for row in rows {
            assert!(row.code.chars().all(|c| c.is_ascii_alphanumeric()), "{}", row.code);
            assert!(row.code.starts_with(|c: char| c.is_ascii_uppercase()), "{}", row.code);
            assert!(row.meaning.ends_with('.') && row.hint.ends_with('.'), "{}", row.code);
            let refuses = matches!(row.area, Area::Intake | Area::Trust | Area::Enroll | Area::Lock);
            assert_eq!(refuses, (400..600).contains(&row.status), "{}", row.code);
        }
    }
}
