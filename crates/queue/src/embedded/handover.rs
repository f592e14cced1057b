//! Handing over and adopting, on the caller's side of the writer. See [`crate::handover`].

mod read;

use bytes::Bytes;
use prost::Message;
use rusqlite::OptionalExtension;
use tokio::sync::oneshot;
use tracing::warn;
use zen_model::{Event, ObjectKey};

use super::batch::{Arrival, Arrived};
use super::clock::millis;
use super::command::{Adopt, Command, Export, Forget, Heir, How, Job};
use super::lane::Tries;
use super::options::Point;
use super::reader::For;
use super::{Embedded, fault, query};
use crate::handover::{Adopted, Batch, Budget, Cursor, Delivery, Exported, HeldClaim, Malformed, Page};
use crate::{AdoptError, Error, Fault, LeaseToken, QueueId};

impl Embedded {
    pub(super) async fn export_page(&self, cursor: Cursor, budget: Budget) -> Result<Page, Error> {
        let now = self.shared.clock.now();
        let expires = now.saturating_add(millis(budget.hold));
        let picked = self.unconditionally(|answer| {
            Job::Export(Export { place: cursor.0, bytes: budget.bytes, expires, now, answer })
        });
        let picked = picked.await?;
        self.shared.timer.notify_one();
        let next = picked.next.map(Cursor);
        let tokens: Vec<LeaseToken> = picked.waiting.iter().map(|picked| picked.token).collect();
        let (names, records) = (self.shared.state().names(), self.shared.records.clone());
        let (queue, folder) = (self.shared.own.queue, self.shared.folder.clone());
        let answered = self.readers.run(For::Listings, move |conn| {
            read::page(conn, &records, &names, queue, &picked, now)
                .map_err(|error| Error::Unavailable(fault::of(&error, &folder)))
        });
        let read = self.shared.answer(answered).await.unwrap_or(Err(Error::Closed));
        let page = match read {
            Ok((batch, exported)) => Page { batch, exported, next },
            Err(error) => {
                self.end(&tokens, How::Release { due: None });
                return Err(error);
            }
        };
        if page.exported.waiting.len() < tokens.len() {
            // What cannot travel stays, and says so.
            let kept = |token: &LeaseToken| page.exported.waiting.iter().all(|held| held.token != *token);
            let stay: Vec<LeaseToken> = tokens.into_iter().filter(kept).collect();
            warn!(count = stay.len(), "deliveries cannot be handed over: their records make no sense");
            self.end(&stay, How::Release { due: None });
        }
        self.shared.step(Point::Exported);
        Ok(page)
    }

    pub(super) async fn adopt_batch(&self, batch: Batch) -> Result<Adopted, AdoptError> {
        batch.check()?;
        if let Some(fault) = self.shared.fault() {
            return Err(AdoptError::Unavailable(fault));
        }
        let now = self.shared.clock.now();
        let sender = queue_id(&batch.queue, [0; 16]);
        let arrivals = batch.deliveries.into_iter().map(|delivery| self.arrival(delivery, sender, now));
        let arrivals = arrivals.collect::<Result<Vec<_>, Malformed>>()?;
        let claims = batch.claims.into_iter().map(|claims| Ok((parse(&claims.webhook)?, claims.claims)));
        let claims: Vec<(ObjectKey, Vec<HeldClaim>)> = claims.collect::<Result<_, Malformed>>()?;
        let adopted =
            self.unconditionally(|answer| Job::Adopt(Box::new(Adopt { arrivals, claims, now, answer }))).await;
        adopted.map_err(|error| match error {
            Error::Unavailable(fault) => AdoptError::Unavailable(fault),
            Error::Closed | Error::Open { .. } => AdoptError::Unavailable(Fault::Closed),
        })
    }

    fn arrival(&self, delivery: Delivery, sender: [u8; 16], now: u64) -> Result<Arrival, Malformed> {
        let furthest = now.saturating_add(millis(self.shared.options.furthest_due));
        let (webhook, destination) = (parse(&delivery.webhook)?, parse(&delivery.destination)?);
        let Delivery { queue, seq, hops, id, accepted, record, waiting, dead, .. } = delivery;
        let event = Event::decode(record.clone()).map_err(|_| Malformed::Field("delivery.record"))?;
        // A record that did not open there does not open here: the dead letter says so.
        let sealed = match record.as_ref() {
            [] => Vec::new(),
            plain => self.shared.keyring.seal(&query::record_aad(&webhook, &id), plain),
        };
        let stands = match (waiting, dead) {
            (Some(waiting), _) => {
                let tries = Tries { attempts: waiting.attempts, first: waiting.first, lost: waiting.lost };
                // What is due is so in the order of acceptance.
                let due = if waiting.after == 0 {
                    accepted.min(now)
                } else {
                    now.saturating_add(waiting.after).min(furthest)
                };
                Arrived::Waiting { due, tries }
            }
            (None, Some(dead)) => Arrived::Dead(dead),
            (None, None) => return Err(Malformed::Field("delivery")),
        };
        Ok(Arrival {
            queue: queue_id(&queue, sender),
            oseq: seq,
            hops: hops.saturating_add(1),
            webhook,
            destination,
            id,
            r#type: event.r#type,
            request_id: event.request_id,
            accepted,
            body_bytes: event.body.len() as u64,
            bytes: u32::try_from(record.len()).unwrap_or(u32::MAX),
            sealed,
            stands,
        })
    }

    pub(super) async fn forget_page(&self, exported: Exported) -> Result<(), Error> {
        if exported.is_empty() {
            return Ok(());
        }
        let now = self.shared.clock.now();
        self.unconditionally(|answer| Job::Forget(Forget { exported, now, answer })).await
    }

    pub(super) fn hold_page(&self, exported: &Exported, hold: std::time::Duration) {
        let expires = self.shared.clock.now().saturating_add(millis(hold));
        let mut state = self.shared.state();
        for held in &exported.waiting {
            if let Some(lease) = state.lease(held.token) {
                lease.expires = expires;
            }
        }
    }

    pub(super) fn keep_page(&self, exported: &Exported) {
        let tokens: Vec<LeaseToken> = exported.waiting.iter().map(|held| held.token).collect();
        self.end(&tokens, How::Release { due: None });
    }

    pub(super) async fn name_heir(&self, heir: Option<QueueId>) -> Result<(), Error> {
        self.unconditionally(|answer| Job::Heir(Heir { heir, answer })).await
    }

    pub(super) async fn named_heir(&self) -> Result<Option<QueueId>, Error> {
        self.listing(|conn, _| {
            let mut heir = conn.prepare("SELECT value FROM meta WHERE key = 'heir'")?;
            heir.query_row([], |row| row.get(0).map(QueueId)).optional()
        })
        .await
    }

    /// A job that is worth doing while the disk is full: it makes room, or says itself that there is none.
    async fn unconditionally<T: Send + 'static>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        self.shared.send(Command::Job(job(answer)))?;
        self.shared.answer(answered).await.unwrap_or(Err(Error::Closed))
    }
}

fn queue_id(bytes: &Bytes, otherwise: [u8; 16]) -> [u8; 16] {
    bytes.first_chunk().copied().unwrap_or(otherwise)
}

fn parse(key: &str) -> Result<ObjectKey, Malformed> {
    key.parse().map_err(|_| Malformed::Field("key"))
}
