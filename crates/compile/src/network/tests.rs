//! What the guard lets through.

use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

#[test]
fn each_class_is_refused_unless_allowed() {
    let table = [
        (Class::Loopback, &["127.0.0.1", "127.255.255.254", "::1"][..]),
        (Class::Private, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12::1", "fec0::1"]),
        (Class::LinkLocal, &["169.254.0.1", "fe80::1", "febf::1"]),
        (Class::SharedAddressSpace, &["100.64.0.1", "100.127.255.255"]),
        (Class::Multicast, &["224.0.0.1", "239.255.255.255", "ff02::1"]),
        (Class::Unspecified, &["0.0.0.0", "0.1.2.3", "::"]),
        (Class::Reserved, &["240.0.0.1", "255.255.255.255", "4000::1", "200::1"]),
        (Class::Special, &["192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.9", "198.18.0.1", "198.19.255.255"]),
        (Class::Special, &["192.88.99.1", "2001:db8::1", "100::1", "2001:20::1", "3fff::1", "5f00::1"]),
        (Class::Private, &["::ffff:10.0.0.1"]),
        (Class::Loopback, &["::ffff:127.0.0.1"]),
        (Class::Translation, &["::127.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b:1::10.0.0.1", "2002:7f00:1::", "2001::1"]),
        (Class::Translation, &["::ffff:0:127.0.0.1"]),
    ];
    for (class, addresses) in table {
        for text in addresses {
            let address = ip(text);
            assert_eq!(check(address, &[], false), Err(Denied { address, class }), "{text}");
            assert_eq!(check(address, &nets(&["0.0.0.0/0", "::/0"]), false), Ok(()), "{text} allowed");
            assert_eq!(check(address, &[], true), Ok(()), "{text} of a Service");
        }
    }
}

#[test]
fn public_addresses_pass() {
    for text in ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00::1", "::ffff:8.8.8.8"] {
        assert_eq!(check(ip(text), &[], false), Ok(()), "{text}");
    }
}

#[test]
fn metadata_is_never_allowed() {
    let all = nets(&["0.0.0.0/0", "::/0", "169.254.169.254/32", "fd00:ec2::254/128"]);
    for text in [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "2001:0:1::5601:5601",
    ] {
        let denied = check(ip(text), &all, true).expect_err(text);
        assert_eq!(denied.class, Class::Metadata, "{text}");
        assert!(check(ip(text), &all, false).is_err(), "{text}");
    }
}

#[test]
fn a_grant_for_an_ipv4_network_counts_for_the_mapped_form_but_not_for_tunnels() {
    let allow = nets(&["10.20.0.0/16"]);
    assert_eq!(check(ip("::ffff:10.20.1.1"), &allow, false), Ok(()));
    assert!(check(ip("::ffff:10.21.1.1"), &allow, false).is_err());
    assert!(check(ip("64:ff9b::10.20.1.1"), &allow, false).is_err());
    assert!(check(ip("10.21.0.1"), &allow, false).is_err());
}

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
        assert!(is_metadata(ip(text)), "{text}");
        assert!(check(ip(text), &[], false).is_err(), "{text}");
    }
    assert!(!is_metadata(ip("169.254.1.1")));
}

#[test]
fn addresses_of_the_internet_and_others() {
    for text in ["93.184.216.34", "2606:2800:220:1::1", "1.1.1.1"] {
        assert!(check(ip(text), &[], false).is_ok(), "{text}");
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
        "64:ff9b::101:101",
        "2002:a00:1::",
        "2001::1",
        "3fff::1",
        "64:ff9b:1::1",
    ] {
        assert!(check(ip(text), &[], false).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn mapped_forms_are_decided_as_their_ipv4(bits: u32, net: u32, len in 0_u8..=32, service: bool) {
        let v4 = Ipv4Addr::from(bits);
        let allow = [IpNet::V4(Ipv4Net::new(Ipv4Addr::from(net), len).expect("a network").trunc())];
        let plain = check(IpAddr::V4(v4), &allow, service).map_err(|denied| denied.class);
        let mapped = check(IpAddr::V6(v4.to_ipv6_mapped()), &allow, service).map_err(|denied| denied.class);
        prop_assert_eq!(plain, mapped);
    }

    #[test]
    fn what_the_standard_library_calls_special_is_never_public(bits: u32) {
        let v4 = Ipv4Addr::from(bits);
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_broadcast()
            || v4.is_documentation() || v4.is_multicast() || v4.is_unspecified();
        prop_assert!(!special || check(IpAddr::V4(v4), &[], false).is_err());
    }

    #[test]
    fn total_on_any_ipv6(bits: u128) {
        let v6 = Ipv6Addr::from(bits);
        let special = v6.is_loopback() || v6.is_multicast() || v6.is_unspecified() || v6.is_unique_local();
        prop_assert!(!special || check(IpAddr::V6(v6), &[], false).is_err());
    }
}
