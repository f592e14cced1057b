//! Rules that concern several fields: `refused.yaml` has what each refuses, `taken.yaml` what it just takes.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use crate::api_server::api_server;
use crate::samples::{self, named, with};
use crate::verdicts::{both_refuse, both_take};

/// Refusals in the same words.
#[derive(Deserialize)]
struct Refusals {
    words: String,
    /// Kind, sample, pointer, value to put there, field of the refusal.
    rows: Vec<(String, String, String, Value, String)>,
}

#[tokio::test]
async fn samples_and_border_cases_are_taken_by_both() {
    let api = api_server().await;
    api.namespace(samples::NAMESPACE).await;
    for sample in samples::all() {
        both_take(&api, &format!("{} {}", sample["kind"], sample["metadata"]["name"]), &sample).await;
    }
    let mut nulls = named("Destination", "smallest");
    for field in ["mode", "cluster", "delivery", "tls"] {
        nulls["spec"][field] = Value::Null;
    }
    both_take(&api, "an absent value written as null", &nulls).await;
    let rows: Vec<(String, String, String, Value)> = serde_saphyr::from_str(include_str!("taken.yaml")).unwrap();
    for (kind, name, pointer, value) in rows {
        let what = format!("{kind} {name} {pointer} {value}");
        both_take(&api, &what, &with(named(&kind, &name), &pointer, value)).await;
    }
}

#[tokio::test]
async fn each_rule_is_refused_by_both_in_the_same_words() {
    let api = api_server().await;
    api.namespace(samples::NAMESPACE).await;
    let table: Vec<Refusals> = serde_saphyr::from_str(include_str!("refused.yaml")).unwrap();
    let mut wrong = Vec::new();
    for Refusals { words, rows } in &table {
        for (kind, name, pointer, value, field) in rows {
            let what = format!("{kind} {name} {pointer} {value}");
            let object = with(named(kind, name), pointer, value.clone());
            wrong.extend(both_refuse(&api, &what, &object, field, words).await.err());
        }
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    let shown: BTreeSet<&str> = table.iter().map(|refusals| refusals.words.as_str()).collect();
    for rule in zen_crds::rules() {
        assert!(shown.contains(rule.message), "no row for the rule {:?}", rule.message);
    }
}
