use serde_json::json;
use zen_testkit::api_server::{ApiServer, Call, Reply};

use super::*;

const PATH: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

fn caller(user: &str) -> Caller {
    Caller {
        user: user.to_owned(),
        uid: None,
        groups: vec!["devs".to_owned()],
        extra: std::collections::BTreeMap::new(),
    }
}

fn action(namespace: &str) -> Action {
    Action {
        verb: "get",
        namespace: Some(namespace.to_owned()),
        resource: "deadletters",
        subresource: Some("payload"),
        name: Some("1-1".to_owned()),
    }
}

fn answer(status: &serde_json::Value) -> Reply {
    Reply::ok(
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {}, "status": status}),
    )
}

#[tokio::test(start_paused = true)]
async fn an_allowance_counts_for_this_caller_and_this_only_for_a_while() {
    let server = ApiServer::new();
    let reviewer = Reviewer::new(server.client());
    server.expect(Call::post(PATH), answer(&json!({"allowed": true})));
    reviewer.check(&caller("mary"), action("team-a")).await.expect("allowed");
    reviewer.check(&caller("mary"), action("team-a")).await.expect("still allowed");
    let asked = server.received();
    let body = &asked[0].body;
    assert_eq!(body["spec"]["user"], "mary");
    assert_eq!(body["spec"]["resourceAttributes"]["namespace"], "team-a");
    assert_eq!(body["spec"]["resourceAttributes"]["group"], GROUP);
    assert_eq!(body["spec"]["resourceAttributes"]["subresource"], "payload");

    // Another caller, another namespace: asked anew.
    server.expect(Call::post(PATH), answer(&json!({"allowed": false})));
    assert!(matches!(reviewer.check(&caller("eve"), action("team-a")).await, Err(Error::Forbidden(_))));
    server.expect(Call::post(PATH), answer(&json!({"allowed": false})));
    assert!(matches!(reviewer.check(&caller("mary"), action("team-b")).await, Err(Error::Forbidden(_))));
    // And so later.
    tokio::time::advance(FRESH).await;
    server.expect(Call::post(PATH), answer(&json!({"allowed": false})));
    assert!(matches!(reviewer.check(&caller("mary"), action("team-a")).await, Err(Error::Forbidden(_))));
    server.finish();
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_nothing_is_allowed() {
    let server = ApiServer::new();
    let reviewer = Reviewer::new(server.client());
    server.expect(Call::post(PATH), Reply::internal());
    assert!(matches!(reviewer.check(&caller("mary"), action("team-a")).await, Err(Error::Unavailable(_))));
    server.expect(Call::post(PATH), answer(&json!({"allowed": true, "denied": true})));
    assert!(matches!(reviewer.check(&caller("mary"), action("team-a")).await, Err(Error::Forbidden(_))));
    server.finish();
}

#[test]
fn a_refusal_names_everything() {
    let text = refusal(&caller("mary"), &action("team-a"));
    assert_eq!(
        text,
        r#"User "mary" cannot get resource "deadletters/payload" in API group "data.zen-mesh.io" in the namespace "team-a""#
    );
}
