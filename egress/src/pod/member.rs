//! What this cluster is at its hub: read from the mounted keys, and again as the member's operator changes them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zen_model::ObjectKey;
use zen_pod::keys::{Member, MemberError};
use zen_verify::zen_signature::Keys;

use crate::relay::Following;
use crate::{Egress, TargetKeys};

/// How often the file is looked at. The kubelet takes longer to bring a change.
const LOOK: Duration = Duration::from_secs(2);

/// Follows the file. The future ends when this cluster has become another one: what was compiled is not for it.
pub(super) fn follow(folder: PathBuf, first: Member) -> (Following, impl Future<Output = ()> + Send) {
    let (sender, receiver) = watch::channel(Arc::new(first));
    (receiver, run(folder, sender))
}

/// The link keys of the versions that are known now.
pub(super) fn link(member: &Member) -> Result<Keys, MemberError> {
    let keys = member.keys.iter().map(|key| (key.id().to_owned(), key.link())).collect();
    Keys::new(keys).map_err(|_| MemberError::Malformed)
}

/// Keys towards targets, of every version that counts when they are asked for (W-12): a target with either takes what it gets.
pub(super) fn targets(following: Following) -> TargetKeys {
    Arc::new(move |destination: &ObjectKey| {
        let member = Arc::clone(&following.borrow());
        let keys = member.keys.iter().map(|key| (key.id().to_owned(), key.destination(destination)));
        let ring = Keys::signing_with_each(keys.collect());
        Arc::new(ring.expect("a member has a key, and its derived keys are a ring"))
    })
}

/// Has targets see other versions when they count.
pub(super) async fn rekey(egress: Arc<Egress>, mut following: Following) {
    let ids = |following: &mut Following| {
        following.borrow_and_update().keys.iter().map(|key| key.id().to_owned()).collect::<Vec<_>>()
    };
    let mut known = ids(&mut following);
    while following.changed().await.is_ok() {
        let now = ids(&mut following);
        if now != known {
            egress.rekey();
            known = now;
        }
    }
}

async fn run(folder: PathBuf, sender: watch::Sender<Arc<Member>>) {
    let mut said = false;
    loop {
        tokio::time::sleep(LOOK).await;
        let read = match Member::mounted(&folder) {
            Ok(Some(member)) => member,
            // While the file is exchanged, or the operator has taken it back: what was known stays, and the hub decides
            // what it is worth.
            Ok(None) => continue,
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(%error, "the cluster's keys stay as they were");
                }
                continue;
            }
        };
        said = false;
        if read.cluster != sender.borrow().cluster {
            tracing::warn!(cluster = %read.cluster, "this cluster is another one at its hub; the process begins anew");
            return;
        }
        sender.send_if_modified(|known| {
            let changed = *known.to_json() != *read.to_json();
            if changed {
                *known = Arc::new(read);
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use zen_model::Secret;
    use zen_pod::keys::MEMBER;
    use zen_seal::cluster::ClusterKey;

    use super::*;

    fn member(cluster: &str, version: u32) -> Member {
        let cluster = cluster.parse().expect("a cluster");
        let key = ClusterKey::given(&Secret::new([7; 32]), &cluster, version).expect("32 bytes");
        Member { keys: vec![key], relay: Some("hub:1".to_owned()), cluster }
    }

    /// D-09: while a member's keys are exchanged, its targets take what they get with either key.
    #[test]
    fn a_target_with_either_key_takes_what_it_gets() {
        use zen_model::Timestamp;
        let target = ObjectKey::new("a", "ci");
        let both =
            Member { keys: [2, 1].map(|version| member("a/eu", version).keys.remove(0)).into(), ..member("a/eu", 2) };
        let (_, following) = watch::channel(Arc::new(both));
        let now = Timestamp::now();
        let signed = targets(following)(&target).sign("e", &[7; 32], now);
        for version in [1, 2] {
            let key = member("a/eu", version).keys.remove(0);
            let ring = Keys::new(vec![(key.id().to_owned(), key.destination(&target))]).expect("a ring");
            let verified = ring.verify(&signed, "e", &[7; 32], now, Duration::from_mins(5));
            assert_eq!(verified, Ok(()), "version {version}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_followed_and_another_cluster_is_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |content: &[u8]| std::fs::write(folder.path().join(MEMBER), content).expect("written");
        let (mut following, run) = follow(folder.path().to_owned(), member("a/eu", 1));
        let running = tokio::spawn(run);
        write(b"half");
        tokio::time::sleep(2 * LOOK).await;
        assert!(!following.has_changed().expect("followed"), "what cannot be read changes nothing");
        write(&member("a/eu", 2).to_json());
        following.changed().await.expect("followed");
        assert_eq!(following.borrow_and_update().keys[0].version(), 2);
        write(&member("a/us", 2).to_json());
        running.await.expect("it ends");
        assert_eq!(following.borrow().cluster.to_string(), "a/eu");
    }
}
