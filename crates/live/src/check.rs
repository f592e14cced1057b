//! `zen check`: the reader and the compiler over a folder, once.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use zen_compile::Mode;
use zen_lock::Keyring;
use zen_model::{LockReason, ObjectKey, ObjectReason};

use crate::folder::Folder;
use crate::{Error, Finding};

/// Addresses of Services given on the command line.
pub type Overrides = BTreeMap<ObjectKey, Vec<SocketAddr>>;

/// As [`check_with`], without private keys.
pub fn check(dir: &Path, overrides: &Overrides) -> Result<Vec<Finding>, Error> {
    check_with(dir, overrides, Keyring::default())
}

/// Everything that is wrong with the manifests in a folder, by file and line. No problem: an empty list.
///
/// Without a private key nothing is said of what `ZenLock`s hold: that is a warning for whoever names one.
pub fn check_with(dir: &Path, overrides: &Overrides, keyring: Keyring) -> Result<Vec<Finding>, Error> {
    let mut folder = Folder::open(dir)?.with_keyring(keyring);
    folder.refresh()?;
    if folder.is_empty() {
        return Err(Error::Empty(dir.to_owned()));
    }
    let (objects, mut findings) = folder.objects(overrides);
    let compiled = zen_compile::compile(&objects, None, Mode::Standalone);
    findings.extend(folder.findings_of(&objects, &compiled.verdicts));
    for finding in &mut findings {
        // A folder of a member has no enrollments.
        finding.warning |=
            finding.reason == LockReason::NoIdentity.into() || finding.reason == ObjectReason::ClusterNotFound;
    }
    // Whether a cluster joined is nothing that manifests say.
    findings.retain(|finding| finding.reason != ObjectReason::ClusterPending);
    findings.sort();
    findings.dedup();
    Ok(findings)
}

/// `NS/NAME=HOST:PORT` of `--service`. Resolves the host, which may block.
pub fn service_override(text: &str) -> Result<(ObjectKey, Vec<SocketAddr>), Error> {
    let error = |message: &str| Error::ServiceOverride { text: text.to_owned(), message: message.to_owned() };
    let (service, address) = text.split_once('=').ok_or_else(|| error("it must be NS/NAME=HOST:PORT"))?;
    let service = service.parse().map_err(|_| error("it must begin with NS/NAME of a Service"))?;
    let addresses: Vec<_> = match address.to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(_) => return Err(error("HOST:PORT must be an address or a name that resolves, and a port")),
    };
    if addresses.is_empty() {
        return Err(error("the host has no address"));
    }
    Ok((service, addresses))
}
