//! What `zen up` says when it is ready: where it listens, what is in effect, how to send a first webhook.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use zen_compile::{Serving, Snapshot, Target, Verdict, Webhook};
use zen_live::{Finding, Published};
use zen_model::ObjectKey;

use crate::output::{Style, Table};
use crate::state::{Addresses, Place};

/// What the banner is about.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The folder of the manifests.
    pub dir: &'a Path,
    /// The state folder.
    pub place: &'a Place,
    /// Where the process listens.
    pub addresses: &'a Addresses,
    /// The configuration in effect.
    pub snapshot: &'a Snapshot,
    /// What is to be said about it.
    pub published: &'a Published,
}

impl Facts<'_> {
    /// For people.
    pub fn banner(&self, style: Style) -> String {
        let Self { dir, place, addresses, published, .. } = self;
        let version = env!("CARGO_PKG_VERSION");
        let mut text = format!("\n  {} {version} on {}\n\n", style.strong("Zen Mesh"), dir.display());
        let mut facts = Table::bare(2);
        facts.row(["intake".to_owned(), format!("https://{}", addresses.intake)]);
        facts.row(["admin".to_owned(), format!("http://{}  (/healthz, /readyz, /metrics)", addresses.admin)]);
        facts.row(["CA".to_owned(), place.ca_file().display().to_string()]);
        facts.row([
            "queue".to_owned(),
            format!("{}  (an acknowledged event is on disk: fsynced)", place.queue_folder().display()),
        ]);
        text.push_str(&facts.render());
        self.webhooks(&mut text, style);
        self.destinations(&mut text, style);
        findings(&mut text, &published.findings, style);
        if let Some((key, provider)) = self.first_sender() {
            let command = format!("{} send {provider} --dir {} --webhook {key}", program(), shell(dir));
            let command =
                if self.default_state() { command } else { format!("{command} --state {}", shell(place.folder())) };
            let _ = write!(
                text,
                "\n  Send a first signed webhook, from another terminal:\n\n    {}\n",
                style.strong(&command)
            );
        }
        text.push('\n');
        text
    }

    /// For machines: the first line.
    pub fn record(&self) -> Value {
        let verdict = |kind: &str, key: &ObjectKey| {
            let reasons: Vec<_> = problems(&self.published.verdicts, kind, key).map(|(reason, _)| reason).collect();
            json!({"accepted": self.in_effect(kind, key), "reasons": reasons})
        };
        let webhooks: Vec<_> = self
            .keys("Webhook")
            .map(|key| {
                let url = self.snapshot.webhooks.get(key).map(|webhook| url(webhook, &self.addresses.intake));
                json!({"key": key, "url": url, "verdict": verdict("Webhook", key)})
            })
            .collect();
        let destinations: Vec<_> = self
            .keys("Destination")
            .map(|key| {
                let target = self.snapshot.destinations.get(key).map(|destination| target(&destination.target));
                json!({"key": key, "target": target, "verdict": verdict("Destination", key)})
            })
            .collect();
        json!({
            "at": zen_model::Timestamp::now(), "what": "started", "intake": self.addresses.intake, "admin": self.addresses.admin,
            "ca": self.place.ca_file(), "state": self.place.folder(), "webhooks": webhooks,
            "destinations": destinations,
            "findings": self.published.findings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }

    fn keys(&self, kind: &'static str) -> impl Iterator<Item = &ObjectKey> {
        self.published.verdicts.iter().filter(move |verdict| verdict.kind == kind).map(|verdict| &verdict.key)
    }

    fn in_effect(&self, kind: &str, key: &ObjectKey) -> bool {
        self.published.verdicts.iter().any(|verdict| verdict.kind == kind && verdict.key == *key && verdict.serving)
    }

    fn webhooks(&self, text: &mut String, style: Style) {
        let _ = writeln!(text, "\n  {}", style.strong("Webhooks"));
        let mut table = Table::bare(2);
        for key in self.keys("Webhook") {
            let webhook = self.snapshot.webhooks.get(key);
            let provider = webhook.map_or("", |webhook| webhook.provider).to_owned();
            let url = webhook.map(|webhook| url(webhook, &self.addresses.intake)).unwrap_or_default();
            let inactive = webhook.is_some_and(|webhook| matches!(webhook.serving, Serving::Inactive));
            let verdict = self.verdict("Webhook", key, inactive.then_some("inactive"), style);
            let mark = if inactive { style.warn("-").into_owned() } else { self.mark("Webhook", key, style) };
            table.row([mark, key.to_string(), provider, url, verdict]);
        }
        let rows = table.render();
        text.push_str(if rows.is_empty() { "  none\n" } else { &rows });
    }

    fn destinations(&self, text: &mut String, style: Style) {
        let _ = writeln!(text, "\n  {}", style.strong("Destinations"));
        let mut table = Table::bare(2);
        for key in self.keys("Destination") {
            let destination = self.snapshot.destinations.get(key);
            let target = destination.map(|destination| target(&destination.target)).unwrap_or_default();
            let paused = destination.is_some_and(|destination| destination.paused);
            let verdict = self.verdict("Destination", key, paused.then_some("paused"), style);
            table.row([self.mark("Destination", key, style), key.to_string(), target, verdict]);
        }
        let rows = table.render();
        text.push_str(if rows.is_empty() { "  none\n" } else { &rows });
    }

    fn mark(&self, kind: &str, key: &ObjectKey, style: Style) -> String {
        if self.in_effect(kind, key) { style.good("✓").into_owned() } else { style.bad("✗").into_owned() }
    }

    /// The reasons, once each, after what the object itself asked for; the sentences stand among the findings.
    fn verdict(&self, kind: &str, key: &ObjectKey, own: Option<&'static str>, style: Style) -> String {
        let reasons = problems(&self.published.verdicts, kind, key);
        let mut words: Vec<_> = own.into_iter().map(|word| (word, true)).chain(reasons).collect();
        words.dedup();
        let shown = |(word, warning): (&'static str, bool)| if warning { style.warn(word) } else { style.bad(word) };
        words.into_iter().map(shown).collect::<Vec<_>>().join(" ")
    }

    /// A Webhook that `zen send` can sign for, GitHub's first.
    fn first_sender(&self) -> Option<(&ObjectKey, &'static str)> {
        let mut serving: Vec<_> =
            self.snapshot.webhooks.values().filter(|webhook| matches!(webhook.serving, Serving::Active(_))).collect();
        serving.sort_by_key(|webhook| webhook.provider != "github");
        serving.first().map(|webhook| (&webhook.key, webhook.provider))
    }

    fn default_state(&self) -> bool {
        self.place.folder() == self.dir.join(".zen")
    }
}

fn problems<'a>(
    verdicts: &'a [Verdict],
    kind: &'a str,
    key: &'a ObjectKey,
) -> impl Iterator<Item = (&'static str, bool)> + 'a {
    let verdict = verdicts.iter().filter(move |verdict| verdict.kind == kind && verdict.key == *key);
    verdict
        .flat_map(|verdict| verdict.problems.iter())
        .map(|problem| (problem.reason.code(), problem.reason.is_warning()))
}

/// Where a source reaches a Webhook.
pub fn url(webhook: &Webhook, intake: &str) -> String {
    match webhook.hosts.first() {
        None => format!("https://{intake}{}", webhook.path),
        Some(host) => format!("https://{host}:{}{}", intake.rsplit(':').next().unwrap_or("443"), webhook.path),
    }
}

/// A target as a URL; the query may hold credentials and is left out.
pub fn target(target: &Target) -> String {
    let (tls, host, port, path) = match target {
        Target::Url { tls, host, port, path_and_query } | Target::Service { tls, host, port, path_and_query, .. } => {
            (*tls, host, port, path_and_query)
        }
    };
    let scheme = if tls { "https" } else { "http" };
    let path = path.split('?').next().unwrap_or_default();
    match (tls, port) {
        (true, 443) | (false, 80) => format!("{scheme}://{host}{path}"),
        _ => format!("{scheme}://{host}:{port}{path}"),
    }
}

/// The findings, one a line.
pub fn findings(text: &mut String, findings: &[Finding], style: Style) {
    if findings.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n  {}", style.strong("Findings"));
    for finding in findings {
        let line = finding.to_string();
        let _ = writeln!(text, "  {}", if finding.warning { style.warn(&line) } else { style.bad(&line) });
    }
}

/// How this program is called from the user's shell: `zen` where the PATH leads to it, else its own path.
fn program() -> String {
    let Ok(this) = std::env::current_exe() else { return "zen".to_owned() };
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&paths).any(|folder| {
        folder.join("zen").canonicalize().is_ok_and(|found| this.canonicalize().is_ok_and(|this| this == found))
    });
    if on_path {
        return "zen".to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    shell(this.strip_prefix(here).unwrap_or(&this))
}

/// A path as a shell takes it.
fn shell(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_quoted_where_a_shell_needs_it() {
        assert_eq!(shell(Path::new("examples/quickstart")), "examples/quickstart");
        assert_eq!(shell(Path::new("it's here")), r"'it'\''s here'");
    }

    /// What a user sees first, word for word.
    #[test]
    fn the_banner_of_a_small_mesh() {
        let text = r#"
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: github, namespace: team-a}
spec:
  verification: {provider: github, secrets: [{secretRef: {name: github, key: secret}}]}
  routes: [{destinations: [{name: ci}]}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: off, namespace: team-a}
spec: {active: false, hosts: [hooks.example.com], verification: {provider: none}, routes: [{destinations: [{name: ci}]}]}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: wrong, namespace: team-a}
spec: {verification: {provider: stripe, secrets: [{secretRef: {name: missing, key: secret}}]}}
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ci, namespace: team-a}
spec: {paused: true, target: {url: "https://ci.example.com/hooks"}}
---
apiVersion: v1
kind: Secret
metadata: {name: github, namespace: team-a}
stringData: {secret: x}
"#;
        let compiled = zen_live::testing::compile_yaml(text);
        let findings = zen_live::testing::objects(text).1;
        let published =
            Published { generation: 1, verdicts: compiled.verdicts, findings, complete: true, ..Published::default() };
        let addresses = Addresses { intake: "127.0.0.1:8443".to_owned(), admin: "127.0.0.1:9901".to_owned() };
        let (dir, place) = (Path::new("manifests"), Place::find(None, Some(Path::new("manifests"))));
        let (place, addresses, published) = (&place, &addresses, &published);
        let banner = Facts { dir, place, addresses, snapshot: &compiled.snapshot, published }.banner(Style::plain());
        // The path of the test's own binary is another one each time.
        let start = banner.find("  Send a first").expect("there");
        assert!(banner[start..].contains(" send github --dir manifests --webhook team-a/github\n"), "{banner}");
        insta::assert_snapshot!(&banner[..start]);
    }

    #[test]
    fn a_targets_query_is_not_shown() {
        let url = Target::Url { tls: true, host: "h".into(), port: 443, path_and_query: "/a?token=MARKER".into() };
        assert_eq!(target(&url), "https://h/a");
    }
}
