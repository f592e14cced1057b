//! The status of users' objects, from the compiler's verdicts and the pods' reports.
