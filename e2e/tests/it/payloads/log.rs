//! What the process logs, the operator's parts and the pods' alike, at the level that says most.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Kept(MutexGuard<'static, Vec<u8>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps what is logged from now on. The filter is what `ZEN_LOG=trace` makes: other crates would print headers below that.
pub fn keep() {
    let filter = EnvFilter::new("warn,zen=trace");
    let kept = || Kept(LOGGED.lock().unwrap());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(kept).finish().try_init().unwrap();
}

/// What is logged by parts that ingester and egress have for themselves.
const OF_THE_DATA_PLANE: [&str; 5] = ["zen_ingester", "zen_egress", "zen_queue", "zen_link", "zen_deliver"];

/// Everything else.
pub fn of_control_plane() -> Vec<u8> {
    let log = String::from_utf8(LOGGED.lock().unwrap().clone()).unwrap();
    // Time, level, target.
    let target = |line: &str| line.split_whitespace().nth(2).unwrap_or_default().to_owned();
    let is_ours = |line: &&str| !OF_THE_DATA_PLANE.iter().any(|name| target(line).starts_with(name));
    log.lines().filter(is_ours).collect::<Vec<_>>().join("\n").into_bytes()
}
