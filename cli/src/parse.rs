//! Values of the command line.

use std::time::Duration;

use zen_model::Timestamp;

/// `500ms`, `5s`, `10m`, `2h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let bad = || format!("{text:?} is not a duration such as 500ms, 5s, 10m, 2h or 7d");
    let number: u64 = number.parse().map_err(|_| bad())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(bad()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(bad)
}

/// A time as RFC 3339, or how long ago, e.g. `10m`.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = duration(text) {
        let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
        return Ok(Timestamp(Timestamp::now().0.saturating_sub(ago)));
    }
    text.parse().map_err(|_| format!("{text:?} is neither a time such as 2026-01-31T08:00:00Z nor an age such as 10m"))
}

/// `100/s`, or just `100`: replays a second.
pub fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    match number.parse() {
        Ok(rate) if rate > 0 => Ok(rate),
        _ => Err(format!("{text:?} is not a rate such as 100/s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(168)));
        for bad in ["", "5", "s", "5 s", "1.5s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(time("2023-11-14T22:13:20.123Z"), Ok(Timestamp(1_700_000_000_123)));
        assert!(time("10m").expect("an age") < Timestamp::now());
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn rates() {
        assert_eq!((rate("100/s"), rate("5")), (Ok(100), Ok(5)));
        assert!(rate("0").is_err() && rate("x/s").is_err());
    }
}
