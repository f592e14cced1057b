use super::{Area, LockReason, Row};

/// The reason of a verdict on an object: of its conditions, and of the lines of `zen check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectReason {
    /// In effect.
    Accepted,
    /// A manifest file that cannot be read or parsed.
    Unreadable,
    /// A field that the kind does not have.
    UnknownField,
    /// A value that breaks a rule of the schema.
    Invalid,
    /// A field that this release does not implement.
    NotSupported,
    /// A preset that does not exist.
    UnknownProvider,
    /// A Secret, ConfigMap, Service or Destination that does not exist.
    RefNotFound,
    /// A Secret or ConfigMap that cannot be read yet.
    RefPending,
    /// A key that the Secret or ConfigMap does not have.
    KeyNotFound,
    /// A secret of no bytes.
    EmptySecret,
    /// A secret that the scheme cannot use.
    BadSecret,
    /// A Destination of another namespace that does not allow this one.
    RefNotPermitted,
    /// Another Webhook has this host and path.
    Conflicted,
    /// A path outside `/<namespace>/` on a host that is not granted.
    PathNotGranted,
    /// A host that the mesh configuration grants to others only.
    HostNotGranted,
    /// `network.allowCidrs` beyond what is granted, or a metadata address.
    CidrNotGranted,
    /// A target URL that the guard refuses by itself.
    TargetNotAllowed,
    /// A certificate or key that cannot be used.
    BadCertificate,
    /// The same object in two files.
    Duplicate,
    /// YAML that 1.1 and 1.2 readers understand differently.
    AmbiguousYaml,
    /// A Destination of mode `Relay` whose `ClusterEnrollment` does not exist.
    ClusterNotFound,
    /// A Destination of mode `Relay` whose `ClusterEnrollment` is disabled or being deleted.
    ClusterDisabled,
    /// A Destination of mode `Relay` whose cluster has not joined yet.
    ClusterPending,
    /// A Destination of mode `Relay` whose cluster holds no session with the hub.
    ClusterAway,
    /// A Destination in a member cluster that another cluster delivers.
    ClusterElsewhere,
    /// A tolerance where the scheme has no timestamp, and other settings without effect.
    NoEffect,
    /// The `ZenLock`, or one that the object names, cannot be opened.
    Lock(LockReason),
}

impl From<LockReason> for ObjectReason {
    fn from(reason: LockReason) -> Self {
        Self::Lock(reason)
    }
}

impl ObjectReason {
    const OWN: [Self; 26] = [
        Self::Accepted,
        Self::Unreadable,
        Self::UnknownField,
        Self::Invalid,
        Self::NotSupported,
        Self::UnknownProvider,
        Self::RefNotFound,
        Self::RefPending,
        Self::KeyNotFound,
        Self::EmptySecret,
        Self::BadSecret,
        Self::RefNotPermitted,
        Self::Conflicted,
        Self::PathNotGranted,
        Self::HostNotGranted,
        Self::CidrNotGranted,
        Self::TargetNotAllowed,
        Self::BadCertificate,
        Self::Duplicate,
        Self::AmbiguousYaml,
        Self::ClusterNotFound,
        Self::ClusterDisabled,
        Self::ClusterPending,
        Self::ClusterAway,
        Self::ClusterElsewhere,
        Self::NoEffect,
    ];

    /// Every reason, those of `ZenLocks` last.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::OWN.into_iter().chain(LockReason::ALL.into_iter().map(Self::Lock))
    }

    /// Code, meaning and hint: the one function that decides them.
    pub const fn row(self) -> Row {
        let (code, meaning, hint) = match self {
            Self::Accepted => ("Accepted", "The object is in effect.", "Nothing to do."),
            Self::Unreadable => (
                "Unreadable",
                "The file cannot be read as a Kubernetes manifest.",
                "Mend the YAML at the line that the message names.",
            ),
            Self::UnknownField => (
                "UnknownField",
                "The object has a field that its kind does not know.",
                "Check the spelling against the reference of the kind.",
            ),
            Self::Invalid => {
                ("Invalid", "A value breaks a rule of the schema.", "Change the value as the message says.")
            }
            Self::NotSupported => (
                "NotSupported",
                "The field is part of the API but not built in this release.",
                "Remove the field; the release notes say when it arrives.",
            ),
            Self::UnknownProvider => (
                "UnknownProvider",
                "There is no verification preset of this name.",
                "Use one of the presets that zen send --help lists, or generic.",
            ),
            Self::RefNotFound => {
                ("RefNotFound", "An object that this one names does not exist.", "Create it, or correct the name.")
            }
            Self::RefPending => (
                "RefPending",
                "An object that this one names cannot be read yet.",
                "Wait a moment: the operator grants the mesh exactly the objects in use; if it stays, see its log.",
            ),
            Self::KeyNotFound => {
                ("KeyNotFound", "The Secret or ConfigMap has no such key.", "Add the key, or correct its name.")
            }
            Self::EmptySecret => (
                "EmptySecret",
                "The secret is empty, and an empty secret verifies nothing.",
                "Put the provider's secret into the Secret.",
            ),
            Self::BadSecret => (
                "BadSecret",
                "The secret is not of the form that the scheme needs.",
                "Copy it from the provider again, prefix included.",
            ),
            Self::RefNotPermitted => (
                "RefNotPermitted",
                "The Destination does not allow routes from this namespace.",
                "Have its owner list the namespace in allowFrom.",
            ),
            Self::Conflicted => {
                ("Conflicted", "An older Webhook has this host and path.", "Choose another path or host.")
            }
            Self::PathNotGranted => (
                "PathNotGranted",
                "The path is not beneath the namespace's own prefix.",
                "Use a path beneath the namespace's prefix, or have the host granted to the namespace.",
            ),
            Self::HostNotGranted => (
                "HostNotGranted",
                "The mesh configuration does not grant this host to the namespace.",
                "Have the host granted to the namespace in mesh.yaml.",
            ),
            Self::CidrNotGranted => (
                "CidrNotGranted",
                "The mesh configuration does not grant this network to the namespace.",
                "Have the network granted to the namespace in mesh.yaml; metadata addresses are never granted.",
            ),
            Self::TargetNotAllowed => (
                "TargetNotAllowed",
                "The target's URL is not one that may be called.",
                "Use an https URL with a public name, a Service, or list the network in network.allowCidrs.",
            ),
            Self::BadCertificate => (
                "BadCertificate",
                "A certificate or key cannot be used.",
                "Replace it with a PEM certificate that is valid for this use.",
            ),
            Self::Duplicate => {
                ("Duplicate", "Another file holds an object of the same kind and name.", "Keep one of the two.")
            }
            Self::AmbiguousYaml => {
                ("AmbiguousYaml", "YAML 1.1 and YAML 1.2 read this value differently.", "Quote the value.")
            }
            Self::ClusterNotFound
            | Self::ClusterDisabled
            | Self::ClusterPending
            | Self::ClusterAway
            | Self::ClusterElsewhere => self.cluster(),
            Self::NoEffect => (
                "NoEffect",
                "The setting has no effect here.",
                "Remove it, or see the message for what would make it work.",
            ),
            Self::Lock(reason) => return reason.row(),
        };
        Row { code, area: Area::Object, status: 0, meaning, hint }
    }

    /// The texts of those that are about the cluster that delivers.
    const fn cluster(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ClusterNotFound => (
                "ClusterNotFound",
                "The ClusterEnrollment that the Destination names does not exist in its namespace. Events wait.",
                "Create it, or correct the name in spec.cluster.",
            ),
            Self::ClusterDisabled => (
                "ClusterDisabled",
                "The ClusterEnrollment that the Destination names is disabled, being deleted or not accepted. Events wait.",
                "Look at its condition Accepted and at spec.disabled, or have another cluster deliver.",
            ),
            Self::ClusterPending => (
                "ClusterPending",
                "The cluster that delivers has not joined yet. Events wait.",
                "Apply the bundle of its ClusterEnrollment in the member; kubectl zen enroll prints it.",
            ),
            Self::ClusterAway => (
                "ClusterAway",
                "The cluster that delivers joined, and holds no session with the hub now. Events wait.",
                "Look whether the member's egress runs and reaches the hub's relay address; its log says why not.",
            ),
            _ => (
                "ClusterElsewhere",
                "The Destination is in a member cluster, and another cluster delivers it.",
                "Remove it from this cluster, or correct the name in spec.cluster.",
            ),
        }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// Whether it only warns: the object stays in effect.
    pub const fn is_warning(self) -> bool {
        matches!(self, Self::Accepted | Self::AmbiguousYaml | Self::ClusterPending | Self::ClusterAway | Self::NoEffect)
    }
}
