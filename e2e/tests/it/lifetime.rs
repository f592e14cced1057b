//! A control plane comes with a message when it cannot, and leaves nothing behind when it could.

use std::path::Path;

use zen_e2e::ControlPlane;

#[tokio::test]
async fn missing_programs_are_named_with_what_builds_them() {
    let refused = ControlPlane::start_from(Path::new("/nonexistent")).await.unwrap_err().to_string();
    assert_eq!(refused, "etcd is missing in /nonexistent: `cargo xtask test` builds it");
}

#[tokio::test]
async fn a_dropped_control_plane_is_gone() {
    let control_plane = ControlPlane::start().await.unwrap();
    let version = control_plane.kubectl(&["version", "-o", "json"]).await.unwrap();
    assert!(version.contains("serverVersion"), "{version}");
    let kubeconfig = control_plane.kubeconfig();
    let server = std::fs::read_to_string(&kubeconfig).unwrap();
    let address = server.split("https://").nth(1).unwrap().split('"').next().unwrap().to_owned();
    drop(control_plane);
    assert!(!kubeconfig.parent().unwrap().exists(), "the folder is still there");
    assert!(std::net::TcpStream::connect(&address).is_err(), "the API server is still there");
}
