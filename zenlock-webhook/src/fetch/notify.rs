//! Tells the application of new files. It may miss it: the files are there all the same.

use std::io;
use std::time::Duration;

use rustix::process::{Pid, Signal as Number, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Notify, Signal};

/// An application that does not answer is asked again this often.
const ATTEMPTS: u32 = 3;
const TIMEOUT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(300);

/// Tells it, and logs where that fails.
pub(super) async fn notify(notify: &Notify) {
    for attempt in 1..=ATTEMPTS {
        let told = match notify {
            Notify::Http { port, path } => post(*port, path).await,
            Notify::Signal { signal, program } => send(*signal, program),
        };
        match told {
            Ok(()) => return tracing::info!(%notify, "the application was told"),
            Err(error) => tracing::warn!(%notify, %error, attempt, "the application was not told"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A request of few lines to the loopback: the status is all that matters.
async fn post(port: u16, path: &str) -> io::Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        // "HTTP/1.1 204"
        if head[9] == b'2' { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&head).into_owned())) }
    };
    tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// Every process of this name that this user may signal.
fn send(signal: Signal, program: &str) -> io::Result<()> {
    let number = match signal {
        Signal::Hup => Number::HUP,
        Signal::Usr1 => Number::USR1,
        Signal::Usr2 => Number::USR2,
    };
    let mut told = false;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.trim_end() == program {
            kill_process(pid, number)?;
            told = true;
        }
    }
    if told {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "no such process; does the pod share its process namespace?"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_post_to_the_loopback() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let server = async {
            for answer in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 500 No\r\n\r\n"] {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = vec![0; 256];
                let read = stream.read(&mut head).await.expect("a request");
                assert!(head[..read].starts_with(b"POST /-/reload HTTP/1.1\r\n"));
                stream.write_all(answer.as_bytes()).await.expect("answered");
            }
        };
        let ((), answers) =
            tokio::join!(server, async { [post(port, "/-/reload").await, post(port, "/-/reload").await] });
        assert!(answers[0].is_ok() && answers[1].is_err());
    }

    #[test]
    fn a_signal_to_the_programs_of_a_name() {
        // Not HUP, which who runs the tests may ignore. A shell that ends so when, and only when, it gets the signal: which also
        // ends a read, before or after the trap runs.
        let script =
            "trap 'exit 7' USR1; echo ready; n=0; while [ $n -lt 9999 ]; do read -r _; n=$((n + 1)); done; exit 1";
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("zen-usr1-test");
        std::os::unix::fs::symlink("/bin/sh", &program).expect("linked");
        let mut child = std::process::Command::new(&program)
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let mut ready = [0; 6];
        io::Read::read_exact(child.stdout.as_mut().expect("piped"), &mut ready).expect("ready");
        send(Signal::Usr1, "zen-usr1-test").expect("sent");
        // The trap runs when the shell's read returns.
        drop(child.stdin.take());
        assert_eq!(child.wait().expect("ended").code(), Some(7));
        assert!(send(Signal::Usr1, "zen-no-such").is_err());
    }
}
