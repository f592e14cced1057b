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
}

impl ConditionReason {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::ResolvedRefs,
        Self::Programmed,
        Self::Pending,
        Self::NoReplicas,
        Self::PerReplicaState,
        Self::BreakerOpen,
        Self::BreakerClosed,
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
        };
        Row { code, area: Area::Object, status: 0, meaning, hint }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }
}
