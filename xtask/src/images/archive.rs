//! Images without a builder: one static program in one layer, in a file that `docker load`, `ctr images import` and
//! `kind load image-archive` read. The same content gives the same bytes: sorted entries, no times, no owners.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use tar::{Builder, EntryType, Header};

/// What goes into an image.
pub struct Archive {
    /// Its name and tag.
    pub reference: String,
    /// The static program on this machine.
    pub program: PathBuf,
    /// Its name in the root folder of the image.
    pub entrypoint: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Who runs it, numeric so that `runAsNonRoot` can be checked; `None` is root.
    pub user: Option<u32>,
    /// More files: whole path in the image without its first slash, and content. Sorted.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Writes the archive; the digest of its configuration, which is the id of the image.
pub fn write(path: &Path, image: &Archive) -> anyhow::Result<String> {
    let program = fs::read(&image.program).with_context(|| format!("failed to read {}", image.program.display()))?;
    let layer = layer(image, &program)?;
    let mut entrypoint = vec![format!("/{}", image.entrypoint)];
    entrypoint.extend(image.arguments.iter().cloned());
    let user = image.user.map(|user| format!("{user}:{user}")).unwrap_or_default();
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {"User": user, "Entrypoint": entrypoint, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
        "history": [{"created": "1970-01-01T00:00:00Z", "comment": "one static program"}],
    })
    .to_string();
    let manifest =
        json!([{"Config": "config.json", "RepoTags": [image.reference], "Layers": ["layer.tar"]}]).to_string();

    let mut archive = Builder::new(Vec::new());
    file(&mut archive, "manifest.json", 0o644, manifest.as_bytes())?;
    file(&mut archive, "config.json", 0o644, config.as_bytes())?;
    file(&mut archive, "layer.tar", 0o644, &layer)?;
    let archive = archive.into_inner().context("failed to write an archive")?;
    fs::write(path, archive).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(sha256(config.as_bytes()))
}

fn layer(image: &Archive, program: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    let mut made = Vec::new();
    for (name, content) in &image.files {
        let mut folders: Vec<&Path> =
            Path::new(name).ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
        folders.reverse();
        for folder in folders {
            if !made.contains(&folder) {
                let mut header = header(EntryType::Directory, 0o755, 0);
                layer.append_data(&mut header, folder, &[][..]).context("failed to write a layer")?;
                made.push(folder);
            }
        }
        file(&mut layer, name, 0o644, content)?;
    }
    file(&mut layer, &image.entrypoint, 0o755, program)?;
    layer.into_inner().context("failed to write a layer")
}

fn file(archive: &mut Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) -> anyhow::Result<()> {
    let mut header = header(EntryType::Regular, mode, content.len());
    archive.append_data(&mut header, name, content).with_context(|| format!("failed to add {name} to an archive"))
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn sha256(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, content)))
}

/// This machine's architecture in the words of images.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_same_content_gives_the_same_bytes_and_the_configuration_names_the_layer() {
        let folder = tempfile::tempdir().expect("room");
        let program = folder.path().join("built");
        fs::write(&program, "a program").expect("room");
        let image = Archive {
            reference: "localhost/zen-mesh/zen:1".into(),
            program,
            entrypoint: "zen".into(),
            arguments: vec!["up".into()],
            user: Some(65532),
            files: vec![("etc/ssl/certs/ca.crt".into(), b"roots".to_vec())],
        };
        let (first, second) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
        let digests = (write(&first, &image).expect("room"), write(&second, &image).expect("room"));
        assert_eq!(digests.0, digests.1);
        assert_eq!(fs::read(&first).expect("there"), fs::read(&second).expect("there"));

        let mut found = std::collections::BTreeMap::new();
        let mut archive = tar::Archive::new(fs::File::open(&first).expect("there"));
        for entry in archive.entries().expect("a tar") {
            let mut entry = entry.expect("whole");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("whole");
            found.insert(entry.path().expect("a name").display().to_string(), content);
        }
        let config: serde_json::Value = serde_json::from_slice(&found["config.json"]).expect("JSON");
        assert_eq!(config["rootfs"]["diff_ids"][0], sha256(&found["layer.tar"]));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/zen", "up"]));

        let mut layer = tar::Archive::new(&found["layer.tar"][..]);
        let entries: Vec<_> = layer
            .entries()
            .expect("a tar")
            .map(|entry| {
                let entry = entry.expect("whole");
                let header = entry.header();
                let path = entry.path().expect("a name").display().to_string();
                (path, header.mode().expect("set"), header.mtime().expect("set"), header.uid().expect("set"))
            })
            .collect();
        let expected = [("etc", 0o755), ("etc/ssl", 0o755), ("etc/ssl/certs", 0o755), ("etc/ssl/certs/ca.crt", 0o644)];
        let expected = expected.into_iter().chain([("zen", 0o755)]);
        assert_eq!(entries, expected.map(|(path, mode)| (path.to_owned(), mode, 0, 0)).collect::<Vec<_>>());
    }
}
