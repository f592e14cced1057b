//! a long outage of a target. What waits must cost neither memory nor speed, and its disk space must come back.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use crate::certificates::Certificates;
use crate::load::Load;
use crate::sink::{self, Arrivals};
use crate::suite::mib;
use crate::zen::{self, Route, SECRET, Zen};

/// Fills the queue, restarts, delivers, and prints what each cost.
pub async fn run(program: &Path, folder: &Path, events: usize) -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    let arrivals = Arrivals::new(events);
    let target = sink::serve(certificates.target()?, arrivals.clone(), None).await?;
    let route = |paused| [Route { name: "backlog", target, paused }];
    let folder = folder.join("backlog");
    let started = Zen::start(program, &folder, &certificates, &route(true)).await?;

    // Each run numbers its events from 0; only the last tenth's numbers matter to the arrivals, so one run sends all.
    let load = |run: &str, most| Load {
        address: started.intake,
        path: "/bench/backlog".to_owned(),
        tls: started.tls.clone(),
        connections: 64,
        body: 1024,
        time: Duration::from_mins(30),
        secret: SECRET,
        run: run.to_owned(),
        window: None,
        most,
    };
    let tenth = events / 10;
    let first = load("first", tenth).run().await?;
    let middle = load("middle", events - 2 * tenth).run().await?;
    let last = load("last", tenth).run().await?;
    let accepted = first.accepted + middle.accepted + last.accepted;
    println!("  accepted {accepted} of {events}, {:.0} MiB on disk", mib(started.queue_bytes()?));
    println!(
        "  accepted/s: first tenth {:.0}, last tenth {:.0}, ratio {:.2}",
        first.rate(),
        last.rate(),
        last.rate() / first.rate()
    );
    println!("  memory with the backlog: {:.0} MiB", mib(started.process.usage()?.resident));
    drop(started);

    let began = Instant::now();
    let again = Zen::start(program, &folder, &certificates, &route(true)).await?;
    println!("  ready again after SIGKILL in {:.2} s", began.elapsed().as_secs_f64());

    let began = Instant::now();
    zen::configure(&folder, &certificates, &route(false))?;
    let mut peak = 0;
    let deadline = Instant::now() + Duration::from_mins(30);
    loop {
        let waiting = again.metric("zen_queue_waiting").await?;
        peak = peak.max(again.process.usage()?.resident);
        if waiting == 0.0 {
            break;
        }
        ensure!(Instant::now() < deadline, "{waiting} events still wait");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    #[allow(clippy::cast_precision_loss)] // a figure for people
    let rate = accepted as f64 / began.elapsed().as_secs_f64();
    println!("  delivered all at {rate:.0}/s, memory at most {:.0} MiB", mib(peak));
    let full = again.queue_bytes()?;
    let mut left = full;
    for _ in 0..150 {
        left = again.queue_bytes()?;
        if left < full / 10 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!("  queue files after delivery: {:.0} MiB", mib(left));
    Ok(())
}
