//! Go, from whose modules other people's programs are built.

use std::process::Command;

use anyhow::bail;

use crate::run;

/// `go` for a build from pinned modules. From 1.21 on it gets the release that a module names itself, unless its
/// distribution has switched that off: here it may.
pub fn command(what_for: &str) -> anyhow::Result<Command> {
    run::need("go", "golang-go", &format!("{what_for} (Go 1.21 or later)"))?;
    // Outside of a module, or it would answer for the release that it gets.
    let mut ask = Command::new("go");
    let found = run::output(ask.args(["env", "GOVERSION"]).current_dir("/").env("GOTOOLCHAIN", "local"))?;
    if release(&found).is_some_and(|release| release < (1, 21)) {
        bail!(
            "{found} is too old for {what_for}: install Go 1.21 or later, from https://go.dev/dl or Debian's backports"
        );
    }
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    if std::env::var_os("GOTOOLCHAIN").is_none() {
        go.env("GOTOOLCHAIN", "auto");
    }
    Ok(go)
}

/// Major and minor number of what `go env GOVERSION` says, such as `go1.26.8`.
fn release(version: &str) -> Option<(u32, u32)> {
    let (_, numbers) = version.split_once("go")?;
    let (major, rest) = numbers.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for (version, expected) in
            [("go1.19.8", (1, 19)), ("go1.9", (1, 9)), ("go1.26rc1", (1, 26)), ("devel go1.27-0c9d X", (1, 27))]
        {
            assert_eq!(release(version), Some(expected), "{version}");
        }
        assert_eq!(release("gccgo"), None, "one that says no number is tried");
    }
}
