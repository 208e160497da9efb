//! What columns a table has, how a write widens it, and how it looks in Arrow.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::names::{ColumnName, TIME_COLUMN};

/// Key of the Arrow field metadata in which clients of InfluxDB 3 look for a column's kind.
pub const COLUMN_TYPE_KEY: &str = "iox::column::type";

/// What clients of InfluxDB 3 call the kind of `time`.
const TIME_WIRE_NAME: &str = "iox::column_type::timestamp";

/// Takes the kind of a column from a field whose type is none of that kind. A cast keeps the metadata of what it was made of, and
/// clients of InfluxDB 3 believe it: a number that is said to be a time is multiplied by a million.
pub fn without_foreign_kind(mut field: Field) -> Field {
    let fits = match field.metadata().get(COLUMN_TYPE_KEY).map(String::as_str) {
        None => true,
        Some(TIME_WIRE_NAME) => matches!(field.data_type(), DataType::Timestamp(_, _)),
        Some(name) => match ColumnKind::from_wire_name(name) {
            Some(ColumnKind::Tag) => matches!(field.data_type(), DataType::Utf8 | DataType::Dictionary(_, _)),
            Some(kind @ ColumnKind::Field(_)) => *field.data_type() == kind.data_type(),
            None => true,
        },
    };
    if !fits {
        field.metadata_mut().remove(COLUMN_TYPE_KEY);
    }
    field
}

/// The type of a field's values. A field keeps its type for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldType {
    /// 64-bit floating point.
    Float,
    /// 64-bit signed.
    Integer,
    /// 64-bit unsigned.
    Unsigned,
    /// UTF-8 text.
    String,
    /// True or false.
    Boolean,
}

/// What a column is for. A column keeps its kind for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ColumnKind {
    /// Part of the series key: text, null where a point lacks the tag.
    Tag,
    /// A measured value, null where no write of the point had it.
    Field(FieldType),
}

impl ColumnKind {
    /// The Arrow type of the column in storage.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Tag => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Self::Field(FieldType::Float) => DataType::Float64,
            Self::Field(FieldType::Integer) => DataType::Int64,
            Self::Field(FieldType::Unsigned) => DataType::UInt64,
            Self::Field(FieldType::String) => DataType::Utf8,
            Self::Field(FieldType::Boolean) => DataType::Boolean,
        }
    }

    /// The kind with this name, if there is one.
    pub fn from_wire_name(name: &str) -> Option<Self> {
        use FieldType::{Boolean, Float, Integer, String, Unsigned};
        let fields = [Float, Integer, Unsigned, String, Boolean].map(Self::Field);
        [Self::Tag].into_iter().chain(fields).find(|kind| kind.wire_name() == name)
    }

    /// The name by which clients of InfluxDB 3 know the kind, such as `iox::column_type::field::float`.
    pub fn wire_name(self) -> &'static str {
        match self {
            Self::Tag => "iox::column_type::tag",
            Self::Field(FieldType::Float) => "iox::column_type::field::float",
            Self::Field(FieldType::Integer) => "iox::column_type::field::integer",
            Self::Field(FieldType::Unsigned) => "iox::column_type::field::uinteger",
            Self::Field(FieldType::String) => "iox::column_type::field::string",
            Self::Field(FieldType::Boolean) => "iox::column_type::field::boolean",
        }
    }
}

/// A tag or field: everything but `time`, which every table has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Column {
    /// The name, unique in its table among tags and fields together.
    pub name: ColumnName,
    /// Tag, or field of a type.
    pub kind: ColumnKind,
}

impl Column {
    fn arrow_field(&self) -> Field {
        arrow_field(self.name.as_str(), self.kind.data_type(), true, self.kind.wire_name())
    }
}

/// Why columns don't fit a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The column exists with another kind or type; the words are those of InfluxDB 3.
    #[error("invalid column type for column '{column}', expected {}, got {}", expected.wire_name(), got.wire_name())]
    Kind {
        /// The column.
        column: ColumnName,
        /// What the table has.
        expected: ColumnKind,
        /// What the write has.
        got: ColumnKind,
    },
}

/// The outcome of [`TableSchema::widen`].
#[derive(Debug, Clone)]
pub struct Widened {
    /// The schema with the new columns.
    pub schema: TableSchema,
    /// What was new, tags in the order of the write. Empty if nothing was.
    pub added: Vec<Column>,
}

/// The columns of a table.
///
/// The series key is all tags in the order in which the table first saw them; the sort key of every
/// sorted run is the series key and then `time`. In Arrow the columns stand in the order of their names.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    tags: Vec<ColumnName>,
    fields: BTreeMap<ColumnName, FieldType>,
    arrow: SchemaRef,
}

impl TableSchema {
    /// A schema of these columns. Of two columns with one name the first counts.
    pub fn new(columns: impl IntoIterator<Item = Column>) -> Self {
        let mut tags: Vec<ColumnName> = Vec::new();
        let mut fields = BTreeMap::new();
        for Column { name, kind } in columns {
            if tags.contains(&name) || fields.contains_key(&name) {
                continue;
            }
            match kind {
                ColumnKind::Tag => tags.push(name),
                ColumnKind::Field(field_type) => {
                    fields.insert(name, field_type);
                }
            }
        }
        let arrow = arrow_schema(&tags, &fields);
        Self { tags, fields, arrow }
    }

    /// The tags, in the order of the series key.
    pub fn tags(&self) -> &[ColumnName] {
        &self.tags
    }

    /// The fields by name.
    pub fn fields(&self) -> impl Iterator<Item = (&ColumnName, FieldType)> {
        self.fields.iter().map(|(name, field_type)| (name, *field_type))
    }

    /// Tags in series-key order, then fields by name.
    pub fn columns(&self) -> impl Iterator<Item = Column> + '_ {
        let tags = self.tags.iter().map(|name| Column { name: name.clone(), kind: ColumnKind::Tag });
        let fields =
            self.fields().map(|(name, field_type)| Column { name: name.clone(), kind: ColumnKind::Field(field_type) });
        tags.chain(fields)
    }

    /// How many tags and fields there are; `time` is not counted.
    pub fn column_count(&self) -> usize {
        self.tags.len() + self.fields.len()
    }

    /// What the column of this name is, if there is one. `time` is none of them.
    pub fn kind(&self, name: &str) -> Option<ColumnKind> {
        if let Some(field_type) = self.fields.get(name) {
            return Some(ColumnKind::Field(*field_type));
        }
        self.tags.iter().any(|tag| tag.as_str() == name).then_some(ColumnKind::Tag)
    }

    /// The schema in Arrow: tags, fields and `time` by name; tags as `Dictionary(Int32, Utf8)`,
    /// `time` as `Timestamp(Nanosecond, None)` not null, the kind of each column in its metadata.
    pub fn arrow(&self) -> &SchemaRef {
        &self.arrow
    }

    /// The sort key: the series key, then `time`.
    pub fn sort_key(&self) -> impl Iterator<Item = &str> {
        self.tags.iter().map(ColumnName::as_str).chain(std::iter::once(TIME_COLUMN))
    }

    /// This schema with the columns of `other` that it lacks, new tags at the end of the series key.
    ///
    /// # Errors
    /// If a column of `other` exists here with another kind or type.
    pub fn widen(&self, other: &Self) -> Result<Widened, SchemaError> {
        let mut added = Vec::new();
        for column in other.columns() {
            match self.kind(column.name.as_str()) {
                None => added.push(column),
                Some(expected) if expected == column.kind => {}
                Some(expected) => return Err(SchemaError::Kind { column: column.name, expected, got: column.kind }),
            }
        }
        let schema =
            if added.is_empty() { self.clone() } else { Self::new(self.columns().chain(added.iter().cloned())) };
        Ok(Widened { schema, added })
    }
}

fn arrow_schema(tags: &[ColumnName], fields: &BTreeMap<ColumnName, FieldType>) -> SchemaRef {
    let time_type = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let mut arrow: Vec<Field> = Vec::with_capacity(tags.len() + fields.len() + 1);
    arrow.push(arrow_field(TIME_COLUMN, time_type, false, TIME_WIRE_NAME));
    arrow.extend(tags.iter().map(|name| Column { name: name.clone(), kind: ColumnKind::Tag }.arrow_field()));
    arrow.extend(
        fields.iter().map(|(name, field_type)| {
            Column { name: name.clone(), kind: ColumnKind::Field(*field_type) }.arrow_field()
        }),
    );
    arrow.sort_by(|a, b| a.name().cmp(b.name()));
    Arc::new(Schema::new(arrow))
}

fn arrow_field(name: &str, data_type: DataType, nullable: bool, wire_name: &str) -> Field {
    Field::new(name, data_type, nullable)
        .with_metadata(HashMap::from([(COLUMN_TYPE_KEY.to_owned(), wire_name.to_owned())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: ColumnKind) -> Column {
        Column { name: ColumnName::new(name).unwrap(), kind }
    }

    #[test]
    fn a_new_tag_goes_to_the_end_of_the_series_key() {
        let old =
            TableSchema::new([column("region", ColumnKind::Tag), column("usage", ColumnKind::Field(FieldType::Float))]);
        let write = TableSchema::new([column("host", ColumnKind::Tag), column("region", ColumnKind::Tag)]);
        let widened = old.widen(&write).unwrap();
        assert_eq!(widened.added, [column("host", ColumnKind::Tag)]);
        assert_eq!(widened.schema.sort_key().collect::<Vec<_>>(), ["region", "host", "time"]);
        let names: Vec<_> = widened.schema.arrow().fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, ["host", "region", "time", "usage"]);
    }

    #[test]
    fn a_field_keeps_its_type() {
        let old = TableSchema::new([column("usage", ColumnKind::Field(FieldType::Float))]);
        let write = TableSchema::new([column("usage", ColumnKind::Field(FieldType::Integer))]);
        assert_eq!(
            old.widen(&write).unwrap_err().to_string(),
            "invalid column type for column 'usage', expected iox::column_type::field::float, got iox::column_type::field::integer"
        );
    }
}
