//! The demonstration's receiver: stands in for the targets of Destinations that point at loopback.

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use zen_compile::{Snapshot, Target};
use zen_model::Timestamp;

use super::narrate::clock;
use super::printer::Printer;
use crate::output::plain_text;

/// Largest body that is taken.
const MAX_BODY: usize = 32 << 20;
/// Connections at one time on one port.
const MAX_CONNECTIONS: usize = 256;
/// A path that ends so is answered with 503 once, to show a retry.
const FLAKY: &str = "/flaky";

/// Ports for which the demonstration listens, and those that something else has.
#[derive(Debug, Default)]
pub struct Receiver {
    /// Taken by the demonstration.
    pub bound: Vec<SocketAddr>,
    /// Not free: whoever listens there gets the deliveries.
    pub taken: Vec<SocketAddr>,
}

impl Receiver {
    /// Listens on every free loopback port that a plain-http Destination names, until the token is cancelled.
    pub async fn start(snapshot: &Snapshot, printer: &Printer, end: &CancellationToken) -> Self {
        let mut receiver = Self::default();
        let failed_once = Arc::new(Mutex::new(HashSet::new()));
        for address in targets(snapshot) {
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    receiver.bound.push(address);
                    let serving = serve(listener, address, printer.clone(), Arc::clone(&failed_once));
                    let end = end.clone();
                    tokio::spawn(async move { end.run_until_cancelled(serving).await });
                }
                Err(_) => receiver.taken.push(address),
            }
        }
        receiver
    }
}

/// Loopback targets without TLS. One with TLS needs a certificate that its Destination trusts: not ours to make up.
fn targets(snapshot: &Snapshot) -> BTreeSet<SocketAddr> {
    let mut found = BTreeSet::new();
    for destination in snapshot.destinations.values() {
        match &destination.target {
            Target::Url { tls: false, host, port, .. } => {
                let host = if host == "localhost" { "127.0.0.1" } else { host.trim_matches(['[', ']']) };
                if let Ok(ip) = host.parse::<IpAddr>()
                    && ip.is_loopback()
                {
                    found.insert(SocketAddr::new(ip, *port));
                }
            }
            Target::Service { tls: false, addresses, .. } => {
                found.extend(addresses.iter().map(|address| address.socket).filter(|socket| socket.ip().is_loopback()));
            }
            _ => {}
        }
    }
    found
}

async fn serve(listener: TcpListener, address: SocketAddr, printer: Printer, failed: Arc<Mutex<HashSet<String>>>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (printer, failed) = (printer.clone(), Arc::clone(&failed));
        tokio::spawn(async move {
            let answer = service_fn(|request| receive(request, address, &printer, &failed));
            let serving = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), answer);
            if let Err(error) = serving.await {
                tracing::debug!(%error, "a connection to the demo's receiver ended");
            }
            drop(place);
        });
    }
}

async fn receive(
    request: Request<Incoming>,
    address: SocketAddr,
    printer: &Printer,
    failed: &Mutex<HashSet<String>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let status = if Limited::new(body, MAX_BODY).collect().await.is_err() {
        StatusCode::BAD_REQUEST
    } else if head.uri.path().ends_with(FLAKY)
        && failed.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{address}{}", head.uri.path()))
    {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let path = plain_text(head.uri.path(), 80);
    let signed = signatures(&head.headers);
    let record = json!({
        "at": Timestamp::now(), "what": "received", "address": address.to_string(), "path": path,
        "signatures": signed, "status": status.as_u16(),
    });
    let line = |style: crate::output::Style| {
        let signed = if signed.is_empty() { "unsigned".to_owned() } else { format!("signed: {}", signed.join(", ")) };
        let word = style.strong("received ");
        let time = clock(Timestamp::now());
        format!("{}  {word}  {address}{path}  {signed}, answered {}\n", style.faint(&time), status.as_u16())
    };
    printer.say(line, &record);
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    Ok(response)
}

/// Which signatures a delivery carries, by header name.
fn signatures(headers: &HeaderMap) -> Vec<&'static str> {
    ["x-zen-signature", "webhook-signature"].into_iter().filter(|name| headers.contains_key(*name)).collect()
}
