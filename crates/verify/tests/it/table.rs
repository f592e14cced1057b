//! Each way of proving oneself × each thing that can be wrong (W-03, W-05, W-06).

use zen_model::Refusal::{MalformedBody, Stale, Unauthenticated};
use zen_model::Timestamp;
use zen_verify::{Config, Verifier, presets};

use crate::fixture::{Delivery, NOW, TOLERANCE, accepts, config, rejects, ways};

#[test]
fn every_preset_has_a_way() {
    for preset in presets().iter().filter(|preset| preset.needs_secret()) {
        let tested = ways().iter().any(|way| way.signing(0).preset.name == preset.name);
        assert!(tested, "{} is in no table of cases", preset.name);
    }
}

#[test]
fn good() {
    for way in ways() {
        assert_eq!(accepts(&way.verifying(&[0]), &way.delivery(NOW)), 0, "{}", way.name);
        let verifier = Verifier::compile(way.verifying(&[0])).expect("compiles");
        assert_eq!(verifier.has_timestamp(), way.has_timestamp, "{}", way.name);
    }
}

#[test]
fn wrong_secret() {
    for way in ways() {
        rejects(&way.verifying(&[1]), &way.delivery(NOW), Unauthenticated);
    }
}

/// W-05: rotation. The status must name the secret that verified.
#[test]
fn second_secret() {
    for way in ways() {
        assert_eq!(accepts(&way.verifying(&[1, 0]), &way.delivery(NOW)), 1, "{}", way.name);
        assert_eq!(accepts(&way.verifying(&[0, 0]), &way.delivery(NOW)), 0, "{}", way.name);
    }
}

#[test]
fn changed_body() {
    for way in ways().into_iter().filter(|way| way.signs_body) {
        let delivery = way.delivery(NOW);
        let mut longer = delivery.body.to_vec();
        longer.push(b'1');
        let mut flipped = delivery.body.to_vec();
        flipped[2] ^= 1;
        for body in [longer, flipped, Vec::new()] {
            rejects(&way.verifying(&[0]), &delivery.clone().body(body), Unauthenticated);
        }
    }
}

#[test]
fn missing_header() {
    for way in ways() {
        let delivery = way.delivery(NOW);
        let bare = if way.carrier.is_empty() { delivery.at("/team-a/hook") } else { delivery.without(way.carrier) };
        rejects(&way.verifying(&[0]), &bare, Unauthenticated);
    }
}

/// Two fields of one name, even two equal ones: what is between the source and us might take the other.
#[test]
fn duplicate_header() {
    for way in ways() {
        let delivery = way.delivery(NOW);
        let twice = if way.carrier.is_empty() {
            let twice = format!("{}&key=correct+horse", delivery.path_and_query);
            delivery.at(&twice)
        } else {
            let value = delivery.text(way.carrier);
            delivery.and_header(way.carrier, &value)
        };
        rejects(&way.verifying(&[0]), &twice, Unauthenticated);
    }
    for name in ["x-slack-request-timestamp", "webhook-id", "webhook-timestamp", "x-timestamp", "x-tenant"] {
        let mut seen = false;
        for way in ways() {
            let delivery = way.delivery(NOW);
            if delivery.headers.contains_key(name) && way.carrier != "x-gitlab-token" {
                let value = delivery.text(name);
                rejects(&way.verifying(&[0]), &delivery.and_header(name, &value), Unauthenticated);
                seen = true;
            }
        }
        assert!(seen, "no scheme has {name}");
    }
}

#[test]
fn garbage() {
    let long = "a".repeat(20_000);
    let garbage = ["", " ", ",", "=", "v1=", "sha256=", "t=,v1=", "v1,", "zz", "0", "////", "v1,!!!!", "\u{e4}", &long];
    for way in ways().into_iter().filter(|way| !way.carrier.is_empty()) {
        let delivery = way.delivery(NOW);
        let good = delivery.text(way.carrier);
        let cut = [&good[1..], &good[..good.len() - 1], &format!("{good}0"), &format!("x{good}")].map(str::to_owned);
        for value in garbage.into_iter().map(str::to_owned).chain(cut) {
            rejects(&way.verifying(&[0]), &delivery.clone().header(way.carrier, value.as_bytes()), Unauthenticated);
        }
    }
}

/// W-06: the bound is inclusive, holds in both directions, and is told only to whom the signature was right.
#[test]
fn freshness() {
    let edge = TOLERANCE.as_secs() * 1000;
    let late = edge + 1000;
    for way in ways() {
        let config = way.verifying(&[0]);
        for at in [NOW.0 - edge, NOW.0 + edge] {
            accepts(&config, &way.delivery(Timestamp(at)));
        }
        for at in [NOW.0 - late, NOW.0 + late] {
            let delivery = way.delivery(Timestamp(at));
            if way.has_timestamp {
                rejects(&config, &delivery, Stale);
            } else {
                accepts(&config, &delivery);
            }
            rejects(&way.verifying(&[1]), &delivery, Unauthenticated);
        }
    }
}

#[test]
fn unsigned_timestamp_changes() {
    for (name, header) in
        [("slack", "x-slack-request-timestamp"), ("standard v1", "webhook-timestamp"), ("generic p256", "x-timestamp")]
    {
        let way = ways().into_iter().find(|way| way.name == name).expect("a way");
        for value in ["1700000001", "0", "", "now", "1e9", "-1", "99999999999999999999999"] {
            let delivery = way.delivery(NOW).header(header, value);
            rejects(&way.verifying(&[0]), &delivery, Unauthenticated);
        }
        rejects(&way.verifying(&[0]), &way.delivery(NOW).without(header), Unauthenticated);
    }
}

#[test]
fn several_signatures() {
    for way in ways() {
        let Some(separator) = way.separator else { continue };
        let (delivery, other) = (way.delivery(NOW), way.delivery_by(1, NOW));
        let (good, bad) = (delivery.text(way.carrier), other.text(way.carrier));
        // Stripe has one time for all of its signatures.
        let bad = bad.split_once(",v1=").map_or(bad.clone(), |(_, rest)| format!("v1={rest}"));
        let one = way.verifying(&[0]);
        for value in
            [format!("{good}{separator}{bad}"), format!("{bad}{separator}{good}"), format!("v0=x{separator}{good}")]
        {
            assert_eq!(accepts(&one, &delivery.clone().header(way.carrier, value)), 0, "{}", way.name);
        }
        rejects(
            &one,
            &delivery.clone().header(way.carrier, [bad.as_str(); 2].join(&separator.to_string())),
            Unauthenticated,
        );
        let many = format!("{good}{}", format!("{separator}{bad}").repeat(10));
        rejects(&one, &delivery.clone().header(way.carrier, many), Unauthenticated);
    }
}

#[test]
fn a_list_is_no_single_signature() {
    let way = ways().into_iter().find(|way| way.name == "github").expect("a way");
    let delivery = way.delivery(NOW);
    let good = delivery.text(way.carrier);
    rejects(&way.verifying(&[0]), &delivery.header(way.carrier, format!("{good},{good}")), Unauthenticated);
}

/// W-03: GitHub's older header proves nothing, whatever it holds.
#[test]
fn github_sha1_alone_is_refused() {
    let config = config("github", &["It's a Secret to Everybody"]);
    let body = "Hello, World!";
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"It's a Secret to Everybody");
    let sha1 = hex::encode(aws_lc_rs::hmac::sign(&key, body.as_bytes()));
    rejects(&config, &Delivery::new(body).header("x-hub-signature", format!("sha1={sha1}")), Unauthenticated);
    let as_256 = Delivery::new(body).header("x-hub-signature-256", format!("sha1={sha1}"));
    rejects(&config, &as_256, Unauthenticated);
    let verifier = Verifier::compile(config).expect("compiles");
    let names: Vec<_> = verifier.secret_headers().iter().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-hub-signature", "x-hub-signature-256"]);
}

#[test]
fn stripe_has_one_time() {
    let config = config("stripe", &["whsec_x"]);
    let delivery = Delivery::signed(&config, None, NOW);
    let good = delivery.text("stripe-signature");
    for value in [format!("t=1,{good}"), format!("{good},t=1700000000"), good.replace("t=1700000000,", "")] {
        rejects(&config, &delivery.clone().header("stripe-signature", value), Unauthenticated);
    }
    assert_eq!(accepts(&config, &delivery.clone().header("stripe-signature", good.replace(',', ", "))), 0);
}

#[test]
fn svix_headers() {
    let config = config("standard-webhooks", &["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]);
    let signed = Delivery::signed(&config, None, NOW);
    let mut svix = signed.clone();
    for name in ["id", "timestamp", "signature"] {
        let value = signed.text(&format!("webhook-{name}"));
        svix = svix.without(&format!("webhook-{name}")).header(&format!("svix-{name}"), value);
    }
    assert_eq!(accepts(&config, &svix), 0);
    // Of two families one decides; there is no falling back to the other.
    rejects(&config, &svix.clone().header("webhook-signature", "v1,AAAA"), Unauthenticated);
    let mixed = svix.clone().header("webhook-id", svix.text("svix-id")).without("svix-id");
    rejects(&config, &mixed, Unauthenticated);
}

#[test]
fn linear_needs_a_signed_time() {
    let config = config("linear", &["s"]);
    for body in [r#"{"action":"create"}"#, "{", "[]", r#"{"webhookTimestamp":"soon"}"#, r#"{"webhookTimestamp":-1}"#] {
        let delivery = Delivery::signed(&config, Some(body.into()), NOW);
        rejects(&config, &delivery, MalformedBody);
        rejects(&config, &delivery.header("linear-signature", "00".repeat(32)), Unauthenticated);
    }
}

#[test]
fn twilio_covers_every_body() {
    let config = config("twilio", &["token"]);
    let json = Delivery::signed(&config, Some(r#"{"a":1}"#.into()), NOW);
    assert!(json.path_and_query.contains("?bodySHA256="), "{}", json.path_and_query);
    rejects(&config, &json.clone().at("/team-a/hook"), Unauthenticated);
    // A signature over the URL alone, as of a call without body, must not carry a body that nothing covers.
    let bare = Delivery::signed(&config, Some("".into()), NOW);
    assert_eq!(accepts(&config, &bare), 0);
    for content_type in ["application/json", "text/plain", "multipart/form-data; boundary=x"] {
        let smuggled = bare.clone().header("content-type", content_type).body("{}");
        rejects(&config, &smuggled, Unauthenticated);
    }
}

#[test]
fn twilio_public_url_and_ports() {
    let twilio = config("twilio", &["token"]);
    let signed = Delivery::signed(&twilio, None, NOW);
    let behind = |host: &str, path: &str| Delivery { host: host.into(), ..signed.clone() }.at(path);
    assert_eq!(accepts(&twilio, &behind("hooks.example.com:443", "/team-a/hook")), 0);
    assert_eq!(accepts(&twilio, &behind("hooks.example.com:8443", "/team-a/hook")), 0);
    rejects(&twilio, &behind("ingester.zen-mesh.svc", "/team-a/hook"), Unauthenticated);
    rejects(&twilio, &behind("hooks.example.com", "/team-a/hook?x=1"), Unauthenticated);
    let public = Config { public_url: Some("https://hooks.example.com/team-a/hook".into()), ..twilio };
    assert_eq!(accepts(&public, &behind("ingester.zen-mesh.svc", "/rewritten")), 0);
    rejects(&public, &behind("ingester.zen-mesh.svc", "/rewritten?x=1"), Unauthenticated);
    let json = Delivery::signed(&public, Some("{}".into()), NOW);
    let (_, query) = json.path_and_query.split_once('?').expect("a query");
    let rewritten = format!("/rewritten?{query}");
    assert_eq!(accepts(&public, &json.at(&rewritten)), 0);
}

#[test]
fn tokens_are_compared_whole() {
    let bearer = config("bearer", &["secret"]);
    for (value, good) in [
        ("Bearer secret", true),
        ("bearer secret", true),
        ("Bearer  secret", true),
        ("Bearer secre", false),
        ("Bearer secret2", false),
        ("Bearersecret", false),
        ("Bearer", false),
        ("Basic secret", false),
        ("secret", false),
    ] {
        let delivery = Delivery::new("{}").header("authorization", value);
        if good {
            accepts(&bearer, &delivery);
        } else {
            rejects(&bearer, &delivery, Unauthenticated);
        }
    }
    // RFC 7617 section 2: "Aladdin" and "open sesame".
    let basic = config("basic", &["Aladdin:open sesame"]);
    let delivery = Delivery::new("").header("authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(accepts(&basic, &delivery), 0);
}

#[test]
fn none_takes_anything() {
    assert_eq!(accepts(&config("none", &[]), &Delivery::new("anything")), 0);
}
