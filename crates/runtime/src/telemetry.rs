//! Logs on standard error: text for people, JSON lines for machines. Never a payload, secret, signature or token.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{Directive, LevelFilter};
use tracing_subscriber::util::SubscriberInitExt as _;

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text.
    Text,
}

/// Logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not of the form `LEVEL` or `TARGET=LEVEL,…`.
    #[error("{0:?} is not a log filter; write a level (error, warn, info, debug, trace) or TARGET=LEVEL,…")]
    Filter(String),
    /// Another subscriber is in place.
    #[error("failed to start logging: {0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// Starts logging for the process. `filter` is what `ZEN_LOG` or `--log` says: a level for the mesh's own code, or
/// `TARGET=LEVEL` pairs.
///
/// # Errors
///
/// [`Error`] for a filter that does not parse, or when logging was started before.
pub fn init(format: Format, filter: &str) -> Result<(), Error> {
    let filter = parse_filter(filter)?;
    let json = match format {
        Format::Auto => !io::stderr().is_terminal(),
        Format::Json => true,
        Format::Text => false,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).finish().try_init()?;
    } else {
        let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(color).finish().try_init()?;
    }
    Ok(())
}

/// A level speaks of our own crates only, and other crates never say more than `info`: HTTP libraries print header
/// values below it, and those are signatures and tokens.
fn parse_filter(text: &str) -> Result<EnvFilter, Error> {
    let bad = || Error::Filter(text.to_owned());
    // Its watcher warns at each refusal; a watch that waits for its grant is refused every second, and who waits says so.
    let mut filter = EnvFilter::new("warn,kube_runtime::watcher=error");
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (target, level) = part.split_once('=').unwrap_or(("zen", part));
        let level: LevelFilter = level.parse().map_err(|_| bad())?;
        let level = if target.starts_with("zen") { level } else { level.min(LevelFilter::INFO) };
        let directive: Directive = format!("{target}={level}").parse().map_err(|_| bad())?;
        filter = filter.add_directive(directive);
    }
    Ok(filter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a filter says beside what every filter says.
    fn said(text: &str) -> String {
        parse_filter(text).expect("valid").to_string().replace("kube_runtime::watcher=error,", "")
    }

    #[test]
    fn a_level_is_for_our_own_crates() {
        assert_eq!(said("trace"), "zen=trace,warn");
        assert_eq!(said("zen_egress=debug,info"), "zen_egress=debug,zen=info,warn");
    }

    #[test]
    fn other_crates_never_print_headers() {
        assert_eq!(said("h2=trace"), "h2=info,warn");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in ["loud", "zen=loud", "=="] {
            assert!(matches!(parse_filter(bad), Err(Error::Filter(_))), "{bad}");
        }
    }
}
