//! The ground that the other tests stand on: the cluster does what they take for granted.

use std::time::Duration;

use zen_e2e_node::{Cluster, Component, Namespace, PAUSE, Target, until};
use zen_testkit::Upstream;

const SOON: Duration = Duration::from_mins(1);

/// A pod with a shell, not root, on a volume of the default class.
fn shell(namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: {namespace}}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 10Gi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: shell, namespace: {namespace}}}
spec:
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: shell
    image: {PAUSE}
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"
    )
}

/// Starts the pod and waits until it runs.
async fn start_shell(cluster: &Cluster, namespace: &Namespace) {
    cluster.apply(&shell(&namespace.name)).await.unwrap();
    let wait = ["wait", "--for=condition=Ready", "pod/shell", "--namespace", &namespace.name, "--timeout=60s"];
    cluster.kubectl(&wait).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_is_not_root_writes_to_a_volume_of_the_default_class_and_the_volume_is_used_again() {
    let cluster = Cluster::open().await.unwrap();
    let volumes = async |phase: &str| {
        let template = "jsonpath={range .items[*]}{.status.phase}{\"\\n\"}{end}";
        let phases = cluster.kubectl(&["get", "persistentvolumes", "--output", template]).await.unwrap();
        phases.lines().filter(|found| *found == phase).count()
    };
    let namespace = Namespace::new(&cluster, "volume").await.unwrap();
    start_shell(&cluster, &namespace).await;
    let bound = volumes("Bound").await;
    let write = "echo kept >/data/file && /busybox stat -c '%a %g' /data && /busybox id -u";
    let written = cluster.exec(&namespace.name, "shell", &["/busybox", "sh", "-c", write]).await.unwrap();
    assert_eq!(written, "2770 65532\n65532\n");

    // A StatefulSet's pod finds what the one before it has written.
    cluster.kubectl(&["delete", "pod", "shell", "--namespace", &namespace.name]).await.unwrap();
    start_shell(&cluster, &namespace).await;
    let read = cluster.exec(&namespace.name, "shell", &["/busybox", "cat", "/data/file"]).await.unwrap();
    assert_eq!(read, "kept\n");

    drop(namespace);
    until("the volume is free again", SOON, async || Ok((volumes("Bound").await < bound).then_some(()))).await.unwrap();
    until("no volume stays released", SOON, async || Ok((volumes("Released").await == 0).then_some(()))).await.unwrap();
}

#[tokio::test]
async fn names_resolve_in_a_pod_and_a_pod_reaches_the_test() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "dns").await.unwrap();
    start_shell(&cluster, &namespace).await;
    let pod = async |command: &[&str]| cluster.exec(&namespace.name, "shell", command).await;
    let answer = pod(&["/busybox", "nslookup", "kubernetes.default.svc.cluster.local"]).await.unwrap();
    assert!(answer.contains("Address: 10.96."), "{answer}");
    let answer = pod(&["/busybox", "nslookup", "host.test"]).await.unwrap();
    assert!(answer.contains(cluster.host_ip()), "{answer}");
    let refused = pod(&["/busybox", "nslookup", "example.com"]).await.unwrap_err().to_string();
    assert!(!refused.contains("timed out"), "a foreign name is refused at once: {refused}");

    let upstream = Upstream::http_at(cluster.host_ip().parse().unwrap()).await;
    let url = upstream.url("/from-a-pod");
    pod(&["/busybox", "wget", "-q", "-O", "-", &url]).await.unwrap();
    assert_eq!(upstream.received()[0].target, "/from-a-pod");
}

#[tokio::test]
async fn a_target_in_a_pod_shows_what_it_was_sent() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "target").await.unwrap();
    start_shell(&cluster, &namespace).await;
    let target = Target::start(&cluster, &namespace.name, "ci", &["--status", "202"]).await.unwrap();
    let url = format!("http://{}/hooks?x=1", target.address().await.unwrap());
    until("the Service answers", SOON, async || {
        let post = ["/busybox", "wget", "-q", "-O", "-", "--post-data", "{\"a\":1}", &url];
        cluster.exec(&namespace.name, "shell", &post).await.map(Some)
    })
    .await
    .unwrap();
    let received = target.wait_for(1, SOON).await.unwrap();
    let first = received.first().unwrap();
    assert_eq!((first.method.as_str(), first.path.as_str(), first.status), ("POST", "/hooks?x=1", 202));
    assert_eq!(first.body.as_deref(), Some("{\"a\":1}"));
}

#[tokio::test]
async fn a_component_that_is_killed_comes_back_and_pods_live_on() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "kill").await.unwrap();
    start_shell(&cluster, &namespace).await;
    let started = async || {
        let template = "jsonpath={.status.containerStatuses[0].state.running.startedAt} {.metadata.uid}";
        let pod = ["get", "pod", "shell", "--namespace", &namespace.name, "--output", template];
        cluster.kubectl(&pod).await
    };
    let before = started().await.unwrap();
    for component in Component::ALL {
        let pid = cluster.pid(component).unwrap();
        cluster.kill(component).await.unwrap();
        until("it runs again", SOON, async || Ok((cluster.pid(component)? != pid).then_some(()))).await.unwrap();
        cluster.ready(SOON).await.unwrap();
    }
    // The runtime knows the container that ran while it did not.
    until("the pod can be entered", SOON, async || {
        cluster.exec(&namespace.name, "shell", &["/busybox", "true"]).await.map(Some)
    })
    .await
    .unwrap();
    assert_eq!(started().await.unwrap(), before);
    // New pods start, too.
    Target::start(&cluster, &namespace.name, "after", &[]).await.unwrap();
}

#[tokio::test]
async fn a_container_that_is_killed_is_started_again_in_its_pod() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "container").await.unwrap();
    start_shell(&cluster, &namespace).await;
    for kills in ["1", "2"] {
        let container = cluster.container(&namespace.name, "shell", "shell").await.unwrap();
        cluster.kill_container(&container).await.unwrap();
        until("it runs again", SOON, async || {
            let template = "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
            let pod = ["get", "pod", "shell", "--namespace", &namespace.name, "--output", template];
            Ok((cluster.kubectl(&pod).await? == format!("{kills} true")).then_some(()))
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_component_that_is_held_stays_down() {
    let cluster = Cluster::open().await.unwrap();
    let held = cluster.hold(Component::ApiServer).await.unwrap();
    let down = cluster.kubectl(&["get", "--raw", "/readyz"]).await;
    drop(held);
    assert!(down.is_err());
    cluster.ready(SOON).await.unwrap();
}

#[tokio::test]
async fn the_audit_log_names_who_asked_for_what() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "audit").await.unwrap();
    let list = [
        "get",
        "roles.rbac.authorization.k8s.io",
        "--namespace",
        &namespace.name,
        "--as",
        "system:serviceaccount:x:nobody",
    ];
    cluster.kubectl(&list).await.unwrap_err();
    let entries = cluster.audit().unwrap();
    let ours = |verb: &str| entries.iter().find(|entry| entry.namespace == namespace.name && entry.verb == verb);
    let refused = ours("list").unwrap();
    assert_eq!((refused.decision.as_str(), refused.status), ("forbid", 403));
    assert_eq!((refused.group.as_str(), refused.resource.as_str()), ("rbac.authorization.k8s.io", "roles"));
    let made = |entry: &zen_e2e_node::audit::Entry| entry.verb == "create" && entry.resource == "namespaces";
    assert!(entries.iter().any(|entry| made(entry) && entry.user == "admin" && entry.status == 201));
}
