//! The task behind [`super::Cluster`]: takes what the watches tell, compiles, swaps, and keeps the watches of Secrets and
//! `ConfigMap`s in line with what is named.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use zen_compile::{Compiled, Mode, Objects, Snapshot};

use super::cache::{Cache, Stored};
use super::state::State;
use super::unseal::{Unseal, ZenLocks};
use super::update::Update;
use super::watches::Watches;
use super::{Error, Options};
use crate::Published;

/// A pause between two compilations is as long as the first of them, up to this: changes in a row become one.
const PAUSE: Duration = Duration::from_millis(20);
/// Signals that wait to be taken; a watch that tells more is slowed down.
const SIGNALS: usize = 1024;

/// What is in effect, for whoever asks.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) published: watch::Sender<Arc<Published>>,
}

pub(super) struct Follower {
    mode: Mode,
    state: Box<State>,
    watches: Watches,
    updates: mpsc::Receiver<Update>,
    /// Where answers about `ZenLock`s go.
    to: mpsc::Sender<Update>,
    unseal: Option<Arc<dyn Unseal>>,
    asking: JoinSet<()>,
    cache: Option<Cache>,
    /// Something is in force that nobody has told yet.
    is_cached: bool,
    /// No compilation before this.
    rest_until: Instant,
}

impl Follower {
    pub(super) async fn new(client: kube::Client, options: Options, zen_locks: ZenLocks) -> Self {
        let (sender, updates) = mpsc::channel(SIGNALS);
        let cache = options.cache.map(|path| Cache::new(path, options.plane));
        let stored = match &cache {
            Some(cache) => cache.load().await,
            None => None,
        };
        let is_cached = stored.is_some();
        let (objects, mesh) = stored.map(Stored::into_parts).unwrap_or_default();
        let state = State::new(options.plane, options.member, objects, mesh, &zen_locks);
        let mut watches = Watches::new(client, options.mesh_namespace, sender.clone());
        for source in state.sources() {
            watches.begin(source);
        }
        Self {
            mode: Mode::Cluster(options.plane),
            state: Box::new(state),
            watches,
            updates,
            to: sender,
            unseal: zen_locks.into_unseal(),
            asking: JoinSet::new(),
            cache,
            is_cached,
            rest_until: Instant::now(),
        }
    }

    /// The first configuration: that of the cache where there is one, else once everything was read.
    pub(super) async fn first(mut self) -> Result<(Self, Snapshot, Published), Error> {
        if !self.is_cached {
            while !self.is_due() {
                self.wait().await?;
            }
            if let Some(cache) = &mut self.cache {
                cache.outdated();
            }
        }
        let (compiled, published) = self.compile(None).await?;
        self.align();
        Ok((self, compiled, published))
    }

    /// Goes on for ever.
    pub(super) async fn follow(mut self, output: Output) -> Result<(), Error> {
        loop {
            self.wait().await?;
            if self.is_due() {
                let before = Instant::now();
                let (snapshot, published) = self.compile(Some(output.snapshot.load_full())).await?;
                let generation = snapshot.generation;
                let old = output.snapshot.swap(Arc::new(snapshot));
                let told = output.published.send_replace(Arc::new(published));
                let took = before.elapsed();
                // Giving back what ten thousand objects took is work too, and not for a thread that serves.
                tokio::task::spawn_blocking(move || drop((old, told)));
                self.rest_until = Instant::now() + took.min(PAUSE);
                tracing::debug!(generation, ?took, "configuration in effect");
                self.align();
                if let Some(cache) = &mut self.cache {
                    cache.outdated();
                }
            } else if self.state.is_complete() != output.published.borrow().complete {
                let complete = self.state.is_complete();
                output.published.send_modify(|published| Arc::make_mut(published).complete = complete);
            }
        }
    }

    /// Until something was told or has waited long enough. Takes everything that is there.
    async fn wait(&mut self) -> Result<(), Error> {
        let mut next = self.state.settle(Instant::now());
        if self.state.has_change() {
            next = Some(next.map_or(self.rest_until, |next| next.min(self.rest_until)));
        }
        let write = self.cache.as_ref().and_then(Cache::due);
        tokio::select! {
            biased;
            update = self.updates.recv() => {
                let mut update = Some(update.ok_or(Error::Ended)?);
                let now = Instant::now();
                for _ in 0..SIGNALS {
                    let Some(told) = update else { break };
                    self.state.take(told, now);
                    update = self.updates.try_recv().ok();
                }
            }
            () = until(next) => {}
            () = until(write) => {
                let stored = Stored::of(&self.state);
                if let Some(cache) = &mut self.cache {
                    cache.write(stored);
                }
            }
        }
        self.state.settle(Instant::now());
        // What waits for a Secret has its watch begun at once, not after the next compilation.
        self.align();
        Ok(())
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        self.state.is_due(now) && now >= self.rest_until
    }

    /// Watches what is named.
    fn align(&mut self) {
        let (ended, begun) = self.state.align();
        for reference in &ended {
            self.watches.end(reference);
        }
        for reference in begun {
            self.watches.begin_named(reference);
        }
        self.ask();
    }

    /// Asks for what `ZenLock`s hold; the answers come as what watches tell does.
    fn ask(&mut self) {
        let Some(unseal) = &self.unseal else { return };
        while self.asking.try_join_next().is_some() {}
        for ask in self.state.asks(Instant::now()) {
            let (unseal, to) = (Arc::clone(unseal), self.to.clone());
            self.asking.spawn(async move {
                let answer = unseal.unseal(&ask.uses).await;
                // Whoever would take it is gone.
                let _ = to.send(Update::Unsealed(ask, answer)).await;
            });
        }
    }

    /// Compiles on a thread that may block: the first time with many objects takes a while.
    async fn compile(&mut self, previous: Option<Arc<Snapshot>>) -> Result<(Snapshot, Published), Error> {
        self.state.begin();
        let objects = std::mem::take(&mut self.state.objects);
        let mode = self.mode;
        let task = tokio::task::spawn_blocking(move || {
            let compiled = zen_compile::compile(&objects, previous.as_deref(), mode);
            (objects, compiled)
        });
        let (objects, compiled): (Objects, Compiled) = task.await.map_err(|_| Error::Ended)?;
        self.state.objects = objects;
        let Compiled { snapshot, verdicts, references, lock_uses } = compiled;
        self.state.compiled(&references, &lock_uses);
        let published = Published {
            generation: snapshot.generation,
            verdicts,
            findings: self.state.findings().to_vec(),
            references,
            complete: self.state.is_complete(),
        };
        Ok((snapshot, published))
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
