use super::{Area, Row};

/// Why one of our own parts is refused, by the identity service of the operator or by the control API of a pod; and why a caller of
/// the aggregated API is. None of them says anything of a token or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrustRefusal {
    /// No bearer token.
    TokenMissing,
    /// TokenReview does not take the token for our audience.
    TokenInvalid,
    /// The token is not bound to a pod.
    TokenNotPodBound,
    /// The API server could not be asked about the token.
    ReviewUnavailable,
    /// The policy does not name the account.
    AccountNotPermitted,
    /// The certificate that the peer presented is another workload's than the token.
    CertificateMismatch,
    /// The policy does not let this workload do this (T-05).
    ActionNotPermitted,
    /// The peer is of another trust domain.
    TrustDomainForeign,
    /// No rule of the policy speaks of the peer.
    WorkloadUnknown,
    /// A rule of the policy denies exactly this workload.
    WorkloadDenied,
    /// A rule of the policy denies a scope that the workload is in.
    ScopeDenied,
    /// What is asked for is another cluster's.
    ClusterForeign,
    /// This workload serves no names.
    UsageNotPermitted,
    /// The signing request cannot be read.
    CsrMalformed,
    /// The signing request's key is not one that we sign.
    CsrKeyNotSupported,
    /// The signing request is not signed by its own key.
    CsrNotProven,
    /// The signing request asks for other names than the ones that are due.
    CsrNamesDiffer,
    /// The signing request asks for more than names.
    CsrAsksTooMuch,
    /// Not a request of this API.
    BadRequest,
    /// No such resource.
    NotFound,
    /// The body is over the limit.
    RequestTooLarge,
    /// Too many requests of one account or pod.
    RateLimited,
    /// There is no issuing certificate that could sign.
    IssuerUnavailable,
    /// Whoever approves requests to the issuer, or the issuer, has said no.
    IssuerDenied,
    /// What the issuer gave is not what was asked for.
    IssuerUnfit,
    /// Audit entries that do not follow on what the store has of their chain.
    ChainConflict,
    /// The audit store cannot write.
    StoreUnavailable,
    /// The certificate could not be recorded.
    AuditUnavailable,
    /// The API server does not vouch for who calls the aggregated API.
    CallerUnproven,
    /// RBAC does not let the caller of the aggregated API do this.
    CallerForbidden,
}

impl TrustRefusal {
    /// Every reason.
    pub const ALL: [Self; 30] = [
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::TokenNotPodBound,
        Self::ReviewUnavailable,
        Self::AccountNotPermitted,
        Self::CertificateMismatch,
        Self::ActionNotPermitted,
        Self::TrustDomainForeign,
        Self::WorkloadUnknown,
        Self::WorkloadDenied,
        Self::ScopeDenied,
        Self::ClusterForeign,
        Self::UsageNotPermitted,
        Self::CsrMalformed,
        Self::CsrKeyNotSupported,
        Self::CsrNotProven,
        Self::CsrNamesDiffer,
        Self::CsrAsksTooMuch,
        Self::BadRequest,
        Self::NotFound,
        Self::RequestTooLarge,
        Self::RateLimited,
        Self::IssuerUnavailable,
        Self::IssuerDenied,
        Self::IssuerUnfit,
        Self::ChainConflict,
        Self::StoreUnavailable,
        Self::AuditUnavailable,
        Self::CallerUnproven,
        Self::CallerForbidden,
    ];

    /// Code, status, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, status, meaning, hint) = match self {
            Self::TokenMissing => (
                "TokenMissing",
                401,
                "The request carries no bearer token.",
                "Send the projected ServiceAccount token of the pod.",
            ),
            Self::TokenInvalid => (
                "TokenInvalid",
                401,
                "The API server does not take the token for the audience zen-mesh-identity.",
                "Check the pod's projected token volume and its audience.",
            ),
            Self::TokenNotPodBound => (
                "TokenNotPodBound",
                403,
                "The token is not bound to a running pod.",
                "Use the token that the kubelet projects into the pod, not one made by hand.",
            ),
            Self::ReviewUnavailable => (
                "ReviewUnavailable",
                503,
                "The API server could not be asked about the token.",
                "Wait: it is asked again. If this lasts, look at the API server and the operator's RBAC for tokenreviews.",
            ),
            Self::AccountNotPermitted => (
                "AccountNotPermitted",
                403,
                "The access policy gives no identity to this ServiceAccount.",
                "Run the data plane under the accounts and in the namespace that the chart makes.",
            ),
            Self::CertificateMismatch => (
                "CertificateMismatch",
                403,
                "The certificate that was presented belongs to another workload than the token.",
                "Look at who sends both; a pod renews with its own certificate only.",
            ),
            Self::ActionNotPermitted => (
                "ActionNotPermitted",
                403,
                "The access policy does not let this workload do this.",
                "Look at who calls: only the workloads that docs/trust.md lists have a reason to.",
            ),
            Self::UsageNotPermitted => (
                "UsageNotPermitted",
                403,
                "This workload serves no names, so that it gets no serving certificate.",
                "Ask for a workload certificate.",
            ),
            Self::TrustDomainForeign
            | Self::WorkloadUnknown
            | Self::WorkloadDenied
            | Self::ScopeDenied
            | Self::ClusterForeign => self.of_policy(),
            Self::CsrMalformed
            | Self::CsrKeyNotSupported
            | Self::CsrNotProven
            | Self::CsrNamesDiffer
            | Self::CsrAsksTooMuch
            | Self::ChainConflict
            | Self::StoreUnavailable
            | Self::AuditUnavailable => self.of_content(),
            Self::BadRequest => {
                ("BadRequest", 400, "The request is not one of this API.", "Use a client of the same release.")
            }
            Self::NotFound => ("NotFound", 404, "This API has no such resource.", "Use a client of the same release."),
            Self::RequestTooLarge => {
                ("RequestTooLarge", 413, "The request's body is over the limit.", "Use a client of the same release.")
            }
            Self::RateLimited => (
                "RateLimited",
                429,
                "This account or pod asks too often.",
                "Wait as Retry-After says; look for a pod that restarts in a loop.",
            ),
            Self::IssuerUnavailable | Self::IssuerDenied | Self::IssuerUnfit => self.of_issuer(),
            Self::CallerUnproven => (
                "CallerUnproven",
                401,
                "The request to the aggregated API does not come through the API server.",
                "Use kubectl or a client of the Kubernetes API; nothing else reaches this one.",
            ),
            Self::CallerForbidden => (
                "CallerForbidden",
                403,
                "RBAC does not let the caller of the aggregated API do this.",
                "Bind one of the roles of docs/install.md to who is to have it.",
            ),
        };
        Row { code, area: Area::Trust, status, meaning, hint }
    }

    /// The denials of the access policy besides the last, that no rule allows it (T-05).
    const fn of_policy(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::TrustDomainForeign => (
                "TrustDomainForeign",
                403,
                "The caller belongs to another trust domain.",
                "Look at trustDomain in mesh.yaml on both sides: one mesh has one.",
            ),
            Self::WorkloadUnknown => (
                "WorkloadUnknown",
                403,
                "No rule of the access policy speaks of the caller.",
                "Look at who calls: only the workloads that docs/trust.md lists have a reason to.",
            ),
            Self::WorkloadDenied => (
                "WorkloadDenied",
                403,
                "A rule of the access policy denies this to exactly this workload.",
                "A denial counts before everything that allows; take the rule back if it is meant no longer.",
            ),
            Self::ScopeDenied => (
                "ScopeDenied",
                403,
                "A rule of the access policy denies this to every workload of the caller's cluster, tenant or kind.",
                "Look whether the cluster's ClusterEnrollment is disabled or gone.",
            ),
            // `row` asks for no other.
            _ => (
                "ClusterForeign",
                403,
                "What the caller asks for belongs to another cluster.",
                "A member is given what is its own: look at which cluster the caller is enrolled as.",
            ),
        }
    }

    const fn of_issuer(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::IssuerDenied => (
                "IssuerDenied",
                403,
                "The issuer, or who approves requests to it, has refused to sign.",
                "Look at the CertificateRequest's conditions in the operator's log, and at the approval policy for this issuer.",
            ),
            Self::IssuerUnfit => (
                "IssuerUnfit",
                503,
                "The issuer gave another certificate than the one that was asked for, or one that nobody of the mesh would take.",
                "Look into the operator's log for what differs; mesh.certificates.certManager.ca must be the certificate of the issuing CA itself.",
            ),
            _ => (
                "IssuerUnavailable",
                503,
                "There is no issuing certificate that could sign, or the issuer does not answer.",
                "Look at the operator's log and Events for what is wrong with zen-mesh-ca, zen-mesh-issuer or cert-manager.",
            ),
        }
    }

    /// Those that concern what is sent: signing requests, audit entries.
    const fn of_content(self) -> (&'static str, u16, &'static str, &'static str) {
        match self {
            Self::CsrMalformed => (
                "CsrMalformed",
                400,
                "The signing request is not PKCS #10 in PEM.",
                "Send one CERTIFICATE REQUEST block of at most 24 KiB.",
            ),
            Self::CsrKeyNotSupported => (
                "CsrKeyNotSupported",
                403,
                "The key or the signature of the signing request is not ECDSA P-256 with SHA-256.",
                "Make the key with ECDSA P-256.",
            ),
            Self::CsrNotProven => (
                "CsrNotProven",
                403,
                "The signing request is not signed by the key that it holds.",
                "Make the request with the key that it is for.",
            ),
            Self::CsrNamesDiffer => (
                "CsrNamesDiffer",
                403,
                "The signing request's alternative names are not exactly the ones that the service told.",
                "Ask GET /v1/identity again and request exactly those names.",
            ),
            Self::CsrAsksTooMuch => (
                "CsrAsksTooMuch",
                403,
                "The signing request asks for something other than alternative names.",
                "Request no other extension; the service decides usages and constraints.",
            ),
            Self::ChainConflict => (
                "ChainConflict",
                409,
                "The audit entries do not follow on what the store has of their chain.",
                "The writer goes on from the head in the answer; if it cannot, the store's audit log says what differs.",
            ),
            Self::AuditUnavailable => (
                "AuditUnavailable",
                503,
                "The certificate could not be written to the audit log, and the audit is strict.",
                "Look at the operator's log and Events; the audit store has to be there.",
            ),
            // `row` asks for no other.
            _ => (
                "StoreUnavailable",
                503,
                "The audit store cannot write.",
                "Look at its log and its volume; writers keep their entries meanwhile.",
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

    /// Seconds for `Retry-After`, where asking again can help.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::RateLimited => Some(10),
            Self::ReviewUnavailable
            | Self::IssuerUnavailable
            | Self::IssuerUnfit
            | Self::StoreUnavailable
            | Self::AuditUnavailable => Some(5),
            _ => None,
        }
    }

    /// The reason of a code that a server sent.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}
