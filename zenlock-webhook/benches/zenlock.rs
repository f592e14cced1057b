//! `cargo xtask bench admission` and `unseal`: on a real API server, webhook and load in one process.
//!
//! * admission: reviews at 200 a second over one HTTP/2 connection, as the API server sends them, each with its look at the
//!   API server; then 1,000 pods made at one time through the API server.
//! * unseal: pods that ask once each, over a connection of their own, with tokens of the API server.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a measurement that fails ends")]
#![allow(dead_code, reason = "the stage is that of the tests")]

#[path = "../tests/it/kube_objects.rs"]
mod kube_objects;
#[path = "../tests/it/stage.rs"]
mod stage;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::iter;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};
use tokio_rustls::TlsConnector;
use zen_identity::client::StaticResolver;
use zen_pki::{TrustRoots, named_client};
use zenlock_webhook::fetch::Arguments;
use zenlock_webhook::fetch::ask::Api;

use kube_objects::{pod, zen_lock};
use stage::Stage;

const RATE: u32 = 200;
const SECONDS: u32 = 20;
const BURST: usize = 1000;
const ASKING: u32 = 500;

fn main() {
    let which = std::env::args().find(|argument| argument == "unseal");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stage = Stage::start().await;
        let to = [stage.age.recipient()];
        stage.apply(&zen_lock("team-a", "db", &to, &[("password", "hunter2"), ("user", "me")], &["ci"])).await.unwrap();
        if which.is_some() {
            unseal(&stage).await;
        } else {
            admission(&stage).await;
        }
        println!("memory of the process, load included: {} MiB", memory());
    });
    runtime.shutdown_background();
}

async fn admission(stage: &Stage) {
    let roots = TrustRoots::from_pem(stage.ca.certificate_pem()).unwrap();
    let mut tls = (*named_client(&roots, None).unwrap()).clone();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = Bytes::from(review(&pod("shop", &[("inject", "db"), ("env", "db")])).to_string());
    let url = format!("https://localhost:{}/v1/admit/pods", stage.port);
    let one = || {
        let (mut sender, body, url) = (sender.clone(), body.clone(), url.clone());
        async move {
            let began = Instant::now();
            let request = Request::post(url).header("content-type", "application/json").body(Full::new(body)).unwrap();
            let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["response"]["allowed"], true, "{answer}");
            began.elapsed()
        }
    };
    for _ in 0..RATE {
        one().await;
    }
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    let mut running = Vec::new();
    for _ in 0..RATE * SECONDS {
        ticks.tick().await;
        running.push(tokio::spawn(one()));
    }
    let took = join_all(running).await.into_iter().map(Result::unwrap).collect();
    print(&format!("admission at {RATE} pods/s for {SECONDS} s"), took);

    let began = Instant::now();
    let made = join_all((0..BURST).map(|number| async move {
        let began = Instant::now();
        let made = stage.create(&pod(&format!("burst-{number}"), &[("inject", "db")])).await;
        (made.err(), began.elapsed())
    }));
    let (failed, took): (Vec<_>, Vec<_>) = made.await.into_iter().unzip();
    let failed: Vec<String> = failed.into_iter().flatten().collect();
    print(
        &format!("{BURST} pods at one time through the API server, {:.1} s in all", began.elapsed().as_secs_f64()),
        took,
    );
    println!("errors: {} {:?}", failed.len(), failed.first());
}

async fn unseal(stage: &Stage) {
    let pods = join_all((0..ASKING).map(|number| async move {
        let made = stage.create(&pod(&format!("asks-{number}"), &[("inject", "db")])).await.unwrap();
        let token = stage.token("team-a", "ci", zenlock_webhook::AUDIENCE, Some(&made)).await;
        let containers = made.spec.unwrap().init_containers.unwrap();
        let mut arguments = Arguments::of_args(containers[0].args.as_ref().unwrap()).unwrap();
        arguments.token = stage.folder.path().join(format!("token-{number}"));
        std::fs::write(&arguments.token, token).unwrap();
        let names = HashMap::from([("localhost".to_owned(), vec![[127, 0, 0, 1].into()])]);
        Api::new(&arguments, Some(Arc::new(StaticResolver(names)))).unwrap()
    }))
    .await;
    for at_once in [1, 8, 32] {
        let began = Instant::now();
        let asked = iter(&pods).map(|pod| async move {
            let began = Instant::now();
            pod.unseal().await.unwrap();
            began.elapsed()
        });
        let took: Vec<_> = asked.buffer_unordered(at_once).collect().await;
        let rate = f64::from(ASKING) / began.elapsed().as_secs_f64();
        print(&format!("unseal, {at_once} at one time, {rate:.0}/s"), took);
    }
}

fn review(pod: &Value) -> Value {
    let kind = json!({"group": "", "version": "v1", "kind": "Pod"});
    let resource = json!({"group": "", "version": "v1", "resource": "pods"});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "1", "kind": kind, "resource": resource, "namespace": "team-a", "operation": "CREATE",
            "userInfo": {"username": "bench"}, "object": pod, "oldObject": null, "dryRun": false,
        },
    })
}

fn print(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(50), at(99), at(100));
}

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
