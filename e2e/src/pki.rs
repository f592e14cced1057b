//! Certificates of a control plane: one CA, the API server's, an administrator's, and the key of ServiceAccount tokens.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer};
use rcgen::{KeyPair, KeyUsagePurpose};

/// Writes `ca.crt`, `apiserver.{crt,key}`, `admin.{crt,key}`, `sa.{key,pub}`, `front-proxy-ca.crt` and
/// `front-proxy-client.{crt,key}` into a folder.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let issuer = authority(folder, "ca")?;

    let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.distinguished_name = named("kube-apiserver", None).distinguished_name;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    issue(folder, "apiserver", &server, &issuer)?;

    let mut admin = named("admin", Some("system:masters"));
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(folder, "admin", &admin, &issuer)?;

    let front_proxy = authority(folder, "front-proxy-ca")?;
    let mut forwarding = named("front-proxy-client", None);
    forwarding.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    issue(folder, "front-proxy-client", &forwarding, &front_proxy)?;

    let tokens = KeyPair::generate()?;
    put(folder, "sa.key", &tokens.serialize_pem())?;
    put(folder, "sa.pub", &tokens.public_key_pem())
}

fn authority(folder: &Path, name: &str) -> Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate().context("failed to make a key")?;
    let mut params = named(&format!("cluster-{name}"), None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let certificate = params.self_signed(&key)?;
    put(folder, &format!("{name}.crt"), &certificate.pem())?;
    Ok(Issuer::new(params, key))
}

fn named(common_name: &str, organization: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params
}

fn issue(folder: &Path, name: &str, params: &CertificateParams, issuer: &Issuer<'_, KeyPair>) -> Result<()> {
    let key = KeyPair::generate()?;
    put(folder, &format!("{name}.crt"), &params.signed_by(&key, issuer)?.pem())?;
    put(folder, &format!("{name}.key"), &key.serialize_pem())
}

fn put(folder: &Path, name: &str, content: &str) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, content).with_context(|| format!("failed to write {}", path.display()))
}
