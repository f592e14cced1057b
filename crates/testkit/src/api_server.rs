//! A scripted API server: a client talks to it as to a real one, and any call that the test did not expect fails it.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use k8s_openapi::api::core::v1::ConfigMap;
//! use zen_testkit::api_server::{ApiServer, Call, Reply};
//!
//! let server = ApiServer::new();
//! server.expect(Call::get("/api/v1/namespaces/zen-mesh/configmaps/zen-mesh"), Reply::not_found());
//! let config_maps: kube::Api<ConfigMap> = kube::Api::namespaced(server.client(), "zen-mesh");
//! assert!(config_maps.get_opt("zen-mesh").await.unwrap().is_none());
//! server.finish();
//! # });
//! ```

mod call;
mod reply;
mod watch;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use call::{Call, Received};
use http::{Request, Response};
use kube::client::Body;
pub use reply::Reply;
use reply::Stream;
use tokio::sync::Notify;
pub use watch::Watch;

/// The server. Clones share the script. Dropping the last handle of the test fails it like [`ApiServer::finish`].
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    script: Mutex<Script>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct Script {
    /// What must come, in this order.
    expected: VecDeque<(Call, Reply)>,
    /// What may come at any time, as often as it likes; the newest first.
    standing: Vec<(Call, Reply)>,
    received: Vec<Received>,
    /// What should not have come.
    unexpected: Vec<String>,
}

impl Default for ApiServer {
    fn default() -> Self {
        Self::new()
    }
}

impl ApiServer {
    /// Expects nothing.
    pub fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// A client of it, with the default namespace `default`. Works on the runtime that is current.
    pub fn client(&self) -> kube::Client {
        let shared = Arc::clone(&self.shared);
        let service = tower::service_fn(move |request: Request<Body>| {
            let shared = Arc::clone(&shared);
            async move { Ok::<_, Infallible>(shared.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    /// This call comes next among the expected ones, once, and is answered so.
    pub fn expect(&self, call: Call, reply: Reply) {
        self.shared.lock().expected.push_back((call, reply));
    }

    /// This call may come at any time and any number of times. A call that is expected now comes before it; of two that
    /// stand, the later one counts.
    pub fn allow(&self, call: Call, reply: Reply) {
        self.shared.lock().standing.push((call, reply));
    }

    /// Answers lists of this collection with `items` (resource version 1) and serves watches of it from what the test
    /// sends.
    pub fn watch(&self, path: &str, items: Vec<serde_json::Value>) -> Watch {
        let watch = Watch::default();
        self.allow(Call::get(path), Reply::list(items));
        self.allow(Call::get(path).query("watch", "true"), Reply::watch(&watch));
        watch
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().received.clone()
    }

    /// Waits until every expected call has come.
    pub async fn done(&self) {
        self.until(|script| script.expected.is_empty()).await;
    }

    /// Waits until so many calls have come that match.
    pub async fn seen(&self, call: &Call, times: usize) {
        self.until(|script| script.received.iter().filter(|received| call.matches(received).is_ok()).count() >= times)
            .await;
    }

    async fn until(&self, met: impl Fn(&Script) -> bool) {
        loop {
            let moved = self.shared.moved.notified();
            if met(&self.shared.lock()) {
                return;
            }
            moved.await;
        }
    }

    /// Fails the test if a call came that was not expected, or one that was expected did not come.
    #[track_caller]
    pub fn finish(&self) {
        let script = self.shared.lock();
        let missing: Vec<String> = script.expected.iter().map(|(call, _)| call.to_string()).collect();
        let unexpected = script.unexpected.clone();
        drop(script);
        assert!(unexpected.is_empty(), "calls that were not expected:\n{}", unexpected.join("\n"));
        assert!(missing.is_empty(), "calls that did not come:\n{}", missing.join("\n"));
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.finish();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Body>) -> Response<Stream> {
        let received = Received::read(request).await;
        let reply = self.lock().reply(&received);
        self.moved.notify_waiters();
        match reply {
            Some(reply) => reply.respond(&received).await,
            None => Reply::status(501, "Unexpected", "the test does not expect this call").respond(&received).await,
        }
    }
}

impl Script {
    fn reply(&mut self, received: &Received) -> Option<Reply> {
        self.received.push(received.clone());
        let refusal = match self.expected.front() {
            Some((call, _)) => match call.matches(received) {
                Ok(()) => return self.expected.pop_front().map(|(_, reply)| reply),
                Err(why) => format!("next is {call}: {why}"),
            },
            None => "nothing more is expected".to_owned(),
        };
        let standing = self.standing.iter().rev().find(|(call, _)| call.matches(received).is_ok());
        if let Some((_, reply)) = standing {
            return Some(reply.clone());
        }
        self.unexpected.push(format!("{received} ({refusal})"));
        None
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::Api;
    use kube::api::{Patch, PatchParams};
    use kube::runtime::watcher::{self, Config, watcher};
    use serde_json::json;

    use super::*;

    const PATH: &str = "/api/v1/namespaces/default/configmaps";

    fn config_map(name: &str, version: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap",
               "metadata": {"name": name, "namespace": "default", "resourceVersion": version}})
    }

    #[tokio::test]
    async fn expected_calls_are_answered_in_order() {
        let server = ApiServer::new();
        let one = format!("{PATH}/one");
        server.expect(Call::get(&one), Reply::not_found());
        server.expect(
            Call::patch(&one).query("fieldManager", "test").body(|body| body["data"]["a"] == "b"),
            Reply::ok(config_map("one", "2")),
        );
        let api: Api<ConfigMap> = Api::default_namespaced(server.client());
        assert!(api.get_opt("one").await.expect("answered").is_none());
        let patch = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}));
        let applied = api.patch("one", &PatchParams::apply("test"), &patch).await.expect("applied");
        assert_eq!(applied.metadata.resource_version.as_deref(), Some("2"));
        server.done().await;
        server.finish();
    }

    #[tokio::test]
    #[should_panic(expected = "not expected")]
    async fn any_other_call_fails_the_test() {
        let server = ApiServer::new();
        server.expect(Call::get(&format!("{PATH}/one")), Reply::not_found());
        let api: Api<ConfigMap> = Api::default_namespaced(server.client());
        assert!(api.get_opt("two").await.is_err());
        server.finish();
    }

    #[tokio::test]
    #[should_panic(expected = "did not come")]
    async fn a_call_that_does_not_come_fails_the_test() {
        let server = ApiServer::new();
        server.expect(Call::get(&format!("{PATH}/one")), Reply::not_found());
        drop(server);
    }

    #[tokio::test]
    async fn failures_are_those_of_an_api_server() {
        let server = ApiServer::new();
        let path = format!("{PATH}/one");
        for reply in [Reply::conflict(), Reply::busy(7), Reply::unavailable(), Reply::gone()] {
            server.expect(Call::get(&path), reply);
        }
        let api: Api<ConfigMap> = Api::default_namespaced(server.client());
        let mut codes = Vec::new();
        for _ in 0..4 {
            let Err(kube::Error::Api(status)) = api.get("one").await else { panic!("an error of the API") };
            let after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
            codes.push((status.code, after));
        }
        assert_eq!(codes, [(409, 0), (429, 7), (503, 0), (410, 0)]);
    }

    #[tokio::test]
    async fn a_watch_follows_lists_bookmarks_and_expiry() {
        let server = ApiServer::new();
        let watch = server.watch(PATH, vec![config_map("one", "1")]);
        let api: Api<ConfigMap> = Api::default_namespaced(server.client());
        let mut events = std::pin::pin!(watcher(api, Config::default()));
        let mut seen = Vec::new();
        watch.modified(config_map("one", "2"));
        watch.bookmark("ConfigMap", "v1", "5");
        watch.expired();
        while seen.len() < 7 {
            let event = match events.try_next().await {
                Ok(event) => event.expect("goes on"),
                Err(error) => {
                    seen.push(format!(
                        "error {}",
                        matches!(error, watcher::Error::WatchError(status) if status.code == 410)
                    ));
                    continue;
                }
            };
            seen.push(match event {
                watcher::Event::Init => "init".to_owned(),
                watcher::Event::InitApply(_) => "listed".to_owned(),
                watcher::Event::InitDone => "synced".to_owned(),
                watcher::Event::Apply(object) => object.metadata.resource_version.unwrap_or_default(),
                watcher::Event::Delete(_) => "deleted".to_owned(),
            });
        }
        assert_eq!(seen, ["init", "listed", "synced", "2", "error true", "init", "listed"]);
    }
}
