//! Helm as a program. What it keeps goes into a temporary folder, never into the user's home.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{Rendering, cache, root};

/// Helm and the chart.
#[derive(Clone, Debug)]
pub struct Helm {
    program: PathBuf,
    chart: PathBuf,
}

impl Helm {
    /// Release and namespace of every rendering.
    pub const RELEASE: &'static str = "zen-mesh";

    /// Helm of the folder `ZEN_CLUSTER_BIN`, or of `bin` in [`cache`].
    pub fn find() -> Result<Self> {
        let default = || cache().unwrap_or_default().join("bin");
        Self::from(&std::env::var_os("ZEN_CLUSTER_BIN").map_or_else(default, PathBuf::from))
    }

    /// Helm of this folder.
    pub fn from(binaries: &Path) -> Result<Self> {
        let program = binaries.join("helm");
        if !program.is_file() {
            bail!("helm is missing in {}: `cargo xtask test` builds it", binaries.display());
        }
        Ok(Self { program, chart: root().join("charts/zen-mesh") })
    }

    /// With the chart of the repository that lies in this folder.
    #[must_use]
    pub fn of(self, repository: &Path) -> Self {
        Self { chart: repository.join("charts/zen-mesh"), ..self }
    }

    /// The chart with these arguments, without hooks unless `--show-only` names one.
    pub fn template(&self, arguments: &[&str]) -> Result<String> {
        let chart = self.chart.to_string_lossy();
        self.run(&[&["template", Self::RELEASE, &chart, "--namespace", Self::RELEASE], arguments].concat())
    }

    /// The objects of the chart with these arguments, hooks included.
    pub fn render(&self, arguments: &[&str]) -> Result<Rendering> {
        Rendering::parse(&self.template(arguments)?)
    }

    /// Runs Helm; its standard output. Fails with its standard error. The word `CHART` stands for the chart's folder.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let home = tempfile::Builder::new().prefix("zen-helm-").tempdir().context("failed to make a folder")?;
        let mut command = Command::new(&self.program);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "KUBECACHEDIR"] {
            command.env(variable, home.path());
        }
        // The cluster of the person who runs this is none of our business.
        command.env("KUBECONFIG", home.path().join("none"));
        for argument in arguments {
            if *argument == "CHART" {
                command.arg(&self.chart)
            } else {
                command.arg(argument)
            };
        }
        let output = command.stdin(Stdio::null()).output().context("failed to run helm")?;
        if !output.status.success() {
            bail!("helm {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
