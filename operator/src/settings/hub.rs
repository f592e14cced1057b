//! What makes a mesh a hub: where its members reach it, and what they get there.

use std::net::IpAddr;

use rustls_pki_types::ServerName;
use serde::Deserialize;

use super::{Error, Service};

/// Member clusters may be enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hub {
    /// Where members reach it, `https://<host>[:<port>]`; empty: nobody is enrolled until it is set.
    #[serde(default)]
    pub url: String,
    /// Further names of its certificate.
    #[serde(default)]
    pub names: Vec<String>,
    /// Where the egresses of members lease, `<host>:<port>`; empty: the hub takes no streams of members.
    #[serde(default)]
    pub relay: String,
    /// How the port behind that address is exposed.
    #[serde(default)]
    pub relay_service: Service,
    /// How long the issuing CA of a member is good: as long a member works on while the hub is away, at most.
    #[serde(default = "quarter")]
    pub certificate_lifetime: String,
}

fn quarter() -> String {
    "2160h".to_owned()
}

impl Hub {
    /// As [`Hub::certificate_lifetime`] says.
    pub fn lifetime(&self) -> std::time::Duration {
        // Checked when the file was read.
        zen_crds::parse_duration(&self.certificate_lifetime).unwrap_or(std::time::Duration::from_hours(2160))
    }

    /// The names that the certificate of the hub bears beside those of its Service: of the URL, and those that were asked for.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        host(&self.url).into_iter().chain(self.names.iter().map(String::as_str)).map(str::to_ascii_lowercase)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.url.is_empty() && host(&self.url).is_none() {
            return Err(Error(format!(
                "hub.url is {:?}: it must be https://<host>[:<port>], without a path",
                self.url
            )));
        }
        for name in &self.names {
            if ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_err() {
                return Err(Error(format!("hub.names has {name:?}, which is neither a DNS name nor an address")));
            }
        }
        if !self.relay.is_empty()
            && !self.relay.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && is_port(port))
        {
            return Err(Error(format!("hub.relay is {:?}: it must be <host>:<port>", self.relay)));
        }
        self.relay_service.check("hub.relayService")?;
        let lifetime = zen_crds::parse_duration(&self.certificate_lifetime).map(|lifetime| lifetime.as_secs());
        if !lifetime.is_some_and(|seconds| (3600..=365 * 86_400).contains(&seconds)) {
            return Err(Error(format!(
                "hub.certificateLifetime is {:?}: it must be a duration from 1h to 8760h",
                self.certificate_lifetime
            )));
        }
        Ok(())
    }
}

/// The host of a URL of the hub; none for what is no such URL.
fn host(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    (is_host(host) && port.is_none_or(is_port)).then(|| host.trim_start_matches('[').trim_end_matches(']'))
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => matches!(address.parse(), Ok(IpAddr::V6(_))),
        None => !host.contains(':') && ServerName::try_from(host).is_ok(),
    }
}

fn is_port(port: &str) -> bool {
    !port.starts_with(['0', '+']) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(text: &str) -> Result<Hub, Error> {
        let hub: Hub = serde_saphyr::from_str(text).map_err(|error| Error(error.to_string()))?;
        hub.check().map(|()| hub)
    }

    #[test]
    fn what_can_be_an_address_of_a_hub() {
        for (url, expected) in [
            ("https://hub.example.com", Some("hub.example.com")),
            ("https://hub.example.com:8445", Some("hub.example.com")),
            ("https://10.0.0.7:443", Some("10.0.0.7")),
            ("https://[fd00::1]:443", Some("fd00::1")),
            ("https://[fd00::1]", Some("fd00::1")),
            ("http://hub.example.com", None),
            ("hub.example.com", None),
            ("https://", None),
            ("https://hub.example.com/", None),
            ("https://hub.example.com:0443", None),
            ("https://hub.example.com:70000", None),
            ("https://hub.example.com:", None),
            ("https://a@hub.example.com", None),
            ("https://fd00::1", None),
        ] {
            assert_eq!(host(url), expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_is_said() {
        let names = hub("{url: 'https://Hub.example.com:8445', names: [10.0.0.7, hub.internal]}").expect("valid");
        assert_eq!(names.names().collect::<Vec<_>>(), ["hub.example.com", "10.0.0.7", "hub.internal"]);
        assert_eq!(hub("{}").expect("valid").lifetime().as_secs(), 90 * 86_400);
        for (text, says) in [
            ("{url: 'http://hub'}", "hub.url"),
            ("{names: ['a b']}", "hub.names"),
            ("{relay: hub.example.com}", "hub.relay"),
            ("{relay: 'hub.example.com:0'}", "hub.relay"),
            ("{relayService: {nodePort: 30446}}", "hub.relayService.nodePort"),
            ("{relayService: {name: x}}", "unknown field"),
            ("{certificateLifetime: 59m}", "hub.certificateLifetime"),
            ("{certificateLifetime: 8761h}", "hub.certificateLifetime"),
            ("{certificateLifetime: long}", "hub.certificateLifetime"),
            ("{uri: 'https://hub'}", "unknown field"),
        ] {
            let error = hub(text).expect_err(text).to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
