//! What is known of an answer from its plan alone: its columns, whether it has an order, which slots it takes.
//!
//! Of a text that comes again it is known from the last time.

use std::sync::OnceLock;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::LogicalPlan;

use super::running::Lane;
use super::{INFORMATION_SCHEMA, SYSTEM_SCHEMA, wire};

/// What every answer of a plan is like.
#[derive(Debug)]
pub(super) struct Form {
    schema: SchemaRef,
    with_dictionaries: OnceLock<SchemaRef>,
    /// Whether the text asks for an order.
    pub(super) is_ordered: bool,
    /// Whose slots it takes.
    pub(super) lane: Lane,
}

impl Form {
    /// That of the answers of a plan whose types are settled.
    ///
    /// # Errors
    /// None; walks may fail in general.
    pub(super) fn of(plan: &LogicalPlan) -> DataFusionResult<Self> {
        Ok(Self {
            schema: wire::wire_schema(plan.schema().as_arrow()),
            with_dictionaries: OnceLock::new(),
            is_ordered: is_ordered(plan),
            lane: lane(plan)?,
        })
    }

    /// What every batch will have.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The same for who takes dictionaries. `plan` is the one that it was made of.
    pub(super) fn schema_with_dictionaries(&self, plan: &LogicalPlan) -> &SchemaRef {
        self.with_dictionaries.get_or_init(|| wire::wire_schema_with_dictionaries(plan.schema().as_arrow()))
    }
}

/// The slots of the server for what reads nothing but tables about the server, or no table at all.
pub(super) fn lane(plan: &LogicalPlan) -> DataFusionResult<Lane> {
    let mut lane = Lane::Server;
    plan.apply_with_subqueries(|node| {
        let is_about_server = |name: &TableReference| {
            name.schema().is_some_and(|schema| schema == SYSTEM_SCHEMA || schema == INFORMATION_SCHEMA)
        };
        match node {
            LogicalPlan::TableScan(scan) if !is_about_server(&scan.table_name) => {
                lane = Lane::Rows;
                Ok(TreeNodeRecursion::Stop)
            }
            _ => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    Ok(lane)
}

fn is_ordered(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Limit(limit) => is_ordered(&limit.input),
        LogicalPlan::Projection(projection) => is_ordered(&projection.input),
        _ => false,
    }
}
