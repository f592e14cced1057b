//! The images of the mesh, made of static programs without Docker: `cargo xtask images`.

pub mod archive;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use archive::Archive;
use serde::Serialize;

use crate::run;

/// Each program, and its package.
const PROGRAMS: [(&str, &str); 6] = [
    ("zen-operator", "zen-operator"),
    ("zen-ingester", "zen-ingester"),
    ("zen-egress", "zen-egress"),
    ("zenlock-webhook", "zenlock-webhook"),
    ("zen-audit", "zen-audit-store"),
    ("zen", "zen"),
];
/// Where the images seem to come from. `localhost` is a registry that nobody asks.
pub const REGISTRY: &str = "localhost/zen-mesh";
/// The tag: the version of the workspace, which is the chart's `appVersion`.
pub const TAG: &str = env!("CARGO_PKG_VERSION");
/// Who runs the programs.
const USER: u32 = 65532;
/// What public targets are verified with; the programs look for it where Debian has it.
const ROOTS: &str = "etc/ssl/certs/ca-certificates.crt";

/// How images are built.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(id = "image")]
pub struct Options {
    /// Hardly optimised programs, which build in a fraction of the time: for tests and for work on the mesh itself.
    #[arg(long)]
    dev: bool,
}

impl Options {
    /// What tests take: the whole of a release, less optimised.
    pub const TESTS: Self = Self { dev: true };

    /// The profile of cargo, and the folder of what it builds.
    fn profile(self) -> &'static str {
        if self.dev { "lean" } else { "release" }
    }
}

/// An image in a file.
#[derive(Debug, Serialize)]
pub struct Image {
    /// The program that it runs.
    pub program: &'static str,
    /// Name and tag.
    pub reference: String,
    /// The file.
    pub archive: PathBuf,
    /// The program in it, on this machine.
    pub binary: PathBuf,
    /// Its id.
    pub digest: String,
}

/// Where the files are: `target/images` of the repository.
pub fn folder() -> PathBuf {
    run::root().join("target/images")
}

/// Builds the programs and writes an image of each, and `images.json`, which lists them.
pub fn build(options: Options) -> anyhow::Result<Vec<Image>> {
    let programs = static_programs(options)?;
    let folder = folder();
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    if !Path::new("/").join(ROOTS).is_file() {
        run::need_all(&[("/etc/ssl/certs/ca-certificates.crt", "ca-certificates")], "the images' public roots")?;
    }
    let roots = fs::read(Path::new("/").join(ROOTS)).with_context(|| format!("failed to read /{ROOTS}"))?;
    let mut images = Vec::new();
    for (program, _) in PROGRAMS {
        let (reference, archive) = (format!("{REGISTRY}/{program}:{TAG}"), folder.join(format!("{program}.tar")));
        let binary = programs.join(program);
        let content = Archive {
            reference: reference.clone(),
            program: binary.clone(),
            entrypoint: program.to_owned(),
            arguments: Vec::new(),
            user: Some(USER),
            files: vec![(ROOTS.to_owned(), roots.clone())],
        };
        let digest = archive::write(&archive, &content)?;
        images.push(Image { program, reference, archive, binary, digest });
    }
    let list = format!("{:#}\n", serde_json::to_value(&images)?);
    fs::write(folder.join("images.json"), list).context("failed to write images.json")?;
    Ok(images)
}

/// Builds, and says where the images are.
pub fn print(options: Options) -> anyhow::Result<()> {
    for image in build(options)? {
        println!("{}  {}  {}", image.reference, image.digest, image.archive.display());
    }
    Ok(())
}

/// The folder of the static programs. Nothing in them tells where or when they were built.
fn static_programs(options: Options) -> anyhow::Result<PathBuf> {
    run::need("cc", "gcc", "the C parts of the programs")?;
    run::need("make", "make", "the C parts of the programs")?;
    let triple = match std::env::consts::ARCH {
        "x86_64" => "x86_64-unknown-linux-gnu",
        "aarch64" => "aarch64-unknown-linux-gnu",
        other => bail!("no images for {other}: only x86_64 and aarch64"),
    };
    let target = run::target()?;
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => std::path::absolute(home).context("failed to make CARGO_HOME absolute")?,
        None => std::env::home_dir().context("HOME is not set")?.join(".cargo"),
    };
    // The repository itself needs none: cargo names its files relative to it. So a clone elsewhere builds nothing anew.
    let places = [(cargo_home.as_path(), "/cargo"), (target.as_path(), "/target")];
    let map = |flag: &str| places.map(|(from, to)| format!("{flag}={}={to}", from.display())).join(" ");

    let mut build = run::cargo(&["build", "--target", triple, "--profile", options.profile()]);
    for (program, package) in PROGRAMS {
        build.args(["--package", package, "--bin", program]);
    }
    // A target of its own folder: these flags leave every other build alone. Panics and symbols keep their names.
    build.env("CARGO_TARGET_DIR", &target);
    build.env("RUSTFLAGS", format!("-Ctarget-feature=+crt-static {}", map("--remap-path-prefix")));
    build.env(format!("CFLAGS_{}", triple.replace('-', "_")), map("-ffile-prefix-map"));
    build.env("CARGO_PROFILE_RELEASE_DEBUG", "none").env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    eprintln!("xtask: building the static programs");
    run::done(&mut build)?;
    Ok(target.join(triple).join(options.profile()))
}
