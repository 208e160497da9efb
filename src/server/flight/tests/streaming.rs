//! The stream: sizes of messages, errors in the middle, slow queries.

use super::*;

async fn decoded(messages: Vec<FlightData>) -> Vec<RecordBatch> {
    let messages = stream::iter(messages.into_iter().map(Ok));
    FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await.unwrap()
}

/// Rows of text, list and struct, where a row weighs as much as `weights` says.
fn weighted(weights: &[usize]) -> RecordBatch {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(weights.iter().map(|weight| "x".repeat(*weight))));
    let mut lists = ListBuilder::new(StringBuilder::new());
    for weight in weights {
        for _ in 0..weight % 3 {
            lists.values().append_value("y".repeat(weight / 2));
        }
        lists.append(weight % 7 != 0);
    }
    let numbers: ArrayRef =
        Arc::new(weights.iter().map(|weight| (weight % 5 != 0).then_some(*weight as i64)).collect::<Int64Array>());
    let pair = StructArray::try_from(vec![("texts", Arc::clone(&texts)), ("numbers", Arc::clone(&numbers))]).unwrap();
    let dated: ArrayRef =
        Arc::new(numbers.as_primitive::<arrow::datatypes::Int64Type>().unary::<_, Int32Type>(|number| number as i32));
    RecordBatch::try_from_iter_with_nullable([
        ("texts", texts, true),
        ("lists", Arc::new(lists.finish()) as ArrayRef, true),
        ("pair", Arc::new(pair), true),
        ("numbers", numbers, true),
        ("dated", dated, true),
    ])
    .unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_are_small_enough_and_together_the_whole(
        weights in prop::collection::vec(prop_oneof![20 => 0_usize..200, 3 => 0_usize..100_000, 1 => 500_000_usize..2_500_000], 0..300),
        from in 0.0..1.0,
    ) {
        let whole = weighted(&weights);
        // A slice of something larger, as batches mostly are.
        let start = (from * whole.num_rows() as f64) as usize;
        let batch = whole.slice(start, whole.num_rows() - start);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let messages = messages(batch.schema(), vec![batch.clone()]).await;
            let sizes: Vec<usize> = messages.iter().map(Message::encoded_len).collect();
            let pieces = decoded(messages).await;
            for (piece, size) in pieces.iter().zip(&sizes[1..]) {
                assert!(*size < CLIENT_BYTES_MAX || piece.num_rows() == 1, "{size} bytes for {} rows", piece.num_rows());
            }
            assert_eq!(concat_batches(&batch.schema(), &pieces).unwrap(), batch);
        });
    }
}

#[tokio::test]
async fn even_rows_are_cut_into_even_messages_of_a_good_size() {
    let rows: ArrayRef = Arc::new((0..3_000_000_i64).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let messages = messages(batch.schema(), vec![batch.slice(7, 2_900_000)]).await;
    let sizes: Vec<usize> = messages[1..].iter().map(|message| message.data_body.len()).collect();
    // 23.2 MB in messages of at most 2 MiB.
    assert_eq!(sizes.len(), 12);
    let (min, max) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!(max - min < 64 * 1024 && *max <= 2 * 1024 * 1024, "{sizes:?}");
}

#[tokio::test]
async fn a_slice_of_a_large_batch_is_one_message() {
    let rows: ArrayRef = Arc::new((0..3_000_000_i64).collect::<Int64Array>());
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    // arrow-flight's encoder makes a message of each of these rows.
    assert_eq!(messages(batch.schema(), vec![batch.slice(1_000_000, 10)]).await.len(), 2);
}

#[tokio::test]
async fn a_batch_of_other_columns_ends_the_stream_with_an_error() {
    let schema = SchemaRef::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]));
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let results: Vec<Result<FlightData, Status>> =
        encode(schema, stream::iter([Ok(batch)]).boxed(), Delivery::default()).collect().await;
    assert_eq!(results.len(), 2);
    assert_eq!(results[1].as_ref().unwrap_err().code(), Code::Internal);
}

#[tokio::test]
async fn an_error_of_the_query_ends_the_stream_and_drops_the_query() {
    struct Dropped(Arc<std::sync::atomic::AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let guard = Dropped(Arc::clone(&dropped));
    let batches = stream::iter([Err(Error::new(crate::error::ErrorKind::Exhausted, "no memory"))])
        .chain(stream::pending())
        .inspect(move |_| {
            let _held = &guard;
        });
    let mut messages = encode(SchemaRef::new(Schema::empty()), batches.boxed(), Delivery::default());
    assert!(messages.next().await.unwrap().is_ok());
    assert_eq!(messages.next().await.unwrap().unwrap_err().code(), Code::ResourceExhausted);
    assert!(dropped.load(std::sync::atomic::Ordering::SeqCst));
    assert!(messages.next().await.is_none());
}

#[tokio::test]
async fn a_stream_past_its_deadline_says_so_even_if_rows_keep_coming() {
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let endless = stream::repeat_with({
        let batch = batch.clone();
        move || Ok(batch.clone())
    });
    for batches in [endless.boxed(), stream::pending().boxed()] {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(20);
        let messages = encode(batch.schema(), batches, Delivery { deadline: Some(deadline), ..Delivery::default() });
        let ended = messages.filter_map(|message| async { message.err() }).collect::<Vec<_>>().await;
        assert_eq!(ended.iter().map(Status::code).collect::<Vec<_>>(), [Code::DeadlineExceeded]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_gets_the_schema_at_once_and_an_empty_batch_every_five_seconds() {
    let rows: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("n", rows)]).unwrap();
    let slow = stream::once({
        let batch = batch.clone();
        async move {
            tokio::time::sleep(Duration::from_secs(12)).await;
            Ok(batch)
        }
    });
    let started = tokio::time::Instant::now();
    let mut messages = encode(batch.schema(), slow.boxed(), Delivery::default());
    let mut arrived = Vec::new();
    let mut received = Vec::new();
    while let Some(message) = messages.next().await {
        arrived.push(started.elapsed().as_secs());
        received.push(message.unwrap());
    }
    assert_eq!(arrived, [0, 5, 10, 12]);
    let sizes: Vec<usize> = decoded(received).await.iter().map(RecordBatch::num_rows).collect();
    assert_eq!(sizes, [0, 0, 1]);
}
