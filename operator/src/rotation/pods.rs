//! The pods themselves: found by the slices of their Services, met at the port where they present their certificate.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http_body_util::Full;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::sync::watch;
use zen_identity::exchange::{self, exchange};
use zen_identity::http::{self, Peer};
use zen_identity::server::PeerCertificates;
use zen_identity::{Component, Mesh, control};
use zen_pki::{Identity, Presented, TrustRoots};
use zen_rotation::Rate;
use zen_verify::Sample;

use super::field::{Field, Pod, Unheard};
use super::rates;
use super::synthetic::{Arrived, counted};
use super::told::{Told, told};
use crate::names;
use crate::status::pods::SERVICE_LABEL;
use crate::watching::Watched;

/// The Services, who stands behind them, and the port at which a pod presents itself where the slice does not name it.
const SERVICES: [(&str, Component, &str, u16); 5] = [
    (names::INGESTER_PEERS, Component::Ingester, "control", names::port::CONTROL),
    (names::EGRESS, Component::Egress, "control", names::port::CONTROL),
    (names::AUDIT, Component::Audit, "audit", names::port::AUDIT),
    (names::ZENLOCK, Component::ZenLock, "https", names::port::ZENLOCK),
    (names::OPERATOR, Component::Operator, "identity", names::port::IDENTITY),
];
/// A path that nobody serves: any answer to it will do.
const NOWHERE: &str = "/v1/greeting";
/// A handshake and one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Such an answer is short.
const MAX_BODY: usize = 64 << 10;

/// Watches the slices until it and its clones are dropped.
#[derive(Clone, Debug)]
pub struct Pods {
    mesh: Mesh,
    known: watch::Receiver<Vec<Pod>>,
    roots: watch::Receiver<Option<Arc<str>>>,
}

impl Pods {
    /// `control` is [`names::port::CONTROL`] outside of tests; `roots`: the trust bundle in effect.
    pub fn watch(client: Client, mesh: Mesh, control: u16, roots: watch::Receiver<Option<Arc<str>>>) -> Self {
        let (tell, known) = watch::channel(Vec::new());
        tokio::spawn(follow(client, mesh.namespace().to_owned(), control, tell));
        Self { mesh, known, roots }
    }

    /// Known by its name, as the API server and sources know it.
    async fn by_name(
        &self,
        address: SocketAddr,
        service: &str,
        tls: Arc<ClientConfig>,
        request: ::http::request::Builder,
        body: Bytes,
    ) -> Result<::http::Response<Bytes>, Unheard> {
        let away = |error: &dyn ToString| Unheard::Away(error.to_string());
        let host = format!("{service}.{}.svc", self.mesh.namespace());
        let name = ServerName::try_from(host.clone()).map_err(|error| away(&error))?;
        let request =
            request.header(::http::header::HOST, host).body(Full::from(body)).map_err(|error| away(&error))?;
        exchange(address, name, tls, request, TIMEOUT, MAX_BODY).await.map_err(|error| unheard(&error))
    }

    /// Towards who has a certificate of the mesh.
    fn of_the_mesh(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, Unheard> {
        let roots = self.roots.borrow().clone().ok_or_else(|| Unheard::Away("no trust bundle yet".to_owned()))?;
        let tls = TrustRoots::from_pem(&roots).and_then(|roots| zen_pki::named_client(&roots, identity));
        tls.map_err(|error| Unheard::Away(error.to_string()))
    }

    /// Towards an intake with a certificate of the user's own: its ingester says which it is.
    async fn as_it_says(&self, pod: &Pod, identity: &Identity) -> Result<Arc<ClientConfig>, Unheard> {
        let away = |error: &dyn ToString| Unheard::Away(error.to_string());
        let told = self.told_of_intake(pod, identity).await?;
        let certificate = told.certificate.ok_or_else(|| away(&"its intake has no certificate"))?;
        zen_pki::pinned_client(&certificate).map_err(|error| away(&error))
    }

    async fn told_of_intake(&self, pod: &Pod, identity: &Identity) -> Result<control::Intake, Unheard> {
        let client = http::Client::new(identity).with_timeout(TIMEOUT).with_max_body(MAX_BODY);
        let peer = Peer { address: pod.address, id: self.mesh.id(pod.component).clone() };
        client.get(&peer, control::INTAKE).await.map_err(|error| Unheard::Away(error.to_string()))
    }

    /// What it presents there.
    async fn met_by_name(
        &self,
        address: SocketAddr,
        service: &str,
        identity: Option<&Identity>,
    ) -> Result<Presented, Unheard> {
        let nowhere = ::http::Request::get(NOWHERE);
        presented(&self.by_name(address, service, self.of_the_mesh(identity)?, nowhere, Bytes::new()).await?)
    }
}

impl Field for Pods {
    fn pods(&self) -> Vec<Pod> {
        self.known.borrow().iter().filter(|pod| pod.component != Component::Operator).cloned().collect()
    }

    fn operators(&self) -> Vec<Pod> {
        self.known.borrow().iter().filter(|pod| pod.component == Component::Operator).cloned().collect()
    }

    async fn greet(&self, pod: &Pod, identity: &Identity) -> Result<Presented, Unheard> {
        match pod.component {
            Component::ZenLock => return self.met_by_name(pod.address, names::ZENLOCK, Some(identity)).await,
            // Of its own kind it takes no certificate.
            Component::Operator => return self.met_by_name(pod.address, names::OPERATOR, None).await,
            Component::Ingester | Component::Egress | Component::Audit => {}
        }
        let client = http::Client::new(identity).with_timeout(TIMEOUT).with_max_body(MAX_BODY);
        let peer = Peer { address: pod.address, id: self.mesh.id(pod.component).clone() };
        match client.request(&peer, ::http::Method::GET, NOWHERE, None).await {
            Ok(answer) => presented(&answer),
            Err(http::Error::Exchange(error)) => Err(unheard(&error)),
            Err(error) => Err(Unheard::Away(error.to_string())),
        }
    }

    async fn visit(&self, pod: &Pod) -> Option<Result<Presented, Unheard>> {
        Some(self.met_by_name(pod.intake?, names::INGESTER, None).await)
    }

    async fn intake(&self, pod: &Pod, identity: &Identity) -> Result<Presented, Unheard> {
        let told = self.told_of_intake(pod, identity).await?;
        told.presented().ok_or_else(|| Unheard::Away("its intake has no certificate".to_owned()))
    }

    async fn post(&self, pod: &Pod, event: Sample, asked_as: Option<&Identity>) -> Result<u16, Unheard> {
        let Some(intake) = pod.intake else { return Err(Unheard::Away("it has no intake".to_owned())) };
        let request = event
            .headers
            .iter()
            .fold(::http::Request::post(&event.path_and_query), |request, (name, value)| request.header(name, value));
        let Some(identity) = asked_as else {
            let tls = self.of_the_mesh(None)?;
            return Ok(self.by_name(intake, names::INGESTER, tls, request, event.body).await?.status().as_u16());
        };
        let tls = self.as_it_says(pod, identity).await?;
        let answer = self.by_name(intake, names::INGESTER, tls, request, event.body).await;
        // It is exchanged by others, perhaps just now: nothing of ours failed.
        let answer = answer.map_err(|error| Unheard::Away(error.to_string()))?;
        Ok(answer.status().as_u16())
    }

    async fn arrived(&self, pod: &Pod) -> Option<Arrived> {
        Some(counted(&rates::fetch(pod.admin).await?, self.mesh.namespace()))
    }

    async fn rate(&self, pod: &Pod) -> Option<Rate> {
        rates::rate(pod.component, &rates::fetch(pod.admin).await?)
    }

    async fn told(&self, pod: &Pod) -> Option<Told> {
        told(&rates::fetch(pod.admin).await?)
    }
}

fn unheard(error: &exchange::Error) -> Unheard {
    let text = error.to_string();
    if error.is_refusal() { Unheard::Refused(text) } else { Unheard::Away(text) }
}

fn presented(answer: &::http::Response<Bytes>) -> Result<Presented, Unheard> {
    let chain = answer.extensions().get::<PeerCertificates>().map(|presented| Arc::clone(&presented.0));
    Presented::of(chain.as_deref().unwrap_or_default()).map_err(|error| Unheard::Refused(error.to_string()))
}

async fn follow(client: Client, namespace: String, control: u16, tell: watch::Sender<Vec<Pod>>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let services = SERVICES.map(|(service, ..)| service).join(", ");
    let selector = format!("{SERVICE_LABEL} in ({services})");
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default().labels(&selector)).default_backoff());
    let (mut slices, mut fresh) = (BTreeMap::new(), None);
    let mut watched = Watched::new("EndpointSlice");
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = tell.closed() => return,
        };
        let Some(event) = event else { return };
        match watched.heard(event) {
            None => continue,
            Some(watcher::Event::Init) => fresh = Some(BTreeMap::new()),
            Some(watcher::Event::InitApply(slice)) => {
                fresh.get_or_insert_default().insert(slice.name_any(), slice);
            }
            Some(watcher::Event::InitDone) => slices = fresh.take().unwrap_or_default(),
            Some(watcher::Event::Apply(slice)) => drop(slices.insert(slice.name_any(), slice)),
            Some(watcher::Event::Delete(slice)) => drop(slices.remove(&slice.name_any())),
        }
        if fresh.is_none() {
            tell.send_replace(of(slices.values(), control));
        }
    }
}

/// The pods of these slices, each once, but for those that are about to end.
fn of<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>, control: u16) -> Vec<Pod> {
    let mut pods = BTreeMap::new();
    for slice in slices {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
        let known = SERVICES.iter().find(|(name, ..)| service.is_some_and(|service| service == name));
        let Some((_, component, port, fallback)) = known else { continue };
        let fallback = if *fallback == names::port::CONTROL { control } else { *fallback };
        let ports = Ports {
            own: port_of(slice, port, fallback),
            admin: port_of(slice, "admin", names::port::ADMIN),
            intake: (*component == Component::Ingester).then(|| port_of(slice, "intake", names::port::INTAKE)),
        };
        for pod in slice.endpoints.iter().flatten().filter_map(|endpoint| pod(endpoint, *component, ports)) {
            pods.entry(pod.uid.clone()).and_modify(|known: &mut Pod| known.ready |= pod.ready).or_insert(pod);
        }
    }
    pods.into_values().collect()
}

#[derive(Clone, Copy)]
struct Ports {
    own: u16,
    admin: u16,
    intake: Option<u16>,
}

fn port_of(slice: &EndpointSlice, name: &str, fallback: u16) -> u16 {
    let named = slice.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
    named.and_then(|port| u16::try_from(port.port?).ok()).unwrap_or(fallback)
}

fn pod(endpoint: &Endpoint, component: Component, ports: Ports) -> Option<Pod> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let name = target.name.as_deref()?;
    let address = endpoint.addresses.iter().find_map(|address| address.parse::<std::net::IpAddr>().ok())?;
    let conditions = endpoint.conditions.as_ref();
    if conditions.and_then(|conditions| conditions.terminating).unwrap_or(false) {
        return None;
    }
    Some(Pod {
        component,
        name: name.into(),
        uid: target.uid.as_deref().unwrap_or(name).into(),
        address: SocketAddr::new(address, ports.own),
        intake: ports.intake.map(|port| SocketAddr::new(address, port)),
        admin: SocketAddr::new(address, ports.admin),
        ready: conditions.and_then(|it| it.serving.or(it.ready)).unwrap_or(true),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_are_met_where_they_present_themselves() {
        let slice = |service: &str, port: Option<(&str, u16)>, terminating: bool| {
            let ports: Vec<_> = port.into_iter().map(|(name, port)| json!({"name": name, "port": port})).collect();
            serde_json::from_value::<EndpointSlice>(json!({
                "metadata": {"name": service, "labels": {SERVICE_LABEL: service}}, "addressType": "IPv4", "ports": ports,
                "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"terminating": terminating},
                               "targetRef": {"kind": "Pod", "name": format!("{service}-0"), "uid": service}}],
            }))
            .expect("a slice")
        };
        let met = |slice: EndpointSlice| of([&slice], 9902).first().map(|pod| (pod.component, pod.address.port()));
        for (slice, expected) in [
            (slice("zen-ingester-peers", Some(("control", 1234)), false), Some((Component::Ingester, 1234))),
            (slice("zen-egress", Some(("link", 9444)), false), Some((Component::Egress, 9902))),
            (slice("zen-audit", Some(("audit", 9445)), false), Some((Component::Audit, 9445))),
            (slice("zenlock-webhook", Some(("https", 8443)), false), Some((Component::ZenLock, 8443))),
            (slice("zen-operator", Some(("identity", 8443)), false), Some((Component::Operator, 8443))),
            (slice("other", None, false), None),
            (slice("zen-egress", None, true), None),
        ] {
            assert_eq!(met(slice), expected);
        }
    }
}
