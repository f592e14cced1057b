//! A port that stays a test's own while nobody listens on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of this machine, free, for as long as this lives. Whoever asks the kernel for any port gets another one, as does every
/// outgoing connection; who is told the address listens on it, as often as it likes, and in another process too. Until then
/// connections to it are refused.
///
/// That is what Linux does with a socket that is bound with `SO_REUSEADDR` and never listens: it shares its port with those that
/// name it and set the option as well, as tokio, std, Go and nginx do for every listener. A port that is asked for and given back
/// is somebody else's a moment later.
#[derive(Debug)]
pub struct Reserved {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Reserved {
    /// Of the loopback.
    pub fn loopback() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    /// Of this address.
    pub fn at(address: IpAddr) -> Self {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.expect("a socket");
        socket.set_reuseaddr(true).expect("every system has it");
        socket.bind(SocketAddr::new(address, 0)).expect("a free port");
        Self { address: socket.local_addr().expect("a bound socket"), _socket: socket }
    }

    /// Where to listen, and where to look for who does.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io::ErrorKind;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// As many draws as hit one of so many ports for sure, if they could.
    #[test]
    fn nobody_is_given_a_port_that_is_reserved() {
        let reserved: Vec<_> = std::iter::repeat_with(Reserved::loopback).take(300).collect();
        let ports: HashSet<_> = reserved.iter().map(Reserved::port).collect();
        assert_eq!(ports.len(), reserved.len());
        for _ in 0..3000 {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = listener.local_addr().expect("a bound socket").port();
            assert!(!ports.contains(&port), "{port}");
        }
    }

    /// As an outgoing connection binds its own end.
    #[test]
    fn nobody_takes_it_who_does_not_share() {
        let reserved = Reserved::loopback();
        let socket = TcpSocket::new_v4().expect("a socket");
        let taken = socket.bind(reserved.address()).expect_err("somebody has it");
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
    }

    #[tokio::test]
    async fn whoever_is_told_listens_again_and_again() {
        let reserved = Reserved::loopback();
        for _ in 0..2 {
            let refused = TcpStream::connect(reserved.address()).await.expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            let listener = TcpListener::bind(reserved.address()).await.expect("it listens");
            let (stream, accepted) = tokio::join!(TcpStream::connect(reserved.address()), listener.accept());
            assert_eq!(accepted.expect("accepted").1, stream.expect("connected").local_addr().expect("an address"));
            let second = TcpListener::bind(reserved.address()).await.expect_err("one at a time");
            assert_eq!(second.kind(), ErrorKind::AddrInUse);
        }
        let second = std::net::TcpListener::bind(reserved.address()).expect("also with the standard library");
        assert_eq!(second.local_addr().expect("an address"), reserved.address());
    }
}
