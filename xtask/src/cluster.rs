//! The programs of a real control plane, built from Go modules that `e2e/cluster` pins.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::{cache, run};

/// A module and the packages to build from it, each with the name of its program.
const MODULES: [(&str, &[(&str, &str)]); 2] = [
    ("etcd", &[("go.etcd.io/etcd/server/v3", "etcd")]),
    (
        "kubernetes",
        &[("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"), ("k8s.io/kubernetes/cmd/kubectl", "kubectl")],
    ),
];

/// The folder with `etcd`, `kube-apiserver` and `kubectl`, built when they are not there yet.
pub fn programs() -> anyhow::Result<PathBuf> {
    let bin = cache::folder()?.join("bin");
    for (module, packages) in MODULES {
        let source = run::root().join("e2e/cluster").join(module);
        let read = |name| fs::read(source.join(name)).with_context(|| format!("failed to read {module}/{name}"));
        let (requirements, sums) = (read("go.mod")?, read("go.sum")?);
        cache::once(&bin, module, &[&requirements, &sums], || {
            run::need("go", "golang-go", "the API server of the tests (Go 1.24 or later)")?;
            eprintln!("xtask: building {module} from its Go module; once, several minutes on two cores");
            let requirements = String::from_utf8_lossy(&requirements);
            for (package, program) in packages {
                let mut build = Command::new("go");
                build.current_dir(&source).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
                build.args(["build", "-trimpath", "-ldflags", &link_flags(&requirements), "-o"]);
                run::done(build.arg(bin.join(program)).arg(package))?;
            }
            Ok(())
        })?;
    }
    Ok(bin)
}

/// Without a version the components call themselves v0.0.0, which version checks of clients refuse.
fn link_flags(go_mod: &str) -> String {
    let version = go_mod
        .lines()
        .filter_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .find_map(|rest| rest.split_whitespace().next());
    let Some(version) = version else { return "-s -w".to_owned() };
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    let v = "k8s.io/component-base/version";
    format!(
        "-s -w -X {v}.gitVersion={version} -X {v}.gitMajor={major} -X {v}.gitMinor={minor} -X {v}.gitTreeState=clean"
    )
}
