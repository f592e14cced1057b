//! The whole way on real pods: from a signed webhook outside the cluster to a private service.

use zen_e2e_node::{Cluster, Namespace, Source, Target};

use crate::stage::{SECRET, SOON, apply};

/// W-01, W-03, D-01, K-03: the whole way, and what must not get in.
#[tokio::test]
async fn a_signed_webhook_from_outside_reaches_a_private_service() {
    let cluster = Cluster::open().await.unwrap();
    let namespace = Namespace::new(&cluster, "deliver").await.unwrap();
    let target = Target::start(&cluster, &namespace.name, "ci", &[]).await.unwrap();
    let source = apply(&cluster, &namespace.name).await;
    let id = source.deliver("first", SOON).await.unwrap();
    let received = target.wait_for(1, SOON).await.unwrap();
    assert_eq!(received[0].headers["ce-id"], id);
    assert_eq!((received[0].path.as_str(), received[0].body.as_deref()), ("/hooks", Some("{\"delivery\":\"first\"}")));
    assert!(received[0].headers.contains_key("x-zen-signature"));

    let forger = Source::new(&cluster, &format!("/{}/github", namespace.name), "another secret").await.unwrap();
    assert_eq!(forger.send("forged").await.unwrap().status, 401);
    let nowhere = Source::new(&cluster, "/nobody/github", SECRET).await.unwrap();
    assert_eq!(nowhere.send("lost").await.unwrap().status, 404);
}
