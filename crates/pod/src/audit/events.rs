use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Notify;
use zen_audit::log::{Cause, Change};
use zen_model::reason::AuditReason;

/// Between two writes: what comes and goes meanwhile is said as it stands then.
const PACE: Duration = Duration::from_secs(10);
/// An Event that does not come through is no reason to wait for it.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Says on the pod what of its audit log does not work, and when it does again.
pub struct Events {
    recorder: Recorder,
    pod: ObjectReference,
    /// What was heard and is not said yet; the last word on each cause counts.
    heard: Mutex<BTreeMap<Cause, Change>>,
    news: Notify,
}

impl Events {
    /// On a pod of the mesh's namespace, in the name of its component.
    pub fn new(client: Client, account: &str, namespace: &str, pod: &str, uid: &str) -> Self {
        let reporter = Reporter { controller: format!("zen-mesh.io/{account}"), instance: Some(pod.to_owned()) };
        let pod = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(pod.to_owned()),
            uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        let recorder = Recorder::new(client, reporter);
        Self { recorder, pod, heard: Mutex::default(), news: Notify::new() }
    }

    /// For [`zen_audit::Options::on_change`]: only remembers.
    pub fn hear(&self, change: &Change) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(change.cause, change.clone());
        self.news.notify_one();
    }

    /// Writes what is heard. Never ends.
    pub async fn run(&self) {
        loop {
            self.news.notified().await;
            let heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
            for change in heard.into_values() {
                let event = event(&change);
                let published = self.recorder.publish(&event, &self.pod);
                match tokio::time::timeout(TIMEOUT, published).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.unsaid(change, &error.to_string()),
                    Err(_) => self.unsaid(change, "no answer in time"),
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// It is said next time, unless there is something newer to say by then.
    fn unsaid(&self, change: Change, error: &str) {
        tracing::debug!(error, "failed to write an Event about the audit log");
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.entry(change.cause).or_insert(change);
        self.news.notify_one();
    }
}

fn event(change: &Change) -> Event {
    let (type_, reason) = if change.degraded {
        (EventType::Warning, AuditReason::Degraded)
    } else {
        (EventType::Normal, AuditReason::Recovered)
    };
    let Change { cause, reason: why, .. } = change;
    let note =
        if change.degraded { format!("{}: {why}", cause.meaning()) } else { format!("works again: {}", cause.label()) };
    let note = note[..note.floor_char_boundary(1000)].to_owned();
    // Events of one action and reason are one with a count.
    Event {
        type_,
        reason: reason.code().to_owned(),
        note: Some(note),
        action: action(*cause).to_owned(),
        secondary: None,
    }
}

const fn action(cause: Cause) -> &'static str {
    match cause {
        Cause::Disk => "WriteAudit",
        Cause::Queue => "QueueAudit",
        Cause::Backlog => "KeepAudit",
        Cause::Store => "ShipAudit",
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("pod", &self.pod.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use zen_testkit::api_server::{ApiServer, Call, Reply};

    use super::*;

    const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/zen-mesh/events";

    fn change(cause: Cause, degraded: bool, reason: &str) -> Change {
        Change { cause, degraded, reason: reason.to_owned() }
    }

    /// what does not work is said on the pod, though the API server takes it only at the second attempt; what comes and
    /// goes within the pace is one word.
    #[tokio::test(start_paused = true)]
    async fn what_does_not_work_is_said_on_the_pod() {
        let server = ApiServer::new();
        server.allow(Call::post(EVENTS), Reply::unavailable());
        let events = Events::new(server.client(), "zen-operator", "zen-mesh", "zen-operator-1", "u1");
        events.hear(&change(Cause::Store, true, "connection refused"));
        let said = async {
            tokio::time::sleep(PACE / 2).await;
            server.allow(Call::post(EVENTS), Reply::stored());
            tokio::time::sleep(PACE).await;
            for _ in 0..10 {
                events.hear(&change(Cause::Store, false, ""));
                events.hear(&change(Cause::Disk, true, "no space left"));
            }
            tokio::time::sleep(PACE * 2).await;
        };
        tokio::select! {
            () = events.run() => {}
            () = said => {}
        }
        let posts: Vec<_> = server.received().into_iter().filter(|received| received.method == "POST").collect();
        let words: Vec<_> =
            posts.iter().map(|post| (post.body["type"].as_str(), post.body["reason"].as_str())).collect();
        let (warning, normal) = ((Some("Warning"), Some("AuditDegraded")), (Some("Normal"), Some("AuditRecovered")));
        assert_eq!(words, [warning, warning, warning, normal], "{posts:?}");
        let last = &posts[1].body;
        assert_eq!(last["note"], "the store does not take entries: connection refused");
        assert_eq!((&last["regarding"]["name"], &last["regarding"]["uid"]), (&"zen-operator-1".into(), &"u1".into()));
        assert_eq!(last["reportingController"], "zen-mesh.io/zen-operator");
    }
}
