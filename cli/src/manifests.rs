//! The manifests of a folder, read once: what commands beside the running mesh need of them.

use std::path::Path;
use std::sync::Arc;

use kube::{Api, Client};
use zen_compile::{Objects, Place, SecretData};
use zen_crds::Webhook;
use zen_live::Overrides;
use zen_live::folder::Folder;
use zen_lock::Keyring;
use zen_model::{ObjectKey, Secret};
use zen_verify::Config;

use crate::failure::{Context as _, Failure, Outcome};

/// The objects of a folder.
#[derive(Debug)]
pub struct Manifests {
    objects: Objects,
}

/// A Webhook as its source knows it.
#[derive(Clone, Debug)]
pub struct KnownWebhook {
    /// The provider's side of its verification.
    pub config: Config,
    /// The path it is served at.
    pub path: String,
    /// The first of its hosts; none: any host.
    pub host: Option<String>,
}

/// Reads the folder; `ZenLock`s are opened with these keys. Files that are wrong are left out: `zen check` and `zen up` report them.
pub fn read(dir: &Path, keyring: Keyring) -> Outcome<Manifests> {
    let reading = || -> Result<Folder, zen_live::Error> {
        let mut folder = Folder::open(dir)?.with_keyring(keyring);
        folder.refresh()?;
        Ok(folder)
    };
    let folder = reading().context("failed to read the manifests")?;
    let (objects, _) = folder.objects(&Overrides::new());
    Ok(Manifests { objects })
}

/// A Webhook of a cluster with the Secrets that it names, and the URL that its status tells.
pub async fn of_cluster(client: &Client, key: &ObjectKey) -> Outcome<(Manifests, Option<String>)> {
    let webhooks: Api<Webhook> = Api::namespaced(client.clone(), key.namespace.as_str());
    let found = webhooks.get_opt(key.name.as_str()).await.context("failed to read the Webhook")?;
    let webhook = found.ok_or_else(|| Failure::new(format!("there is no Webhook {key} in the cluster")))?;
    let url = webhook.status.as_ref().and_then(|status| status.url.clone());
    let mut objects = Objects::default();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(client.clone(), key.namespace.as_str());
    for source in &webhook.spec.verification.secrets {
        let Some(named) = &source.secret_ref else { continue };
        let secret =
            secrets.get_opt(&named.name).await.context(format_args!("failed to read Secret {}", &*named.name))?;
        let Some(secret) = secret else { continue };
        let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, Secret::new(value.0)));
        let data = SecretData::new(secret.type_.unwrap_or_default(), data.collect());
        objects.secrets.insert(ObjectKey::new(key.namespace.as_str(), &*named.name), Arc::new(data));
    }
    objects.webhooks.insert(key.clone(), Arc::new(webhook));
    Ok((Manifests { objects }, url))
}

impl Manifests {
    /// A Webhook with its secrets.
    pub fn webhook(&self, key: &ObjectKey) -> Outcome<KnownWebhook> {
        let Some(webhook) = self.objects.webhooks.get(key) else {
            let known: Vec<_> = self.objects.webhooks.keys().map(ObjectKey::to_string).collect();
            let failure = Failure::new(format!("there is no Webhook {key} in the folder"));
            return Err(match known.len() {
                0 => failure.hint("the folder has no Webhook that can be read: zen check DIR says why"),
                _ => failure.hint(format!("it has {}", known.join(", "))),
            });
        };
        let config = zen_compile::signing_config(&self.objects, key).map_err(|problems| {
            let problem = problems.into_iter().find(|problem| !problem.reason.is_warning());
            let why = problem.map_or_else(String::new, |problem| format!(": {}", problem.message));
            Failure::new(format!("Webhook {key} verifies nothing{why}")).hint("zen check DIR lists what is wrong")
        })?;
        let spec = &webhook.spec;
        let place = Place::new(key, spec.hosts.iter().map(|host| &**host), spec.path.as_deref());
        Ok(KnownWebhook { config, host: place.hosts.first().cloned(), path: place.path })
    }
}
