use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use zen_ingester::{Ingester, Limits, Parts, feed, listener};
use zen_model::Secret;
use zen_model::observe::Unwatched;
use zen_queue::{Embedded, Options};
use zen_seal::Keyring;
use zen_verify::zen_signature::Keys;

/// A Webhook whose token no input can know.
const MANIFESTS: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: token, namespace: a}
stringData: {token: not-to-be-guessed-5b0c9f1e}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: hook, namespace: a}
spec:
  limits: {body: 4Ki}
  verification: {provider: bearer, secrets: [{secretRef: {name: token, key: token}}]}
  routes: [{destinations: [{name: ci}]}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ci, namespace: a}
spec: {target: {url: 'https://ci.example.com/'}}
";

/// A real intake on loopback, with everything that it holds.
struct Intake {
    runtime: Runtime,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

/// Arbitrary bytes as what a client sends on one connection, which it then ends.
///
/// # Panics
/// When an unauthenticated request is accepted, or the intake does not end the connection: those are the findings.
pub fn request(data: &[u8]) {
    static INTAKE: OnceLock<Intake> = OnceLock::new();
    let intake = INTAKE.get_or_init(|| start().expect("an intake"));
    let answer = intake.runtime.block_on(async {
        let mut stream = TcpStream::connect(intake.address).await.expect("a connection");
        // The intake may refuse and close while this is sent.
        let _ = stream.write_all(data).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        answer
    });
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "something that is not HTTP was answered");
    let accepted = answer.windows(12).any(|window| window == b"HTTP/1.1 202");
    assert!(!accepted, "a request without the token was accepted");
}

fn start() -> Result<Intake, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let address = runtime.block_on(async {
        let queue = Embedded::open(&folder.path().join("queue"), Keyring::ephemeral(), Options::default())?;
        let parts = Parts {
            snapshot: Arc::new(ArcSwap::from_pointee(zen_live::testing::compile_yaml(MANIFESTS).snapshot)),
            queue,
            observer: Arc::new(Unwatched),
            link_keys: Arc::new(Keys::new(vec![("1".to_owned(), Secret::new([7; 32]))])?),
            limits: Limits::default(),
            feed: feed::Options::default(),
        };
        let ingester = Ingester::new(parts, &mut Registry::default());
        let listener = listener::bind("127.0.0.1:0".parse()?)?;
        let address = listener.local_addr()?;
        tokio::spawn(async move { ingester.serve(listener, None, CancellationToken::new()).await });
        Ok::<_, Box<dyn std::error::Error>>(address)
    })?;
    Ok(Intake { runtime, address, _folder: folder })
}
