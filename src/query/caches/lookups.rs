//! Filters that are look-ups: a tag of the key equals a text, or one of some.

use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, InList};
use datafusion::logical_expr::{Expr, Operator};

use crate::engine::caches::Lookup;
use crate::model::{ColumnKind, ColumnName, TableSchema};

/// What a filter looks up; `None` if it says something else. Where it is a look-up it says nothing more.
pub(super) fn lookup(filter: &Expr, keys: &[ColumnName], table: &TableSchema) -> Option<Lookup> {
    let (column, values) = equalities(filter)?;
    let values = values.into_iter().map(|value| value.map(text).map_or(Some(None), |text| text.map(Some)));
    let values = values.collect::<Option<_>>()?;
    is_looked_up(&column, keys, table).then_some(Lookup { column, values })
}

/// Whether a filter is a look-up, or will be one when its placeholders have values.
pub(super) fn is_lookup(filter: &Expr, keys: &[ColumnName], table: &TableSchema) -> bool {
    let Some((column, values)) = equalities(filter) else { return false };
    let is_text = |value: &Expr| match value {
        Expr::Placeholder(placeholder) => {
            placeholder.field.as_ref().is_some_and(|field| is_text_type(field.data_type()))
        }
        value => text(value).is_some(),
    };
    is_looked_up(&column, keys, table) && values.into_iter().flatten().all(is_text)
}

fn is_looked_up(column: &str, keys: &[ColumnName], table: &TableSchema) -> bool {
    table.kind(column) == Some(ColumnKind::Tag) && keys.iter().any(|key| key.as_str() == column)
}

fn is_text_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, texts) => texts.is_string(),
        plain => plain.is_string(),
    }
}

/// The column that is compared, and with what: nothing stands for null.
fn equalities(filter: &Expr) -> Option<(String, Vec<Option<&Expr>>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => match column(left) {
            Some(column) => Some((column, vec![Some(right)])),
            None => Some((column(right)?, vec![Some(left)])),
        },
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((left, mut values), (right, more)) = (equalities(left)?, equalities(right)?);
            values.extend(more);
            (left == right).then_some((left, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => Some((column(expr)?, list.iter().map(Some).collect())),
        Expr::IsNull(expr) => Some((column(expr)?, vec![None])),
        _ => None,
    }
}

fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Column(column) => Some(column.name.clone()),
        Expr::Cast(Cast { expr, field }) if field.data_type().is_string() => column(expr),
        _ => None,
    }
}

/// A text; a null equals nothing and is left to others.
fn text(expr: &Expr) -> Option<String> {
    let Expr::Literal(value, _) = expr else { return None };
    text_of(value)
}

fn text_of(value: &ScalarValue) -> Option<String> {
    match value {
        ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text) => text.clone(),
        ScalarValue::Dictionary(_, value) => text_of(value),
        _ => None,
    }
}
