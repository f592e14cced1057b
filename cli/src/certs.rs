//! `zen certs`: every certificate of the mesh, its age, its state, and how a rotation stands (T-04).
//!
//! The operator's leader keeps them in the ConfigMap `zen-mesh-certificates`, public parts alone: whoever may read ConfigMaps of the
//! mesh's namespace needs no other right, and no pod is asked.

use clap::Args;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde::Serialize;
use zen_model::Timestamp;
use zen_rotation::inventory::{self, Certificate, Inventory, Kind, Standing};
use zen_rotation::record::{self, State};

use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::{Output, Style, Table, plain_text, span};

/// Where a mesh is unless its installation says otherwise.
pub const NAMESPACE: &str = "zen-mesh";

/// Show every certificate of the mesh, and how a rotation stands.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl zen certs
  kubectl zen certs -o json | jq '.certificates[] | select(.kind == \"issuer\")'

Needs the right to read the ConfigMaps zen-mesh-certificates and zen-mesh-rotation in the mesh's namespace.")]
pub struct Certs {
    /// The mesh's namespace.
    #[arg(short, long, value_name = "NS", default_value = NAMESPACE)]
    namespace: String,
    /// The kubeconfig's context [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What `-o json` shows.
#[derive(Debug, Serialize)]
struct Shown {
    certificates: Vec<Certificate>,
    rotation: State,
}

impl Certs {
    /// Reads and prints.
    pub async fn run(self) -> Outcome {
        let client = InCluster::of_context(self.context).connect().await?.client;
        let api: Api<ConfigMap> = Api::namespaced(client, &self.namespace);
        let certificates = read(&api).await?.certificates;
        let rotation = entry(&api, record::CONFIG_MAP, record::STATE).await?;
        let rotation = serde_json::from_str(&rotation).context("the state of the rotation cannot be read")?;
        let shown = Shown { certificates, rotation };
        self.output.print(&shown, |shown| text(shown, Timestamp::now(), Style::stdout()))
    }
}

/// What the operator knows.
pub async fn read(api: &Api<ConfigMap>) -> Outcome<Inventory> {
    let text = entry(api, inventory::CONFIG_MAP, inventory::CERTIFICATES).await?;
    serde_json::from_str(&text).context("the list of certificates cannot be read")
}

/// The pods of the mesh that a rotation takes in turn, by name: the operator's replicas follow when all do.
pub fn pods(inventory: &Inventory) -> Vec<String> {
    let pods = inventory.certificates.iter().filter(|it| matches!(it.kind, Kind::Workload | Kind::Serving));
    let pods = pods.filter_map(|it| it.name.strip_prefix("Pod/")).filter(|name| !name.starts_with("zen-operator-"));
    let mut pods: Vec<_> = pods.map(str::to_owned).collect();
    pods.sort();
    pods.dedup();
    pods
}

async fn entry(api: &Api<ConfigMap>, name: &str, key: &str) -> Outcome<String> {
    let object = api.get_opt(name).await.context("the API server could not be asked")?;
    let missing = || {
        Failure::new(format!("there is no ConfigMap {name}"))
            .hint("is the mesh installed in this namespace (-n), and does its operator run?")
    };
    object.and_then(|object| object.data?.remove(key)).ok_or_else(missing)
}

fn text(shown: &Shown, now: Timestamp, style: Style) -> String {
    let mut table = Table::new(["KIND", "NAME", "FINGERPRINT", "ISSUER", "AGE", "LEFT", "NOT AFTER", "STATE"]);
    for certificate in &shown.certificates {
        let left = certificate.until.since(now);
        let whole = certificate.until.since(certificate.from);
        let left_text = if left.is_zero() {
            style.bad("expired").into_owned()
        } else if left < whole / 3 {
            style.warn(&span(left)).into_owned()
        } else {
            span(left)
        };
        let state = match certificate.state {
            Standing::InUse => style.good(certificate.state.label()),
            Standing::Next | Standing::Old => style.warn(certificate.state.label()),
        };
        table.row([
            certificate.kind.label().to_owned(),
            plain_text(&certificate.name, 80),
            short(&certificate.fingerprint),
            certificate.issuer.as_deref().map_or_else(|| "-".to_owned(), short),
            span(now.since(certificate.from)),
            left_text,
            certificate.until.to_string(),
            state.into_owned(),
        ]);
    }
    let rotation = match (&shown.rotation.active, shown.rotation.ended.first()) {
        (Some(active), _) => {
            let rotation = &active.rotation;
            let phase = rotation.phase.label().replace('_', " ");
            let (whole, here) = (span(now.since(rotation.started)), span(now.since(rotation.since)));
            let detail = plain_text(&active.detail, 300);
            format!("rotation of {}: {phase} for {here}, begun {whole} ago  {detail}", rotation.subject.label())
        }
        (None, Some(ended)) => {
            let (reason, detail) = (ended.reason.row().code, plain_text(&ended.detail, 300));
            format!(
                "last rotation: {}, {} ago: {reason}  {detail}",
                ended.subject.label(),
                span(now.since(ended.ended))
            )
        }
        (None, None) => "no rotation goes on".to_owned(),
    };
    let keys = shown.rotation.signing.as_ref().map(|signing| {
        let older = signing
            .older
            .iter()
            .map(|older| format!(", targets may verify with {} until {}", older.version, older.until));
        format!("signing keys: version {}{}\n", signing.version, older.collect::<String>())
    });
    format!("{}\n{}\n{}", table.render(), rotation.trim_end(), keys.unwrap_or_default())
}

/// As much of a fingerprint as tells a few from each other.
fn short(fingerprint: &str) -> String {
    // A member that has not said yet which it uses.
    if fingerprint.is_empty() { "-".to_owned() } else { plain_text(fingerprint.get(..12).unwrap_or(fingerprint), 12) }
}

#[cfg(test)]
mod tests {
    use zen_model::reason::RotationReason;
    use zen_model::signing::Older;
    use zen_rotation::Subject;
    use zen_rotation::record::Ended;
    use zen_rotation::signing::Settled;

    use super::*;

    #[test]
    fn a_table_says_what_is_old_and_what_ends() {
        let day = 86_400;
        let certificate = |kind, name: &str, until: u64, state| Certificate {
            kind,
            name: name.to_owned(),
            fingerprint: "0123456789abcdef".to_owned(),
            issuer: None,
            from: Timestamp::from_secs(0),
            until: Timestamp::from_secs(until * day),
            state,
        };
        let ended = Ended {
            subject: Subject::IssuingCa(None),
            started: Timestamp::from_secs(day),
            ended: Timestamp::from_secs(2 * day),
            reason: RotationReason::ProbeFailed,
            detail: "zen-egress-0\u{1b}[2J: refused".to_owned(),
            old: String::new(),
            new: None,
        };
        let older = vec![Older { version: 1, until: Timestamp::from_secs(9 * day) }];
        let signing = Settled { version: 2, older };
        let shown = Shown {
            certificates: vec![
                certificate(Kind::Root, "ConfigMap/zen-mesh-trust", 3650, Standing::InUse),
                certificate(Kind::Issuer, "Secret/zen-mesh-issuer", 3, Standing::InUse),
                certificate(Kind::Workload, "Pod/zen-ingester-0", 1, Standing::Old),
                certificate(Kind::Serving, "Pod/zen-operator-7d9-x", 1, Standing::InUse),
                Certificate {
                    fingerprint: String::new(),
                    issuer: Some("fedcba9876543210".to_owned()),
                    ..certificate(Kind::Issuer, "ClusterEnrollment/team-a/eu", 90, Standing::Next)
                },
            ],
            rotation: State { ended: vec![ended], signing: Some(signing), ..State::default() },
        };
        let text = text(&shown, Timestamp::from_secs(2 * day), Style::plain());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].contains("root") && lines[1].contains("0123456789ab  "), "{text}");
        assert!(lines[3].contains("expired") && lines[3].contains("old"), "{text}");
        assert!(
            lines[5].contains("team-a/eu") && lines[5].contains(" -  ") && lines[5].contains("fedcba987654"),
            "{text}"
        );
        assert!(text.contains("last rotation: issuer, 0 µs ago: ProbeFailed") && !text.contains('\u{1b}'), "{text}");
        let keys = "signing keys: version 2, targets may verify with 1 until 1970-01-10T00:00:00.000Z";
        assert!(lines.last().is_some_and(|line| *line == keys), "{text}");
        assert_eq!(pods(&Inventory { certificates: shown.certificates }), ["zen-ingester-0"]);
    }
}
