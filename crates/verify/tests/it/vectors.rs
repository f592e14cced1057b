//! Vectors that the providers publish. What has no published vector is checked against the provider's SDK in
//! `oracle.rs`.

use zen_model::Refusal::{Stale, Unauthenticated};
use zen_model::Timestamp;
use zen_verify::Verifier;

use crate::fixture::{Delivery, TOLERANCE, accepts, config, rejects};

/// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation>
#[test]
fn github() {
    let delivery = Delivery::new("Hello, World!")
        .header("x-hub-signature-256", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
    assert_eq!(accepts(&config("github", &["It's a Secret to Everybody"]), &delivery), 0);
    rejects(&config("github", &["It's a secret to everybody"]), &delivery, Unauthenticated);
}

/// Atlassian publishes one vector for its webhooks' `X-Hub-Signature`:
/// <https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/>
#[test]
fn bitbucket() {
    let delivery = Delivery::new("Hello World!")
        .header("x-hub-signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9");
    assert_eq!(accepts(&config("bitbucket", &["It's a Secret to Everybody"]), &delivery), 0);
    rejects(&config("bitbucket", &["It's a Secret to Everybody"]), &delivery.body("Hello World"), Unauthenticated);
}

/// <https://docs.slack.dev/authentication/verifying-requests-from-slack/> (the slash command of its walk-through)
#[test]
fn slack() {
    let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V\
                &channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=\
                &response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN\
                &trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let delivery = Delivery::new(body)
        .header("x-slack-request-timestamp", "1531420618")
        .header("x-slack-signature", "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
    let config = config("slack", &["8f742231b10e8888abcd99yyyzzz85a5"]);
    let verifier = Verifier::compile(config.clone()).expect("compiles");
    let then = Timestamp::from_secs(1_531_420_618);
    assert_eq!(delivery.verify(&verifier, then.plus(TOLERANCE)), Ok(0));
    rejects(&config, &delivery, Stale);
}

/// <https://www.twilio.com/docs/usage/security#validating-signatures-from-twilio>: the call to `myapp.php` of the page.
#[test]
fn twilio() {
    let delivery = Delivery::new(
        "Digits=1234&To=%2B18005551212&From=%2B12349013030&Caller=%2B12349013030&CallSid=CA1234567890ABCDE",
    )
    .header("content-type", "application/x-www-form-urlencoded")
    .header("x-twilio-signature", "0/KCTR6DLpKmkAf8muzZqo1nDgQ=")
    .at("/myapp.php?foo=1&bar=2");
    let delivery = Delivery { host: "mycompany.com".into(), ..delivery };
    assert_eq!(accepts(&config("twilio", &["12345"]), &delivery), 0);
    rejects(&config("twilio", &["12346"]), &delivery, Unauthenticated);
}

/// The specification's example of a signature and the one of its libraries' tests:
/// <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>
#[test]
fn standard_webhooks() {
    let delivery = Delivery::new(r#"{"test": 2432232314}"#)
        .header("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek")
        .header("webhook-timestamp", "1614265330")
        .header("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    let config = config("standard-webhooks", &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let verifier = Verifier::compile(config.clone()).expect("compiles");
    assert_eq!(delivery.verify(&verifier, Timestamp::from_secs(1_614_265_330)), Ok(0));
    rejects(&config, &delivery, Stale);
}

/// PagerDuty's own library checks itself with this event of its documentation:
/// <https://developer.pagerduty.com/docs/verifying-webhook-signatures>, go-pagerduty `webhookv3`.
#[test]
fn pagerduty() {
    let secret = "lDQHScfUeXUKaQRNF+8XIiDKZ7XX3itBAYzwU0TARw8lJqRnkKl2iB1anSb0Z+IK";
    let signature = "v1=0c0b9495b893a39e70d1fea2fe11fbe0a825f88b9f67846f6cc07dd2bc5476cd";
    let body = include_str!("../vectors/pagerduty.json").trim_end();
    let config = config("pagerduty", &[secret]);
    let delivery = Delivery::new(body).header("x-pagerduty-signature", signature);
    assert_eq!(accepts(&config, &delivery), 0);
    let other = "v1=7020c8a7ec668a9b7012bc3dd82e483394b038f4230acc6785efbf2a7d8bcaf5";
    rejects(&config, &delivery.clone().header("x-pagerduty-signature", other), Unauthenticated);
    assert_eq!(accepts(&config, &delivery.header("x-pagerduty-signature", format!("{other},{signature}"))), 0);
}

/// GitLab compares nothing: the token is sent as it was entered.
/// <https://docs.gitlab.com/user/project/integrations/webhooks/>
#[test]
fn gitlab() {
    let delivery = Delivery::new("{}").header("x-gitlab-token", "my token");
    assert_eq!(accepts(&config("gitlab", &["my token"]), &delivery), 0);
    rejects(&config("gitlab", &["my toke"]), &delivery, Unauthenticated);
}
