//! One object, two judges: the API server and the offline check must agree, in the same words.

use serde_json::Value;
use zen_crds::{SchemaProblem, validate};

use crate::api_server::{ApiServer, Verdict};

/// Both take it.
pub async fn both_take(api: &ApiServer, what: &str, object: &Value) -> Value {
    let offline = validate(object["kind"].as_str().unwrap(), object);
    assert_eq!(offline, [], "{what}: offline");
    match api.create(object).await {
        Verdict::Taken(stored) => stored,
        Verdict::Refused(causes) => panic!("{what}: the API server refuses {causes:#?}"),
    }
}

/// Both refuse it, at this field and with these words; whatever else the API server says, the offline check says too.
/// The other way round is not asked for: the API server skips rules where a form is wrong.
pub async fn both_refuse(api: &ApiServer, what: &str, object: &Value, field: &str, words: &str) -> Result<(), String> {
    let offline = validate(object["kind"].as_str().unwrap_or_default(), object);
    let expected = |problem: &SchemaProblem| problem.field == field && problem.message.contains(words);
    if !offline.iter().any(expected) {
        return Err(format!("{what}: offline: expected {field}: {words}, found {offline:#?}"));
    }
    let causes = match api.create(object).await {
        Verdict::Taken(_) => return Err(format!("{what}: the API server takes it, offline: {offline:#?}")),
        Verdict::Refused(causes) => causes,
    };
    // Some of its validators name the field only in their text. A value of the wrong type breaks more than one of them.
    let at = |(at, message): &(String, String), field: &str| {
        at == field || (matches!(at.as_str(), "" | "<nil>") && message.contains(field))
    };
    let same = |cause: &(String, String), problem: &SchemaProblem| {
        let wrong_type = problem.message.starts_with("must be of type");
        at(cause, &problem.field) && (wrong_type || cause.1.contains(&problem.message))
    };
    if !causes.iter().any(|cause| at(cause, field) && cause.1.contains(words)) {
        return Err(format!("{what}: the API server: expected {field}: {words}, found {causes:#?}"));
    }
    // Where nothing of a union is there, it names the branch that it finds nearest.
    let nearest = |(at, message): &(String, String), problem: &SchemaProblem| {
        problem.message.contains("(oneOf)") && at.starts_with(&problem.field) && message == "Required value"
    };
    for cause in causes {
        // Not a cause of its own: the API server says that it skipped the rules.
        if cause.1.contains("some validation rules were not checked") {
            continue;
        }
        if !offline.iter().any(|problem| same(&cause, problem) || nearest(&cause, problem)) {
            return Err(format!("{what}: only the API server says {cause:?}, offline: {offline:#?}"));
        }
    }
    Ok(())
}
