//! Plans that come as plans: Substrait's protobuf in the place of a text.
//!
//! Names of tables go through the same session as those of a text, so that a plan sees what its asker may read and nothing else. It
//! is within the bounds of [`shape`] before DataFusion looks at it, and then checked as every plan is (`statement::check_plan`).
//!
//! Always true: whatever bytes come, they are a plan or a reason why not.

mod shape;

use std::panic::AssertUnwindSafe;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion_substrait::logical_plan::consumer::from_substrait_plan;
use datafusion_substrait::serializer::deserialize_bytes;
use futures::FutureExt;

use super::error::QueryError;
use super::stream::panic_text;

/// The releases of Substrait whose plans are understood: the oldest that plans are tried with, and the one that the definitions are of.
/// Newer plans are planned as far as they say nothing new.
pub const VERSIONS: (&str, &str) = ("0.29.0", "0.85.0");

/// Bytes of one value of a type that says how long its values are. A column of nulls takes as many for each row.
const FIXED_BYTES_MAX: i32 = 4096;

/// What is told of a plan where a text would be told.
pub(super) fn told(plan: &[u8]) -> String {
    format!("Substrait plan ({} bytes)", plan.len())
}

/// The plan in DataFusion's terms.
///
/// Runs where there is a large stack: the protobuf nests 100 messages at the most, which its decoder sees to.
///
/// # Errors
/// `TextTooLong`, a bound of [`shape`], `Plan` for what can't be read, and what planning says.
pub(super) async fn plan(session: &SessionState, bytes: &[u8], bytes_max: usize) -> Result<LogicalPlan, QueryError> {
    if bytes.len() > bytes_max {
        return Err(QueryError::TextTooLong { bytes: bytes.len(), bytes_max });
    }
    let plan = deserialize_bytes(bytes).map_err(|error| QueryError::Plan(undecodable(&error.message())))?;
    shape::check(&plan)?;
    let planned = from_substrait_plan(session, &plan).await?;
    check_types(&planned)?;
    Ok(planned)
}

/// Why a plan can't be decoded, without the way to the place, which may be a hundred messages long.
fn undecodable(message: &str) -> String {
    match message.rsplit(": ").next() {
        Some("recursion limit reached") => "it nests more than 100 messages".to_owned(),
        reason => reason.unwrap_or_default().to_owned(),
    }
}

/// Plans on: of a plan that nobody wrote by a text, what looks like a defect of the server is the plan's own. What it points to by
/// number is looked up unchecked, and `shape` can't know all of it without planning itself.
///
/// # Errors
/// What the work says, and `Plan` where it panics or finds what can't be.
pub(super) async fn readable<T>(work: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Err(panic) => Err(QueryError::Plan(panic_text(panic.as_ref()))),
        Ok(Err(QueryError::DataFusion(error))) if is_internal(&error) => {
            Err(QueryError::Plan(error.strip_backtrace().lines().next().unwrap_or_default().to_owned()))
        }
        Ok(result) => result,
    }
}

fn is_internal(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::Internal(_))
}

/// Refuses types whose values are as long as the plan likes.
fn check_types(plan: &LogicalPlan) -> Result<(), QueryError> {
    let mut longest = 0;
    let mut look = |data_type: &DataType| longest = longest.max(fixed_bytes(data_type));
    plan.apply_with_subqueries(|node| {
        node.schema().fields().iter().for_each(|field| look(field.data_type()));
        node.apply_expressions(|expression| {
            expression.apply(|part| {
                match part {
                    Expr::Literal(value, _) => look(&value.data_type()),
                    Expr::Cast(cast) => look(cast.field.data_type()),
                    Expr::TryCast(cast) => look(cast.field.data_type()),
                    _ => {}
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    match longest > FIXED_BYTES_MAX {
        true => Err(QueryError::Plan(format!(
            "it has binary values of the fixed length {longest}, which can be {FIXED_BYTES_MAX} at the most"
        ))),
        false => Ok(()),
    }
}

/// The longest fixed length in a type.
fn fixed_bytes(data_type: &DataType) -> i32 {
    match data_type {
        DataType::FixedSizeBinary(bytes) => *bytes,
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => fixed_bytes(field.data_type()),
        DataType::Struct(fields) => fields.iter().map(|field| fixed_bytes(field.data_type())).max().unwrap_or(0),
        DataType::Dictionary(_, values) => fixed_bytes(values),
        _ => 0,
    }
}
