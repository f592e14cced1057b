//! Writes signed content into a hash, piece by piece: a body is never copied to put text before it.

use std::borrow::Cow;

use aws_lc_rs::{constant_time, digest, hmac};

use crate::Request;
use crate::request::single;
use crate::signed_url::{Port, SignedUrl};
use crate::template::Part;

/// Takes the pieces of signed content one after another.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for hmac::Context {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Sink for digest::Context {
    fn put(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// For Ed25519, which needs the message in one piece.
impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// What the parts are filled from.
pub(crate) struct Content<'a> {
    pub(crate) parts: &'a [Part],
    pub(crate) request: &'a Request<'a>,
    pub(crate) url: SignedUrl<'a>,
    /// The timestamp as written; empty where the scheme has none.
    pub(crate) timestamp: &'a [u8],
    form: Vec<Field<'a>>,
}

/// A field of a form, decoded.
type Field<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A part that the request does not have.
#[derive(Debug)]
pub(crate) struct Missing;

impl<'a> Content<'a> {
    /// Checks that the request has everything that the parts name.
    pub(crate) fn new(
        parts: &'a [Part],
        request: &'a Request<'a>,
        url: SignedUrl<'a>,
        timestamp: &'a [u8],
    ) -> Result<Self, Missing> {
        let mut form = Vec::new();
        for part in parts {
            match part {
                Part::Header(name) => drop(single(request.headers, name).ok_or(Missing)?),
                Part::Form => form = form_fields(request, url)?,
                _ => {}
            }
        }
        Ok(Self { parts, request, url, timestamp, form })
    }

    pub(crate) fn write(&self, port: Port, sink: &mut impl Sink) {
        for part in self.parts {
            match part {
                Part::Text(text) => sink.put(text),
                Part::Timestamp => sink.put(self.timestamp),
                Part::Body => sink.put(self.request.body),
                Part::Url => self.url.pieces(port).iter().for_each(|piece| sink.put(piece.as_bytes())),
                Part::Header(name) => {
                    if let Some(value) = single(self.request.headers, name) {
                        sink.put(value.as_bytes());
                    }
                }
                Part::Form => {
                    for (name, value) in &self.form {
                        sink.put(name.as_bytes());
                        sink.put(value.as_bytes());
                    }
                }
            }
        }
    }
}

/// Twilio: the fields of a form sorted by name, then by value, a repeated pair once; any other body must be named by
/// its hash in the URL's `bodySHA256`, or it would not be covered by the signature at all.
/// Source: <https://www.twilio.com/docs/usage/security> and the `getExpectedTwilioSignature` of its libraries.
fn form_fields<'a>(request: &'a Request<'a>, url: SignedUrl<'a>) -> Result<Vec<Field<'a>>, Missing> {
    let content_type = request.headers.get(http::header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let form = b"application/x-www-form-urlencoded";
    if content_type.get(..form.len()).is_some_and(|start| start.eq_ignore_ascii_case(form)) {
        let mut fields: Vec<_> = form_urlencoded::parse(request.body).collect();
        fields.sort();
        fields.dedup();
        return Ok(fields);
    }
    let query = url.query().trim_start_matches('?');
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bodySHA256");
    match named {
        None if request.body.is_empty() => Ok(Vec::new()),
        None => Err(Missing),
        Some((_, named)) => {
            let mut hash = [0; 64];
            let actual = digest::digest(&digest::SHA256, request.body);
            hex::encode_to_slice(actual.as_ref(), &mut hash).map_err(|_| Missing)?;
            let named = named.to_ascii_lowercase();
            constant_time::verify_slices_are_equal(named.as_bytes(), &hash).map_err(|_| Missing)?;
            Ok(Vec::new())
        }
    }
}
