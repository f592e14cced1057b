//! Every metric by name, type and help.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use zen_queue::{Options, Queue};

use crate::common::{lease, new, open};

#[tokio::test]
async fn metrics_say_what_stands_where() {
    let folder = tempfile::tempdir().expect("folder");
    let queue = open(folder.path(), Options::default()).expect("opens");
    let mut registry = Registry::default();
    queue.register(registry.sub_registry_with_prefix("zen_queue"));
    for id in ["e1", "e2", "e2"] {
        queue.commit(new(id)).await.expect("commits");
    }
    lease(&queue, 1).await;
    let mut text = String::new();
    encode(&mut text, &registry).expect("encodes");
    for line in [
        "zen_queue_committed_total 2",
        "zen_queue_duplicates_total 1",
        "zen_queue_healthy 1",
        "zen_queue_claims 2",
        "zen_queue_waiting{namespace=\"team-a\",destination=\"ci\"} 2",
        "zen_queue_leased{namespace=\"team-a\",destination=\"ci\"} 1",
        "zen_queue_dead_letters{namespace=\"team-a\",destination=\"ci\"} 0",
        "# TYPE zen_queue_commit_duration_seconds histogram",
        "# TYPE zen_queue_batch_commands histogram",
        "# TYPE zen_queue_commit_failures counter",
        "# UNIT zen_queue_disk_bytes bytes",
        "# UNIT zen_queue_records_bytes bytes",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
    }
    assert!(text.lines().filter(|line| line.starts_with("# HELP")).all(|line| line.split(' ').count() > 3), "{text}");
    queue.close().await;
}
