//! Searching with libFuzzer. The corpora also run as plain tests of the package `zen-fuzz`, without it.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

use crate::{run, tools};

/// Fuzzes one target, or each in turn, for so many seconds.
pub fn search(target: Option<&str>, seconds: u64) -> anyhow::Result<()> {
    let fuzz = tools::FUZZ.program()?;
    let targets = match target {
        Some(target) => vec![target.to_owned()],
        None => targets(&run::root().join("fuzz/targets"))?,
    };
    for target in targets {
        eprintln!("xtask: fuzzing {target} for {seconds} s");
        let mut command = Command::new(&fuzz);
        // The sanitizer flags are unstable; the variable lets the stable compiler take them.
        command.current_dir(run::root().join("fuzz")).env("RUSTC_BOOTSTRAP", "1");
        command.args(["run", "--fuzz-dir", ".", "--features", "libfuzzer", &target]);
        command.args(["--", &format!("-max_total_time={seconds}"), "-timeout=10", "-rss_limit_mb=4096"]);
        run::done(&mut command)?;
    }
    Ok(())
}

fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let entries = folder.read_dir().with_context(|| format!("failed to list {}", folder.display()))?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort();
    Ok(names)
}
