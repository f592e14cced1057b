//! A hub and a member.

use std::sync::LazyLock;
use std::time::Duration;

use zen_enroll::secrets::{BRANCH, Secrets};
use zen_enroll::{Bundle, Opened, Redeem, Stamp};
use zen_lock::{Identity, Keyring};
use zen_model::{ClusterId, Timestamp};
use zen_pki::{Ca, Scope, TrustDomain, issuer_request};
use zen_seal::RootKey;

pub const TTL: Duration = Duration::from_mins(30);
pub const MADE: Timestamp = Timestamp::from_secs(1_700_000_000);

pub struct World {
    pub branch: RootKey,
    pub roots: String,
    pub member: Identity,
}

/// One for all tests: keys take longer than what is done with them.
pub static WORLD: LazyLock<World> = LazyLock::new(|| World {
    branch: RootKey::random().branch(BRANCH),
    roots: Ca::new_root(&domain(), Timestamp::now()).expect("a root").certificate_pem().to_owned(),
    member: Identity::generate(),
});

pub fn domain() -> TrustDomain {
    "zen-mesh.local".parse().expect("valid")
}

pub fn cluster(text: &str) -> ClusterId {
    text.parse().expect("a cluster")
}

pub fn stamp() -> Stamp {
    Stamp { uid: "6f1d2c3b-0001".to_owned(), bundle: "1".to_owned(), issued_at: MADE }
}

pub fn keys() -> Keyring {
    Keyring::new(vec![WORLD.member.clone()])
}

pub fn bundle_of(id: &str, stamp: &Stamp) -> Bundle {
    let (cluster, domain) = (cluster(id), domain());
    let secrets = Secrets::derive(&WORLD.branch, &cluster, stamp);
    let hub = (&domain, "https://hub.example.com:9443", WORLD.roots.as_str());
    Bundle::make(&cluster, stamp, TTL, hub, &secrets, &WORLD.member.recipient()).expect("a bundle")
}

pub fn bundle() -> Bundle {
    bundle_of("team-a/prod-eu", &stamp())
}

pub fn opened() -> Opened {
    bundle().open(&keys(), &[], MADE).expect("opens")
}

pub fn csr(id: &str) -> String {
    issuer_request(&domain(), &Scope::Cluster(cluster(id))).expect("a request").0
}

pub fn redeem() -> Redeem {
    Redeem::new(&opened(), csr("team-a/prod-eu"))
}
