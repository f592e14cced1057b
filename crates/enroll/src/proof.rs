//! Proof of a request: HMAC-SHA256 over all that counts of it, with a key that both sides know and that is never sent.
//!
//! `X-Zen-Proof: v=1,t=<unix seconds>,n=<nonce>,k=<key id>,s=<base64url HMAC>`, over
//!
//! ```text
//! zen-proof-1 LF METHOD LF path LF t LF n LF k LF SHA-256 of the body, hex
//! ```
//!
//! No field may hold a line end, so that no two requests give one text. It protects the redemption of a bundle, where there is
//! no certificate yet, and beside mutual TLS every request of a member to the hub afterwards.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zen_model::{Secret, Timestamp};

/// The header's name, lower case.
pub const HEADER: &str = "x-zen-proof";
/// How far the clocks of two clusters may differ; also how long a proof is good.
pub const SKEW: Duration = Duration::from_mins(5);

const NONCE: usize = 16;

/// What is proven.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// In capitals.
    pub method: &'a str,
    /// With the query, as it is sent.
    pub path: &'a str,
    /// All of it.
    pub body: &'a [u8],
}

/// The header, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Unix seconds.
    time: u64,
    nonce: [u8; NONCE],
    key_id: String,
    signature: [u8; 32],
}

/// A header is not that of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof is malformed")]
pub struct Malformed;

impl Proof {
    /// Proves a request, with a fresh random nonce. `key_id` is 1 to 64 of A-Z, a-z, 0-9, `_`, `.` and `-`.
    ///
    /// # Panics
    /// When the operating system has no random numbers: then nothing may be proven.
    pub fn sign(request: &Request<'_>, key_id: &str, key: &Secret, now: Timestamp) -> Self {
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).expect("the operating system's random source works");
        Self::sign_with_nonce(request, key_id, key, now, nonce)
    }

    fn sign_with_nonce(request: &Request<'_>, key_id: &str, key: &Secret, now: Timestamp, nonce: [u8; NONCE]) -> Self {
        let mut proof = Self { time: now.as_secs(), nonce, key_id: key_id.to_owned(), signature: [0; 32] };
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let tag = hmac::sign(&key, proof.text(request).as_bytes());
        proof.signature.copy_from_slice(tag.as_ref());
        proof
    }

    /// The header's value.
    pub fn value(&self) -> String {
        let (nonce, signature) = (URL_SAFE_NO_PAD.encode(self.nonce), URL_SAFE_NO_PAD.encode(self.signature));
        format!("v=1,t={},n={nonce},k={},s={signature}", self.time, self.key_id)
    }

    /// Reads a header's value: in this order, each once, nothing else, one spelling.
    pub fn parse(value: &str) -> Result<Self, Malformed> {
        let mut fields = value.split(',');
        let mut field = |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(Malformed);
        let version = field("v=")?;
        let (time, nonce, key_id, signature) = (field("t=")?, field("n=")?, field("k=")?, field("s=")?);
        let parsed = Self {
            time: time.parse().map_err(|_| Malformed)?,
            nonce: decoded(nonce)?,
            key_id: key_id.to_owned(),
            signature: decoded(signature)?,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let is_id = (1..=64).contains(&key_id.len()) && key_id.bytes().all(allowed);
        // Leading zeros and unused bits would be other spellings of one proof.
        if version == "1" && is_id && parsed.value() == value { Ok(parsed) } else { Err(Malformed) }
    }

    /// Whether it was made with this key, over this request. Whether in time and for the first time is another question:
    /// [`Proof::is_timely`], [`crate::Replays`].
    #[must_use]
    pub fn proves(&self, request: &Request<'_>, key: &Secret) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        is_one_line(request) && hmac::verify(&key, self.text(request).as_bytes(), &self.signature).is_ok()
    }

    /// Whether the clocks agree.
    pub fn is_timely(&self, now: Timestamp) -> bool {
        self.at().abs_diff(now) <= SKEW
    }

    /// When it was made, as the sender's clock had it.
    pub fn at(&self) -> Timestamp {
        Timestamp::from_secs(self.time)
    }

    /// The key that it names.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What makes it another one than all others.
    pub fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    fn text(&self, request: &Request<'_>) -> String {
        let (nonce, body) = (URL_SAFE_NO_PAD.encode(self.nonce), hex::encode(digest(&SHA256, request.body).as_ref()));
        format!("zen-proof-1\n{}\n{}\n{}\n{nonce}\n{}\n{body}", request.method, request.path, self.time, self.key_id)
    }
}

fn is_one_line(request: &Request<'_>) -> bool {
    ![request.method, request.path].iter().any(|field| field.contains(['\n', '\r']))
}

fn decoded<const N: usize>(text: &str) -> Result<[u8; N], Malformed> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Malformed)?;
    bytes.try_into().map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn key() -> Secret {
        Secret::new([7; 32])
    }

    fn request() -> Request<'static> {
        Request { method: "POST", path: "/v1/enrollments/team-a/eu", body: b"{}" }
    }

    /// Computed apart from this code: a change here would part members and hub.
    #[test]
    fn the_form_is_what_it_was() {
        let proof = Proof::sign_with_nonce(&request(), "enroll", &key(), NOW, [1; NONCE]);
        assert_eq!(
            proof.value(),
            "v=1,t=1700000000,n=AQEBAQEBAQEBAQEBAQEBAQ,k=enroll,s=DD-itSYc1DwvCCNGqOmmP5lasj2cNq0dAiuSR3F3C1A"
        );
        assert_eq!(Proof::parse(&proof.value()), Ok(proof));
    }

    #[test]
    fn a_proof_is_of_one_request_one_key_and_one_time() {
        let proof = Proof::sign(&request(), "enroll", &key(), NOW);
        assert!(proof.proves(&request(), &key()));
        let other = |change: fn(&mut Request<'static>)| {
            let mut request = request();
            change(&mut request);
            request
        };
        for request in [
            other(|request| request.method = "PUT"),
            other(|request| request.path = "/v1/enrollments/team-a/us"),
            other(|request| request.path = "/v1/enrollments/team-a/eu?x"),
            other(|request| request.body = b"{} "),
            other(|request| request.body = b""),
        ] {
            assert!(!proof.proves(&request, &key()), "{request:?}");
        }
        assert!(!proof.proves(&request(), &Secret::new([8; 32])));
        for (at, timely) in [
            (NOW, true),
            (NOW.plus(SKEW), true),
            (NOW.plus(SKEW + Duration::from_millis(1)), false),
            (Timestamp(NOW.0 - 300_000), true),
            (Timestamp(NOW.0 - 300_001), false),
            (Timestamp(0), false),
        ] {
            assert_eq!(proof.is_timely(at), timely, "{at}");
        }
        assert_ne!(proof.nonce(), Proof::sign(&request(), "enroll", &key(), NOW).nonce());
    }

    #[test]
    fn fields_cannot_be_shifted_into_each_other() {
        let shifted = Request { method: "POST\n/v1/enrollments/team-a/eu", path: "", body: b"{}" };
        let proof = Proof::sign(&shifted, "enroll", &key(), NOW);
        assert!(!proof.proves(&shifted, &key()) && !proof.proves(&request(), &key()));
    }

    #[test]
    fn a_proof_has_one_spelling() {
        let good = Proof::sign_with_nonce(&request(), "enroll", &key(), NOW, [1; NONCE]).value();
        for bad in [
            String::new(),
            good.replace("v=1", "v=2"),
            good.replace("t=1", "t=01"),
            good.replace("t=1", "t=+1"),
            good.replace("t=1", "t=-1"),
            good.replace("k=enroll", "k="),
            good.replace("k=enroll", "k=en roll"),
            good.replace("k=enroll", &format!("k={}", "a".repeat(65))),
            good.replace("AQEBAQEBAQEBAQEBAQEBAQ", "AQEBAQEBAQEBAQEBAQEBAR"),
            good.replace("AQEBAQEBAQEBAQEBAQEBAQ", "AQEB"),
            format!("{good},x=1"),
            format!(" {good}"),
            good.replace(",n=", ", n="),
            good[..good.len() - 1].to_owned(),
        ] {
            assert_eq!(Proof::parse(&bad), Err(Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,120}") {
            if let Ok(proof) = Proof::parse(&text) {
                prop_assert_eq!(proof.value(), text);
            }
        }

        /// Any byte of the header that is changed makes it malformed or another proof, which proves nothing.
        #[test]
        fn every_change_of_the_header_is_seen(at in any::<prop::sample::Index>(), byte in 0x20..0x7f_u8) {
            let good = Proof::sign_with_nonce(&request(), "enroll", &key(), NOW, [1; NONCE]).value();
            let mut changed = good.clone().into_bytes();
            let at = at.index(changed.len());
            prop_assume!(changed[at] != byte);
            changed[at] = byte;
            let changed = String::from_utf8(changed).expect("ASCII");
            prop_assert!(!Proof::parse(&changed).is_ok_and(|proof| proof.proves(&request(), &key())), "{}", changed);
        }
    }
}
