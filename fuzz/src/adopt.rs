use std::sync::OnceLock;

use tokio::runtime::Runtime;
use zen_queue::{Embedded, Options, Queue};
use zen_seal::Keyring;

/// Arbitrary bytes as a page that another replica hands over, first as the request's body and then as the page in it:
/// what is not refused can be encoded again and is adopted, twice with the effect of once.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn adopt(data: &[u8]) {
    let _ = zen_ingester::handover::read(data);
    let Ok(batch) = zen_queue::handover::Batch::parse(data.to_vec().into()) else { return };
    assert_eq!(zen_queue::handover::Batch::parse(batch.encode()).as_ref(), Ok(&batch));
    let (runtime, queue) = queue();
    runtime.block_on(async {
        let deliveries = batch.deliveries.len() as u64;
        let first = queue.adopt(batch.clone()).await;
        let first = first.expect("what makes sense is adopted");
        assert_eq!(first.deliveries + first.known, deliveries);
        let again = queue.adopt(batch).await.expect("again");
        assert_eq!((again.deliveries, again.known, again.claims), (0, deliveries, 0));
    });
}

/// One queue for the life of the process: what came before must not matter.
fn queue() -> &'static (Runtime, std::sync::Arc<Embedded>) {
    static QUEUE: OnceLock<(Runtime, std::sync::Arc<Embedded>)> = OnceLock::new();
    QUEUE.get_or_init(|| {
        let runtime = Runtime::new().expect("a runtime");
        let folder = tempfile::tempdir().expect("a folder").keep();
        let queue = runtime.block_on(async {
            let options = Options { unique_ids: true, ..Options::default() };
            Embedded::open(&folder, Keyring::ephemeral(), options).expect("opens")
        });
        (runtime, queue)
    })
}
