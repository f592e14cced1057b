//! Signals in, objects out: whatever the order, what is in force is what was told last and is named.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::json;
use zen_compile::{EndpointSlice, ReferenceKind, SecretData, Service};
use zen_model::Secret;

use super::*;
use crate::cluster::kinds::Own;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("n", name)
}

fn webhook(name: &str, uid: &str, secrets: &[&str], generation: i64) -> Own<zen_crds::Webhook> {
    let secrets: Vec<_> = secrets.iter().map(|name| json!({"secretRef": {"name": name, "key": "k"}})).collect();
    let spec = serde_json::from_value(json!({"verification": {"provider": "github", "secrets": secrets}}));
    let mut webhook = zen_crds::Webhook::new(name, spec.expect("a spec"));
    webhook.metadata.uid = Some(uid.to_owned());
    webhook.metadata.generation = Some(generation);
    Own::Read(Arc::new(webhook))
}

fn destination(name: &str, service: &str) -> Own<zen_crds::Destination> {
    let spec = serde_json::from_value(json!({"target": {"service": {"name": service, "port": 80}}}));
    Own::Read(Arc::new(zen_crds::Destination::new(name, spec.expect("a spec"))))
}

fn of_secret(name: &str) -> Reference {
    Reference { plane: Plane::Ingester, kind: ReferenceKind::Secret, key: key(name) }
}

fn secret(value: &str) -> Arc<SecretData> {
    let data = BTreeMap::from([("k".to_owned(), Secret::new(value))]);
    Arc::new(SecretData::new("Opaque", data))
}

/// An ingester that has heard everything, with these Webhooks.
fn heard(webhooks: Vec<(ObjectKey, Own<zen_crds::Webhook>)>, now: Instant) -> State {
    let mut state = State::new(Plane::Ingester, None, Objects::default(), None, &ZenLocks::Unsupported);
    state.take(Update::Webhooks(Signal::Reset(webhooks)), now);
    state.take(Update::Destinations(Signal::Reset(Vec::new())), now);
    state.take(Update::Namespaces(Signal::Reset(Vec::new())), now);
    state.take(Update::Clusters(Signal::Reset(Vec::new())), now);
    assert!(!state.is_due(now), "the mesh configuration was not read");
    state.take(Update::Mesh(Signal::Reset(Vec::new())), now);
    state
}

/// Compiles nothing, but does what follows a compilation.
fn compiled(state: &mut State) -> (Vec<Reference>, Vec<Reference>) {
    state.begin();
    let objects = state.objects.webhooks.iter();
    let named: BTreeSet<_> =
        objects.flat_map(|(key, own)| zen_compile::references_of_webhook(key, &own.spec)).collect();
    state.compiled(&named.into_iter().collect::<Vec<_>>(), &[]);
    state.align()
}

fn generation(state: &State, name: &str) -> Option<i64> {
    state.objects.webhooks.get(&key(name))?.metadata.generation
}

#[tokio::test(start_paused = true)]
async fn the_first_configuration_waits_for_what_it_names_but_not_for_ever() {
    let begun = Instant::now();
    let mut state = heard(vec![(key("a"), webhook("a", "u", &["s", "t"], 1))], begun);
    assert_eq!(state.align(), (vec![], vec![of_secret("s"), of_secret("t")]));
    assert!(!state.is_due(begun));
    state.take(Update::Secret(of_secret("s"), Signal::Apply(key("s"), secret("one"))), begun);
    assert!(!state.is_due(begun));
    assert_eq!(state.settle(begun), Some(begun + FIRST));
    let mut other = heard(vec![(key("a"), webhook("a", "u", &["s"], 1))], begun);
    other.align();
    assert!(other.is_due(begun + FIRST), "long enough");
    state.take(Update::Secret(of_secret("t"), Signal::Failed { forbidden: true }), begun);
    assert!(state.is_due(begun) && state.is_complete(), "a refusal is an answer");
}

#[tokio::test(start_paused = true)]
async fn a_version_waits_for_its_secret_with_the_one_before_in_force() {
    let begun = Instant::now();
    let mut state = heard(vec![(key("a"), webhook("a", "u", &["s"], 1))], begun);
    state.align();
    state.take(Update::Secret(of_secret("s"), Signal::Reset(vec![(key("s"), secret("one"))])), begun);
    assert!(state.is_due(begun));
    assert_eq!(compiled(&mut state), (vec![], vec![]));

    state.take(Update::Webhooks(Signal::Apply(key("a"), webhook("a", "u", &["t"], 2))), begun);
    assert_eq!((generation(&state, "a"), state.has_change()), (Some(1), false));
    assert_eq!(state.align(), (vec![], vec![of_secret("t")]), "watched at once, and the one before still is");
    state.take(Update::Secret(of_secret("t"), Signal::Failed { forbidden: true }), begun);
    let later = begun + Duration::from_hours(1);
    assert_eq!(state.settle(later), None);
    assert_eq!(generation(&state, "a"), Some(1));
    // A further version waits too; one that names nothing new does not.
    state.take(Update::Webhooks(Signal::Apply(key("a"), webhook("a", "u", &["t"], 3))), later);
    state.settle(later);
    assert_eq!(generation(&state, "a"), Some(1));
    state.take(Update::Secret(of_secret("t"), Signal::Apply(key("t"), secret("two"))), later);
    state.settle(later);
    assert_eq!(generation(&state, "a"), Some(3));
    assert!(state.objects.secrets.contains_key(&key("t")), "what it waited for is there when it comes into force");
    assert!(state.has_change());
    assert_eq!(compiled(&mut state), (vec![of_secret("s")], vec![]));
    assert!(!state.objects.secrets.contains_key(&key("s")), "what nobody names is forgotten");

    // Deleted while it waits; made again: another object, which does not wait for long.
    state.take(Update::Webhooks(Signal::Apply(key("a"), webhook("a", "u", &["x"], 4))), later);
    state.take(Update::Webhooks(Signal::Delete(key("a"))), later);
    state.settle(later + Duration::from_hours(1));
    assert_eq!(generation(&state, "a"), None);
    state.take(Update::Webhooks(Signal::Apply(key("a"), webhook("a", "v", &["x"], 1))), later);
    let next = state.settle(later).expect("a deadline");
    assert!(generation(&state, "a").is_none() && next <= later + Duration::from_secs(1));
    state.settle(next);
    assert_eq!(generation(&state, "a"), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_says_nothing_about_its_objects() {
    let now = Instant::now();
    let mut state = heard(vec![(key("a"), webhook("a", "u", &["s"], 1))], now);
    state.align();
    state.take(Update::Secret(of_secret("s"), Signal::Reset(vec![(key("s"), secret("one"))])), now);
    assert!(state.is_due(now));
    compiled(&mut state);
    for forbidden in [true, false] {
        state.take(Update::Secret(of_secret("s"), Signal::Failed { forbidden }), now);
        state.take(Update::Webhooks(Signal::Failed { forbidden }), now);
        state.settle(now);
        assert!(!state.is_complete() && state.objects.incomplete);
        assert!(state.objects.unavailable.is_empty() && state.objects.secrets.contains_key(&key("s")));
        assert_eq!(generation(&state, "a"), Some(1));
    }
    compiled(&mut state);
    state.take(Update::Webhooks(Signal::Reset(vec![(key("a"), webhook("a", "u", &["s"], 1))])), now);
    state.settle(now);
    assert!(state.is_complete() && !state.objects.incomplete);
    // A signal of a watch that ended meanwhile.
    assert!(!state.objects.secrets.contains_key(&key("other")));
    state.take(Update::Secret(of_secret("other"), Signal::Apply(key("other"), secret("x"))), now);
    assert!(!state.objects.secrets.contains_key(&key("other")), "nobody asked for it");
}

/// One thing that happens to Services, slices and Destinations.
#[derive(Clone, Debug)]
enum Step {
    Service(usize, Option<u16>),
    Slice(usize, Option<(usize, u8)>),
    Destination(usize, Option<usize>),
    ResetSlices(Vec<(usize, usize, u8)>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..4, proptest::option::of(1_u16..4)).prop_map(|(name, port)| Step::Service(name, port)),
        (0_usize..4, proptest::option::of((0_usize..4, 0_u8..4))).prop_map(|(name, of)| Step::Slice(name, of)),
        (0_usize..4, proptest::option::of(0_usize..4)).prop_map(|(name, of)| Step::Destination(name, of)),
        proptest::collection::vec((0_usize..4, 0_usize..4, 0_u8..4), 0..4).prop_map(Step::ResetSlices),
    ]
}

fn slice(service: usize, address: u8) -> Arc<EndpointSlice> {
    let endpoints = vec![zen_compile::Endpoint { address: [10, 0, 0, address].into(), is_pod: true }];
    Arc::new(EndpointSlice { service: service.to_string(), ports: BTreeMap::new(), endpoints })
}

fn signal<K>(name: usize, object: Option<K>) -> Signal<K> {
    let key = key(&name.to_string());
    object.map_or_else(|| Signal::Delete(key.clone()), |object| Signal::Apply(key.clone(), object))
}

proptest! {
    /// In force are the Services and slices that Destinations name, as they were told last.
    #[test]
    fn services_that_are_named(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().start_paused(true).enable_time().build().expect("a runtime");
        let _entered = runtime.enter();
        let now = Instant::now();
        let mut state = State::new(Plane::Egress, None, Objects::default(), None, &ZenLocks::Unsupported);
        let (mut services, mut slices, mut named) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for step in steps {
            let update = match step {
                Step::Service(name, port) => {
                    let service = port.map(|port| {
                        let ports = vec![zen_compile::ServicePort { name: String::new(), port }];
                        Arc::new(Service { external_name: false, ports })
                    });
                    services.insert(key(&name.to_string()), service.clone());
                    Update::Services(signal(name, service))
                }
                Step::Slice(name, of) => {
                    let made = of.map(|(service, address)| slice(service, address));
                    slices.insert(key(&name.to_string()), made.clone());
                    Update::EndpointSlices(signal(name, made))
                }
                Step::Destination(name, of) => {
                    named.insert(name, of);
                    Update::Destinations(signal(name, of.map(|of| destination(&name.to_string(), &of.to_string()))))
                }
                Step::ResetSlices(all) => {
                    let all = all.into_iter().map(|(name, service, address)| (key(&name.to_string()), slice(service, address)));
                    let all: BTreeMap<_, _> = all.collect();
                    slices = all.iter().map(|(key, slice)| (key.clone(), Some(Arc::clone(slice)))).collect();
                    Update::EndpointSlices(Signal::Reset(all.into_iter().collect()))
                }
            };
            state.take(update, now);
            state.settle(now);
            let is_named = |service: &ObjectKey| named.values().flatten().any(|of| key(&of.to_string()) == *service);
            let expected: BTreeMap<_, _> = services.iter()
                .filter_map(|(key, service)| Some((key.clone(), service.clone()?)))
                .filter(|(key, _)| is_named(key))
                .collect();
            prop_assert_eq!(&state.objects.services, &expected);
            let expected: BTreeMap<_, _> = slices.iter()
                .filter_map(|(key, slice)| Some((key.clone(), slice.clone()?)))
                .filter(|(_, slice)| is_named(&key(&slice.service)))
                .collect();
            prop_assert_eq!(&state.objects.endpoint_slices, &expected);
        }
    }
}
