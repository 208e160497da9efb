//! Answers as one table, for ways in that know nothing of series: `/api/v3/query_influxql` and Flight.
//!
//! The columns are `iox::measurement`, the time, the tags that series are told apart by, and what was asked for; as in InfluxDB 3.
//! A column that has another type in each measurement is a float if all of them are numbers, else text. Where two columns would
//! share a name the later one gets a number.
//!
//! Always true: the columns follow from the statement and from what there is, so that a plan that is only described announces what a
//! run brings; rows come series by series, one measurement after the other.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::expressions::{CastExpr, Column, Literal};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, execute_stream};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;

use super::super::error::QueryError;
use super::super::parameters::Parameter;
use super::super::processors::Processors;
use super::super::running::{Lane, Watch};
use super::super::{Query, wire};
use super::answerer::Part;
use super::rows::arrow_type;
use super::value::Type;
use super::{Answerer, Cell, Listing, kind_of};
use crate::error::Error;
use crate::model::{COLUMN_TYPE_KEY, ColumnKind, FieldType};
use crate::syntax::influxql::{ServerFacts, Show, Shown, ShownAs, Statement, Value, parse};

/// The column that says which measurement a row belongs to.
const MEASUREMENT: &str = "iox::measurement";

/// A statement whose columns are known.
#[derive(Debug)]
pub(in crate::query) struct FlatPlan {
    schema: SchemaRef,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Series { answerer: Answerer, parts: Vec<Arc<dyn ExecutionPlan>> },
    Listings { answerer: Answerer, statement: Box<Statement> },
}

impl FlatPlan {
    /// Reads and plans the one statement of a text.
    ///
    /// # Errors
    /// What the statement can't mean, in the words of InfluxDB; `NotOneStatement`; `ReadOnly` for one that changes something.
    pub(in crate::query) async fn new(query: &Query, answerer: Answerer) -> Result<Self, QueryError> {
        let values: Vec<_> = query.parameters.iter().map(|(name, value)| (name.clone(), bound(value))).collect();
        let statements = parse(&query.text, &values)
            .map_err(|error| QueryError::Statement(format!("error parsing query: {error}")))?;
        let [statement] = statements.as_slice() else {
            return Err(match statements.len() {
                0 => QueryError::Empty,
                count => QueryError::NotOneStatement(count),
            });
        };
        match statement {
            Statement::Select(select) if select.into.is_none() => {
                let parts = answerer.parts(select).await?;
                let layout = Layout::new(&parts);
                let plans = parts.iter().map(|part| layout.project(part)).collect::<DataFusionResult<_>>()?;
                Ok(Self { schema: layout.schema, work: Work::Series { answerer, parts: plans } })
            }
            other => {
                let schema = listing_schema(other).ok_or_else(|| match super::changes(other) {
                    true => QueryError::Statement(format!("{} changes something: send it to /query", kind_of(other))),
                    false => QueryError::StatementUnsupported(format!(
                        "{} is none for one table; send it to /query",
                        kind_of(other)
                    )),
                })?;
                Ok(Self { schema, work: Work::Listings { answerer, statement: Box::new(other.clone()) } })
            }
        }
    }

    /// The columns of every batch, as they leave.
    pub(in crate::query) fn schema(&self) -> SchemaRef {
        wire::wire_schema(&self.schema)
    }

    /// Which slots it takes.
    pub(in crate::query) fn lane(&self) -> Lane {
        match &self.work {
            Work::Series { .. } => Lane::Rows,
            Work::Listings { statement, .. } => super::lane(statement),
        }
    }

    /// The rows, and on which threads they must be taken. Dropping the stream ends the work.
    ///
    /// # Errors
    /// None that can happen; a defect if one does.
    pub(in crate::query) fn run(
        self,
        watch: &Watch,
        cpu: &Processors,
    ) -> Result<(SendableRecordBatchStream, Handle), QueryError> {
        let schema = Arc::clone(&self.schema);
        Ok(match self.work {
            Work::Series { answerer, parts } => {
                let threads = cpu.fitting(&parts)?;
                let context = watch.context(&answerer.session);
                let batches = stream::iter(parts).map(move |part| execute_stream(part, Arc::clone(&context)));
                (Box::pin(RecordBatchStreamAdapter::new(schema, batches.try_flatten())), threads)
            }
            Work::Listings { answerer, statement } => {
                let columns = Arc::clone(&schema);
                let rows = stream::once(async move {
                    let failed = |error: QueryError| DataFusionError::External(Box::new(Error::from(error)));
                    let listings = answerer.listings(&statement).await.map_err(failed)?;
                    rows_of(&columns, &statement, &listings, &answerer)
                });
                (Box::pin(RecordBatchStreamAdapter::new(schema, rows.boxed())), cpu.quick.clone())
            }
        })
    }
}

fn bound(value: &Parameter) -> Value {
    let unusable = || Value::Unusable("a parameter must be a boolean, a number or a text".to_owned());
    match value {
        Parameter::Null => Value::Unusable("unable to bind parameter with type <nil>".to_owned()),
        Parameter::Boolean(value) => Value::Boolean(*value),
        Parameter::Integer(value) => Value::Integer(*value),
        Parameter::Unsigned(value) => i64::try_from(*value).map_or_else(|_| unusable(), Value::Integer),
        Parameter::Float(value) => Value::Number(*value),
        Parameter::String(value) => Value::String(value.clone()),
        Parameter::Arrow(array) => match ScalarValue::try_from_array(array, 0) {
            Ok(ScalarValue::Boolean(Some(value))) => Value::Boolean(value),
            Ok(ScalarValue::Int64(Some(value))) => Value::Integer(value),
            Ok(ScalarValue::Int32(Some(value))) => Value::Integer(i64::from(value)),
            Ok(ScalarValue::Float64(Some(value))) => Value::Number(value),
            Ok(value) => match value.try_as_str().flatten() {
                Some(text) => Value::String(text.to_owned()),
                None => unusable(),
            },
            Err(_) => unusable(),
        },
    }
}

/// The columns that the measurements of an answer have together.
struct Layout {
    schema: SchemaRef,
}

impl Layout {
    fn new(parts: &[Part]) -> Self {
        let mut names = UniqueNames::default();
        let mut fields = vec![field(&names.next(MEASUREMENT), DataType::Utf8, None)];
        let Some(first) = parts.first() else {
            fields.push(time_field(&names.next("time")));
            return Self { schema: Arc::new(Schema::new(fields)) };
        };
        fields.push(time_field(&names.next(&first.columns[0])));
        for group in &first.groups {
            fields.push(field(&names.next(group), DataType::Utf8, Some(ColumnKind::Tag)));
        }
        for (n, column) in first.columns.iter().enumerate().skip(1) {
            let kind = parts.iter().map(|part| part.kinds[n - 1]).fold(Type::Unknown, together);
            fields.push(field(&names.next(column), arrow_type(kind), column_kind(kind)));
        }
        Self { schema: Arc::new(Schema::new(fields)) }
    }

    /// The rows of one measurement with these columns.
    fn project(&self, part: &Part) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let schema = part.plan.schema();
        let groups = part.groups.len();
        // The plan has its tags first, then the time, then the columns.
        let places = std::iter::once(groups).chain(0..groups).chain(groups + 1..schema.fields().len());
        let measurement: Arc<dyn PhysicalExpr> = Arc::new(Literal::new(ScalarValue::from(&*part.measurement)));
        let mut columns = vec![ProjectionExpr { expr: measurement, alias: self.schema.field(0).name().clone() }];
        for (place, field) in places.zip(self.schema.fields().iter().skip(1)) {
            let own = schema.field(place);
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(own.name(), place));
            let expr: Arc<dyn PhysicalExpr> = match own.data_type() == field.data_type() {
                true => column,
                false => Arc::new(CastExpr::new(column, field.data_type().clone(), None)),
            };
            columns.push(ProjectionExpr { expr, alias: field.name().clone() });
        }
        Ok(Arc::new(ProjectionExec::try_new(columns, Arc::clone(&part.plan))?))
    }
}

/// The type that values of both types can have.
fn together(a: Type, b: Type) -> Type {
    match (a, b) {
        (Type::Unknown, other) | (other, Type::Unknown) => other,
        (a, b) if a == b => a,
        (a, b) if a.is_number() && b.is_number() => Type::Float,
        _ => Type::String,
    }
}

fn column_kind(kind: Type) -> Option<ColumnKind> {
    Some(match kind {
        Type::Unknown => return None,
        Type::Float => ColumnKind::Field(FieldType::Float),
        Type::Integer => ColumnKind::Field(FieldType::Integer),
        Type::Unsigned => ColumnKind::Field(FieldType::Unsigned),
        Type::String => ColumnKind::Field(FieldType::String),
        Type::Boolean => ColumnKind::Field(FieldType::Boolean),
        Type::Tag => ColumnKind::Tag,
    })
}

fn field(name: &str, data_type: DataType, kind: Option<ColumnKind>) -> Field {
    let metadata = kind.map(|kind| (COLUMN_TYPE_KEY.to_owned(), kind.wire_name().to_owned()));
    Field::new(name, data_type, true).with_metadata(metadata.into_iter().collect())
}

fn time_field(name: &str) -> Field {
    let kind = [(COLUMN_TYPE_KEY.to_owned(), "iox::column_type::timestamp".to_owned())];
    Field::new(name, DataType::Timestamp(TimeUnit::Nanosecond, None), true).with_metadata(kind.into_iter().collect())
}

/// Names that come once: Arrow's clients look columns up by them.
#[derive(Default)]
struct UniqueNames {
    taken: HashSet<String>,
    counts: BTreeMap<String, usize>,
}

impl UniqueNames {
    fn next(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while !self.taken.insert(name.clone()) {
            let count = self.counts.entry(wanted.to_owned()).or_insert(0);
            *count += 1;
            name = format!("{wanted}_{count}");
        }
        name
    }
}

/// The columns of a statement that answers with names; `None` if it has none here.
fn listing_schema(statement: &Statement) -> Option<SchemaRef> {
    let (mut texts, mut others): (Vec<&str>, Vec<(&str, DataType)>) = (Vec::new(), Vec::new());
    match statement {
        Statement::Show(show) => {
            texts.push(MEASUREMENT);
            match show {
                Show { what: Shown::Measurements, how: ShownAs::List, .. } => texts.push("name"),
                Show { what: Shown::FieldKeys, how: ShownAs::List, .. } => texts.extend(["fieldKey", "fieldType"]),
                Show { what: Shown::TagKeys, how: ShownAs::List, .. } => texts.push("tagKey"),
                Show { what: Shown::TagValues, how: ShownAs::List, .. } => texts.extend(["key", "value"]),
                Show { what: Shown::Series, how: ShownAs::List, .. } => texts.push("key"),
                _ => others.push(("count", DataType::Int64)),
            }
        }
        Statement::ShowServer(ServerFacts::Databases) => {
            texts.push("iox::database");
            others.push(("deleted", DataType::Boolean));
        }
        Statement::ShowServer(ServerFacts::Queries) => {
            let text = |name| Field::new(name, DataType::Utf8, true);
            let names = ["query", "database", "duration", "status"].map(text);
            return Some(Arc::new(Schema::new([&[Field::new("qid", DataType::Int64, true)], &names[..]].concat())));
        }
        Statement::ShowRetentionPolicies { .. } => {
            texts.extend(["iox::database", "name", "duration", "shardGroupDuration"]);
            others.extend([("replicaN", DataType::Int64), ("default", DataType::Boolean)]);
        }
        Statement::Explain { .. } => texts.push("QUERY PLAN"),
        _ => return None,
    }
    let texts = texts.into_iter().map(|name| (name, DataType::Utf8));
    let fields = texts.chain(others).map(|(name, data_type)| Field::new(name, data_type, true));
    Some(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

fn rows_of(
    schema: &SchemaRef,
    statement: &Statement,
    listings: &[Listing],
    answerer: &Answerer,
) -> DataFusionResult<RecordBatch> {
    let mut rows: Vec<Vec<Option<Cell>>> = Vec::new();
    for listing in listings {
        for row in &listing.rows {
            let cells = row.iter().cloned().map(Some);
            rows.push(match statement {
                Statement::Show(_) => std::iter::once(listing.name.clone().map(Cell::Text)).chain(cells).collect(),
                Statement::ShowServer(ServerFacts::Databases) => cells.chain([Some(Cell::Boolean(false))]).collect(),
                Statement::ShowRetentionPolicies { database } => {
                    let database = database.clone().or_else(|| answerer.catalog.database.clone());
                    std::iter::once(database.map(Cell::Text)).chain(cells).collect()
                }
                _ => cells.collect(),
            });
        }
    }
    let columns = schema.fields().iter().enumerate().map(|(n, field)| -> ArrayRef {
        let cells = rows.iter().map(|row| row.get(n).cloned().flatten());
        match field.data_type() {
            DataType::Int64 => Arc::new(Int64Array::from_iter(cells.map(|cell| match cell {
                Some(Cell::Integer(number)) => Some(number),
                _ => None,
            }))),
            DataType::Boolean => Arc::new(BooleanArray::from_iter(cells.map(|cell| match cell {
                Some(Cell::Boolean(value)) => Some(value),
                _ => None,
            }))),
            _ => Arc::new(StringArray::from_iter(cells.map(|cell| match cell {
                Some(Cell::Text(text)) => Some(text),
                _ => None,
            }))),
        }
    });
    Ok(RecordBatch::try_new(Arc::clone(schema), columns.collect())?)
}
