//! A mesh of one process, whose CA lies in a folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zen_audit::remote::Remote;
use zen_audit::verify::{Lenience, Report, files};
use zen_audit::{Action, Entry, Head, Log, Options, Record, Writer};
use zen_audit_store::anchor::Anchoring;
use zen_audit_store::{Anchor, Metrics, Store, router, store};
use zen_identity::server::serve_for_telling;
use zen_identity::{Component, Mesh};
use zen_pki::{Ca, Identity};
use zen_pod::audit::Notes;

pub fn mesh() -> Mesh {
    Mesh::new(&"zen-mesh.local".parse().expect("valid"), "zen-mesh").expect("valid")
}

pub fn identity(ca: &Path, component: Component) -> Identity {
    let ca = Ca::load_or_create(ca, &"zen-mesh.local".parse().expect("valid")).expect("a CA");
    let certificate = ca.issue_workload(mesh().id(component), Duration::from_hours(1)).expect("issued");
    Identity::new(&certificate, &ca.roots().expect("roots")).expect("an identity")
}

pub fn writer() -> Writer {
    "zenlock-webhook/pod-1".parse().expect("valid")
}

pub fn access(n: u64) -> Record {
    let object = format!("ZenLock/team-a/lock-{n}");
    Record::new(Action::AccessSecret, "Pod/team-a/web-1", &object).allowed().correlation(&format!("r-{n}"))
}

/// A store on its folder; its files are small, so that they rotate.
pub fn open(data: &Path, options: store::Options) -> Arc<Store> {
    let found = store::scan(data).expect("readable");
    let folder = data.join("zen-audit/zen-audit-0");
    let own = Options::new(folder, "zen-audit/zen-audit-0".parse().expect("valid"));
    let log = Log::open(Options { strict: true, ..own }).expect("opens");
    Arc::new(Store::new(data, options, found, log, Metrics::default()))
}

pub fn small() -> store::Options {
    store::Options { file_bytes: 4 << 10, ..store::Options::default() }
}

/// A running store.
pub struct Served {
    pub store: Arc<Store>,
    pub address: SocketAddr,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    pub async fn start(ca: &Path, data: &Path, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let (store, end) = (open(data, small()), CancellationToken::new());
        let (routes, ended, identity) = (router(Arc::clone(&store)), end.clone(), identity(ca, Component::Audit));
        let refusals = Notes::of(store.log()).listener("audit");
        let task = tokio::spawn(async move {
            let actions = [zen_identity::Action::Audit];
            serve_for_telling(&actions, listener, &identity, routes, ended, refusals).await.expect("served");
        });
        Self { store, address, end, task }
    }

    pub async fn stop(self) {
        self.end.cancel();
        self.task.await.expect("no panic");
        self.store.log().clone().close().await;
    }
}

pub fn remote(ca: &Path, component: Component, address: SocketAddr) -> Remote {
    Remote::new(&identity(ca, component), &mesh(), &address.ip().to_string(), address.port())
}

pub async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(30), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("in time");
}

pub fn verify(folder: &Path, anchors: &[Head]) -> Report {
    files::verify(&paths(folder), anchors, Lenience::default()).expect("readable")
}

pub fn paths(folder: &Path) -> Vec<PathBuf> {
    files::expand(&[folder.to_owned()]).unwrap_or_default()
}

pub fn entries(folder: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    for file in paths(folder) {
        // The last line may be being written.
        let mut read = |line: &[u8]| entries.push(Entry::parse(line).expect("an entry"));
        files::lines(&file, |_, line, whole| {
            if whole {
                read(line);
            }
        })
        .unwrap_or_default();
    }
    entries
}

/// The correlation ids below a folder, in order.
pub fn ids(folder: &Path) -> Vec<String> {
    entries(folder).into_iter().map(|entry| entry.correlation).filter(|id| !id.is_empty()).collect()
}

/// The store's own entries of an action.
pub fn own(data: &Path, action: Action) -> Vec<Entry> {
    entries(&data.join("zen-audit")).into_iter().filter(|entry| entry.action == action.label()).collect()
}

/// Heads in memory.
#[derive(Clone, Default)]
pub struct Kept(pub Arc<Mutex<Vec<Head>>>);

impl Anchor for Kept {
    fn read(&self) -> Anchoring<'_, Vec<Head>> {
        Box::pin(async { Ok(self.heads()) })
    }

    fn write<'a>(&'a self, heads: &'a [Head]) -> Anchoring<'a, ()> {
        Box::pin(async move {
            *self.0.lock().expect("no panic") = heads.to_vec();
            Ok(())
        })
    }
}

impl Kept {
    pub fn heads(&self) -> Vec<Head> {
        self.0.lock().expect("no panic").clone()
    }
}
