//! Which units can hold no row that passes the filters.
//!
//! Decided from what is known without reading: the range of time of every unit, and the smallest and largest
//! value of each column of a file. Tags and time never change once written, so filters on them rule out
//! any unit. A field may be written again: a filter on it says something only about units that share no
//! point with another. What filters say plainly ([`KeyBounds`]) is compared here; DataFusion's pruning decides the others.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::create_physical_expr;
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::PhysicalExpr;

use super::key_bounds::KeyBounds;
use super::{Unit, unqualified};
use crate::model::{
    ColumnKind, ColumnName, ColumnStatistics, Covers, FieldType, FileList, Scalar, Stretch, TIME_COLUMN, TableSchema,
    TimeRange, Timestamp,
};
use crate::query::functions::present_columns;

/// The filters of one scan, in the forms in which they are used.
#[derive(Debug)]
pub(super) struct Filters {
    table: SchemaRef,
    kinds: Arc<TableSchema>,
    /// Those that look at tags and time only.
    on_key: Vec<Expr>,
    /// What these say plainly.
    bounds: KeyBounds,
    /// What they say otherwise.
    by_key: Option<PruningPredicate>,
    /// Fields of each of which lists a row has to have one.
    present: Vec<Vec<String>>,
    /// What filters say otherwise that look at fields.
    by_fields: Option<PruningPredicate>,
}

impl Filters {
    pub(super) fn new(state: &dyn Session, table: &Arc<TableSchema>, filters: &[Expr]) -> DataFusionResult<Self> {
        let usable: Vec<Expr> = filters.iter().filter(|filter| speaks_of_rows(filter)).cloned().collect();
        let (on_key, on_fields): (Vec<Expr>, Vec<Expr>) =
            usable.into_iter().partition(|filter| looks_at_key_only(table, filter));
        let (bounds, rest) = KeyBounds::of(table, &on_key);
        let by_key = pruning_predicate(state, table.arrow(), rest)?;
        let (mut present, mut otherwise) = (Vec::new(), Vec::new());
        for filter in on_fields {
            match present_columns(&filter) {
                Some(columns) => present.push(columns.into_iter().map(str::to_owned).collect()),
                None => otherwise.push(filter),
            }
        }
        let by_fields = pruning_predicate(state, table.arrow(), otherwise)?;
        Ok(Self {
            table: Arc::clone(table.arrow()),
            kinds: Arc::clone(table),
            on_key,
            bounds,
            by_key,
            present,
            by_fields,
        })
    }

    /// What they say plainly of time and tags.
    pub(super) fn bounds(&self) -> &KeyBounds {
        &self.bounds
    }

    /// The stretches of files that may hold a row of a fitting time.
    pub(super) fn keep_stretches<'a>(&self, files: &'a FileList) -> DataFusionResult<Vec<&'a Stretch>> {
        let stretches: Vec<&Stretch> =
            files.stretches().filter(|stretch| self.bounds.let_pass(stretch.time())).collect();
        let Some(predicate) = self.by_key.as_ref().filter(|_| !stretches.is_empty()) else { return Ok(stretches) };
        let kept = predicate.prune(&Times(&stretches))?;
        Ok(stretches.into_iter().zip(kept).filter(|(_, keep)| *keep).map(|(stretch, _)| stretch).collect())
    }

    /// The units that may hold a row with a fitting key.
    pub(super) fn keep_by_key(&self, mut units: Vec<Unit>) -> DataFusionResult<Vec<Unit>> {
        units.retain(|unit| self.bounds.let_unit_pass(unit));
        self.keep(self.by_key.as_ref(), units)
    }

    /// Of units that may hold a row with a fitting key, those that may hold a fitting row. Only for units that share no point with another.
    pub(super) fn keep_by_fields(&self, mut units: Vec<Unit>) -> DataFusionResult<Vec<Unit>> {
        let has_one = |unit: &Unit, fields: &Vec<String>| fields.iter().any(|field| !is_without(unit, field));
        units.retain(|unit| self.present.iter().all(|fields| has_one(unit, fields)));
        self.keep(self.by_fields.as_ref(), units)
    }

    /// The filters on the key as one expression over `columns`.
    pub(super) fn on_key(
        &self,
        state: &dyn Session,
        columns: &Schema,
    ) -> DataFusionResult<Option<Arc<dyn PhysicalExpr>>> {
        physical(state, columns, self.on_key.clone())
    }

    fn keep(&self, predicate: Option<&PruningPredicate>, units: Vec<Unit>) -> DataFusionResult<Vec<Unit>> {
        let Some(predicate) = predicate.filter(|_| !units.is_empty()) else { return Ok(units) };
        let facts = Facts { units: &units, table: &self.table, kinds: &self.kinds };
        let kept = predicate.prune(&facts)?;
        Ok(units.into_iter().zip(kept).filter(|(_, keep)| *keep).map(|(unit, _)| unit).collect())
    }
}

/// Whether a filter means the same whenever it is asked, of one row at a time.
pub(in crate::query) fn speaks_of_rows(filter: &Expr) -> bool {
    let is_subquery = |expr: &Expr| {
        matches!(expr, Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_))
    };
    !filter.is_volatile() && !filter.exists(|expr| Ok(is_subquery(expr))).unwrap_or(true)
}

fn looks_at_key_only(table: &TableSchema, filter: &Expr) -> bool {
    let columns = filter.column_refs();
    !columns.is_empty() && columns.iter().all(|column| table.sort_key().any(|key| key == column.name))
}

/// The filters as one expression over `columns`; `None` if there are none.
pub(in crate::query) fn physical(
    state: &dyn Session,
    columns: &Schema,
    filters: Vec<Expr>,
) -> DataFusionResult<Option<Arc<dyn PhysicalExpr>>> {
    let Some(filter) = conjunction(filters) else { return Ok(None) };
    let columns = unqualified(columns)?;
    create_physical_expr(&filter, &columns, state.execution_props(), &PhysicalPlanningContext::default()).map(Some)
}

fn pruning_predicate(
    state: &dyn Session,
    table: &SchemaRef,
    filters: Vec<Expr>,
) -> DataFusionResult<Option<PruningPredicate>> {
    let Some(filter) = physical(state, table, filters)? else { return Ok(None) };
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(table)).try_build(filter)?;
    Ok(Some(predicate).filter(|predicate| !predicate.always_true()))
}

/// Whether no row of the unit has a value in this column.
fn is_without(unit: &Unit, column: &str) -> bool {
    let known = match unit {
        Unit::RowGroup { file, .. } => file.columns.position(column).and_then(|position| file.columns.at(position)),
        Unit::Rows { .. } => None,
    };
    column != TIME_COLUMN && Facts::lacks(unit, column, known.as_ref())
}

/// What is known of units without reading them.
struct Facts<'a> {
    units: &'a [Unit],
    table: &'a SchemaRef,
    kinds: &'a TableSchema,
}

impl Facts<'_> {
    fn row_count(unit: &Unit) -> u64 {
        match unit {
            Unit::RowGroup { file, number } => file.row_groups[*number].rows,
            Unit::Rows { run, rows, .. } => rows.as_ref().map_or(run.row_count(), Vec::len) as u64,
        }
    }

    /// Whether no row of the unit has a value in this tag or field, of which the catalog says `known`.
    fn lacks(unit: &Unit, column: &str, known: Option<&ColumnStatistics>) -> bool {
        match unit {
            Unit::RowGroup { file, .. } => known.is_none_or(|column| column.nulls == file.rows),
            Unit::Rows { run, .. } => run.schema().kind(column).is_none(),
        }
    }

    fn bounds(&self, column: &str, side: fn(&(Scalar, Scalar)) -> &Scalar) -> Option<ArrayRef> {
        let known = self.known_of(column);
        let values: Vec<Option<&Scalar>> =
            known.iter().map(|column| column.as_ref()?.bounds.as_ref().map(side)).collect();
        if values.iter().all(Option::is_none) {
            return None;
        }
        Some(scalars(self.kinds.kind(column)?, &values))
    }

    /// What the catalog says of a column of each unit's file.
    fn known_of(&self, name: &str) -> Vec<Option<ColumnStatistics>> {
        // Files of a table share their names, mostly: the column is looked for once.
        let mut found: Option<(&Arc<[ColumnName]>, Option<usize>)> = None;
        let mut known = Vec::with_capacity(self.units.len());
        for unit in self.units {
            let Unit::RowGroup { file, .. } = unit else {
                known.push(None);
                continue;
            };
            let names = file.columns.names();
            let (_, position) = match found {
                Some(known) if Arc::ptr_eq(known.0, names) => known,
                _ => *found.insert((names, file.columns.position(name))),
            };
            known.push(position.and_then(|position| file.columns.at(position)));
        }
        known
    }
}

/// Values of one column; one of another type, which the catalog never holds, counts as unknown.
fn scalars(kind: ColumnKind, values: &[Option<&Scalar>]) -> ArrayRef {
    macro_rules! array {
        ($array:ident, $variant:ident, $get:expr) => {
            Arc::new($array::from_iter(values.iter().map(|value| match value {
                Some(Scalar::$variant(value)) => Some($get(value)),
                _ => None,
            })))
        };
    }
    match kind {
        ColumnKind::Tag | ColumnKind::Field(FieldType::String) => array!(StringArray, String, String::as_str),
        ColumnKind::Field(FieldType::Float) => array!(Float64Array, Float, |value: &f64| *value),
        ColumnKind::Field(FieldType::Integer) => array!(Int64Array, Integer, |value: &i64| *value),
        ColumnKind::Field(FieldType::Unsigned) => array!(UInt64Array, Unsigned, |value: &u64| *value),
        ColumnKind::Field(FieldType::Boolean) => array!(BooleanArray, Boolean, |value: &bool| *value),
    }
}

impl PruningStatistics for Facts<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        if column.name == TIME_COLUMN {
            let times = self.units.iter().map(|unit| unit.time().min.as_nanos());
            return Some(Arc::new(TimestampNanosecondArray::from_iter_values(times)));
        }
        self.bounds(&column.name, |(min, _)| min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        if column.name == TIME_COLUMN {
            let times = self.units.iter().map(|unit| unit.time().max.as_nanos());
            return Some(Arc::new(TimestampNanosecondArray::from_iter_values(times)));
        }
        self.bounds(&column.name, |(_, max)| max)
    }

    fn num_containers(&self) -> usize {
        self.units.len()
    }

    /// Only the two extremes are known of a part of a file: no value at all, or none missing.
    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        self.table.field_with_name(&column.name).ok()?;
        if column.name == TIME_COLUMN {
            return Some(Arc::new(UInt64Array::from(vec![0; self.units.len()])));
        }
        let nulls = |(unit, known): (&Unit, Option<ColumnStatistics>)| {
            if Self::lacks(unit, &column.name, known.as_ref()) {
                return Some(Self::row_count(unit));
            }
            known.filter(|column| column.nulls == 0).map(|_| 0)
        };
        let known = self.known_of(&column.name);
        Some(Arc::new(UInt64Array::from_iter(self.units.iter().zip(known).map(nulls))))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.units.iter().map(Self::row_count))))
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// The times of stretches of files; nothing else is known of a whole stretch.
struct Times<'a>(&'a [&'a Stretch]);

impl Times<'_> {
    fn array(&self, column: &Column, side: fn(TimeRange) -> Timestamp) -> Option<ArrayRef> {
        let times = self.0.iter().map(|stretch| side(stretch.time()).as_nanos());
        (column.name == TIME_COLUMN).then(|| Arc::new(TimestampNanosecondArray::from_iter_values(times)) as ArrayRef)
    }
}

impl PruningStatistics for Times<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |time| time.min)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |time| time.max)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        (column.name == TIME_COLUMN).then(|| Arc::new(UInt64Array::from(vec![0; self.0.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::logical_expr::{Operator, binary_expr, col, lit};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        Column as TableColumn, ColumnName, DataFile, FileColumns, FileId, RowGroup, Sequence, SequenceRange, TableId,
        TimeRange, Timestamp,
    };

    fn name(text: &str) -> ColumnName {
        ColumnName::new(text).unwrap()
    }

    fn table() -> TableSchema {
        TableSchema::new([
            TableColumn { name: name("host"), kind: ColumnKind::Tag },
            TableColumn { name: name("usage"), kind: ColumnKind::Field(FieldType::Float) },
            TableColumn { name: name("late"), kind: ColumnKind::Field(FieldType::Integer) },
        ])
    }

    /// Two row groups: times 0..=9 and 10..=19, hosts "d" to "m", usage 1.0 to 2.0; no column `late`.
    fn units() -> Vec<Unit> {
        let text = |text: &str| Scalar::String(text.to_owned());
        let row_group = |min, max| RowGroup { rows: 10, time: TimeRange::from_nanos(min, max) };
        let file = Arc::new(DataFile {
            id: FileId::new(1),
            table: TableId::new(1),
            path: "a.parquet".to_owned(),
            bytes: 100,
            data_bytes: 90,
            tail_crc32c: 0,
            rows: 20,
            time: TimeRange::from_nanos(0, 19),
            sequences: SequenceRange::single(Sequence::new(1)),
            deletions_applied: 0,
            created: Timestamp::from_nanos(0),
            row_groups: vec![row_group(0, 9), row_group(10, 19)],
            columns: FileColumns::from_iter([
                ColumnStatistics { name: name("host"), nulls: 0, bounds: Some((text("d"), text("m"))) },
                ColumnStatistics {
                    name: name("usage"),
                    nulls: 3,
                    bounds: Some((Scalar::Float(1.0), Scalar::Float(2.0))),
                },
            ]),
        });
        (0..2).map(|number| Unit::RowGroup { file: Arc::clone(&file), number }).collect()
    }

    /// The row groups that are kept by key, and by all columns.
    fn kept(filter: Expr) -> (Vec<usize>, Vec<usize>) {
        let state = SessionStateBuilder::new().with_default_features().build();
        let filters = Filters::new(&state, &Arc::new(table()), &[filter]).unwrap();
        let numbers = |units: Vec<Unit>| {
            let number = |unit: &Unit| match unit {
                Unit::RowGroup { number, .. } => *number,
                Unit::Rows { .. } => usize::MAX,
            };
            units.iter().map(number).collect()
        };
        let by_key = filters.keep_by_key(units()).unwrap();
        (numbers(by_key.clone()), numbers(filters.keep_by_fields(by_key).unwrap()))
    }

    fn at(nanos: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(nanos), None))
    }

    fn tag(text: &str) -> Expr {
        let text = ScalarValue::Utf8(Some(text.to_owned()));
        lit(ScalarValue::Dictionary(Box::new(arrow::datatypes::DataType::Int32), Box::new(text)))
    }

    #[test]
    fn time_rules_out_stretches_of_files() {
        let mut file = match units().remove(0) {
            Unit::RowGroup { file, .. } => DataFile::clone(&file),
            Unit::Rows { .. } => unreachable!("they are row groups"),
        };
        let mut files = FileList::default();
        for number in 0..2_000 {
            (file.id, file.time) =
                (FileId::new(number), TimeRange::from_nanos(number as i64 * 20, number as i64 * 20 + 19));
            file.sequences = SequenceRange::single(Sequence::new(number));
            files.insert(Arc::new(file.clone()));
        }
        let state = SessionStateBuilder::new().with_default_features().build();
        let kept = |filter: Expr| -> Vec<i64> {
            let filters = Filters::new(&state, &Arc::new(table()), &[filter]).unwrap();
            let kept = filters.keep_stretches(&files).unwrap();
            kept.into_iter().map(|stretch| stretch.time().min.as_nanos()).collect()
        };
        let all: Vec<i64> = (0..8).map(|stretch| stretch * 256 * 20).collect();
        assert_eq!(kept(col("time").between(at(5_000), at(5_010))), [0], "inside the first");
        assert_eq!(kept(col("time").between(at(5_119), at(5_120))), [0, 5_120], "at a border");
        assert_eq!(kept(col("time").gt_eq(at(40_000))), [0_i64; 0], "after the last");
        assert_eq!(kept(col("host").eq(tag("zz"))), all, "of tags nothing is known");
        assert_eq!(kept(col("usage").gt(lit(9.0)).or(col("time").lt(at(5)))), all, "a field may be written again");
        assert_eq!(kept(col("host").eq(tag("zz")).and(col("time").lt(at(5)))), [0]);
    }

    #[test]
    fn time_rules_out_row_groups() {
        for (filter, row_groups) in [
            (col("time").gt_eq(at(10)), vec![1]),
            (col("time").lt(at(10)), vec![0]),
            (col("time").eq(at(9)), vec![0]),
            (col("time").gt(at(19)), vec![]),
            (col("time").between(at(9), at(10)), vec![0, 1]),
            (col("time").is_null(), vec![]),
            (col("time").gt_eq(at(10)).and(col("time").lt(at(10))), vec![]),
            (col("time").lt(at(5)).or(col("time").gt(at(15))), vec![0, 1]),
        ] {
            assert_eq!(kept(filter.clone()), (row_groups.clone(), row_groups), "{filter}");
        }
    }

    fn plain_filter() -> impl Strategy<Value = Expr> {
        let time = (0..5_usize, -3_i64..24, any::<bool>()).prop_map(|(op, nanos, is_left)| {
            let op = [Operator::Eq, Operator::Lt, Operator::LtEq, Operator::Gt, Operator::GtEq][op];
            let (time, nanos) = (col("time"), at(nanos));
            if is_left { binary_expr(time, op, nanos) } else { binary_expr(nanos, op, time) }
        });
        let host = prop::collection::vec("[a-p]", 1..4).prop_map(|hosts| {
            let equal = hosts.iter().map(|host| col("host").eq(tag(host)));
            equal.reduce(Expr::or).expect("one at the least")
        });
        let hosts = prop::collection::vec("[a-p]", 1..4)
            .prop_map(|hosts| col("host").in_list(hosts.iter().map(|host| tag(host)).collect(), false));
        let other = prop_oneof![
            Just(col("host").not_eq(tag("e"))),
            Just(col("time").not_eq(at(3))),
            Just(col("host").eq(tag("a")).or(col("time").lt(at(4)))),
            Just(col("host").is_null()),
        ];
        prop_oneof![4 => time, 2 => host, 1 => hosts, 2 => other]
    }

    proptest! {
        #[test]
        fn what_filters_say_plainly_keeps_the_units_that_pruning_keeps(
            filters in prop::collection::vec(plain_filter(), 1..5),
            is_one in any::<bool>(),
        ) {
            let filters = if is_one { vec![conjunction(filters).expect("one at the least")] } else { filters };
            let state = SessionStateBuilder::new().with_default_features().build();
            let by_pruning = pruning_predicate(&state, table().arrow(), filters.clone()).unwrap();
            let found = Filters::new(&state, &Arc::new(table()), &filters).unwrap();
            let expected = found.keep(by_pruning.as_ref(), units()).unwrap();
            let kept = found.keep_by_key(units()).unwrap();
            prop_assert_eq!(format!("{kept:?}"), format!("{expected:?}"));
        }
    }

    #[test]
    fn tags_rule_out_files_by_their_bounds() {
        for (filter, row_groups) in [
            (col("host").eq(tag("a")), vec![]),
            (tag("a").eq(col("host")), vec![]),
            (col("host").eq(tag("a")).or(col("host").eq(tag("e"))), vec![0, 1]),
            (col("host").eq(tag("a")).or(col("host").eq(tag("z"))), vec![]),
            (col("host").eq(tag("e")).and(col("host").eq(tag("a"))), vec![]),
            (col("host").eq(tag("d")), vec![0, 1]),
            (col("host").gt(tag("m")), vec![]),
            (col("host").in_list(vec![tag("a"), tag("z")], false), vec![]),
            (col("host").is_null(), vec![]),
        ] {
            assert_eq!(kept(filter.clone()), (row_groups.clone(), row_groups), "{filter}");
        }
    }

    #[test]
    fn a_field_rules_out_only_what_no_later_write_can_change() {
        let all = vec![0, 1];
        assert_eq!(kept(col("usage").gt(lit(5.0))), (all.clone(), vec![]));
        assert_eq!(kept(col("usage").gt(lit(1.5))), (all.clone(), all.clone()));
        assert_eq!(
            kept(col("usage").is_null()),
            (all.clone(), all.clone()),
            "three of the file's rows, in whichever row group"
        );
        assert_eq!(kept(col("late").gt(lit(0_i64))), (all.clone(), vec![]), "a column that the file lacks");
        assert_eq!(kept(col("late").is_null()), (all.clone(), all.clone()));
        // A filter on a tag and a field together says nothing about the key alone.
        assert_eq!(kept(col("host").eq(tag("a")).or(col("usage").gt(lit(5.0)))), (all, vec![]));
    }
}
