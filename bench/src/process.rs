//! A measured program: started, watched through /proc, ended.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A child that ends with this value.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time in microseconds.
    pub cpu_micros: u64,
    /// Bytes handed to the block layer.
    pub written: u64,
    /// Resident memory in bytes.
    pub resident: u64,
}

impl Process {
    /// Starts it with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let log = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { child })
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(1024 * number_after(&status, "VmHWM:"))
    }

    /// Fails when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => anyhow::bail!("the measured program ended with {status}"),
            None => Ok(()),
        }
    }

    /// What it has used so far, its children included.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let mut sum = Usage::default();
        for pid in family(self.child.id()) {
            let proc = Path::new("/proc").join(pid.to_string());
            let stat = fs::read_to_string(proc.join("stat"))?;
            // Fields after the name in parentheses; utime and stime are fields 14 and 15, in ticks of 10 ms.
            let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
            let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
            sum.cpu_micros += (ticks(11) + ticks(12)) * 10_000;
            sum.written += number_after(&fs::read_to_string(proc.join("io"))?, "write_bytes:");
            sum.resident += 1024 * number_after(&fs::read_to_string(proc.join("status"))?, "VmRSS:");
        }
        Ok(sum)
    }
}

impl Usage {
    /// Used since `before`; memory as it is now.
    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_micros: self.cpu_micros.saturating_sub(before.cpu_micros),
            written: self.written.saturating_sub(before.written),
            resident: self.resident,
        }
    }
}

fn number_after(text: &str, label: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(label));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// The process and its direct children (nginx works in its children).
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    std::iter::once(pid).chain(children.split_whitespace().filter_map(|child| child.parse().ok())).collect()
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in family(self.child.id()).into_iter().skip(1) {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
