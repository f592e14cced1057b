//! Watches that go on whatever happens to the API server.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use kube::runtime::watcher;

/// Pause after a failure, halved at random: short, because what is missing at first (a grant, the server itself) comes soon.
const PAUSE: Duration = Duration::from_secs(1);

/// Calls `heard` with each item until the stream ends, which a watch never does. Failures are logged once in a row.
pub async fn follow<T>(what: &str, stream: impl Stream<Item = Result<T, watcher::Error>>, mut heard: impl FnMut(T)) {
    let mut stream = pin!(stream);
    let mut failing = false;
    while let Some(item) = stream.next().await {
        match item {
            Ok(item) => {
                if std::mem::take(&mut failing) {
                    tracing::info!(what, "the watch works again");
                }
                heard(item);
            }
            Err(error) => {
                log(what, &error, std::mem::replace(&mut failing, true));
                tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            }
        }
    }
}

fn log(what: &str, error: &dyn std::error::Error, again: bool) {
    // The cause says more than the words of the watch: "forbidden", "connection refused".
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    if again {
        tracing::debug!(what, error = text, "the watch still fails");
    } else {
        tracing::warn!(what, error = text, "the watch failed; what was known stays in effect");
    }
}
