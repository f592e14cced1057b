//! The rules of our metrics, checked on what `/metrics` really says: read the text, find what breaks a rule.
//! Tests of every component call [`problems`]; tests and benchmarks read single values with [`value`].

use std::collections::BTreeMap;

/// One family of the exposition.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    /// Its name, without `_total`.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, `info`, ….
    pub kind: String,
    /// For people.
    pub help: String,
    /// Base unit, where one was declared.
    pub unit: String,
    /// Its samples in order.
    pub samples: Vec<Sample>,
}

/// One line with a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Name with its suffix, e.g. `_total` or `_bucket`.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

/// Words that are not base units.
const NOT_BASE_UNITS: [&str; 12] =
    ["ms", "millis", "milliseconds", "us", "micros", "microseconds", "ns", "minutes", "hours", "kb", "mb", "kib"];
/// What a histogram may count.
const HISTOGRAM_UNITS: [&str; 10] =
    ["seconds", "bytes", "events", "records", "deliveries", "leases", "attempts", "commands", "frames", "requests"];
/// Labels whose values nobody bounds.
const UNBOUNDED_LABELS: [&str; 9] = ["id", "event", "event_id", "request_id", "path", "url", "address", "ip", "error"];

/// Reads OpenMetrics text.
///
/// # Errors
///
/// The first line that is not of the format.
pub fn parse(text: &str) -> Result<Vec<Family>, String> {
    let mut families: Vec<Family> = Vec::new();
    for line in text.lines() {
        if let Some(meta) = line.strip_prefix("# ") {
            if meta == "EOF" {
                return Ok(families);
            }
            let mut words = meta.splitn(3, ' ');
            let (what, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let rest = words.next().unwrap_or_default().to_owned();
            if families.last().is_none_or(|family| family.name != name) {
                families.push(Family { name: name.to_owned(), ..Family::default() });
            }
            let Some(family) = families.last_mut() else { continue };
            match what {
                "HELP" => family.help = rest,
                "TYPE" => family.kind = rest,
                "UNIT" => family.unit = rest,
                _ => return Err(format!("unknown comment: {line}")),
            }
        } else {
            let sample = parse_sample(line).ok_or_else(|| format!("not a sample: {line}"))?;
            match families.last_mut() {
                Some(family) if sample.name.starts_with(&family.name) => family.samples.push(sample),
                _ => return Err(format!("a sample without a family: {line}")),
            }
        }
    }
    Err("the text does not end with # EOF".to_owned())
}

fn parse_sample(line: &str) -> Option<Sample> {
    let (name, mut rest) = line.split_at(line.find(['{', ' '])?);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        rest = &rest[1..];
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// A label value up to its closing quote, and what follows the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

/// What breaks a rule, one sentence each; empty is good. Rules: prefix `zen_`, help text, known type, counters end in
/// `_total`, base units only, histograms name their unit, no unbounded label, no family twice.
pub fn problems(text: &str) -> Vec<String> {
    let families = match parse(text) {
        Ok(families) => families,
        Err(error) => return vec![error],
    };
    let mut found = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for family in &families {
        let Family { name, kind, help, .. } = family;
        let mut say = |what: &str| found.push(format!("{name}: {what}"));
        if !seen.insert(name) {
            say("the family stands twice");
        }
        if !name.starts_with("zen_") || name.contains("__") || name.chars().any(|c| c.is_ascii_uppercase()) {
            say("the name is not zen_snake_case");
        }
        if help.trim_matches(['.', ' ']).len() < 5 {
            say("there is no help text");
        }
        if help.ends_with("..") {
            say("the registry adds the full stop of the help text itself");
        }
        if !["counter", "gauge", "histogram", "info"].contains(&kind.as_str()) {
            say("the type is not counter, gauge, histogram or info");
        }
        if name.ends_with("_total") {
            say("the registry adds _total itself");
        }
        if name.split('_').any(|word| NOT_BASE_UNITS.contains(&word)) {
            say("the unit is not a base unit (seconds, bytes)");
        }
        let last = name.rsplit('_').next().unwrap_or_default();
        if kind == "histogram" && !HISTOGRAM_UNITS.contains(&last) {
            say("a histogram's name ends in its unit");
        }
        for sample in &family.samples {
            if kind == "counter" && sample.name != format!("{name}_total") {
                say("a counter's sample ends in _total");
            }
            for label in sample.labels.keys().filter(|label| UNBOUNDED_LABELS.contains(&label.as_str())) {
                say(&format!("the label {label} has no bound"));
            }
        }
    }
    found.dedup();
    found
}

/// The sum of the samples of this full name (suffix included) that carry all these labels; none when there is none.
pub fn value(text: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let families = parse(text).ok()?;
    let matching = families.iter().flat_map(|family| &family.samples).filter(|sample| {
        sample.name == name
            && labels.iter().all(|(label, wanted)| sample.labels.get(*label).is_some_and(|is| is == wanted))
    });
    matching.map(|sample| sample.value).fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
# HELP zen_ingester_requests Requests by answer.
# TYPE zen_ingester_requests counter
zen_ingester_requests_total{webhook=\"team-a/\\\"git\\\"\",code=\"Accepted\"} 3
zen_ingester_requests_total{webhook=\"b\",code=\"Accepted\"} 4
# HELP zen_queue_commit_seconds Time to a durable commit.
# TYPE zen_queue_commit_seconds histogram
# UNIT zen_queue_commit_seconds seconds
zen_queue_commit_seconds_sum 0.5
zen_queue_commit_seconds_count 2
zen_queue_commit_seconds_bucket{le=\"+Inf\"} 2
# EOF
";

    #[test]
    fn a_good_exposition_has_no_problem_and_can_be_read() {
        assert_eq!(problems(GOOD), Vec::<String>::new());
        assert_eq!(value(GOOD, "zen_ingester_requests_total", &[("code", "Accepted")]), Some(7.0));
        assert_eq!(value(GOOD, "zen_ingester_requests_total", &[("webhook", "team-a/\"git\"")]), Some(3.0));
        assert_eq!(value(GOOD, "zen_nothing_total", &[]), None);
    }

    #[test]
    fn each_rule_finds_its_breach() {
        for (text, word) in [
            ("# HELP http_requests Requests seen.\n# TYPE http_requests counter\n# EOF\n", "zen_snake_case"),
            ("# TYPE zen_x_requests counter\n# EOF\n", "help"),
            ("# HELP zen_x_wait_ms Time waited.\n# TYPE zen_x_wait_ms gauge\n# EOF\n", "base unit"),
            ("# HELP zen_x_wait Time waited.\n# TYPE zen_x_wait histogram\n# EOF\n", "histogram"),
            (
                "# HELP zen_x_seen Events seen.\n# TYPE zen_x_seen counter\nzen_x_seen_total{id=\"1\"} 1\n# EOF\n",
                "bound",
            ),
            ("# HELP zen_x_seen Events seen.\n# TYPE zen_x_seen counter\n", "EOF"),
            ("# HELP zen_x_seen Events seen.\n# TYPE zen_x_seen counter\nzen_x_seen{ 1\n# EOF\n", "not a sample"),
        ] {
            assert!(problems(text).iter().any(|problem| problem.contains(word)), "{word}: {:?}", problems(text));
        }
    }
}
