use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::{Answer, Body, Manner};
use super::{Received, Shared};

/// Accepts until the listener fails; its connections end with it.
pub(super) async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let _ = tcp.set_nodelay(true);
        let mut number = 0;
        shared.connections.send_modify(|count| {
            *count += 1;
            number = *count;
        });
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            // A peer that goes away, or refuses the certificate, is what some tests are about.
            let _ = match tls {
                None => serve(tcp, &shared, number).await,
                Some(tls) => match tls.accept(tcp).await {
                    Ok(stream) => serve(stream, &shared, number).await,
                    Err(error) => Err(error),
                },
            };
        });
        while connections.try_join_next().is_some() {}
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

async fn serve(mut socket: impl Socket, shared: &Shared, number: usize) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(request) = Received::read(&mut socket, &mut buffer, number).await? {
        let answer = shared.take(request);
        if let Some(gate) = &answer.gate {
            gate.passed().await;
        }
        if !perform(&mut socket, &answer).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers; whether the connection goes on.
async fn perform(socket: &mut impl Socket, answer: &Answer) -> io::Result<bool> {
    match &answer.manner {
        Manner::Whole => {
            write(socket, answer, usize::MAX).await?;
            return Ok(true);
        }
        Manner::ThenClose => write(socket, answer, usize::MAX).await?,
        Manner::Close => {}
        Manner::HeadOnly => write(socket, answer, answer.head().len()).await?,
        Manner::Silence => silence(socket).await,
        Manner::StallAfter(bytes) => {
            write(socket, answer, *bytes).await?;
            silence(socket).await;
        }
        Manner::ResetAfter(bytes) => {
            write(socket, answer, *bytes).await?;
            // Closing with nothing to linger for makes the kernel send RST.
            SockRef::from(socket.tcp()).set_linger(Some(Duration::ZERO))?;
            return Ok(false);
        }
        Manner::Trickle(every) => trickle(socket, answer, *every).await?,
        Manner::Garbage(bytes) => {
            socket.write_all(bytes).await?;
            socket.flush().await?;
        }
    }
    Pin::new(socket).shutdown().await?;
    Ok(false)
}

/// Holds the connection open until the peer leaves it.
async fn silence(socket: &mut impl Socket) {
    let mut byte = [0];
    if socket.read(&mut byte).await.is_ok_and(|read| read > 0) {
        pending::<()>().await;
    }
}

async fn write(socket: &mut impl Socket, answer: &Answer, limit: usize) -> io::Result<()> {
    const BLOCK: [u8; 8192] = [b'x'; 8192];
    let mut bytes = answer.head();
    let mut filler = 0;
    match &answer.body {
        Body::Bytes(body) => bytes.extend_from_slice(body),
        Body::Huge(length) => filler = *length,
    }
    bytes.truncate(limit);
    let mut left = (limit - bytes.len()).min(usize::try_from(filler).unwrap_or(usize::MAX));
    socket.write_all(&bytes).await?;
    while left > 0 {
        let block = &BLOCK[..left.min(BLOCK.len())];
        socket.write_all(block).await?;
        left -= block.len();
    }
    socket.flush().await
}

async fn trickle(socket: &mut impl Socket, answer: &Answer, every: Duration) -> io::Result<()> {
    let mut bytes = answer.head();
    if let Body::Bytes(body) = &answer.body {
        bytes.extend_from_slice(body);
    }
    for byte in bytes {
        tokio::time::sleep(every).await;
        socket.write_all(&[byte]).await?;
        socket.flush().await?;
    }
    Ok(())
}
