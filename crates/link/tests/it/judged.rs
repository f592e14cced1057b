//! Who may lease where the egress dials: proofs that are bound to their TLS session, and refusals that both sides know (T-06).

use std::sync::{Arc, Mutex};

use tokio::time::timeout;
use zen_link::frame::Behalf;
use zen_link::proof::{Binding, Proof, prove};
use zen_link::{Claim, Egress, Error, Ingester, Judge, Options, Session};
use zen_model::Secret;
use zen_model::reason::LinkRefusal;

use crate::support::{Listening, Mesh, PATIENCE, dialer, egress, ingester, listen};

fn key() -> Secret {
    Secret::new([7; 32])
}

/// An ingester that asks for a proof with [`key`].
async fn judging(mesh: &Mesh) -> Listening<Ingester> {
    let judge = Judge::new(|presented, hello| {
        let proof = Proof::parse(&hello.proof).ok_or(LinkRefusal::ProofMissing)?;
        let good = proof.verifies(&key(), &hello.instance, &presented.binding);
        good.then_some(()).ok_or(LinkRefusal::ProofWrong)
    });
    let side = Ingester { judge: Some(judge), ..ingester() };
    listen(mesh.server("ingester", "egress"), side, Options::default()).await
}

fn proven(prove: impl Fn(&str, &Binding) -> String + Send + Sync + 'static) -> Egress {
    Egress { claim: Claim::Proven(Arc::new(prove)), ..egress() }
}

async fn dial(mesh: &Mesh, listening: &Listening<Ingester>, side: Egress) -> Result<Session<Egress>, Error> {
    let dialer = dialer(listening.address, mesh.client("egress", "ingester"), side);
    timeout(PATIENCE, dialer.connect()).await.expect("in time")
}

#[tokio::test]
async fn a_proof_of_the_key_in_this_session_opens_it() {
    let mesh = Mesh::new();
    let mut listening = judging(&mesh).await;
    let near = dial(&mesh, &listening, proven(|instance, binding| prove("k-1", &key(), instance, binding))).await;
    let (near, far) = (near.expect("up"), listening.session().await);
    assert!(near.binding == far.binding, "both ends export the same");
    assert_eq!((&far.hello, far.hello.proof.is_empty()), (&near.hello, false));
}

/// Somebody who ends TLS between the two sees proofs. They are worth nothing in a session of his own.
#[tokio::test]
async fn a_proof_of_another_session_key_or_process_is_refused_and_counted() {
    let mesh = Mesh::new();
    let mut listening = judging(&mesh).await;
    let seen = Arc::new(Mutex::new(String::new()));
    let recorded = Arc::clone(&seen);
    let recording = proven(move |instance, binding| {
        let proof = prove("k-1", &key(), instance, binding);
        recorded.lock().expect("no panic").clone_from(&proof);
        proof
    });
    let _first = dial(&mesh, &listening, recording).await.expect("up");
    listening.session().await;
    let replayed = seen.lock().expect("no panic").clone();
    let cases = [
        (proven(move |_, _| replayed.clone()), LinkRefusal::ProofWrong),
        (proven(|instance, binding| prove("k-1", &Secret::new([8; 32]), instance, binding)), LinkRefusal::ProofWrong),
        (proven(|_, binding| prove("k-1", &key(), "another", binding)), LinkRefusal::ProofWrong),
        (proven(|_, _| "k=k-1".to_owned()), LinkRefusal::ProofMissing),
        (egress(), LinkRefusal::ProofMissing),
        (
            Egress { claim: Claim::Behalf(Behalf { tenant: "a".into(), cluster: "b".into(), version: 1 }), ..egress() },
            LinkRefusal::ProofMissing,
        ),
    ];
    for (side, due) in cases {
        let refused = dial(&mesh, &listening, side).await;
        assert!(matches!(&refused, Err(Error::Refused(reason)) if *reason == due), "{refused:?}");
    }
    assert!(listening.sessions.try_recv().is_err());
    crate::faults::counted(&listening.metrics, r#"zen_link_refused_total{outcome="ProofWrong"} 3"#).await;
    crate::faults::counted(&listening.metrics, r#"zen_link_refused_total{outcome="ProofMissing"} 3"#).await;
}
