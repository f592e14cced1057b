//! Two clusters, each with a control plane, a node and a network of its own: a hub takes webhooks in, and a member into whose
//! network there is no way delivers them (T-01, T-06, T-07, D-02, W-12).

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use zen_e2e_node::{Cluster, Load, Mesh, NAME, Namespace, Part, Passage, Source, reference, until};
use zen_testkit::Upstream;

use crate::stage::{SECRET, SOON, Stage, programmed, service, webhook};

/// The member's name at its hub.
const CLUSTER: &str = "prod-eu";
/// Ports of the hub's node.
const HUB: u16 = 30845;
const RELAY: u16 = 30946;
/// Longer than a lease and the link's keep-alive.
const PARTITION: Duration = Duration::from_secs(45);
/// What is promised of a cluster that is disabled.
const REVOKED: Duration = Duration::from_secs(5);

async fn helm(cluster: &Cluster, values: &[String]) {
    let operator = reference("zen-operator").unwrap();
    let registry = format!("image.registry={}", operator.rsplit_once('/').unwrap().0);
    let mut arguments =
        vec!["upgrade", "--install", NAME, "charts/zen-mesh", "--namespace", NAME, "--create-namespace"];
    // What runs is waited for below: a member is not ready before it is enrolled.
    arguments.extend(["--no-hooks", "--set", &registry]);
    for value in values {
        arguments.extend(["--set", value]);
    }
    cluster.helm(&arguments).await.unwrap();
}

/// The hub's root as a member pins it.
async fn fingerprint(hub: &Cluster) -> String {
    let get = ["get", "configmap", "zen-mesh-trust", "--namespace", NAME, "--output", "jsonpath={.data.ca\\.crt}"];
    let pem = hub.kubectl(&get).await.unwrap();
    let (_, body) = pem.split_once("-----BEGIN CERTIFICATE-----").unwrap();
    let body: String = body.split_once("-----END").unwrap().0.split_whitespace().collect();
    hex::encode(digest(&SHA256, &STANDARD.decode(body).unwrap()).as_ref())
}

async fn phase(hub: &Cluster, namespace: &str, wanted: &str) {
    until(&format!("the enrollment is {wanted}"), SOON, async || {
        let get = ["get", "ce", CLUSTER, "--namespace", namespace, "--output", "jsonpath={.status.phase}"];
        let phase = hub.kubectl(&get).await?;
        anyhow::ensure!(phase == wanted, "it is {phase}");
        Ok(Some(()))
    })
    .await
    .unwrap();
}

fn destination(namespace: &str) -> String {
    format!(
        "
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {{name: ci, namespace: {namespace}}}
spec:
  target: {{service: {{name: ci, port: 80, path: /hooks, scheme: http}}}}
  mode: Relay
  cluster: {CLUSTER}
  delivery: {{retry: {{transient: {{attempts: 100, initial: 1s, factor: 1}}}}}}
"
    )
}

/// Both clusters, and the ways from the member to its hub.
struct Pair {
    hub: Cluster,
    member: Cluster,
    control: Passage,
    relay: Passage,
}

impl Pair {
    /// Opens the hub to members and installs the member, which waits for a bundle.
    async fn install() -> Self {
        let (hub, member) = (Cluster::open().await.unwrap(), Cluster::open_member().await.unwrap());
        let at: IpAddr = member.host_ip().parse().unwrap();
        let to = |port: u16| SocketAddr::new(hub.node_ip().parse().unwrap(), port);
        let (control, relay) = (Passage::new(at, to(HUB)).await.unwrap(), Passage::new(at, to(RELAY)).await.unwrap());
        let values = [
            "hub.enabled=true".to_owned(),
            format!("hub.url=https://host.test:{}", control.port()),
            format!("hub.relay=host.test:{}", relay.port()),
            format!("hub.service.type=NodePort,hub.service.nodePort={HUB}"),
            format!("hub.relayService.type=NodePort,hub.relayService.nodePort={RELAY}"),
            "ingester.replicas=3".to_owned(),
        ];
        helm(&hub, &values).await;
        let values = [
            "member.enabled=true".to_owned(),
            format!("member.rootFingerprints={{{}}}", fingerprint(&hub).await),
            format!("member.hubPorts={{{},{}}}", control.port(), relay.port()),
            "audit.enabled=false,zenLock.enabled=false".to_owned(),
        ];
        helm(&member, &values).await;
        Self { hub, member, control, relay }
    }

    /// The four steps of `zen enroll --help`. Returns the tenant.
    async fn enroll(&self) -> Namespace {
        let recipient = until("the member has a key", SOON, async || {
            self.member.zen(&["enroll", "recipient"], None).await.map(Some)
        });
        let recipient = recipient.await.unwrap();
        let tenant = Namespace::new(&self.hub, "clusters").await.unwrap();
        let name = &tenant.name;
        let enrollment = format!(
            "
apiVersion: zen-mesh.io/v1alpha1
kind: ClusterEnrollment
metadata: {{name: {CLUSTER}, namespace: {name}}}
spec: {{recipient: {}}}
",
            recipient.trim()
        );
        self.hub.apply(&enrollment).await.unwrap();
        let bundle = self.hub.zen(&["enroll", CLUSTER, "--namespace", name], None).await.unwrap();
        let began = Instant::now();
        self.member.apply(&bundle).await.unwrap();
        phase(&self.hub, name, "Enrolled").await;
        println!("enrolled {:.1?} after the bundle was applied", began.elapsed());
        Mesh::of(&self.member).whole(Part::Egress, 2, &[], SOON).await.unwrap();
        println!("its egresses are ready after {:.1?}", began.elapsed());
        Mesh::of(&self.hub).whole(Part::Ingester, 3, &[], SOON).await.unwrap();
        tenant
    }

    /// A Webhook at the hub, and a Destination in both, whose target is in the member.
    async fn stage(&self, tenant: Namespace) -> Stage {
        let target = Upstream::http_at(self.member.host_ip().parse().unwrap()).await;
        let name = &tenant.name;
        self.member.kubectl(&["create", "namespace", name]).await.unwrap();
        self.member.apply(&(service(name, &target) + "---" + &destination(name))).await.unwrap();
        self.hub.apply(&(webhook(name) + &destination(name))).await.unwrap();
        programmed(&self.member, name, &["destination/ci"]).await;
        programmed(&self.hub, name, &["webhook/github", "destination/ci"]).await;
        let source = Source::new(&self.hub, &format!("/{name}/github"), SECRET).await.unwrap();
        let stage = Stage { namespace: tenant, source, target };
        let first = stage.source.deliver("first", SOON).await.unwrap();
        stage.all_of(&[first].into(), SOON).await;
        stage
    }
}

#[tokio::test]
async fn a_member_delivers_what_its_hub_took_in() {
    let pair = Pair::install().await;
    let mut stage = pair.stage(pair.enroll().await).await;
    let Pair { hub, member, control, relay } = &pair;
    let members = Mesh::of(member);

    let load = Load::of("relay", stage.source.clone());
    load.flows(200).await;
    stage.account("three ingesters, two egresses, one address", &load.stop().await, SOON).await;
    for pod in Mesh::of(hub).pods(Part::Ingester).await.unwrap() {
        let own = stage.source.at(pod.intake().unwrap());
        let id = own.deliver(&format!("of-{}", pod.name), SOON).await.unwrap();
        stage.all_of(&[id].into(), SOON).await;
    }

    let load = Load::of("killed", stage.source.clone());
    load.flows(50).await;
    let egress = members.pods(Part::Egress).await.unwrap().remove(0);
    let container = member.container(NAME, &egress.name, Part::Egress.name()).await.unwrap();
    member.kill_container(&container).await.unwrap();
    load.flows(100).await;
    stage.account("an egress killed", &load.stop().await, SOON).await;

    let load = Load::of("partition", stage.source.clone());
    load.flows(50).await;
    for way in [control, relay] {
        way.cut();
    }
    sleep(PARTITION).await;
    load.flows(50).await;
    for way in [control, relay] {
        way.heal();
    }
    let healed = Instant::now();
    load.flows(50).await;
    let tally = load.stop().await;
    assert!(tally.refused.is_empty(), "intake does not depend on members: {tally}");
    stage.account(&format!("cut off for {PARTITION:?}"), &tally, SOON).await;
    println!("everything is delivered {:.1?} after the partition healed", healed.elapsed());

    let of_member = format!("{}/{CLUSTER}", stage.namespace.name);
    for what in [
        &["issuer"][..],
        &["signing", "--overlap", "20s"],
        &["signing", "--cluster", &of_member, "--overlap", "20s"],
        &["root", "--overlap", "20s"],
    ] {
        let before = probed(hub).await;
        rotated(&pair, &mut stage, what).await;
        let events = probed(hub).await - before;
        println!("{events} events of probes went round");
        // A member's keys have no canary.
        assert_eq!(events > 0, !what.contains(&"--cluster"), "{what:?}");
    }
    revoked_and_enrolled_anew(&pair, &stage).await;
}

/// Events in the release namespace: by the mesh's own Webhook, which is there while something is exchanged.
async fn probed(hub: &Cluster) -> usize {
    let list = ["get", "webhookevents", "--namespace", NAME, "--output", "name"];
    hub.kubectl(&list).await.unwrap().lines().count()
}

/// Everything that is exchanged at the hub is exchanged under load (T-04): no request fails, and what was taken in arrives.
async fn rotated(pair: &Pair, stage: &mut Stage, what: &[&str]) {
    let label = what.join(" ");
    let (now, source) = watch::channel(stage.source.clone());
    let load = Load::start(&label.replace([' ', '/'], "-"), source);
    load.flows(50).await;
    let began = Instant::now();
    let arguments = [&["rotate"], what, &["--soak", "10", "--wait"]].concat();
    let rotating = pair.hub.zen(&arguments, None);
    // Sources that know the mesh's own root are given the one that comes while both count.
    let following = async {
        loop {
            sleep(Duration::from_secs(2)).await;
            if let Ok(source) = Source::new(&pair.hub, stage.source.path(), SECRET).await {
                now.send_replace(source);
            }
        }
    };
    let said = tokio::select! {
        said = rotating => said.unwrap_or_else(|error| panic!("{label}: {error}")),
        () = following => unreachable!("it has no end"),
    };
    println!("{label} rotated in {:.0?}: {}", began.elapsed(), said.lines().last().unwrap_or_default());
    load.flows(50).await;
    let tally = load.stop().await;
    assert!(tally.refused.is_empty(), "{label}: {tally}");
    stage.account(&format!("{label} rotated"), &tally, SOON).await;
    stage.source = Source::new(&pair.hub, stage.source.path(), SECRET).await.unwrap();
}

/// Its streams end, what comes waits, and nothing is lost: with another bundle it delivers what waited.
async fn revoked_and_enrolled_anew(pair: &Pair, stage: &Stage) {
    let Pair { hub, member, relay, .. } = pair;
    let name = &stage.namespace.name;
    let change = async |spec: &str| {
        let patch = ["patch", "ce", CLUSTER, "--namespace", name, "--type=merge", "--patch", spec];
        hub.kubectl(&patch).await.unwrap();
    };
    let mut open = relay.connections();
    // Whoever was cut off longest dials again last.
    let streams = timeout(SOON, open.wait_for(|open| *open == 2)).await.expect("one of each egress").map(|open| *open);
    let streams = streams.unwrap();
    let disabled = Instant::now();
    change(r#"{"spec":{"disabled":true}}"#).await;
    // Who is refused dials again: that the streams ended is seen, and not that nobody connects.
    timeout(REVOKED, open.wait_for(|open| *open < streams)).await.expect("its streams end").unwrap();
    println!("its first stream ended {:.1?} after it was disabled", disabled.elapsed());
    sleep(REVOKED.saturating_sub(disabled.elapsed())).await;
    let seen = stage.target.received().len();
    let mut waiting = BTreeSet::new();
    for number in 0..20 {
        waiting.insert(stage.source.deliver(&format!("disabled-{number}"), SOON).await.unwrap());
    }
    phase(hub, name, "Disabled").await;
    sleep(REVOKED).await;
    assert_eq!(stage.target.received().len(), seen, "nothing is leased to it");

    change(r#"{"spec":{"disabled":false,"bundle":"2"}}"#).await;
    let bundle = hub.zen(&["enroll", CLUSTER, "--namespace", name], None).await.unwrap();
    let anew = Instant::now();
    member.apply(&bundle).await.unwrap();
    stage.all_of(&waiting, SOON).await;
    println!("what waited is delivered {:.1?} after another bundle was applied", anew.elapsed());
    phase(hub, name, "Enrolled").await;
}
