//! The command line of `zenlock-webhook fetch`. It is written into the pod at admission, where nobody can change it any
//! more, and read back by the unseal API: what a pod was admitted for stands here and nowhere else.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;

/// The subcommand.
pub const COMMAND: &str = "fetch";
/// Where the volume is mounted in our own containers.
pub const VOLUME: &str = "/zen-mesh/secrets";
/// Where our own containers find their token. At this path the API server's `ServiceAccount` admission finds a mount and adds
/// none: so they never hold a token for the API server.
pub const TOKEN_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Seconds.
const WITHIN: u64 = 120;

/// Asks for the plaintext of ZenLocks and writes it into a volume in memory.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = COMMAND, no_binary_name = true, max_term_width = 120)]
pub struct Arguments {
    /// The unseal API.
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// The roots that it is verified with: PEM in base64.
    #[arg(long, value_name = "BASE64")]
    pub ca: String,
    /// A ZenLock of the pod's namespace.
    #[arg(long = "lock", value_name = "NAME", required = true)]
    pub locks: Vec<String>,
    /// A ZenLock whose keys also become environment variables.
    #[arg(long = "env", value_name = "NAME")]
    pub env: Vec<String>,
    /// The volume.
    #[arg(long, value_name = "FOLDER", default_value = VOLUME)]
    pub dir: PathBuf,
    /// Mode of the files.
    #[arg(long, default_value = "0400")]
    pub mode: Mode,
    /// The pod's token.
    #[arg(long, value_name = "FILE", default_value = "/var/run/secrets/kubernetes.io/serviceaccount/token")]
    pub token: PathBuf,
    /// Gives up after so many seconds; the kubelet starts it again.
    #[arg(long, value_name = "SECONDS", default_value_t = WITHIN)]
    pub within: u64,
    /// Stays and follows changes.
    #[arg(long)]
    pub watch: bool,
    /// What to tell the application after a change: a URL of the loopback that gets a POST, or SIGNAL:PROGRAM.
    #[arg(long, value_name = "URL|SIGNAL:PROGRAM")]
    pub notify: Option<Notify>,
}

impl Arguments {
    /// Without ZenLocks: the paths and times of every pod.
    pub fn standard() -> Self {
        Self {
            url: String::new(),
            ca: String::new(),
            locks: Vec::new(),
            env: Vec::new(),
            dir: VOLUME.into(),
            mode: Mode::Owner,
            token: PathBuf::from(TOKEN_FOLDER).join("token"),
            within: WITHIN,
            watch: false,
            notify: None,
        }
    }

    /// What follows the program's name in a container.
    pub fn to_args(&self) -> Vec<String> {
        let mut args: Vec<String> =
            [COMMAND, "--url", &self.url, "--ca", &self.ca, "--mode", &self.mode.to_string()].map(str::to_owned).into();
        for (flag, names) in [("--lock", &self.locks), ("--env", &self.env)] {
            args.extend(names.iter().flat_map(|name| [flag.to_owned(), name.clone()]));
        }
        if self.watch {
            args.push("--watch".to_owned());
        }
        if let Some(notify) = &self.notify {
            args.extend(["--notify".to_owned(), notify.to_string()]);
        }
        args
    }

    /// Reads what [`Arguments::to_args`] wrote; none for anything else.
    pub fn of_args(args: &[String]) -> Option<Self> {
        let (command, rest) = args.split_first()?;
        if command != COMMAND {
            return None;
        }
        Self::try_parse_from(rest).ok()
    }

    /// The roots in PEM; none where the argument is not text in base64.
    pub fn roots(&self) -> Option<String> {
        String::from_utf8(STANDARD.decode(&self.ca).ok()?).ok()
    }

    /// For [`Arguments::ca`].
    pub fn encode_roots(pem: &str) -> String {
        STANDARD.encode(pem)
    }

    /// How long it may take.
    pub fn patience(&self) -> Duration {
        Duration::from_secs(self.within)
    }
}

/// Who may read the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The user that everything runs as: 0400.
    Owner,
    /// The pod's `fsGroup`: 0440.
    Group,
    /// Every user of the pod's containers: 0444.
    Everyone,
}

impl Mode {
    /// Mode bits of files.
    pub const fn file(self) -> u32 {
        match self {
            Self::Owner => 0o400,
            Self::Group => 0o440,
            Self::Everyone => 0o444,
        }
    }

    /// Mode bits of folders; their owner replaces what is in them.
    pub const fn folder(self) -> u32 {
        match self {
            Self::Owner => 0o700,
            Self::Group => 0o750,
            Self::Everyone => 0o755,
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o}", self.file())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Owner, Self::Group, Self::Everyone]
            .into_iter()
            .find(|mode| mode.to_string() == text)
            .ok_or_else(|| format!("{text:?} is not 0400, 0440 or 0444"))
    }
}

/// How the application hears of new files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notify {
    /// A POST to the loopback.
    Http {
        /// Port.
        port: u16,
        /// Path and query.
        path: String,
    },
    /// A signal to the processes of this name; the pod must share its process namespace.
    Signal {
        /// Which.
        signal: Signal,
        /// As `/proc/PID/comm` says it.
        program: String,
    },
}

/// Signals that programs reload on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGHUP`.
    Hup,
    /// `SIGUSR1`.
    Usr1,
    /// `SIGUSR2`.
    Usr2,
}

impl Signal {
    const ALL: [Self; 3] = [Self::Hup, Self::Usr1, Self::Usr2];

    /// Its name without `SIG`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hup => "HUP",
            Self::Usr1 => "USR1",
            Self::Usr2 => "USR2",
        }
    }
}

impl std::fmt::Display for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http { port, path } => write!(f, "http://127.0.0.1:{port}{path}"),
            Self::Signal { signal, program } => write!(f, "{}:{program}", signal.name()),
        }
    }
}

impl FromStr for Notify {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?} is neither http://127.0.0.1:PORT/PATH nor HUP:, USR1: or USR2: with a program");
        let printable = |text: &str| text.chars().all(|c| c.is_ascii_graphic());
        if let Some(rest) = text.strip_prefix("http://127.0.0.1:").or_else(|| text.strip_prefix("http://localhost:")) {
            let at = rest.find('/').unwrap_or(rest.len());
            let (port, path) = rest.split_at(at);
            let port = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
            let path = if path.is_empty() { "/" } else { path };
            return if printable(path) { Ok(Self::Http { port, path: path.to_owned() }) } else { Err(wrong()) };
        }
        let (name, program) = text.split_once(':').ok_or_else(wrong)?;
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name.trim_start_matches("SIG"));
        // The kernel keeps 15 bytes of a program's name.
        match signal {
            Some(signal) if (1..=15).contains(&program.len()) && printable(program) && !program.contains('/') => {
                Ok(Self::Signal { signal, program: program.to_owned() })
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments() -> Arguments {
        Arguments {
            url: "https://zenlock-webhook.zen-mesh.svc".to_owned(),
            ca: Arguments::encode_roots("-----BEGIN CERTIFICATE-----\n"),
            locks: vec!["ci-token".to_owned(), "db".to_owned()],
            env: vec!["db".to_owned()],
            mode: Mode::Group,
            watch: true,
            notify: Some("HUP:nginx".parse().expect("valid")),
            ..Arguments::standard()
        }
    }

    #[test]
    fn what_is_written_into_a_pod_is_read_back() {
        let args = arguments().to_args();
        assert_eq!(args[0], "fetch");
        assert_eq!(Arguments::of_args(&args), Some(arguments()));
        assert_eq!(arguments().roots().as_deref(), Some("-----BEGIN CERTIFICATE-----\n"));
        for other in [&[][..], &["sleep", "1"], &["fetch"], &["fetch", "--lock", "a"]] {
            let other: Vec<String> = other.iter().map(|arg| (*arg).to_owned()).collect();
            assert_eq!(Arguments::of_args(&other), None, "{other:?}");
        }
    }

    #[test]
    fn an_application_is_told_on_the_loopback_or_by_a_signal() {
        for (text, written) in [
            ("http://127.0.0.1:8080/-/reload", "http://127.0.0.1:8080/-/reload"),
            ("http://localhost:80", "http://127.0.0.1:80/"),
            ("SIGHUP:nginx", "HUP:nginx"),
            ("USR1:a", "USR1:a"),
        ] {
            assert_eq!(text.parse::<Notify>().expect("valid").to_string(), written);
        }
        for text in [
            "http://10.0.0.1:80/",
            "http://127.0.0.1:0/",
            "http://127.0.0.1:80/a b",
            "https://127.0.0.1:80/",
            "http://127.0.0.1.evil:80/",
            "KILL:nginx",
            "HUP:",
            "HUP:/bin/sh",
            "HUP:sixteen-letters-",
            "nginx",
        ] {
            assert!(text.parse::<Notify>().is_err(), "{text}");
        }
    }
}
