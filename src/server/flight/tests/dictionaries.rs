//! Tags as dictionaries, for who asks.

use arrow::array::DictionaryArray;
use arrow::compute::cast;

use super::*;

const ASKED: [(&str, &str); 1] = [("x-flightline-dictionaries", "true")];

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

#[tokio::test]
async fn who_asks_gets_tags_as_dictionaries_as_announced() {
    let service = service(&["nyc"]).await;
    let text =
        "INSERT INTO weather (time, station, region, temperature) VALUES (1, 'JFK', 'ny', 1.5), (2, 'EWR', NULL, 2.5)";
    service.info(&query(text), &[]).await.unwrap();
    for text in [
        "SELECT time, station, region, temperature FROM weather ORDER BY time",
        "SELECT region, station FROM weather WHERE false",
    ] {
        let plain = service.rows(&query(text), &[]).await.unwrap();
        let asked = service.rows(&query(text), &ASKED).await.unwrap();
        assert_eq!(*asked.schema().field_with_name("station").unwrap().data_type(), dictionary());
        assert_eq!(*plain.schema().field_with_name("station").unwrap().data_type(), DataType::Utf8);
        for (column, expected) in asked.columns().iter().zip(plain.columns()) {
            assert_eq!(&cast(column, expected.data_type()).unwrap(), expected);
        }
    }
    // A ticket says how it was described, whatever the headers of the fetch say.
    let info = service.info(&query("SELECT station FROM weather"), &[]).await.unwrap();
    let (schema, _) = service.get(info.endpoint[0].ticket.clone().unwrap().ticket, &ASKED).await.unwrap();
    assert_eq!(*schema.field(0).data_type(), DataType::Utf8);
    let json = serde_json::json!({ "database": "nyc", "sql_query": "SELECT station FROM weather" }).to_string();
    let (schema, _) = service.get(json, &ASKED).await.unwrap();
    assert_eq!(*schema.field(0).data_type(), dictionary());
    let refused = service.info(&query("SELECT 1"), &[("x-flightline-dictionaries", "perhaps")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

/// Batches with the texts at these places, all of one dictionary or each with its own.
fn batches(texts: &[String], places: &[Vec<Option<usize>>], shared: bool) -> Vec<RecordBatch> {
    let all: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let column = |places: &Vec<Option<usize>>| -> ArrayRef {
        if shared {
            let keys = places.iter().map(|place| place.map(|place| i32::try_from(place).unwrap()));
            return Arc::new(DictionaryArray::<Int32Type>::new(keys.collect(), Arc::clone(&all)));
        }
        let own: DictionaryArray<Int32Type> =
            places.iter().map(|place| place.map(|place| texts[place].as_str())).collect();
        Arc::new(own)
    };
    let batch = |places: &Vec<Option<usize>>| {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..places.len() as i64));
        RecordBatch::try_from_iter_with_nullable([
            ("a", column(places), true),
            ("n", numbers, true),
            ("b", column(places), true),
        ])
        .unwrap()
    };
    places.iter().map(batch).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn dictionaries_of_any_size_arrive_whole_in_messages_that_are_small_enough(
        weights in prop::collection::vec(prop_oneof![20 => 0_usize..200, 1 => 0_usize..100_000], 1..200),
        places in prop::collection::vec(prop::collection::vec(prop::option::weighted(0.9, any::<prop::sample::Index>()), 0..300), 0..4),
        shared in any::<bool>(),
    ) {
        let texts: Vec<String> = weights.iter().enumerate().map(|(number, weight)| format!("{number}{}", "x".repeat(*weight))).collect();
        let places: Vec<Vec<Option<usize>>> = places.iter().map(|places| places.iter().map(|place| place.map(|place| place.index(texts.len()))).collect()).collect();
        let sent = batches(&texts, &places, shared);
        let Some(first) = sent.first() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let messages = messages(first.schema(), sent.clone()).await;
            for size in messages.iter().map(Message::encoded_len) {
                assert!(size < CLIENT_BYTES_MAX, "{size} bytes");
            }
            let messages = stream::iter(messages.into_iter().map(Ok));
            let arrived: Vec<RecordBatch> =
                FlightRecordBatchStream::new_from_flight_data(messages).try_collect().await.unwrap();
            let plain = |batches: &[RecordBatch], column: usize| {
                let texts: Vec<ArrayRef> = batches.iter().map(|batch| cast(batch.column(column), &DataType::Utf8).unwrap()).collect();
                texts.iter().flat_map(|texts| texts.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>()).collect::<Vec<_>>()
            };
            for column in [0, 2] {
                assert_eq!(plain(&arrived, column), plain(&sent, column));
            }
        });
    }
}

#[tokio::test]
async fn a_dictionary_that_stays_the_same_is_sent_once() {
    let texts = ["a", "b", "c"].map(str::to_owned);
    let places = vec![vec![Some(0), Some(1), Some(2)], vec![Some(2), Some(2), None, Some(1)]];
    for (shared, expected) in [(true, 1 + 2 + 2), (false, 1 + 2 + 2 + 2)] {
        let sent = batches(&texts, &places, shared);
        assert_eq!(
            messages(sent[0].schema(), sent).await.len(),
            expected,
            "the schema, dictionaries of two columns, two batches"
        );
    }
}
