//! The table of the main path.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::certificates::Certificates;
use crate::disk;
use crate::load::{Load, Outcome};
use crate::nginx::Nginx;
use crate::process::{Process, Usage};
use crate::sink::{self, Arrivals};
use crate::zen::{Route, SECRET, Zen};

/// More events than any run of the suite makes.
const MOST: usize = 4_000_000;

/// One line of the table in one round.
#[derive(Clone, Debug, Default)]
struct Figure {
    rate: f64,
    p50: f64,
    p99: f64,
    cpu: f64,
    written: f64,
    resident: f64,
    note: String,
}

/// Runs every combination and prints a table for each.
pub async fn run(
    program: &Path,
    folder: &Path,
    time: Duration,
    rounds: usize,
    connections: &[usize],
    bodies: &[usize],
) -> anyhow::Result<()> {
    for body in bodies {
        for count in connections {
            let mut table: Vec<(&str, Vec<Figure>)> = Vec::new();
            for round in 0..rounds {
                let scratch = folder.join(format!("{body}-{count}-{round}"));
                std::fs::create_dir_all(&scratch)?;
                for (name, figure) in one_round(program, &scratch, time, *count, *body).await? {
                    match table.iter_mut().find(|(found, _)| *found == name) {
                        Some((_, figures)) => figures.push(figure),
                        None => table.push((name, vec![figure])),
                    }
                }
                std::fs::remove_dir_all(&scratch)?;
            }
            print(*body, *count, table);
        }
    }
    Ok(())
}

async fn one_round(
    program: &Path,
    folder: &Path,
    time: Duration,
    connections: usize,
    body: usize,
) -> anyhow::Result<Vec<(&'static str, Figure)>> {
    let certificates = Certificates::new()?;
    certificates.write(folder)?;
    let load = |address, path: &str, tls: &Arc<rustls::ClientConfig>| Load {
        address,
        path: path.to_owned(),
        tls: tls.clone(),
        connections,
        body,
        time,
        secret: SECRET,
        run: format!("{:x}", fast_id()),
        window: None,
        most: MOST,
    };
    let mut figures = Vec::new();

    let mut syncs = disk::append_and_sync(folder, body, time / 2)?;
    #[allow(clippy::cast_precision_loss)] // a count
    let rate = syncs.count() as f64 / (time / 2).as_secs_f64();
    figures.push((
        "append + fdatasync",
        Figure { rate, p50: syncs.quantile(0.5), p99: syncs.quantile(0.99), ..Figure::default() },
    ));

    let arrivals = Arrivals::new(MOST);
    let target = sink::serve(certificates.target()?, arrivals, None).await?;
    let trust = crate::certificates::client(&certificates.ca)?;
    {
        let nginx = Nginx::start(folder, target)?;
        tokio::time::sleep(Duration::from_millis(300)).await; // nginx has no readiness signal
        let before = nginx.process.usage()?;
        let outcome = load(nginx.accepting, "/", &trust).run().await?;
        figures.push(("nginx answers 202", figure(outcome, &nginx.process, before)?));
        let before = nginx.process.usage()?;
        let outcome = load(nginx.chain, "/", &trust).run().await?;
        figures.push(("nginx → nginx → target", figure(outcome, &nginx.process, before)?));
    }
    {
        let route = Route { name: "held", target, paused: true };
        let zen = Zen::start(program, &folder.join("accept"), &certificates, &[route]).await?;
        let idle = zen.process.usage()?;
        let outcome = load(zen.intake, "/bench/held", &zen.tls).run().await?;
        let mut found = figure(outcome, &zen.process, idle)?;
        found.note = format!("idle {:.0} MiB", mib(idle.resident));
        figures.push(("zen accepts (durable, delivery held)", found));
    }
    figures.push(("zen accepts and delivers", steady(program, folder, &certificates, load).await?));
    Ok(figures)
}

/// Accepted = delivered: the generator waits while many are on their way, and the run ends when all have come.
async fn steady(
    program: &Path,
    folder: &Path,
    certificates: &Certificates,
    load: impl Fn(std::net::SocketAddr, &str, &Arc<rustls::ClientConfig>) -> Load,
) -> anyhow::Result<Figure> {
    let arrivals = Arrivals::new(MOST);
    let target = sink::serve(certificates.target()?, arrivals.clone(), None).await?;
    let route = Route { name: "open", target, paused: false };
    let zen = Zen::start(program, &folder.join("deliver"), certificates, &[route]).await?;
    let before = zen.process.usage()?;
    let mut load = load(zen.intake, "/bench/open", &zen.tls);
    load.window = Some((2 * load.connections.max(64), arrivals.clone()));
    let began = arrivals.now();
    let outcome = load.run().await?;
    let deadline = arrivals.now() + Duration::from_secs(30);
    while arrivals.count() < outcome.accepted as u64 && arrivals.now() < deadline {
        let _ = tokio::time::timeout(Duration::from_millis(20), arrivals.arrived.notified()).await;
    }
    let took = arrivals.now().saturating_sub(began);
    let mut latencies = crate::histogram::Latencies::default();
    for (number, sent) in &outcome.sent {
        if let Some(at) = arrivals.at(*number) {
            latencies.record(at.saturating_sub(*sent));
        }
    }
    let missing = outcome.accepted as u64 - arrivals.count().min(outcome.accepted as u64);
    let note = format!("missing {missing}, repeats {}, refused {}", arrivals.repeats(), outcome.refused);
    let usage = zen.process.usage()?.since(before);
    #[allow(clippy::cast_precision_loss)] // a count
    let events = outcome.accepted.max(1) as f64;
    Ok(Figure {
        rate: events / took.as_secs_f64(),
        p50: latencies.quantile(0.5),
        p99: latencies.quantile(0.99),
        note,
        ..per_event(usage, events)
    })
}

fn figure(mut outcome: Outcome, process: &Process, before: Usage) -> anyhow::Result<Figure> {
    let usage = process.usage()?.since(before);
    #[allow(clippy::cast_precision_loss)] // a count
    let events = outcome.accepted.max(1) as f64;
    let note = if outcome.refused > 0 { format!("refused {}", outcome.refused) } else { String::new() };
    Ok(Figure {
        rate: outcome.rate(),
        p50: outcome.latencies.quantile(0.5),
        p99: outcome.latencies.quantile(0.99),
        note,
        ..per_event(usage, events)
    })
}

#[allow(clippy::cast_precision_loss)] // figures for people
fn per_event(usage: Usage, events: f64) -> Figure {
    Figure {
        cpu: usage.cpu_micros as f64 / events,
        written: usage.written as f64 / events,
        resident: mib(usage.resident),
        ..Figure::default()
    }
}

/// Mebibytes.
#[allow(clippy::cast_precision_loss)] // figures for people
pub fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

fn fast_id() -> u32 {
    std::process::id()
        ^ std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.subsec_nanos())
}

fn print(body: usize, connections: usize, table: Vec<(&str, Vec<Figure>)>) {
    println!("\n{body} B bodies, {connections} connections");
    println!(
        "  {:<38} {:>9} {:>8} {:>8} {:>9} {:>10} {:>8}  ",
        "", "per s", "p50 ms", "p99 ms", "CPU µs", "written B", "MiB"
    );
    let mut rates = Vec::new();
    for (name, mut figures) in table {
        figures.sort_by(|a, b| a.rate.total_cmp(&b.rate));
        let middle = figures[figures.len() / 2].clone();
        println!(
            "  {name:<38} {:>9.0} {:>8.2} {:>8.2} {:>9.1} {:>10.0} {:>8.0}  {}",
            middle.rate, middle.p50, middle.p99, middle.cpu, middle.written, middle.resident, middle.note
        );
        rates.push((name, middle));
    }
    let of = |wanted: &str| rates.iter().find(|(name, _)| name.starts_with(wanted)).map(|(_, figure)| figure.clone());
    if let (Some(disk), Some(accept), Some(nginx), Some(chain), Some(deliver)) =
        (of("append"), of("zen accepts (d"), of("nginx answers"), of("nginx →"), of("zen accepts and"))
    {
        println!(
            "  accepted ÷ nginx 202: {:.2}   delivered ÷ nginx chain: {:.2}   (p50 accepted − p50 nginx 202) ÷ fdatasync: {:.1}",
            accept.rate / nginx.rate,
            deliver.rate / chain.rate,
            (accept.p50 - nginx.p50) / disk.p50
        );
    }
}
