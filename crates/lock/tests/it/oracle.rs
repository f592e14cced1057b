//! Where the age tool and the vectors are: `ZEN_AGE_ORACLE`, which `cargo xtask test` sets. Without it the tests build
//! them into the user's cache folder, as xtask does; where `CI` is set they fail instead.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs};

use aws_lc_rs::digest::{SHA256, digest};

/// The folder with `age`, `age-keygen` and `vectors`.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        if let Some(folder) = env::var_os("ZEN_AGE_ORACLE") {
            return folder.into();
        }
        assert!(env::var_os("CI").is_none(), "ZEN_AGE_ORACLE is not set; cargo xtask test sets it");
        install()
    })
}

/// Runs one of the tools with this standard input; its standard output, or its standard error when it fails.
pub fn run(tool: &str, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(folder().join(tool));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool starts");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // The tool may refuse before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the tool ends");
    writer.join().expect("written");
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The same folder and the same stamp as `cargo xtask test`: what one built serves the other.
fn install() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle");
    let inputs = ["go.mod", "go.sum", "oracle.go"].map(|name| fs::read(source.join(name)).expect("a file"));
    let hash = hex::encode(digest(&SHA256, &inputs.concat()));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("HOME is set")).join(".cache"));
    let folder = cache.join("zen-mesh/oracles").join(&hash[..16]);
    let stamp = folder.join(".stamp-oracles");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
        return folder;
    }
    fs::create_dir_all(&folder).expect("a folder in the cache");
    let mut go = Command::new("go");
    go.current_dir(&source).env("CGO_ENABLED", "0").env("GOFLAGS", "-mod=readonly");
    go.args(["build", "-trimpath", "-o"]).arg(&folder);
    let built = go.args(["filippo.io/age/cmd/age", "filippo.io/age/cmd/age-keygen", "."]).status();
    assert!(built.expect("go is needed").success(), "the age tool could not be built");
    let _ = fs::remove_dir_all(folder.join("vectors"));
    let written = Command::new(folder.join("age-oracle")).arg(folder.join("vectors")).status();
    assert!(written.expect("the oracle starts").success(), "the vectors could not be written");
    fs::write(&stamp, hash).expect("writes the stamp");
    folder
}
