//! Arrow in: which tables and rows come of which batches, and what is refused without a trace.

use arrow::array::{DictionaryArray, Float64Array, TimestampMicrosecondArray};
use arrow_flight::sql::{TableDefinitionOptions, TableExistsOption, TableNotExistOption};

use super::*;

fn ingest(table: &str, if_not_exist: TableNotExistOption, if_exists: TableExistsOption) -> CommandStatementIngest {
    let options = TableDefinitionOptions { if_not_exist: if_not_exist.into(), if_exists: if_exists.into() };
    CommandStatementIngest {
        table_definition_options: Some(options),
        table: table.to_owned(),
        ..CommandStatementIngest::default()
    }
}

fn append(table: &str) -> CommandStatementIngest {
    ingest(table, TableNotExistOption::Create, TableExistsOption::Append)
}

/// Rows of host, load and time; the time in microseconds of a zone.
fn loads(rows: &[(&str, f64, i64)]) -> RecordBatch {
    let hosts: DictionaryArray<Int32Type> = rows.iter().map(|(host, ..)| *host).collect();
    let loads = Float64Array::from_iter_values(rows.iter().map(|(_, load, _)| *load));
    let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|(.., time)| *time));
    let columns: [(&str, ArrayRef); 3] =
        [("host", Arc::new(hosts)), ("load", Arc::new(loads)), ("time", Arc::new(times.with_timezone("+02:00")))];
    RecordBatch::try_from_iter(columns).unwrap()
}

async fn count(service: &Service, command: &CommandStatementIngest, batches: &[RecordBatch]) -> Result<i64, Status> {
    let answer = put(service, command, sent(batches).await).await?;
    Ok(arrow_flight::sql::DoPutUpdateResult::decode(answer).unwrap().record_count)
}

async fn all(service: &Service, text: &str) -> Vec<String> {
    let rows = service.rows(&query(text), &[]).await.unwrap();
    let cells = |row| rows.columns().iter().map(move |c| arrow::util::display::array_value_to_string(c, row).unwrap());
    (0..rows.num_rows()).map(|row| cells(row).collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn batches_become_rows_in_which_the_last_write_wins() {
    let service = service(&["nyc"]).await;
    let batches = [loads(&[("a", 1.0, 1), ("b", 2.0, 1), ("a", 3.0, 1)]), loads(&[("b", 4.0, 1), ("a", 5.0, 2)])];
    assert_eq!(count(&service, &append("cpu"), &batches).await.unwrap(), 5);
    let text = "SELECT host, load, time FROM cpu ORDER BY time, host";
    let first = ["a 3.0 1970-01-01T00:00:00.000001", "b 4.0 1970-01-01T00:00:00.000001"];
    assert_eq!(all(&service, text).await, [first[0], first[1], "a 5.0 1970-01-01T00:00:00.000002"]);
    let schema = service.engine.table_schema(&DatabaseName::new("nyc").unwrap(), "cpu").unwrap();
    assert_eq!(schema.kind("host"), Some(ColumnKind::Tag), "a dictionary is a tag");
    assert_eq!(count(&service, &append("cpu"), &[loads(&[("b", 6.0, 1)])]).await.unwrap(), 1);
    assert_eq!(all(&service, "SELECT load FROM cpu WHERE host = 'b'").await, ["6.0"]);
}

#[tokio::test]
async fn each_table_definition_does_what_it_says() {
    use TableExistsOption::{Append, Fail, Replace};
    use TableNotExistOption::{Create, Fail as Missing};
    let service = service(&["nyc"]).await;
    let (one, two) = ([loads(&[("a", 1.0, 1)])], [loads(&[("a", 2.0, 2)])]);
    let loads_of = || all(&service, "SELECT load FROM t ORDER BY load");

    let missing = count(&service, &ingest("t", Missing, Append), &one).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "table not found: t"));
    assert_eq!(count(&service, &ingest("t", Create, Fail), &one).await.unwrap(), 1);
    let there = count(&service, &ingest("t", Create, Fail), &one).await.unwrap_err();
    assert_eq!((there.code(), there.message()), (Code::AlreadyExists, "table 't' already exists"));
    assert_eq!(count(&service, &ingest("t", Missing, Append), &two).await.unwrap(), 1);
    assert_eq!(loads_of().await, ["1.0", "2.0"]);
    assert_eq!(count(&service, &ingest("t", Create, Replace), &two).await.unwrap(), 1);
    assert_eq!(loads_of().await, ["2.0"]);
    assert_eq!(count(&service, &append("t"), &one).await.unwrap(), 1);
    assert_eq!(loads_of().await, ["1.0", "2.0"]);
    let nothing = [loads(&[])];
    assert_eq!(count(&service, &ingest("empty", Create, Fail), &nothing).await.unwrap(), 0);
    assert!(all(&service, "SELECT * FROM empty").await.is_empty());
}

#[tokio::test]
async fn what_is_refused_leaves_no_trace() {
    let service = service(&["nyc"]).await;
    let nothing_said = CommandStatementIngest { table: "t".to_owned(), ..CommandStatementIngest::default() };
    let good = append("t");
    let commands = [
        (nothing_said, "table definition options", Code::InvalidArgument),
        (
            ingest("t", TableNotExistOption::Unspecified, TableExistsOption::Append),
            "table definition",
            Code::InvalidArgument,
        ),
        (CommandStatementIngest { temporary: true, ..good.clone() }, "temporary", Code::Unimplemented),
        (CommandStatementIngest { catalog: Some("x".to_owned()), ..good.clone() }, "catalog", Code::InvalidArgument),
        (CommandStatementIngest { schema: Some("system".to_owned()), ..good.clone() }, "iox", Code::InvalidArgument),
        (CommandStatementIngest { table: String::new(), ..good.clone() }, "empty", Code::InvalidArgument),
        (
            CommandStatementIngest { transaction_id: Some(Bytes::from_static(b"1")), ..good.clone() },
            "transactions",
            Code::Unimplemented,
        ),
    ];
    for (command, words, code) in commands {
        let refused = count(&service, &command, &[loads(&[("a", 1.0, 1)])]).await.unwrap_err();
        assert!(refused.code() == code && refused.message().contains(words), "{refused}");
    }
    // A second batch that doesn't fit, and a stream that breaks off, take the first one with them.
    let mut null_time = sent(&[loads(&[("a", 1.0, 1)])]).await;
    let last = null_time.pop().unwrap();
    null_time.push(last.clone());
    null_time.push(FlightData { data_body: last.data_body.slice(..10), ..last });
    assert!(put(&service, &good, null_time).await.is_err());
    assert!(service.engine.table_schema(&DatabaseName::new("nyc").unwrap(), "t").is_none());

    let text: ArrayRef = Arc::new(StringArray::from(vec!["warm"]));
    let wrong = RecordBatch::try_from_iter([("temperature", text)]).unwrap();
    let refused = count(&service, &append("weather"), std::slice::from_ref(&wrong)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("column 'temperature', expected iox::column_type::field::float"), "{refused}");
    let replace = ingest("weather", TableNotExistOption::Create, TableExistsOption::Replace);
    let dates: ArrayRef = Arc::new(arrow::array::Date32Array::from(vec![1]));
    let wrong = RecordBatch::try_from_iter([("day", dates)]).unwrap();
    assert!(count(&service, &replace, &[wrong]).await.unwrap_err().message().contains("column 'day'"));
    assert!(all(&service, "SELECT station FROM weather").await.is_empty(), "and it is still the table that it was");
}

#[tokio::test]
async fn a_message_larger_than_four_mebibytes_is_taken() {
    let service = service(&["nyc"]).await;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter(0..1_200_000));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(0..1_200_000));
    let batch = RecordBatch::try_from_iter([("n", numbers), ("time", times)]).unwrap();
    let options = IpcWriteOptions::default();
    let (_, whole) = arrow::ipc::writer::IpcDataGenerator::default()
        .encode(
            &batch,
            &mut arrow::ipc::writer::DictionaryTracker::new(false),
            &options,
            &mut arrow::ipc::writer::IpcWriteContext::default(),
        )
        .unwrap();
    let whole: FlightData = whole.into();
    assert!(whole.data_body.len() > 16 << 20);
    let schema = SchemaAsIpc::new(&batch.schema(), &options).into();
    put(&service, &append("large"), vec![schema, whole]).await.unwrap();
    assert_eq!(all(&service, "SELECT count(*), max(n) FROM large").await, ["1200000 1199999"]);
}

#[tokio::test]
async fn rows_without_a_time_are_points_of_their_own() {
    let service = service(&["nyc"]).await;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter(0..1000));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    for _ in 0..2 {
        assert_eq!(count(&service, &append("plain"), std::slice::from_ref(&batch)).await.unwrap(), 1000);
    }
    assert_eq!(all(&service, "SELECT count(*), count(DISTINCT time), sum(n) FROM plain").await, ["2000 2000 999000"]);
}

/// Puts with a path, and returns what each batch is answered with.
async fn put_path(
    service: &Service,
    path: &[&str],
    batches: &[RecordBatch],
    tags: &[(&'static str, &str)],
) -> Result<Vec<Bytes>, Status> {
    let mut messages = sent(batches).await;
    messages[0].flight_descriptor =
        Some(FlightDescriptor::new_path(path.iter().map(|part| (*part).to_owned()).collect()));
    for (number, message) in messages.iter_mut().enumerate().filter(|(number, _)| number % 2 == 0) {
        message.app_metadata = Bytes::from(format!("marker {number}"));
    }
    let answers = service.client.clone().do_put(with_headers(stream::iter(messages), tags)).await?.into_inner();
    answers.map_ok(|answer| answer.app_metadata).try_collect().await
}

#[tokio::test]
async fn each_batch_with_a_path_is_acknowledged_with_what_the_client_sent_or_a_count() {
    let service = service(&["nyc"]).await;
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let batch = RecordBatch::try_from_iter([("room", Arc::clone(&texts)), ("v", texts)]).unwrap();
    let batches = [batch.clone(), batch.clone()];
    let answers = put_path(&service, &["rooms"], &batches, &[("x-flightline-tags", "room")]).await;
    assert_eq!(answers.unwrap(), ["2", "marker 2"]);
    let database = DatabaseName::new("nyc").unwrap();
    let schema = service.engine.table_schema(&database, "rooms").unwrap();
    assert_eq!((schema.kind("room"), schema.tags().len()), (Some(ColumnKind::Tag), 1));

    put_path(&service, &["boston", "rooms"], std::slice::from_ref(&batch), &[]).await.unwrap();
    assert!(service.engine.table_schema(&DatabaseName::new("boston").unwrap(), "rooms").is_some());
    for path in [&["a", "b", "c"] as &[&str], &[], &["../x", "t"]] {
        assert_eq!(
            put_path(&service, path, std::slice::from_ref(&batch), &[]).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    let answers = put_path(&service, &["nyc", "rooms"], &[batch], &[("x-flightline-tags", "nothing")]).await;
    assert!(answers.unwrap_err().message().contains("'nothing' is to be a tag"));
}

#[tokio::test]
async fn of_a_large_ingest_that_breaks_off_the_parts_before_are_stored_and_can_be_sent_again() {
    let service = service(&["nyc"]).await;
    // 16 bytes a row: 32 MiB are 2 Mi rows, which the eighth batch makes full.
    let batch = |number: i64| {
        let rows = number * 262_144..(number + 1) * 262_144;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone()));
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(rows));
        RecordBatch::try_from_iter([("n", numbers), ("time", times)]).unwrap()
    };
    let batches: Vec<RecordBatch> = (0..10).map(batch).collect();
    let whole = messages(batches[0].schema(), batches).await;
    let mut broken = whole.clone();
    let last = broken.pop().unwrap();
    broken.push(FlightData { data_body: last.data_body.slice(..10), ..last });
    assert_eq!(put(&service, &append("large"), broken).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(all(&service, "SELECT count(*), max(n) FROM large").await, ["2097152 2097151"]);
    put(&service, &append("large"), whole).await.unwrap();
    assert_eq!(all(&service, "SELECT count(*), max(n) FROM large").await, ["2621440 2621439"]);
}

/// Rows of one point, with these values.
fn one_point(values: std::ops::Range<i64>) -> Vec<RecordBatch> {
    let batch = |value: i64| {
        let (value, time) = (Int64Array::from(vec![value]), TimestampMicrosecondArray::from(vec![7]));
        RecordBatch::try_from_iter([("v", Arc::new(value) as ArrayRef), ("time", Arc::new(time))]).unwrap()
    };
    values.map(batch).collect()
}

/// Puts messages with a path; the answers until the first error, and that.
async fn answers_until_error(service: &Service, mut messages: Vec<FlightData>) -> (Vec<Bytes>, Option<Status>) {
    messages[0].flight_descriptor = Some(FlightDescriptor::new_path(vec!["t".to_owned()]));
    let mut received = service.client.clone().do_put(stream::iter(messages)).await.unwrap().into_inner();
    let mut answers = Vec::new();
    loop {
        match received.next().await {
            None => return (answers, None),
            Some(Ok(answer)) => answers.push(answer.app_metadata),
            Some(Err(error)) => return (answers, Some(error)),
        }
    }
}

#[tokio::test]
async fn batches_that_are_under_way_together_are_stored_in_their_order() {
    let service = service(&["nyc"]).await;
    let (answers, error) = answers_until_error(&service, sent(&one_point(0..1000)).await).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(answers, (1..=1000).map(|count| Bytes::from(count.to_string())).collect::<Vec<_>>());
    assert_eq!(all(&service, "SELECT v FROM t").await, ["999"]);
    // Those too large to share a write.
    let large = |last: i64| {
        let numbers = Int64Array::from_iter((0..300_000).map(|number| if number == 299_999 { last } else { number }));
        let times = TimestampMicrosecondArray::from_iter_values((0..300_000).map(|number| number / 2 * 2));
        RecordBatch::try_from_iter([("v", Arc::new(numbers) as ArrayRef), ("time", Arc::new(times))]).unwrap()
    };
    let batches: Vec<RecordBatch> = (-9..0).map(large).collect();
    let (answers, error) = answers_until_error(&service, messages(batches[0].schema(), batches).await).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(answers.last().unwrap(), &Bytes::from((9 * 300_000).to_string()));
    assert_eq!(all(&service, "SELECT v FROM t ORDER BY time DESC LIMIT 1").await, ["-1"]);
}

#[tokio::test]
async fn a_batch_that_is_refused_is_named_and_those_before_it_are_answered_and_stored() {
    let service = service(&["nyc"]).await;
    let without_time = {
        let (value, time) = (Int64Array::from(vec![9]), TimestampMicrosecondArray::from(vec![None::<i64>]));
        RecordBatch::try_from_iter_with_nullable([
            ("v", Arc::new(value) as ArrayRef, true),
            ("time", Arc::new(time), true),
        ])
    };
    for before in [0, 1, 3] {
        let mut batches: Vec<RecordBatch> = one_point(before * 10..before * 10 + before)
            .into_iter()
            .map(|batch| {
                RecordBatch::try_new(without_time.as_ref().unwrap().schema(), batch.columns().to_vec()).unwrap()
            })
            .collect();
        batches.push(without_time.as_ref().unwrap().clone());
        batches.push(RecordBatch::try_new(batches[0].schema(), one_point(77..78)[0].columns().to_vec()).unwrap());
        let (answers, error) = answers_until_error(&service, sent(&batches).await).await;
        assert_eq!(answers.len() as i64, before);
        let error = error.unwrap();
        assert_eq!(error.code(), Code::InvalidArgument);
        let expected = format!("batch {} of the stream: column 'time' is null in row 1", before + 1);
        assert!(error.message().starts_with(&expected), "{error}");
        let database = DatabaseName::new("nyc").unwrap();
        match before {
            0 => assert!(service.engine.table_schema(&database, "t").is_none()),
            _ => assert_eq!(all(&service, "SELECT v FROM t").await, [(before * 10 + before - 1).to_string()]),
        }
    }
    // So is one that can't be decoded.
    let mut messages = sent(&one_point(0..2)).await;
    let last = messages.pop().unwrap();
    messages.push(FlightData { data_body: last.data_body.slice(..3), ..last });
    let (answers, error) = answers_until_error(&service, messages).await;
    assert_eq!((answers.len(), error.unwrap().code()), (1, Code::InvalidArgument));
    assert_eq!(all(&service, "SELECT v FROM t").await, ["0"]);
}

#[tokio::test]
async fn a_client_that_does_not_read_answers_holds_nobody_up_and_one_that_leaves_is_not_read_on() {
    let service = service(&["nyc"]).await;
    let mut messages = sent(&one_point(0..200)).await;
    messages[0].flight_descriptor = Some(FlightDescriptor::new_path(vec!["t".to_owned()]));
    let (gone, is_gone) = tokio::sync::oneshot::channel::<()>();
    // One by one, so that each is a write, and then nothing for ever.
    let messages = stream::iter(messages)
        .then(|message| async {
            tokio::task::yield_now().await;
            message
        })
        .chain(stream::pending())
        .map(move |message| {
            let _held = &gone;
            message
        });
    let answers = service.client.clone().do_put(Box::pin(messages)).await.unwrap();
    let stored = async {
        while service.engine.table_schema(&DatabaseName::new("nyc").unwrap(), "t").is_none()
            || all(&service, "SELECT v FROM t").await != ["199"]
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), stored).await.unwrap();
    drop(answers);
    assert!(tokio::time::timeout(Duration::from_secs(60), is_gone).await.unwrap().is_err());
}
