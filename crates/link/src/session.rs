//! A session: two sides that know each other and agree on a version.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Streaming;
use zen_model::reason::LinkRefusal;
use zen_pki::SpiffeId;

use crate::codec::{Frame, FrameCodec};
use crate::frame::{Behalf, FromEgress, FromIngester, Hello, VERSION, Welcome};
use crate::metrics::{Metrics, Traffic, Up};
use crate::proof::{Binding, Presented};
use crate::serve::Broken;
use crate::{Error, Options};

/// Time for a refused peer to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What this process is on the link, whoever dials.
pub trait Side: Clone + Send + Sync + 'static {
    /// Frames that it sends.
    type Sent: Frame;
    /// Frames that it gets.
    type Received: Frame;
    /// Its name in metrics and logs.
    const ROLE: Role;

    /// Exchanges the first frames with whom the handshake has shown.
    fn greet(
        &self,
        presented: &Presented,
        sender: &mpsc::Sender<Self::Sent>,
        receiver: &mut Receiver<Self::Received>,
    ) -> impl Future<Output = Result<(Hello, Welcome), Error>> + Send;
}

/// Grants leases.
#[derive(Clone, Debug)]
pub struct Ingester {
    /// Names this process in the peer's logs.
    pub instance: String,
    /// How long a lease lasts.
    pub term: Duration,
    /// Says who may lease, where the certificate alone does not.
    pub judge: Option<Judge>,
}

/// Says of an egress, once it has said Hello, whether it gets leases. Must not block.
#[derive(Clone)]
pub struct Judge(Arc<Rule>);

type Rule = dyn Fn(&Presented, &Hello) -> Result<(), LinkRefusal> + Send + Sync;

impl Judge {
    /// With this rule.
    pub fn new(rule: impl Fn(&Presented, &Hello) -> Result<(), LinkRefusal> + Send + Sync + 'static) -> Self {
        Self(Arc::new(rule))
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

/// Attempts deliveries and settles them.
#[derive(Clone, Debug)]
pub struct Egress {
    /// Names this process in the peer's logs.
    pub instance: String,
    /// Of this process, random; 0: not told. What is lost with a session counts against an event only if the process died.
    pub incarnation: u64,
    /// At most so many leases outstanding.
    pub max_leases: u32,
    /// At most about so many bytes of records outstanding.
    pub max_bytes: u64,
    /// For whom it leases.
    pub claim: Claim,
}

/// Proves a key for an instance and a session.
pub type Prove = dyn Fn(&str, &Binding) -> String + Send + Sync;

/// For whom an egress says that it leases.
#[derive(Clone, Default)]
pub enum Claim {
    /// For its own mesh: the certificate says it.
    #[default]
    Own,
    /// For its cluster, whose key it has: the proof for an instance and a session.
    Proven(Arc<Prove>),
    /// For the stream of a member, which this ingester has taken.
    Behalf(Behalf),
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("Own"),
            Self::Proven(_) => f.write_str("Proven"),
            Self::Behalf(behalf) => f.debug_tuple("Behalf").field(behalf).finish(),
        }
    }
}

/// Which side, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The side that grants leases.
    Ingester,
    /// The side that settles them.
    Egress,
}

impl Role {
    /// Stable label for metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ingester => "ingester",
            Self::Egress => "egress",
        }
    }
}

/// An established session. It ends for both sides when either drops it; see [`Session::close`] for an end that loses no
/// frame.
pub struct Session<S: Side> {
    /// Who is on the other end, as its certificate says.
    pub peer: SpiffeId,
    /// What proofs of this session are bound to.
    pub binding: Binding,
    /// What the egress asked for.
    pub hello: Hello,
    /// What the ingester answered.
    pub welcome: Welcome,
    /// Takes frames while the peer reads; waits when it does not. Fails when the session has ended.
    pub sender: mpsc::Sender<S::Sent>,
    /// Frames of the peer.
    pub receiver: Receiver<S::Received>,
}

/// A session as the ingester sees it.
pub type IngesterSession = Session<Ingester>;
/// A session as the egress sees it.
pub type EgressSession = Session<Egress>;

impl<S: Side> Session<S> {
    /// Ends this direction, then reads on until the peer has ended its own, or fails, or `limit` has passed. Frames that
    /// were sent before arrive. Returns the frames that came meanwhile.
    pub async fn close(self, limit: Duration) -> Vec<S::Received> {
        let Self { sender, mut receiver, .. } = self;
        drop(sender);
        let mut late = Vec::new();
        let reading = async {
            while let Some(Ok(frame)) = receiver.next().await {
                late.push(frame);
            }
        };
        // Past the limit the peer is gone, or will never end: what came so far is all there is.
        let _ = timeout(limit, reading).await;
        late
    }
}

impl<S: Side> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("role", &S::ROLE)
            .field("peer", &self.peer)
            .field("hello", &self.hello)
            .field("welcome", &self.welcome)
            .finish_non_exhaustive()
    }
}

/// The peer's frames, in order.
pub struct Receiver<R> {
    stream: Streaming<R>,
    up: Option<Up>,
    ended: bool,
    /// A client's connection closes when its last request handle is dropped; a server's has none.
    _connection: Option<SendRequest<tonic::body::Body>>,
    /// Of a server: whether the stream broke off where tonic sees an end.
    broken: Broken,
}

impl<R: Frame> Receiver<R> {
    pub(crate) fn dialed(stream: Streaming<R>, connection: SendRequest<tonic::body::Body>) -> Self {
        Self { stream, up: None, ended: false, _connection: Some(connection), broken: Broken::default() }
    }

    pub(crate) fn served(stream: Streaming<R>, broken: Broken) -> Self {
        Self { stream, up: None, ended: false, _connection: None, broken }
    }

    /// The next frame; an error once when the session breaks; none after that, and when the peer has ended it. Safe to
    /// cancel: no frame is lost.
    pub async fn next(&mut self) -> Option<Result<R, Error>> {
        if self.ended {
            return None;
        }
        let error = match self.stream.message().await {
            Ok(Some(frame)) => return Some(Ok(frame)),
            Ok(None) if self.broken.is_set() => Error::Lost("the stream broke off".to_owned()),
            Ok(None) => {
                self.ended = true;
                return None;
            }
            Err(status) => Error::of_status(&status),
        };
        self.ended = true;
        if let Some(up) = &mut self.up {
            up.failed(&error);
        }
        Some(Err(error))
    }

    async fn first(&mut self) -> Result<R, Error> {
        self.next().await.unwrap_or(Err(Error::NoGreeting))
    }
}

impl<R> fmt::Debug for Receiver<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// Makes a session of a stream: exchanges the first frames within the limit.
pub(crate) async fn open<S: Side>(
    side: &S,
    presented: Presented,
    sender: mpsc::Sender<S::Sent>,
    mut receiver: Receiver<S::Received>,
    options: &Options,
    metrics: &Metrics,
) -> Result<Session<S>, Error> {
    let greeting = timeout(options.greeting_timeout, side.greet(&presented, &sender, &mut receiver));
    let greeted = greeting.await.map_err(|_| Error::TimedOut("exchange greetings")).flatten();
    let (hello, welcome) = match greeted {
        Ok(greeted) => greeted,
        Err(error) => {
            // Our own greeting may still be on its way, and says what version this is: dropping the stream at once
            // would take it back.
            drop(sender);
            let _ = timeout(FAREWELL, async { while let Some(Ok(_)) = receiver.next().await {} }).await;
            return Err(error);
        }
    };
    receiver.up = Some(metrics.session(S::ROLE));
    let Presented { peer, binding } = presented;
    Ok(Session { peer, binding, hello, welcome, sender, receiver })
}

pub(crate) fn codec<S: Side>(metrics: &Metrics) -> FrameCodec<S::Sent, S::Received> {
    let of = |direction| -> Traffic { metrics.traffic(S::ROLE, direction) };
    FrameCodec::new(of("sent"), of("received"))
}

impl Side for Ingester {
    type Sent = FromIngester;
    type Received = FromEgress;
    const ROLE: Role = Role::Ingester;

    async fn greet(
        &self,
        presented: &Presented,
        sender: &mpsc::Sender<FromIngester>,
        receiver: &mut Receiver<FromEgress>,
    ) -> Result<(Hello, Welcome), Error> {
        let hello = receiver.first().await?.hello.ok_or(Error::NoGreeting)?;
        let term = u64::try_from(self.term.as_millis()).unwrap_or(u64::MAX);
        let judged = match &self.judge {
            Some(judge) if hello.version == VERSION => (judge.0)(presented, &hello),
            _ => Ok(()),
        };
        let refusal = judged.err().map_or_else(String::new, |reason| reason.code().to_owned());
        let welcome = Welcome { version: VERSION, instance: self.instance.clone(), term, refusal };
        // Said even to a peer of another version, or that is refused, so that its log names the reason too.
        send(sender, FromIngester { welcome: Some(welcome.clone()), ..FromIngester::default() }).await?;
        check(hello.version)?;
        judged.map_err(Error::Refused)?;
        Ok((hello, welcome))
    }
}

impl Side for Egress {
    type Sent = FromEgress;
    type Received = FromIngester;
    const ROLE: Role = Role::Egress;

    async fn greet(
        &self,
        presented: &Presented,
        sender: &mpsc::Sender<FromEgress>,
        receiver: &mut Receiver<FromIngester>,
    ) -> Result<(Hello, Welcome), Error> {
        let (proof, behalf) = match &self.claim {
            Claim::Own => (String::new(), None),
            Claim::Proven(prove) => (prove(&self.instance, &presented.binding), None),
            Claim::Behalf(behalf) => (String::new(), Some(behalf.clone())),
        };
        let hello = Hello {
            version: VERSION,
            max_leases: self.max_leases,
            max_bytes: self.max_bytes,
            instance: self.instance.clone(),
            proof,
            behalf,
            incarnation: self.incarnation,
        };
        send(sender, FromEgress { hello: Some(hello.clone()), ..FromEgress::default() }).await?;
        let welcome = receiver.first().await?.welcome.ok_or(Error::NoGreeting)?;
        check(welcome.version)?;
        if welcome.refusal.is_empty() {
            return Ok((hello, welcome));
        }
        Err(LinkRefusal::of_code(&welcome.refusal).map_or_else(
            || Error::Malformed("it refuses for a reason that this release does not know".to_owned()),
            Error::Refused,
        ))
    }
}

async fn send<F>(sender: &mpsc::Sender<F>, frame: F) -> Result<(), Error> {
    sender.send(frame).await.map_err(|_| Error::Lost("the connection ended during the greeting".to_owned()))
}

fn check(theirs: u32) -> Result<(), Error> {
    if theirs == VERSION { Ok(()) } else { Err(Error::Version { ours: VERSION, theirs }) }
}
