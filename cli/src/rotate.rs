//! `zen rotate`: asks the operator to exchange a certificate authority or signing keys, and shows how that goes (T-04).

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};
use zen_model::reason::RotationReason;
use zen_model::{ClusterId, Timestamp};
use zen_rotation::record::{self, Action, Request, State};
use zen_rotation::{Half, Member, Observed, Phase, Plan, Rotation, Subject, Work, dry_run};

use crate::certs;
use crate::cluster::InCluster;
use crate::failure::{Context as _, Failure, Outcome};
use crate::output::{Table, plain_text, span, write_stdout};
use crate::parse;

/// The operator looks at requests at once.
const ANSWER: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Exchange a certificate authority or signing keys under traffic: canary, probes, all; back by itself where something fails.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl zen rotate issuer --dry-run          what would be done, with which pods first
  kubectl zen rotate issuer --wait             do it, and show how it goes
  kubectl zen rotate issuer --abort            take back what goes on
  kubectl zen rotate root --wait               the root, and all below it: an hour and more, with members days
  kubectl zen rotate signing --overlap 14d     the signing keys; targets have two weeks to take theirs
  kubectl zen rotate signing --cluster a/eu    the keys of one member
  kubectl zen rotate intake                    the certificate that sources are presented

Needs the right to patch the ConfigMap zen-mesh-rotation in the mesh's namespace.")]
pub struct Rotate {
    /// What is exchanged.
    #[arg(value_enum)]
    what: What,
    /// Show the steps; nothing is done.
    #[arg(long, conflicts_with_all = ["abort", "wait"])]
    dry_run: bool,
    /// Take it back.
    #[arg(long)]
    abort: bool,
    /// Wait until it is over, and fail when it was taken back.
    #[arg(long)]
    wait: bool,
    /// Of a hundred pods, how many go first; an ingester and an egress at least do.
    #[arg(long, value_name = "PERCENT", default_value_t = Plan::default().canary_percent,
          value_parser = clap::value_parser!(u8).range(1..=100))]
    canary: u8,
    /// How long the first are watched, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = Plan::default().soak_seconds)]
    soak: u32,
    /// How long a step may take before all goes back, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = Plan::default().patience_seconds)]
    patience: u32,
    /// How long the old counts beside the new: signing keys at targets [default: 7d], a root [default: as long as it needs].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    overlap: Option<Duration>,
    /// The member whose signing keys are exchanged [default: the mesh's own].
    #[arg(long, value_name = "TENANT/NAME")]
    cluster: Option<ClusterId>,
    /// The mesh's namespace.
    #[arg(short, long, value_name = "NS", default_value = certs::NAMESPACE)]
    namespace: String,
    /// The kubeconfig's context [default: the current one].
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// What can be exchanged.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum What {
    /// The issuing CA of the pods' certificates.
    Issuer,
    /// The root, and with it everything below.
    Root,
    /// The keys that events are signed with, between the planes and towards targets.
    Signing,
    /// The certificate that the intake presents, where it is the mesh's own.
    Intake,
}

impl Rotate {
    /// Asks, and shows what comes of it.
    pub async fn run(self) -> Outcome {
        let client = InCluster::of_context(self.context.clone()).connect().await?.client;
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &self.namespace);
        let subject = self.subject()?;
        if self.dry_run {
            let mut pods = certs::pods(&certs::read(&api).await?);
            // Those who sign, and have an intake.
            let is_of_ingesters = matches!(subject, Subject::SigningKeys(_) | Subject::IntakeTls);
            pods.retain(|pod| !is_of_ingesters || pod.starts_with("zen-ingester-"));
            write_stdout(&plan(&Rotation::new(subject, self.plan(), Timestamp::now()), &pods));
            return Ok(());
        }
        let request = Request {
            id: format!("{:016x}", rand()?),
            action: if self.abort { Action::Abort } else { Action::Start },
            subject,
            plan: self.plan(),
        };
        let text = serde_json::to_string(&request).context("failed to write the request")?;
        let patch = json!({"data": {record::REQUEST: text}});
        let params = PatchParams { field_manager: Some("kubectl-zen".to_owned()), ..PatchParams::default() };
        api.patch(record::CONFIG_MAP, &params, &Patch::Merge(&patch)).await.map_err(|error| refused(&error))?;
        answered(&api, &request.id).await?;
        if self.wait { over(&api).await } else { Ok(()) }
    }

    fn subject(&self) -> Outcome<Subject> {
        match (self.what, &self.cluster) {
            (What::Signing, cluster) if self.dry_run && cluster.is_some() => {
                Err(Failure::usage("the keys of a member are exchanged in one step: there is nothing to show"))
            }
            (What::Signing, cluster) => Ok(Subject::SigningKeys(cluster.clone())),
            (_, Some(_)) => Err(Failure::usage("--cluster goes with signing")),
            (What::Issuer | What::Intake, None) if self.overlap.is_some() => {
                Err(Failure::usage("--overlap goes with signing and root"))
            }
            (What::Issuer, None) => Ok(Subject::IssuingCa(None)),
            (What::Root, None) => Ok(Subject::Root),
            (What::Intake, None) => Ok(Subject::IntakeTls),
        }
    }

    fn plan(&self) -> Plan {
        let overlap = self.overlap.map(|overlap| u32::try_from(overlap.as_secs()).unwrap_or(u32::MAX));
        Plan {
            overlap_seconds: overlap,
            canary_percent: self.canary,
            soak_seconds: self.soak,
            patience_seconds: self.patience,
            ..Plan::default()
        }
    }
}

fn rand() -> Outcome<u64> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Failure::new("the system has no random numbers"))?;
    Ok(u64::from_be_bytes(bytes))
}

fn refused(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if status.code == 404 => Failure::new("there is no ConfigMap zen-mesh-rotation")
            .hint("is the mesh installed in this namespace (-n), and does its operator run?"),
        kube::Error::Api(status) if status.code == 403 => {
            Failure::new(format!("the cluster answered 403: {}", plain_text(&status.message, 500)))
                .hint("ask for the right to patch the ConfigMap zen-mesh-rotation in the mesh's namespace")
        }
        error => Failure::new(format!("the API server could not be asked: {error}")),
    }
}

async fn state(api: &Api<ConfigMap>) -> Outcome<State> {
    let object = api.get(record::CONFIG_MAP).await.map_err(|error| refused(&error))?;
    let text = object.data.unwrap_or_default().remove(record::STATE).unwrap_or_else(|| "{}".to_owned());
    serde_json::from_str(&text).context("the state of the rotation cannot be read")
}

async fn answered(api: &Api<ConfigMap>, id: &str) -> Outcome {
    let deadline = Instant::now() + ANSWER;
    loop {
        if let Some(answer) = state(api).await?.answer.filter(|answer| answer.id == id) {
            if !answer.accepted {
                return Err(Failure::new(plain_text(&answer.message, 500)));
            }
            eprintln!("zen: {}", plain_text(&answer.message, 500));
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new("the operator has not answered yet")
                .hint("it takes the request up when it is back: kubectl zen certs shows how it stands"));
        }
        sleep(LOOK).await;
    }
}

async fn over(api: &Api<ConfigMap>) -> Outcome {
    let began = Instant::now();
    let mut last = "";
    loop {
        let state = state(api).await?;
        let Some(active) = &state.active else {
            let Some(ended) = state.ended.first() else { return Ok(()) };
            let code = ended.reason.row();
            let detail = plain_text(&ended.detail, 500);
            return if ended.reason == RotationReason::RotationFinished {
                eprintln!("zen: {:>6}  done", span(began.elapsed()));
                Ok(())
            } else {
                Err(Failure::new(format!("it was taken back: {} {detail}", code.code)).hint(code.hint))
            };
        };
        let phase = active.rotation.phase.label();
        if phase != last {
            eprintln!("zen: {:>6}  {}", span(began.elapsed()), phase.replace('_', " "));
            last = phase;
        }
        sleep(LOOK).await;
    }
}

/// The steps as they would be if all went well.
fn plan(rotation: &Rotation, pods: &[String]) -> String {
    let member = |pod: &String| {
        let halves = [("zen-ingester-", Half::Takes), ("zen-egress-", Half::Delivers)];
        let half = halves.into_iter().find(|(name, _)| pod.starts_with(name)).map(|(_, half)| half);
        (pod.clone(), Member { half, ready: true, ..Member::default() })
    };
    let members: BTreeMap<_, _> = pods.iter().map(member).collect();
    let seen = Observed { now: rotation.started, members, ..Observed::default() };
    let mut table = Table::new(["STEP", "WHAT IS DONE"]);
    for (phase, works) in dry_run(rotation, &seen) {
        let works: Vec<_> = works.iter().map(|work| said(&rotation.subject, work, pods.len())).collect();
        let works = if works.is_empty() { first(&phase) } else { works.join(", then ") };
        table.row([phase.label().replace('_', " "), works]);
    }
    table.render()
}

fn first(phase: &Phase) -> String {
    match phase {
        Phase::Finished => "the new is in the place of the old".to_owned(),
        _ => "-".to_owned(),
    }
}

fn said(subject: &Subject, work: &Work, all: usize) -> String {
    use zen_rotation::Which;
    let (use_, probe) = match subject {
        Subject::SigningKeys(_) => {
            ("signatures", "what each says of its keys, signatures that were not taken, signed events, error rates")
        }
        _ => ("certificates", "handshakes with each, chains and times, signed events, error rates"),
    };
    match work {
        Work::Make => "make the new beside the old".to_owned(),
        Work::Trust(Which::Both) => "have both trusted".to_owned(),
        Work::Trust(Which::New) => "put the new in the place of the old".to_owned(),
        Work::Trust(Which::Old) => "drop the new".to_owned(),
        Work::Use { pods, new: true, everybody: false } => {
            let names: Vec<_> = pods.iter().map(|pod| plain_text(pod, 80)).collect();
            format!("{use_} of the new for {} of {all}: {}", pods.len(), names.join(", "))
        }
        Work::Use { new: true, .. } => format!("{use_} of the new for all {all}"),
        Work::Use { new: false, .. } => format!("{use_} of the old for all"),
        Work::Probe => format!("{probe}; back where one fails"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_who_goes_first_and_changes_nothing() {
        let pods: Vec<_> = (0..20).map(|number| format!("zen-ingester-{number:02}")).collect();
        let rotation = Rotation::new(Subject::IssuingCa(None), Plan::default(), Timestamp(0));
        let text = plan(&rotation, &pods);
        for line in ["2 of 20: zen-ingester-00, zen-ingester-01", "for all 20", "finished"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        let few = ["zen-audit-0", "zen-egress-a", "zen-egress-b", "zen-ingester-0"].map(str::to_owned);
        let text = plan(&rotation, &few);
        assert!(text.contains("2 of 4: zen-egress-a, zen-ingester-0"), "what events go through: {text}");
        assert!(plan(&rotation, &[]).contains("finished"), "also where nobody is");
        let keys = Rotation::new(Subject::SigningKeys(None), Plan::default(), Timestamp(0));
        let text = plan(&keys, &pods);
        assert!(text.contains("signatures of the new for 2 of 20") && !text.contains("certificates"), "{text}");
    }

    #[test]
    fn what_goes_with_what() {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            rotate: Rotate,
        }
        for (line, expected) in [
            ("issuer", Some(Subject::IssuingCa(None))),
            ("intake", Some(Subject::IntakeTls)),
            ("intake --overlap 1h", None),
            ("signing", Some(Subject::SigningKeys(None))),
            ("signing --overlap 14d", Some(Subject::SigningKeys(None))),
            ("signing --cluster team-a/eu", Some(Subject::SigningKeys(Some("team-a/eu".parse().expect("a cluster"))))),
            ("signing --cluster team-a/eu --dry-run", None),
            ("issuer --cluster team-a/eu", None),
            ("issuer --overlap 1h", None),
        ] {
            let rotate = Line::parse_from(["zen"].into_iter().chain(line.split(' '))).rotate;
            assert_eq!(rotate.subject().ok(), expected, "{line}");
        }
        let rotate = Line::parse_from(["zen", "signing", "--overlap", "14d"]).rotate;
        assert_eq!(rotate.plan().overlap_seconds, Some(14 * 86_400));
    }
}
