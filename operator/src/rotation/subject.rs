//! What differs between the things that are exchanged: how each is made, who trusts and uses it, and how it is probed. The rest is
//! the same for all, and [`Desk`](super::desk::Desk)'s.

mod intake;
mod issuer;
pub(super) mod member;
mod root;
pub(super) mod signing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use zen_model::Timestamp;
use zen_pki::{Identity, Presented};
use zen_rotation::record::{Active, State};
use zen_rotation::{Member, Newcomers, Subject, Work};

use super::Parts;
use super::desk::Error;
use super::field::{Field, Pod};
use super::probe::Round;
use super::told::Told;

/// Where it takes place: everything that a subject has to do with.
pub(super) struct Scene<'a, F> {
    pub(super) parts: &'a Parts<F>,
    /// What each pod presented last, by UID.
    pub(super) met: &'a HashMap<Arc<str>, Presented>,
    /// Who has shown that it trusts the new, by UID.
    pub(super) took: &'a HashSet<Arc<str>>,
    pub(super) pods: &'a [Pod],
    /// The operator, as it is now.
    pub(super) identity: &'a Identity,
    /// What is stored.
    pub(super) state: Option<&'a State>,
    /// What each pod said last of its signing keys, by UID.
    pub(super) told: &'a HashMap<Arc<str>, Told>,
    /// Signatures that it did not take when the phase began.
    pub(super) wrong: &'a HashMap<Arc<str>, u64>,
}

/// How a subject stands.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Whether the new was made and verifies by itself.
    pub(super) is_made: bool,
    /// What the new is called; it is stored once that is made.
    pub(super) new: Option<String>,
    pub(super) newcomers: Newcomers,
    /// By name.
    pub(super) members: BTreeMap<String, Member>,
    /// Until when something that was made with the old can be met.
    pub(super) old_until: Option<Timestamp>,
    /// Who has shown that it trusts the new, by UID.
    pub(super) took: HashSet<Arc<str>>,
    /// Why nothing is left to go on with, in words: it is taken back.
    pub(super) lost: Option<String>,
}

impl<F: Field> Scene<'_, F> {
    /// What is to be exchanged, by its name; in words why it cannot be.
    pub(super) async fn old(&self, subject: &Subject) -> Result<String, String> {
        match subject {
            Subject::Root => root::old(self).await,
            Subject::IssuingCa(None) => issuer::old(self),
            Subject::SigningKeys(None) => signing::old(self),
            Subject::SigningKeys(Some(cluster)) => member::old(self.parts, cluster).await,
            Subject::IntakeTls => intake::old(self),
            Subject::IssuingCa(Some(_)) => Err("this release does not do that".to_owned()),
        }
    }

    /// What is to be exchanged because of its age, the most urgent first, each with its name.
    pub(super) async fn due(&self) -> Vec<(Subject, String)> {
        let issuer = issuer::due(self).map(|old| (Subject::IssuingCa(None), old));
        // An issuing CA comes with a root.
        let root = root::due(self).await.map(|old| (Subject::Root, old));
        root.into_iter().chain(issuer).collect()
    }

    /// How it stands.
    pub(super) async fn look(&self, active: &Active) -> Result<Look, Error> {
        match active.rotation.subject {
            Subject::Root => root::look(self, active).await,
            Subject::IssuingCa(None) => Ok(issuer::look(self, active)),
            Subject::SigningKeys(None) => signing::look(self, active).await,
            Subject::IntakeTls => Ok(intake::look(self, active).await),
            // Of another release: it is taken back.
            Subject::IssuingCa(Some(_)) | Subject::SigningKeys(Some(_)) => Ok(Look::default()),
        }
    }

    /// Does this. Again does no harm.
    pub(super) async fn work(&self, active: &Active, work: &Work) -> Result<(), Error> {
        match active.rotation.subject {
            Subject::Root => root::work(self, work).await,
            Subject::IssuingCa(None) => issuer::work(self, work).await,
            // What is stored says it, and the planes are told by the identity service and their Secrets; members are not rotated in
            // steps.
            Subject::IssuingCa(Some(_)) | Subject::IntakeTls | Subject::SigningKeys(_) => Ok(()),
        }
    }

    /// A round of probes.
    pub(super) async fn probe(&self, active: &Active) -> Round {
        match active.rotation.subject {
            Subject::Root => root::probe(self, active).await,
            Subject::IssuingCa(None) => issuer::probe(self, active).await,
            Subject::SigningKeys(None) => signing::probe(self, active).await,
            Subject::IntakeTls => intake::probe(self, active).await,
            Subject::IssuingCa(Some(_)) | Subject::SigningKeys(Some(_)) => {
                Round::Open("this release does not do that".to_owned())
            }
        }
    }

    /// While nothing goes on: puts away what a rotation that is over has left. Whether there was something.
    pub(super) async fn clean(&self) -> Result<bool, Error> {
        Ok(root::clean(self).await? | issuer::clean(self).await?)
    }
}
