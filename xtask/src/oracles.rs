//! Other people's programs against which ours are checked: installed once into the user's cache folder.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;

use crate::{cache, go, run};

/// The providers' own SDKs, for signatures. The folder that tests find as `ZEN_ORACLES`: `node_modules` and `python`
/// beneath it.
pub fn sdks() -> anyhow::Result<PathBuf> {
    let source = run::root().join("crates/verify/tests/oracle");
    let read = |name| fs::read(source.join(name)).with_context(|| format!("failed to read the oracle's {name}"));
    let (package, lock, requirements) = (read("package.json")?, read("package-lock.json")?, read("requirements.txt")?);
    let inputs: [&[u8]; 3] = [&package, &lock, &requirements];
    let folder = cache::folder()?.join("oracles").join(&cache::hash(&inputs)[..16]);
    let made = ["node_modules", "python"].map(|name| folder.join(name));
    cache::once(&folder, "oracles", &inputs, &[&made[0], &made[1]], || {
        run::need("npm", "npm", "the signature oracles")?;
        run::need("python3", "python3", "the signature oracles")?;
        // Debian's python3 comes without it.
        if !run::succeeds(Command::new("python3").args(["-m", "pip", "--version"])) {
            run::need("pip3", "python3-pip", "the signature oracles")?;
        }
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

/// The public age tool and the age project's vectors. The folder that tests find as `ZEN_AGE_ORACLE`: `age`,
/// `age-keygen` and `vectors` beneath it.
pub fn age() -> anyhow::Result<PathBuf> {
    let source = run::root().join("crates/lock/tests/oracle");
    let read = |name| fs::read(source.join(name)).with_context(|| format!("failed to read the oracle's {name}"));
    let (requirements, sums, program) = (read("go.mod")?, read("go.sum")?, read("oracle.go")?);
    let inputs: [&[u8]; 3] = [&requirements, &sums, &program];
    let folder = cache::folder()?.join("oracles").join(&cache::hash(&inputs)[..16]);
    let made = ["age", "age-keygen", "vectors"].map(|name| folder.join(name));
    cache::once(&folder, "oracles", &inputs, &[&made[0], &made[1], &made[2]], || {
        let mut build = go::command("the age oracle")?;
        eprintln!("xtask: building the age tool from its Go module");
        build.current_dir(&source).args(["build", "-trimpath", "-o"]).arg(&folder);
        run::done(build.args(["filippo.io/age/cmd/age", "filippo.io/age/cmd/age-keygen", "."]))?;
        // What an interrupted run left.
        let _ = fs::remove_dir_all(folder.join("vectors"));
        run::done(Command::new(folder.join("age-oracle")).arg(folder.join("vectors")))
    })?;
    Ok(folder)
}
