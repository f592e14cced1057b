//! A link that goes down comes up again, and is counted (A-05).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use zen_link::{Dialer, Metrics, Options, Target};
use zen_testkit::Reserved;

use crate::support::{Mesh, PATIENCE, egress, ingester, listen_on};

/// What a scrape shows.
pub fn text(metrics: &Metrics) -> String {
    let mut registry = Registry::default();
    metrics.register_in(registry.sub_registry_with_prefix("zen_link"));
    let mut text = String::new();
    encode(&mut text, &registry).expect("encodes");
    text
}

#[tokio::test]
async fn comes_up_again_and_resolves_the_name_each_time() {
    let mesh = Mesh::new();
    let options = Options { backoff: (Duration::from_millis(5), Duration::from_millis(20)), ..Options::default() };
    // Not yet listened on: the address is known, and answers nothing.
    let reserved = Reserved::loopback();
    let address = reserved.address();

    let resolved = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&resolved);
    let target = Target::with_resolver("egress.zen-mesh:7443", move |name| {
        assert_eq!(name, "egress.zen-mesh:7443");
        count.fetch_add(1, Ordering::Relaxed);
        std::future::ready(Ok(vec![address]))
    });
    let metrics = Metrics::default();
    let dialer =
        Dialer::new(target, mesh.client("ingester", "egress"), ingester(), metrics.clone()).with_options(options);
    let (report, mut states) = mpsc::channel(16);
    let linked = tokio::spawn(async move {
        dialer
            .keep_connected(|mut session| {
                let report = report.clone();
                async move {
                    report.send("up").await.expect("watched");
                    while let Some(Ok(_)) = session.receiver.next().await {}
                    report.send("down").await.expect("watched");
                }
            })
            .await;
    });
    timeout(PATIENCE, async {
        while !text(&metrics).contains(r#"dials_total{outcome="connect"}"#) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a refused connection is counted");

    for _ in 0..3 {
        let listener = TcpListener::bind(address).await.expect("bound again");
        let mut listening = listen_on(listener, mesh.server("egress", "ingester"), egress(), Options::default());
        let session = listening.session().await;
        assert_eq!(timeout(PATIENCE, states.recv()).await.expect("in time"), Some("up"));
        assert!(text(&metrics).contains(r#"zen_link_sessions{role="ingester"} 1"#));
        listening.task.abort();
        drop(session);
        assert_eq!(timeout(PATIENCE, states.recv()).await.expect("in time"), Some("down"));
    }
    linked.abort();
    assert!(resolved.load(Ordering::Relaxed) >= 4);
    let counted = text(&metrics);
    assert!(counted.contains(r#"zen_link_dials_total{outcome="ok"} 3"#), "{counted}");
    for name in ["sessions", "sessions_ended", "dials", "frames", "bytes"] {
        assert!(counted.contains(&format!("# HELP zen_link_{name} ")), "{name} is missing: {counted}");
    }
    assert!(counted.contains(r#"zen_link_frames_total{role="ingester",direction="sent"} 3"#), "{counted}");
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_the_longest_and_no_further() {
    let mesh = Mesh::new();
    let target = Target::with_resolver("nowhere", |_| {
        std::future::ready(Err(std::io::Error::new(std::io::ErrorKind::NotFound, "no such name")))
    });
    let metrics = Metrics::default();
    let dialer = Dialer::new(target, mesh.client("ingester", "egress"), ingester(), metrics.clone());
    let running = dialer.keep_connected(|_| std::future::ready(()));
    timeout(Duration::from_mins(10), running).await.expect_err("it tries for ever");
    let counted = text(&metrics);
    let line =
        counted.lines().find(|line| line.starts_with(r#"zen_link_dials_total{outcome="connect"}"#)).expect("counted");
    let tries: u32 = line.rsplit(' ').next().expect("a value").parse().expect("a number");
    // Ten minutes at 10 s each, doubled by jitter at most, and a few quick ones before.
    assert!((30..=80).contains(&tries), "{tries} attempts");
}

/// A peer that is no longer wanted is not dialled again, and its session ends when it ends.
#[tokio::test]
async fn an_end_leaves_the_session_that_is_up() {
    let mesh = Mesh::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("an address");
    let mut listening = listen_on(listener, mesh.server("egress", "ingester"), egress(), Options::default());
    let metrics = Metrics::default();
    let dialer = Dialer::new(address.into(), mesh.client("ingester", "egress"), ingester(), metrics.clone());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let keeping = tokio::spawn(async move {
        let unwanted = async {
            let _ = ended.await;
        };
        let until_its_end = |mut session: zen_link::IngesterSession| async move {
            while let Some(Ok(_)) = session.receiver.next().await {}
        };
        dialer.keep_connected_until(unwanted, until_its_end).await;
    });
    let mut session = listening.session().await;
    drop(end);
    let frame = zen_link::frame::FromEgress { draining: true, ..Default::default() };
    session.sender.send(frame).await.expect("the session is up");
    assert!(!keeping.is_finished());
    drop(session.sender);
    while let Some(Ok(_)) = session.receiver.next().await {}
    listening.handlers.clear();
    timeout(PATIENCE, keeping).await.expect("in time").expect("no panic");
    assert!(text(&metrics).contains(r#"zen_link_dials_total{outcome="ok"} 1"#));
}
