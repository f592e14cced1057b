//! The admin API of a running mesh, as commands use it: of a process on this machine, or of a cluster.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::cluster::{Cluster, InCluster};
use crate::failure::{Context as _, Failure, Outcome};
use crate::net::{Connection, Target};
use crate::output::{Output, plain_text};
use crate::state::Place;

/// Options of every command that asks a running mesh.
#[derive(Clone, Debug, Args)]
pub struct Ask {
    /// The folder of the manifests that the mesh runs on; its state is DIR/.zen.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Its state folder [default: DIR/.zen, else `ZEN_STATE`, else ./.zen].
    #[arg(long, value_name = "FOLDER")]
    state: Option<PathBuf>,
    #[command(flatten)]
    cluster: InCluster,
    /// How to print the answer.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A mesh that can be asked.
pub enum Client {
    /// A process on this machine.
    Local(Local),
    /// Through the API server.
    Cluster(Cluster),
}

/// A mesh that runs on this machine.
#[derive(Debug)]
pub struct Local {
    connection: Connection,
    authority: HeaderValue,
    authorization: HeaderValue,
}

impl Ask {
    /// The mesh that is meant. Nothing is sent yet.
    pub async fn client(&self) -> Outcome<Client> {
        client(&self.cluster, self.state.as_deref(), self.dir.as_deref()).await
    }
}

/// The mesh that these options mean.
pub async fn client(cluster: &InCluster, state: Option<&Path>, dir: Option<&Path>) -> Outcome<Client> {
    if cluster.is_meant(state.is_some() || dir.is_some()) {
        return cluster.connect().await.map(Client::Cluster);
    }
    Local::of(&Place::find(state, dir)).map(Client::Local)
}

impl Local {
    /// Of the mesh that uses this state folder.
    pub fn of(place: &Place) -> Outcome<Self> {
        let address = place.addresses()?.admin;
        let token = place.token()?;
        let mut authorization = HeaderValue::from_bytes(&[b"Bearer ", token.expose()].concat())
            .context("the admin token cannot be sent; delete admin.token and restart the mesh")?;
        authorization.set_sensitive(true);
        let authority = HeaderValue::from_str(&address).context("addresses.json is damaged")?;
        let connection = Connection::new(Target { address, tls: None });
        Ok(Self { connection, authority, authorization })
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Outcome<Option<Value>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(AUTHORIZATION, &self.authorization)
            .body(Full::new(body.clone()))
            .context("failed to build the request")?;
        if !body.is_empty() {
            request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let answer = self.connection.send(request).await?;
        match answer.status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => {
                serde_json::from_slice(&answer.body).context("the mesh's answer cannot be read").map(Some)
            }
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::new("the mesh does not take this token")
                .hint("does another mesh listen at the address? name yours with --dir or --state")),
            status => {
                let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let message = body["message"].as_str().unwrap_or("no reason given");
                Err(Failure::new(format!("the mesh answered {}: {}", status.as_u16(), plain_text(message, 500))))
            }
        }
    }
}

impl Client {
    /// GET, with the set fields of `query`; none when there is no such thing.
    pub async fn find<T: DeserializeOwned>(&mut self, path: &str, query: &impl Serialize) -> Outcome<Option<T>> {
        let path = with_query(path, query)?;
        self.send(Method::GET, &path, Bytes::new()).await
    }

    /// GET of something that is always there.
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str, query: &impl Serialize) -> Outcome<T> {
        self.find(path, query).await?.ok_or_else(|| Failure::new("the mesh does not know this request; is it older?"))
    }

    /// POST with a JSON body.
    pub async fn post<T: DeserializeOwned>(&mut self, path: &str, body: &impl Serialize) -> Outcome<T> {
        let body = serde_json::to_vec(body).context("failed to write the request")?;
        self.send(Method::POST, path, body.into())
            .await?
            .ok_or_else(|| Failure::new("the mesh does not know this request; is it older?"))
    }

    async fn send<T: DeserializeOwned>(&mut self, method: Method, path: &str, body: Bytes) -> Outcome<Option<T>> {
        let answer = match self {
            Self::Local(local) => local.send(method, path, body).await?,
            Self::Cluster(cluster) => cluster.send(method, path, body).await?,
        };
        answer.map(serde_json::from_value).transpose().context("the mesh's answer cannot be read")
    }
}

/// Fields that are set, as a query. Lists are joined with commas.
fn with_query(path: &str, query: &impl Serialize) -> Outcome<String> {
    let fields = serde_json::to_value(query).context("failed to write the request")?;
    let mut serializer = Serializer::new(String::new());
    for (name, value) in fields.as_object().into_iter().flatten() {
        let text = match value {
            Value::Null => continue,
            Value::String(text) => text.clone(),
            Value::Array(items) if items.is_empty() => continue,
            Value::Array(items) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        };
        serializer.append_pair(name, &text);
    }
    let query = serializer.finish();
    Ok(if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") })
}

/// A path segment of outside text.
pub fn segment(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use zen_model::ObjectKey;
    use zen_queue::{DeadFilter, EventFilter};

    use super::*;

    #[test]
    fn set_fields_become_the_query() {
        let filter = EventFilter { webhook: Some(ObjectKey::new("team-a", "ci")), ..EventFilter::default() };
        assert!(with_query("/e", &filter).expect("writes").contains("webhook=team-a%2Fci"));
        let filter = DeadFilter { ids: vec!["1-2".into(), "3-4".into()], ..DeadFilter::default() };
        assert!(with_query("/d", &filter).expect("writes").contains("ids=1-2%2C3-4"));
        assert_eq!(with_query("/d", &()).expect("writes"), "/d");
        assert_eq!(segment("a/b c?"), "a%2Fb%20c%3F");
    }
}
