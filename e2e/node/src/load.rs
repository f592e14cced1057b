//! Traffic that goes on until it is stopped, with an account of every request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{self, Instant, MissedTickBehavior};

use crate::source::{Connection, Source, Unanswered};

/// Half of them keep their connection, as most sources do; half open one for each request, which shows at once where no
/// new one is taken.
const WORKERS: usize = 4;
/// Between two requests of a worker. A load that every machine carries: it is to find gaps, not limits.
const PACE: Duration = Duration::from_millis(40);
/// A source tries again after so long.
const RETRY: Duration = Duration::from_millis(100);
/// A source tries for so long.
const PATIENCE: Duration = Duration::from_mins(1);

/// Webhooks being sent. The sending ends when it is dropped.
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

struct Shared {
    name: String,
    source: watch::Receiver<Source>,
    tally: Mutex<Tally>,
    acknowledged: watch::Sender<usize>,
    /// When each worker began what it does now.
    begun: [watch::Sender<Instant>; WORKERS],
}

/// What became of every request.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answered with 202, by delivery id.
    pub acknowledged: BTreeMap<String, Acknowledged>,
    /// Answered with anything else.
    pub refused: Vec<Failure>,
    /// Not answered. What was sent with them was never acknowledged.
    pub unanswered: Vec<Failure>,
    /// Deliveries that were given up.
    pub given_up: Vec<String>,
}

/// One that was taken.
#[derive(Clone, Debug)]
pub struct Acknowledged {
    /// The event's id.
    pub id: String,
    /// When the request that was answered was begun.
    pub sent: Instant,
}

/// One request that came to nothing; its delivery was sent again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Of which delivery.
    pub delivery: String,
    /// When it was begun.
    pub sent: Instant,
    /// Status and code, or why there is no answer.
    pub what: String,
}

impl Load {
    /// Starts sending what `source` is at the time. Delivery ids begin with `name`.
    pub fn start(name: &str, source: watch::Receiver<Source>) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            source,
            tally: Mutex::default(),
            acknowledged: watch::Sender::new(0),
            begun: std::array::from_fn(|_| watch::Sender::new(Instant::now())),
        });
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            workers.spawn(work(Arc::clone(&shared), worker, stopped.clone()));
        }
        Self { shared, stop, workers }
    }

    /// Of a source that stays as it is.
    pub fn of(name: &str, source: Source) -> Self {
        Self::start(name, watch::Sender::new(source).subscribe())
    }

    /// Waits until so many more are acknowledged: that traffic flows now.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn flows(&self, more: usize) {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        let enough = *acknowledged.borrow() + more;
        let waiting = time::timeout(PATIENCE, acknowledged.wait_for(|count| *count >= enough));
        let count = waiting.await.map(|count| count.is_ok());
        assert!(count.is_ok(), "{more} more are acknowledged within {PATIENCE:?}: {}", lock(&self.shared.tally));
    }

    /// Waits until no request is under way that was begun before now.
    ///
    /// # Panics
    ///
    /// When one takes longer than anybody waits.
    pub async fn settles(&self) {
        let now = Instant::now();
        for begun in &self.shared.begun {
            let waiting = begun.subscribe();
            let waiting = async { { waiting }.wait_for(|begun| *begun > now).await.is_ok() };
            assert!(time::timeout(PATIENCE, waiting).await.is_ok(), "a request takes longer than {PATIENCE:?}");
        }
    }

    /// Stops it; what is under way is finished first.
    pub async fn stop(mut self) -> Tally {
        self.stop.send_replace(true);
        while let Some(ended) = self.workers.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        std::mem::take(&mut *lock(&self.shared.tally))
    }
}

impl Tally {
    /// Ids of the events that were acknowledged.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.acknowledged.values().map(|acknowledged| acknowledged.id.as_str())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (refused, unanswered) = (self.refused.len(), self.unanswered.len());
        write!(f, "{} acknowledged, {refused} refused, {unanswered} without an answer", self.acknowledged.len())?;
        let mut kinds = BTreeMap::<&str, usize>::new();
        for failure in self.refused.iter().chain(&self.unanswered) {
            *kinds.entry(&failure.what).or_default() += 1;
        }
        let times = self.refused.iter().chain(&self.unanswered).map(|failure| failure.sent);
        if let (Some(first), Some(last)) = (times.clone().min(), times.max()) {
            write!(f, " within {:?}: {kinds:?}", last - first)?;
        }
        if !self.given_up.is_empty() {
            write!(f, "; given up: {:?}", self.given_up)?;
        }
        Ok(())
    }
}

async fn work(shared: Arc<Shared>, worker: usize, mut stopped: watch::Receiver<bool>) {
    let mut kept = Kept { connection: None, keeps: worker.is_multiple_of(2) };
    let mut pace = time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        let ends = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => true,
            _ = pace.tick() => false,
        };
        if ends {
            return;
        }
        shared.deliver(&format!("{}-{worker}-{number}", shared.name), &mut kept, &shared.begun[worker]).await;
    }
}

/// A worker's connection.
struct Kept {
    connection: Option<Connection>,
    keeps: bool,
}

impl Shared {
    /// Until it is acknowledged.
    async fn deliver(&self, delivery: &str, kept: &mut Kept, begun: &watch::Sender<Instant>) {
        let first = Instant::now();
        while first.elapsed() < PATIENCE {
            let sent = Instant::now();
            begun.send_replace(sent);
            let source = self.source.borrow().clone();
            let failure = |what| Failure { delivery: delivery.to_owned(), sent, what };
            match kept.send(&source, delivery).await {
                Ok(answer) if answer.status == 202 => {
                    let id = answer.id.unwrap_or_default();
                    lock(&self.tally).acknowledged.insert(delivery.to_owned(), Acknowledged { id, sent });
                    self.acknowledged.send_modify(|count| *count += 1);
                    return;
                }
                Ok(answer) => {
                    let what = format!("{} {}", answer.status, answer.code.unwrap_or_default());
                    lock(&self.tally).refused.push(failure(what));
                }
                // Nothing was sent: every client opens another connection.
                Err(Unanswered::Unsent) => continue,
                Err(error) => lock(&self.tally).unanswered.push(failure(error.to_string())),
            }
            time::sleep(RETRY).await;
        }
        lock(&self.tally).given_up.push(delivery.to_owned());
    }
}

impl Kept {
    async fn send(&mut self, source: &Source, delivery: &str) -> Result<crate::source::Answer, Unanswered> {
        let mut connection = match self.connection.take().filter(Connection::is_open) {
            Some(connection) => connection,
            None => source.connect().await?,
        };
        let answer = connection.send(source, delivery).await;
        if self.keeps && answer.is_ok() {
            self.connection = Some(connection);
        }
        answer
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
