//! What the planes of a member cluster have of their hub: who they are there, where they lease, and the cluster's keys. The
//! member's operator writes it as `member.json` into their Secret of keys, and changes it as the hub rotates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zen_model::{ClusterId, Secret};
use zen_seal::cluster::ClusterKey;
use zeroize::{Zeroize, Zeroizing};

/// A member's part of the mesh.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who it is at its hub.
    pub cluster: ClusterId,
    /// Where it leases, `host:port`. None: the hub takes no streams of members.
    pub relay: Option<String>,
    /// The cluster's keys of the signing branch, the newest first; never empty.
    pub keys: Vec<ClusterKey>,
}

/// The file cannot be used. Nothing of its content is said.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// It cannot be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what an operator writes.
    #[error("failed to read a member's keys: not in the form that the operator writes")]
    Malformed,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    cluster: ClusterId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    relay: Option<String>,
    keys: Vec<StoredKey>,
}

#[derive(Serialize, Deserialize)]
struct StoredKey {
    version: u32,
    /// 32 bytes, base64.
    secret: String,
}

impl Drop for StoredKey {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Member {
    /// The file of a folder of keys; none where the folder is a hub's.
    pub fn mounted(folder: &Path) -> Result<Option<Self>, MemberError> {
        let path = folder.join(super::MEMBER);
        match fs::read(&path) {
            Ok(bytes) => Self::from_json(&Zeroizing::new(bytes)).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(MemberError::Read { path, source }),
        }
    }

    /// What [`Member::to_json`] wrote.
    pub fn from_json(bytes: &[u8]) -> Result<Self, MemberError> {
        let stored: Stored = serde_json::from_slice(bytes).map_err(|_| MemberError::Malformed)?;
        let key = |stored_key: &StoredKey| {
            let secret = Secret::new(STANDARD.decode(stored_key.secret.as_bytes()).ok()?);
            ClusterKey::given(&secret, &stored.cluster, stored_key.version)
        };
        let keys: Option<Vec<_>> = stored.keys.iter().map(key).collect();
        let keys = keys.filter(|keys| keys.is_sorted_by(|newer, older| newer.version() > older.version()));
        let keys = keys.filter(|keys| !keys.is_empty()).ok_or(MemberError::Malformed)?;
        Ok(Self { cluster: stored.cluster, relay: stored.relay, keys })
    }

    /// As it is written.
    ///
    /// # Panics
    /// Never: strings and numbers are JSON.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let keys = self
            .keys
            .iter()
            .map(|key| StoredKey { version: key.version(), secret: STANDARD.encode(key.secret().expose()) });
        let stored = Stored { cluster: self.cluster.clone(), relay: self.relay.clone(), keys: keys.collect() };
        Zeroizing::new(serde_json::to_vec(&stored).expect("strings and numbers are JSON"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        let cluster: ClusterId = "team-a/prod-eu".parse().expect("a cluster");
        let key = |version| ClusterKey::given(&Secret::new([7; 32]), &cluster, version).expect("32 bytes");
        Member { keys: vec![key(2), key(1)], relay: Some("relay.example.com:443".to_owned()), cluster }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Member::mounted(folder.path()).expect("readable").is_none(), "a hub's");
        fs::write(folder.path().join(super::super::MEMBER), &*member().to_json()).expect("written");
        let read = Member::mounted(folder.path()).expect("readable").expect("there");
        assert_eq!((&read.cluster, &read.relay), (&member().cluster, &member().relay));
        let ids = |member: &Member| member.keys.iter().map(|key| key.id().to_owned()).collect::<Vec<_>>();
        assert_eq!(ids(&read), ids(&member()));
        assert!(read.keys[0].link() == member().keys[0].link());
    }

    #[test]
    fn what_is_not_of_that_form_is_refused_and_not_told() {
        let good = String::from_utf8(member().to_json().to_vec()).expect("text");
        let old = good.find(r#"{"version":2"#).expect("the newest");
        let reversed = good[..old].to_owned() + r#"{"version":0"# + &good[old + r#"{"version":2"#.len()..];
        for bad in [String::new(), "{}".to_owned(), good.replace("Bwc", "B"), good.replace("team-a/", ""), reversed] {
            let refused = Member::from_json(bad.as_bytes()).expect_err("not a member's").to_string();
            assert!(!refused.contains("Bw"), "{refused}");
        }
        let none = r#"{"cluster":"team-a/prod-eu","keys":[]}"#;
        assert!(Member::from_json(none.as_bytes()).is_err());
    }
}
