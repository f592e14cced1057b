//! The other side of a Webhook's verification: what `zen send` and the demonstration sign with.

use zen_model::{ObjectKey, ObjectReason};
use zen_verify::Config;

use crate::problem::Problems;
use crate::resolve::{Environment, Resolver};
use crate::{Mode, Objects, Problem, verification};

/// The verification settings of a Webhook with its secrets, as its verifier was compiled from them.
///
/// # Errors
///
/// What keeps the Webhook from verifying anything; `RefNotFound` where there is no such Webhook.
pub fn signing_config(objects: &Objects, key: &ObjectKey) -> Result<Config, Vec<Problem>> {
    let Some(webhook) = objects.webhooks.get(key) else {
        let message = format!("there is no Webhook {key}");
        return Err(vec![Problem { field: "metadata.name".to_owned(), reason: ObjectReason::RefNotFound, message }]);
    };
    let environment = Environment::new(objects, Mode::Standalone, None);
    let mut problems = Problems::default();
    let compiled =
        verification::compile(&mut Resolver::new(&environment), key, &webhook.spec.verification, &mut problems);
    match (compiled.config, compiled.verifier) {
        (Some(config), Some(_)) => Ok(config),
        _ => Err(problems.into_list()),
    }
}
