//! `zen lock encrypt`: plaintext → ZenLock manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use zen_lock::manifest::{Edits, Located, Manifests, NewManifest, SubjectRef, render};
use zen_lock::{Keyring, MAX_KEYS, MAX_OBJECT, Recipient, Stanza, inspect, seal};
use zen_model::Secret;

use super::file;
use super::identity::Identities;
use super::input::{self, Plain};
use super::recipients::Recipients;
use crate::failure::{Failure, Outcome};
use crate::output::write_stdout;

/// Encrypt a Secret manifest, an .env file or plain files into a ZenLock manifest.
#[derive(Debug, Args)]
#[command(after_help = "\
With -o FILE that holds the ZenLock already, only its values change: keys that are not given stay, comments and other
documents stay byte for byte, and with -i a key whose value is the same keeps its ciphertext, so that Git shows no
change. (Without a private key nobody can tell whether a value is the same: keys that are given are sealed anew.)

Examples:
  zen lock encrypt -r age1… --allow ci -o ci.yaml secret.yaml
  kubectl create secret generic db --from-file=… --dry-run=client -o yaml | zen lock encrypt -r age1…
  zen lock encrypt --name web --namespace team-a --from-env-file .env --allow web -o web.yaml")]
pub struct Encrypt {
    #[command(flatten)]
    recipients: Recipients,
    /// The ZenLock's name [default: the Secret's].
    #[arg(long, value_name = "N")]
    name: Option<String>,
    /// The ZenLock's namespace [default: the Secret's].
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// A ServiceAccount whose pods may have it opened, or Webhook/NAME, or Destination/NAME; repeat it for several.
    #[arg(long, value_name = "SERVICEACCOUNT", value_delimiter = ',')]
    allow: Vec<String>,
    /// Where the manifest goes [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Take keys and values from an .env file.
    #[arg(long, value_name = "FILE")]
    from_env_file: Vec<PathBuf>,
    /// Take a file's bytes as a value; the key is the file's name unless given.
    #[arg(long, value_name = "[KEY=]FILE")]
    from_file: Vec<String>,
    #[command(flatten)]
    identities: Identities,
    /// The Secret manifest, or an .env file [default: standard input].
    #[arg(value_name = "SECRET.yaml")]
    input: Option<PathBuf>,
}

impl Encrypt {
    pub async fn run(self) -> Outcome {
        let plains = self.plains()?;
        let subjects = self.allow.iter().map(|text| subject(text)).collect::<Outcome<Vec<_>>>()?;
        let keyring = self.identities.keyring()?;
        let recipients = self.recipients.resolve().await?;
        let mut file = self.output.as_deref().map(Existing::open).transpose()?;
        let mut new = String::new();
        for plain in &plains {
            let target = Target { plain, subjects: &subjects, recipients: &recipients, keyring: &keyring };
            if !file.as_mut().map_or(Ok(false), |file| file.update(&target))? {
                let text = target.manifest()?;
                new.push_str(if new.is_empty() { "" } else { "---\n" });
                new.push_str(&text);
            }
        }
        match file {
            None => write_stdout(&new),
            Some(file) => file.write(&new)?,
        }
        Ok(())
    }

    fn plains(&self) -> Outcome<Vec<Plain>> {
        let named = !self.from_env_file.is_empty() || !self.from_file.is_empty();
        let is_env = |path: &Path| {
            path.file_name().is_some_and(|name| name == ".env")
                || path.extension().is_some_and(|ending| ending == "env")
        };
        let mut plains = match &self.input {
            Some(_) if named => {
                return Err(Failure::usage("give a Secret manifest, or --from-env-file and --from-file, not both"));
            }
            Some(path) if is_env(path) => vec![input::files(std::slice::from_ref(path), &[])?],
            Some(path) => input::secrets(path)?,
            None if named => vec![input::files(&self.from_env_file, &self.from_file)?],
            None => input::secrets(Path::new("-"))?,
        };
        if let (Some(input), Some(output)) = (&self.input, &self.output)
            && let (Ok(input), Ok(output)) = (input.canonicalize(), output.canonicalize())
            && input == output
        {
            return Err(Failure::usage(
                "-o names the file that is read: the plaintext would lie beside the ciphertext",
            )
            .hint("name another file, and keep the plaintext out of Git"));
        }
        if self.name.is_some() && plains.len() > 1 {
            return Err(Failure::usage(format!("--name is for one Secret, and there are {}", plains.len())));
        }
        for plain in &mut plains {
            plain.name = self.name.clone().or_else(|| plain.name.take());
            plain.namespace = self.namespace.clone().or_else(|| plain.namespace.take());
            let name = plain.name.as_deref().unwrap_or_default();
            if name.is_empty() {
                return Err(Failure::usage("the ZenLock needs a name").hint("give it with --name"));
            }
            if plain.data.is_empty() {
                return Err(Failure::usage(format!("{name} has no keys: there is nothing to encrypt")));
            }
            if plain.data.len() > MAX_KEYS {
                let what = format!("{name} has {} keys; a ZenLock may have {MAX_KEYS}", plain.data.len());
                return Err(Failure::usage(what).hint("split it"));
            }
        }
        Ok(plains)
    }
}

/// `NAME` is a ServiceAccount; `KIND/NAME` says it.
fn subject(text: &str) -> Outcome<SubjectRef> {
    let (kind, name) = text.split_once('/').unwrap_or(("ServiceAccount", text));
    let known = ["ServiceAccount", "Webhook", "Destination"].into_iter().find(|known| known.eq_ignore_ascii_case(kind));
    let kind = known.ok_or_else(|| {
        Failure::usage(format!("--allow {text}: {kind} is no kind of subject"))
            .hint("use the name of a ServiceAccount, Webhook/NAME or Destination/NAME")
    })?;
    Ok(SubjectRef { kind: kind.to_owned(), name: name.to_owned() })
}

/// Seals one value; a failure names the key.
pub fn sealed(object: &str, key: &str, value: &Secret, recipients: &[Recipient]) -> Outcome<String> {
    seal(value, recipients).map_err(|error| Failure::new(format!("ZenLock {object}, key {key}: {error}")))
}

/// Which values of a `ZenLock` have to be sealed for it to hold these. A value that is the same keeps its ciphertext.
pub fn changes(
    object: &str,
    lock: &Located,
    data: &BTreeMap<String, Secret>,
    recipients: &[Recipient],
    keyring: &Keyring,
) -> Outcome<Edits> {
    let mut edits = Edits::new();
    for (key, value) in data {
        let old = lock.entries.iter().find(|entry| entry.key == *key);
        let same = old.is_some_and(|old| {
            let stanzas = inspect(&old.armored).map_or(0, |header| count(&header.stanzas));
            // A header does not say to whom it is sealed, only to how many; rotate is what changes the keys.
            stanzas == recipients.len() && keyring.open(&old.armored).is_ok_and(|opened| opened.plaintext == *value)
        });
        if !same {
            edits.insert(key.clone(), Some(sealed(object, key, value, recipients)?));
        }
    }
    Ok(edits)
}

/// How many X25519 keys a header is for.
pub fn count(stanzas: &[Stanza]) -> usize {
    stanzas.iter().filter(|stanza| **stanza == Stanza::X25519).count()
}

/// One `ZenLock` to be.
struct Target<'a> {
    plain: &'a Plain,
    subjects: &'a [SubjectRef],
    recipients: &'a [Recipient],
    keyring: &'a Keyring,
}

impl Target<'_> {
    fn name(&self) -> &str {
        self.plain.name.as_deref().unwrap_or_default()
    }

    fn object(&self) -> String {
        self.plain
            .namespace
            .as_ref()
            .map_or_else(|| self.name().to_owned(), |namespace| format!("{namespace}/{}", self.name()))
    }

    fn manifest(&self) -> Outcome<String> {
        let object = self.object();
        let entries =
            self.plain.data.iter().map(|(key, value)| {
                sealed(&object, key, value, self.recipients).map(|armored| (key.as_str(), armored))
            });
        let entries = entries.collect::<Outcome<Vec<_>>>()?;
        let text = render(&NewManifest {
            name: self.name(),
            namespace: self.plain.namespace.as_deref(),
            labels: self.plain.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            entries: entries.iter().map(|(key, armored)| (*key, armored.as_str())).collect(),
            subjects: self.subjects.to_vec(),
        });
        valid(&text, &object)?;
        Ok(text)
    }
}

/// What the API server would refuse is refused here, before it is committed.
fn valid(text: &str, object: &str) -> Outcome {
    let read = zen_live::manifest::read(Path::new("zenlock.yaml"), text.as_bytes());
    if let Some(finding) = read.findings.iter().find(|finding| !finding.warning) {
        let what = format!("ZenLock {object}: {}: {}", finding.field, finding.message);
        return Err(Failure::usage(what).hint(finding.hint.clone()));
    }
    if text.len() > MAX_OBJECT {
        let what = format!("ZenLock {object} would have {} bytes; the API server takes {MAX_OBJECT}", text.len());
        return Err(Failure::usage(what).hint("split it into several ZenLocks"));
    }
    Ok(())
}

/// The file of `-o`, where it is there already.
struct Existing<'a> {
    path: &'a Path,
    manifests: Option<Manifests>,
    changed: bool,
}

impl<'a> Existing<'a> {
    fn open(path: &'a Path) -> Outcome<Self> {
        if !path.exists() {
            return Ok(Self { path, manifests: None, changed: false });
        }
        let text = file::read_text(path)?;
        let manifests = Manifests::parse(&text);
        let manifests = manifests.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        Ok(Self { path, manifests: Some(manifests), changed: false })
    }

    /// False where it does not hold this one.
    fn update(&mut self, target: &Target<'_>) -> Outcome<bool> {
        let Some(manifests) = &mut self.manifests else { return Ok(false) };
        let wanted = target.plain.namespace.as_deref();
        let is_it = |lock: &Located| {
            let elsewhere = wanted.zip(lock.namespace.as_deref()).is_some_and(|(a, b)| a != b);
            lock.name == target.name() && !elsewhere
        };
        let Some(index) = manifests.locks().iter().position(is_it) else { return Ok(false) };
        let lock = &manifests.locks()[index];
        let object = target.object();
        let edits = changes(&object, lock, &target.plain.data, target.recipients, target.keyring)?;
        let kept = lock.entries.len() - lock.entries.iter().filter(|entry| edits.contains_key(&entry.key)).count();
        manifests.edit(index, &edits).map_err(|error| Failure::new(format!("{}: {error}", self.path.display())))?;
        valid_in(manifests, &object)?;
        eprintln!("zen: {}: ZenLock {object}: {} sealed, {kept} kept", self.path.display(), keys(edits.len()));
        if !target.subjects.is_empty() {
            let names: Vec<_> =
                target.subjects.iter().map(|subject| format!("{} {}", subject.kind, subject.name)).collect();
            eprintln!(
                "zen: allowedSubjects stay as they are in {}: see that {} is among them",
                self.path.display(),
                names.join(", ")
            );
        }
        self.changed |= !edits.is_empty();
        Ok(true)
    }

    /// With the manifests that were not in it.
    fn write(self, new: &str) -> Outcome {
        let Some(manifests) = self.manifests else { return file::create(self.path, new.as_bytes(), 0o644) };
        if new.is_empty() {
            return if self.changed { file::replace(self.path, manifests.text()) } else { Ok(()) };
        }
        let mut text = manifests.text().to_owned();
        if !text.trim().is_empty() {
            text.push_str(if text.ends_with('\n') { "---\n" } else { "\n---\n" });
        }
        text.push_str(new);
        file::replace(self.path, &text)
    }
}

fn valid_in(manifests: &Manifests, object: &str) -> Outcome {
    if manifests.text().len() > MAX_OBJECT && manifests.locks().len() == 1 {
        return valid(manifests.text(), object);
    }
    let most = manifests.locks().iter().map(|lock| lock.entries.len()).max().unwrap_or(0);
    if most > MAX_KEYS {
        return Err(Failure::usage(format!("ZenLock {object} would have {most} keys; it may have {MAX_KEYS}")));
    }
    Ok(())
}

/// `1 key`, `2 keys`.
pub fn keys(count: usize) -> String {
    if count == 1 { "1 key".to_owned() } else { format!("{count} keys") }
}
