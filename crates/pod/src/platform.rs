//! What a pod finds around it: the API server and the operator's identity service. Tests put others in their place.

use std::sync::Arc;

use kube::Config;
use zen_identity::client::{Resolve, SystemResolver};

use crate::Arguments;

/// The API server and the identity service. Making it asks nobody.
#[derive(Clone)]
pub struct Platform {
    /// For watches.
    pub client: kube::Client,
    /// For certificates.
    pub identity: zen_identity::Client,
    /// Where Services of the cluster are, by their names.
    pub names: Arc<dyn Resolve>,
}

/// The surroundings of the pod cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a kubeconfig nor the environment of a pod.
    #[error("failed to find the API server: {0}")]
    Config(#[from] kube::config::InferConfigError),
    /// It is named, and cannot be used.
    #[error("failed to prepare the API server's client: {0}")]
    Client(#[from] zen_live::cluster::Error),
    /// The identity service's address.
    #[error(transparent)]
    Identity(#[from] zen_identity::client::Error),
}

impl Platform {
    /// As the pod's environment and files say.
    pub async fn of_pod(arguments: &Arguments) -> Result<Self, Error> {
        let client = zen_live::cluster::client(Config::infer().await?)?;
        let identity = zen_identity::Client::new(zen_identity::client::Options {
            token: arguments.token.clone(),
            roots: arguments.trust.clone(),
            folder: arguments.identity_folder(),
            ..zen_identity::client::Options::new(arguments.identity_url())
        })?;
        Ok(Self { client, identity, names: Arc::new(SystemResolver::searching()) })
    }
}
