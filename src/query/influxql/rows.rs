//! Rows of Arrow batches as values, and values as Arrow columns.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBuilder, Float64Array, Float64Builder, Int64Array, Int64Builder,
    RecordBatch, StringArray, StringBuilder, TimestampNanosecondArray, TimestampNanosecondBuilder, UInt64Array,
    UInt64Builder,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType, UInt64Type,
};
use datafusion::common::internal_datafusion_err;
use datafusion::error::Result as DataFusionResult;

use super::level::Level;
use super::series::Row;
use super::value::{Type, Value};

/// How a column of this type is in Arrow. What nothing has is a column of nulls.
pub(super) fn arrow_type(kind: Type) -> DataType {
    match kind {
        Type::Float | Type::Unknown => DataType::Float64,
        Type::Integer => DataType::Int64,
        Type::Unsigned => DataType::UInt64,
        Type::String | Type::Tag => DataType::Utf8,
        Type::Boolean => DataType::Boolean,
    }
}

/// Columns of a batch, row by row.
#[derive(Debug)]
pub(super) struct BatchRows {
    times: TimestampNanosecondArray,
    columns: Vec<ColumnValues>,
    row: usize,
}

/// The values of a column, one by one.
#[derive(Debug)]
pub(super) enum ColumnValues {
    Float(Float64Array),
    Integer(Int64Array),
    Unsigned(UInt64Array),
    Boolean(BooleanArray),
    /// With the last text: neighbours are often alike.
    String(StringArray, Option<Arc<str>>),
}

impl BatchRows {
    /// The rows of a batch whose last column of those that count is the time; hidden ones may follow.
    ///
    /// # Errors
    /// If a column has another type than those of [`arrow_type`] or of a tag; a defect.
    pub(super) fn new(batch: &RecordBatch, count: usize) -> DataFusionResult<Self> {
        let columns = (0..count).map(|n| ColumnValues::of(batch.column(n))).collect::<DataFusionResult<_>>()?;
        let times = batch.column(count).as_primitive_opt::<TimestampNanosecondType>();
        let times = times.ok_or_else(|| internal_datafusion_err!("rows of a series without times"))?;
        Ok(Self { times: times.clone(), columns, row: 0 })
    }

    /// The next row: its time and the values of its columns.
    pub(super) fn next(&mut self) -> Option<(i64, Vec<Value>)> {
        let row = self.row;
        if row >= self.times.len() {
            return None;
        }
        self.row += 1;
        Some((self.times.value(row), self.columns.iter_mut().map(|column| column.value(row)).collect()))
    }
}

impl ColumnValues {
    /// # Errors
    /// If it has another type than those of [`arrow_type`] or of a tag; a defect.
    pub(super) fn of(column: &ArrayRef) -> DataFusionResult<Self> {
        Ok(match column.data_type() {
            DataType::Float64 => Self::Float(column.as_primitive::<Float64Type>().clone()),
            DataType::Int64 => Self::Integer(column.as_primitive::<Int64Type>().clone()),
            DataType::UInt64 => Self::Unsigned(column.as_primitive::<UInt64Type>().clone()),
            DataType::Boolean => Self::Boolean(column.as_boolean().clone()),
            DataType::Utf8 => Self::String(column.as_string::<i32>().clone(), None),
            DataType::Dictionary(..) => Self::String(cast(column, &DataType::Utf8)?.as_string::<i32>().clone(), None),
            other => return Err(internal_datafusion_err!("a column of InfluxQL can't be {other}")),
        })
    }

    pub(super) fn value(&mut self, row: usize) -> Value {
        match self {
            Self::Float(values) if values.is_valid(row) => Value::Float(values.value(row)),
            Self::Integer(values) if values.is_valid(row) => Value::Integer(values.value(row)),
            Self::Unsigned(values) if values.is_valid(row) => Value::Unsigned(values.value(row)),
            Self::Boolean(values) if values.is_valid(row) => Value::Boolean(values.value(row)),
            Self::String(values, last) if values.is_valid(row) => {
                let text = values.value(row);
                let shared = match last {
                    Some(shared) if **shared == *text => Arc::clone(shared),
                    _ => Arc::clone(last.insert(Arc::from(text))),
                };
                Value::String(shared)
            }
            _ => Value::Null,
        }
    }
}

/// Rows of an answer on their way into a batch.
#[derive(Debug)]
pub(super) struct Builder {
    schema: SchemaRef,
    groups: Vec<StringBuilder>,
    times: TimestampNanosecondBuilder,
    columns: Vec<ColumnBuilder>,
    row_count: usize,
}

#[derive(Debug)]
enum ColumnBuilder {
    Float(Float64Builder),
    Integer(Int64Builder),
    Unsigned(UInt64Builder),
    Boolean(BooleanBuilder),
    String(StringBuilder),
}

/// The columns of a level's answer: the tags of the series, `time`, the columns. Their names are their places, since columns
/// may share a name.
pub(super) fn answer_schema(level: &Level) -> SchemaRef {
    let mut fields: Vec<Field> =
        (0..level.groups.len()).map(|n| Field::new(format!("g{n}"), DataType::Utf8, false)).collect();
    fields.push(Field::new("time", DataType::Timestamp(TimeUnit::Nanosecond, None), false));
    let columns = level.columns.iter().enumerate();
    fields.extend(columns.map(|(n, column)| Field::new(format!("c{n}"), arrow_type(column.kind), true)));
    Arc::new(Schema::new(fields))
}

impl Builder {
    pub(super) fn new(level: &Level) -> Self {
        let column = |kind| match kind {
            Type::Float | Type::Unknown => ColumnBuilder::Float(Float64Builder::new()),
            Type::Integer => ColumnBuilder::Integer(Int64Builder::new()),
            Type::Unsigned => ColumnBuilder::Unsigned(UInt64Builder::new()),
            Type::String | Type::Tag => ColumnBuilder::String(StringBuilder::new()),
            Type::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
        };
        Self {
            schema: answer_schema(level),
            groups: level.groups.iter().map(|_| StringBuilder::new()).collect(),
            times: TimestampNanosecondBuilder::new(),
            columns: level.columns.iter().map(|answer| column(answer.kind)).collect(),
            row_count: 0,
        }
    }

    pub(super) fn row_count(&self) -> usize {
        self.row_count
    }

    pub(super) fn push(&mut self, row: &Row) {
        for (builder, tag) in self.groups.iter_mut().zip(row.series.iter()) {
            builder.append_value(if let Value::String(text) = tag { text } else { "" });
        }
        self.times.append_value(row.time);
        for (builder, value) in self.columns.iter_mut().zip(&row.values) {
            builder.push(value);
        }
        self.row_count += 1;
    }

    pub(super) fn finish(&mut self) -> DataFusionResult<RecordBatch> {
        let mut columns: Vec<ArrayRef> =
            self.groups.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef).collect();
        columns.push(Arc::new(self.times.finish()));
        columns.extend(self.columns.iter_mut().map(ColumnBuilder::finish));
        self.row_count = 0;
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl ColumnBuilder {
    fn push(&mut self, value: &Value) {
        match self {
            // A number that is none is nothing, as in InfluxDB.
            Self::Float(builder) => builder.append_option(value.as_f64().filter(|number| !number.is_nan())),
            Self::Integer(builder) => builder.append_option(match value.cast(Type::Integer) {
                Value::Integer(number) => Some(number),
                _ => None,
            }),
            Self::Unsigned(builder) => builder.append_option(match value.cast(Type::Unsigned) {
                Value::Unsigned(number) => Some(number),
                _ => None,
            }),
            Self::Boolean(builder) => builder.append_option(match value {
                Value::Boolean(truth) => Some(*truth),
                _ => None,
            }),
            Self::String(builder) => builder.append_option(match value {
                Value::String(text) => Some(text),
                _ => None,
            }),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Float(builder) => Arc::new(builder.finish()),
            Self::Integer(builder) => Arc::new(builder.finish()),
            Self::Unsigned(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::String(builder) => Arc::new(builder.finish()),
        }
    }
}
