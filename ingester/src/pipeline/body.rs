//! Reads a body: within the Webhook's limit, the process's budget, and a least rate (W-10, W-15, W-16).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};
use zen_model::Refusal;

use super::answer::Refused;
use crate::budget::Share;
use crate::limits::Limits;

/// What a body of unknown length takes from the budget at a time.
const STEP: usize = 64 * 1024;
/// A refused request's body of at most this length is read off, so that the connection can stay.
const SMALL: u64 = 64 * 1024;
/// How long reading it off may take.
const SMALL_TIME: Duration = Duration::from_millis(500);

/// Reads the whole body. One chunk is handed on as it came; nothing is copied.
pub(crate) async fn read<B>(body: &mut B, limit: usize, share: &mut Share, limits: &Limits) -> Result<Bytes, Refused>
where
    B: Body<Data = Bytes> + Unpin,
{
    let declared = body.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if let Some(length) = declared
        && !share.grow(length)
    {
        return Err(Refusal::Overloaded.into());
    }
    let began = Instant::now();
    let mut first = Bytes::new();
    let mut rest: Option<BytesMut> = None;
    let mut received = 0;
    while !body.is_end_stream() {
        let frame = match timeout_at(began + patience(received, limits), body.frame()).await {
            Err(_) => return Err(Refusal::RequestTimeout.into()),
            // The client went away or broke the framing: it hears this only in the second case.
            Ok(Some(Err(_))) => return Err(Refusal::BadRequest.into()),
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
        };
        // Trailers are not part of the body and not kept.
        let Ok(chunk) = frame.into_data() else { continue };
        received += chunk.len();
        if received > limit {
            return Err(Refused::body_too_large(limit));
        }
        if !share.cover(received, STEP) {
            return Err(Refusal::Overloaded.into());
        }
        match &mut rest {
            Some(rest) => rest.extend_from_slice(&chunk),
            None if first.is_empty() => first = chunk,
            None => {
                let mut whole = BytesMut::with_capacity(declared.unwrap_or(0).max(received));
                whole.extend_from_slice(&first);
                whole.extend_from_slice(&chunk);
                rest = Some(whole);
            }
        }
    }
    Ok(rest.map_or(first, BytesMut::freeze))
}

/// How long after its beginning a body may be silent that has brought so many bytes.
fn patience(received: usize, limits: &Limits) -> Duration {
    let earned = Duration::from_secs((received / limits.body_min_rate.max(1)) as u64);
    (limits.body_grace + earned).min(limits.body_timeout)
}

/// Gets rid of the body of a refused request. True: it was read to its end and the connection may stay.
pub(crate) async fn discard<B>(body: &mut B, expects_continue: bool) -> bool
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.is_end_stream() {
        return true;
    }
    // Reading would tell a client that waits for `100 Continue` to go on.
    if expects_continue || body.size_hint().exact().is_none_or(|length| length > SMALL) {
        return false;
    }
    let deadline = Instant::now() + SMALL_TIME;
    while !body.is_end_stream() {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(_))) => {}
            Ok(None) => return true,
            _ => return false,
        }
    }
    true
}

/// The lingering close of one HTTP/2 stream: reads on after the answer until the client is done, silent, or over the
/// bounds. Dropping the body at once would reset the stream, and some clients then drop the answer they have got.
pub(crate) async fn linger<B>(mut body: B, limits: Limits)
where
    B: Body<Data = Bytes> + Unpin,
{
    let deadline = Instant::now() + limits.linger_timeout;
    let mut left = limits.linger_bytes;
    while left > 0 {
        match timeout_at(deadline.min(Instant::now() + limits.linger_idle), body.frame()).await {
            Ok(Some(Ok(frame))) => {
                left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
            }
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_earned_and_ends() {
        let limits = Limits::default();
        assert_eq!(patience(0, &limits), limits.body_grace);
        assert_eq!(patience(limits.body_min_rate * 5, &limits), limits.body_grace + Duration::from_secs(5));
        assert_eq!(patience(usize::MAX, &limits), limits.body_timeout);
    }
}
