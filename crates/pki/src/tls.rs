//! The TLS configurations of the mesh.

use std::sync::Arc;

use rustls::client::{Resumption, WantsClientCert};
use rustls::server::NoServerSessionStorage;
use rustls::version::TLS13;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig};

use crate::certificate::provider;
use crate::hub::HubVerifier;
use crate::pinned::PinnedVerifier;
use crate::verify::{Admits, Policy, SpiffeVerifier};
use crate::{Error, HotCertificate, Identity, SpiffeId, TrustDomain, TrustRoots};

/// For listeners between our own parts: only these workloads get in, and an empty list lets nobody in (T-05, D-03).
/// ALPN is `h2`; clone the configuration to offer another.
pub fn mtls_server(identity: &Identity, allowed: Vec<SpiffeId>) -> Result<Arc<ServerConfig>, Error> {
    server(identity, Admits::Ids(allowed))
}

/// As [`mtls_server`], where who gets in cannot be listed, as the members' workloads at the hub: `admits` is asked in each
/// handshake, after chain, validity and issuer (T-05). It must not block.
pub fn mtls_server_by(identity: &Identity, admits: Arc<Policy>) -> Result<Arc<ServerConfig>, Error> {
    server(identity, Admits::Policy(admits))
}

fn server(identity: &Identity, allowed: Admits) -> Result<Arc<ServerConfig>, Error> {
    let verifier = Arc::new(SpiffeVerifier::new(identity.clone(), allowed));
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session skips the certificates: roots that were exchanged, and ids that were taken off the list, would
    // not count. Links are few and long-lived, so that full handshakes cost nothing.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For connections to one other part of ours, by its id: whatever name or address it was reached at (D-03). ALPN is `h2`.
pub fn mtls_client(identity: &Identity, expected: SpiffeId) -> Result<Arc<ClientConfig>, Error> {
    client(identity, Admits::Ids(vec![expected]))
}

/// As [`mtls_client`], where the other part's id is not known in full, as a hub's in its members, who are not told in which
/// namespace it is installed: `admits` is asked in each handshake, after chain, validity and issuer. It must not block.
pub fn mtls_client_by(identity: &Identity, admits: Arc<Policy>) -> Result<Arc<ClientConfig>, Error> {
    client(identity, Admits::Policy(admits))
}

fn client(identity: &Identity, expected: Admits) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Arc::new(SpiffeVerifier::new(identity.clone(), expected));
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        // See [`SpiffeVerifier`]: everything that the default verifier checks except the host name, and the id on top.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(identity.clone()));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// For the identity service: known to its clients by a DNS name. A client may present a certificate; if it does, it must be
/// one of these workloads'. ALPN is `http/1.1`.
pub fn optional_mtls_server(
    certificate: &HotCertificate,
    identity: &Identity,
    allowed: Vec<SpiffeId>,
) -> Result<Arc<ServerConfig>, Error> {
    named_server(certificate, identity, Admits::Ids(allowed))
}

/// As [`optional_mtls_server`], where who may present a certificate cannot be listed: the hub's members (T-01). `admits` must
/// not block.
pub fn optional_mtls_server_by(
    certificate: &HotCertificate,
    identity: &Identity,
    admits: Arc<Policy>,
) -> Result<Arc<ServerConfig>, Error> {
    named_server(certificate, identity, Admits::Policy(admits))
}

fn named_server(
    certificate: &HotCertificate,
    identity: &Identity,
    allowed: Admits,
) -> Result<Arc<ServerConfig>, Error> {
    let verifier = Arc::new(SpiffeVerifier::new(identity.clone(), allowed).or_anonymous());
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificate.clone()));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For a server that is known by a DNS name: the identity service. Presents the workload's certificate where there is one.
/// ALPN is `http/1.1`.
pub fn named_client(roots: &TrustRoots, identity: Option<&Identity>) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots.store());
    Ok(presenting(config, identity))
}

/// For a member that asks its hub (T-01): as [`named_client`], and the hub's certificate must be from the hub's own issuing CA.
/// Every member has an issuing CA beneath the same roots, and could else stand in for the hub towards the others.
pub fn hub_client(
    roots: &TrustRoots,
    domain: &TrustDomain,
    identity: Option<&Identity>,
) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        // See [`HubVerifier`]: the default verifier, and one check more.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(HubVerifier::new(roots, domain)?));
    Ok(presenting(config, identity))
}

/// For a server of which somebody who proved himself has said that it presents the leaf of this [`crate::fingerprint`]: that leaf,
/// and no other, whoever signed it. ALPN is `http/1.1`.
pub fn pinned_client(fingerprint: &str) -> Result<Arc<ClientConfig>, Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        // See [`PinnedVerifier`]: stricter than the default one in what it takes.
        .dangerous()
        .with_custom_certificate_verifier(PinnedVerifier::new(fingerprint));
    Ok(presenting(config, None))
}

fn presenting(config: ConfigBuilder<ClientConfig, WantsClientCert>, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut config = match identity {
        Some(identity) => config.with_client_cert_resolver(Arc::new(identity.clone())),
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// For the listener that faces webhook sources: TLS 1.3, HTTP/2 and HTTP/1.1, session tickets (W-14).
pub fn intake_server(certificate: &HotCertificate) -> Result<Arc<ServerConfig>, Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate.clone()));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
    // Two tickets cost each new connection two more records; senders open few connections at a time.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}
