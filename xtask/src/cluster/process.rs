//! Processes of other namespaces, as /proc shows them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};

use crate::run;

/// Whether the process still runs and its command line names `argument`, so that it is not by now somebody else's.
pub fn is_ours(pid: i32, argument: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let wanted = argument.as_os_str().as_encoded_bytes();
    line.split(|byte| *byte == 0).any(|found| found == wanted)
}

/// The first child of a process.
pub fn child_of(pid: i32) -> Option<i32> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|candidate: &i32| stat(*candidate).is_some_and(|(_, parent)| parent == pid))
}

/// Kills it and waits until it is gone.
pub fn kill(pid: i32) -> anyhow::Result<()> {
    let Some(target) = Pid::from_raw(pid) else { bail!("{pid} is no process") };
    let _ = kill_process(target, Signal::KILL);
    gone(pid)
}

/// Waits until a process has ended. That nobody has asked for its exit code does not matter.
pub fn gone(pid: i32) -> anyhow::Result<()> {
    let ended = run::poll(Duration::from_secs(30), || {
        Ok(stat(pid).is_none_or(|(state, _)| state == 'Z' || state == 'X').then_some(()))
    })?;
    if ended.is_none() {
        bail!("process {pid} did not end within 30 s");
    }
    Ok(())
}

/// State and parent of a process (`proc_pid_stat(5)`). Its name, in parentheses, may hold anything.
fn stat(pid: i32) -> Option<(char, i32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::cast_possible_wrap, reason = "a pid fits")]
    fn a_child_is_found_recognised_and_killed() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("there");
        let pid = child.id() as i32;
        // The kernel shows the command line a moment after the program has begun.
        let shown = run::poll(Duration::from_secs(30), || Ok(is_ours(pid, Path::new("1000")).then_some(())));
        assert!(shown.is_ok_and(|shown| shown.is_some()) && !is_ours(pid, Path::new("100")));
        assert_eq!(stat(pid).expect("runs").1, std::process::id() as i32);
        kill(pid).expect("ends");
        assert!(!is_ours(pid, Path::new("1000")), "dead, though nobody has waited for it");
        child.wait().expect("is ours");
    }
}
