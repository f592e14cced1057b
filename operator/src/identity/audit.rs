//! What is recorded: each certificate that was issued or refused, before the answer, and what was done to the CA. The
//! same stands in a line of the log with the target `zen_operator::audit`. Nothing of a token or a key is in it.

use std::net::SocketAddr;

use zen_audit::log::Cause;
use zen_audit::{Action, Record, Refused};
use zen_identity::Component;
use zen_identity::wire::Usage;
use zen_model::reason::TrustRefusal;
use zen_pki::{Names, Signed, SpiffeId};
use zen_pod::Caller;
use zen_pod::audit::Entries;

/// What the operator did by itself.
pub(crate) fn administered(operator: &SpiffeId, object: &str, done: &str) -> Record {
    Record::new(Action::Administer, operator.as_str(), object).allowed().detail("done", done)
}

/// What the operator issued to itself.
pub(super) fn own(operator: &SpiffeId, namespace: &str, usage: Usage, until: zen_model::Timestamp) -> Record {
    let object = format!("Certificate/{namespace}/{}", Component::Operator.account());
    let record = Record::new(Action::IssueCertificate, operator.as_str(), &object).allowed();
    record.detail("usage", usage.label()).detail("until", &until.to_string())
}

/// What is known of a request while it is judged.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    pub(super) request_id: String,
    pub(super) from: Option<SocketAddr>,
    pub(super) caller: Option<Caller>,
    pub(super) usage: Option<Usage>,
}

/// A line, whatever came of the request, with the same fields about it.
macro_rules! line {
    ($level:ident, $line:expr, $($outcome:tt)+) => {
        tracing::$level!(
            target: "zen_operator::audit",
            request_id = $line.request_id,
            from = $line.from(),
            pod = $line.pod(),
            pod_uid = $line.pod_uid(),
            account = $line.account(),
            usage = $line.usage(),
            $($outcome)+
        )
    };
}

impl Line {
    /// Before the certificate is handed over.
    pub(super) async fn issued(&self, audit: &Entries, names: &Names, signed: &Signed) -> Result<(), TrustRefusal> {
        let names = match names {
            Names::Workload(id) => id.to_string(),
            Names::Server(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(","),
        };
        let record = self.record().allowed().detail("names", &names).detail("serial", &signed.serial);
        let recorded = audit.record(record.detail("until", &signed.validity.until.to_string())).await;
        match recorded {
            Ok(()) => {}
            // Without a certificate the store would never come back.
            Err(Refused::Degraded(Cause::Store | Cause::Backlog)) if self.account() == Component::Audit.account() => {
                tracing::warn!("the audit store gets its certificate though it is not there to record it");
            }
            Err(error) => {
                tracing::error!(%error, request_id = self.request_id, "a certificate is refused because it cannot be audited");
                return Err(TrustRefusal::AuditUnavailable);
            }
        }
        line!(
            info,
            self,
            names,
            serial = signed.serial,
            until = %signed.validity.until,
            "certificate issued"
        );
        Ok(())
    }

    /// A refusal stands, whether or not it can be recorded.
    pub(super) fn refused(&self, audit: &Entries, reason: TrustRefusal, detail: &str) {
        audit.note(self.record().reason(reason.code()).detail("detail", detail));
        line!(warn, self, code = reason.code(), detail, "certificate refused");
    }

    fn record(&self) -> Record {
        let who = self.caller.as_ref().map_or_else(|| self.from(), Caller::who);
        let of = |caller: &Caller| format!("Certificate/{}/{}", caller.namespace, caller.account);
        let object = self.caller.as_ref().map_or_else(|| "Certificate".to_owned(), of);
        Record::new(Action::IssueCertificate, &who, &object)
            .correlation(&self.request_id)
            .detail("usage", self.usage())
            .detail("pod_uid", self.pod_uid())
            .detail("from", &self.from())
    }

    fn from(&self) -> String {
        self.from.map(|from| from.to_string()).unwrap_or_default()
    }

    fn pod(&self) -> String {
        self.caller.as_ref().map(|caller| format!("{}/{}", caller.namespace, caller.pod)).unwrap_or_default()
    }

    pub(super) fn pod_name(&self) -> &str {
        self.caller.as_ref().map(|caller| caller.pod.as_str()).unwrap_or_default()
    }

    fn pod_uid(&self) -> &str {
        self.caller.as_ref().map(|caller| caller.pod_uid.as_str()).unwrap_or_default()
    }

    fn account(&self) -> &str {
        self.caller.as_ref().map(|caller| caller.account.as_str()).unwrap_or_default()
    }

    fn usage(&self) -> &'static str {
        self.usage.map(Usage::label).unwrap_or_default()
    }
}
