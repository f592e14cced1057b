//! The status of ZenLocks: written where it changes, one object after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event as Notice, EventType, Recorder};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource as _};
use serde_json::json;
use tokio::sync::watch;
use zen_crds::ZenLock;
use zen_runtime::lease::Leadership;

use super::{Delivered, NAME, Parts, verdict};

/// After a failure of the watch or of a write.
const PAUSE: Duration = Duration::from_secs(2);
type Key = (String, String);

/// Keeps the statuses up to date, for as long as it is polled.
pub(super) async fn run(
    parts: Parts,
    leadership: Leadership,
    recorder: Recorder,
    delivered: watch::Receiver<Delivered>,
) {
    let mut desk = Desk {
        parts,
        leadership,
        recorder,
        delivered: delivered.clone(),
        known: BTreeMap::new(),
        due: BTreeSet::new(),
    };
    let mut stream = pin!(watcher(Api::<ZenLock>::all(desk.parts.client.clone()), watcher::Config::default()));
    let (mut keys, mut delivered) = (desk.parts.custody.changes(), delivered);
    let mut failing = false;
    let mut listed: BTreeMap<Key, ZenLock> = BTreeMap::new();
    loop {
        tokio::select! {
            biased;
            event = stream.next() => match event {
                Some(Ok(event)) => {
                    failing = false;
                    desk.heard(event, &mut listed);
                }
                Some(Err(error)) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "failed to watch ZenLocks");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                // A watch never ends.
                None => return,
            },
            // Other keys, other verdicts; both channels live as long as this.
            Ok(()) = keys.changed() => desk.due.extend(desk.known.keys().cloned()),
            Ok(()) = delivered.changed() => desk.due.extend(desk.known.keys().cloned()),
            () = std::future::ready(()), if !desk.due.is_empty() => desk.write_one().await,
        }
    }
}

struct Desk {
    parts: Parts,
    leadership: Leadership,
    recorder: Recorder,
    delivered: watch::Receiver<Delivered>,
    known: BTreeMap<Key, ZenLock>,
    due: BTreeSet<Key>,
}

impl Desk {
    fn heard(&mut self, event: Event<ZenLock>, listed: &mut BTreeMap<Key, ZenLock>) {
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(object) => drop(listed.insert(key(&object), object)),
            Event::InitDone => {
                self.known = std::mem::take(listed);
                self.due = self.known.keys().cloned().collect();
            }
            Event::Apply(object) => {
                self.due.insert(key(&object));
                self.known.insert(key(&object), object);
            }
            Event::Delete(object) => drop(self.known.remove(&key(&object))),
        }
    }

    async fn write_one(&mut self) {
        let Some(key) = self.due.pop_first() else { return };
        let Some(object) = self.known.get(&key).cloned() else { return };
        let in_etcd = self.delivered.borrow().contains(&key);
        let keys = self.parts.custody.keys();
        let judged = tokio::task::spawn_blocking(move || {
            let status = verdict::status(&object, &keys, in_etcd, Timestamp::now());
            (object, status)
        });
        let Ok((object, status)) = judged.await else { return };
        if object.status.as_ref() == Some(&status) || object.metadata.deletion_timestamp.is_some() {
            return;
        }
        if self.leadership.check().is_err() {
            return;
        }
        let (namespace, name) = &key;
        let api: Api<ZenLock> = Api::namespaced(self.parts.client.clone(), namespace);
        let patch = json!({
            "apiVersion": ZenLock::api_version(&()), "kind": ZenLock::kind(&()),
            // Of this object and no later one of its name.
            "metadata": {"name": name, "uid": object.metadata.uid},
            "status": status,
        });
        match api.patch_status(name, &PatchParams::apply(NAME).force(), &Patch::Apply(&patch)).await {
            Ok(_) => {
                if let Some((warning, reason, note)) = verdict::transition(object.status.as_ref(), &status) {
                    let type_ = if warning { EventType::Warning } else { EventType::Normal };
                    let action = "Decrypt".to_owned();
                    let notice = Notice { type_, reason, note: Some(note), action, secondary: None };
                    if let Err(error) = self.recorder.publish(&notice, &object.object_ref(&())).await {
                        tracing::warn!(%error, namespace, name, "failed to write an Event");
                    }
                }
            }
            // It is gone, or another by now: the watch tells.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(%error, namespace, name, "failed to write the status of a ZenLock");
                self.due.insert(key);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn key(object: &ZenLock) -> Key {
    let metadata = &object.metadata;
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}
