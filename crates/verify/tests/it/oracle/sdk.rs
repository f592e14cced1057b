//! Two processes with the providers' libraries, started when first asked and ended with the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::{env, fs};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

/// Whose library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    JavaScript,
    Python,
}

/// Asks one question.
pub fn ask(language: Language, request: &Value) -> Value {
    static JAVASCRIPT: OnceLock<Mutex<Process>> = OnceLock::new();
    static PYTHON: OnceLock<Mutex<Process>> = OnceLock::new();
    let process = match language {
        Language::JavaScript => JAVASCRIPT.get_or_init(|| Mutex::new(Process::start(language))),
        Language::Python => PYTHON.get_or_init(|| Mutex::new(Process::start(language))),
    };
    // A test that failed while asking has read its answer or not at all: the next line is the next answer.
    process.lock().unwrap_or_else(std::sync::PoisonError::into_inner).ask(request)
}

struct Process {
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(language: Language) -> Self {
        let folder = installed();
        let mut command = match language {
            Language::JavaScript => {
                // Modules given as text are found from the working directory.
                let script = fs::read_to_string(source().join("oracle.mjs")).expect("the script");
                let mut command = Command::new("node");
                command.args(["--input-type=module", "--eval", &script]).current_dir(folder);
                command
            }
            Language::Python => {
                let mut command = Command::new("python3");
                command.arg(source().join("oracle.py")).env("PYTHONPATH", folder.join("python"));
                command
            }
        };
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node and python3 are needed");
        let (input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { _child: child, input, output: BufReader::new(output) }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.input, "{request}").expect("the oracle reads");
        self.input.flush().expect("the oracle reads");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the oracle answers");
        serde_json::from_str(&line).expect("the oracle ended or wrote no JSON")
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

/// The folder with `node_modules` and `python`.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = env::var_os("ZEN_ORACLES") {
            return folder.into();
        }
        assert!(env::var_os("CI").is_none(), "ZEN_ORACLES is not set; cargo xtask test sets it");
        install()
    })
}

/// The same folder and the same stamp as `cargo xtask test`: what one installed serves the other.
fn install() -> PathBuf {
    let source = source();
    let files = ["package.json", "package-lock.json", "requirements.txt"];
    let inputs = files.map(|name| fs::read(source.join(name)).expect("a file of the oracle"));
    let hash = hex::encode(digest(&SHA256, &inputs.concat()));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache"));
    let folder = cache.join("zen-mesh/oracles").join(&hash[..16]);
    let stamp = folder.join(".stamp-oracles");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
        return folder;
    }
    fs::create_dir_all(&folder).expect("a folder in the cache");
    for name in &files[..2] {
        fs::copy(source.join(name), folder.join(name)).expect("copies");
    }
    let mut npm = Command::new("npm");
    run(npm.args(["ci", "--silent", "--ignore-scripts", "--no-audit"]).current_dir(&folder));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(source.join(files[2]));
    run(pip.arg("--target").arg(folder.join("python")));
    fs::write(&stamp, hash).expect("writes the stamp");
    folder
}

fn run(command: &mut Command) {
    let status = command.status().expect("npm and python3 are needed");
    assert!(status.success(), "{command:?} failed; the SDKs could not be installed");
}
