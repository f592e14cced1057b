//! What holds for every plaintext and every text.

use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::sample::Index;
use proptest::test_runner::Config;
use proptest::{prop_assert, prop_assert_eq};
use zen_lock::{Identity, IdentityError, Keyring, Recipient, inspect, seal};
use zen_model::Secret;

proptest! {
    #![proptest_config(Config { cases: 32, ..Config::default() })]

    /// Z-01: each key that something was sealed to opens it, no other does, and twice is never the same text.
    #[test]
    fn each_recipient_opens_and_nobody_else(plaintext in vec(any::<u8>(), 0..2000), count in 1_usize..4) {
        let identities: Vec<_> = (0..count).map(|_| Identity::generate()).collect();
        let to: Vec<_> = identities.iter().map(Identity::recipient).collect();
        let secret = Secret::new(plaintext);
        let sealed = seal(&secret, &to).expect("seals");
        prop_assert_eq!(inspect(&sealed).expect("reads").plaintext, secret.expose().len());
        for identity in identities {
            let opened = Keyring::new(vec![identity]).open(&sealed).expect("opens");
            prop_assert!(opened.plaintext == secret);
        }
        prop_assert!(Keyring::new(vec![Identity::generate()]).open(&sealed).is_err());
        prop_assert!(seal(&secret, &to).expect("seals") != sealed);
    }

    /// No change of the text opens as something else than what was sealed.
    #[test]
    fn a_changed_text_never_opens_as_another(at in any::<Index>(), byte in 0x20_u8..0x7f) {
        let identity = Identity::generate();
        let secret = Secret::new("the same or nothing");
        let mut text = seal(&secret, &[identity.recipient()]).expect("seals").into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let text = String::from_utf8(text).expect("ASCII");
        if let Ok(opened) = Keyring::new(vec![identity]).open(&text) {
            prop_assert!(opened.plaintext == secret);
        }
    }

    /// What is written is read again.
    #[test]
    fn keys_survive_their_texts(count in 1_usize..5) {
        let identities: Vec<_> = (0..count).map(|_| Identity::generate()).collect();
        let created = "2026-01-02T03:04:05Z".parse().expect("a time");
        let files = identities.iter().map(|key| String::from_utf8(key.to_file(created).expose().to_vec()).expect("text"));
        let read = Identity::parse_file(&files.collect::<String>()).expect("reads");
        let public: Vec<_> = read.iter().map(Identity::recipient).collect();
        prop_assert_eq!(&public, &identities.iter().map(Identity::recipient).collect::<Vec<_>>());
        for key in public {
            prop_assert_eq!(&key.to_string().parse::<Recipient>().expect("reads"), &key);
        }
    }

    /// Any text is refused in words of ours.
    #[test]
    fn no_text_is_too_strange(text in ".{0,200}") {
        let refused: Result<Vec<Identity>, IdentityError> = Identity::parse_file(&text);
        prop_assert!(refused.is_err() || text.contains("AGE-SECRET-KEY-1"));
        prop_assert!(text.parse::<Recipient>().is_err());
        prop_assert!(inspect(&text).is_err());
        let begun = format!("-----BEGIN AGE ENCRYPTED FILE-----\n{text}");
        prop_assert!(inspect(&begun).is_err());
    }
}
