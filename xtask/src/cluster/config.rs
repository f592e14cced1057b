//! The components' configuration, from the templates in `e2e/cluster/config`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::addresses::Number;
use crate::run;

/// How many `PersistentVolumes` a node offers. One that is released is emptied and may be claimed again.
const VOLUMES: u8 = 24;

/// Programs of the system.
pub struct System {
    /// `containerd`.
    pub containerd: PathBuf,
    /// Its `ctr`.
    pub ctr: PathBuf,
    /// `runc`.
    pub runc: PathBuf,
    /// The folder of the CNI plugins.
    pub cni: PathBuf,
}

impl System {
    /// Finds them, installed first where that is possible.
    pub fn found() -> anyhow::Result<Self> {
        let packages = [
            ("containerd", "containerd"),
            ("ctr", "containerd"),
            ("runc", "runc"),
            ("ip", "iproute2"),
            ("nft", "nftables"),
            ("conntrack", "conntrack"),
            ("unshare", "util-linux"),
            ("nsenter", "util-linux"),
            ("setsid", "util-linux"),
            ("mount", "mount"),
            ("/bin/busybox", "busybox-static"),
        ];
        run::need_all(&packages, "the node")?;
        let cni = || ["/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"].map(PathBuf::from).into_iter();
        let with_plugins = || cni().find(|folder| folder.join("bridge").is_file());
        if with_plugins().is_none() {
            run::need_all(&[("/usr/lib/cni/bridge", "containernetworking-plugins")], "the node")?;
        }
        let find = |program| run::find(program).with_context(|| format!("{program} is missing"));
        Ok(Self {
            containerd: find("containerd")?,
            ctr: find("ctr")?,
            runc: find("runc")?,
            cni: with_plugins().context("the CNI plugins are missing")?,
        })
    }
}

/// The names of the volumes.
pub fn volumes() -> Vec<String> {
    (0..VOLUMES).map(|index| format!("volume-{index:02}")).collect()
}

/// Writes every file of a cluster's configuration.
pub fn write(folder: &Path, number: Number, cgroup: &str, system: Option<&System>) -> anyhow::Result<()> {
    let source = run::root().join("e2e/cluster/config");
    let path = |path: Option<&PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
    let values = [
        ("@NODE@", number.node()),
        ("@HOST_IP@", number.host_ip()),
        ("@NODE_IP@", number.node_ip()),
        ("@POD_CIDR@", number.pod_cidr()),
        ("@DNS_IP@", number.dns_ip()),
        ("@CGROUP@", cgroup.to_owned()),
        ("@RUNC@", path(system.map(|system| &system.runc))),
        ("@CNI_BIN@", path(system.map(|system| &system.cni))),
    ];
    let render = |name: &str| -> anyhow::Result<String> {
        let text = fs::read_to_string(source.join(name)).with_context(|| format!("failed to read config/{name}"))?;
        Ok(values.iter().fold(text, |text, (from, to)| text.replace(from, to)))
    };
    let put = |name: &str, text: String| -> anyhow::Result<()> {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap_or(folder)).context("failed to make a folder")?;
        fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    for name in ["audit.yaml", "addons.yaml", "containerd.toml", "kubelet.yaml", "kube-proxy.yaml", "resolv.conf"] {
        put(name, render(name)?)?;
    }
    // A folder of its own: containerd takes the first network that it finds there.
    put("cni/10-bridge.conflist", render("cni.conflist")?)?;
    let volume = render("volume.yaml")?;
    let each = volumes().into_iter().map(|name| volume.replace("@VOLUME@", &name));
    put("volumes.yaml", render("volumes.yaml")? + &each.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_filled_in() {
        let folder = tempfile::tempdir().expect("room");
        write(folder.path(), Number(7), "cluster-7-1", None).expect("written");
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("there");
        for name in ["addons.yaml", "containerd.toml", "kubelet.yaml", "volumes.yaml", "cni/10-bridge.conflist"] {
            let upper = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_uppercase() || c == '_');
            assert!(!read(name).split('@').any(upper), "{name}");
        }
        assert!(read("kubelet.yaml").contains("cgroupRoot: /cluster-7-1"));
        assert_eq!(read("volumes.yaml").matches("kind: PersistentVolume\n").count(), usize::from(VOLUMES));
    }
}
