//! The listener that faces webhook sources (W-14).

use std::sync::Arc;

use rustls::ClientConfig;
use zen_pki::{Ca, HotCertificate, intake_server};

use crate::support::{HOUR, ca, connect, refusal};

fn client(ca: &Ca, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("supported")
        .with_root_certificates(ca.roots().expect("roots").store())
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

#[tokio::test]
async fn serves_ordinary_clients_resumes_and_swaps() {
    let ca = ca();
    let issue = |name: &str| ca.issue_server(&[name.to_owned()], HOUR).expect("issued");
    let hot = HotCertificate::new(&issue("127.0.0.1")).expect("usable");
    let server = intake_server(&hot).expect("configured");
    for alpn in [b"h2".as_slice(), b"http/1.1"] {
        let (client, _server) = connect(client(&ca, alpn), Arc::clone(&server)).await.expect("connected");
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(alpn));
        assert_eq!(client.get_ref().1.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    }
    let again = client(&ca, b"h2");
    connect(Arc::clone(&again), Arc::clone(&server)).await.expect("connected");
    let (second, _server) = connect(again, Arc::clone(&server)).await.expect("connected");
    assert_eq!(second.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Resumed));

    // Another name: what is served from now on, and refused by a client that asked for the address.
    hot.replace(&issue("localhost")).expect("replaced");
    let text = refusal(client(&ca, b"h2"), server).await;
    assert!(text.contains("not valid for name"), "{text}");
}
