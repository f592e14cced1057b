//! A webhook source: one kept-alive TLS connection to an intake.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::stage::INTAKE;

/// One connection. An answer that asks for another one makes it connect anew.
pub struct Source {
    address: SocketAddr,
    roots: RootCertStore,
    stream: TlsStream<TcpStream>,
}

impl Source {
    pub async fn connect(address: SocketAddr, roots: RootCertStore) -> Self {
        Self::reach(address, roots).await.unwrap()
    }

    /// None where the intake's certificate is of another authority.
    pub async fn try_connect(address: SocketAddr, roots: RootCertStore) -> Option<Self> {
        Self::reach(address, roots).await.ok()
    }

    /// Or why there is no connection.
    pub async fn reach(address: SocketAddr, roots: RootCertStore) -> std::io::Result<Self> {
        let stream = connect(address, roots.clone()).await?;
        Ok(Self { address, roots, stream })
    }

    /// The certificate that the intake presented, in DER.
    pub fn certificate(&self) -> Vec<u8> {
        self.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }

    /// Posts an event; the status of the answer.
    pub async fn post(&mut self, path: &str, body: &str) -> u16 {
        self.post_with(path, "authorization: Bearer correct-horse\r\ncontent-type: application/json", body).await
    }

    /// As [`Source::post`], with these header lines.
    pub async fn post_with(&mut self, path: &str, headers: &str, body: &str) -> u16 {
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nhost: {INTAKE}\r\n{headers}\r\ncontent-length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let (head, length) = loop {
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).await.unwrap();
            assert!(read > 0, "the connection ended without an answer");
            answer.extend_from_slice(&bytes[..read]);
            let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(answer[..end].to_vec()).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let whole = end + 4 + length.map_or(0, |length| length.trim().parse::<usize>().unwrap());
            if answer.len() >= whole {
                break (head, whole);
            }
        };
        assert_eq!(answer.len(), length, "one answer to one request");
        if head.contains("connection: close") {
            self.stream = connect(self.address, self.roots.clone()).await.unwrap();
        }
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

async fn connect(address: SocketAddr, roots: RootCertStore) -> std::io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(INTAKE).unwrap(), tcp).await
}
