//! Values that the schema takes and nobody should run: rendering fails and says what to do (K-05).

use zen_charts::Helm;

/// Values and the message that they meet.
pub struct Row {
    /// Values as `--set-json` takes them.
    pub set: &'static [&'static str],
    /// Part of the message.
    message: &'static str,
    /// Whether `profile: dev` takes them.
    dev: bool,
}

const fn row(set: &'static [&'static str], message: &'static str) -> Row {
    Row { set, message, dev: false }
}

const fn relaxed(set: &'static [&'static str], message: &'static str) -> Row {
    Row { set, message, dev: true }
}

/// The table.
pub const TABLE: &[Row] = &[
    row(
        &[r#"ingester.storage.type="memory""#],
        "ingester.storage.type is memory: an event that was acknowledged would be lost",
    ),
    row(&["hub.enabled=true"], "hub.enabled is true and hub.url is empty: name where members reach"),
    row(
        &[
            "hub.enabled=true",
            r#"hub.url="https://hub""#,
            r#"hub.service.type="ClusterIP""#,
            "hub.service.nodePort=30845",
        ],
        "hub.service.nodePort is set and hub.service.type is ClusterIP",
    ),
    row(
        &[
            "hub.enabled=true",
            r#"hub.url="https://hub""#,
            r#"hub.relayService.type="ClusterIP""#,
            "hub.relayService.nodePort=30946",
        ],
        "hub.relayService.nodePort is set and hub.relayService.type is ClusterIP",
    ),
    row(&["link.tls=false"], "link.tls is false: there is no plaintext link"),
    relaxed(
        &["ingester.replicas=1", "podDisruptionBudgets.enabled=false"],
        "ingester.replicas is 1 and podDisruptionBudgets.enabled is false: draining one node would take ingester away",
    ),
    relaxed(
        &["egress.replicas=1", "podDisruptionBudgets.enabled=false"],
        "egress.replicas is 1 and podDisruptionBudgets.enabled is false",
    ),
    relaxed(
        &["operator.replicas=1", "podDisruptionBudgets.enabled=false"],
        "operator.replicas is 1 and podDisruptionBudgets.enabled is false",
    ),
    relaxed(
        &["zenLock.replicas=1", "podDisruptionBudgets.enabled=false"],
        "zenLock.replicas is 1 and podDisruptionBudgets.enabled is false",
    ),
    relaxed(&[r#"image.tag="latest""#], "image.tag is latest and image.digests.egress is empty"),
    row(
        &["member.enabled=true", "hub.enabled=true", r#"hub.url="https://hub.example.com""#],
        "member.enabled and hub.enabled are both true",
    ),
    row(
        &["member.enabled=true", r#"certificates.ca.secretName="root""#],
        "member.enabled is true and certificates.ca names a root",
    ),
    row(&[r#"mesh.trustDomain="""#], r#"mesh.trustDomain is "": a DNS name in lower case"#),
    row(&[r#"mesh.trustDomain="Prod""#], r#"mesh.trustDomain is "Prod": a DNS name in lower case"#),
    row(&[r#"mesh.certificates.issuer="cert-manager""#], "mesh.certificates.certManager.name is empty"),
    row(
        &[r#"mesh.certificates.issuer="cert-manager""#, r#"mesh.certificates.certManager.name="mesh""#],
        "mesh.certificates.certManager.ca holds no certificate",
    ),
    row(
        &[r#"certificates.ca.secretName="a""#, r#"certificates.ca.volume={"emptyDir":{}}"#],
        "certificates.ca has both secretName and volume",
    ),
    row(
        &[r#"zenLock.custody.secretName="a""#, r#"zenLock.custody.volume={"emptyDir":{}}"#],
        "zenLock.custody has both secretName and volume",
    ),
    row(&[r#"certificates.ca.path="/run/zen-mesh/""#], "certificates.ca.path /run/zen-mesh/ is used otherwise"),
    row(
        &["ingester.service.nodePort=30443"],
        "ingester.service.nodePort is set and ingester.service.type is ClusterIP",
    ),
    row(&[r#"intake.exposure.type="ingress""#], "intake.exposure.type is ingress and intake.exposure.hosts is empty"),
    row(
        &[r#"intake.exposure.type="gateway""#, r#"intake.exposure.hosts=["a.example.com"]"#],
        "intake.exposure.gateway.parentRefs is empty: name the Gateway",
    ),
    row(
        &[
            r#"intake.exposure.type="gateway""#,
            r#"intake.exposure.hosts=["a.example.com"]"#,
            r#"intake.exposure.gateway.parentRefs=[{"name":"public"}]"#,
            r#"intake.tlsSecret="intake-tls""#,
        ],
        "intake.tlsSecret is set and intake.exposure.gateway.backendTLS is not",
    ),
    // These the schema refuses first; the templates do for whoever skips it.
    row(&["ingester.replicas=0", "profile=\"dev\""], "ingester.replicas is 0: at least 1"),
    row(&["operator.replicas=0"], "operator.replicas is 0: at least 1"),
    row(&["egress.replicas=0"], "egress.replicas is 0: at least 1"),
    row(&["zenLock.replicas=0"], "zenLock.replicas is 0: at least 1"),
    row(&["profile=\"staging\""], r#"profile "staging" is unknown: production, or dev"#),
];

fn arguments<'a>(set: &[&'a str]) -> Vec<&'a str> {
    set.iter().flat_map(|value| ["--set-json", value]).collect()
}

#[test]
fn each_is_refused_with_its_message() {
    let helm = Helm::find().expect("helm");
    for row in TABLE {
        let arguments = arguments(row.set);
        let message =
            helm.render(&[&arguments[..], &["--skip-schema-validation"]].concat()).expect_err("refused").to_string();
        assert!(message.contains(row.message), "{:?}: {message}", row.set);
        assert!(message.contains("These values cannot be used:"), "{message}");
        let dev = helm.render(&[&arguments[..], &["--skip-schema-validation", "--set", "profile=dev"]].concat());
        // The unknown profile is one no longer then.
        if row.message.starts_with("profile ") || row.dev {
            dev.unwrap_or_else(|error| panic!("{:?} in profile dev: {error}", row.set));
        } else {
            assert!(dev.is_err(), "{:?} in profile dev", row.set);
        }
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let helm = Helm::find().expect("helm");
    let message =
        helm.render(&["--set", "link.tls=false,ingester.storage.type=memory"]).expect_err("refused").to_string();
    assert!(message.contains("link.tls") && message.contains("ingester.storage.type"), "{message}");
}

/// One replica with its budget is a choice: an eviction then waits for somebody, and NOTES says what one replica means.
#[test]
fn one_replica_with_a_budget_is_taken() {
    let helm = Helm::find().expect("helm");
    helm.render(&["--set", "ingester.replicas=1"]).expect("renders");
}
