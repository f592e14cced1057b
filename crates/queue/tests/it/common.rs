//! What the tests share.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zen_model::{Event, ObjectKey, Settlement, Timestamp};
use zen_queue::{Claim, Demand, Embedded, Leased, NewEvent, Options, Queue, Settled};
use zen_seal::Keyring;

pub fn ci() -> ObjectKey {
    ObjectKey::new("team-a", "ci")
}

/// An event of about 1 KiB whose claim follows from its id.
pub fn new(id: &str) -> NewEvent {
    sized(id, 1000)
}

/// The same with a body of this size.
pub fn sized(id: &str, bytes: usize) -> NewEvent {
    let event = Event {
        id: id.to_owned(),
        namespace: "team-a".to_owned(),
        webhook: "github".to_owned(),
        r#type: "push".to_owned(),
        time: Timestamp::now().0,
        body: Bytes::from(vec![b'x'; bytes]),
        ..Event::default()
    };
    // The index of claims goes by the first half: as in a real hash, it differs.
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, id).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    let hash = (half(0) << 64 | half(1)).to_be_bytes();
    let claim = Some(Claim { hash, window: Duration::from_hours(24) });
    NewEvent { event, destinations: vec![ci()], claim }
}

/// Opens a folder whose keys lie in it.
pub fn open(folder: &Path, options: Options) -> Result<Arc<Embedded>, zen_queue::Error> {
    let keyring = Keyring::load_or_create(&folder.join("mesh.key")).expect("keys");
    Embedded::open(&folder.join("queue"), keyring, options)
}

pub async fn lease(queue: &Embedded, max: usize) -> Vec<Leased> {
    let demand = Demand { destination: ci(), max, max_bytes: usize::MAX, term: Duration::from_hours(1) };
    queue.lease(demand).await.expect("leases")
}

pub async fn ack(queue: &Embedded, leased: &[Leased]) -> Result<(), zen_queue::Error> {
    let ack = |leased: &Leased| Settled { token: leased.token, settlement: Settlement::Ack, attempt: None };
    queue.settle(leased.iter().map(ack).collect()).await
}
