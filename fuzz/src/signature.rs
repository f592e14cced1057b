use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zen_model::{Secret, Timestamp};
use zen_verify::{Config, LabelledSecret, Request, Verifier};

/// A request with arbitrary headers and body against every preset.
///
/// Input: lines `name: value`, an empty line, the body. Nothing may verify: the secret is not derivable from input.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn signature(data: &[u8]) {
    let split = data.windows(2).position(|pair| pair == b"\n\n").unwrap_or(data.len());
    let (head, body) = (&data[..split], data.get(split + 2..).unwrap_or_default());
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(64) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line.get(colon + 1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let path_and_query = headers.get("x-path").and_then(|value| value.to_str().ok()).unwrap_or("/hook").to_owned();
    let request = Request {
        method: &Method::POST,
        host: "hooks.example.com",
        path_and_query: &path_and_query,
        headers: &headers,
        body,
    };
    for preset in zen_verify::presets() {
        let secret = Secret::new(*b"whsec_bm90LXRoZS1zZWNyZXQtb2YtYW55Ym9keQ==");
        let config = Config {
            preset,
            secrets: vec![LabelledSecret { label: "fuzz/secret".to_owned(), secret }],
            tolerance: std::time::Duration::from_mins(5),
            public_url: None,
            generic: None,
            api_key: None,
        };
        let Ok(verifier) = Verifier::compile(config) else { continue };
        let verdict = verifier.verify(&request, Timestamp::from_secs(1_750_000_000));
        assert!(verdict.is_err() || preset.name == "none", "{} took a forged request", preset.name);
        let _ = verifier.challenge(&request);
    }
    if let Ok(text) = std::str::from_utf8(head) {
        let _ = zen_verify::zen_signature::parse(text);
    }
}
