//! `zen send`: signs a provider's sample like the provider and posts it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use clap::builder::PossibleValuesParser;
use http::header::{HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use rustls_pki_types::ServerName;
use tokio::time::Instant;
use url::Url;
use zen_model::{ObjectKey, Secret, Timestamp};
use zen_verify::{ApiKey, Config, LabelledSecret};

use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::lock;
use crate::manifests;
use crate::net::{Answer, Connection, Target, tls_config};
use crate::output::{count, plain_text, span, write_stdout};
use crate::state::Place;

/// Answers that are printed one by one; of more, only the sum.
const SHOWN: u64 = 10;
/// The default of `verification.tolerance`; signing needs none, but a verifier is compiled from the same settings.
const TOLERANCE: Duration = Duration::from_mins(5);

/// Sign a provider's sample and post it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  zen send github --dir examples/quickstart --webhook team-a/github
  zen send stripe --dir examples/quickstart --webhook team-a/stripe --count 100
  ZEN_SECRET=… zen send slack --to https://hooks.example.com/team-a/slack --data event.json

With --dir the address, the CA and the secret are read from the folder: none is typed, none is
printed. With --to, give the secret as ZEN_SECRET, or as `--secret -` on standard input: what
stands on a command line, other users can see.
Exit code 1 when an answer is not 2xx.")]
pub struct Send {
    /// The provider.
    #[arg(value_parser = PossibleValuesParser::new(zen_verify::presets().iter().map(|preset| preset.name)))]
    preset: String,
    /// Send to the mesh that runs on the manifests of this folder.
    #[arg(long, value_name = "DIR", requires = "webhook", conflicts_with = "to")]
    dir: Option<PathBuf>,
    /// The Webhook to send to.
    #[arg(long, value_name = "NS/NAME")]
    webhook: Option<ObjectKey>,
    /// Its state folder [default: DIR/.zen].
    #[arg(long, value_name = "FOLDER", requires = "dir")]
    state: Option<PathBuf>,
    /// Send to this URL. In a cluster: instead of the one in the Webhook's status.
    #[arg(long, value_name = "URL")]
    to: Option<Url>,
    /// The secret that signs; `-` reads it from standard input. For basic: USER:PASSWORD.
    #[arg(long, value_name = "S", env = "ZEN_SECRET", hide_env_values = true, conflicts_with = "dir")]
    secret: Option<String>,
    /// With --dir: a file of private keys for ZenLocks [default: identity.txt of the state folder, where there is one].
    #[arg(long, value_name = "FILE", requires = "dir")]
    identity: Vec<PathBuf>,
    /// The CA of the server, PEM [default: STATE/ca.crt with --dir, else the system's].
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Send the body in this file instead of the provider's sample.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// How many to send, each with an id of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    count: u64,
    #[command(flatten)]
    cluster: InCluster,
}

/// One sender: where it connects, what it signs with.
pub struct Sender {
    config: Config,
    /// The URL as the source knows it: what URL-signing schemes sign, and what `Host` says.
    url: Url,
    connection: Connection,
}

impl Send {
    /// Sends all and prints the answers.
    pub async fn run(self) -> Outcome {
        let body = match &self.data {
            Some(file) => {
                let read = std::fs::read(file).context(format_args!("failed to read {}", file.display()));
                Some(Bytes::from(read.map_err(|failure| failure.code(2))?))
            }
            None => None,
        };
        let mut sender = match (&self.dir, &self.webhook, &self.to) {
            (Some(dir), Some(webhook), _) => self.to_webhook(dir, webhook)?,
            (None, Some(webhook), _) if self.cluster.is_meant(false) => self.to_cluster(webhook).await?,
            (_, None, Some(url)) => self.to_url(url)?,
            _ => return Err(Failure::usage("name a Webhook with --dir and --webhook, or a URL with --to")),
        };
        let began = Instant::now();
        let mut statuses = BTreeMap::<u16, u64>::new();
        for nth in 0..self.count {
            let answer = sender.send(body.clone(), nth).await?;
            *statuses.entry(answer.status.as_u16()).or_default() += 1;
            if nth < SHOWN {
                write_stdout(&shown(&answer));
            }
        }
        if self.count > SHOWN {
            write_stdout(&summary(&statuses, self.count, began.elapsed()));
        }
        let refused: u64 = statuses.iter().filter(|(status, _)| !(200..300).contains(*status)).map(|(_, n)| n).sum();
        match refused {
            0 => Ok(()),
            1 if self.count == 1 => Err(Failure::new("the webhook was refused").hint(hint(&statuses))),
            _ => {
                let what = format!("{} of {} webhooks were refused", count(refused), count(self.count));
                Err(Failure::new(what).hint(hint(&statuses)))
            }
        }
    }

    fn to_webhook(&self, dir: &Path, webhook: &ObjectKey) -> Outcome<Sender> {
        let place = Place::find(self.state.as_deref(), Some(dir));
        let addresses = place.addresses()?;
        let keyring = lock::keyring(&self.identity, &place)?;
        let known = manifests::read(dir, keyring)?.webhook(webhook)?;
        self.fits(webhook, &known)?;
        let ca = self.ca.clone().unwrap_or_else(|| place.ca_file());
        Sender::to_intake(known, &addresses.intake, &ca)
    }

    /// The Webhook and its Secret are read with the user's own rights.
    async fn to_cluster(&self, webhook: &ObjectKey) -> Outcome<Sender> {
        let cluster = self.cluster.connect().await?;
        let (objects, url) = manifests::of_cluster(&cluster.client, webhook).await?;
        let known = objects.webhook(webhook)?;
        self.fits(webhook, &known)?;
        let url = match (&self.to, url) {
            (Some(url), _) => url.clone(),
            (None, Some(url)) => Url::parse(&url).context(format_args!("{url} is not a URL"))?,
            (None, None) => {
                return Err(Failure::new(format!("the status of Webhook {webhook} tells no URL yet"))
                    .hint("kubectl zen check says why; or name the URL with --to"));
            }
        };
        self.sender(known.config, &url)
    }

    fn fits(&self, webhook: &ObjectKey, known: &manifests::KnownWebhook) -> Outcome {
        let preset = known.config.preset.name;
        if preset == self.preset {
            return Ok(());
        }
        let what = format!("Webhook {webhook} verifies {preset}, not {}", self.preset);
        Err(Failure::usage(what).hint(format!("zen send {preset} …")))
    }

    fn to_url(&self, url: &Url) -> Outcome<Sender> {
        let preset = zen_verify::preset(&self.preset).ok_or_else(|| Failure::usage("unknown preset"))?;
        if preset.name == "generic" {
            return Err(Failure::usage("generic has no scheme of its own")
                .hint("use --dir DIR --webhook NS/NAME: the scheme stands in the Webhook"));
        }
        let secrets = match self.secret()? {
            Some(secret) => vec![LabelledSecret { label: "--secret".to_owned(), secret }],
            None if preset.name == "none" => Vec::new(),
            None => return Err(Failure::usage("there is no secret to sign with").hint("set ZEN_SECRET, or --secret -")),
        };
        let config = Config {
            preset,
            secrets,
            tolerance: TOLERANCE,
            public_url: None,
            generic: None,
            api_key: (preset.name == "apiKey").then(|| ApiKey::Header("x-api-key".to_owned())),
        };
        self.sender(config, url)
    }

    fn sender(&self, config: Config, url: &Url) -> Outcome<Sender> {
        let host = url.host_str().ok_or_else(|| Failure::usage(format!("{url} names no host")))?;
        let port = url.port_or_known_default().ok_or_else(|| Failure::usage(format!("{url} names no port")))?;
        let tls = match url.scheme() {
            "http" => None,
            "https" => Some((tls_config(self.ca.as_deref())?, server_name(host)?)),
            other => return Err(Failure::usage(format!("{other} is neither http nor https"))),
        };
        let target = Target { address: format!("{host}:{port}"), tls };
        Ok(Sender { config, url: url.clone(), connection: Connection::new(target) })
    }

    fn secret(&self) -> Outcome<Option<Secret>> {
        match self.secret.as_deref() {
            None => Ok(None),
            Some("-") => {
                let text = std::io::read_to_string(std::io::stdin()).context("failed to read standard input")?;
                Ok(Some(Secret::new(text.trim_end_matches(['\r', '\n']))))
            }
            Some(secret) => Ok(Some(Secret::new(secret))),
        }
    }
}

impl Sender {
    /// To a Webhook of a mesh that listens at `intake` (address and port) with a certificate of `ca`.
    pub fn to_intake(webhook: manifests::KnownWebhook, intake: &str, ca: &Path) -> Outcome<Self> {
        let (host, port) = intake.rsplit_once(':').ok_or_else(|| Failure::new(format!("{intake} has no port")))?;
        // A listener on every address is reached on loopback.
        let reached = match host {
            "0.0.0.0" => "127.0.0.1",
            "[::]" => "[::1]",
            other => other,
        };
        let name = webhook.host.as_deref().unwrap_or(reached);
        let url = format!("https://{name}:{port}{}", webhook.path);
        let url = Url::parse(&url).context(format_args!("{url} is not a URL"))?;
        let target =
            Target { address: format!("{reached}:{port}"), tls: Some((tls_config(Some(ca))?, server_name(name)?)) };
        Ok(Self { config: webhook.config, url, connection: Connection::new(target) })
    }

    /// Signs and posts one; `nth` makes the sample another one.
    pub async fn send(&mut self, body: Option<Bytes>, nth: u64) -> Outcome<Answer> {
        let url = self.config.public_url.clone().unwrap_or_else(|| self.url.to_string());
        let sample = zen_verify::sign(&self.config, &url, body, nth, Timestamp::now())
            .map_err(|error| Failure::new(format!("failed to sign: {}: {}", error.field, error.message)))?;
        let mut request = Request::new(Full::new(sample.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = sample.path_and_query.parse().context("failed to build the request")?;
        *request.headers_mut() = sample.headers;
        let authority = match (self.url.host_str(), self.url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => String::new(),
        };
        let authority = HeaderValue::from_str(&authority).context("failed to build the request")?;
        request.headers_mut().insert(HOST, authority);
        self.connection.send(request).await
    }
}

fn server_name(host: &str) -> Outcome<ServerName<'static>> {
    let bare = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(bare).context(format_args!("{host} is not a host name"))
}

fn shown(answer: &Answer) -> String {
    let body = String::from_utf8_lossy(&answer.body);
    let mut line = format!("{} {}", answer.status.as_u16(), plain_text(body.trim(), 500));
    if answer.headers.contains_key("zen-duplicate") {
        line.push_str("  (a repeat)");
    }
    line.trim_end().to_owned() + "\n"
}

fn summary(statuses: &BTreeMap<u16, u64>, sent: u64, took: Duration) -> String {
    let mut line = format!("sent {} in {}:", count(sent), span(took));
    for (status, number) in statuses {
        let _ = write!(line, " {} × {status}", count(*number));
    }
    line + "\n"
}

/// What usually is behind the first refusal.
fn hint(statuses: &BTreeMap<u16, u64>) -> &'static str {
    let refused = statuses.keys().find(|status| !(200..300).contains(*status));
    match refused.and_then(|status| StatusCode::from_u16(*status).ok()) {
        Some(StatusCode::UNAUTHORIZED) => "compare the secret here with the Secret that the Webhook names",
        Some(StatusCode::NOT_FOUND) => "compare the URL with the one that zen status shows",
        Some(StatusCode::SERVICE_UNAVAILABLE) => "the mesh cannot take it now: zen status says why",
        _ => "the code in the answer says why; docs/reference/reasons.md lists them",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_answers_are_summed_up() {
        let statuses = BTreeMap::from([(202, 998), (503, 2)]);
        assert_eq!(summary(&statuses, 1000, Duration::from_millis(1500)), "sent 1,000 in 1.5 s: 998 × 202 2 × 503\n");
        assert!(hint(&statuses).contains("zen status"));
    }
}
