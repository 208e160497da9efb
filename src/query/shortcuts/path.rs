//! What lies between an operator and the one table that it reads.

use std::collections::HashMap;

use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, Projection};

use crate::model::{TIME_COLUMN, TableSchema};
use crate::query::scan;
use crate::query::table::Table;

/// What each name stands for one level further down.
pub(super) type Level = HashMap<Column, Expr>;

/// What the names above a projection stand for below it.
pub(super) fn level_of(projection: &Projection) -> Level {
    let exprs = projection.expr.iter().map(|expr| expr.clone().unalias_nested().data);
    projection.schema.columns().into_iter().zip(exprs).collect()
}

/// An expression one level further down; `None` if it has a name that stands for nothing there.
pub(super) fn through(expr: Expr, level: &Level) -> Option<Expr> {
    if !expr.column_refs().iter().all(|column| level.contains_key(column)) {
        return None;
    }
    let down = |node: Expr| match &node {
        Expr::Column(column) => Ok(match level.get(column) {
            // What it stands for is not looked into: its names are of the next level.
            Some(meant) => Transformed::new(meant.clone(), true, TreeNodeRecursion::Jump),
            None => Transformed::no(node),
        }),
        _ => Ok(Transformed::no(node)),
    };
    expr.transform_down(down).ok().map(|transformed| transformed.data)
}

/// The way down to a table through filters, projections and other names.
pub(super) struct Path {
    table: Table,
    levels: Vec<Level>,
    /// In terms of the table.
    pub(super) filters: Vec<Expr>,
    /// The columns that are read.
    pub(super) columns: Vec<String>,
}

impl Path {
    /// The path from above `plan` to its table. `None` if there is something else on it, or if a filter looks at more than tags and
    /// the time.
    pub(super) fn down(mut plan: &LogicalPlan) -> Option<Self> {
        let mut levels: Vec<Level> = Vec::new();
        let mut filters: Vec<(usize, &Expr)> = Vec::new();
        let scan = loop {
            let depth = levels.len();
            match plan {
                LogicalPlan::Filter(filter) => {
                    filters.extend(split_conjunction(&filter.predicate).into_iter().map(|part| (depth, part)));
                    plan = &filter.input;
                }
                LogicalPlan::Projection(projection) => {
                    levels.push(level_of(projection));
                    plan = &projection.input;
                }
                LogicalPlan::SubqueryAlias(alias) => {
                    let inner = alias.input.schema().columns().into_iter().map(Expr::Column);
                    levels.push(alias.schema.columns().into_iter().zip(inner).collect());
                    plan = &alias.input;
                }
                LogicalPlan::TableScan(scan) if scan.fetch.is_none() => break scan,
                _ => return None,
            }
        };
        filters.extend(scan.filters.iter().flat_map(split_conjunction).map(|filter| (levels.len(), filter)));
        let provider = source_as_provider(&scan.source).ok()?;
        let table = provider.downcast_ref::<Table>()?.clone();
        let columns = scan.projected_schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut path = Self { table, levels, filters: Vec::new(), columns };
        for (depth, filter) in filters {
            let filter = path.resolved_from(depth, filter)?;
            let looks_at_key = |column: &&Column| path.is_tag(&column.name) || column.name == TIME_COLUMN;
            if !scan::speaks_of_rows(&filter) || !filter.column_refs().iter().all(looks_at_key) {
                return None;
            }
            path.filters.push(filter);
        }
        Some(path)
    }

    /// The columns of the table.
    pub(super) fn table(&self) -> &TableSchema {
        self.table.columns()
    }

    /// What an expression of the operator above is in terms of the table. `None` if it is not about rows of it.
    pub(super) fn resolved(&self, expr: &Expr) -> Option<Expr> {
        self.resolved_from(0, expr).filter(scan::speaks_of_rows)
    }

    fn resolved_from(&self, depth: usize, expr: &Expr) -> Option<Expr> {
        let mut expr = expr.clone();
        for level in &self.levels[depth..] {
            expr = through(expr, level)?;
        }
        let strip = |node: Expr| match node {
            Expr::Column(column) => Ok(Transformed::yes(Expr::Column(Column::new_unqualified(column.name)))),
            other => Ok(Transformed::no(other)),
        };
        let expr = expr.transform_down(strip).ok()?.data;
        let is_known = |column: &&Column| self.table().kind(&column.name).is_some() || column.name == TIME_COLUMN;
        expr.column_refs().iter().all(is_known).then_some(expr)
    }

    /// Whether the column is a tag.
    pub(super) fn is_tag(&self, column: &str) -> bool {
        self.table().tags().iter().any(|tag| tag.as_str() == column)
    }

    /// Whether an expression of the operator above is the same for all points of a series.
    pub(super) fn is_of_series(&self, expr: &Expr) -> bool {
        self.resolved(expr).is_some_and(|expr| expr.column_refs().iter().all(|column| self.is_tag(&column.name)))
    }

    /// Whether an expression of the operator above is the time.
    pub(super) fn is_time(&self, expr: &Expr) -> bool {
        matches!(self.resolved(expr), Some(Expr::Column(column)) if column.name == TIME_COLUMN)
    }
}
