//! The providers' own SDKs, against which signatures are checked: installed once into the user's cache folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::{cache, run};

/// The folder that tests find as `ZEN_ORACLES`: `node_modules` and `python` beneath it.
pub fn installed() -> anyhow::Result<PathBuf> {
    let source = run::root().join("crates/verify/tests/oracle");
    let read = |name| fs::read(source.join(name)).with_context(|| format!("failed to read the oracle's {name}"));
    let (package, lock, requirements) = (read("package.json")?, read("package-lock.json")?, read("requirements.txt")?);
    let inputs: [&[u8]; 3] = [&package, &lock, &requirements];
    let folder = cache::folder()?.join("oracles").join(&cache::hash(&inputs)[..16]);
    cache::once(&folder, "oracles", &inputs, || {
        run::need("npm", "npm", "the signature oracles")?;
        run::need("python3", "python3", "the signature oracles")?;
        eprintln!("xtask: installing the providers' SDKs from npm and PyPI");
        for name in ["package.json", "package-lock.json"] {
            fs::copy(source.join(name), folder.join(name))?;
        }
        run::done(Command::new("npm").args(["ci", "--silent", "--ignore-scripts", "--no-audit"]).current_dir(&folder))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(source.join("requirements.txt"));
        run::done(pip.arg("--target").arg(folder.join("python")))
    })?;
    Ok(folder)
}
