//! How fast leases cross the link on loopback, mutual TLS and all: frames of 64 events of 1 KiB, each settled.
//!
//! `cargo run --release -p zen-link --example throughput [SECONDS] [RECORD BYTES]`

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::Instant;
use zen_link::frame::{FromEgress, FromIngester, Lease, Settled, Token};
use zen_link::{Claim, Dialer, Egress, EgressSession, Ingester, Metrics, Options, serve};
use zen_model::Settlement;
use zen_pki::{Ca, Identity, SpiffeId, mtls_client, mtls_server};

const EVENTS: u64 = 64;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let bytes: usize = arguments.next().map_or(Ok(1024), |text| text.parse())?;

    let domain = "zen-mesh.local".parse()?;
    let ca = Ca::ephemeral(&domain)?;
    let identity = |id: &SpiffeId| -> Result<Identity, zen_pki::Error> {
        Identity::new(&ca.issue_workload(id, Duration::from_hours(1))?, &ca.roots()?)
    };
    let ingester = SpiffeId::workload(&domain, "zen-mesh", "zen-ingester")?;
    let egress = SpiffeId::workload(&domain, "zen-mesh", "zen-egress")?;
    let server = mtls_server(&identity(&egress)?, vec![ingester.clone()])?;
    let client = mtls_client(&identity(&ingester)?, egress)?;

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let side =
        Egress { instance: "egress".into(), incarnation: 0, max_leases: 4096, max_bytes: 64 << 20, claim: Claim::Own };
    let listening =
        tokio::spawn(serve(listener, server, side, Options::default(), Metrics::default(), settle_all, async {
            let _ = stopped.await;
        }));

    let side = Ingester { instance: "ingester".into(), term: Duration::from_mins(1), judge: None };
    let mut session = Dialer::new(address.into(), client, side, Metrics::default()).connect().await?;
    let record = Bytes::from(vec![b'x'; bytes]);
    let sender = session.sender.clone();
    let begun = Instant::now();
    let feed = tokio::spawn(async move {
        let mut seq = 0;
        while begun.elapsed() < Duration::from_secs(seconds) {
            let leases = (seq..seq + EVENTS).map(|seq| lease(seq, &record)).collect();
            if sender.send(FromIngester { leases, ..FromIngester::default() }).await.is_err() {
                break;
            }
            seq += EVENTS;
        }
        seq
    });
    let mut settled = 0_u64;
    let mut sent = None;
    let mut feed = std::pin::pin!(feed);
    while sent != Some(settled) {
        tokio::select! {
            total = &mut feed, if sent.is_none() => sent = Some(total?),
            frame = session.receiver.next() => {
                settled += frame.ok_or("the egress hung up")??.settled.len() as u64;
            }
        }
    }
    let took = begun.elapsed().as_secs_f64();
    drop(session);
    let _ = stop.send(());
    listening.await?;
    #[allow(clippy::cast_precision_loss)] // A rate for people.
    let (events, megabytes) = (settled as f64 / took, settled as f64 * bytes as f64 / 1e6 / took);
    println!(
        "{settled} events of {bytes} bytes settled in {took:.2} s: {events:.0} events/s, {megabytes:.0} MB/s of records"
    );
    Ok(())
}

fn lease(seq: u64, record: &Bytes) -> Lease {
    Lease {
        token: Token { seq, destination: 1, lease: seq },
        destination: "team-a/ci".into(),
        signature: "v=1,t=1700000000,n=0123456789abcdef,k=1,s=0123456789012345678901234567890123456789012".into(),
        record: record.clone(),
        ..Lease::default()
    }
}

async fn settle_all(mut session: EgressSession) {
    while let Some(Ok(frame)) = session.receiver.next().await {
        let settled = frame.leases.iter().map(|lease| Settled::new(lease.token, &Settlement::Ack, None)).collect();
        if session.sender.send(FromEgress { settled, ..FromEgress::default() }).await.is_err() {
            break;
        }
    }
}
