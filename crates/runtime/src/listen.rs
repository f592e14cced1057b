//! Listening on every address of a pod, in both families where the node has both.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel keeps ready for us.
const BACKLOG: i32 = 1024;

/// Binds an address with a backlog for bursts; port 0 picks a free one. `[::]` takes IPv4 too, and becomes `0.0.0.0` where
/// there is no IPv6.
///
/// # Errors
///
/// As the system says it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = listen(address);
    match (&listener, address) {
        (Err(_), SocketAddr::V6(six)) if six.ip().is_unspecified() => {
            // Of two failures the first says more, unless it was that the family is missing.
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, six.port()))).or(listener)
        }
        _ => listener,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_takes_ipv4_in_any_case() {
        let listener = bind("[::]:0".parse().expect("an address")).expect("bound");
        let port = listener.local_addr().expect("an address").port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("connected");
        let taken = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        assert!(taken.is_err() || listener.local_addr().expect("an address").is_ipv6());
    }
}
