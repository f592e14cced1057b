use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::{Method, Request};
use kube::client::Body;
use serde_json::Value;

/// A call that came.
#[derive(Clone, Debug)]
pub struct Received {
    /// GET, PATCH, ….
    pub method: Method,
    /// Path without query.
    pub path: String,
    /// Query parameters.
    pub query: BTreeMap<String, String>,
    /// The body as JSON; null where there is none.
    pub body: Value,
}

impl Received {
    pub(super) async fn read(request: Request<Body>) -> Self {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default();
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        let query = query.collect();
        let body = body.collect_bytes().await.unwrap_or_default();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        Self { method: head.method, path: head.uri.path().to_owned(), query, body }
    }
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)?;
        for (number, (key, value)) in self.query.iter().enumerate() {
            write!(f, "{}{key}={value}", if number == 0 { '?' } else { '&' })?;
        }
        if self.body.is_null() { Ok(()) } else { write!(f, " {}", self.body) }
    }
}

/// What a call must look like.
#[derive(Clone)]
pub struct Call {
    method: Method,
    path: Path,
    query: Vec<(String, String)>,
    body: Option<Check>,
}

type Check = Arc<dyn Fn(&Value) -> bool + Send + Sync>;

#[derive(Clone, Debug)]
enum Path {
    Exact(String),
    Under(String),
}

impl Call {
    /// With any method.
    pub fn new(method: Method, path: &str) -> Self {
        Self { method, path: Path::Exact(path.to_owned()), query: Vec::new(), body: None }
    }

    /// A read, a list or, with `watch=true` in the query, a watch. Without that it is none.
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path)
    }

    /// A create.
    pub fn post(path: &str) -> Self {
        Self::new(Method::POST, path)
    }

    /// A replace.
    pub fn put(path: &str) -> Self {
        Self::new(Method::PUT, path)
    }

    /// A patch, server-side apply included.
    pub fn patch(path: &str) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// A delete.
    pub fn delete(path: &str) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// Anything at this path and below it.
    #[must_use]
    pub fn under(mut self) -> Self {
        if let Path::Exact(path) = self.path {
            self.path = Path::Under(path);
        }
        self
    }

    /// A query parameter that must be there with this value.
    #[must_use]
    pub fn query(mut self, key: &str, value: &str) -> Self {
        self.query.push((key.to_owned(), value.to_owned()));
        self
    }

    /// What must hold of the body.
    #[must_use]
    pub fn body(mut self, check: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Self {
        self.body = Some(Arc::new(check));
        self
    }

    /// Whether a call is this one; else what is different.
    pub(super) fn matches(&self, received: &Received) -> Result<(), String> {
        if self.method != received.method {
            return Err(format!("the method is {}", received.method));
        }
        let same_path = match &self.path {
            Path::Exact(path) => received.path == *path,
            Path::Under(path) => received.path.starts_with(path.as_str()),
        };
        if !same_path {
            return Err(format!("the path is {}", received.path));
        }
        for (key, value) in &self.query {
            match received.query.get(key) {
                Some(is) if is == value => {}
                other => return Err(format!("{key} is {other:?} in the query")),
            }
        }
        let is_watch = received.query.get("watch").is_some_and(|watch| watch == "true");
        if is_watch && !self.query.iter().any(|(key, _)| key == "watch") {
            return Err("it is a watch".to_owned());
        }
        match &self.body {
            Some(check) if !check(&received.body) => Err("the body is another".to_owned()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Path::Exact(path) => write!(f, "{} {path}", self.method)?,
            Path::Under(path) => write!(f, "{} {path}…", self.method)?,
        }
        for (number, (key, value)) in self.query.iter().enumerate() {
            write!(f, "{}{key}={value}", if number == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

/// Percent-decoding and `+`, as the client writes them.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or_default();
                let (high, low) = (digit(), digit());
                u8::try_from(high * 16 + low).unwrap_or_default()
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
