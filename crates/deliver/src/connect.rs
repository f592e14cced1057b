//! A new connection to a target: resolve, guard, connect to the checked address and no other, TLS (D-06, D-07).

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use zen_compile::{Address, Destination, Target};
use zen_model::Fault;

use crate::guard;
use crate::prepare::{Prepared, Tls};
use crate::resolve::{Resolve, localhost};
use crate::stream::Stream;

/// How long an address may keep silent before the next one is tried beside it (RFC 8305, 5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects; the name is resolved and every address checked anew each time.
pub(crate) async fn connect(prepared: &Prepared, resolver: &dyn Resolve) -> Result<Stream, Fault> {
    let limit = prepared.destination.connect_timeout;
    let addresses = timeout(limit, addresses(prepared, resolver)).await.map_err(|_| Fault::ResolverFailed)??;
    let allowed = guarded(&prepared.destination, addresses)?;
    timeout(limit, async {
        let tcp = race(happy_order(allowed), TcpStream::connect).await.map_err(|error| connect_fault(&error))?;
        // Head and body leave in one write; waiting for more would only delay them.
        let _ = tcp.set_nodelay(true);
        match &prepared.tls {
            None => Ok(Stream::Plain(tcp)),
            Some(tls) => handshake(tls, tcp).await,
        }
    })
    .await
    .unwrap_or(Err(Fault::ConnectTimeout))
}

async fn handshake(tls: &Tls, tcp: TcpStream) -> Result<Stream, Fault> {
    match tls.connector.connect(tls.name.clone(), tcp).await {
        Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
        Err(error) => {
            let reason = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            Err(match reason {
                Some(rustls::Error::InvalidCertificate(_)) => Fault::CertificateInvalid,
                _ => Fault::TlsFailed,
            })
        }
    }
}

async fn addresses(prepared: &Prepared, resolver: &dyn Resolve) -> Result<Vec<Address>, Fault> {
    match &prepared.destination.target {
        Target::Url { host, port, .. } => {
            let found = match (host.parse::<IpAddr>(), localhost(host)) {
                (Ok(literal), _) => vec![literal],
                (_, Some(loopback)) => loopback.to_vec(),
                _ => resolver.resolve(host).await?,
            };
            let address = |address| Address { socket: SocketAddr::new(address, *port), trusted: false };
            Ok(found.into_iter().map(address).collect())
        }
        Target::Service { addresses, .. } => {
            let mut turned = addresses.to_vec();
            if !turned.is_empty() {
                let by = prepared.turn() % turned.len();
                turned.rotate_left(by);
            }
            Ok(turned)
        }
    }
}

fn guarded(destination: &Destination, addresses: Vec<Address>) -> Result<Vec<SocketAddr>, Fault> {
    if addresses.is_empty() {
        return Err(Fault::NameNotFound);
    }
    let check = |Address { socket, trusted }| match guard::check(socket.ip(), &destination.allow_cidrs, trusted) {
        Ok(()) => Some(socket),
        Err(denied) => {
            tracing::debug!(destination = %destination.key, %denied, "an address was refused");
            None
        }
    };
    let allowed: Vec<_> = addresses.into_iter().filter_map(check).collect();
    if allowed.is_empty() { Err(Fault::AddressNotAllowed) } else { Ok(allowed) }
}

/// The families take turns, beginning with that of the first address; each keeps its own order (RFC 8305, 4).
fn happy_order(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut ordered = Vec::with_capacity(first.len() + second.len());
    loop {
        match (first.next(), second.next()) {
            (None, None) => return ordered,
            (a, b) => ordered.extend(a.into_iter().chain(b)),
        }
    }
}

/// The first to succeed; the next is started when one fails or keeps silent for [`STAGGER`].
async fn race<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = addresses.into_iter();
    let mut running = FuturesUnordered::new();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut first = true;
    loop {
        if let Some(address) = waiting.next() {
            running.push(connect(address));
        } else if running.is_empty() {
            return Err(failed);
        }
        tokio::select! {
            ended = running.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                // Our own shortage tells more than what another address said.
                Some(Err(error)) if first || !is_shortage(&failed) => {
                    failed = error;
                    first = false;
                }
                _ => {}
            },
            () = sleep(STAGGER), if waiting.len() > 0 => {}
        }
    }
}

fn connect_fault(error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::ConnectRefused,
        io::ErrorKind::TimedOut => Fault::ConnectTimeout,
        _ if is_shortage(error) => Fault::OutOfResources,
        _ => Fault::ConnectFailed,
    }
}

/// `EMFILE`, `ENFILE`, `ENOBUFS` (Linux), no memory, no free local port.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24 | 105))
        || matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn families_take_turns() {
        let ordered = happy_order(["[2600::1]:1", "[2600::2]:1", "1.1.1.1:1", "[2600::3]:1"].map(socket).to_vec());
        assert_eq!(ordered, ["[2600::1]:1", "1.1.1.1:1", "[2600::2]:1", "[2600::3]:1"].map(socket));
    }

    #[test]
    fn our_own_shortage_is_our_fault() {
        for errno in [23, 24, 105] {
            assert_eq!(connect_fault(&io::Error::from_raw_os_error(errno)), Fault::OutOfResources);
        }
        assert_eq!(connect_fault(&io::ErrorKind::ConnectionRefused.into()), Fault::ConnectRefused);
        assert_eq!(connect_fault(&io::ErrorKind::HostUnreachable.into()), Fault::ConnectFailed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_the_next_by_the_stagger_only() {
        let tried = Mutex::new(Vec::new());
        let began = tokio::time::Instant::now();
        let reached = race(["1.1.1.1:1", "1.1.1.2:1"].map(socket).to_vec(), |address| {
            tried.lock().expect("no panic").push(address);
            async move {
                if address == socket("1.1.1.1:1") {
                    std::future::pending::<()>().await;
                }
                Ok(address)
            }
        })
        .await
        .expect("the second answers");
        assert_eq!(reached, socket("1.1.1.2:1"));
        assert_eq!(began.elapsed(), STAGGER);
        assert_eq!(tried.lock().expect("no panic").len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_address_delays_nobody() {
        let began = tokio::time::Instant::now();
        let error = race(["1.1.1.1:1", "1.1.1.2:1"].map(socket).to_vec(), |_| async {
            Err::<(), _>(io::ErrorKind::ConnectionRefused.into())
        })
        .await
        .expect_err("both refuse");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
