//! The operator's part: it signs what a pod is due, while it is there.

use super::*;

/// Signs what pods are due, as the identity service does.
#[derive(Clone)]
pub(super) struct Operator {
    pub(super) issuer: Arc<Ca>,
    /// Of the member cluster [`cluster`].
    pub(super) member: Arc<Ca>,
    pub(super) bundle: String,
    pub(super) away: Arc<AtomicBool>,
    /// Of what it signs.
    pub(super) lifetime: Duration,
}

/// As one pod sees the operator.
pub(super) struct PodIssuer {
    pub(super) operator: Operator,
    pub(super) issuer: Arc<Ca>,
    pub(super) id: SpiffeId,
}

impl std::fmt::Debug for PodIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PodIssuer")
    }
}

impl PodIssuer {
    fn there(&self) -> Result<(), Error> {
        if self.operator.away.load(Ordering::Relaxed) {
            return Err(Error::Refused(Refused::new(TrustRefusal::IssuerUnavailable, "r")));
        }
        Ok(())
    }

    fn sign(&self, request: &CertificateRequest) -> Result<Certificate, Error> {
        self.there()?;
        let due = match request.usage {
            Usage::Workload => Names::Workload(self.id.clone()),
            Usage::Serving => Names::Server([INTAKE.to_owned()].into()),
        };
        let csr = SigningRequest::from_pem(&request.csr).expect("a request");
        csr.check(&due).expect("the names are due");
        let signed = self.issuer.sign_csr(&csr, &due, Timestamp::now(), self.operator.lifetime).expect("signed");
        let roots = self.operator.bundle.clone();
        Ok(Certificate { chain: signed.chain_pem, roots, not_after: signed.validity.until })
    }
}

impl Issuer for PodIssuer {
    fn who<'a>(&'a self, _: Option<&'a Identity>) -> Answering<'a, Who> {
        let who = Who {
            spiffe_id: self.id.to_string(),
            serving_names: vec![INTAKE.to_owned()],
            lifetime_seconds: self.operator.lifetime.as_secs(),
            issuer: None,
            serving_since: None,
        };
        Box::pin(std::future::ready(self.there().map(|()| who)))
    }

    fn certificate<'a>(
        &'a self,
        _: Option<&'a Identity>,
        request: &'a CertificateRequest,
    ) -> Answering<'a, Certificate> {
        Box::pin(std::future::ready(self.sign(request)))
    }
}
