//! One line for each certificate that was issued or refused, with the target `zen_operator::audit`. Nothing of a token or a
//! key is in it.

use std::net::SocketAddr;

use zen_identity::wire::Usage;
use zen_model::reason::TrustRefusal;
use zen_pki::{Names, Signed};
use zen_pod::Caller;

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
    pub(super) fn issued(&self, names: &Names, signed: &Signed) {
        let names = match names {
            Names::Workload(id) => id.to_string(),
            Names::Server(names) => names.iter().map(String::as_str).collect::<Vec<_>>().join(","),
        };
        line!(
            info,
            self,
            names,
            serial = signed.serial,
            until = %signed.validity.until,
            "certificate issued"
        );
    }

    pub(super) fn refused(&self, reason: TrustRefusal, detail: &str) {
        line!(warn, self, code = reason.code(), detail, "certificate refused");
    }

    fn from(&self) -> String {
        self.from.map(|from| from.to_string()).unwrap_or_default()
    }

    fn pod(&self) -> String {
        self.caller.as_ref().map(|caller| format!("{}/{}", caller.namespace, caller.pod)).unwrap_or_default()
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
