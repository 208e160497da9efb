//! Groups by run beside DataFusion's own.

use arrow::array::{Float64Array, StringArray, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema, TimeUnit};
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const QUESTIONS: [&str; 6] = [
    "SELECT host, count(*), count(v), sum(v), min(v), max(v), avg(v) FROM t GROUP BY host",
    "SELECT host, date_bin(INTERVAL '5 nanosecond', time) AS bin, sum(v), min(v) FROM t GROUP BY host, bin",
    "SELECT date_bin(INTERVAL '5 nanosecond', time) AS bin, max(v), count(v) FROM t GROUP BY bin",
    "SELECT host, region, sum(v) FILTER (WHERE v > 3), count(*) FILTER (WHERE v > 100) FROM t GROUP BY host, region",
    "SELECT count(DISTINCT host) FROM t",
    "SELECT region, time, v, count(*) FROM t GROUP BY region, time, v",
];

/// Rows of one batch: a tag, another, the time and a value.
type Rows = Vec<(Option<u8>, u8, i64, Option<i8>)>;

fn schema() -> SchemaRef {
    let tag = || DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    Arc::new(Schema::new(vec![
        Field::new("host", tag(), true),
        Field::new("region", tag(), true),
        Field::new("time", DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        Field::new("v", DataType::Float64, true),
    ]))
}

/// Batches with these texts: some texts may be one twice, one may be null.
fn batches(rows: &[Rows], texts: &[Option<&str>]) -> Vec<RecordBatch> {
    let texts: ArrayRef = Arc::new(StringArray::from(texts.to_vec()));
    let tag = |codes: Vec<Option<i32>>| -> ArrayRef {
        Arc::new(DictionaryArray::<Int32Type>::try_new(codes.into(), Arc::clone(&texts)).unwrap())
    };
    let code = |code: u8| i32::from(code) % texts.len() as i32;
    let batch = |rows: &Rows| {
        let columns: Vec<ArrayRef> = vec![
            tag(rows.iter().map(|row| row.0.map(code)).collect()),
            tag(rows.iter().map(|row| Some(code(row.1))).collect()),
            Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.2))),
            Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.3.map(f64::from)))),
        ];
        RecordBatch::try_new(schema(), columns).unwrap()
    };
    rows.iter().map(batch).collect()
}

/// The rows of an answer as sorted lines, and the plan.
async fn answer(
    partitions: &[Vec<RecordBatch>],
    text: &str,
    with_rule: bool,
    options: &[(&str, u64)],
) -> (Vec<String>, String) {
    let mut config = SessionConfig::new().with_target_partitions(2).with_batch_size(8);
    for (name, value) in options {
        config = config.set_u64(name, *value);
    }
    let mut builder = SessionStateBuilder::new().with_default_features().with_config(config);
    if with_rule {
        builder = builder.with_physical_optimizer_rule(Arc::new(GroupRuns));
    }
    let context = SessionContext::new_with_state(builder.build());
    context.register_table("t", Arc::new(MemTable::try_new(schema(), partitions.to_vec()).unwrap())).unwrap();
    let plan = context.sql(text).await.unwrap().create_physical_plan().await.unwrap();
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    let answered = collect(plan, context.task_ctx()).await.unwrap();
    let mut lines: Vec<String> =
        pretty_format_batches(&answered).unwrap().to_string().lines().map(str::to_owned).collect();
    lines.sort();
    (lines, shown)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn groups_are_those_of_datafusion(
        one in vec(vec((proptest::option::of(0_u8..5), 0_u8..3, 0_i64..20, proptest::option::of(-9_i8..9)), 0..40), 0..5),
        other in vec(vec((proptest::option::of(0_u8..2), 0_u8..2, 0_i64..7, proptest::option::of(-9_i8..9)), 0..40), 1..5),
        are_sorted in any::<bool>(),
        probe_rows in prop_oneof![Just(10_u64), Just(100_000)],
    ) {
        let sorted = |mut rows: Vec<Rows>| {
            if are_sorted {
                rows.iter_mut().for_each(|rows| rows.sort());
            }
            rows
        };
        let mut first = batches(&sorted(one), &[Some("a"), Some("b"), None, Some("a"), Some("c")]);
        first.push(RecordBatch::new_empty(schema()));
        let partitions = [first, batches(&sorted(other), &[Some("c"), Some("a")])];
        let options = [("datafusion.execution.skip_partial_aggregation_probe_rows_threshold", probe_rows)];
        for text in QUESTIONS {
            let (plain, _) = runtime().block_on(answer(&partitions, text, false, &options));
            let (by_run, plan) = runtime().block_on(answer(&partitions, text, true, &options));
            prop_assert!(plan.contains("groups=by run"), "{plan}");
            prop_assert_eq!(by_run, plain, "{}", text);
        }
    }
}

#[tokio::test]
async fn without_memory_groups_are_handed_on() {
    let rows: Vec<Rows> =
        (0..200).map(|batch| (0..64).map(|row| (Some(row / 8), 0, batch * 64, Some(1))).collect()).collect();
    let texts: Vec<String> = (0..8).map(|host| format!("host {host}")).collect();
    let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(100_000, 1.0).build_arc().unwrap();
    let context = SessionContext::new_with_config_rt(
        SessionConfig::new().with_target_partitions(1).with_batch_size(128),
        runtime,
    );
    context.register_table("t", Arc::new(MemTable::try_new(schema(), vec![batches(&rows, &texts)]).unwrap())).unwrap();
    let text = "SELECT host, time, sum(v) FROM t GROUP BY host, time";
    let logical = context.sql(text).await.unwrap().into_optimized_plan().unwrap();
    let plan = context.state().query_planner().create_physical_plan(&logical, &context.state()).await.unwrap();
    let single = plan.downcast_ref::<AggregateExec>().unwrap();
    let half = AggregateExec::try_new(
        AggregateMode::Partial,
        single.group_expr().clone(),
        single.aggr_expr().to_vec(),
        single.filter_expr().to_vec(),
        Arc::clone(single.input()),
        single.input_schema(),
    );
    let runs = GroupRunsExec::new(Arc::new(half.unwrap()));
    let mut found: Vec<(i64, f64)> = Vec::new();
    let handed_on = collect(Arc::new(runs), context.task_ctx()).await.unwrap();
    // Each time the last of them is not full.
    assert!(handed_on.iter().filter(|batch| batch.num_rows() < 128).count() > 1, "before the end");
    for batch in handed_on {
        let times = batch.column(1).as_primitive::<arrow::datatypes::TimestampNanosecondType>();
        let sums = batch.column(2).as_primitive::<arrow::datatypes::Float64Type>();
        found.extend(times.values().iter().copied().zip(sums.values().iter().copied()));
    }
    assert_eq!(found.len(), 200 * 8);
    assert!(found.iter().all(|(_, sum)| *sum == 8.0));
}
