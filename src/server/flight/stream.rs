//! Batches into Flight messages: the schema at once, then rows in pieces that every client takes.
//!
//! Always true:
//! - the first message is the schema, even before the query has begun, and even if no row follows;
//! - no message is larger than [`MESSAGE_BYTES`] by much, unless one single row is;
//! - a piece is encoded when the client has room for it, not before: a client that doesn't read holds one batch here;
//! - a client that waits hears something every [`KEEP_ALIVE`];
//! - a dictionary is sent before the rows that need it, whole and again only if it is another one: replacing is what all readers of
//!   streams know, adding to one is not;
//! - an error ends the stream with its status, never as a result that looks complete;
//! - dropping the stream drops the batches behind it, which cancels the query.
//!
//! arrow-flight's own encoder is not used: it cuts by whole buffers instead of slices, into equal row counts
//! whatever the rows weigh, encodes all pieces at once, and swallows empty batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, SchemaAsIpc};
use futures::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;
use tonic::Status;

use super::call::deadline_exceeded;
use super::error::FlightError;
use crate::error::Result;
use crate::server::status;

/// Batches of one schema. Dropping it cancels what makes them.
pub(super) type Batches = BoxStream<'static, Result<RecordBatch>>;

/// Messages as tonic sends them.
pub(super) type Messages = BoxStream<'static, Result<FlightData, Status>>;

/// Size of a message, above which a batch is cut.
///
/// Go's gRPC takes 4 MiB, whatever a client could do about it; and messages of 0.5 to 2 MiB were measured to cost
/// the least processor time per byte, on either side.
const MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// Size of a dictionary that is sent as it is. Of a larger one, or one with more values than there are rows, only what the rows of the
/// message use is sent.
const DICTIONARY_BYTES: usize = 1024 * 1024;

/// A batch of so many rows is hardly the only one.
const ROWS_OF_MANY: usize = 4096;

/// How long a client hears nothing: proxies and load balancers cut quieter connections, the shortest known after 10 s.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Every buffer of a message starts at a multiple of this.
const BUFFER_ALIGNMENT: usize = 64;

/// A buffer's place and length, and a column's row and null count, in the header of a message.
const HEADER_BYTES_PER_ENTRY: usize = 16;

/// How the client wants its messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Delivery {
    /// When it stops waiting.
    pub(super) deadline: Option<Instant>,
    /// How buffers are compressed; not at all unless it asks: JavaScript can't read them, and on fast networks it takes longer.
    pub(super) compression: Option<CompressionType>,
}

/// The messages for `batches`, of which each must have the columns of `schema`; ends at the deadline, if there is one.
pub(super) fn encode(schema: SchemaRef, batches: Batches, delivery: Delivery) -> Messages {
    let options = IpcWriteOptions::default().try_with_compression(delivery.compression);
    let mut dictionaries = DictionaryTracker::new(false);
    for field in schema.fields() {
        if let DataType::Dictionary(_, _) = field.data_type() {
            dictionaries.next_dict_id(); // as the schema message counts them; wire types have none inside of others
        }
    }
    let encoder = Encoder {
        first: true,
        schema,
        dictionaries,
        waiting: VecDeque::new(),
        batches,
        rest: None,
        deadline: delivery.deadline,
        generator: IpcDataGenerator::default(),
        // It fails for formats before Arrow 1.0 alone, and this is a later one.
        options: options.unwrap_or_default(),
        context: IpcWriteContext::default(),
    };
    let messages = stream::unfold(Some(encoder), |encoder| async {
        let mut encoder = encoder?;
        match encoder.next().await {
            Some(Ok(message)) => Some((Ok(message), Some(encoder))),
            // Nothing follows an error: the query is dropped here, not when the client gets round to it.
            Some(Err(status)) => Some((Err(status), None)),
            None => None,
        }
    });
    messages.boxed()
}

struct Encoder {
    first: bool,
    schema: SchemaRef,
    batches: Batches,
    /// What is still to be sent of the last batch.
    rest: Option<RecordBatch>,
    /// Which dictionaries the client has.
    dictionaries: DictionaryTracker,
    /// What is encoded and belongs together: dictionaries, then the rows that need them.
    waiting: VecDeque<FlightData>,
    deadline: Option<Instant>,
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    async fn next(&mut self) -> Option<Result<FlightData, Status>> {
        if std::mem::take(&mut self.first) {
            return Some(Ok(SchemaAsIpc::new(&self.schema, &self.options).into()));
        }
        if let Some(message) = self.waiting.pop_front() {
            return Some(Ok(message));
        }
        loop {
            if let Some(piece) = self.rest.take().map(|batch| self.cut(batch)) {
                return Some(self.message(&piece).map_err(|error| status::grpc(&error)));
            }
            let now = Instant::now();
            let keep_alive = now + KEEP_ALIVE;
            let until = self.deadline.map_or(keep_alive, |deadline| deadline.min(keep_alive));
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                return Some(Err(deadline_exceeded()));
            }
            match tokio::time::timeout_at(until, self.batches.next()).await {
                Ok(None) => return None,
                Ok(Some(Err(error))) => return Some(Err(status::grpc(&error))),
                Ok(Some(Ok(batch))) if batch.num_rows() == 0 => {}
                Ok(Some(Ok(batch))) => self.rest = Some(batch),
                Err(_) if until < keep_alive => return Some(Err(deadline_exceeded())),
                // An empty batch and not an empty message: JavaScript and Python take that for the end, or an error.
                Err(_) => self.rest = Some(RecordBatch::new_empty(SchemaRef::clone(&self.schema))),
            }
        }
    }

    /// The first piece of `batch`; what follows it waits in `rest`.
    fn cut(&mut self, batch: RecordBatch) -> RecordBatch {
        let rows = rows_of_one_message(&batch, MESSAGE_BYTES);
        if rows == batch.num_rows() {
            return batch;
        }
        self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        batch.slice(0, rows)
    }

    fn message(&mut self, batch: &RecordBatch) -> Result<FlightData> {
        if !same_types(&batch.schema(), &self.schema) {
            return Err(FlightError::ForeignBatch.into());
        }
        // As much room for the next message as this one took: growing it step by step would copy it several times. A short answer is
        // one message.
        self.context.set_reserve_scratch(batch.num_rows() >= ROWS_OF_MANY);
        let (dictionaries, rows) = compacted(batch)
            .and_then(|batch| self.generator.encode(&batch, &mut self.dictionaries, &self.options, &mut self.context))
            .map_err(FlightError::Encode)?;
        let mut messages = dictionaries.into_iter().map(FlightData::from);
        let Some(first) = messages.next() else { return Ok(rows.into()) };
        self.waiting.extend(messages);
        self.waiting.push_back(rows.into());
        Ok(first)
    }
}

/// A client reads bytes by the announced schema; other columns would be garbage to it, or worse.
fn same_types(batch: &SchemaRef, announced: &SchemaRef) -> bool {
    let fields = || batch.fields().iter().zip(announced.fields());
    SchemaRef::ptr_eq(batch, announced)
        || batch.fields().len() == announced.fields().len()
            && fields().all(|(ours, theirs)| ours.data_type() == theirs.data_type())
}

/// The batch with no dictionary that is mostly for rows of other messages.
fn compacted(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let column = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(_, texts) if needs_compaction(column.as_ref()) => {
            cast(&cast(column, texts)?, column.data_type())
        }
        _ => Ok(Arc::clone(column)),
    };
    let columns = batch.columns().iter().map(column).collect::<Result<Vec<ArrayRef>, ArrowError>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &rows)
}

/// Whether a dictionary is not sent as it is.
fn needs_compaction(column: &dyn Array) -> bool {
    let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() else { return false };
    let values = dictionary.values();
    let bytes = values.as_string_opt::<i32>().map_or(0, |texts| text_bytes(texts.value_offsets()));
    values.len() > column.len() || bytes > DICTIONARY_BYTES
}

/// What the keys of a dictionary take, and the texts that are sent for these rows alone.
fn dictionary_bytes(column: &dyn Array) -> usize {
    let keys = buffer(column.len() * size_of::<i32>());
    let texts = column.as_dictionary_opt::<Int32Type>().filter(|_| needs_compaction(column));
    let texts = texts.and_then(|dictionary| dictionary.downcast_dict::<arrow::array::StringArray>());
    // As if no text were there twice: more than it can be.
    keys + texts.map_or(0, |texts| texts.into_iter().flatten().map(|text| text.len() + size_of::<i32>()).sum())
}

/// How many rows of the start of `batch` make one message of at most `bytes`; at least one, if there is one.
fn rows_of_one_message(batch: &RecordBatch, bytes: usize) -> usize {
    let (rows, size) = (batch.num_rows(), message_bytes(batch));
    if size <= bytes || rows <= 1 {
        return rows;
    }
    // Pieces of about equal size, not full ones and a crumb.
    let pieces = size.div_ceil(bytes);
    let goal = bytes.min(size / pieces + size / pieces / 8);
    let fits = |rows: usize| message_bytes(&batch.slice(0, rows)) <= goal;

    // Rows mostly weigh the same, and then this is it.
    let even = rows.div_ceil(pieces);
    if fits(even) {
        return even;
    }
    let (mut fitting, mut too_many) = (1, even);
    while too_many - fitting > 1 {
        let middle = fitting + (too_many - fitting) / 2;
        if fits(middle) { fitting = middle } else { too_many = middle }
    }
    fitting
}

/// The size of `batch` as a message, nearly exactly.
fn message_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| array_bytes(column)).sum()
}

/// What an array takes in a message: only its own rows, where [`Array::get_buffer_memory_size`] counts all of a buffer
/// that it may share with thousands of other slices, and `ArrayData::get_slice_memory_size` all of a list's values.
fn array_bytes(array: &dyn Array) -> usize {
    let rows = array.len();
    let nulls = if array.null_count() > 0 { buffer(rows.div_ceil(8)) } else { buffer(0) };
    let values = match array.data_type() {
        DataType::Null => 0,
        DataType::Boolean => buffer(rows.div_ceil(8)),
        DataType::Dictionary(_, _) => dictionary_bytes(array),
        DataType::Utf8 => text_bytes(array.as_string::<i32>().value_offsets()),
        DataType::Binary => text_bytes(array.as_binary::<i32>().value_offsets()),
        DataType::LargeUtf8 => text_bytes(array.as_string::<i64>().value_offsets()),
        DataType::LargeBinary => text_bytes(array.as_binary::<i64>().value_offsets()),
        DataType::FixedSizeBinary(width) => buffer(rows * usize::try_from(*width).unwrap_or(0)),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            list_bytes(list.value_offsets(), list.values())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            list_bytes(list.value_offsets(), list.values())
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            list_bytes(map.value_offsets(), map.entries())
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|child| array_bytes(child)).sum(),
        DataType::FixedSizeList(_, _) => array_bytes(array.as_fixed_size_list().values()),
        other => match other.primitive_width() {
            Some(width) => buffer(rows * width),
            None => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size()),
        },
    };
    HEADER_BYTES_PER_ENTRY + nulls + values
}

/// A buffer of so many bytes, with its padding and its entry in the header.
fn buffer(bytes: usize) -> usize {
    bytes.next_multiple_of(BUFFER_ALIGNMENT) + HEADER_BYTES_PER_ENTRY
}

fn text_bytes<O: Into<i64> + Copy>(offsets: &[O]) -> usize {
    let (first, last) = ends(offsets);
    buffer(size_of_val(offsets)) + buffer(last - first)
}

fn list_bytes<O: Into<i64> + Copy>(offsets: &[O], values: &dyn Array) -> usize {
    let (first, last) = ends(offsets);
    buffer(size_of_val(offsets)) + array_bytes(&values.slice(first, last - first))
}

fn ends<O: Into<i64> + Copy>(offsets: &[O]) -> (usize, usize) {
    let end = |offset: Option<&O>| offset.and_then(|offset| usize::try_from((*offset).into()).ok()).unwrap_or(0);
    (end(offsets.first()), end(offsets.last()))
}
