//! What `zen send` and the demo post: small payloads of our own in the shape of each provider's. Placeholders are
//! filled for each request, so that no two are the same event: `$UUID`, `$HEX` (32 hexadecimal digits), `$COMMIT`
//! (the 40 of a Git commit), `$N` (the ordinal), `$SECONDS`, `$MILLIS` and `$TIME` (RFC 3339).

/// Headers and body of a sample, without what the signature adds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampleRow {
    pub(crate) content_type: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) body: &'static str,
}

const JSON: &str = "application/json";

pub(super) const GITHUB: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[
        ("user-agent", "GitHub-Hookshot/044aadd"),
        ("x-github-event", "push"),
        ("x-github-delivery", "$UUID"),
        ("x-github-hook-id", "468231"),
        ("x-github-hook-installation-target-id", "79929171"),
        ("x-github-hook-installation-target-type", "repository"),
    ],
    body: r#"{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"$COMMIT","repository":{"id":79929171,"name":"shop","full_name":"acme/shop","private":true,"html_url":"https://github.com/acme/shop"},"pusher":{"name":"ada"},"head_commit":{"id":"$COMMIT","message":"Round prices down","timestamp":"$TIME"}}"#,
};

pub(super) const GITLAB: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[
        ("user-agent", "GitLab/18.5.0"),
        ("x-gitlab-event", "Push Hook"),
        ("x-gitlab-event-uuid", "$UUID"),
        ("x-gitlab-webhook-uuid", "$UUID"),
        ("idempotency-key", "$UUID"),
        ("x-gitlab-instance", "https://gitlab.com"),
    ],
    body: r#"{"object_kind":"push","event_name":"push","ref":"refs/heads/main","checkout_sha":"$COMMIT","user_username":"ada","project":{"id":15,"name":"shop","path_with_namespace":"acme/shop"},"commits":[{"id":"$COMMIT","message":"Round prices down","timestamp":"$TIME"}],"total_commits_count":1}"#,
};

pub(super) const STRIPE: SampleRow = SampleRow {
    content_type: "application/json; charset=utf-8",
    headers: &[("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")],
    body: r#"{"id":"evt_$HEX","object":"event","api_version":"2025-09-30.clover","created":$SECONDS,"type":"invoice.paid","livemode":false,"pending_webhooks":1,"data":{"object":{"id":"in_$HEX","object":"invoice","amount_paid":4200,"currency":"eur","number":"ACME-$N","status":"paid"}}}"#,
};

pub(super) const SLACK: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[("user-agent", "Slackbot 1.0 (+https://api.slack.com/robots)")],
    body: r#"{"type":"event_callback","team_id":"T0ACME","api_app_id":"A0SHOP","event_id":"Ev$HEX","event_time":$SECONDS,"event":{"type":"app_mention","user":"U0ADA","text":"<@U0SHOP> order $N?","ts":"$SECONDS.000100","channel":"C0ORDERS"}}"#,
};

pub(super) const SHOPIFY: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[
        ("user-agent", "Shopify-Captain-Hook"),
        ("x-shopify-topic", "orders/create"),
        ("x-shopify-shop-domain", "acme.myshopify.com"),
        ("x-shopify-api-version", "2025-10"),
        ("x-shopify-webhook-id", "$UUID"),
        ("x-shopify-event-id", "$UUID"),
        ("x-shopify-triggered-at", "$TIME"),
    ],
    body: r##"{"id":$MILLIS,"name":"#100$N","created_at":"$TIME","currency":"EUR","total_price":"42.00","email":"ada@example.com","line_items":[{"sku":"TEAPOT","quantity":1,"price":"42.00"}]}"##,
};

pub(super) const TWILIO: SampleRow = SampleRow {
    content_type: "application/x-www-form-urlencoded; charset=UTF-8",
    headers: &[("user-agent", "TwilioProxy/1.1"), ("i-twilio-idempotency-token", "$UUID")],
    body: "ToCountry=DE&MessageSid=SM$HEX&AccountSid=AC00000000000000000000000000000000&From=%2B4915550000001\
           &To=%2B4915550000002&Body=Where+is+order+$N%3F&NumMedia=0&SmsStatus=received&ApiVersion=2010-04-01",
};

pub(super) const STANDARD_WEBHOOKS: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[("webhook-id", "msg_$HEX")],
    body: r#"{"type":"invoice.paid","timestamp":"$TIME","data":{"number":"ACME-$N","amount":4200,"currency":"EUR"}}"#,
};

pub(super) const BITBUCKET: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[
        ("user-agent", "Bitbucket-Webhooks/2.0"),
        ("x-event-key", "repo:push"),
        ("x-request-uuid", "$UUID"),
        ("x-hook-uuid", "5a0f1c4e-7f0b-4a54-9d3a-0d6a1f3c2b10"),
        ("x-attempt-number", "1"),
    ],
    body: r#"{"actor":{"display_name":"Ada"},"repository":{"full_name":"acme/shop","is_private":true},"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"$COMMIT","date":"$TIME"}}}]}}"#,
};

pub(super) const PAGERDUTY: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[("user-agent", "PagerDuty-Webhook/V3.0"), ("x-webhook-id", "PACME01")],
    body: r#"{"event":{"id":"01$HEX","event_type":"incident.triggered","resource_type":"incident","occurred_at":"$TIME","data":{"id":"P$N","type":"incident","number":$N,"status":"triggered","title":"Shop answers slowly","urgency":"high","service":{"id":"PSHOP","summary":"Shop"}}}}"#,
};

pub(super) const LINEAR: SampleRow = SampleRow {
    content_type: "application/json; charset=utf-8",
    headers: &[
        ("user-agent", "Linear-Webhook"),
        ("linear-delivery", "$UUID"),
        ("linear-event", "Issue"),
        ("linear-timestamp", "$MILLIS"),
    ],
    body: r#"{"action":"create","type":"Issue","createdAt":"$TIME","data":{"id":"$UUID","identifier":"SHOP-$N","title":"Round prices down","priority":2},"organizationId":"5f0e6a52-3f5c-4f6f-8a39-0a2b6f1f7d11","webhookTimestamp":$MILLIS,"webhookId":"7c1f0a6e-8a35-4f0d-9d0a-6d1f2b3c4d5e"}"#,
};

pub(super) const OTHER: SampleRow = SampleRow {
    content_type: JSON,
    headers: &[],
    body: r#"{"id":"$UUID","type":"order.created","time":"$TIME","order":{"number":$N,"total":"42.00","currency":"EUR"}}"#,
};
