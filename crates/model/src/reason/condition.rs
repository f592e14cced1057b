use super::{Area, Row};

/// The reason of a condition or Event that is not a verdict on the object itself: how it stands in the data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConditionReason {
    /// Everything that the object names is there.
    ResolvedRefs,
    /// In effect at every ready replica.
    Programmed,
    /// Not every ready replica has it yet.
    Pending,
    /// There is no ready replica.
    NoReplicas,
    /// State that each replica keeps for itself.
    PerReplicaState,
    /// The circuit breaker opened.
    BreakerOpen,
    /// The circuit breaker closed.
    BreakerClosed,
    /// Every key of a `ZenLock` opens with the newest identity.
    Decryptable,
    /// Keys of a `ZenLock` open with an older identity only.
    NeedsReencryption,
    /// Plaintext lies in a Secret, because a pod asked for it.
    SecretDelivery,
    /// No plaintext lies in a Secret any more.
    MemoryDelivery,
    /// This mesh is set up to enroll no clusters.
    HubNotConfigured,
    /// `spec.recipient` of an enrollment is no age key.
    RecipientInvalid,
    /// A bundle waits for its cluster.
    BundleIssued,
    /// A cluster has redeemed its bundle.
    ClusterEnrolled,
    /// A cluster has its issuing CA renewed.
    CertificateRenewed,
}

impl ConditionReason {
    /// Every reason.
    pub const ALL: [Self; 16] = [
        Self::ResolvedRefs,
        Self::Programmed,
        Self::Pending,
        Self::NoReplicas,
        Self::PerReplicaState,
        Self::BreakerOpen,
        Self::BreakerClosed,
        Self::Decryptable,
        Self::NeedsReencryption,
        Self::SecretDelivery,
        Self::MemoryDelivery,
        Self::HubNotConfigured,
        Self::RecipientInvalid,
        Self::BundleIssued,
        Self::ClusterEnrolled,
        Self::CertificateRenewed,
    ];

    /// Code, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::ResolvedRefs => {
                ("ResolvedRefs", "Everything that the object names exists and may be used.", "Nothing to do.")
            }
            Self::Programmed => ("Programmed", "The object is in effect at every ready replica.", "Nothing to do."),
            Self::Pending => (
                "Pending",
                "Not every ready replica has this generation of the object in effect.",
                "Wait a few seconds; if it stays so, read the log of the replica that the message names.",
            ),
            Self::NoReplicas => (
                "NoReplicas",
                "No replica is ready that could serve the object.",
                "Look at the pods in the namespace of the mesh: kubectl get pods, then kubectl describe pod.",
            ),
            Self::PerReplicaState => (
                "PerReplicaState",
                "Each replica remembers idempotency keys for itself.",
                "Let the target recognise repeats by the webhook-id header, or run one ingester.",
            ),
            Self::BreakerOpen => (
                "BreakerOpen",
                "The circuit breaker of the Destination opened: its events wait.",
                "Look at the target; deliveries go on by themselves once it answers.",
            ),
            Self::BreakerClosed => ("BreakerClosed", "The target takes deliveries again.", "Nothing to do."),
            Self::Decryptable => {
                ("Decryptable", "Every key of the ZenLock opens with the newest identity.", "Nothing to do.")
            }
            Self::NeedsReencryption => (
                "NeedsReencryption",
                "Keys of the ZenLock open with an older identity only.",
                "Run zen lock rotate in the Git folder and apply the result; then the older identity can go.",
            ),
            Self::SecretDelivery => (
                "SecretDelivery",
                "Plaintext lies in a Secret, and so in etcd, while the pod lives.",
                "Remove zen-mesh.io/delivery: secret from the pod's template to keep it in the pod's memory.",
            ),
            Self::MemoryDelivery => ("MemoryDelivery", "No pod has the plaintext in a Secret.", "Nothing to do."),
            Self::HubNotConfigured => (
                "HubNotConfigured",
                "This mesh is set up to enroll no clusters.",
                "Set the chart's values hub.enabled to true and hub.url to where members reach it.",
            ),
            Self::RecipientInvalid => (
                "RecipientInvalid",
                "No bundle can be sealed to spec.recipient.",
                "Use what kubectl zen enroll recipient prints in the member cluster.",
            ),
            Self::BundleIssued => (
                "BundleIssued",
                "A bundle was made and waits for its cluster.",
                "Apply in the member cluster what kubectl zen enroll prints, before the bundle ends.",
            ),
            Self::ClusterEnrolled => (
                "ClusterEnrolled",
                "The cluster has redeemed its bundle, and has its certificate and its keys.",
                "Nothing to do; if nobody of yours applied the bundle, disable the enrollment.",
            ),
            Self::CertificateRenewed => (
                "CertificateRenewed",
                "The issuing CA of the cluster was renewed over its channel to the hub.",
                "Nothing to do.",
            ),
        };
        Row { code, area: Area::Object, status: 0, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }
}
