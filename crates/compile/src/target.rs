//! Target URLs: one canonical form, and what can be refused without resolving a name (D-07).

use std::net::IpAddr;

use url::{Host, Url};

use crate::network::{METADATA_NAMES, is_metadata};

/// A target URL in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A-label or address, lower case, without brackets or a trailing dot.
    pub host: String,
    /// The address where the host is one.
    pub literal: Option<IpAddr>,
    /// The port, the scheme's default filled in.
    pub port: u16,
    /// Path and query, at least `/`.
    pub path_and_query: String,
}

/// Parses and refuses. The message goes on from `the URL …`; it repeats no part of the URL that could be a credential.
pub fn canonical(text: &str) -> Result<Canonical, &'static str> {
    // The URL standard repairs these silently; two readers that repair differently reach two hosts.
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || matches!(byte, b'\\' | b'<' | b'>' | b'"' | b'`' | b'^'))
    {
        return Err("holds a space, a backslash or another character that no URL may hold");
    }
    let tls = match text.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => true,
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => false,
        _ => return Err("must begin with https:// (or http:// with network.allowCidrs)"),
    };
    let authority =
        text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if authority.is_empty() {
        return Err("names no host");
    }
    if authority.contains('@') {
        return Err("holds a user or password; use authentication instead");
    }
    if text.contains('#') {
        return Err("holds a fragment, which is never sent; remove everything from # on");
    }
    let url = Url::parse(text).map_err(|_| "is not a URL; check host name, port and percent signs")?;
    let (host, literal) = match url.host() {
        Some(Host::Domain(name)) => (domain(name)?, None),
        Some(Host::Ipv4(address)) => {
            // 0x7f.1, 017700000001 and 2130706433 are the same address to some readers only.
            if !authority.starts_with(&address.to_string()) {
                return Err("writes an IPv4 address in an unusual form; write four decimal numbers");
            }
            (address.to_string(), Some(IpAddr::V4(address)))
        }
        Some(Host::Ipv6(address)) => (address.to_string(), Some(IpAddr::V6(address))),
        None => return Err("names no host"),
    };
    if literal.is_some_and(is_metadata) || METADATA_NAMES.contains(&host.as_str()) {
        return Err("points at a cloud's metadata service, which is never a target");
    }
    let port = url.port_or_known_default().unwrap_or(0);
    if port == 0 {
        return Err("has port 0");
    }
    if FOREIGN_PORTS.binary_search(&port).is_ok() {
        return Err("has the well-known port of another protocol than HTTP");
    }
    let path = percent_canonical(url.path())?;
    let path_and_query = match url.query() {
        Some(query) => format!("{path}?{}", percent_canonical(query)?),
        None => path,
    };
    Ok(Canonical { tls, host, literal, port, path_and_query })
}

/// The URL standard has made an A-label of it already.
fn domain(name: &str) -> Result<String, &'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(label_fits) {
        return Err("has a host that is no DNS name");
    }
    Ok(name.to_owned())
}

/// One spelling for one path: unreserved characters decoded, hexadecimal digits in capitals (RFC 3986, 6.2.2).
pub fn percent_canonical(text: &str) -> Result<String, &'static str> {
    let mut canonical = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        canonical.push_str(before);
        let byte =
            after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')));
        let byte = byte.ok_or("has a percent sign that is not followed by two hexadecimal digits")?;
        if byte.is_ascii_control() {
            return Err("holds an encoded control character");
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            canonical.push(char::from(byte));
        } else {
            use std::fmt::Write;
            let _ = write!(canonical, "%{byte:02X}");
        }
        rest = &after[2..];
    }
    canonical.push_str(rest);
    if canonical.split('?').next().unwrap_or_default().split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err("holds an encoded dot segment");
    }
    Ok(canonical)
}

/// Ports on which an HTTP request speaks to something else that may take it for commands. Sorted. From the "bad ports"
/// of the Fetch standard, and the databases that take text commands.
const FOREIGN_PORTS: [u16; 38] = [
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 79, 109, 110, 111, 119, 123, 135, 137, 139,
    143, 161, 389, 465, 514, 587, 636, 993, 995, 6379, 11211,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accepts(url: &str, tls: bool, host: &str, port: u16, path_and_query: &str) {
        let canonical = canonical(url).unwrap_or_else(|message| panic!("{url} {message}"));
        assert_eq!(
            (canonical.tls, canonical.host.as_str(), canonical.port, canonical.path_and_query.as_str()),
            (tls, host, port, path_and_query),
            "{url}"
        );
    }

    #[test]
    fn one_form() {
        accepts("https://example.com", true, "example.com", 443, "/");
        accepts("HTTPS://EXAMPLE.com.:443/a%7eb/%c3%a9?q=%41%2f", true, "example.com", 443, "/a~b/%C3%A9?q=A%2F");
        accepts("http://example.com:8080/x", false, "example.com", 8080, "/x");
        accepts("https://bücher.example/", true, "xn--bcher-kva.example", 443, "/");
        accepts("https://10.1.2.3:8443/", true, "10.1.2.3", 8443, "/");
        accepts("https://[2001:DB8::1]/", true, "2001:db8::1", 443, "/");
        accepts("https://example.com?x=1", true, "example.com", 443, "/?x=1");
        accepts("https://example.com/a/../b/./c", true, "example.com", 443, "/b/c");
    }

    #[test]
    fn refusals() {
        for (url, word) in [
            ("ftp://example.com/", "https"),
            ("example.com", "https"),
            ("https://", "host"),
            ("https:///x", "host"),
            ("https://user@example.com/", "authentication"),
            ("https://user:word@example.com/", "authentication"),
            ("https://@example.com/", "authentication"),
            ("https://example.com/#f", "fragment"),
            ("https://exa mple.com/", "space"),
            ("https://example.com\\@evil.example/", "backslash"),
            ("https://example.com/\n", "space"),
            ("https://example.com:0/", "port 0"),
            ("https://example.com:22/", "another protocol"),
            ("https://example.com:6379/", "another protocol"),
            ("https://example.com:99999/", "not a URL"),
            ("https://example.com/%zz", "percent"),
            ("https://example.com/%2", "percent"),
            ("https://example.com/%00", "control"),
            ("https://example.com/%0d%0a", "control"),
            ("https://0x7f.1/", "unusual"),
            ("https://2130706433/", "unusual"),
            ("https://169.254.169.254/latest", "metadata"),
            ("https://[::ffff:169.254.169.254]/", "metadata"),
            ("https://metadata.google.internal./", "metadata"),
            ("https://METADATA.google.internal/", "metadata"),
            ("https://-a.example/", "DNS"),
            ("https://a..example/", "DNS"),
        ] {
            let message = canonical(url).expect_err(url);
            assert!(message.contains(word), "{url}: {message}");
        }
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point(text in "https?://[a-z0-9.:@\\[\\]%]{0,16}[/?#]?[ -~]{0,24}") {
            if let Ok(first) = canonical(&text) {
                let scheme = if first.tls { "https" } else { "http" };
                let host = if first.host.contains(':') { format!("[{}]", first.host) } else { first.host.clone() };
                let again = canonical(&format!("{scheme}://{host}:{}{}", first.port, first.path_and_query));
                prop_assert_eq!(again.as_ref(), Ok(&first));
                prop_assert!(first.path_and_query.starts_with('/'));
            }
        }

        #[test]
        fn total(text in "\\PC{0,64}") {
            let _ = canonical(&text);
        }
    }
}
