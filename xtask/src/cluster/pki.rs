//! Certificates and kubeconfigs of a self-contained cluster: new for each one.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::json;

use super::addresses::Number;

/// Who has a kubeconfig: file name, common name, organisation. `@` stands for the node's name.
const USERS: [(&str, &str, Option<&str>); 5] = [
    ("admin", "admin", Some("system:masters")),
    ("controller-manager", "system:kube-controller-manager", None),
    ("scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("kubelet", "system:node:@", Some("system:nodes")),
];

/// A certificate authority.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Writes `*.crt`, `*.key` and `*.kubeconfig` into a new folder. Private files are for their owner only.
pub fn write(folder: &Path, number: Number, server: &str) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let ca = Authority::new(folder, "ca")?;
    // Apart from the other: whoever holds a client certificate of the cluster must not pass for the API server.
    let front_proxy = Authority::new(folder, "front-proxy-ca")?;

    let (node, node_ip) = (number.node(), number.node_ip());
    let names = ["localhost", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    let mut api_names = names.map(str::to_owned).to_vec();
    api_names.extend(["127.0.0.1".to_owned(), number.api_service_ip(), node_ip.clone()]);
    ca.serving(folder, "apiserver", api_names)?;
    ca.serving(folder, "kubelet-server", vec![node.clone(), node_ip])?;
    ca.client(folder, "apiserver-kubelet", "kube-apiserver-kubelet-client", Some("system:masters"))?;
    front_proxy.client(folder, "front-proxy-client", "front-proxy-client", None)?;
    for (user, common_name, organization) in USERS {
        let pair = ca.client(folder, user, &common_name.replace('@', &node), organization)?;
        put(folder, &format!("{user}.kubeconfig"), &kubeconfig(server, &ca.pem, user, &pair))?;
    }

    let tokens = KeyPair::generate().context("failed to make a key")?;
    put(folder, "sa.key", &tokens.serialize_pem())?;
    put(folder, "sa.pub", &tokens.public_key_pem())
}

impl Authority {
    fn new(folder: &Path, name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("failed to make a key")?;
        let mut params = named(Vec::new(), name, None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let pem = params.self_signed(&key)?.pem();
        put(folder, &format!("{name}.crt"), &pem)?;
        put(folder, &format!("{name}.key"), &key.serialize_pem())?;
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    fn serving(&self, folder: &Path, name: &str, names: Vec<String>) -> anyhow::Result<()> {
        let mut params = named(names, name, None)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(folder, name, &params).map(drop)
    }

    fn client(&self, folder: &Path, name: &str, common_name: &str, organization: Option<&str>) -> anyhow::Result<Pair> {
        let mut params = named(Vec::new(), common_name, organization)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(folder, name, &params)
    }

    fn issue(&self, folder: &Path, name: &str, params: &CertificateParams) -> anyhow::Result<Pair> {
        let key = KeyPair::generate().context("failed to make a key")?;
        let pair = Pair { certificate: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() };
        put(folder, &format!("{name}.crt"), &pair.certificate)?;
        put(folder, &format!("{name}.key"), &pair.key)?;
        Ok(pair)
    }
}

/// A certificate and its key, both PEM.
struct Pair {
    certificate: String,
    key: String,
}

fn named(names: Vec<String>, common_name: &str, organization: Option<&str>) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    Ok(params)
}

/// JSON is YAML. Everything is embedded, so that it is one file that may be copied.
fn kubeconfig(server: &str, ca: &str, user: &str, pair: &Pair) -> String {
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "zen-mesh",
        "contexts": [{"name": "zen-mesh", "context": {"cluster": "zen-mesh", "user": user}}],
        "clusters": [{"name": "zen-mesh", "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&pair.certificate),
            "client-key-data": STANDARD.encode(&pair.key),
        }}],
    });
    format!("{document:#}\n")
}

fn put(folder: &Path, name: &str, content: &str) -> anyhow::Result<()> {
    let path = folder.join(name);
    let is_public = matches!(name.rsplit_once('.'), Some((_, "crt" | "pub")));
    let mode = if is_public { 0o644 } else { 0o600 };
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(mode).open(&path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, content.as_bytes()));
    written.with_context(|| format!("failed to write {}", path.display()))
}
