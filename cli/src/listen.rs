//! `zen listen`: a receiver that prints what arrives.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use zen_model::Timestamp;
use zen_runtime::Shutdown;

use crate::failure::{Context as _, Failure, Outcome};
use crate::output::{Style, plain_text, size, write_stdout};

/// Largest body that is taken.
const MAX_BODY: usize = 32 << 20;
/// Characters of a body that are shown.
const SHOWN_BODY: usize = 2_000;
/// Connections at one time.
const MAX_CONNECTIONS: usize = 256;

/// Receive deliveries and print them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zen listen                                  answer 200 to everything on 127.0.0.1:9000
  zen listen 127.0.0.1:9001 --status 503      fail, to see retries and dead letters
  zen listen 127.0.0.1:9001 --delay 5s        answer late

On a terminal it prints for people, otherwise one JSON object a line.")]
pub struct Listen {
    /// Address and port to listen on; port 0 picks a free one.
    #[arg(default_value = "127.0.0.1:9000")]
    address: String,
    /// Status of every answer.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u16).range(200..=599))]
    status: u16,
    /// Wait so long before each answer, e.g. 500ms or 5s.
    #[arg(long, value_name = "D", default_value = "0ms", value_parser = crate::parse::duration)]
    delay: Duration,
}

impl Listen {
    /// Serves until SIGINT or SIGTERM.
    pub async fn run(self) -> Outcome {
        let status = StatusCode::from_u16(self.status).context("failed to read --status")?;
        let shutdown = Shutdown::on_signals().context("failed to catch signals")?;
        let listener = TcpListener::bind(&self.address).await.map_err(|error| {
            Failure::new(format!("failed to listen on {}: {error}", self.address))
                .hint("another process may have the port; name another one, or port 0 for a free one")
        })?;
        let address = listener.local_addr().context("failed to read the address")?;
        let people = std::io::stdout().is_terminal();
        if people {
            write_stdout(&format!("listening on http://{address}, answering {}\n", self.status));
        } else {
            write_stdout(&format!("{}\n", serde_json::json!({"listening": format!("http://{address}")})));
        }
        let room = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = std::sync::Arc::clone(&room).acquire_owned().await else { return Ok(()) };
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => continue,
                },
                () = shutdown.begun() => return Ok(()),
            };
            let delay = self.delay;
            tokio::spawn(async move {
                serve(stream, people, status, delay).await;
                drop(place);
            });
        }
    }
}

async fn serve(stream: TcpStream, people: bool, status: StatusCode, delay: Duration) {
    let _ = stream.set_nodelay(true);
    let answer =
        service_fn(move |request| async move { Ok::<_, Infallible>(receive(request, people, status, delay).await) });
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn receive(
    request: Request<Incoming>,
    people: bool,
    status: StatusCode,
    delay: Duration,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            tracing::warn!(error, "a body could not be read");
            return answer(StatusCode::BAD_REQUEST);
        }
    };
    let text = if people { for_people(&head, &body, status) } else { for_machines(&head, &body, status) };
    write_stdout(&text);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    answer(status)
}

fn answer(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Credentials are for the receiver, not for its terminal.
fn shown_value(headers: &HeaderMap, name: &HeaderName) -> String {
    let hidden = [http::header::AUTHORIZATION, http::header::PROXY_AUTHORIZATION, http::header::COOKIE];
    if hidden.contains(name) {
        return "[hidden]".to_owned();
    }
    let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    values.collect::<Vec<_>>().join(", ")
}

fn for_people(head: &http::request::Parts, body: &[u8], status: StatusCode) -> String {
    let style = Style::stdout();
    let line = format!("{} {}", head.method, plain_text(&head.uri.to_string(), 200));
    let received = format!("{}  {} → {}", Timestamp::now(), size(body.len() as u64), status.as_u16());
    let mut text = format!("\n{}  {}\n", style.strong(&line), style.faint(&received));
    for name in head.headers.keys() {
        let value = plain_text(&shown_value(&head.headers, name), 300);
        let _ = writeln!(text, "  {} {value}", style.faint(&format!("{name}:")));
    }
    match std::str::from_utf8(body) {
        Ok("") => {}
        Ok(body) => {
            for line in body.lines().take(40) {
                let _ = writeln!(text, "  {}", plain_text(line, SHOWN_BODY));
            }
        }
        Err(_) => {
            let _ = writeln!(text, "  {}", style.faint("(binary)"));
        }
    }
    text
}

fn for_machines(head: &http::request::Parts, body: &[u8], status: StatusCode) -> String {
    use base64::Engine as _;
    let headers: serde_json::Map<_, _> =
        head.headers.keys().map(|name| (name.to_string(), shown_value(&head.headers, name).into())).collect();
    let mut record = serde_json::json!({
        "at": Timestamp::now(),
        "method": head.method.as_str(),
        "path": head.uri.to_string(),
        "headers": headers,
        "status": status.as_u16(),
    });
    match std::str::from_utf8(body) {
        Ok(body) => record["body"] = body.into(),
        Err(_) => record["body_base64"] = base64::engine::general_purpose::STANDARD.encode(body).into(),
    }
    format!("{record}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_hidden_and_bodies_shown() {
        let request = Request::post("/hooks?x=1")
            .header("authorization", "Bearer MARKER")
            .header("ce-id", "1")
            .body(())
            .expect("valid");
        let (head, ()) = request.into_parts();
        let people = for_people(&head, b"{\"a\":1}", StatusCode::OK);
        let machines = for_machines(&head, b"\xff", StatusCode::OK);
        assert!(!people.contains("MARKER") && !machines.contains("MARKER"));
        assert!(people.contains("POST /hooks?x=1") && people.contains("{\"a\":1}"), "{people}");
        assert!(machines.contains("\"body_base64\":\"/w==\""), "{machines}");
    }
}
