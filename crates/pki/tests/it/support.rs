//! Two ends of a handshake.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_rustls::rustls::{ClientConfig, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use zen_model::reason::PeerReason;
use zen_pki::{Ca, Identity, SpiffeId, TrustDomain, explain, refusal_reason};

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

/// What each end saw.
type Outcome = (io::Result<client::TlsStream<DuplexStream>>, io::Result<server::TlsStream<DuplexStream>>);

/// Both ends after a byte went each way: TLS 1.3 lets a client believe in a session before its certificate was looked at.
async fn ends(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Outcome {
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
    tokio::join!(client, server)
}

/// The error of the end that refused, with its side.
pub async fn connect(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<Ends, String> {
    match ends(client, server).await {
        (Ok(client), Ok(server)) => Ok((client, server)),
        (Err(client), Ok(_)) => Err(format!("client: {}", explain(&client))),
        (Ok(_), Err(server)) => Err(format!("server: {}", explain(&server))),
        (Err(client), Err(server)) => Err(format!("client: {}; server: {}", explain(&client), explain(&server))),
    }
}

/// The code with which either end refused the other's certificate.
pub async fn reason(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Result<(), PeerReason> {
    let code = |error: &io::Error| refusal_reason(error.get_ref()?.downcast_ref::<rustls::Error>()?);
    match ends(client, server).await {
        (Ok(_), Ok(_)) => Ok(()),
        (client, server) => {
            let client = client.err().as_ref().and_then(code);
            Err(client.or_else(|| server.err().as_ref().and_then(code)).expect("one end said why"))
        }
    }
}

pub async fn refusal(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> String {
    connect(client, server).await.expect_err("the handshake must fail")
}
