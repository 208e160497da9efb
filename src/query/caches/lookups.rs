//! Filters that are look-ups: a tag of the key equals a text, or one of some.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, InList};
use datafusion::logical_expr::{Expr, Operator};

use crate::engine::caches::Lookup;
use crate::model::{ColumnKind, ColumnName, TableSchema};

/// What a filter looks up; `None` if it says something else. Where it is a look-up it says nothing more.
pub(super) fn lookup(filter: &Expr, keys: &[ColumnName], table: &TableSchema) -> Option<Lookup> {
    let (column, values) = equalities(filter)?;
    let is_tag = table.kind(&column) == Some(ColumnKind::Tag);
    (is_tag && keys.iter().any(|key| key.as_str() == column)).then_some(Lookup { column, values })
}

fn equalities(filter: &Expr) -> Option<(String, Vec<Option<String>>)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let column = column(left).or_else(|| column(right))?;
            let value = text(right).or_else(|| text(left))?;
            Some((column, vec![Some(value)]))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((left, mut values), (right, more)) = (equalities(left)?, equalities(right)?);
            values.extend(more);
            (left == right).then_some((left, values))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let values = list.iter().map(|value| text(value).map(Some)).collect::<Option<_>>()?;
            Some((column(expr)?, values))
        }
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
