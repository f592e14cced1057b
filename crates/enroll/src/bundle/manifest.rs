//! A bundle as what `kubectl apply` takes.

use std::fmt::Write as _;

use super::{Bundle, CLEAR, SEALED, SECRET, SECRET_TYPE};

impl Bundle {
    /// The Secret in YAML, for the namespace that the member's operator runs in. Nothing in it needs quoting: what could was
    /// refused when the bundle was made.
    pub fn manifest(&self, namespace: &str) -> String {
        let (clear, sealed) = self.data();
        let mut text = format!(
            "# Enrolls this cluster as {}/{} with {}, once, before {}: kubectl apply -f FILE\n\
             apiVersion: v1\nkind: Secret\nmetadata:\n  name: {SECRET}\n  namespace: {namespace}\n\
             type: {SECRET_TYPE}\nstringData:\n  {CLEAR}: '{clear}'\n  {SEALED}: |\n",
            self.clear.tenant, self.clear.cluster, self.clear.hub, self.clear.expires_at,
        );
        for line in sealed.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "    {line}");
        }
        text
    }
}
