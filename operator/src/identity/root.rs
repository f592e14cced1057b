//! The root that comes in place of the one in use (T-04): made beside it with an issuing CA of its own, promoted, or dropped. When,
//! the rotation says; what pods trust meanwhile, [`super::trusted`].
//!
//! Roots are immutable Secrets. The new one takes the place of the old by a delete and a create: between the two, whoever keeps
//! the CA makes no other, but takes what lies in `zen-mesh-ca-next` ([`super::keep`]).

use k8s_openapi::api::core::v1::Secret;
use kube::core::ApiResource;
use zen_pki::{Ca, TrustRoots, Validity};

use super::keep::secret;
use super::next::Error;
use super::source::{self, Source};
use super::{CA, CA_NEXT, ISSUER_NEXT, Service, trusted};
use crate::Writer;
use crate::object::is_ours;

/// The roots as they lie in the API server now: fingerprints and times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Roots {
    /// In use; none while there is none that can be read.
    pub(crate) in_use: Option<(String, Validity)>,
    /// Whether the one in use was made by us, and so may be deleted.
    pub(crate) is_ours: bool,
    /// The one that comes.
    pub(crate) coming: Option<(String, Validity)>,
    /// The issuing CA beneath the one that comes.
    pub(crate) issuer: Option<(String, Validity)>,
}

impl Service {
    /// Whether the root is ours to exchange; in words why not.
    pub(crate) fn rotates_root(&self) -> Result<(), String> {
        if let Source::Folder(folder) = &self.0.source {
            return Err(format!(
                "the root lies in a folder of yours ({}), and is exchanged there: docs/trust.md, exchanging the root",
                folder.display()
            ));
        }
        if self.0.rotates() {
            return Ok(());
        }
        Err("the pods' certificates are from cert-manager, whose CA is exchanged by whoever keeps it".to_owned())
    }

    /// What is there.
    pub(crate) async fn roots(&self) -> Result<Roots, Error> {
        if self.0.source != Source::Secret {
            return Ok(Roots::default());
        }
        let (in_use, coming) = (self.kept(CA).await?, self.kept(CA_NEXT).await?);
        let named = |ca: &Ca| (ca.fingerprint(), ca.validity());
        let is_ours = in_use.as_ref().is_some_and(|secret| is_ours(&secret.metadata));
        let in_use = in_use.and_then(|secret| self.root_of(&secret, CA).ok());
        let coming = coming.and_then(|secret| self.root_of(&secret, CA_NEXT).ok());
        let issuer = coming.as_ref().and_then(|root| self.issuer_beneath(root));
        Ok(Roots {
            in_use: in_use.as_ref().map(named),
            is_ours,
            coming: coming.as_ref().map(named),
            issuer: issuer.as_ref().map(named),
        })
    }

    /// The roots in the trust bundle in effect, by fingerprint.
    pub(crate) fn trusted(&self) -> Vec<String> {
        let bundle = self.bundle();
        bundle.as_deref().map(zen_pki::certificates).unwrap_or_default().into_iter().map(|(root, _)| root).collect()
    }

    /// Lifetime of the certificates that are issued.
    pub(crate) fn lifetime(&self) -> std::time::Duration {
        self.0.settings.borrow().lifetime
    }

    /// Makes the root that comes, and then an issuing CA beneath it; what is there stays.
    pub(crate) async fn make_next_root(&self, writer: &Writer) -> Result<(), Error> {
        let (inner, now) = (&self.0, self.now());
        let namespace = inner.mesh.namespace();
        let Some(there) = self.kept(CA_NEXT).await? else {
            let made = Ca::new_root(inner.mesh.trust_domain(), now)?;
            if writer.create(&secret(namespace, CA_NEXT, &made, made.key_pem().expose(), true)).await? {
                tracing::info!(secret = CA_NEXT, until = %made.validity().until, "made the next root CA");
                self.did(&format!("Secret/{namespace}/{CA_NEXT}"), "made the next root CA", "RotationProgressing");
            }
            return Ok(());
        };
        let root = self.root_of(&there, CA_NEXT).map_err(Error::Missing)?;
        self.make_issuer_beneath(writer, &root).await
    }

    async fn make_issuer_beneath(&self, writer: &Writer, root: &Ca) -> Result<(), Error> {
        let namespace = self.0.mesh.namespace();
        if self.issuer_beneath(root).is_some() {
            return Ok(());
        }
        if self.0.next.borrow().object.is_some() {
            // Of an exchange that is over.
            return self.drop_next(writer).await;
        }
        let made = root.issue_intermediate(self.now())?;
        let stored = self.0.source.stored(namespace, root, &made);
        if writer.create(&secret(namespace, ISSUER_NEXT, &made, &stored, false)).await? {
            tracing::info!(secret = ISSUER_NEXT, until = %made.validity().until, "made the next root's issuing CA");
            let object = format!("Secret/{namespace}/{ISSUER_NEXT}");
            self.did(&object, "made the next root's issuing CA", "RotationProgressing");
        }
        Ok(())
    }

    /// Puts it in the place of the one before, one thing at a time: its issuing CA, then itself. What is trusted follows.
    pub(crate) async fn promote_root(&self, writer: &Writer) -> Result<(), Error> {
        let Some(next) = self.kept(CA_NEXT).await? else {
            // Nothing is left but what is trusted.
            self.0.wake.notify_one();
            return Ok(());
        };
        let root = self.root_of(&next, CA_NEXT).map_err(Error::Missing)?;
        let namespace = self.0.mesh.namespace();
        let issuer = self.0.issuer.borrow().object.clone();
        let is_beneath =
            issuer.and_then(|issuer| self.read(&issuer).ok()).is_some_and(|ca| self.is_beneath(&ca, &root));
        if !is_beneath {
            self.make_issuer_beneath(writer, &root).await?;
            return if self.issuer_beneath(&root).is_some() { self.promote_next(writer).await } else { Ok(()) };
        }
        let there = self.kept(CA).await?;
        let is_promoted = there.as_ref().is_some_and(|there| {
            self.root_of(there, CA).is_ok_and(|in_use| in_use.fingerprint() == root.fingerprint())
        });
        if !is_promoted {
            if let Some(there) = &there {
                writer.delete(&ApiResource::erase::<Secret>(&()), there).await?;
            }
            if writer.create(&secret(namespace, CA, &root, root.key_pem().expose(), true)).await? {
                tracing::info!(secret = CA, until = %root.validity().until, "the next root CA is in use");
                let object = format!("Secret/{namespace}/{CA}");
                self.did(&object, "put the next root CA in the place of the one before", "RotationProgressing");
            }
        }
        // The old goes from the trust bundle.
        self.0.wake.notify_one();
        Ok(())
    }

    /// Deletes both; whether there was something. A root that is the only one stays.
    pub(crate) async fn drop_next_root(&self, writer: &Writer) -> Result<bool, Error> {
        if self.0.source != Source::Secret {
            return Ok(false);
        }
        let Some(next) = self.kept(CA_NEXT).await? else { return Ok(false) };
        if self.kept(CA).await?.is_none() {
            return Ok(false);
        }
        self.drop_next(writer).await?;
        writer.delete(&ApiResource::erase::<Secret>(&()), &next).await?;
        Ok(true)
    }

    /// Fingerprint of the root that comes, while it is trusted beside the one in use.
    pub(crate) fn beside(&self) -> Option<String> {
        trusted::beside(&self.0.rotation_now()).map(str::to_owned)
    }

    /// A Secret with a root, asked for anew.
    async fn kept(&self, name: &str) -> Result<Option<Secret>, Error> {
        Ok(source::kept(&self.0.client, self.0.mesh.namespace(), name).await?)
    }

    fn root_of(&self, secret: &Secret, name: &str) -> Result<Ca, String> {
        let mesh = &self.0.mesh;
        source::read(secret, name, mesh.namespace(), mesh.trust_domain(), self.now())
    }

    /// The next issuing CA, where it is beneath this root.
    fn issuer_beneath(&self, root: &Ca) -> Option<Ca> {
        let secret = self.0.next.borrow().object.clone()?;
        self.read(&secret).ok().filter(|ca| self.is_beneath(ca, root))
    }

    fn is_beneath(&self, ca: &Ca, root: &Ca) -> bool {
        let roots: Result<TrustRoots, _> = root.roots();
        roots.is_ok_and(|roots| ca.verify(&roots, self.now()).is_ok())
    }
}
