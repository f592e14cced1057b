//! The `Retry-After` header (RFC 9110, 10.2.3).

use std::time::Duration;

use zen_model::Timestamp;

/// What a target may ask for at most; a retry policy's `within` ends the wait sooner.
const LONGEST: Duration = Duration::from_hours(24);

/// The wait that the value asks for: whole seconds, or an HTTP date. None when it is neither; a date in the past is zero.
pub fn parse(value: &[u8], now: Timestamp) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are many seconds.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    let at = Timestamp(u64::try_from(date.as_millisecond()).unwrap_or(0));
    Some(at.since(now).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn seconds_and_dates() {
        let now = Timestamp::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(parse(b"120", now), seconds(120));
        assert_eq!(parse(b" 0 ", now), seconds(0));
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:50:37 GMT", now), seconds(60));
        assert_eq!(parse(b"Sun, 06 Nov 1994 08:00:00 GMT", now), seconds(0), "in the past");
        assert_eq!(parse(b"99999999999999999999999", now), Some(LONGEST));
        for bad in ["", "-1", "1.5", "soon", "+5", "1e3"] {
            assert_eq!(parse(bad.as_bytes(), now), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn total(value: Vec<u8>, text in ".*", now: u64) {
            let _ = parse(&value, Timestamp(now));
            let _ = parse(text.as_bytes(), Timestamp(now));
        }
    }
}
