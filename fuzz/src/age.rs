use std::io::Write as _;
use std::sync::LazyLock;

use zen_lock::{Identity, Keyring, OpenError, Recipient, Stanza, inspect};

static KEYS: LazyLock<Keyring> = LazyLock::new(|| Keyring::new(vec![Identity::generate()]));

/// A value of a ZenLock, as text and as the bytes beneath its armour; also as a key and as a file of keys.
///
/// Nothing may open: nothing is sealed to the key. What has a header tells a size that its bytes can hold.
///
/// # Panics
/// On what must never happen: that is the finding.
pub fn age(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    look_at(&text);
    look_at(&armored(data));
    let _ = Identity::parse_file(&text);
    if let Ok(key) = text.parse::<Recipient>() {
        assert_eq!(key.as_str(), text.trim());
        // What is taken for a public key can be sealed to.
        zen_lock::seal(&zen_model::Secret::new("x"), &[key]).expect("seals");
    }
}

fn look_at(text: &str) {
    let refused = KEYS.open(text).expect_err("nobody sealed it to this key");
    match inspect(text) {
        Ok(header) => {
            assert!(header.stanzas.contains(&Stanza::X25519) && header.plaintext < text.len());
            assert!(matches!(refused, OpenError::UnknownKey | OpenError::Malformed));
        }
        Err(error) => assert_eq!(error, refused),
    }
}

/// Fuzzers do not find base64 by chance.
fn armored(bytes: &[u8]) -> String {
    let format = age::armor::Format::AsciiArmor;
    let mut writer = age::armor::ArmoredWriter::wrap_output(Vec::new(), format).expect("writes to memory");
    writer.write_all(bytes).expect("writes to memory");
    String::from_utf8(writer.finish().expect("writes to memory")).expect("armour is ASCII")
}
