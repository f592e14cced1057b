//! Connecting: guard, names, TLS (D-06, D-07).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zen_compile::{Address, Destination, Target};
use zen_deliver::{Deliverer, Resolve, Resolving, StaticResolver};
use zen_model::Fault;
use zen_model::settle::Class;
use zen_testkit::{FrozenClock, Reserved, TestCa, Upstream};

use crate::fixture::{NOW, attempt, destination, event, plain, prepare, secure, service};

#[tokio::test]
async fn loopback_needs_a_grant_or_a_service() {
    let upstream = Upstream::http().await;
    for host in ["127.0.0.1", "localhost", "a.localhost", "::ffff:127.0.0.1", "::1"] {
        let refused = Destination { allow_cidrs: Vec::new(), ..destination(false, host, upstream.address().port()) };
        let result = attempt(refused).await;
        assert_eq!((result.class, result.fault), (Class::Refused, Some(Fault::AddressNotAllowed)), "{host}");
    }
    assert_eq!(upstream.connections(), 0, "refused before connecting");
    assert_eq!(attempt(plain(&upstream)).await.class, Class::Delivered);
    assert_eq!(attempt(destination(false, "localhost", upstream.address().port())).await.class, Class::Delivered);
    assert_eq!(attempt(service(&[upstream.address()])).await.class, Class::Delivered);
}

/// Answers each question with the next list.
#[derive(Debug)]
struct Rebinding(Mutex<Vec<Vec<IpAddr>>>);

impl Resolve for Rebinding {
    fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
        let next = self.0.lock().expect("no panic").remove(0);
        Box::pin(async move { Ok(next) })
    }
}

#[tokio::test]
async fn every_connect_resolves_and_checks_again() {
    let upstream = Upstream::http().await;
    let lists = [vec!["127.0.0.1".parse().expect("ip")], vec!["127.0.0.2".parse().expect("ip")]];
    let deliverer = Deliverer::new(Arc::new(Rebinding(Mutex::new(lists.to_vec()))));
    let rebound = Destination {
        allow_cidrs: vec!["127.0.0.1/32".parse().expect("a network")],
        ..destination(false, "rebind.test", upstream.address().port())
    };
    upstream.always(zen_testkit::Answer::status(200).then_close());
    let prepared = prepare(rebound);
    assert_eq!(deliverer.attempt(&prepared, &event(), NOW).await.class, Class::Delivered);
    assert_eq!(deliverer.attempt(&prepared, &event(), NOW).await.class, Class::Refused, "rebound to another address");
}

#[tokio::test]
async fn names_without_an_address_are_transient_and_a_dead_resolver_is_our_fault() {
    #[derive(Debug)]
    struct Dead;
    impl Resolve for Dead {
        fn resolve<'a>(&'a self, _: &'a str) -> Resolving<'a> {
            Box::pin(async { Err(Fault::ResolverFailed) })
        }
    }
    let prepared = prepare(Destination { idempotent: false, ..destination(false, "gone.test", 80) });
    let unknown = Deliverer::new(Arc::new(StaticResolver(HashMap::new()))).attempt(&prepared, &event(), NOW).await;
    assert_eq!((unknown.class, unknown.fault), (Class::Transient, Some(Fault::NameNotFound)));
    let dead = Deliverer::new(Arc::new(Dead)).attempt(&prepared, &event(), NOW).await;
    assert_eq!((dead.class, dead.fault), (Class::OurFault, Some(Fault::ResolverFailed)));
}

#[tokio::test]
async fn a_refused_connection_is_transient_also_where_a_repeat_does_harm() {
    let nobody = Reserved::loopback();
    let refused = Destination { idempotent: false, ..destination(false, "127.0.0.1", nobody.port()) };
    let result = attempt(refused).await;
    assert_eq!((result.class, result.fault), (Class::Transient, Some(Fault::ConnectRefused)));
}

#[tokio::test]
async fn the_next_address_of_a_service_is_tried() {
    let (nobody, upstream) = (Reserved::loopback(), Upstream::http().await);
    let prepared = prepare(service(&[nobody.address(), upstream.address()]));
    let deliverer = Deliverer::new(Arc::new(StaticResolver::default()));
    for _ in 0..4 {
        assert_eq!(deliverer.attempt(&prepared, &event(), NOW).await.class, Class::Delivered);
    }
}

#[tokio::test]
async fn certificates_are_verified() {
    let (ca, other) = (TestCa::new(), TestCa::new());
    let wrong_name = Upstream::https(&ca, &["other.test"]).await;
    let unknown_ca = Upstream::https(&other, &["localhost"]).await;
    for upstream in [&wrong_name, &unknown_ca] {
        let result = attempt(Destination { idempotent: false, ..secure(upstream, &ca) }).await;
        assert_eq!((result.class, result.fault), (Class::Transient, Some(Fault::CertificateInvalid)));
        assert!(upstream.received().is_empty());
    }
    let no_tls = Upstream::http().await;
    let clock = FrozenClock::new();
    let running = tokio::spawn(attempt(Destination { idempotent: false, ..secure(&no_tls, &ca) }));
    no_tls.wait_for_connections(1).await;
    clock.advance(Duration::from_secs(6)).await;
    let result = running.await.expect("no panic");
    assert_eq!((result.class, result.fault), (Class::Transient, Some(Fault::ConnectTimeout)));
}

#[tokio::test]
async fn metadata_is_refused_even_as_a_service() {
    let metadata = service(&["169.254.169.254:80".parse().expect("an address")]);
    assert!(matches!(metadata.target, Target::Service { .. }));
    assert_eq!(attempt(metadata).await.fault, Some(Fault::AddressNotAllowed));
}

#[tokio::test]
async fn an_address_of_a_service_without_a_pod_needs_a_grant() {
    let upstream = Upstream::http().await;
    let socket = upstream.address();
    let table = [
        (true, "10.0.0.0/8", Ok(())),
        (false, "10.0.0.0/8", Err(Fault::AddressNotAllowed)),
        (false, "127.0.0.0/8", Ok(())),
    ];
    for (trusted, allowed, expected) in table {
        let mut ci = service(&[]);
        let Target::Service { addresses, .. } = &mut ci.target else { unreachable!("a Service") };
        *addresses = [Address { socket, trusted }].into();
        let result = attempt(Destination { allow_cidrs: vec![allowed.parse().expect("a network")], ..ci }).await;
        assert_eq!(result.fault.map_or(Ok(()), Err), expected, "D-01: {trusted}, {allowed}");
    }
    assert_eq!(upstream.connections(), 2, "refused before connecting");
}
