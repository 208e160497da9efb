//! Which column of a file is the time, which are tags, and which are fields of what type.
//!
//! Always true:
//! - every column of the file is the time, a tag, a field, or named in `--skip`; none is dropped silently;
//! - text is never guessed to be a tag: the user, the file's metadata or a dictionary says so, or it is an error.

use std::collections::BTreeMap;
use std::fmt::Write;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};

use crate::cli::transfer::table_file::{TableFile, kind_name};
use crate::model::{ColumnKind, FieldType};

/// Key of the metadata in which Flightline and InfluxDB 3 keep the kind of a column.
const COLUMN_TYPE_KEY: &str = "iox::column::type";

const SECOND: i64 = 1_000_000_000;

/// What the user said about columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wishes {
    pub time: String,
    /// Unit of times that are whole numbers: s, ms, us or ns.
    pub precision: Option<String>,
    /// `None` if nothing was said; none of the columns is a tag if it is empty.
    pub tags: Option<Vec<String>>,
    pub types: BTreeMap<String, ColumnKind>,
    pub skip: Vec<String>,
}

/// What each column of a file becomes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mapping {
    pub time: TimeColumn,
    /// Tags whose value is the same in the whole file, by name: parts of its path.
    pub constants: Vec<(String, String)>,
    pub tags: Vec<MappedColumn>,
    pub fields: Vec<(MappedColumn, FieldType)>,
}

/// The column with the time of each row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TimeColumn {
    pub column: MappedColumn,
    pub form: TimeForm,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeForm {
    /// A number of so many nanoseconds since 1970.
    Number { nanos: i64 },
    /// RFC 3339; without a zone it is UTC.
    Text,
}

/// A column of the file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MappedColumn {
    pub index: usize,
    pub name: String,
    pub source: DataType,
}

impl Mapping {
    /// Finds a place for every column of `schema`. `partitions` are the `key=value` directories above the file.
    ///
    /// # Errors
    /// What the user has to say, in words.
    pub(crate) fn new(
        schema: &Schema,
        wishes: &Wishes,
        partitions: &[(String, String)],
        table_file: Option<&TableFile>,
    ) -> Result<Self, String> {
        check_names(schema, wishes, partitions)?;
        let mut mapping = Self {
            time: time_column(schema, wishes)?,
            constants: constants(schema, wishes, partitions),
            tags: Vec::new(),
            fields: Vec::new(),
        };
        let kinds: Vec<Option<ColumnKind>> =
            schema.fields().iter().map(|field| known_kind(field, wishes, table_file)).collect();
        let mut undecided = Vec::new();
        let has_tags = wishes.tags.is_some() || kinds.contains(&Some(ColumnKind::Tag));
        for (index, (field, kind)) in schema.fields().iter().zip(kinds).enumerate() {
            let column = MappedColumn { index, name: field.name().clone(), source: field.data_type().clone() };
            if column.name == wishes.time || wishes.skip.contains(&column.name) {
                continue;
            }
            match kind.or_else(|| natural_type(field.data_type()).map(ColumnKind::Field)) {
                Some(ColumnKind::Tag) => mapping.tags.push(column),
                Some(ColumnKind::Field(FieldType::String)) if kind.is_none() && !has_tags => {
                    undecided.push(column.name)
                }
                Some(ColumnKind::Field(field_type)) => mapping.fields.push((column, field_type)),
                None => {
                    return Err(format!(
                        "column \"{}\" holds {}, which no field can hold: leave it out with --skip {0}, or make it a tag",
                        column.name, column.source
                    ));
                }
            }
        }
        if !undecided.is_empty() {
            return Err(format!(
                "which of these columns of text are tags, and which are fields? {}: say --tags with those that are tags \
                 (--tags '' if none is)",
                undecided.join(", ")
            ));
        }
        if mapping.fields.is_empty() {
            return Err("there is no column left that could be a field, and a point needs one".into());
        }
        if let Some(order) = &wishes.tags {
            mapping.tags.sort_by_key(|column| order.iter().position(|name| *name == column.name));
        }
        Ok(mapping)
    }

    /// What becomes of each column, one to a line.
    pub(crate) fn describe(&self) -> String {
        let TimeColumn { column, form } = &self.time;
        let form = match form {
            TimeForm::Text => "text".to_owned(),
            TimeForm::Number { .. } => column.source.to_string(),
        };
        let mut text = format!("  time   {} (from {form})", column.name);
        let tag = |text: &mut String, name: &str, source: &str| {
            let _ = write!(text, "\n  tag    {name} (from {source})");
        };
        for (name, value) in &self.constants {
            tag(&mut text, name, &format!("the path, here \"{value}\""));
        }
        for column in &self.tags {
            tag(&mut text, &column.name, &column.source.to_string());
        }
        for (column, field_type) in &self.fields {
            let kind = kind_name(ColumnKind::Field(*field_type));
            let _ = write!(text, "\n  field  {} {kind} (from {})", column.name, column.source);
        }
        text
    }
}

fn check_names(schema: &Schema, wishes: &Wishes, partitions: &[(String, String)]) -> Result<(), String> {
    let is_column = |name: &String| schema.field_with_name(name).is_ok();
    let is_partition = |name: &String| partitions.iter().any(|(key, _)| key == name);
    let mut tags = wishes.tags.iter().flatten();
    if let Some(missing) = tags.find(|name| !is_column(name) && !is_partition(name)) {
        return Err(format!("--tags names \"{missing}\", which is no column; there are {}", names(schema)));
    }
    if let Some(missing) = wishes.types.keys().find(|name| !is_column(name)) {
        return Err(format!("--types names \"{missing}\", which is no column; there are {}", names(schema)));
    }
    Ok(())
}

fn names(schema: &Schema) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn constants(schema: &Schema, wishes: &Wishes, partitions: &[(String, String)]) -> Vec<(String, String)> {
    let wanted = |name: &String| wishes.tags.as_ref().is_some_and(|tags| tags.contains(name));
    let is_new = |name: &String| schema.field_with_name(name).is_err();
    partitions.iter().filter(|(name, _)| wanted(name) && is_new(name)).cloned().collect()
}

fn time_column(schema: &Schema, wishes: &Wishes) -> Result<TimeColumn, String> {
    let Ok(index) = schema.index_of(&wishes.time) else {
        return Err(format!(
            "there is no column \"{}\" to take the time from; say --time with one of {}",
            wishes.time,
            names(schema)
        ));
    };
    let field = schema.field(index);
    let column = MappedColumn { index, name: field.name().clone(), source: field.data_type().clone() };
    let form = match field.data_type() {
        DataType::Timestamp(unit, _) => TimeForm::Number { nanos: unit_nanos(*unit) },
        DataType::Date32 => TimeForm::Number { nanos: 86_400 * SECOND },
        DataType::Date64 => TimeForm::Number { nanos: SECOND / 1_000 },
        whole if whole.is_integer() => TimeForm::Number {
            nanos: match wishes.precision.as_deref() {
                Some("s") => SECOND,
                Some("ms") => SECOND / 1_000,
                Some("us") => 1_000,
                Some("ns") => 1,
                _ => {
                    return Err(format!(
                        "the times in column \"{}\" are whole numbers: say --precision s, ms, us or ns",
                        field.name()
                    ));
                }
            },
        },
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TimeForm::Text,
        DataType::Dictionary(_, value) if value.is_string() => TimeForm::Text,
        other => return Err(format!("column \"{}\" holds {other}, which is no time", field.name())),
    };
    Ok(TimeColumn { column, form })
}

fn unit_nanos(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => SECOND,
        TimeUnit::Millisecond => SECOND / 1_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

/// What the user, `table.json`, the file's metadata or its type says; in this order.
fn known_kind(field: &Field, wishes: &Wishes, table_file: Option<&TableFile>) -> Option<ColumnKind> {
    let name = field.name();
    if let Some(kind) = wishes.types.get(name) {
        return Some(*kind);
    }
    if let Some(tags) = &wishes.tags {
        if tags.contains(name) {
            return Some(ColumnKind::Tag);
        }
        // What is not named is a field, whatever the file says.
        return natural_type(field.data_type()).map(ColumnKind::Field);
    }
    table_file
        .and_then(|table| table.kind(name))
        .or_else(|| kind_of_metadata(field))
        .or_else(|| matches!(field.data_type(), DataType::Dictionary(..)).then_some(ColumnKind::Tag))
}

fn kind_of_metadata(field: &Field) -> Option<ColumnKind> {
    let name = field.metadata().get(COLUMN_TYPE_KEY)?;
    let types = [FieldType::Float, FieldType::Integer, FieldType::Unsigned, FieldType::String, FieldType::Boolean];
    let kinds = types.into_iter().map(ColumnKind::Field).chain([ColumnKind::Tag]);
    kinds.into_iter().find(|kind| kind.wire_name() == name)
}

/// The type of field that holds such values. A decimal becomes the nearest double.
fn natural_type(data_type: &DataType) -> Option<FieldType> {
    Some(match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => FieldType::Float,
        decimal if decimal.is_decimal() => FieldType::Float,
        unsigned if unsigned.is_unsigned_integer() => FieldType::Unsigned,
        signed if signed.is_signed_integer() => FieldType::Integer,
        DataType::Boolean => FieldType::Boolean,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => FieldType::String,
        DataType::Dictionary(_, value) => return natural_type(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn wishes(tags: Option<&[&str]>) -> Wishes {
        Wishes {
            time: "time".into(),
            tags: tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect()),
            ..Wishes::default()
        }
    }

    fn schema(columns: &[(&str, DataType)]) -> Schema {
        let zoned = DataType::Timestamp(TimeUnit::Microsecond, Some("Europe/Berlin".into()));
        let time = Field::new("time", zoned, true);
        let others = columns.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true));
        Schema::new(std::iter::once(time).chain(others).collect::<Vec<_>>())
    }

    fn described(schema: &Schema, wishes: &Wishes, partitions: &[(&str, &str)]) -> String {
        let owned: Vec<_> = partitions.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        match Mapping::new(schema, wishes, &owned, None) {
            Ok(mapping) => mapping.describe(),
            Err(message) => message,
        }
    }

    #[test]
    fn text_needs_a_word_of_the_user() {
        let schema = schema(&[("host", DataType::Utf8), ("note", DataType::Utf8), ("level", DataType::Float32)]);
        let message = described(&schema, &wishes(None), &[]);
        assert!(message.contains("host, note: say --tags"), "{message}");
        assert_eq!(
            described(&schema, &wishes(Some(&["host"])), &[]),
            "  time   time (from Timestamp(µs, \"Europe/Berlin\"))\n  tag    host (from Utf8)\n  \
             field  note string (from Utf8)\n  field  level float (from Float32)"
        );
        assert!(described(&schema, &wishes(Some(&[])), &[]).contains("field  host string"));
    }

    #[test]
    fn dictionaries_and_metadata_tell_tags() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let by_type = schema(&[("host", dictionary), ("note", DataType::Utf8)]);
        assert!(described(&by_type, &wishes(None), &[]).contains("tag    host"));
        assert!(described(&by_type, &wishes(None), &[]).contains("field  note string"));
        let tag = HashMap::from([(COLUMN_TYPE_KEY.to_owned(), ColumnKind::Tag.wire_name().to_owned())]);
        let mut fields: Vec<Field> =
            schema(&[("n", DataType::Int32)]).fields().iter().map(|field| field.as_ref().clone()).collect();
        fields.push(Field::new("host", DataType::Utf8, true).with_metadata(tag));
        assert!(described(&Schema::new(fields), &wishes(None), &[]).contains("tag    host"));
    }

    #[test]
    fn directories_become_tags_where_they_are_named() {
        let schema = schema(&[("level", DataType::Int8)]);
        let partitions = [("day", "2024-01-01"), ("site", "x")];
        let text = described(&schema, &wishes(Some(&["site"])), &partitions);
        assert!(text.contains("tag    site (from the path, here \"x\")") && !text.contains("day"), "{text}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let plain = schema(&[("level", DataType::Int8)]);
        assert!(described(&plain, &wishes(Some(&["hots"])), &[]).contains("\"hots\", which is no column"));
        let other = Wishes { time: "ts".into(), ..wishes(None) };
        assert!(described(&plain, &other, &[]).contains("say --time with one of time, level"));
        let nested = schema(&[("level", DataType::Int8), ("blob", DataType::Binary)]);
        assert!(described(&nested, &wishes(None), &[]).contains("--skip blob"));
        assert!(described(&schema(&[]), &wishes(None), &[]).contains("could be a field"));
        let whole = Wishes { time: "level".into(), ..wishes(None) };
        assert!(described(&plain, &whole, &[]).contains("say --precision"));
    }
}
