//! One HTTP/1.1 connection, driven by whoever uses it.
//!
//! hyper hands out a sender and a driver that is usually spawned as a task of its own. Here the attempt that holds the
//! connection polls the driver itself: no wake-up between tasks for each request, and an idle connection costs nothing but
//! its buffers. What happened to it while idle (the target closed it) is seen when it is taken out again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;
use zen_model::Fault;

use crate::stream::Stream;

/// Largest response head; also the size to which the read buffer may grow.
const MAX_HEAD: usize = 64 * 1024;

type Driver = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

#[derive(Debug)]
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None when it has ended.
    driver: Option<Pin<Box<Driver>>>,
    pub(crate) born: Instant,
    pub(crate) used: Instant,
}

/// Why no response head came.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Not a byte of the request was written: it may be sent elsewhere.
    Unsent(Box<Request<Full<Bytes>>>),
    /// The target may have it.
    Lost(Fault),
}

impl Connection {
    pub(crate) async fn open(stream: Stream) -> Result<Self, Fault> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_HEAD);
        let (sender, driver) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| lost(&error))?;
        let now = Instant::now();
        Ok(Self { sender, driver: Some(Box::pin(driver)), born: now, used: now })
    }

    /// Sends a request and waits for the head of its response.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, SendError> {
        let Self { sender, driver, .. } = self;
        let mut response = pin!(sender.try_send_request(request));
        poll_fn(|cx| {
            drive(driver, cx);
            let mut polled = response.as_mut().poll(cx);
            if polled.is_pending() && driver.is_none() {
                // The driver is gone and has dropped its end: this poll is the last one needed.
                polled = response.as_mut().poll(cx);
                if polled.is_pending() {
                    return Poll::Ready(Err(SendError::Lost(Fault::ConnectionLost)));
                }
            }
            polled.map(|result| {
                result.map_err(|mut error| match error.take_message() {
                    Some(request) => SendError::Unsent(Box::new(request)),
                    None => SendError::Lost(lost(error.error())),
                })
            })
        })
        .await
    }

    /// The next piece of the response's body; none at its end.
    pub(crate) async fn frame(&mut self, body: &mut Incoming) -> Option<Result<Frame<Bytes>, Fault>> {
        poll_fn(|cx| {
            drive(&mut self.driver, cx);
            let polled = Pin::new(&mut *body).poll_frame(cx);
            if polled.is_pending() && self.driver.is_none() {
                return Poll::Ready(Some(Err(Fault::ResponseIncomplete)));
            }
            polled.map(|frame| frame.map(|frame| frame.map_err(|_| Fault::ResponseIncomplete)))
        })
        .await
    }

    /// Whether another request may be sent: the target has neither closed it nor said anything unasked.
    pub(crate) fn is_usable(&mut self) -> bool {
        // Nobody waits for an idle connection, so that no task has to be woken.
        drive(&mut self.driver, &mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<Pin<Box<Driver>>>, cx: &mut Context<'_>) {
    // Its error also reaches whoever waits for the response.
    if driver.as_mut().is_some_and(|driver| driver.as_mut().poll(cx).is_ready()) {
        *driver = None;
    }
}

fn lost(error: &hyper::Error) -> Fault {
    if error.is_parse() { Fault::AnswerMalformed } else { Fault::ConnectionLost }
}
