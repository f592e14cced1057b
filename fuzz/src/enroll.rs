use std::sync::LazyLock;

use zen_enroll::secrets::BRANCH;
use zen_enroll::{Bundle, Received, authenticate};
use zen_lock::{Identity, Keyring};
use zen_model::{Secret, Timestamp};
use zen_seal::RootKey;

/// A published key of the tests; the corpus's bundle is sealed to it.
const KEY: &str = "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33";
/// When that bundle was made.
const MADE: Timestamp = Timestamp::from_secs(1_700_000_000);

static KEYS: LazyLock<Keyring> = LazyLock::new(|| Keyring::new(Identity::parse_file(KEY).expect("a key")));
static BRANCH_KEY: LazyLock<RootKey> =
    LazyLock::new(|| RootKey::of(&Secret::new([7; 32])).expect("32 bytes").branch(BRANCH));

/// Two texts with a zero byte between: the two parts of a bundle, and header and body of a request that redeems one.
///
/// What opens is what everybody could read of it; what authenticates is of the cluster that was asked for.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn enroll(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (first, second) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(first) = std::str::from_utf8(first) else { return };
    if let Ok(second) = std::str::from_utf8(second)
        && let Ok(bundle) = Bundle::from_data(first, second)
    {
        assert!(bundle.manifest("zen-mesh").lines().count() > 9, "a manifest lost its lines");
        if let Ok(opened) = bundle.open(&KEYS, &[], MADE) {
            assert_eq!((&opened.clear, opened.stamp), (bundle.clear(), bundle.clear().stamp()));
        }
    }
    let domain = "zen-mesh.local".parse().expect("a trust domain");
    let cluster = "team-a/prod-eu".parse().expect("a cluster");
    let received = Received { cluster: &cluster, proof: first, body: second };
    if let Ok(authentic) = authenticate(&BRANCH_KEY, &domain, &received, MADE) {
        assert_eq!(authentic.cluster, cluster, "a request of another cluster passed");
    }
}
