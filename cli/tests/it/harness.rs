//! A mesh in a process of its own, its folder, and a client that signs like a provider.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use zen_model::{Secret, Timestamp};
use zen_verify::{Config, LabelledSecret};

/// Waits end here at the latest, on a machine that has much else to do.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// The secret of the Webhook in [`MANIFESTS`].
pub const SECRET: &str = "a-github-secret";

/// A GitHub Webhook `team-a/github` that goes to `team-a/ci` at `UPSTREAM` (address and port).
pub const MANIFESTS: &str = r#"
apiVersion: zen-mesh.io/v1alpha1
kind: Webhook
metadata: {name: github, namespace: team-a}
spec:
  verification: {provider: github, secrets: [{secretRef: {name: github, key: secret}}]}
  routes: [{destinations: [{name: ci}]}]
---
apiVersion: zen-mesh.io/v1alpha1
kind: Destination
metadata: {name: ci, namespace: team-a}
spec:
  target: {url: "http://UPSTREAM/hooks"}
  network: {allowCidrs: [127.0.0.0/8]}
  delivery: {retry: {transient: {attempts: 50, initial: 100ms, factor: 1, within: 15m}}}
---
apiVersion: v1
kind: Secret
metadata: {name: github, namespace: team-a}
stringData: {secret: a-github-secret}
"#;

/// A folder of manifests.
pub struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("temporary folder") }
    }

    /// With [`MANIFESTS`] in `mesh-objects.yaml`.
    pub fn with_manifests(upstream: std::net::SocketAddr) -> Self {
        let folder = Self::new();
        folder.write("objects.yaml", &MANIFESTS.replace("UPSTREAM", &upstream.to_string()));
        folder
    }

    /// Written beside and renamed, as editors do.
    pub fn write(&self, name: &str, text: &str) {
        let beside = self.path().join(format!("{name}~"));
        std::fs::write(&beside, text).expect("writes");
        std::fs::rename(&beside, self.path().join(name)).expect("renames");
    }

    pub fn remove(&self, name: &str) {
        std::fs::remove_file(self.path().join(name)).expect("removes");
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn text(&self) -> &str {
        self.path().to_str().expect("UTF-8")
    }

    pub fn state(&self) -> PathBuf {
        self.path().join(".zen")
    }
}

/// `zen up`, killed when dropped.
pub struct Mesh {
    child: Child,
    state: PathBuf,
    pub stdout: PathBuf,
    pub stderr: PathBuf,
}

impl Mesh {
    /// Starts and waits until it is ready.
    pub async fn start(folder: &Folder) -> Self {
        Self::start_with(folder, &[], &[]).await
    }

    pub async fn start_with(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut mesh = Self::spawn(folder, arguments, environment);
        mesh.ready().await;
        mesh
    }

    /// Starts without waiting. The outputs of all runs on one folder go to the same files.
    pub fn spawn(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn_as(folder, command(&[]), arguments, environment)
    }

    /// Starts in a shell that has run `before` (`ulimit …`) and then becomes the mesh.
    pub fn spawn_after(folder: &Folder, before: &str, arguments: &[&str]) -> Self {
        Self::spawn_as(folder, shell(Command::new("sh"), before), arguments, &[])
    }

    /// Starts with its state on a file system of its own.
    pub fn spawn_mounted(folder: &Folder, options: &str) -> Self {
        let mut mesh = Self::spawn_as(folder, mounted(folder, options), &[], &[]);
        // What only the process sees, seen through it.
        let root = format!("/proc/{}/root", mesh.child.id());
        mesh.state = Path::new(&root).join(mesh.state.strip_prefix("/").expect("absolute"));
        mesh
    }

    fn spawn_as(folder: &Folder, mut command: Command, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let state = folder.state();
        let _ = std::fs::remove_file(state.join("addresses.json"));
        // Beside the manifests, hidden, so that the outputs are no reason to read the folder again.
        let outputs = folder.path().join(".outputs");
        std::fs::create_dir_all(&outputs).expect("creates");
        let (stdout, stderr) = (outputs.join("stdout"), outputs.join("stderr"));
        let open = |file: &Path| File::options().create(true).append(true).open(file).expect("opens");
        let child = command
            .args(["up", folder.text(), "--intake", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(open(&stdout))
            .stderr(open(&stderr))
            .stdin(Stdio::null())
            // A test that is killed leaves no mesh behind.
            .process_group(0)
            .spawn()
            .expect("spawns");
        Self { child, state, stdout, stderr }
    }

    /// The state folder as this process sees it.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Waits for 200 from `/readyz`.
    pub async fn ready(&mut self) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                panic!("zen up ended with {status}: {}", self.errors());
            }
            if let Some(address) = self.address("admin")
                && let Some((200, _)) = get(&address, "/readyz").await
            {
                return;
            }
            assert!(Instant::now() < deadline, "not ready in time: {}", self.errors());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn address(&self, which: &str) -> Option<String> {
        let text = std::fs::read(self.state.join("addresses.json")).ok()?;
        let addresses: Value = serde_json::from_slice(&text).ok()?;
        addresses[which].as_str().map(str::to_owned)
    }

    pub fn intake(&self) -> String {
        self.address("intake").expect("published")
    }

    pub fn admin(&self) -> String {
        self.address("admin").expect("published")
    }

    pub async fn metrics(&self) -> String {
        get(&self.admin(), "/metrics").await.expect("answers").1
    }

    /// A client of the intake that trusts the mesh's CA.
    pub async fn connect(&self) -> Source {
        Source::connect(&self.intake(), &self.state.join("ca.crt")).await.expect("connects")
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("waits");
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("runs").success());
    }

    /// Waits for the process's end.
    pub async fn ended(&mut self) -> ExitStatus {
        until("the process to end", || self.child.try_wait().expect("waits")).await
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.stdout).expect("reads")
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(&self.stderr).expect("reads")
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Polls until there is a value.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A keep-alive connection of a webhook source.
pub struct Source {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Source {
    pub async fn connect(intake: &str, ca: &Path) -> Option<Self> {
        Self::connect_as(intake, ca, "localhost").await
    }

    /// Asks for a certificate of this name.
    pub async fn connect_as(intake: &str, ca: &Path, name: &str) -> Option<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).ok()?).ok()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .ok()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(intake).await.ok()?;
        let name = ServerName::try_from(name.to_owned()).ok()?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(Self { sender, authority: intake.to_owned() })
    }

    /// Status and body; none when the connection ended first.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Option<(u16, Value)> {
        let answer = self.answer(request).await?;
        Some((answer.status().as_u16(), answer.into_body()))
    }

    /// The whole answer.
    pub async fn answer(&mut self, request: Request<Full<Bytes>>) -> Option<Response<Value>> {
        self.sender.ready().await.ok()?;
        let (head, body) = self.sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Response::from_parts(head, serde_json::from_slice(&body).unwrap_or(Value::Null)))
    }

    /// A signed GitHub push with this delivery id.
    pub async fn push(&mut self, id: &str) -> Option<(u16, Value)> {
        let request = self.signed("/team-a/github", SECRET, id, &format!(r#"{{"ref":"refs/heads/main","n":"{id}"}}"#));
        self.send(request).await
    }

    pub fn signed(&self, path: &str, secret: &str, id: &str, body: &str) -> Request<Full<Bytes>> {
        let config = github(secret);
        let url = format!("https://{}{path}", self.authority);
        let body = Some(Bytes::from(body.to_owned()));
        let mut sample = zen_verify::sign(&config, &url, body, 0, Timestamp::now()).expect("signs");
        sample.headers.insert("x-github-delivery", id.parse().expect("valid"));
        sample.headers.insert("host", self.authority.parse().expect("valid"));
        let mut request = Request::post(sample.path_and_query).body(Full::new(sample.body)).expect("valid");
        *request.headers_mut() = sample.headers;
        request
    }
}

fn github(secret: &str) -> Config {
    Config {
        preset: zen_verify::preset("github").expect("known"),
        secrets: vec![LabelledSecret { label: "test".to_owned(), secret: Secret::new(secret) }],
        tolerance: Duration::from_mins(5),
        public_url: None,
        generic: None,
        api_key: None,
    }
}

/// Plain GET: status and body; none when nobody answers.
pub async fn get(address: &str, path: &str) -> Option<(u16, String)> {
    get_with(address, path, None).await
}

/// GET with a bearer token.
pub async fn get_with(address: &str, path: &str, token: Option<&str>) -> Option<(u16, String)> {
    let stream = TcpStream::connect(address).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    let mut request = Request::get(path).header("host", address);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let answer = sender.send_request(request.body(Full::<Bytes>::default()).expect("valid")).await.ok()?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    Some((status, String::from_utf8_lossy(&body).into_owned()))
}

/// `zen` with no configuration from the surroundings.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zen"));
    command.args(arguments).env_remove("ZEN_STATE").env_remove("ZEN_LOG").env_remove("ZEN_SECRET");
    command
}

/// `zen`, in a shell that has run `before`.
fn shell(mut shell: Command, before: &str) -> Command {
    let mesh = command(&[]);
    shell.args(["-c", &format!("{before} && exec \"$0\" \"$@\"")]).arg(mesh.get_program());
    for (name, _) in mesh.get_envs() {
        shell.env_remove(name);
    }
    shell
}

/// `zen`, with a file system of memory in the place of the state folder.
pub fn mounted(folder: &Folder, options: &str) -> Command {
    std::fs::create_dir_all(folder.state()).expect("creates");
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "sh"]);
    shell(unshare, &format!("mount -t tmpfs -o mode=700,{options} none {}", folder.state().display()))
}

/// Whether this machine lets a test mount.
pub fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// Runs `zen` to its end, while targets of this process go on answering.
pub async fn zen(arguments: &[&str]) -> Ran {
    zen_with(arguments, &[]).await
}

pub async fn zen_with(arguments: &[&str], environment: &[(&str, &str)]) -> Ran {
    let mut command = command(arguments);
    command.envs(environment.iter().copied()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("joins").expect("runs");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
