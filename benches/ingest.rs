//! What a row costs on its way in: parse or take as columns, sort, merge, encode. One core, no disk, no network.
//!
//! `cargo bench --bench ingest`; rates are rows (elements) and bytes of line protocol per second.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed run")]

mod load;
mod points;

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flightline::model::last_write_wins::{Merge, Step, sort_run};
use flightline::model::{ArrowColumns, TableSchema, Timestamp};
use flightline::syntax::line_protocol::{Schemas, parse};
use points::Points;

const ROWS: usize = 10_000;

struct NoTables;

impl Schemas for NoTables {
    fn table(&self, _: &str) -> Option<Arc<TableSchema>> {
        None
    }
}

fn batch(lines: &str) -> (TableSchema, RecordBatch) {
    let mut parsed = parse(lines.as_bytes(), &NoTables, &load::options());
    assert_eq!(parsed.accepted, ROWS);
    let table = parsed.rows.tables.remove(0);
    (table.schema, table.batch)
}

fn parsing(criterion: &mut Criterion) {
    let lines = Points::new("").lines(ROWS);
    let mut group = criterion.benchmark_group("parse 10 tags 10 floats");
    group.throughput(Throughput::ElementsAndBytes { elements: ROWS as u64, bytes: lines.len() as u64 });
    group.bench_function("flightline", |bencher| {
        bencher.iter(|| black_box(parse(lines.as_bytes(), &NoTables, &load::options())).accepted);
    });
    group.sample_size(10).bench_function("crate influxdb-line-protocol, without columns", |bencher| {
        bencher.iter(|| influxdb_line_protocol::parse_lines(&lines).filter(|line| black_box(line).is_ok()).count());
    });
    group.finish();
}

/// The same rows as [`parsing`] has as text, as clients send them over Flight: tags as dictionaries, and as plain text.
fn columns(criterion: &mut Criterion) {
    let (table, rows) = batch(&Points::new("").lines(ROWS));
    let as_text = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(_, _) => cast(column, &DataType::Utf8).unwrap(),
        _ => Arc::clone(column),
    };
    let fields = rows.schema().fields().clone();
    let plain = RecordBatch::try_from_iter_with_nullable(
        fields.iter().zip(rows.columns()).map(|(field, column)| (field.name(), as_text(column), true)),
    )
    .unwrap();
    let mut group = criterion.benchmark_group("columns 10 tags 10 floats");
    group.throughput(Throughput::Elements(ROWS as u64));
    for (name, rows) in [("dictionaries", &rows), ("text", &plain)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let columns = ArrowColumns::new(&rows.schema(), Some(&table), None).unwrap();
                black_box(columns.rows(rows, Timestamp::from_nanos(0)).unwrap())
            });
        });
    }
    group.finish();
}

fn sorting(criterion: &mut Criterion) {
    let (schema, rows) = batch(&Points::new("").lines(ROWS));
    let mut group = criterion.benchmark_group("last write wins");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("sort one write", |bencher| bencher.iter(|| black_box(sort_run(&schema, &rows))));

    let mut points = Points::new("");
    let runs: Vec<RecordBatch> = (0..16).map(|_| sort_run(&schema, &batch(&points.lines(ROWS)).1).unwrap()).collect();
    group.throughput(Throughput::Elements(16 * ROWS as u64));
    group
        .sample_size(20)
        .bench_function("merge 16 runs, times apart", |bencher| bencher.iter(|| merged_rows(&schema, &runs)));
    let same: Vec<RecordBatch> = std::iter::repeat_n(runs[0].clone(), 16).collect();
    group.bench_function("merge 16 runs, all points equal", |bencher| bencher.iter(|| merged_rows(&schema, &same)));
    group.finish();
}

fn merged_rows(schema: &TableSchema, runs: &[RecordBatch]) -> usize {
    let mut merge = Merge::new(schema, Arc::clone(schema.arrow()), runs.len(), 8192).unwrap();
    let mut given = vec![false; runs.len()];
    let mut rows = 0;
    loop {
        match merge.step().unwrap() {
            Step::Done => return rows,
            Step::Ready(batch) => rows += black_box(batch).num_rows(),
            Step::Needs(input) if given[input] => merge.finish(input),
            Step::Needs(input) => {
                given[input] = true;
                merge.push(input, runs[input].clone()).unwrap();
            }
        }
    }
}

criterion_group!(ingest, parsing, columns, sorting);
criterion_main!(ingest);
