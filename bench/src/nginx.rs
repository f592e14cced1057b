//! The references: nginx answering 202 over TLS, and two nginx in a row with mutual TLS between them and to the target.
//! Neither keeps anything.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::process::Process;

/// A running nginx: two workers, as many as the machine this was calibrated on has cores.
#[derive(Debug)]
pub struct Nginx {
    /// The process.
    pub process: Process,
    /// Answers 202 itself.
    pub accepting: SocketAddr,
    /// Forwards through a second server block to the target.
    pub chain: SocketAddr,
}

impl Nginx {
    /// Starts it. `folder` holds `ca.crt`, `server.crt`, `server.key`, `client.crt` and `client.key`.
    pub fn start(folder: &Path, target: SocketAddr) -> anyhow::Result<Self> {
        let (accepting, chain, inner) = (free()?, free()?, free()?);
        let mut text = String::from(
            "worker_processes 2;\nerror_log stderr crit;\nevents { worker_connections 4096; }\nhttp {\n\
             access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; client_max_body_size 8m;\n\
             client_body_buffer_size 256k; ssl_protocols TLSv1.3; ssl_certificate server.crt; ssl_certificate_key server.key;\n\
             proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass_request_headers on;\n\
             proxy_ssl_certificate client.crt; proxy_ssl_certificate_key client.key;\n\
             proxy_ssl_trusted_certificate ca.crt; proxy_ssl_verify on; proxy_ssl_name localhost; proxy_ssl_protocols TLSv1.3;\n",
        );
        // nginx reads and discards the body of a request that it answers itself, so that the connection can stay.
        let _ = writeln!(
            text,
            "server {{ listen {accepting} ssl backlog=4096; location / {{ return 202 '{{\"id\":\"1\"}}'; }} }}"
        );
        let _ = writeln!(text, "upstream inner {{ server {inner}; keepalive 512; keepalive_requests 1000000000; }}");
        let _ = writeln!(text, "upstream target {{ server {target}; keepalive 512; keepalive_requests 1000000000; }}");
        let _ =
            writeln!(text, "server {{ listen {chain} ssl backlog=4096; location / {{ proxy_pass https://inner; }} }}");
        let _ = writeln!(
            text,
            "server {{ listen {inner} ssl backlog=4096; ssl_client_certificate ca.crt; ssl_verify_client on; \
             location / {{ proxy_pass https://target; }} }}\n}}"
        );
        let configuration = folder.join("nginx.conf");
        fs::write(&configuration, text)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(&configuration).args(["-e", "stderr"]);
        command.args(["-g", &format!("daemon off; pid {}/nginx.pid;", folder.display())]);
        let process = Process::start(&mut command, &folder.join("nginx.log"))?;
        Ok(Self { process, accepting, chain })
    }
}

/// A loopback port that was free a moment ago.
fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
