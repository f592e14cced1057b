//! `cargo xtask bench admission` and `unseal`: on a real API server, webhook and load in one process, audit log on disk.
//!
//! * admission: reviews at 200 a second over one HTTP/2 connection, as the API server sends them; then pods through the API
//!   server at the same rate and 1,000 at one time, each in turn with the same pods without the annotation: what those take is the
//!   API server's own time.
//! * unseal: pods that ask once each, over a connection of their own, with tokens of the API server. The reference is what the
//!   API server takes for the three questions that each answer needs: the token's review, the pod, the ZenLock.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a measurement that fails ends")]
#![allow(dead_code, reason = "the stage is that of the tests")]

#[path = "../../tests/it/kube_objects.rs"]
mod kube_objects;
mod numbers;
#[path = "../../tests/it/stage.rs"]
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
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::core::v1::Pod;
use kube::Api as Kube;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval};
use tokio_rustls::TlsConnector;
use zen_audit::{Log, Options};
use zen_crds::ZenLock;
use zen_identity::client::StaticResolver;
use zen_pki::{TrustRoots, named_client};
use zenlock_webhook::fetch::Arguments;
use zenlock_webhook::fetch::ask::Api;

use kube_objects::{pod, zen_lock};
use numbers::{Means, load, median, memory, print};
use stage::Stage;

const RATE: u32 = 200;
const SECONDS: u32 = 20;
/// Of each kind in each round.
const ROUND_SECONDS: u32 = 5;
const ROUNDS: usize = 3;
const BURST: usize = 1000;
const ASKING: u32 = 500;
/// Pods that are made at one time where only the pods matter.
const MAKING: usize = 16;

fn main() {
    let which = std::env::args().find(|argument| argument == "unseal");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::open(Options::new(folder.path(), "zenlock-webhook/bench".parse().unwrap())).unwrap();
        let stage = Stage::start_with(Some(Arc::new(log.clone()))).await;
        let to = [stage.age.recipient()];
        stage.apply(&zen_lock("team-a", "db", &to, &[("password", "hunter2"), ("user", "me")], &["ci"])).await.unwrap();
        println!("load before: {}", load());
        if which.is_some() {
            unseal(&stage).await;
        } else {
            direct(&stage).await;
            at_a_rate(&stage).await;
            bursts(&stage).await;
        }
        println!("memory of the process, load generator included: {} MiB; load after: {}", memory(), load());
        log.close().await;
    });
    runtime.shutdown_background();
}

/// Reviews without an API server in between.
async fn direct(stage: &Stage) {
    let roots = TrustRoots::from_pem(stage.ca.certificate_pem()).unwrap();
    let mut tls = (*named_client(&roots, None).unwrap()).clone();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(stage.https.address()).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let stream = TlsConnector::from(Arc::new(tls)).connect("localhost".try_into().unwrap(), tcp).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let body = Bytes::from(review(&pod("shop", &[("inject", "db"), ("env", "db")])).to_string());
    let url = format!("https://localhost:{}/v1/admit/pods", stage.https.port());
    let one = || {
        let (mut sender, body, url) = (sender.clone(), body.clone(), url.clone());
        async move {
            let began = Instant::now();
            let request = Request::post(url).header("content-type", "application/json").body(Full::new(body)).unwrap();
            let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            let took = began.elapsed();
            let answer: Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!(answer["response"]["allowed"], true, "{answer}");
            took
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
    print(&format!("reviews at {RATE}/s for {SECONDS} s"), took);
}

/// Annotations of the pods that are measured, and of those that they are compared with.
const KINDS: [(&str, &[(&str, &str)]); 2] = [("plain", &[]), ("injected", &[("inject", "db")])];

async fn at_a_rate(stage: &Stage) {
    let mut medians = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (index, (kind, annotations)) in KINDS.into_iter().enumerate() {
            let before = Means::read(stage).await;
            let mut ticks = interval(Duration::from_secs(1) / RATE);
            let mut running = Vec::new();
            for number in 0..RATE * ROUND_SECONDS {
                ticks.tick().await;
                let pod = pod(&format!("rate-{round}-{kind}-{number}"), annotations);
                running.push(create(stage, pod));
            }
            // Polled by tasks of their own from the start.
            let took: Vec<_> = join_all(running).await.into_iter().map(|made| made.unwrap().1).collect();
            medians[index].push(print(&format!("{RATE} pods/s through the API server, {kind}"), took));
            Means::read(stage).await.since(&before).print();
        }
    }
    let [plain, injected] = medians.map(median);
    println!("injected ÷ plain, p50: {:.2} ({injected:.1} ms, {plain:.1} ms)", injected / plain);
}

async fn bursts(stage: &Stage) {
    let mut lasted = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (index, (kind, annotations)) in KINDS.into_iter().enumerate() {
            let (before, began) = (Means::read(stage).await, Instant::now());
            let running =
                (0..BURST).map(|number| create(stage, pod(&format!("burst-{round}-{kind}-{number}"), annotations)));
            let (failed, took): (Vec<_>, Vec<_>) =
                join_all(running.collect::<Vec<_>>()).await.into_iter().map(Result::unwrap).unzip();
            let all = began.elapsed().as_secs_f64();
            let failed: Vec<String> = failed.into_iter().flatten().collect();
            print(
                &format!(
                    "{BURST} pods at one time, {kind}, {all:.1} s in all, {} errors {:?}",
                    failed.len(),
                    failed.first()
                ),
                took,
            );
            Means::read(stage).await.since(&before).print();
            lasted[index].push(all);
        }
    }
    let [plain, injected] = lasted.map(median);
    println!("injected ÷ plain, all of a burst: {:.2} ({injected:.1} s, {plain:.1} s)", injected / plain);
}

/// The error, if any, and how long it took.
fn create(stage: &Stage, pod: Value) -> tokio::task::JoinHandle<(Option<String>, Duration)> {
    let pods: Kube<Pod> = Kube::namespaced(stage.client.clone(), "team-a");
    tokio::spawn(async move {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let began = Instant::now();
        let made = pods.create(&PostParams::default(), &pod).await;
        (made.err().map(|error| error.to_string()), began.elapsed())
    })
}

async fn unseal(stage: &Stage) {
    let made = iter(0..ASKING).map(|number| async move {
        let made = stage.create(&pod(&format!("asks-{number}"), &[("inject", "db")])).await.unwrap();
        let token = stage.token("team-a", "ci", zenlock_webhook::AUDIENCE, Some(&made)).await;
        let containers = made.spec.unwrap().init_containers.unwrap();
        let mut arguments = Arguments::of_args(containers[0].args.as_ref().unwrap()).unwrap();
        arguments.token = stage.folder.path().join(format!("token-{number}"));
        std::fs::write(&arguments.token, &token).unwrap();
        (number, token, arguments)
    });
    let pods: Vec<_> = made.buffer_unordered(MAKING).collect().await;
    for at_once in [1, 8, 32] {
        let mut rates = Vec::new();
        for (what, own) in [("its three questions alone", false), ("unseal", true)] {
            let began = Instant::now();
            let asked = iter(&pods).map(|(number, token, arguments)| async move {
                let began = Instant::now();
                if own {
                    // Over a connection of its own, as each pod that starts.
                    let names = HashMap::from([("localhost".to_owned(), vec![[127, 0, 0, 1].into()])]);
                    let mut api = Api::new(arguments, Some(Arc::new(StaticResolver(names)))).unwrap();
                    api.unseal().await.unwrap();
                } else {
                    questions(stage, *number, token).await;
                }
                began.elapsed()
            });
            let took: Vec<_> = asked.buffer_unordered(at_once).collect().await;
            rates.push(f64::from(ASKING) / began.elapsed().as_secs_f64());
            print(&format!("{what}, {at_once} at one time, {:.0}/s", rates[rates.len() - 1]), took);
        }
        println!("unseal ÷ its three questions, a second: {:.2}", rates[1] / rates[0]);
    }
}

/// What the API server is asked for one answer.
async fn questions(stage: &Stage, number: u32, token: &str) {
    let client = &stage.client;
    let spec = TokenReviewSpec { token: token.to_owned(), audiences: Some(vec![zenlock_webhook::AUDIENCE.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    Kube::<TokenReview>::all(client.clone()).create(&PostParams::default(), &review).await.unwrap();
    Kube::<Pod>::namespaced(client.clone(), "team-a").get(&format!("asks-{number}")).await.unwrap();
    Kube::<ZenLock>::namespaced(client.clone(), "team-a").get("db").await.unwrap();
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
