use zen_pki::{Names, SigningRequest};

/// A signing request as PEM and as DER.
///
/// Whatever is read was signed by its own key, which the input can hold; it must then be judged without a panic, and must
/// not pass for two different identities.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn csr(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        judge(SigningRequest::from_pem(text).ok());
    }
    judge(SigningRequest::from_der(data).ok());
}

fn judge(request: Option<SigningRequest>) {
    let Some(request) = request else { return };
    let workload = |account: &str| {
        let id = format!("spiffe://zen-mesh.local/ns/zen-mesh/sa/{account}").parse();
        Names::Workload(id.expect("a SPIFFE id"))
    };
    let server = Names::Server(["zen-ingester.zen-mesh.svc".to_owned()].into());
    let due = [workload("zen-ingester"), workload("zen-egress"), server];
    let passed = due.iter().filter(|due| request.check(due).is_ok()).count();
    assert!(passed <= 1, "a request passed for {passed} identities");
}
