//! Frames to bytes and back: prost as `tonic-prost` does it, with exact buffers, counts and a typed refusal.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::convert::Invalid;
use crate::frame::{FromEgress, FromIngester, Settled};
use crate::metrics::Traffic;

/// A message that travels as one frame.
pub trait Frame: Message + Default + Send + Sync + 'static {
    /// Makes a frame ready that was just read: refuses what cannot be, and lets go of the buffer that it was read into.
    fn accept(&mut self) -> Result<(), Invalid>;
}

impl Frame for FromEgress {
    /// A settlement that says nothing sensible must end the session, before any of its neighbours is believed. The
    /// buffer stays: settlements are short-lived, and their responses are most of what it holds.
    fn accept(&mut self) -> Result<(), Invalid> {
        self.settled.iter().try_for_each(Settled::check)
    }
}

impl Frame for FromIngester {
    /// Records point into the frame. One that waits for a slow target would keep a whole frame of others in memory, so
    /// that a bound on leases would bound nothing: each gets memory of its own. A record that is the frame stays.
    fn accept(&mut self) -> Result<(), Invalid> {
        if self.leases.len() > 1 {
            for lease in &mut self.leases {
                lease.record = Bytes::copy_from_slice(&lease.record);
            }
        }
        Ok(())
    }
}

/// Codec of one session's side.
#[derive(Debug)]
pub(crate) struct FrameCodec<S, R> {
    pub(crate) sent: Traffic,
    pub(crate) received: Traffic,
    frames: PhantomData<fn(S) -> R>,
}

impl<S, R> FrameCodec<S, R> {
    pub(crate) fn new(sent: Traffic, received: Traffic) -> Self {
        Self { sent, received, frames: PhantomData }
    }
}

impl<S: Frame, R: Frame> Codec for FrameCodec<S, R> {
    type Encode = S;
    type Decode = R;
    type Encoder = FrameEncoder<S>;
    type Decoder = FrameDecoder<R>;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder { inner: ProstEncoder::default(), sent: self.sent.clone() }
    }

    fn decoder(&mut self) -> Self::Decoder {
        FrameDecoder { inner: ProstDecoder::default(), received: self.received.clone() }
    }
}

#[derive(Debug)]
pub(crate) struct FrameEncoder<S> {
    inner: ProstEncoder<S>,
    sent: Traffic,
}

impl<S: Frame> Encoder for FrameEncoder<S> {
    type Item = S;
    type Error = Status;

    fn encode(&mut self, frame: S, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        let length = frame.encoded_len();
        // In one piece: growing a megabyte by doubling would copy it twice.
        buffer.reserve(length);
        self.sent.frame(length);
        self.inner.encode(frame, buffer)
    }
}

#[derive(Debug)]
pub(crate) struct FrameDecoder<R> {
    inner: ProstDecoder<R>,
    received: Traffic,
}

impl<R: Frame> Decoder for FrameDecoder<R> {
    type Item = R;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<R>, Status> {
        self.received.frame(buffer.remaining());
        // `DataLoss` marks our own refusal; see `Error::of_status`.
        let mut frame = self.inner.decode(buffer).map_err(|status| Status::data_loss(status.message()))?;
        if let Some(frame) = &mut frame {
            frame.accept().map_err(|invalid| Status::data_loss(invalid.to_string()))?;
        }
        Ok(frame)
    }
}
