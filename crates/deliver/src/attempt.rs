//! One attempt from beginning to end. Never fails: whatever happens has a class.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout};
use zen_model::{Event, Fault, Timestamp};

use crate::connect::connect;
use crate::connection::{Connection, SendError};
use crate::outcome::{AttemptResult, class_of_fault, class_of_status};
use crate::prepare::Prepared;
use crate::resolve::Resolve;
use crate::{request, retry_after};

/// Bytes of a response that are kept for the dead letter.
const KEPT_RESPONSE: usize = 4096;

/// Makes attempts. One for the process; cheap to clone.
#[derive(Clone)]
pub struct Deliverer {
    resolver: Arc<dyn Resolve>,
}

/// What is known when an attempt is cut off by its timeout.
#[derive(Default)]
struct Progress {
    /// Some of the request may have reached the target.
    sent: bool,
    status: Option<StatusCode>,
    retry_after: Option<Duration>,
    response: BytesMut,
}

impl Deliverer {
    /// With this way to resolve names.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver }
    }

    /// Sends the event once. `now` dates the signatures. To cancel it, drop the future: its connection ends with it.
    pub async fn attempt(&self, prepared: &Prepared, event: &Event, now: Timestamp) -> AttemptResult {
        let destination = &prepared.destination;
        let began = Instant::now();
        let mut progress = Progress::default();
        let request = request::build(prepared, event, now);
        let exchange = self.exchange(prepared, request, &mut progress);
        let ended = timeout(destination.request_timeout, exchange).await.unwrap_or(Err(Fault::RequestTimeout));
        let took = began.elapsed();
        let (class, fault) = match (progress.status, ended) {
            (Some(status), ended) => {
                let class = class_of_status(status, progress.retry_after.is_some(), destination.idempotent);
                // The target has answered; a body that never ends changes nothing.
                let fault = ended.err().map(|fault| match fault {
                    Fault::ResponseCut => fault,
                    _ => Fault::ResponseIncomplete,
                });
                (class, fault)
            }
            (None, ended) => {
                let fault = ended.err().unwrap_or(Fault::ConnectionLost);
                (class_of_fault(fault, progress.sent, destination.idempotent), Some(fault))
            }
        };
        AttemptResult {
            at: now,
            class,
            status: progress.status.map_or(0, |status| status.as_u16()),
            took,
            fault,
            retry_after: progress.retry_after,
            response: progress.response.freeze(),
        }
    }

    async fn exchange(
        &self,
        prepared: &Prepared,
        mut request: Request<Full<Bytes>>,
        progress: &mut Progress,
    ) -> Result<(), Fault> {
        let (mut connection, response) = loop {
            let (mut connection, reused) = match prepared.pool.take() {
                Some(connection) => (connection, true),
                // Boxed: it is large, and rare beside the requests that need none.
                None => (Box::pin(self.open(prepared)).await?, false),
            };
            progress.sent = true;
            match connection.send(request).await {
                Ok(response) => break (connection, response),
                // Closed by the target while it was idle, and noticed before a byte was written. Each turn of the loop
                // uses up one idle connection.
                Err(SendError::Unsent(unsent)) if reused => {
                    progress.sent = false;
                    request = *unsent;
                }
                Err(SendError::Unsent(_)) => {
                    progress.sent = false;
                    return Err(Fault::ConnectionLost);
                }
                Err(SendError::Lost(fault)) => return Err(fault),
            }
        };
        progress.answered(&response);
        let mut body = response.into_body();
        if !body.is_end_stream() {
            read(&mut connection, &mut body, prepared.destination.max_response, progress).await?;
        }
        prepared.pool.put(connection);
        Ok(())
    }

    async fn open(&self, prepared: &Prepared) -> Result<Connection, Fault> {
        Connection::open(connect(prepared, &*self.resolver).await?).await
    }
}

/// Reads to the end, or drops the connection at the limit.
async fn read(
    connection: &mut Connection,
    body: &mut Incoming,
    limit: usize,
    progress: &mut Progress,
) -> Result<(), Fault> {
    let mut total = 0_usize;
    while let Some(frame) = connection.frame(body).await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = limit - total.min(limit);
        progress.keep(&data, room);
        total = total.saturating_add(data.len());
        if total > limit {
            return Err(Fault::ResponseCut);
        }
    }
    Ok(())
}

impl Progress {
    fn answered(&mut self, response: &Response<Incoming>) {
        self.status = Some(response.status());
        let asked = response.headers().get(RETRY_AFTER);
        self.retry_after = asked.and_then(|value| retry_after::parse(value.as_bytes(), Timestamp::now()));
    }

    /// Copies what there is room for: a slice would keep the connection's read buffer alive until it is settled.
    fn keep(&mut self, data: &[u8], room: usize) {
        let room = room.min(KEPT_RESPONSE - self.response.len());
        self.response.extend_from_slice(&data[..data.len().min(room)]);
    }
}

impl fmt::Debug for Deliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deliverer").field("resolver", &self.resolver).finish()
    }
}
