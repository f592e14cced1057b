//! D-10: a target that hangs must not move another's latency.

use std::path::Path;
use std::time::Duration;

use crate::certificates::Certificates;
use crate::histogram::Latencies;
use crate::load::Load;
use crate::sink::{self, Arrivals};
use crate::zen::{Route, SECRET, Zen};

/// Events each second towards the healthy target, well below saturation, so that the figure is latency and not a queue.
const CONNECTIONS: usize = 4;

/// Measures the healthy target alone and beside a hanging one, in turn.
pub async fn run(program: &Path, folder: &Path, time: Duration, rounds: usize) -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    println!("  {:<28} {:>9} {:>8} {:>8}", "healthy target", "per s", "p50 ms", "p99 ms");
    let mut ratios = Vec::new();
    for round in 0..rounds {
        let mut p99 = [0.0; 2];
        for (at, beside) in [false, true].into_iter().enumerate() {
            let arrivals = Arrivals::new(1_000_000);
            let healthy = sink::serve(certificates.target()?, arrivals.clone(), None).await?;
            let hang = Some(Duration::from_hours(1));
            let hanging = sink::serve(certificates.target()?, Arrivals::new(1), hang).await?;
            let routes = [
                Route { name: "healthy", target: healthy, paused: false },
                Route { name: "hanging", target: hanging, paused: false },
            ];
            let zen = Zen::start(program, &folder.join(format!("{round}-{at}")), &certificates, &routes).await?;
            let load = |path: &str, connections, most| Load {
                address: zen.intake,
                path: path.to_owned(),
                tls: zen.tls.clone(),
                connections,
                body: 1024,
                time,
                secret: SECRET,
                run: format!("{round}{at}{connections}"),
                window: Some((16, arrivals.clone())),
                most,
            };
            if beside {
                // Far more than the hanging target may have under way at one time.
                Load { window: None, ..load("/bench/hanging", 16, 5000) }.run().await?;
            }
            let outcome = load("/bench/healthy", CONNECTIONS, 1_000_000).run().await?;
            let mut latencies = Latencies::default();
            for (number, sent) in &outcome.sent {
                if let Some(at) = arrivals.at(*number) {
                    latencies.record(at.saturating_sub(*sent));
                }
            }
            p99[at] = latencies.quantile(0.99);
            let name = if beside { "beside a hanging one" } else { "alone" };
            println!("  {name:<28} {:>9.0} {:>8.2} {:>8.2}", outcome.rate(), latencies.quantile(0.5), p99[at]);
        }
        ratios.push(p99[1] / p99[0]);
    }
    ratios.sort_by(f64::total_cmp);
    println!("  p99 beside ÷ p99 alone, median: {:.2}", ratios[ratios.len() / 2]);
    Ok(())
}
