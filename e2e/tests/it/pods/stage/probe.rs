//! What a pod shows from outside, and the wait for it.

use super::*;

/// An address of this machine that is not its loopback. No packet is sent.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("203.0.113.1:9").expect("a route, for an address that is not the loopback");
    socket.local_addr().unwrap().ip()
}

/// What `/readyz` says.
pub async fn ready(admin: SocketAddr) -> (u16, String) {
    get(admin, "/readyz").await
}

/// Of the admin server: status and the whole answer.
pub async fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

/// Of the admin server: the sum of a metric's samples that have these labels; none where there is no such metric.
pub async fn metric(admin: SocketAddr, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let (_, answer) = get(admin, "/metrics").await;
    let (_, text) = answer.split_once("\r\n\r\n").unwrap();
    zen_runtime::metrics::value(text, name, labels)
}

/// Waits for what others bring about.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
