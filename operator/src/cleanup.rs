//! `zen-operator cleanup`: before an uninstall, deletes what the operator made outside its own namespace. Nothing owns that,
//! and the operator, which would make it again, is about to go.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::ListParams;
use kube::core::ApiResource;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time;
use zen_runtime::lease::{Elector, Options};

use crate::object::is_ours;
use crate::writer::{Error, Metrics, Requeue, Writer};
use crate::{Id, names};

/// The operator stays away for so long afterwards, or is gone for good.
const AWAY: Duration = Duration::from_mins(1);
/// Tries for each object.
const TRIES: u32 = 5;
/// Deletes at one time.
const AT_ONCE: usize = 16;

/// Takes the lease, so that no replica writes any more, and deletes the Roles and RoleBindings of tenants and what is
/// registered with the API server: the aggregated API and admission. Returns how many objects it deleted.
///
/// # Errors
///
/// [`Error`]: something is left. It may be run again.
pub async fn run(client: &Client, namespace: &str, instance: &str) -> Result<usize, Error> {
    let holder = format!("cleanup_{instance}_{:016x}", fastrand::u64(..));
    let options = Options { duration: AWAY, ..Options::new(namespace, names::OPERATOR, holder) };
    let elector = Elector::new(client.clone(), options);
    let writer = Writer::new(client.clone(), elector.leadership(), instance, Metrics::default());
    tracing::info!("taking the lease, so that the operator writes nothing any more");
    // Not given back: whoever asks for it waits until it has run out.
    let _held = elector.seize().await;
    delete(client, &writer).await
}

async fn delete(client: &Client, writer: &Writer) -> Result<usize, Error> {
    let ours = ListParams::default().labels(&format!("{}={}", names::MANAGED_BY_LABEL, names::MANAGED_BY));
    let grants = [names::INGESTER, names::EGRESS];
    // Bindings first: nothing is granted by a Role that is not bound.
    let mut deleted = delete_all::<RoleBinding>(client, writer, &ours, &grants).await?;
    deleted += delete_all::<Role>(client, writer, &ours, &grants).await?;
    let registration = ListParams::default().fields(&format!("metadata.name={}", names::API_SERVICE));
    deleted += delete_all::<APIService>(client, writer, &registration, &[names::API_SERVICE]).await?;
    let admission = ListParams::default().fields(&format!("metadata.name={}", names::ADMISSION));
    let names = [names::ADMISSION];
    deleted += delete_all::<MutatingWebhookConfiguration>(client, writer, &admission, &names).await?;
    deleted += delete_all::<ValidatingWebhookConfiguration>(client, writer, &admission, &names).await?;
    Ok(deleted)
}

async fn delete_all<K>(client: &Client, writer: &Writer, list: &ListParams, names: &[&str]) -> Result<usize, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + Debug + Send + Sync + 'static,
{
    let api: Api<K> = Api::all(client.clone());
    let found = api.list(list).await?;
    let mut left = found.items.iter().filter(|object| is_ours(object.meta()) && names.contains(&&*object.name_any()));
    let (mut running, mut deleted) = (FuturesUnordered::new(), 0);
    loop {
        while running.len() < AT_ONCE
            && let Some(object) = left.next()
        {
            running.push(delete_one(writer, object));
        }
        match running.next().await {
            Some(done) => done?,
            None => return Ok(deleted),
        }
        deleted += 1;
    }
}

async fn delete_one<K>(writer: &Writer, object: &K) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Serialize + Send + Sync,
{
    let resource = ApiResource::erase::<K>(&());
    let mut tries = 0;
    loop {
        let Err(error) = writer.delete(&resource, object).await else {
            tracing::info!(object = %Id::of(object), "deleted");
            return Ok(());
        };
        tries += 1;
        let Requeue::Transient(after) = error.requeue() else { return Err(error) };
        if tries == TRIES {
            return Err(error);
        }
        time::sleep(after.unwrap_or(Duration::from_secs(1) * tries)).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use zen_runtime::lease::Leadership;
    use zen_testkit::api_server::{ApiServer, Call, Reply};

    use super::*;

    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
    const REGISTRATION: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

    fn object(namespace: &str, name: &str) -> Value {
        json!({"metadata": {"namespace": namespace, "name": name, "uid": "u",
                            "labels": {names::MANAGED_BY_LABEL: names::MANAGED_BY}}})
    }

    fn done() -> Reply {
        Reply::ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }

    #[tokio::test(start_paused = true)]
    async fn what_we_made_goes_and_nothing_else() {
        let server = ApiServer::new();
        let ours = "app.kubernetes.io/managed-by=zen-operator";
        let binding = |namespace: &str| format!("{RBAC}/namespaces/{namespace}/rolebindings/zen-egress");
        server.expect(
            Call::get(&format!("{RBAC}/rolebindings")).query("labelSelector", ours),
            Reply::list(vec![object("team-a", "zen-egress"), object("team-a", "another")]),
        );
        server.expect(Call::delete(&binding("team-a")), Reply::unavailable());
        server.expect(Call::delete(&binding("team-a")), done());
        server.expect(
            Call::get(&format!("{RBAC}/roles")).query("labelSelector", ours),
            Reply::list(vec![object("team-b", "zen-ingester")]),
        );
        server.expect(Call::delete(&format!("{RBAC}/namespaces/team-b/roles/zen-ingester")), Reply::not_found());
        // Somebody else's registration of the same name.
        server.expect(Call::get(REGISTRATION), Reply::list(vec![json!({"metadata": {"name": names::API_SERVICE}})]));
        let mut webhooks = object("", names::ADMISSION);
        webhooks["metadata"]["namespace"] = Value::Null;
        for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
            server.expect(Call::get(&format!("{ADMISSION}/{kind}")), Reply::list(vec![webhooks.clone()]));
            server.expect(Call::delete(&format!("{ADMISSION}/{kind}/{}", names::ADMISSION)), done());
        }
        let writer = Writer::new(server.client(), Leadership::unguarded(), "cleanup", Metrics::default());
        assert_eq!(delete(&server.client(), &writer).await.expect("deleted"), 4);
        server.finish();
    }
}
