//! Batches that a client sends: Flight messages into Arrow, guarded.
//!
//! A few hundred bytes of Arrow can claim to unpack to terabytes, and a decoder that believes them asks the allocator, which ends the
//! process. So the header of a message is judged before anything of it is decoded:
//!
//! | bound | against |
//! |---|---|
//! | [`UNPACKED_BYTES_MAX`] | buffers that claim to be larger than memory |
//! | [`ROWS_MAX`] | rows that take no bytes, such as nulls |
//! | only zstd | LZ4, whose decoder does not stop at the claimed size |
//! | buffers inside the body | slices beyond it, which panic |
//!
//! What is left of wrong messages is found by Arrow's own validation; where that panics, the message is refused.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{CompressionType, Endianness, Message, MessageHeader, root_as_message};
use arrow_flight::FlightData;
use bytes::Bytes;
use futures::stream::Fuse;
use futures::{FutureExt, Stream, StreamExt};
use tonic::Status;

use super::error::FlightError;
use crate::error::{Error, ErrorKind, Result};

/// Bytes that the buffers of one message may unpack to.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// Rows of one message, and of each list in it.
const ROWS_MAX: i64 = 16 << 20;

/// What the begin of a body is a multiple of; the buffers in it are at multiples of 8.
const BODY_ALIGNMENT: usize = 16;

/// Bytes that stand before a compressed buffer: its length when it is unpacked.
const LENGTH_PREFIX_BYTES: usize = 8;

/// Messages up to this size are decoded where they are, unless they are compressed: it takes less than handing them to another thread.
const DECODE_HERE_BYTES_MAX: usize = 64 * 1024;

/// A batch, and what the client sent along with it.
pub(super) struct Received {
    pub(super) batch: RecordBatch,
    pub(super) app_metadata: Bytes,
}

/// The batches of one stream of messages.
pub(super) struct Incoming<S> {
    /// A message that came and is not decoded yet.
    held: Option<FlightData>,
    messages: Fuse<S>,
    /// `None` while a message is decoded, and for good if that was cut off.
    decoder: Option<Decoder>,
}

impl<S: Stream<Item = Result<FlightData, Status>> + Unpin> Incoming<S> {
    /// The batches of `first`, which also brought the descriptor, and of what follows it.
    pub(super) fn new(first: FlightData, messages: S) -> Self {
        Self { held: Some(first), messages: messages.fuse(), decoder: Some(Decoder::default()) }
    }

    /// The columns, once they are known: after the first batch at the latest.
    pub(super) fn schema(&self) -> Option<SchemaRef> {
        self.decoder.as_ref().and_then(|decoder| decoder.schema.clone())
    }

    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// `Invalid` for what can't be decoded or is refused; whatever the transport says if the stream breaks.
    pub(super) async fn next(&mut self) -> Result<Option<Received>> {
        loop {
            let message = match self.held.take() {
                Some(held) => held,
                None => match self.messages.next().await {
                    None => return Ok(None),
                    Some(Ok(message)) => message,
                    Some(Err(status)) => return Err(broken(&status)),
                },
            };
            if message.data_header.is_empty() {
                continue;
            }
            let app_metadata = message.app_metadata.clone();
            let batch = if is_light(&message) { self.decode_here(&message)? } else { self.decode(message).await? };
            if let Some(batch) = batch {
                return Ok(Some(Received { batch, app_metadata }));
            }
        }
    }

    /// The next batch if it has come already and takes little to decode.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(super) fn next_at_hand(&mut self) -> Option<Result<Received>> {
        loop {
            let message = match self.held.take() {
                Some(held) => held,
                None => match self.messages.next().now_or_never()?? {
                    Ok(message) => message,
                    Err(status) => return Some(Err(broken(&status))),
                },
            };
            if !is_light(&message) {
                self.held = Some(message);
                return None;
            }
            if message.data_header.is_empty() {
                continue;
            }
            let app_metadata = message.app_metadata.clone();
            match self.decode_here(&message) {
                Ok(None) => {}
                Ok(Some(batch)) => return Some(Ok(Received { batch, app_metadata })),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn decode(&mut self, message: FlightData) -> Result<Option<RecordBatch>> {
        let decoder = self.decoder.take();
        let decoded = tokio::task::spawn_blocking(move || decode(decoder, &message));
        let decoded = decoded.await.unwrap_or_else(|_| Err(Error::internal("decoding was cut off")));
        self.keep(decoded)
    }

    fn decode_here(&mut self, message: &FlightData) -> Result<Option<RecordBatch>> {
        let decoded = decode(self.decoder.take(), message);
        self.keep(decoded)
    }

    fn keep(&mut self, decoded: Result<(Decoder, Result<Option<RecordBatch>>)>) -> Result<Option<RecordBatch>> {
        let (decoder, batch) = decoded?;
        self.decoder = Some(decoder);
        batch
    }
}

/// Decodes a message, if none before was cut off.
fn decode(decoder: Option<Decoder>, message: &FlightData) -> Result<(Decoder, Result<Option<RecordBatch>>)> {
    let mut decoder = decoder.ok_or_else(|| Error::internal("decoding was cut off"))?;
    let decoded = catch_unwind(AssertUnwindSafe(move || {
        let batch = decoder.decode(message);
        (decoder, batch)
    }));
    // A panic of the decoder is the message's fault as far as anyone can tell.
    decoded.map_err(|_| FlightError::Message("its parts contradict each other").into())
}

/// Whether it takes little to decode a message.
fn is_light(message: &FlightData) -> bool {
    if message.data_body.len() > DECODE_HERE_BYTES_MAX {
        return false;
    }
    // What can't be read is refused at once.
    let Ok(header) = root_as_message(&message.data_header) else { return true };
    let dictionary = header.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    header.header_as_record_batch().or(dictionary).is_none_or(|batch| batch.compression().is_none())
}

/// The client went away or sent something that gRPC can't read.
fn broken(status: &Status) -> Error {
    Error::invalid(format!("the stream of batches broke off: {}", status.message()))
}

#[derive(Default)]
struct Decoder {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl Decoder {
    fn decode(&mut self, message: &FlightData) -> Result<Option<RecordBatch>> {
        let header = root_as_message(&message.data_header)
            .map_err(|error| Error::invalid(format!("could not decode the header of an Arrow message: {error}")))?;
        match header.header_type() {
            MessageHeader::Schema => self.take_schema(&header).map(|()| None),
            MessageHeader::DictionaryBatch => self.take_dictionary(&header, &message.data_body).map(|()| None),
            MessageHeader::RecordBatch => self.take_batch(&header, &message.data_body).map(Some),
            _ => Err(FlightError::Message("it is neither schema, dictionary nor batch").into()),
        }
    }

    fn take_schema(&mut self, header: &Message<'_>) -> Result<()> {
        let schema = header.header_as_schema().ok_or(FlightError::Message("it has no schema"))?;
        if schema.endianness() != Endianness::Little {
            return Err(FlightError::Message("its numbers are big-endian").into());
        }
        let schema: SchemaRef = fb_to_schema(schema).into();
        if self.schema.as_ref().is_some_and(|known| *known != schema) {
            return Err(FlightError::Message("it changes the schema of the stream").into());
        }
        self.schema = Some(schema);
        Ok(())
    }

    fn take_dictionary(&mut self, header: &Message<'_>, body: &Bytes) -> Result<()> {
        let schema = self.schema.clone().ok_or(FlightError::Message("no schema came before it"))?;
        let batch = header.header_as_dictionary_batch().ok_or(FlightError::Message("it has no dictionary"))?;
        check(batch.data().ok_or(FlightError::Message("its dictionary has no values"))?, body)?;
        let body = aligned(body);
        read_dictionary(&body, batch, &schema, &mut self.dictionaries, &header.version()).map_err(refused)
    }

    fn take_batch(&self, header: &Message<'_>, body: &Bytes) -> Result<RecordBatch> {
        let schema = self.schema.clone().ok_or(FlightError::Message("no schema came before it"))?;
        let batch = header.header_as_record_batch().ok_or(FlightError::Message("it has no batch"))?;
        check(batch, body)?;
        let body = aligned(body);
        read_record_batch(&body, batch, schema, &self.dictionaries, None, &header.version()).map_err(refused)
    }
}

/// The body where its buffers begin as Arrow wants them: gRPC puts it anywhere, and not every array is mended by the decoder.
fn aligned(body: &Bytes) -> Buffer {
    match body.as_ptr().align_offset(BODY_ALIGNMENT) {
        0 => Buffer::from(body.clone()),
        _ => Buffer::from_slice_ref(body.as_ref()),
    }
}

fn refused(error: ArrowError) -> Error {
    Error::with_source(ErrorKind::Invalid, "could not decode an Arrow message", error)
}

/// Judges a batch by its header.
fn check(batch: arrow::ipc::RecordBatch<'_>, body: &[u8]) -> Result<(), FlightError> {
    let rows = 0..=ROWS_MAX;
    if !rows.contains(&batch.length()) || batch.nodes().into_iter().flatten().any(|node| !rows.contains(&node.length()))
    {
        return Err(FlightError::Message("it has more than 16777216 rows; send several batches"));
    }
    let is_compressed = match batch.compression() {
        None => false,
        Some(compression) if compression.codec() == CompressionType::ZSTD => true,
        Some(_) => return Err(FlightError::Message("it is compressed with LZ4; send it with ZSTD or uncompressed")),
    };
    let mut unpacked = 0_u64;
    for buffer in batch.buffers().into_iter().flatten() {
        let bytes = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?))
            .ok_or(FlightError::Message("it refers to bytes beyond its end"))?;
        unpacked = unpacked.saturating_add(unpacked_bytes(bytes, is_compressed)?);
    }
    if unpacked > UNPACKED_BYTES_MAX {
        return Err(FlightError::Message("it unpacks to more than 268435456 bytes; send several batches"));
    }
    Ok(())
}

fn unpacked_bytes(buffer: &[u8], is_compressed: bool) -> Result<u64, FlightError> {
    let stored = buffer.len() as u64;
    if !is_compressed || buffer.is_empty() {
        return Ok(stored);
    }
    let (prefix, _) = buffer
        .split_first_chunk::<LENGTH_PREFIX_BYTES>()
        .ok_or(FlightError::Message("a compressed buffer of it is cut off"))?;
    match i64::from_le_bytes(*prefix) {
        -1 => Ok(stored), // not compressed after all
        length => u64::try_from(length).map_err(|_| FlightError::Message("a compressed buffer has a negative length")),
    }
}
