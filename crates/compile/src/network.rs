//! Addresses by what they are for: the part of the SSRF guard (D-07) that configuration can decide.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether an address serves instance metadata or credentials of a cloud. Never a target, whatever is allowed.
pub fn is_metadata(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(address) => METADATA_V4.contains(&address),
        IpAddr::V6(address) => METADATA_V6.contains(&address),
    }
}

/// AWS, Azure, GCP, `OpenStack`, `DigitalOcean` and Hetzner; AWS ECS and EKS credentials; Oracle; Azure's wire server; Alibaba.
const METADATA_V4: [Ipv4Addr; 8] = [
    Ipv4Addr::new(169, 254, 169, 249),
    Ipv4Addr::new(169, 254, 169, 253),
    Ipv4Addr::new(169, 254, 169, 254),
    Ipv4Addr::new(169, 254, 170, 2),
    Ipv4Addr::new(169, 254, 170, 23),
    Ipv4Addr::new(192, 0, 0, 192),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(100, 100, 100, 200),
];

/// AWS (metadata, resolver, EKS pod identity), GCP, and the link-local form that `OpenStack` answers on.
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x253),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

/// Names that clouds resolve to their metadata service.
pub const METADATA_NAMES: [&str; 4] =
    ["metadata.google.internal", "metadata.goog", "metadata", "instance-data.ec2.internal"];

/// The IPv4 address that an IPv6 one stands for (IPv4-mapped, -compatible, NAT64, 6to4), else the address itself.
pub fn canonical(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] if v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED => {
            v4(high, low)
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// Whether a network lies inside another.
pub fn within(inner: &IpNet, outer: &IpNet) -> bool {
    outer.contains(inner)
}

/// Whether an address is one that the public internet routes to (RFC 6890 and the IANA special-purpose registries).
pub fn is_public(address: IpAddr) -> bool {
    let address = canonical(address);
    if is_metadata(address) {
        return false;
    }
    match address {
        IpAddr::V4(a) => {
            let [x, y, z, _] = a.octets();
            !(x == 0
                || x == 10
                || x == 127
                || x >= 224
                || (x == 100 && (64..128).contains(&y))
                || (x == 169 && y == 254)
                || (x == 172 && (16..32).contains(&y))
                || (x == 192 && y == 168)
                || (x == 192 && y == 0 && (z == 0 || z == 2))
                || (x == 192 && y == 88 && z == 99)
                || (x == 198 && (y == 18 || y == 19))
                || (x == 198 && y == 51 && z == 100)
                || (x == 203 && y == 0 && z == 113))
        }
        // Global unicast is 2000::/3; of it, documentation, benchmarking, Teredo and ORCHID are not routed.
        IpAddr::V6(a) => {
            let s = a.segments();
            s[0] & 0xe000 == 0x2000
                && !(s[0] == 0x2001 && (s[1] < 0x0200 || s[1] == 0x0db8))
                && !(s[0] == 0x3fff && s[1] < 0x1000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_in_every_disguise() {
        for text in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "fd00:ec2::254",
            "100.100.100.200",
            "fd20:ce::254",
            "168.63.129.16",
            "::169.254.169.254",
        ] {
            assert!(is_metadata(text.parse().expect("address")), "{text}");
            assert!(!is_public(text.parse().expect("address")), "{text}");
        }
        assert!(!is_metadata("169.254.1.1".parse().expect("address")));
    }

    #[test]
    fn public_addresses() {
        for text in ["93.184.216.34", "2606:2800:220:1::1", "1.1.1.1", "64:ff9b::101:101"] {
            assert!(is_public(text.parse().expect("address")), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.1.1",
            "172.31.0.1",
            "192.168.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "ff02::1",
            "2001:db8::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::",
            "2001::1",
            "3fff::1",
            "64:ff9b:1::1",
        ] {
            assert!(!is_public(text.parse().expect("address")), "{text}");
        }
    }
}
