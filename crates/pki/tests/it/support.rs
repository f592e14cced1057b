//! Two ends of a handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use zen_pki::{Ca, Identity, SpiffeId, TrustDomain, explain};

pub const HOUR: Duration = Duration::from_hours(1);

pub fn domain() -> TrustDomain {
    "zen-mesh.local".parse().expect("valid")
}

pub fn id(account: &str) -> SpiffeId {
    SpiffeId::workload(&domain(), "zen-mesh", account).expect("valid")
}

pub fn ca() -> Ca {
    Ca::ephemeral(&domain()).expect("a CA")
}

pub fn identity(ca: &Ca, account: &str) -> Identity {
    let certificate = ca.issue_workload(&id(account), HOUR).expect("issued");
    Identity::new(&certificate, &ca.roots().expect("roots")).expect("an identity")
}

pub type Ends = (client::TlsStream<DuplexStream>, server::TlsStream<DuplexStream>);

/// Both ends after a byte went each way: TLS 1.3 lets a client believe in a session before its certificate was looked at.
/// The error of the end that refused, with its side.
pub async fn connect(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<Ends, String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let client = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        stream.write_all(b"?").await?;
        stream.flush().await?;
        let mut answer = [0];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(stream)
    };
    let server = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        let mut question = [0];
        stream.read_exact(&mut question).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok::<_, io::Error>(stream)
    };
    match tokio::join!(client, server) {
        (Ok(client), Ok(server)) => Ok((client, server)),
        (Err(client), Ok(_)) => Err(format!("client: {}", explain(&client))),
        (Ok(_), Err(server)) => Err(format!("server: {}", explain(&server))),
        (Err(client), Err(server)) => Err(format!("client: {}; server: {}", explain(&client), explain(&server))),
    }
}

pub async fn refusal(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> String {
    connect(client, server).await.expect_err("the handshake must fail")
}
