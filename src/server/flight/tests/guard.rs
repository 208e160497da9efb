//! Batches that a client sends: what claims to be larger than it is, is refused before anything is unpacked.

use arrow::ipc::CompressionType;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::SchemaAsIpc;

use super::super::incoming::Incoming;
use super::*;

fn batch() -> RecordBatch {
    let text = "the same text again and again and again and again";
    let texts = Arc::new(StringArray::from_iter_values((0..500).map(|_| text)));
    RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from_iter(0..500)) as ArrayRef), ("t", texts)]).unwrap()
}

fn encoded(batch: &RecordBatch, compression: Option<CompressionType>) -> [FlightData; 2] {
    let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
    let mut tracker = DictionaryTracker::new(false);
    let generator = IpcDataGenerator::default();
    let (_, data) = generator.encode(batch, &mut tracker, &options, &mut IpcWriteContext::default()).unwrap();
    [SchemaAsIpc::new(&batch.schema(), &options).into(), data.into()]
}

async fn receive(messages: impl IntoIterator<Item = FlightData>) -> Result<Vec<RecordBatch>> {
    let mut messages = messages.into_iter();
    let mut incoming = Incoming::new(messages.next().unwrap(), stream::iter(messages.map(Ok)));
    let mut batches = Vec::new();
    while let Some(received) = incoming.next().await? {
        batches.push(received.batch);
    }
    Ok(batches)
}

#[tokio::test]
async fn batches_arrive_as_they_were_sent_plain_and_zstd() {
    for compression in [None, Some(CompressionType::ZSTD)] {
        assert_eq!(receive(encoded(&batch(), compression)).await.unwrap(), [batch()], "{compression:?}");
    }
}

#[tokio::test]
async fn a_buffer_that_claims_to_be_huge_is_refused_before_it_is_unpacked() {
    for claimed in [1_i64 << 29, 1 << 46, i64::MAX, -2, i64::MIN] {
        let [schema, mut data] = encoded(&batch(), Some(CompressionType::ZSTD));
        let mut body = data.data_body.to_vec();
        // The first buffer with bytes in it begins the body; its length comes first.
        body[..8].copy_from_slice(&claimed.to_le_bytes());
        data.data_body = body.into();
        let refused = receive([schema, data]).await.unwrap_err();
        assert_eq!(refused.kind(), crate::error::ErrorKind::Invalid, "{claimed}: {refused}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_off_or_missing_is_refused() {
    let [schema, data] = encoded(&batch(), None);
    for bytes in [0, 1, 100, data.data_body.len() / 2] {
        let cut = FlightData { data_body: data.data_body.slice(..bytes), ..data.clone() };
        assert!(receive([schema.clone(), cut]).await.is_err(), "{bytes} bytes");
    }
    assert!(receive([data]).await.unwrap_err().to_string().contains("no schema came before it"));
}

#[test]
fn no_byte_of_a_message_can_do_harm() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let originals = [None, Some(CompressionType::ZSTD)].map(|compression| encoded(&batch(), compression));
    let config = ProptestConfig::with_cases(512);
    let message = (0..2_usize, 0..2_usize);
    proptest!(config, |((kind, part) in message, header in any::<bool>(), at in any::<prop::sample::Index>(), byte in any::<u8>())| {
        let mut messages = originals[kind].clone();
        let bytes = if header || part == 0 { &mut messages[part].data_header } else { &mut messages[part].data_body };
        let mut changed = bytes.to_vec();
        let at = at.index(changed.len());
        changed[at] = byte;
        *bytes = changed.into();
        // Whatever it says: an answer, soon, and the process is still there.
        let _ = runtime.block_on(receive(messages));
    });
}
