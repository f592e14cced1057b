//! What the identity service and the status need to know, kept current from the two files.

use tokio::sync::watch;
use zen_compile::mesh;
use zen_identity::Mesh;
use zen_model::ClusterId;
use zen_pki::TrustDomain;

use super::Error;
use crate::configuration::Followed;
use crate::settings::{Hub, Workloads};
use crate::{identity, names, status};

/// Who the mesh is, and the names of the intake's certificate. `cluster` says which member this is, where it is one.
pub(super) fn identity(
    namespace: &str,
    mesh: &Followed<mesh::Config>,
    workloads: &Followed<Workloads>,
    cluster: Option<&watch::Receiver<Option<ClusterId>>>,
) -> Result<identity::Settings, Error> {
    let config = mesh.content.as_deref().cloned().unwrap_or_default();
    let domain = config.trust_domain.parse::<TrustDomain>().map_err(|error| Error::Mesh(error.to_string()))?;
    let ours = match cluster.map(|cluster| cluster.borrow().clone()) {
        None => Mesh::new(&domain, namespace),
        Some(Some(cluster)) => Mesh::member(&domain, cluster, namespace),
        Some(None) => return Err(Error::Mesh("this cluster is not enrolled".to_owned())),
    };
    let ours = ours.map_err(|error| Error::Mesh(error.to_string()))?;
    let names = workloads.content.iter().flat_map(|workloads| workloads.intake.names.iter().cloned());
    let hosts = config.grants.values().flat_map(|grant| grant.hosts.iter().cloned());
    let hub = workloads.content.iter().filter_map(|workloads| workloads.hub.as_ref()).flat_map(Hub::names);
    let settings = identity::Settings::new(ours, config.certificate_lifetime, names.chain(hosts)).with_hub(hub);
    Ok(settings.signed_by(config.cert_manager.clone()))
}

/// Tells the identity service of changes. Never ends.
pub(super) async fn keep(
    tell: watch::Sender<identity::Settings>,
    namespace: String,
    mut mesh: watch::Receiver<Followed<mesh::Config>>,
    mut workloads: watch::Receiver<Followed<Workloads>>,
    mut cluster: Option<watch::Receiver<Option<ClusterId>>>,
) {
    loop {
        let another = async {
            let changed = match &mut cluster {
                Some(cluster) => cluster.changed().await.is_ok(),
                None => false,
            };
            if !changed {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = another => {}
            changed = mesh.changed() => if changed.is_err() { return },
            changed = workloads.changed() => if changed.is_err() { return },
        }
        match identity(&namespace, &mesh.borrow_and_update(), &workloads.borrow_and_update(), cluster.as_ref()) {
            Ok(next) => {
                tell.send_if_modified(|now| {
                    let changed = *now != next;
                    *now = next;
                    changed
                });
            }
            Err(error) => tracing::error!(%error, "the mesh's identity stays as it was"),
        }
    }
}

/// What the status of objects says about the mesh.
pub(super) fn status(
    namespace: &str,
    mut workloads: watch::Receiver<Followed<Workloads>>,
) -> watch::Receiver<status::Settings> {
    let host = format!("{}.{namespace}.svc", names::INGESTER);
    let of = move |workloads: &Followed<Workloads>| {
        let content = workloads.content.as_deref();
        // A wildcard is a name of the certificate, and none that a source can call.
        let name = content.and_then(|workloads| workloads.intake.names.iter().find(|name| !name.contains('*')));
        let name = name.unwrap_or(&host);
        let port = content.map_or(443, |workloads| workloads.ingester.service.port);
        let intake = if port == 443 { name.clone() } else { format!("{name}:{port}") };
        status::Settings {
            ingester_replicas: content.map_or(0, |workloads| workloads.ingester.replicas),
            intake,
            opens_zen_locks: content.is_some_and(|workloads| workloads.zen_lock.is_some()),
        }
    };
    let (tell, told) = watch::channel(of(&workloads.borrow_and_update()));
    tokio::spawn(async move {
        while workloads.changed().await.is_ok() && !tell.is_closed() {
            tell.send_replace(of(&workloads.borrow_and_update()));
        }
    });
    told
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::settings::tests::DEFAULT;

    fn workloads(text: &str) -> Followed<Workloads> {
        let content = Some(Arc::new(Workloads::parse(text).expect("valid")));
        Followed { is_known: true, content, ..Followed::default() }
    }

    #[test]
    fn the_intake_is_certified_for_every_name_that_somebody_was_given() {
        let config = serde_json::json!({"trustDomain": "example.org", "grants": [{"namespace": "a", "hosts": ["hooks.example.com"]}]});
        let config = mesh::Config::from_json(&config).expect("valid");
        let mesh = Followed { is_known: true, content: Some(Arc::new(config)), ..Followed::default() };
        let workloads = workloads(&DEFAULT.replace("names: []", "names: [in.example.com]"));
        let settings = identity("zen-mesh", &mesh, &workloads, None).expect("a mesh");
        for name in ["hooks.example.com", "in.example.com", "zen-ingester.zen-mesh.svc"] {
            assert!(settings.serving.contains(name), "{name}: {:?}", settings.serving);
        }
        assert_eq!(settings.mesh.trust_domain().to_string(), "example.org");
    }

    #[tokio::test]
    async fn urls_are_those_of_the_intake() {
        for (from, to, intake) in [
            ("x", "x", "zen-ingester.zen-mesh.svc"),
            ("names: []", "names: [in.example.com]", "in.example.com"),
            ("names: []", "names: ['*.example.com', in.example.com]", "in.example.com"),
            ("names: []", "names: ['*.example.com']", "zen-ingester.zen-mesh.svc"),
            ("port: 443", "port: 8443", "zen-ingester.zen-mesh.svc:8443"),
        ] {
            let (_tell, told) = watch::channel(workloads(&DEFAULT.replace(from, to)));
            let settings = status("zen-mesh", told).borrow().clone();
            assert_eq!((settings.intake.as_str(), settings.ingester_replicas), (intake, 2));
            assert!(settings.opens_zen_locks);
        }
    }
}
