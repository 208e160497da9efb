//! Stand-ins for what columns are compared with, so that a plan can come again for other times, other texts and other values of parameters.
//!
//! A dashboard asks the same each time it is looked at, of the time until now; an application asks the same of each of its devices. What is planned
//! then, and kept, has stand-ins for instants and texts: literals that nobody means (those for values of parameters are marked), so that the planner settles their types as it settles those
//! of others. Before the optimizer sees them they become placeholders, of which it knows the type alone, and so concludes nothing from what is
//! not meant. What is meant comes into the filters of the table. A plan where a stand-in is not compared by a filter, or comes out elsewhere than in the
//! filters of the table, is not used.
//!
//! Not here: where literals are found (`literals` for SQL, `influxql::kept`), which parameters can be exchanged (`parameters`).

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::kept_operators::{lower_part, with_filters, with_filters_of_scan};
use super::predicates::single_comparisons;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::internal_err;
use datafusion::common::metadata::{FieldMetadata, ScalarAndMetadata};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::expr::{BinaryExpr, Cast, Placeholder};
use datafusion::logical_expr::utils::split_binary;
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};

/// The first of the instants that stand for others. It is no whole number of microseconds: whatever was rounded on its way is no stand-in.
const FIRST: i64 = 0x0123_4567_89AB_CDEF;

/// Around the number of a text that stands for another; of private use.
const MARK: char = '\u{F8FF}';

/// What the metadata of a literal has that stands for a value: its number.
const MARK_OF_VALUE: &str = "stand-in";

/// So many comparisons of one column take no more time than a look into a list.
const COMPARISONS_MAX: usize = 3;

/// Literals that are meant, and what stands for them.
#[derive(Debug, Clone, Default)]
pub(super) struct StandIns {
    /// The first stand-in stands for the first, and so on.
    instants: Vec<i64>,
    texts: Vec<String>,
    /// With how often each is there.
    values: Vec<(ScalarValue, usize)>,
}

/// Which of the literals that are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Instant(usize),
    Text(usize),
    Value(usize),
}

impl StandIns {
    /// For these instants, in nanoseconds, and these texts.
    pub(super) fn of(instants: Vec<i64>, texts: Vec<String>) -> Self {
        Self { instants, texts, values: Vec::new() }
    }

    /// For these values, none of them null, each as often as it is said to be there.
    pub(super) fn of_values(values: Vec<(ScalarValue, usize)>) -> Self {
        Self { values, ..Self::default() }
    }

    /// What stands for the value at this place, in whose type it is.
    pub(super) fn value(place: usize, value: &ScalarValue) -> ScalarAndMetadata {
        let mark = FieldMetadata::from(BTreeMap::from([(MARK_OF_VALUE.to_owned(), place.to_string())]));
        ScalarAndMetadata::new(value.clone(), Some(mark))
    }

    /// What stands for the instant at this place.
    pub(super) fn instant(place: usize) -> i64 {
        FIRST.saturating_add(i64::try_from(place).unwrap_or(i64::MAX))
    }

    /// What stands for the text at this place. It needs no escape in any language.
    pub(super) fn text(place: usize) -> String {
        format!("{MARK}{place}{MARK}")
    }

    /// The plan, whose types are settled, with placeholders for the stand-ins; `None` if not each of them is found in a filter, as what it stands
    /// for can be compared.
    ///
    /// # Errors
    /// None; walks may fail in general.
    pub(super) fn placed(&self, plan: LogicalPlan) -> DataFusionResult<Option<LogicalPlan>> {
        let times_found = (vec![0; self.instants.len()], vec![0; self.texts.len()], vec![0; self.values.len()]);
        let (times_found, fits) = (RefCell::new(times_found), Cell::new(true));
        let place = |expr: Expr, is_of_filter: bool| {
            expr.transform_down(|part| {
                let Some((place, wanted)) = self.found(&part) else { return Ok(self.without_list(part)) };
                fits.set(fits.get() && is_of_filter && self.meant(place, &wanted).is_some());
                let (instants, texts, values) = &mut *times_found.borrow_mut();
                let times = match place {
                    Place::Instant(place) => &mut instants[place],
                    Place::Text(place) => &mut texts[place],
                    Place::Value(place) => &mut values[place],
                };
                *times += 1;
                Ok(Transformed::new(placeholder((place, *times), wanted), true, TreeNodeRecursion::Jump))
            })
        };
        let placed = plan.transform_up(|node| match node {
            LogicalPlan::TableScan(scan) => {
                Ok(Transformed::yes(with_filters_of_scan(&scan, |filter| Ok(place(filter, true)?.data))?))
            }
            node => {
                let is_filter = matches!(node, LogicalPlan::Filter(_));
                node.map_expressions(|expr| place(expr, is_filter))
            }
        })?;
        let (instants, texts, values): (Vec<usize>, Vec<usize>, Vec<usize>) = times_found.into_inner();
        // A value whose mark were lost in one of its places would stay there.
        let all_values_are_found = values.iter().zip(&self.values).all(|(found, (_, times))| found == times);
        let all_are_found = all_values_are_found && instants.into_iter().chain(texts).all(|times| times > 0);
        Ok((fits.get() && all_are_found).then_some(placed.data))
    }

    /// A list with stand-ins as single comparisons: of two lists the optimizer takes members that are written differently for different values.
    fn without_list(&self, expr: Expr) -> Transformed<Expr> {
        match expr {
            Expr::InList(list) if list.list.iter().any(|member| self.found(member).is_some()) => {
                Transformed::yes(single_comparisons(list))
            }
            other => Transformed::no(other),
        }
    }

    /// Which stand-in an expression is, and in which type it is wanted.
    fn found(&self, expr: &Expr) -> Option<(Place, DataType)> {
        let place = |value, metadata: &Option<FieldMetadata>| match metadata {
            Some(metadata) => self.place_of_value(metadata),
            None => self.place(value),
        };
        match expr {
            Expr::Literal(value, metadata) => Some((place(value, metadata)?, value.data_type())),
            Expr::Cast(Cast { expr, field }) => match expr.as_ref() {
                Expr::Literal(value, metadata) => Some((place(value, metadata)?, field.data_type().clone())),
                _ => None,
            },
            _ => None,
        }
    }

    fn place_of_value(&self, metadata: &FieldMetadata) -> Option<Place> {
        let place = metadata.inner().get(MARK_OF_VALUE)?.parse().ok()?;
        (place < self.values.len()).then_some(Place::Value(place))
    }

    fn place(&self, value: &ScalarValue) -> Option<Place> {
        let instant = |nanos: i64| {
            let place = usize::try_from(nanos.checked_sub(FIRST)?).ok()?;
            (place < self.instants.len()).then_some(Place::Instant(place))
        };
        match value {
            ScalarValue::TimestampNanosecond(Some(nanos), _) => instant(*nanos),
            ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
                match text.strip_prefix(MARK).and_then(|text| text.strip_suffix(MARK)) {
                    Some(place) => {
                        let place = place.parse().ok()?;
                        (place < self.texts.len()).then_some(Place::Text(place))
                    }
                    None => instant(string_to_timestamp_nanos(text).ok()?),
                }
            }
            ScalarValue::Dictionary(_, value) => self.place(value),
            _ => None,
        }
    }

    /// What is meant, in this type; `None` if it has none such.
    fn meant(&self, place: Place, wanted: &DataType) -> Option<ScalarValue> {
        match (place, wanted) {
            (Place::Instant(place), DataType::Timestamp(TimeUnit::Nanosecond, None)) => {
                Some(ScalarValue::TimestampNanosecond(Some(*self.instants.get(place)?), None))
            }
            (Place::Text(place), wanted) => text_as(self.texts.get(place)?, wanted),
            (Place::Value(place), wanted) => value_as(&self.values.get(place)?.0, wanted),
            (Place::Instant(_), _) => None,
        }
    }

    /// Whether placeholders of a plan, as the optimizer leaves it, are only where they are exchanged.
    ///
    /// # Errors
    /// None; walks may fail in general.
    pub(super) fn are_only_below(plan: &LogicalPlan) -> DataFusionResult<bool> {
        let lower = lower_part(plan);
        let mut are_only_below = true;
        plan.apply_with_subqueries(|node| {
            if lower.is_some_and(|lower| std::ptr::eq(lower, node)) {
                return Ok(TreeNodeRecursion::Jump);
            }
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    are_only_below &= place_of(part).is_none();
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        })?;
        Ok(are_only_below)
    }

    /// The lower part of a plan with what is meant; `None` if it is the same.
    ///
    /// # Errors
    /// `Internal` if it has placeholders for others; a defect.
    pub(super) fn exchanged(&self, plan: &LogicalPlan) -> DataFusionResult<Option<LogicalPlan>> {
        let is_empty = self.instants.is_empty() && self.texts.is_empty() && self.values.is_empty();
        let lower = lower_part(plan).filter(|_| !is_empty);
        lower.map(|lower| with_filters(lower, |filter| self.exchange(filter))).transpose()
    }

    fn exchange(&self, filter: Expr) -> DataFusionResult<Expr> {
        let filter = filter.transform_down(|part| match list(&part) {
            Some(list) => Ok(Transformed::new(list, true, TreeNodeRecursion::Continue)),
            None => Ok(Transformed::no(part)),
        })?;
        let exchanged = filter.data.transform(|part| {
            let Some((place, wanted)) = place_of(&part) else { return Ok(Transformed::no(part)) };
            match self.meant(place, wanted) {
                Some(meant) => Ok(Transformed::yes(Expr::Literal(meant, None))),
                None => internal_err!("nothing is meant by {part}"),
            }
        });
        exchanged.map(|exchanged| exchanged.data)
    }
}

/// What the optimizer sees of a stand-in that is found for the n-th time: each time another, because what is the same it would compute once, apart from
/// the filter.
fn placeholder((place, nth): (Place, usize), wanted: DataType) -> Expr {
    let (kind, place) = match place {
        Place::Instant(place) => ("instant", place),
        Place::Text(place) => ("text", place),
        Place::Value(place) => ("value", place),
    };
    let id = format!("${MARK}{kind} {place} {nth}");
    Expr::Placeholder(Placeholder::new_with_field(id, Some(Arc::new(Field::new("", wanted, true)))))
}

/// Which stand-in a placeholder is for; `None` for those of users, too.
fn place_of(expr: &Expr) -> Option<(Place, &DataType)> {
    let Expr::Placeholder(Placeholder { id, field: Some(field) }) = expr else { return None };
    let (kind, place) = id.strip_prefix('$')?.strip_prefix(MARK)?.split_once(' ')?;
    let place = place.split_once(' ')?.0.parse().ok()?;
    let place = match kind {
        "instant" => Place::Instant(place),
        "text" => Place::Text(place),
        _ => Place::Value(place),
    };
    Some((place, field.data_type()))
}

/// Comparisons of one column as the list that they were, if there are many.
fn list(expr: &Expr) -> Option<Expr> {
    let comparisons = split_binary(expr, Operator::Or);
    if comparisons.len() <= COMPARISONS_MAX {
        return None;
    }
    let mut members = Vec::with_capacity(comparisons.len());
    let mut compared: Option<&Expr> = None;
    for comparison in comparisons {
        let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = comparison else { return None };
        (**compared.get_or_insert(left) == **left && place_of(right).is_some()).then_some(())?;
        members.push(right.as_ref().clone());
    }
    Some(compared?.clone().in_list(members, false))
}

/// A value in a type that holds all values of its own, or nearly: `None` for any other.
fn value_as(value: &ScalarValue, wanted: &DataType) -> Option<ScalarValue> {
    match (value, wanted) {
        (ScalarValue::Utf8(Some(text)), wanted) => text_as(text, wanted),
        (ScalarValue::Int64(_) | ScalarValue::UInt64(_), DataType::Float64) => value.cast_to(wanted).ok(),
        (value, wanted) => (value.data_type() == *wanted).then(|| value.clone()),
    }
}

fn text_as(text: &str, wanted: &DataType) -> Option<ScalarValue> {
    match wanted {
        DataType::Utf8 => Some(ScalarValue::Utf8(Some(text.to_owned()))),
        DataType::LargeUtf8 => Some(ScalarValue::LargeUtf8(Some(text.to_owned()))),
        DataType::Utf8View => Some(ScalarValue::Utf8View(Some(text.to_owned()))),
        DataType::Dictionary(keys, texts) => {
            Some(ScalarValue::Dictionary(keys.clone(), Box::new(text_as(text, texts)?)))
        }
        _ => None,
    }
}
