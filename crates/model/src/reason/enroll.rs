use super::{Area, Row};

/// Why a cluster is not enrolled (T-01): said by the hub to the member, and by the member's operator of a bundle that it
/// cannot use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EnrollRefusal {
    /// Another key has redeemed the bundle.
    BundleReused,
    /// The bundle's time is over, or that of what it was redeemed for.
    BundleExpired,
    /// Not what the hub made.
    BundleTampered,
    /// Another bundle was asked for since, or its enrollment is gone.
    BundleVoid,
    /// Not of the form of a bundle.
    BundleMalformed,
    /// For another cluster.
    WrongCluster,
    /// Of another hub.
    WrongHub,
    /// The clocks of hub and member differ.
    ClockSkew,
    /// The same request again.
    RequestReplayed,
    /// Not a request of this API.
    RequestMalformed,
    /// More requests with one bundle than can be told apart.
    TooManyRequests,
    /// The enrollment is disabled.
    EnrollmentDisabled,
    /// There is no enrollment of this name.
    EnrollmentUnknown,
    /// What an enrolled member asks needs its certificate.
    ClientCertificateMissing,
    /// Not the request that its proof was made for.
    ProofInvalid,
    /// The proof is by no version of the cluster's keys that counts.
    KeyNotAccepted,
    /// Another replica of the hub's operator leads.
    NotLeader,
}

impl EnrollRefusal {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::BundleReused,
        Self::BundleExpired,
        Self::BundleTampered,
        Self::BundleVoid,
        Self::BundleMalformed,
        Self::WrongCluster,
        Self::WrongHub,
        Self::ClockSkew,
        Self::RequestReplayed,
        Self::RequestMalformed,
        Self::TooManyRequests,
        Self::EnrollmentDisabled,
        Self::EnrollmentUnknown,
        Self::ClientCertificateMissing,
        Self::ProofInvalid,
        Self::KeyNotAccepted,
        Self::NotLeader,
    ];

    /// Code, status, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, status, meaning, hint) = match self {
            Self::BundleReused => (
                "BundleReused",
                409,
                "The bundle was redeemed with another key.",
                "If the member lost its state, change spec.bundle of its ClusterEnrollment and apply the new bundle. If it did not, somebody else has used the bundle: disable the enrollment.",
            ),
            Self::BundleExpired => (
                "BundleExpired",
                410,
                "The bundle's time is over, or that of what it was redeemed for.",
                "Change spec.bundle of the ClusterEnrollment and apply the new bundle.",
            ),
            Self::BundleTampered => (
                "BundleTampered",
                403,
                "The bundle, or what was made of it, is not what the hub made.",
                "Fetch the bundle from the hub again, by a way that changes nothing.",
            ),
            Self::BundleVoid => (
                "BundleVoid",
                410,
                "Another bundle was asked for since this one was made, or its ClusterEnrollment is gone.",
                "Apply the newest bundle of the ClusterEnrollment.",
            ),
            Self::BundleMalformed => (
                "BundleMalformed",
                400,
                "It is not a bundle, or one of another release.",
                "Apply what kubectl zen enroll printed, unchanged, to an operator of the hub's release.",
            ),
            Self::WrongCluster => (
                "WrongCluster",
                403,
                "The bundle is another cluster's.",
                "Look at spec.recipient of the ClusterEnrollment: it is the public key of the member that shall use the bundle.",
            ),
            Self::WrongHub => (
                "WrongHub",
                403,
                "The bundle is of another hub than the one that is expected, or that was asked.",
                "Compare the fingerprint that the member expects with the one that kubectl zen enroll printed.",
            ),
            Self::ClockSkew => (
                "ClockSkew",
                403,
                "The clocks of hub and member differ by more than five minutes.",
                "Set the clocks of both clusters' nodes by NTP.",
            ),
            Self::RequestReplayed => (
                "RequestReplayed",
                409,
                "The hub has had exactly this request before.",
                "A member never sends one twice: somebody who saw it does.",
            ),
            Self::RequestMalformed => (
                "RequestMalformed",
                400,
                "The request is not one of this API.",
                "Use an operator of the hub's release.",
            ),
            Self::TooManyRequests => (
                "TooManyRequests",
                429,
                "More requests came with this bundle than the hub can tell apart.",
                "Wait ten minutes; look for a member whose operator restarts in a loop.",
            ),
            Self::EnrollmentDisabled => (
                "EnrollmentDisabled",
                403,
                "The cluster's ClusterEnrollment is disabled or being deleted.",
                "Set spec.disabled to false, if the cluster shall be let in again: a new bundle is made, to be applied there.",
            ),
            Self::EnrollmentUnknown => (
                "EnrollmentUnknown",
                404,
                "The hub has no ClusterEnrollment of this name any more.",
                "Make it again and apply its bundle, if the cluster shall be let in again.",
            ),
            Self::ClientCertificateMissing => (
                "ClientCertificateMissing",
                403,
                "The request came without the certificate of the member's operator.",
                "Use an operator of the hub's release; a load balancer before the hub must pass TLS through.",
            ),
            Self::ProofInvalid | Self::KeyNotAccepted | Self::NotLeader => self.of_sync(),
        };
        Row { code, area: Area::Enroll, status, meaning, hint }
    }

    /// What is said to a member that is enrolled already.
    const fn of_sync(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::ProofInvalid => (
                "ProofInvalid",
                403,
                "The request is not the one that its proof was made for.",
                "Look for a proxy that changes requests between member and hub.",
            ),
            Self::KeyNotAccepted => (
                "KeyNotAccepted",
                403,
                "The proof is by no version of the cluster's keys that counts now.",
                "The cluster was enrolled anew, or its ClusterEnrollment was made again: change spec.bundle and apply the new bundle.",
            ),
            _ => (
                "NotLeader",
                503,
                "This replica of the hub's operator does not lead, and the leader alone enrolls.",
                "Connect again, which a member does by itself. If this lasts, look at the Lease zen-operator of the hub.",
            ),
        }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.row().status
    }

    /// When to ask again, seconds; none: it does not pass by itself.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::NotLeader => Some(1),
            Self::TooManyRequests => Some(600),
            _ => None,
        }
    }

    /// The reason of a code that a hub sent.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}
