use super::{Area, Row};

/// Why an ingester takes no stream of leases from a peer whose certificate is good (D-02, T-06). The peer is told the code in
/// the answer to its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LinkRefusal {
    /// A workload that has no reason to lease.
    LeaseNotPermitted,
    /// No such enrollment here.
    EnrollmentUnknown,
    /// It is switched off.
    EnrollmentDisabled,
    /// No proof of the cluster's key.
    ProofMissing,
    /// The proof is of another key, or of another connection.
    ProofWrong,
    /// The key's version does not count, or no longer.
    KeyVersionEnded,
    /// An ingester that does not say for whom.
    BehalfMissing,
    /// A member that speaks for a cluster other than by its certificate.
    BehalfForbidden,
    /// As many as a cluster may have are there.
    StreamsTooMany,
}

impl LinkRefusal {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::LeaseNotPermitted,
        Self::EnrollmentUnknown,
        Self::EnrollmentDisabled,
        Self::ProofMissing,
        Self::ProofWrong,
        Self::KeyVersionEnded,
        Self::BehalfMissing,
        Self::BehalfForbidden,
        Self::StreamsTooMany,
    ];

    /// Code, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::LeaseNotPermitted => (
                "LeaseNotPermitted",
                "The peer is who it says, and may not lease deliveries here.",
                "Look at who connects: the egresses of members lease at the hub, and nobody else does.",
            ),
            Self::EnrollmentUnknown => (
                "EnrollmentUnknown",
                "The hub has no ClusterEnrollment of the peer's cluster, or it is being deleted.",
                "A cluster whose enrollment was deleted is enrolled anew: kubectl zen enroll.",
            ),
            Self::EnrollmentDisabled => (
                "EnrollmentDisabled",
                "The ClusterEnrollment of the peer's cluster is disabled; events for it wait.",
                "Enable the enrollment at the hub when the cluster is to deliver again.",
            ),
            Self::ProofMissing => (
                "ProofMissing",
                "A member's egress opened a stream without the proof of its cluster's key.",
                "Look at the Secret zen-mesh-egress-keys of the member, and at the release of its egress.",
            ),
            Self::ProofWrong => (
                "ProofWrong",
                "The proof is not of this cluster's key, or was made for another connection.",
                "If the member was not enrolled anew meanwhile, somebody between hub and member ends its connections.",
            ),
            Self::KeyVersionEnded => (
                "KeyVersionEnded",
                "The version of the cluster's keys that the peer proves does not count, or no longer.",
                "The member's operator fetches the new keys by itself; look at its log if this goes on.",
            ),
            Self::BehalfMissing => (
                "BehalfMissing",
                "An ingester opened a stream without saying for which cluster.",
                "Bring all ingesters to one release.",
            ),
            Self::BehalfForbidden => (
                "BehalfForbidden",
                "A member spoke on behalf of a cluster; its certificate alone says for whom it leases.",
                "Look into that cluster: no release of the egress does this.",
            ),
            Self::StreamsTooMany => (
                "StreamsTooMany",
                "The peer's cluster has as many streams at this ingester as a cluster may have.",
                "Run fewer egresses in the member, or look at who else there has their certificate.",
            ),
        };
        Row { code, area: Area::Handshake, status: 0, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Of a code that a peer sent.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_names_one_refusal() {
        for reason in LinkRefusal::ALL {
            assert_eq!(LinkRefusal::of_code(reason.code()), Some(reason));
        }
        assert_eq!(LinkRefusal::of_code("Ok"), None);
    }
}
