//! The programs of a cluster, built once from Go modules into the user's cache folder. `e2e/cluster/versions` pins them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::{cache, go, run};

/// A program: its name, the module that it is built from, its package, and how long that takes the first time.
struct Program(&'static str, &'static str, &'static str, &'static str);

const PROGRAMS: [Program; 10] = [
    Program("etcd", "etcd", "go.etcd.io/etcd/server/v3", "half a minute"),
    Program("kube-apiserver", "kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver", "seven minutes"),
    Program("kubectl", "kubernetes", "k8s.io/kubernetes/cmd/kubectl", "half a minute"),
    Program("kube-controller-manager", "kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager", "three minutes"),
    Program("kube-scheduler", "kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler", "half a minute"),
    Program("kubelet", "kubernetes", "k8s.io/kubernetes/cmd/kubelet", "a minute"),
    Program("kube-proxy", "kubernetes", "k8s.io/kubernetes/cmd/kube-proxy", "half a minute"),
    Program("coredns", "coredns", "github.com/coredns/coredns", "two minutes"),
    Program("helm", "helm", "helm.sh/helm/v4/cmd/helm", "two minutes"),
    Program("cert-manager", "cert-manager", ".", "four minutes"),
];

/// What a bare API server needs.
pub const API_SERVER: &[&str] = &["etcd", "kube-apiserver", "kubectl"];
/// What tests on a bare API server, and those of the chart, need.
pub const TESTS: &[&str] = &["etcd", "kube-apiserver", "kubectl", "helm", "cert-manager"];
/// What a control plane of its own needs.
pub const CONTROL_PLANE: &[&str] = &["etcd", "kube-apiserver", "kubectl", "kube-controller-manager"];
/// What a node needs, and Helm.
pub const NODE: &[&str] = &[
    "etcd",
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "helm",
];

/// The folder that holds these programs, each built when it is not there yet.
pub fn built(names: &[&str]) -> anyhow::Result<PathBuf> {
    let bin = cache::folder()?.join("bin");
    for program in PROGRAMS.iter().filter(|program| names.contains(&program.0)) {
        let Program(name, module, package, duration) = *program;
        let source = run::root().join("e2e/cluster").join(module);
        let read = |file| fs::read(source.join(file)).with_context(|| format!("failed to read {module}/{file}"));
        let (requirements, sums) = (read("go.mod")?, read("go.sum")?);
        // One that is put together here, and not by its project.
        let main = if package == "." { read("main.go")? } else { Vec::new() };
        cache::once(&bin, name, &[&requirements, &sums, &main], &[&bin.join(name)], || {
            let mut build = go::command("the cluster's programs")?;
            let version = pinned(module, &String::from_utf8_lossy(&requirements))?;
            eprintln!("xtask: building {name} {version} from its Go module: once, up to {duration} on two cores");
            // Renamed into its place: the one before may be running, or be built by another process at this time.
            let new = bin.join(format!(".{name}-{}", std::process::id()));
            build.current_dir(&source).args(["build", "-trimpath", "-ldflags", &link_flags(module, &version), "-o"]);
            run::done(build.arg(&new).arg(package))?;
            if name == "cert-manager" {
                custom_resources(&source, &bin)?;
            }
            fs::rename(&new, bin.join(name)).with_context(|| format!("failed to put {name} into {}", bin.display()))
        })?;
    }
    Ok(bin)
}

/// What an API server has to know for cert-manager's objects, from the module's own files.
fn custom_resources(source: &Path, bin: &Path) -> anyhow::Result<()> {
    let mut ask = go::command("the cluster's programs")?;
    let ask = ask.current_dir(source).args(["list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager"]);
    let module = PathBuf::from(run::output(ask)?.trim());
    let mut all = String::new();
    for kind in ["certificaterequests", "clusterissuers", "issuers"] {
        let path = module.join(format!("deploy/crds/cert-manager.io_{kind}.yaml"));
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        for part in ["---\n", &text, "\n"] {
            all.push_str(part);
        }
    }
    let path = bin.join("cert-manager.crds.yaml");
    fs::write(&path, all).with_context(|| format!("failed to write {}", path.display()))
}

/// `helm` or `kubectl`: of PATH when it is there, else built. For clusters that somebody else made.
pub fn found_or_built(name: &str) -> anyhow::Result<PathBuf> {
    run::find(name).map_or_else(|| Ok(built(&[name])?.join(name)), Ok)
}

/// The version that `e2e/cluster/versions` names; an error when the module's go.mod requires another one.
fn pinned(module: &str, go_mod: &str) -> anyhow::Result<String> {
    let path = run::root().join("e2e/cluster/versions");
    let versions = fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let (dependency, version) =
        row(&versions, module).with_context(|| format!("{module} is missing in {}", path.display()))?;
    let required = format!("{dependency} {version}");
    if !go_mod.lines().any(|line| line.trim().trim_start_matches("require ").starts_with(&required)) {
        bail!("e2e/cluster/versions names {required}, which e2e/cluster/{module}/go.mod does not require");
    }
    Ok(version)
}

fn row(versions: &str, module: &str) -> Option<(String, String)> {
    let rows = versions.lines().filter(|line| !line.starts_with('#'));
    let mut fields =
        rows.map(str::split_whitespace).find_map(|mut fields| (fields.next()? == module).then_some(fields))?;
    Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
}

/// Without a version Kubernetes calls itself v0.0.0, which version checks of clients and charts refuse.
fn link_flags(module: &str, version: &str) -> String {
    if module != "kubernetes" {
        return "-s -w".to_owned();
    }
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
    let v = "k8s.io/component-base/version";
    format!(
        "-s -w -X {v}.gitVersion={version} -X {v}.gitMajor={major} -X {v}.gitMinor={minor} -X {v}.gitTreeState=clean"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_requires_the_version_that_is_pinned() {
        for Program(_, module, ..) in PROGRAMS {
            let go_mod =
                fs::read_to_string(run::root().join("e2e/cluster").join(module).join("go.mod")).expect("there");
            pinned(module, &go_mod).expect("pinned");
            assert!(pinned(module, "module x").is_err(), "another version is refused");
        }
    }

    #[test]
    fn every_set_names_programs() {
        for name in [TESTS, CONTROL_PLANE, NODE].concat() {
            assert!(PROGRAMS.iter().any(|program| program.0 == name), "{name}");
        }
    }
}
