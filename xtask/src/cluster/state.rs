//! The folder of a cluster: `kubeconfig`, `cluster.json` (what runs), `log/`, and `run/` while it runs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::addresses::Number;
use crate::run;

/// Marks a folder as one whose content may be removed.
const MARKER: &str = ".zen-mesh-cluster";

/// What runs, as `cluster.json` has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "provider", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Record {
    /// The user's, which `KUBECONFIG` named.
    Named {
        /// Its context there.
        context: String,
    },
    /// Made by kind.
    Kind {
        /// kind's name for it.
        name: String,
    },
    /// Our own, on this machine.
    SelfContained(Contained),
}

/// A self-contained cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contained {
    /// How much of a cluster it is.
    pub mode: Mode,
    /// What keeps it apart from others.
    pub number: Number,
    /// The index of its network interface on the machine.
    pub interface: Option<u32>,
    /// The process whose end is the end of every other; 0 before it runs.
    pub guard_pid: i32,
    /// Pid 1 of the cluster, as the machine sees it; 0 before it runs.
    pub init_pid: i32,
    /// The Node object.
    pub node: String,
    /// The cgroup that pods are in.
    pub cgroup: String,
    /// The machine, for pods.
    pub host_ip: String,
    /// The node, for the machine.
    pub node_ip: String,
    /// Cluster DNS.
    pub dns_ip: String,
    /// The programs that it runs, `kubectl` and `helm`.
    pub bin: PathBuf,
}

/// How much of a cluster a self-contained one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// API server, etcd, controllers.
    ControlPlane,
    /// And a node that runs pods.
    Node,
}

impl Mode {
    /// As in `cluster.json` and for init.sh.
    pub fn name(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Node => "node",
        }
    }
}

/// A cluster's folder, held by one process at a time.
pub struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// The folder, `target/cluster` of the repository by default, made when it is not there.
    ///
    /// Fails when it holds anything that is not a cluster's, or when another command works on it.
    pub fn open(folder: Option<&Path>) -> anyhow::Result<Self> {
        let folder = folder.map_or_else(|| run::root().join("target/cluster"), Path::to_owned);
        let shown = folder.display().to_string();
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {shown}"))?;
        let folder = folder.canonicalize().with_context(|| format!("failed to find {shown}"))?;
        let marker = folder.join(MARKER);
        if !marker.exists() && folder.read_dir()?.next().is_some() {
            bail!("{shown} holds other things than a cluster: name a new or an empty folder");
        }
        let lock = File::create(&marker).with_context(|| format!("failed to write into {shown}"))?;
        if lock.try_lock().is_err() {
            bail!("another `cargo xtask cluster` command works on {shown}");
        }
        Ok(Self { folder, _lock: lock })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// One file for each component, `audit.log`, and in the end `pods/`. They outlive the cluster.
    pub fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What is there only while a self-contained cluster runs.
    pub fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// A file of this folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What runs here, if anything.
    pub fn record(&self) -> anyhow::Result<Option<Record>> {
        let path = self.folder.join("cluster.json");
        match fs::read(&path) {
            Ok(text) => {
                Ok(Some(serde_json::from_slice(&text).with_context(|| format!("failed to read {}", path.display()))?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("failed to read {}", path.display())),
        }
    }

    /// Writes down what runs.
    pub fn write(&self, record: &Record) -> anyhow::Result<()> {
        let (path, new) = (self.folder.join("cluster.json"), self.folder.join("cluster.json.new"));
        fs::write(&new, format!("{:#}\n", serde_json::to_value(record)?)).context("failed to write cluster.json")?;
        fs::rename(&new, &path).context("failed to write cluster.json")
    }

    /// Writes the kubeconfig, for its owner only.
    pub fn write_kubeconfig(&self, text: &str) -> anyhow::Result<()> {
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(self.kubeconfig());
        let written = file.and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()));
        written.context("failed to write the kubeconfig")
    }

    /// Empty folders for a new cluster.
    pub fn clear(&self) -> anyhow::Result<()> {
        self.forget()?;
        remove(&self.log())?;
        for folder in [self.log(), self.run()] {
            fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        }
        Ok(())
    }

    /// Removes all but the logs.
    pub fn forget(&self) -> anyhow::Result<()> {
        for name in ["kubeconfig", "cluster.json", "installed.json", "run", "helm"] {
            remove(&self.folder.join(name))?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_user_is_refused_and_a_cluster_is_found_again() {
        let folder = tempfile::tempdir().expect("room");
        fs::write(folder.path().join("thesis.tex"), "").expect("room");
        let refused = State::open(Some(folder.path())).err().expect("refused").to_string();
        assert!(refused.contains("holds other things"), "{refused}");

        let own = folder.path().join("own");
        let state = State::open(Some(&own)).expect("empty");
        assert!(State::open(Some(&own)).is_err(), "one command at a time");
        state.clear().expect("room");
        state.write(&Record::Kind { name: "zen-mesh".into() }).expect("room");
        assert!(matches!(state.record().expect("read"), Some(Record::Kind { name }) if name == "zen-mesh"));
        drop(state);
        let state = State::open(Some(&own)).expect("ours");
        state.forget().expect("removed");
        assert!(state.record().expect("read").is_none() && state.log().exists(), "the logs stay");
    }
}
