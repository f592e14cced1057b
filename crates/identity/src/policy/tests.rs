//! The whole policy, written out a second time, and the order of its rules (T-05).

use std::collections::BTreeSet;

use proptest::prelude::*;
use zen_model::ClusterId;
use zen_model::reason::TrustRefusal;
use zen_pki::{Scope, SpiffeId};

use super::*;

fn mesh() -> Mesh {
    Mesh::new(&"zen-mesh.local".parse().expect("valid"), "zen-mesh").expect("valid")
}

fn cluster(text: &str) -> ClusterId {
    text.parse().expect("a cluster")
}

fn member(id: &str, account: &str) -> SpiffeId {
    SpiffeId::member(mesh().trust_domain(), &cluster(id), "anywhere", account).expect("an id")
}

/// Every action, and which of operator, ingester, egress, ZenLock and audit store may do it in their own cluster.
const OWN: [(Action, [bool; 5]); 10] = [
    (Action::Link, [false, true, false, false, false]),
    (Action::Report, [true, false, false, false, false]),
    (Action::Drain, [true, false, false, false, false]),
    (Action::Adopt, [false, true, false, false, false]),
    (Action::Peer, [false, true, false, false, false]),
    (Action::Issue, [false, true, true, true, true]),
    (Action::Audit, [true, true, true, true, false]),
    (Action::Unseal, [false, true, true, false, false]),
    (Action::Lease, [false, false, false, false, false]),
    (Action::Renew, [false, false, false, false, false]),
];

/// The same at the hub for those of a member, with what is their own cluster's.
const MEMBERS: [(Action, [bool; 5]); 10] = [
    (Action::Link, [false; 5]),
    (Action::Report, [false; 5]),
    (Action::Drain, [false; 5]),
    (Action::Adopt, [false; 5]),
    (Action::Peer, [false; 5]),
    (Action::Issue, [false; 5]),
    (Action::Audit, [false; 5]),
    (Action::Unseal, [false; 5]),
    (Action::Lease, [false, false, true, false, false]),
    (Action::Renew, [true, false, false, false, false]),
];

#[test]
fn the_whole_table_of_one_cluster() {
    let member = Mesh::member(mesh().trust_domain(), cluster("team-a/eu"), "zen-mesh").expect("valid");
    assert_eq!(OWN.map(|(action, _)| action), Action::ALL);
    for mesh in [mesh(), member] {
        for (action, row) in OWN {
            for (component, allowed) in Component::ALL.into_iter().zip(row) {
                let expected = if allowed { Ok(component) } else { Err(Denied::NotPermitted(action)) };
                assert_eq!(mesh.check(mesh.id(component), action), expected, "{component:?} {action:?}");
            }
        }
    }
}

#[test]
fn the_whole_table_of_members_at_the_hub() {
    let (own, sibling, namesake) = (cluster("team-a/eu"), cluster("team-a/us"), cluster("team-b/eu"));
    assert_eq!(MEMBERS.map(|(action, _)| action), Action::ALL);
    for (action, row) in MEMBERS {
        for (component, allowed) in Component::ALL.into_iter().zip(row) {
            let peer = member("team-a/eu", component.account());
            let decide = |object| mesh().decide(&Request { peer: &peer, action, object });
            // Operator and egress have rules there; of the others the hub knows nothing.
            let known = matches!(component, Component::Operator | Component::Egress);
            let no = if known { Denied::NotPermitted(action) } else { Denied::Unknown };
            let permit = Permit { scope: Scope::Cluster(own.clone()), exact: false };
            let expected = if allowed { Ok(permit) } else { Err(no) };
            assert_eq!(decide(Object::Cluster(&own)), expected, "{component:?} {action:?}");
            let elsewhere = Err(if allowed { Denied::OtherCluster(action) } else { no });
            for object in [Object::Mesh, Object::Cluster(&sibling), Object::Cluster(&namesake)] {
                assert_eq!(decide(object), elsewhere, "{component:?} {action:?} {object:?}");
            }
            // Not a workload of the hub, so that no route of the hub's own takes it.
            assert_eq!(mesh().check(&peer, action), Err(Denied::Unknown), "{component:?} {action:?}");
        }
    }
}

#[test]
fn strangers_may_do_nothing() {
    let strangers = [
        ("spiffe://other.local/ns/zen-mesh/sa/zen-operator", Denied::TrustDomain),
        ("spiffe://zen-mesh.local.evil/ns/zen-mesh/sa/zen-operator", Denied::TrustDomain),
        ("spiffe://other.local/tenant/team-a/cluster/eu/ns/n/sa/zen-egress", Denied::TrustDomain),
        ("spiffe://zen-mesh.local/ns/team-a/sa/zen-operator", Denied::Unknown),
        ("spiffe://zen-mesh.local/ns/zen-mesh/sa/default", Denied::Unknown),
        ("spiffe://zen-mesh.local/ns/zen-mesh/sa/zen-operator/x", Denied::Unknown),
        ("spiffe://zen-mesh.local/tenant/t/cluster/c/ns/zen-mesh/sa/zen-ingester", Denied::Unknown),
        ("spiffe://zen-mesh.local/tenant/t/cluster/c/ns/zen-mesh/sa/zen-egress/x", Denied::Unknown),
        ("spiffe://zen-mesh.local/tenant/T/cluster/c/ns/zen-mesh/sa/zen-egress", Denied::Unknown),
        ("spiffe://zen-mesh.local/ns/zen-mesh/sa/Zen-Operator", Denied::Unknown),
        ("spiffe://zen-mesh.local", Denied::Unknown),
    ];
    let own = cluster("t/c");
    for (stranger, denied) in strangers {
        let peer = stranger.parse().expect("valid");
        for action in Action::ALL {
            assert_eq!(mesh().check(&peer, action), Err(denied), "{stranger}");
            for object in [Object::Mesh, Object::Cluster(&own)] {
                assert_eq!(mesh().decide(&Request { peer: &peer, action, object }), Err(denied), "{stranger}");
            }
        }
    }
}

/// All sixteen sets of the four kinds of rules that speak of one workload, and who wins.
#[test]
fn deny_exact_then_deny_scoped_then_allow_exact_then_allow_scoped_then_deny() {
    let peer = member("team-a/eu", "zen-egress");
    let own = cluster("team-a/eu");
    let exact = || Subject::Exact(peer.clone());
    let scoped = || Subject::Scoped(Pattern::of(Place::Cluster(own.clone())));
    let rules = [
        Rule::deny(exact(), [Action::Lease]),
        Rule::deny(scoped(), [Action::Lease]),
        Rule::allow(exact(), [Action::Lease], Reach::Own),
        Rule::allow(scoped(), [Action::Lease], Reach::Own),
    ];
    let permit = |exact| Ok(Permit { scope: Scope::Cluster(own.clone()), exact });
    for chosen in 0..16_u8 {
        let has = |at: usize| chosen & (1 << at) != 0;
        let expected = match [has(0), has(1), has(2), has(3)] {
            [true, ..] => Err(Denied::Exact(Action::Lease)),
            [_, true, ..] => Err(Denied::Scope(Action::Lease)),
            [_, _, true, _] => permit(true),
            [.., true] => permit(false),
            _ => Err(Denied::Unknown),
        };
        let of_set: Vec<_> = (0..4).filter(|at| has(*at)).map(|at| rules[at].clone()).collect();
        for rules in [of_set.clone(), of_set.into_iter().rev().collect()] {
            let policy = Policy::new("zen-mesh.local".parse().expect("valid"), rules);
            let request = Request { peer: &peer, action: Action::Lease, object: Object::Cluster(&own) };
            assert_eq!(policy.decide(&request), expected, "{chosen:04b}");
        }
    }
}

#[test]
fn a_pattern_holds_what_it_says() {
    let places: [(Place, [bool; 4]); 6] = [
        (Place::Anywhere, [true, true, true, true]),
        (Place::Hub, [true, false, false, false]),
        (Place::Members, [false, true, true, true]),
        (Place::Tenant("team-a".into()), [false, true, true, false]),
        (Place::Cluster(cluster("team-a/eu")), [false, true, false, false]),
        (Place::Cluster(cluster("team-c/eu")), [false, false, false, false]),
    ];
    let hub: SpiffeId = "spiffe://zen-mesh.local/ns/anywhere/sa/a".parse().expect("valid");
    let peers = [hub, member("team-a/eu", "a"), member("team-a/us", "a"), member("team-b/eu", "a")];
    for (place, row) in places {
        for (peer, holds) in peers.iter().zip(row) {
            for (namespace, account, same) in [
                (None, None, true),
                (Some("anywhere"), Some("a"), true),
                (Some("other"), Some("a"), false),
                (Some("anywhere"), Some("b"), false),
            ] {
                let pattern = Pattern {
                    place: place.clone(),
                    namespace: namespace.map(str::to_owned),
                    account: account.map(str::to_owned),
                };
                let rule = Rule::allow(Subject::Scoped(pattern), [Action::Report], Reach::Any);
                let policy = Policy::new("zen-mesh.local".parse().expect("valid"), vec![rule]);
                let request = Request { peer, action: Action::Report, object: Object::Mesh };
                assert_eq!(policy.decide(&request).is_ok(), holds && same, "{place:?} {peer}");
            }
        }
    }
}

#[test]
fn a_member_that_is_revoked_may_nothing_and_its_neighbours_go_on() {
    let mesh = mesh().with([Rule::revoke(cluster("team-a/eu"))]);
    for (id, denied) in [("team-a/eu", true), ("team-a/us", false), ("team-b/eu", false)] {
        let (peer, own) = (member(id, "zen-egress"), cluster(id));
        let decided = mesh.decide(&Request { peer: &peer, action: Action::Lease, object: Object::Cluster(&own) });
        assert_eq!(decided.err(), denied.then_some(Denied::Scope(Action::Lease)), "{id}");
    }
    assert_eq!(mesh.check(mesh.id(Component::Ingester), Action::Link), Ok(Component::Ingester));
}

#[test]
fn each_denial_has_its_code() {
    let all = [
        (Denied::TrustDomain, "TrustDomainForeign"),
        (Denied::Unknown, "WorkloadUnknown"),
        (Denied::Exact(Action::Lease), "WorkloadDenied"),
        (Denied::Scope(Action::Lease), "ScopeDenied"),
        (Denied::OtherCluster(Action::Lease), "ClusterForeign"),
        (Denied::NotPermitted(Action::Lease), "ActionNotPermitted"),
    ];
    for (denied, code) in all {
        assert_eq!((denied.reason().code(), denied.reason().status()), (code, 403));
        assert_eq!(TrustRefusal::from_code(code), Some(denied.reason()));
    }
    let labels: BTreeSet<_> = all.map(|(denied, _)| denied.label()).into();
    assert_eq!(labels.len(), all.len());
}

#[test]
fn a_workload_knows_its_mesh() {
    let member = Mesh::member(mesh().trust_domain(), cluster("team-a/eu"), "zen").expect("valid");
    for mesh in [mesh(), member] {
        for component in Component::ALL {
            assert_eq!(Mesh::of(mesh.id(component)).as_ref(), Some(&mesh));
        }
    }
    for other in [
        "spiffe://zen-mesh.local",
        "spiffe://a/ns/b/sa/c",
        "spiffe://a/ns/b",
        "spiffe://a/x/b/sa/zen-egress",
        "spiffe://a/tenant/b/cluster/c/sa/zen-egress/ns/d",
    ] {
        assert_eq!(Mesh::of(&other.parse().expect("valid")), None, "{other}");
    }
}

#[test]
fn listeners_let_in_who_may_do_anything_there() {
    let mesh = mesh();
    assert_eq!(mesh.permitted(&[Action::Link]), [mesh.id(Component::Ingester).clone()]);
    let control = mesh.permitted(&[Action::Report, Action::Drain, Action::Adopt, Action::Peer]);
    assert_eq!(control, [mesh.id(Component::Operator).clone(), mesh.id(Component::Ingester).clone()]);
    assert!(mesh.permitted(&[]).is_empty());
}

fn subject() -> impl Strategy<Value = Subject> {
    let place = prop_oneof![
        Just(Place::Anywhere),
        Just(Place::Hub),
        Just(Place::Members),
        Just(Place::Tenant("team-a".into())),
        Just(Place::Cluster(cluster("team-a/eu"))),
    ];
    prop_oneof![
        peer().prop_map(Subject::Exact),
        (place, prop::option::of("[ab]")).prop_map(|(place, account)| Subject::Scoped(Pattern {
            place,
            namespace: None,
            account
        })),
    ]
}

fn peer() -> impl Strategy<Value = SpiffeId> {
    let hub = "[ab]".prop_map(|account| format!("spiffe://zen-mesh.local/ns/n/sa/{account}").parse().expect("valid"));
    let member = ("team-[ab]/(eu|us)", "[ab]").prop_map(|(id, account)| member(&id, &account));
    prop_oneof![hub, member]
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Lease, Action::Report])
}

fn rule() -> impl Strategy<Value = Rule> {
    (any::<bool>(), subject(), prop::collection::vec(action(), 0..3), any::<bool>()).prop_map(
        |(deny, subject, actions, any)| {
            let reach = if any { Reach::Any } else { Reach::Own };
            if deny { Rule::deny(subject, actions) } else { Rule::allow(subject, actions, reach) }
        },
    )
}

proptest! {
    /// The order of the rules does not count; one more denial never lets anybody do more.
    #[test]
    fn rules_have_no_order_and_denials_only_take(
        rules in prop::collection::vec(rule(), 0..8),
        subject in subject(),
        peer in peer(),
        action in action(),
        id in "team-[ab]/(eu|us)",
    ) {
        let own = cluster(&id);
        let domain = mesh().trust_domain().clone();
        let request = Request { peer: &peer, action, object: Object::Cluster(&own) };
        let decided = Policy::new(domain.clone(), rules.clone()).decide(&request);
        let turned = Policy::new(domain.clone(), rules.iter().rev().cloned().collect()).decide(&request);
        prop_assert_eq!(&decided, &turned);
        let less = Policy::new(domain, rules).with([Rule::deny(subject, Action::ALL)]).decide(&request);
        prop_assert!(decided.is_ok() || less.is_err());
    }
}
