//! Reading and printing what was measured.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::Stage;

/// The time of admissions as the two sides of the webhook's connection count it: seconds in all, and how many.
pub struct Means {
    /// From a review's arrival to its answer, as the webhook says.
    own: (f64, f64),
    /// The call of the webhook, as the API server says.
    call: (f64, f64),
    /// Requests that make pods, from beginning to end, as the API server says.
    request: (f64, f64),
}

impl Means {
    pub async fn read(stage: &Stage) -> Self {
        let mut connection = TcpStream::connect(stage.admin).await.unwrap();
        connection.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        connection.read_to_string(&mut text).await.unwrap();
        let own = total(&text, "zenlock_webhook_admission_duration_seconds", "");
        let request = http::Request::get("/metrics").body(Vec::new()).unwrap();
        let text = stage.client.request_text(request).await.unwrap();
        let call = "apiserver_admission_webhook_admission_duration_seconds";
        let call = total(&text, call, "name=\"pods.zenlock.zen-mesh.io\"");
        let request = total(
            &text,
            "apiserver_request_duration_seconds",
            "resource=\"pods\",scope=\"resource\",subresource=\"\",verb=\"POST\"",
        );
        Self { own, call, request }
    }

    pub fn since(self, before: &Self) -> Self {
        let less = |now: (f64, f64), then: (f64, f64)| (now.0 - then.0, now.1 - then.1);
        Self {
            own: less(self.own, before.own),
            call: less(self.call, before.call),
            request: less(self.request, before.request),
        }
    }

    pub fn print(&self) {
        let mean = |(sum, count): (f64, f64)| if count > 0.0 { sum / count * 1000.0 } else { 0.0 };
        let (own, call, request) = (mean(self.own), mean(self.call), mean(self.request));
        println!(
            "    means: request at the API server {request:.2} ms, of it the call of the webhook {call:.2} ms, of it in the webhook {own:.2} ms ({:.0} reviews)",
            self.own.1
        );
    }
}

/// Sum and count of a histogram.
fn total(text: &str, name: &str, label: &str) -> (f64, f64) {
    let of = |suffix: &str| -> f64 {
        let name = format!("{name}{suffix}");
        let is_it = |line: &&str| {
            line.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(label)
        };
        text.lines().filter(is_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    };
    (of("_sum"), of("_count"))
}

/// Prints; the median in milliseconds.
pub fn print(what: &str, mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(50), at(99), at(100));
    at(50)
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of[of.len() / 2]
}

/// Resident, MiB.
pub fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// Of the machine, over one and five minutes.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap();
    text.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}
