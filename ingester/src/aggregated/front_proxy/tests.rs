use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;

/// A CA, and a leaf of it with this common name.
fn issued(common_name: &str) -> (String, CertificateDer<'static>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("generates");
    let ca = params.self_signed(&key).expect("signs");
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let leaf = params.signed_by(&KeyPair::generate().expect("generates"), &issuer).expect("signs");
    (ca.pem(), leaf.der().clone())
}

fn data(ca: &str, names: &str) -> BTreeMap<String, String> {
    [
        ("requestheader-client-ca-file", ca),
        ("requestheader-allowed-names", names),
        ("requestheader-username-headers", r#"["X-Remote-User"]"#),
        ("requestheader-group-headers", r#"["X-Remote-Group"]"#),
        ("requestheader-extra-headers-prefix", r#"["X-Remote-Extra-"]"#),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, http::HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn the_caller_stands_in_the_headers() {
    let (ca, leaf) = issued("front-proxy");
    let proxy = FrontProxy::default();
    proxy.configure(&data(&ca, r#"["front-proxy"]"#)).expect("configures");
    let lines = headers(&[
        ("x-remote-user", "mary"),
        ("x-remote-group", "devs"),
        ("x-remote-group", "system:authenticated"),
        ("x-remote-extra-scopes", "a"),
        ("x-remote-extra-example.com%2fproject", "shop"),
    ]);
    let caller = proxy.caller(std::slice::from_ref(&leaf), &lines).expect("believed");
    assert_eq!((caller.user.as_str(), caller.groups), ("mary", vec!["devs".into(), "system:authenticated".into()]));
    let extra =
        [("example.com/project".to_owned(), vec!["shop".to_owned()]), ("scopes".to_owned(), vec!["a".to_owned()])];
    assert_eq!(caller.extra, extra.into());
}

/// C-02: everything that must not be believed.
#[test]
fn strangers_are_not_believed() {
    let (ca, leaf) = issued("front-proxy");
    let named = headers(&[("x-remote-user", "mary")]);
    let proxy = FrontProxy::default();
    assert!(proxy.caller(std::slice::from_ref(&leaf), &named).is_err(), "nothing is known yet");
    assert!(proxy.verify_client_cert(&leaf, &[], UnixTime::now()).is_err());

    proxy.configure(&data(&ca, r#"["front-proxy"]"#)).expect("configures");
    assert!(proxy.verify_client_cert(&leaf, &[], UnixTime::now()).is_ok());
    assert!(proxy.caller(&[], &named).is_err(), "no certificate");
    assert!(proxy.caller(std::slice::from_ref(&leaf), &HeaderMap::new()).is_err(), "no user");
    assert!(proxy.caller(std::slice::from_ref(&leaf), &headers(&[("x-remote-user", "")])).is_err(), "an empty user");

    let (_, foreign) = issued("front-proxy");
    assert!(proxy.verify_client_cert(&foreign, &[], UnixTime::now()).is_err(), "of another CA");
    assert!(proxy.caller(std::slice::from_ref(&foreign), &named).is_err(), "of another CA");
    let (other, _) = issued("front-proxy");
    proxy.configure(&data(&other, r#"["front-proxy"]"#)).expect("configures");
    assert!(
        proxy.caller(std::slice::from_ref(&leaf), &named).is_err(),
        "a connection from before the CA was exchanged"
    );

    proxy.configure(&data(&ca, r#"["another"]"#)).expect("configures");
    assert!(proxy.caller(std::slice::from_ref(&leaf), &named).is_err(), "another name");
    proxy.configure(&data(&ca, "[]")).expect("configures");
    assert!(proxy.caller(std::slice::from_ref(&leaf), &named).is_ok(), "any name");
}

#[test]
fn what_cannot_be_read_changes_nothing() {
    let (ca, leaf) = issued("front-proxy");
    let proxy = FrontProxy::default();
    proxy.configure(&data(&ca, "[]")).expect("configures");
    let mut bad = data(&ca, "[]");
    for (key, value) in [
        ("requestheader-client-ca-file", "no PEM"),
        ("requestheader-allowed-names", "front-proxy"),
        ("requestheader-username-headers", "[]"),
        ("requestheader-username-headers", r#"["a b"]"#),
    ] {
        let before = bad.insert(key.to_owned(), value.to_owned()).expect("there");
        assert!(proxy.configure(&bad).is_err(), "{key}: {value}");
        bad.insert(key.to_owned(), before);
    }
    assert!(proxy.configure(&BTreeMap::new()).is_err());
    assert!(proxy.caller(std::slice::from_ref(&leaf), &headers(&[("x-remote-user", "mary")])).is_ok());
}
