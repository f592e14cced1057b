//! The containers of a pod that get files and variables.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use zen_model::reason::LockRefusal;

use super::injected::{REFRESH, UNSEAL};
use super::{CONTAINERS, Refused, Wanted};

/// A container and where it stands in the pod.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot<'a> {
    pub(super) container: &'a Container,
    list: &'static str,
    index: usize,
}

impl Slot<'_> {
    /// Pointer to the container.
    pub(super) fn path(&self) -> String {
        format!("/spec/{}/{}", self.list, self.index)
    }
}

/// Every container of the pod but our own and ephemeral ones.
pub(super) fn all(spec: &PodSpec) -> impl Iterator<Item = Slot<'_>> {
    let slot = |list| move |(index, container)| Slot { container, list, index };
    let first = spec.init_containers.iter().flatten().enumerate().map(slot("initContainers"));
    let main = spec.containers.iter().enumerate().map(slot("containers"));
    first.chain(main).filter(|slot| ![UNSEAL, REFRESH].contains(&slot.container.name.as_str()))
}

/// Those that are served.
pub(super) fn served<'a>(spec: &'a PodSpec, wanted: &Wanted) -> Result<Vec<Slot<'a>>, Refused> {
    let missing = wanted.containers.iter().flatten().find(|name| all(spec).all(|slot| slot.container.name != **name));
    if let Some(name) = missing {
        let detail = format!("{CONTAINERS} names {name}");
        return Err(Refused::new(LockRefusal::ContainerNotFound, detail));
    }
    Ok(all(spec).filter(|slot| wanted.serves(&slot.container.name)).collect())
}
