//! What stands before the hub's ingesters: a balancer that can be cut off.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The one address of the hub: connections go to its ingesters in turn. Cut, it forwards nothing, and takes connections all the
/// same, as a network that drops packets.
pub struct Front {
    pub address: SocketAddr,
    pub backends: Arc<Mutex<Vec<SocketAddr>>>,
    cut: watch::Sender<bool>,
    taken: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Front {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        let (backends, taken) = (Arc::<Mutex<Vec<SocketAddr>>>::default(), Arc::<AtomicUsize>::default());
        let (choices, count) = (Arc::clone(&backends), Arc::clone(&taken));
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                let turn = count.fetch_add(1, Ordering::Relaxed);
                let backend = {
                    let choices = choices.lock().unwrap();
                    choices.get(turn % choices.len().max(1)).copied()
                };
                let Some(backend) = backend else { continue };
                tokio::spawn(forward(near, backend, is_cut.clone()));
            }
        });
        Self { address, backends, cut, taken, task }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    pub fn only(&self, backend: SocketAddr) {
        *self.backends.lock().unwrap() = vec![backend];
    }

    /// Connections that were ever taken.
    pub fn connections(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(near: TcpStream, backend: SocketAddr, mut cut: watch::Receiver<bool>) {
    let lost = *cut.borrow();
    let Ok(far) = TcpStream::connect(backend).await else { return };
    let (mut near, mut far) = (near, far);
    let cutting = async {
        let _ = cut.wait_for(|cut| *cut).await;
    };
    if !lost {
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
            () = cutting => {}
        }
    }
    // Silence: neither end hears of the other, or of an end.
    std::future::pending::<()>().await;
}
