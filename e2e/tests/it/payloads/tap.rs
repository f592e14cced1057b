//! Stands between the operator and a pod with the certificates of both, and writes down every byte in clear.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use zen_identity::{Component, Mesh};
use zen_pki::{Ca, Identity, TrustRoots};

/// What both sides said so far.
#[derive(Clone, Default)]
pub struct Tap(Arc<Mutex<Vec<u8>>>);

/// As whom the mesh's issuing CA says this is.
pub fn identity(issuer: &Ca, roots: &str, mesh: &Mesh, component: Component) -> Identity {
    let pair = issuer.issue_workload(mesh.id(component), Duration::from_hours(1)).unwrap();
    Identity::new(&pair, &TrustRoots::from_pem(roots).unwrap()).unwrap()
}

impl Tap {
    /// An ingester to whoever comes as the operator, and the operator to the ingester.
    pub fn start(issuer: &Ca, roots: &str, mesh: &Mesh, (at, to): (SocketAddr, SocketAddr)) -> Self {
        let tap = Self::default();
        let of = |component| (identity(issuer, roots, mesh, component), mesh.id(component).clone());
        let ((operator, operator_id), (ingester, ingester_id)) = (of(Component::Operator), of(Component::Ingester));
        let mut accepts = (*zen_pki::mtls_server(&ingester, vec![operator_id]).unwrap()).clone();
        let mut dials = (*zen_pki::mtls_client(&operator, ingester_id).unwrap()).clone();
        (accepts.alpn_protocols, dials.alpn_protocols) = (vec![b"http/1.1".to_vec()], vec![b"http/1.1".to_vec()]);
        let (acceptor, connector) = (TlsAcceptor::from(Arc::new(accepts)), TlsConnector::from(Arc::new(dials)));
        let kept = tap.clone();
        tokio::spawn(async move {
            let listener = TcpListener::bind(at).await.unwrap();
            while let Ok((tcp, _)) = listener.accept().await {
                let (tap, acceptor, connector) = (kept.clone(), acceptor.clone(), connector.clone());
                tokio::spawn(async move {
                    // Whoever looks for another component here is refused, by itself.
                    let Ok(near) = acceptor.accept(tcp).await else { return };
                    let Ok(tcp) = TcpStream::connect(to).await else { return };
                    let Ok(far) = connector.connect(ServerName::IpAddress(to.ip().into()), tcp).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (tokio::io::split(near), tokio::io::split(far));
                    tokio::join!(tap.pass(near_in, far_out), tap.pass(far_in, near_out));
                });
            }
        });
        tap
    }

    async fn pass(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut bytes = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            self.0.lock().unwrap().extend_from_slice(&bytes[..read]);
            if to.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    }

    pub fn heard(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}
