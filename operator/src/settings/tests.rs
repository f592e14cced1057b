use super::*;

/// As the chart renders its default values.
pub(crate) const DEFAULT: &str = "
api: {enabled: true}
audit:
  keepDays: 90
  keepMib: 8192
  log: info
  pod:
    affinity: {}
    annotations: {}
    labels: {}
    nodeSelector: {}
    priorityClassName: ''
    resources: {limits: {memory: 256Mi}, requests: {cpu: 20m, memory: 64Mi}}
    tolerations: []
  storage: {className: '', size: 10Gi}
  strict: false
egress:
  log: info
  pod: &pod
    affinity: {}
    annotations: {}
    labels: {}
    nodeSelector: {}
    priorityClassName: ''
    resources: {limits: {memory: 512Mi}, requests: {cpu: 100m, memory: 128Mi}}
    tolerations: []
  replicas: 2
images: {audit: 'zen-audit:0.1.0', egress: 'zen-egress:0.1.0', ingester: 'zen-ingester:0.1.0', pullPolicy: IfNotPresent, pullSecrets: [], zenlockWebhook: 'zenlock-webhook:0.1.0'}
ingester:
  log: info
  pod:
    affinity: {}
    annotations: {}
    labels: {}
    nodeSelector: {}
    priorityClassName: ''
    resources: {limits: {memory: 1Gi}, requests: {cpu: 100m, memory: 128Mi}}
    tolerations: []
  replicas: 2
  service: {annotations: {}, port: 443, type: ClusterIP}
  storage: {className: '', size: 10Gi}
intake: {names: [], tlsSecret: ''}
networkPolicies: {enabled: true, hubFrom: [], intakeFrom: [], apiServerPorts: [443, 6443]}
podDisruptionBudgets: {enabled: true}
rotation: {syntheticEvent: true}
spread: true
zenLock:
  custody: {secretName: '', volume: {}}
  log: info
  pod:
    affinity: {}
    annotations: {}
    labels: {}
    nodeSelector: {}
    priorityClassName: ''
    resources: {limits: {memory: 512Mi}, requests: {cpu: 50m, memory: 64Mi}}
    tolerations: []
  replicas: 2
  secretDelivery: false
";

pub(crate) const LEAST: &str = "
images: {ingester: i, egress: e}
ingester: {replicas: 1, storage: {size: 1Gi}}
egress: {replicas: 1}
";

#[test]
fn the_charts_file_and_the_shortest_one() {
    let full = Workloads::parse(DEFAULT).expect("valid");
    assert_eq!((full.ingester.replicas, full.egress.pod.resources["limits"]["memory"].as_str()), (2, Some("512Mi")));
    let least = Workloads::parse(LEAST).expect("valid");
    assert!(least.api.enabled && least.network_policies.enabled && least.spread);
    assert!(least.rotation.synthetic_event);
    assert_eq!((least.ingester.service.port, &*least.images.pull_policy), (443, "IfNotPresent"));
    assert_eq!(least.network_policies, full.network_policies);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (from, to, word) in [
        ("replicas: 1, storage", "replica: 1, storage", "replica"),
        ("replicas: 1, storage", "replicas: 0, storage", "ingester.replicas"),
        ("replicas: 1}", "replicas: 1000}", "egress.replicas"),
        ("size: 1Gi", "size: many", "storage.size"),
        ("egress: e}", "egress: ''}", "images.egress"),
        ("egress: e}", "egress: e, pullPolicy: Sometimes}", "pullPolicy"),
        ("{size: 1Gi}}", "{size: 1Gi}, service: {nodePort: 30443}}", "nodePort"),
        ("{size: 1Gi}}", "{size: 1Gi}, service: {type: Ingress}}", "Ingress"),
        ("replicas: 1}", "replicas: 1}\nzenLock: {replicas: 1}", "images.zenlockWebhook"),
        (
            "egress: e}",
            "egress: e, zenlockWebhook: z}\nzenLock: {replicas: 1, custody: {secretName: a, volume: {csi: {}}}}",
            "zenLock.custody",
        ),
        ("replicas: 1}", "replicas: 1}\naudit: {storage: {size: 1Gi}, keepMib: 512}", "images.audit"),
        ("egress: e}", "egress: e, audit: a}\naudit: {storage: {size: much}}", "audit.storage.size"),
        ("egress: e}", "egress: e, audit: a}\naudit: {storage: {size: 1Gi}}", "audit.keepMib"),
        (
            "egress: e}",
            "egress: e, audit: a}\naudit: {storage: {size: 1Gi}, keepMib: 1, keepDays: 0}",
            "audit.keepDays",
        ),
        ("images:", "member: {rootFingerprints: [abc]}\nimages:", "member.rootFingerprints"),
        ("images:", "member: {root: x}\nimages:", "root"),
        (
            "images:",
            "member: {}\nhub: {url: 'https://hub.example.com'}\nimages:",
            "a cluster is a hub, or a member of one",
        ),
        ("images:", "image:", "image"),
        ("images:", "networkPolicies: {apiServerPorts: []}\nimages:", "apiServerPorts"),
        ("images:", "networkPolicies: {apiServerPorts: [0]}\nimages:", "apiServerPorts"),
        ("replicas: 1}", "replicas: 1, pod: {hostNetwork: true}}", "hostNetwork"),
    ] {
        let text = LEAST.replace(from, to);
        assert_ne!(text, LEAST, "{from}");
        let error = Workloads::parse(&text).expect_err(&text).to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}
