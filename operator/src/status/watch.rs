//! Watches: our kinds, and the slices behind which the data plane stands.

use std::collections::BTreeMap;

use futures_util::{Stream, StreamExt, pin_mut};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::{mpsc, watch};

use super::board::Seen;
use super::fleet::Pod;
use super::object::{Id, Kind, Object};
use super::pods::{SERVICE_LABEL, pods};
use crate::names;
use crate::watching::Watched;

/// Objects of one answer to a list: a page is in memory whole, with all that others wrote on its objects.
const PAGE: u32 = 100;

/// Tells what happens to the objects of a kind until nobody listens. Each object is read by itself: a malformed one
/// stalls nothing.
pub async fn objects(client: Client, kind: Kind, seen: mpsc::Sender<Seen>) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    tell(kind, watcher(api, watcher::Config::default().page_size(PAGE)).default_backoff(), seen).await;
}

async fn tell(
    kind: Kind,
    events: impl Stream<Item = Result<watcher::Event<DynamicObject>, watcher::Error>>,
    seen: mpsc::Sender<Seen>,
) {
    pin_mut!(events);
    let mut watched = Watched::new(kind.name());
    while let Some(event) = events.next().await {
        let told = watched.heard(event).and_then(|event| match event {
            watcher::Event::Init => Some(Seen::Listing(kind)),
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                Object::read(kind, &object).map(Seen::There)
            }
            watcher::Event::InitDone => Some(Seen::Listed(kind)),
            watcher::Event::Delete(object) => {
                Object::read(kind, &object).map(|object| Seen::Gone(Id::new(kind, object.id.key)))
            }
        });
        if let Some(told) = told
            && seen.send(told).await.is_err()
        {
            return;
        }
    }
}

/// Keeps the pods of the data plane current until nobody listens; none before they are known.
pub async fn data_plane(client: Client, namespace: String, sender: watch::Sender<Option<Vec<Pod>>>) {
    let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
    let services = format!("{SERVICE_LABEL} in ({}, {})", names::EGRESS, names::INGESTER_PEERS);
    let events = watcher(api, watcher::Config::default().labels(&services)).default_backoff();
    pin_mut!(events);
    let (mut slices, mut fresh) = (BTreeMap::new(), None);
    let mut watched = Watched::new("EndpointSlice");
    while let Some(event) = events.next().await {
        let Some(event) = watched.heard(event) else { continue };
        match event {
            watcher::Event::Init => fresh = Some(BTreeMap::new()),
            watcher::Event::InitApply(slice) => {
                fresh.get_or_insert_default().insert(slice.name_any(), slice);
            }
            watcher::Event::InitDone => slices = fresh.take().unwrap_or_default(),
            watcher::Event::Apply(slice) => drop(slices.insert(slice.name_any(), slice)),
            watcher::Event::Delete(slice) => drop(slices.remove(&slice.name_any())),
        }
        if fresh.is_none() {
            let now = pods(slices.values());
            sender.send_if_modified(|known| {
                let changed = known.as_ref() != Some(&now);
                *known = Some(now);
                changed
            });
        }
        if sender.is_closed() {
            return;
        }
    }
}
