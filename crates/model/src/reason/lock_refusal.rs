use super::{Area, Row};

/// Why a pod, a ZenLock or a request for plaintext is refused by `zenlock-webhook` (Z-04). None of them says anything of a
/// secret, a token or ciphertext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LockRefusal {
    /// An annotation whose value cannot be used.
    AnnotationInvalid,
    /// `zen-mesh.io/containers` names a container that the pod does not have.
    ContainerNotFound,
    /// There is no such ZenLock in the pod's namespace.
    ZenLockNotFound,
    /// `allowedSubjects` does not name who asks.
    SubjectNotAllowed,
    /// A key of the ZenLock cannot be opened.
    NotDecryptable,
    /// A mount path that could hide files of the system.
    MountPathUnsafe,
    /// A container mounts something there already.
    MountPathTaken,
    /// Two variables of one name.
    EnvNameTaken,
    /// A value that cannot become an environment variable without a Secret.
    EnvNotRepresentable,
    /// The pod has a container of a name that is ours.
    NameReserved,
    /// A pod of an operating system that is not served.
    PodNotSupported,
    /// More than one Secret can hold.
    DeliveryTooLarge,
    /// Pods may not ask for a Secret here.
    DeliveryDisabled,
    /// A ZenLock that breaks a rule.
    ZenLockInvalid,
    /// No bearer token.
    TokenMissing,
    /// TokenReview does not take the token for our audience.
    TokenInvalid,
    /// The token is not bound to a pod.
    TokenNotPodBound,
    /// The token's pod does not exist.
    PodNotFound,
    /// The token belongs to an earlier pod of that name.
    PodReplaced,
    /// The pod is being deleted, or has ended.
    PodEnding,
    /// The pod runs under another account than the token says.
    AccountDiffers,
    /// The pod was not admitted for this ZenLock.
    NotAdmitted,
    /// One of our own parts asks for a subject that is none of its business.
    SubjectNotPermitted,
    /// No identity is loaded.
    KeysUnavailable,
    /// The API server could not be asked.
    ApiUnavailable,
    /// The access could not be audited.
    AuditUnavailable,
    /// Too many requests of one pod.
    RateLimited,
    /// Not a request of this API.
    BadRequest,
    /// No such resource.
    NotFound,
    /// The body is over the limit.
    RequestTooLarge,
}

impl LockRefusal {
    /// Every reason.
    pub const ALL: [Self; 30] = [
        Self::AnnotationInvalid,
        Self::ContainerNotFound,
        Self::ZenLockNotFound,
        Self::SubjectNotAllowed,
        Self::NotDecryptable,
        Self::MountPathUnsafe,
        Self::MountPathTaken,
        Self::EnvNameTaken,
        Self::EnvNotRepresentable,
        Self::NameReserved,
        Self::PodNotSupported,
        Self::DeliveryTooLarge,
        Self::DeliveryDisabled,
        Self::ZenLockInvalid,
        Self::TokenMissing,
        Self::TokenInvalid,
        Self::TokenNotPodBound,
        Self::PodNotFound,
        Self::PodReplaced,
        Self::PodEnding,
        Self::AccountDiffers,
        Self::NotAdmitted,
        Self::SubjectNotPermitted,
        Self::KeysUnavailable,
        Self::ApiUnavailable,
        Self::AuditUnavailable,
        Self::RateLimited,
        Self::BadRequest,
        Self::NotFound,
        Self::RequestTooLarge,
    ];

    /// Code, status, meaning and hint: the one function that decides them.
    #[expect(clippy::too_many_lines, reason = "one table")]
    pub const fn row(self) -> Row {
        let (code, status, meaning, hint) = match self {
            Self::AnnotationInvalid => (
                "AnnotationInvalid",
                400,
                "An annotation of the pod has a value that cannot be used.",
                "Correct the annotation as the message says.",
            ),
            Self::ContainerNotFound => (
                "ContainerNotFound",
                400,
                "The annotation zen-mesh.io/containers names a container that the pod does not have.",
                "Correct the name, or remove the annotation to serve all containers.",
            ),
            Self::ZenLockNotFound => (
                "ZenLockNotFound",
                404,
                "There is no ZenLock of this name in the namespace.",
                "Apply the ZenLock first, or correct the name in zen-mesh.io/inject.",
            ),
            Self::SubjectNotAllowed => (
                "SubjectNotAllowed",
                403,
                "The ZenLock does not allow this subject.",
                "Add it to spec.allowedSubjects of the ZenLock, or run the pod under a ServiceAccount that is listed.",
            ),
            Self::NotDecryptable => (
                "NotDecryptable",
                422,
                "A key of the ZenLock cannot be opened with the identities of the mesh.",
                "Encrypt it again for the public keys in the ConfigMap zen-mesh-recipients: zen lock encrypt.",
            ),
            Self::MountPathUnsafe => (
                "MountPathUnsafe",
                400,
                "The mount path is not absolute and normalised, or it would hide files of the system.",
                "Choose a folder of its own in zen-mesh.io/mount-path, such as /var/run/zen.",
            ),
            Self::MountPathTaken => (
                "MountPathTaken",
                400,
                "A container mounts another volume at, or beneath, the mount path.",
                "Choose another folder in zen-mesh.io/mount-path, or leave the container out of zen-mesh.io/containers.",
            ),
            Self::EnvNameTaken => (
                "EnvNameTaken",
                400,
                "Two environment variables would have one name.",
                "Rename the key, or remove the variable from the container.",
            ),
            Self::EnvNotRepresentable => (
                "EnvNotRepresentable",
                422,
                "A value cannot become an environment variable without passing through the API server.",
                "Read the file instead of the variable, or accept a Secret in etcd with zen-mesh.io/delivery: secret.",
            ),
            Self::NameReserved => (
                "NameReserved",
                400,
                "The pod has a container of its own by the name zen-mesh-unseal or zen-mesh-refresh.",
                "Rename the container; when the manifest is copied from a running pod, remove what was added to it.",
            ),
            Self::PodNotSupported => (
                "PodNotSupported",
                400,
                "Pods of this operating system are not served.",
                "Remove zen-mesh.io/inject from the pod.",
            ),
            Self::DeliveryTooLarge => (
                "DeliveryTooLarge",
                413,
                "The values are larger than one Secret may be.",
                "Use zen-mesh.io/delivery: memory, or name fewer ZenLocks.",
            ),
            Self::DeliveryDisabled => (
                "DeliveryDisabled",
                403,
                "Pods may not ask for a Secret in this cluster.",
                "Use zen-mesh.io/delivery: memory, or have zenLock.secretDelivery switched on in the chart's values.",
            ),
            Self::ZenLockInvalid => (
                "ZenLockInvalid",
                422,
                "The ZenLock breaks a rule.",
                "Make it with zen lock encrypt, and correct what the message names.",
            ),
            Self::TokenMissing => (
                "TokenMissing",
                401,
                "The request carries no bearer token.",
                "Send the token that the volume zen-mesh-token projects into the pod.",
            ),
            Self::TokenInvalid => (
                "TokenInvalid",
                401,
                "The API server does not take the token for the audience zen-mesh-unseal.",
                "Send the token that the volume zen-mesh-token projects into the pod, read again for each request.",
            ),
            Self::TokenNotPodBound => (
                "TokenNotPodBound",
                403,
                "The token is not bound to a running pod.",
                "Use the token that the kubelet projects into the pod, not one made by hand.",
            ),
            Self::PodNotFound => (
                "PodNotFound",
                403,
                "The pod that the token is bound to does not exist.",
                "Nothing to do for a pod that was deleted; else look for who uses its token.",
            ),
            Self::PodReplaced => (
                "PodReplaced",
                403,
                "The token belongs to an earlier pod of the same name.",
                "Nothing to do: the new pod has a token of its own.",
            ),
            Self::PodEnding => (
                "PodEnding",
                403,
                "The pod is being deleted, or has ended.",
                "Nothing to do: a pod that ends needs no secrets.",
            ),
            Self::AccountDiffers => (
                "AccountDiffers",
                403,
                "The pod runs under another ServiceAccount than its token says.",
                "Look for who uses the token.",
            ),
            Self::NotAdmitted => (
                "NotAdmitted",
                403,
                "The pod was not admitted for this ZenLock.",
                "Name the ZenLock in zen-mesh.io/inject of the pod's template, and start the pod anew.",
            ),
            Self::SubjectNotPermitted => (
                "SubjectNotPermitted",
                403,
                "This workload may not ask on behalf of that subject.",
                "The ingester asks for Webhooks and Destinations, the egress for Destinations; pods ask for themselves.",
            ),
            Self::KeysUnavailable => (
                "KeysUnavailable",
                503,
                "No age identity is loaded.",
                "Look at the log of zenlock-webhook and at what is mounted at /etc/zen-mesh/age.",
            ),
            Self::ApiUnavailable => (
                "ApiUnavailable",
                503,
                "The API server could not be asked.",
                "Wait: it is asked again. If this lasts, look at the API server and at the RBAC of zenlock-webhook.",
            ),
            Self::AuditUnavailable => (
                "AuditUnavailable",
                503,
                "The access could not be written to the audit log, and the audit is strict.",
                "Look at the log of zenlock-webhook and at the disk of the audit.",
            ),
            Self::RateLimited => (
                "RateLimited",
                429,
                "This pod asks too often.",
                "Wait as Retry-After says; look for a container that restarts in a loop.",
            ),
            Self::BadRequest => {
                ("BadRequest", 400, "The request is not one of this API.", "Use a client of the same release.")
            }
            Self::NotFound => ("NotFound", 404, "This API has no such resource.", "Use a client of the same release."),
            Self::RequestTooLarge => {
                ("RequestTooLarge", 413, "The request's body is over the limit.", "Send less at one time.")
            }
        };
        Row { code, area: Area::Lock, status, meaning, hint }
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
            Self::RateLimited => Some(5),
            Self::KeysUnavailable | Self::ApiUnavailable | Self::AuditUnavailable => Some(1),
            _ => None,
        }
    }

    /// The reason of a code that a server sent.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}
