//! The SSRF guard (D-07): which addresses a delivery may connect to. Pure; asked at every connect, about the very address
//! that is then connected to, and here about the addresses that the configuration names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether a connection to `address` may be made.
///
/// Public addresses may, private and special ones only when `allow` covers them or the address is
/// `trusted` ([`crate::Address`]). The metadata
/// services of clouds never: they hand out the node's credentials to whoever asks.
/// An IPv6 address that carries an IPv4 address (mapped, compatible, 6to4, NAT64, Teredo) is decided by both.
pub fn check(address: IpAddr, allow: &[IpNet], trusted: bool) -> Result<(), Denied> {
    if is_metadata(address) {
        return Err(Denied { address, class: Class::Metadata });
    }
    if trusted {
        return Ok(());
    }
    let class = classify(address);
    if class == Class::Public || covered(address, allow) {
        return Ok(());
    }
    // A mapped address is the IPv4 address itself, so that the grant for the latter is enough; a tunnel is not.
    if let (Class::Mapped, Some(inner)) = (class, canonical(address)) {
        return check(inner, allow, false).map_err(|denied| Denied { address, class: denied.class });
    }
    Err(Denied { address, class })
}

/// Whether `allow` names this very address, as itself or, where it is an IPv4 address in IPv6 clothes, as that.
pub fn is_listed(address: IpAddr, allow: &[IpNet]) -> bool {
    covered(address, allow) || covered(address.to_canonical(), allow)
}

/// Whether a network lies inside another.
pub fn within(inner: &IpNet, outer: &IpNet) -> bool {
    outer.contains(inner)
}

/// Names that clouds resolve to their metadata service.
pub const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data.ec2.internal"];

/// The guard said no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is not allowed: {}", class.label())]
pub struct Denied {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub class: Class,
}

/// What kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Globally reachable.
    Public,
    /// Hands out credentials of the node.
    Metadata,
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// RFC 1918, unique local, site local.
    Private,
    /// `169.254.0.0/16`, `fe80::/10`.
    LinkLocal,
    /// `100.64.0.0/10`, carrier-grade NAT (RFC 6598).
    SharedAddressSpace,
    /// Multicast.
    Multicast,
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `255.255.255.255` and `240.0.0.0/4`.
    Reserved,
    /// For documentation, benchmarks and protocol assignments: never a target.
    Special,
    /// An IPv4 address in IPv6 clothes (`::ffff:0:0/96`).
    Mapped,
    /// A tunnel or translation prefix: 6to4, Teredo, NAT64, IPv4-compatible.
    Translation,
}

impl Class {
    /// Words for logs and statuses.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Metadata => "metadata service",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::SharedAddressSpace => "carrier-grade NAT",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
            Self::Special => "special-purpose",
            Self::Mapped => "IPv4-mapped",
            Self::Translation => "translation or tunnel",
        }
    }
}

/// Whether an address, or the IPv4 address that it carries, serves instance metadata or credentials of a cloud. Never a
/// target, whatever is allowed.
pub fn is_metadata(address: IpAddr) -> bool {
    serves_metadata(address) || canonical(address).is_some_and(serves_metadata)
}

/// AWS, Azure, Google and most others; AWS over IPv6; Alibaba; Oracle; Azure's wire server; Google over IPv6; AWS ECS and EKS
/// credentials, whose endpoints lie beside the first; `OpenStack` over IPv6.
fn serves_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(
            v4.octets(),
            [169, 254, 169, 254 | 253 | 249]
                | [169, 254, 170, 2 | 23]
                | [100, 100, 100, 200]
                | [192, 0, 0, 192]
                | [168, 63, 129, 16]
        ),
        IpAddr::V6(v6) => matches!(
            v6.segments(),
            [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254 | 0x253 | 0x23]
                | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254]
                | [0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        ),
    }
}

/// The IPv4 address that an IPv6 address carries.
fn canonical(address: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(v6) = address else { return None };
    let [.., high, low] = v6.segments();
    match v6.segments() {
        // Mapped, translated of RFC 2765, NAT64 (well-known and local-use).
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] | [0x64, 0xff9b, ..] => Some(join(high, low)),
        // Compatible, which :: and ::1 are not.
        [0, 0, 0, 0, 0, 0, ..] if high != 0 || low > 1 => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        // Teredo hides the client's address inverted.
        [0x2001, 0, ..] => Some(join(!high, !low)),
        _ => None,
    }
}

fn join(high: u16, low: u16) -> IpAddr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

fn classify_v4(v4: Ipv4Addr) -> Class {
    match v4.octets() {
        [0, ..] => Class::Unspecified,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        [127, ..] => Class::Loopback,
        [169, 254, ..] => Class::LinkLocal,
        [100, 64..=127, ..] => Class::SharedAddressSpace,
        [224..=239, ..] => Class::Multicast,
        [240..=255, ..] => Class::Reserved,
        // Protocol assignments, documentation, AS112, 6to4 relay, AMT, benchmarks.
        [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [192, 31, 196, _]
        | [192, 52, 193, _]
        | [192, 175, 48, _]
        | [198, 18 | 19, ..] => Class::Special,
        _ => Class::Public,
    }
}

fn classify_v6(v6: Ipv6Addr) -> Class {
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0, 0, 0, 0, 0, 0xffff, ..] => Class::Mapped,
        [0, 0, 0, 0, 0 | 0xffff, 0, ..] | [0x64, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0, ..] => Class::Translation,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        // Site-local (deprecated, still routed inside some networks) and unique local.
        [0xfec0..=0xfeff | 0xfc00..=0xfdff, ..] => Class::Private,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // Discard, protocol assignments (2001::/23), documentation, segment routing.
        [0x100, 0, 0, 0 | 1, ..] | [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x5f00, ..] => {
            Class::Special
        }
        // Only 2000::/3 is given out as global unicast.
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

fn covered(address: IpAddr, allow: &[IpNet]) -> bool {
    allow.iter().any(|net| match (net, address) {
        (IpNet::V4(net), IpAddr::V4(v4)) => net.contains(&v4),
        (IpNet::V6(net), IpAddr::V6(v6)) => net.contains(&v6),
        _ => false,
    })
}

#[cfg(test)]
mod tests;
