//! Destinations of mode `Relay`: whose business one is, and whether there is somebody to whom its events go (D-02, D-03).

use zen_crds::DestinationSpec;
use zen_model::{ClusterId, ObjectKey, ObjectReason};

use crate::Mode;
use crate::enrolled::Standing;
use crate::mode::Share;
use crate::problem::Problems;
use crate::resolve::{Environment, Resolver};

/// What a Destination of mode `Relay` is to whoever compiles it. For the other modes, whose objects these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relay {
    /// Events for it are kept here, and attempted elsewhere.
    Hub,
    /// It is attempted here.
    Own,
    /// It is neither kept nor attempted here.
    Elsewhere,
}

/// The cluster that attempts its deliveries; none for the other modes, and where no cluster can have the name.
pub(crate) fn cluster_of(key: &ObjectKey, spec: &DestinationSpec) -> Option<ClusterId> {
    let name = spec.cluster.as_ref().filter(|_| spec.mode == zen_crds::Mode::Relay)?;
    ClusterId::new(key.namespace.as_str(), name).ok()
}

/// What a Destination is to whoever compiles it.
pub(crate) fn relay(environment: &Environment<'_>, key: &ObjectKey, spec: &DestinationSpec) -> Relay {
    environment.relay(cluster_of(key, spec).as_ref())
}

/// Whether what a Destination names is read here, or taken to be read by pods of this cluster.
pub(crate) const fn is_read(mode: Mode, spec: &DestinationSpec, share: Share, relay: Relay) -> bool {
    match (share, relay, spec.mode) {
        (Share::Full, _, _) => true,
        (_, Relay::Hub, zen_crds::Mode::Relay) | (_, Relay::Elsewhere, _) => false,
        _ => mode.assumes(),
    }
}

/// Whether there is somebody to whom its events go. Where there is nobody they wait: at the hub, whatever the reason.
pub(crate) fn check(
    resolver: &mut Resolver<'_, '_>,
    spec: &DestinationSpec,
    cluster: Option<&ClusterId>,
    relay: Relay,
    problems: &mut Problems,
) {
    if relay == Relay::Elsewhere {
        let message = match &spec.cluster {
            Some(name) => format!("this is not cluster {}, so nothing here attempts its deliveries", &**name),
            None => format!("this cluster attempts deliveries of mode Relay only, not of mode {}", spec.mode),
        };
        return problems.block(ObjectReason::ClusterElsewhere, "spec.cluster", message);
    }
    if spec.mode != zen_crds::Mode::Relay {
        return;
    }
    let Some(cluster) = cluster else {
        let message = "mode Relay needs the name of a ClusterEnrollment of this namespace";
        return problems.block(ObjectReason::Invalid, "spec.cluster", message);
    };
    let is_hub = resolver.environment.objects.member.is_none();
    match resolver.standing(cluster) {
        _ if !is_hub => {}
        Standing::Unread => {
            let message = format!("ClusterEnrollment {cluster} was not read yet; wait a moment");
            problems.note(ObjectReason::RefPending, "spec.cluster", message);
        }
        Standing::Missing => {
            let message = format!("ClusterEnrollment {cluster} does not exist, so events wait; create it");
            if relay == Relay::Hub {
                problems.block(ObjectReason::ClusterNotFound, "spec.cluster", message);
            } else {
                problems.note(ObjectReason::ClusterNotFound, "spec.cluster", message + ", unless this is the member");
            }
        }
        Standing::Disabled => {
            let message =
                format!("ClusterEnrollment {cluster} is disabled, being deleted or not accepted, so events wait");
            problems.block(ObjectReason::ClusterDisabled, "spec.cluster", message);
        }
        Standing::Pending => {
            let message = match resolver.environment.mode {
                Mode::Standalone => {
                    format!("events wait: they are for the egress of cluster {cluster}, and there is none here")
                }
                Mode::Cluster(_) => {
                    format!("cluster {cluster} has not joined yet, so events wait; apply its bundle there")
                }
            };
            problems.note(ObjectReason::ClusterPending, "spec.cluster", message);
        }
        Standing::Away => {
            let message = format!("cluster {cluster} holds no session with the hub now, so events wait");
            problems.note(ObjectReason::ClusterAway, "spec.cluster", message);
        }
        Standing::Joined => {}
    }
}
