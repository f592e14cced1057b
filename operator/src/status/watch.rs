//! Watches: our four kinds, and the slices behind which the data plane stands.

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

/// Tells what happens to the objects of a kind until nobody listens. Each object is read by itself: a malformed one
/// stalls nothing.
pub async fn objects(client: Client, kind: Kind, seen: mpsc::Sender<Seen>) {
    let api: Api<DynamicObject> = Api::all_with(client, &kind.resource());
    tell(kind, watcher(api, watcher::Config::default()).default_backoff(), seen).await;
}

async fn tell(
    kind: Kind,
    events: impl Stream<Item = Result<watcher::Event<DynamicObject>, watcher::Error>>,
    seen: mpsc::Sender<Seen>,
) {
    pin_mut!(events);
    let mut failing = false;
    while let Some(event) = events.next().await {
        let told = match event {
            Ok(event) => {
                note(&mut failing, kind.name(), None);
                match event {
                    watcher::Event::Init => Some(Seen::Listing(kind)),
                    watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                        Object::read(kind, &object).map(Seen::There)
                    }
                    watcher::Event::InitDone => Some(Seen::Listed(kind)),
                    watcher::Event::Delete(object) => {
                        Object::read(kind, &object).map(|object| Seen::Gone(Id::new(kind, object.id.key)))
                    }
                }
            }
            Err(error) => {
                note(&mut failing, kind.name(), Some(&error));
                None
            }
        };
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
    let mut failing = false;
    while let Some(event) = events.next().await {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                note(&mut failing, "EndpointSlice", Some(&error));
                continue;
            }
        };
        note(&mut failing, "EndpointSlice", None);
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

/// Says once that a watch fails, and once that it goes on.
fn note(failing: &mut bool, what: &str, error: Option<&watcher::Error>) {
    match error {
        // A watch that ran out is begun anew at once; that is no failure.
        Some(watcher::Error::WatchError(status)) if status.code == 410 => {}
        Some(error) if !*failing => {
            tracing::warn!(watch = what, %error, "a watch fails; what was seen last stays in force");
            *failing = true;
        }
        None if *failing => {
            tracing::info!(watch = what, "the watch goes on");
            *failing = false;
        }
        _ => {}
    }
}
