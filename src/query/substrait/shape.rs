//! How large and how deep a Substrait plan may be, and that none of its parts is missing.
//!
//! The bounds are those of texts (`limits`), where a text could say the same: relations are its SELECTs and tables, functions its
//! operators. Besides, a plan can say in few bytes what no text can: to repeat an expression as often as it likes. Each repetition
//! is counted.

use std::collections::HashSet;

use datafusion_substrait::substrait::proto::aggregate_rel::Grouping;
use datafusion_substrait::substrait::proto::expression::field_reference::{
    ReferenceType as FieldReferenceType, RootType,
};
use datafusion_substrait::substrait::proto::expression::nested::NestedType;
use datafusion_substrait::substrait::proto::expression::reference_segment::ReferenceType as SegmentType;
use datafusion_substrait::substrait::proto::expression::subquery::SubqueryType;
use datafusion_substrait::substrait::proto::expression::{FieldReference, MaskExpression, RexType};
use datafusion_substrait::substrait::proto::extensions::simple_extension_declaration::MappingType;
use datafusion_substrait::substrait::proto::fetch_rel::{CountMode, OffsetMode};
use datafusion_substrait::substrait::proto::function_argument::ArgType;
use datafusion_substrait::substrait::proto::join_rel::JoinType;
use datafusion_substrait::substrait::proto::read_rel::ReadType;
use datafusion_substrait::substrait::proto::rel::RelType;
use datafusion_substrait::substrait::proto::rel_common::EmitKind;
use datafusion_substrait::substrait::proto::{
    AggregateRel, Expression, FunctionArgument, JoinRel, Plan, ReadRel, Rel, RelCommon, SortField, plan_rel,
};
use prost::Message;

use super::super::error::QueryError;
use super::super::limits::{COLUMNS_MAX, OPERATORS_MAX, SOURCES_MAX, SUBQUERY_DEPTH_MAX};

/// Relations of all kinds: a SELECT is up to four of them beside its tables.
const RELATIONS_MAX: usize = 4 * SOURCES_MAX;

/// Columns of all relations together: every relation names those of its input anew.
const SLOTS_MAX: usize = 200_000;

/// Columns that are handed on twice, which need new names.
const REPEATED_MAX: usize = 500;

/// Bytes of the expressions that are repeated, as often as they are. In memory they take some fifty times as much.
const REPEATED_BYTES_MAX: usize = 1 << 20;

/// The function that is planned as two of each of its arguments.
const DOUBLED: &str = "xor";

/// Measures a plan.
///
/// # Errors
/// `TooComplex` past a bound; `Plan` if something is missing; `ReadOnly` if it changes something; `StatementUnsupported` for what
/// is not served.
pub(super) fn check(plan: &Plan) -> Result<(), QueryError> {
    let mut shape = Shape { doubled: doubled(plan), ..Shape::default() };
    let [tree] = plan.relations.as_slice() else {
        return Err(QueryError::Plan(format!("it has {} trees of relations, send exactly one", plan.relations.len())));
    };
    let root = match &tree.rel_type {
        Some(plan_rel::RelType::Rel(relation)) => Some(relation),
        Some(plan_rel::RelType::Root(root)) => root.input.as_ref(),
        None => None,
    };
    shape.relation(root).map(|_| ())
}

/// The numbers of the functions that double their arguments.
fn doubled(plan: &Plan) -> HashSet<u32> {
    let functions = plan.extensions.iter().filter_map(|extension| match &extension.mapping_type {
        Some(MappingType::ExtensionFunction(function)) => Some(function),
        _ => None,
    });
    let is_doubled = |name: &str| name.split(':').next().is_some_and(|name| name.eq_ignore_ascii_case(DOUBLED));
    functions.filter(|function| is_doubled(&function.name)).map(|function| function.function_anchor).collect()
}

fn missing(what: &str) -> QueryError {
    QueryError::Plan(format!("it lacks {what}"))
}

fn unsupported(what: &str) -> QueryError {
    QueryError::StatementUnsupported(format!("{what} in a Substrait plan"))
}

#[derive(Debug, Default)]
struct Shape {
    doubled: HashSet<u32>,
    relations: usize,
    sources: usize,
    operators: usize,
    columns: usize,
    slots: usize,
    repeated: usize,
    repeated_bytes: usize,
    /// Subqueries around this place.
    subqueries: usize,
    /// Columns that an expression at this place can refer to, at the most.
    scope: usize,
}

impl Shape {
    /// Looks at a relation and all below it. Returns how many columns it has at the most.
    fn relation(&mut self, relation: Option<&Rel>) -> Result<usize, QueryError> {
        let relation = relation.and_then(|relation| relation.rel_type.as_ref()).ok_or_else(|| missing("a relation"))?;
        self.relations += 1;
        within("relations", self.relations, RELATIONS_MAX)?;
        // What the columns of a projection take that are handed on twice.
        let mut largest = 0;
        let (width, common) = match relation {
            RelType::Read(read) => (self.read(read)?, &read.common),
            RelType::Filter(filter) => {
                let width = self.input(filter.input.as_deref())?;
                self.maybe(filter.condition.as_deref())?;
                (width, &filter.common)
            }
            RelType::Fetch(fetch) => {
                let width = self.relation(fetch.input.as_deref())?;
                self.scope = 0;
                if let Some(OffsetMode::OffsetExpr(rows)) = &fetch.offset_mode {
                    self.expression(rows, 1)?;
                }
                if let Some(CountMode::CountExpr(rows)) = &fetch.count_mode {
                    self.expression(rows, 1)?;
                }
                (width, &fetch.common)
            }
            RelType::Sort(sort) => {
                let width = self.input(sort.input.as_deref())?;
                self.sorts(&sort.sorts)?;
                (width, &sort.common)
            }
            RelType::Project(project) => {
                let width = self.input(project.input.as_deref())?;
                self.listed(project.expressions.len())?;
                self.expressions(&project.expressions)?;
                largest = largest_of(&project.expressions);
                (width.saturating_add(project.expressions.len()), &project.common)
            }
            RelType::Aggregate(aggregate) => (self.aggregate(aggregate)?, &aggregate.common),
            RelType::Join(join) => (self.join(join)?, &join.common),
            RelType::Cross(cross) => {
                let left = self.relation(cross.left.as_deref())?;
                (left.saturating_add(self.relation(cross.right.as_deref())?), &cross.common)
            }
            RelType::Set(set) => {
                let mut width = 0;
                for input in &set.inputs {
                    width = width.max(self.relation(Some(input))?);
                }
                (width, &set.common)
            }
            RelType::Write(_) | RelType::Ddl(_) | RelType::Update(_) => {
                return Err(QueryError::ReadOnly("a Substrait plan that changes something".to_owned()));
            }
            RelType::ExtensionSingle(_) | RelType::ExtensionMulti(_) | RelType::ExtensionLeaf(_) => {
                return Err(unsupported("a relation of an extension"));
            }
            RelType::Reference(_) => return Err(unsupported("a reference to another relation")),
            RelType::HashJoin(_) | RelType::MergeJoin(_) | RelType::NestedLoopJoin(_) => {
                return Err(unsupported("a join that says how it is done"));
            }
            RelType::Window(_) | RelType::Exchange(_) | RelType::Expand(_) => {
                return Err(unsupported("a window, exchange or expand relation"));
            }
        };
        let width = self.emitted(common.as_ref(), width, largest)?;
        self.slots = self.slots.saturating_add(width);
        within("columns in all relations together", self.slots, SLOTS_MAX)?;
        Ok(width)
    }

    /// Looks at the relation whose columns the next expressions refer to.
    fn input(&mut self, relation: Option<&Rel>) -> Result<usize, QueryError> {
        self.scope = self.relation(relation)?;
        Ok(self.scope)
    }

    fn read(&mut self, read: &ReadRel) -> Result<usize, QueryError> {
        self.sources += 1;
        within("tables", self.sources, SOURCES_MAX)?;
        let columns = read.base_schema.as_ref().and_then(|schema| schema.r#struct.as_ref());
        let mut width = columns.ok_or_else(|| missing("the columns of a table"))?.types.len();
        self.scope = width;
        match &read.read_type {
            Some(ReadType::NamedTable(table)) if !table.names.is_empty() => {}
            Some(ReadType::VirtualTable(table)) => {
                table.expressions.iter().try_for_each(|row| self.expressions(&row.fields))?;
            }
            Some(ReadType::LocalFiles(_) | ReadType::IcebergTable(_) | ReadType::ExtensionTable(_)) => {
                return Err(unsupported("a table that is not read by its name"));
            }
            Some(ReadType::NamedTable(_)) | None => return Err(missing("the name of a table")),
        }
        self.maybe(read.filter.as_deref())?;
        if let Some(MaskExpression { select: Some(select), .. }) = &read.projection {
            let all = select.struct_items.iter();
            within_width(all.map(|item| item.field), width)?;
            self.listed(select.struct_items.len())?;
            width = select.struct_items.len();
        }
        Ok(width)
    }

    fn aggregate(&mut self, aggregate: &AggregateRel) -> Result<usize, QueryError> {
        self.input(aggregate.input.as_deref())?;
        self.expressions(&aggregate.grouping_expressions)?;
        let (mut width, mut repeated) = (0_usize, 0_usize);
        for grouping in &aggregate.groupings {
            let (own, referred) = self.grouping(grouping, aggregate.grouping_expressions.len())?;
            width = width.saturating_add(own + referred);
            repeated += referred;
        }
        let first = aggregate.grouping_expressions.len();
        self.repeat(repeated.saturating_sub(first), largest_of(&aggregate.grouping_expressions))?;
        for measure in &aggregate.measures {
            self.maybe(measure.filter.as_ref())?;
            if let Some(function) = &measure.measure {
                self.operator(1)?;
                self.arguments(&function.arguments, 1)?;
                self.sorts(&function.sorts)?;
            }
        }
        self.listed(width.saturating_add(aggregate.measures.len()))?;
        // Several groupings have a column that tells which.
        Ok(width.saturating_add(aggregate.measures.len()).saturating_add(1))
    }

    /// How many expressions a grouping has itself, and how many it refers to.
    #[expect(deprecated, reason = "plans of earlier versions have their expressions here")]
    fn grouping(&mut self, grouping: &Grouping, expressions: usize) -> Result<(usize, usize), QueryError> {
        self.expressions(&grouping.grouping_expressions)?;
        match grouping
            .expression_references
            .iter()
            .all(|number| usize::try_from(*number).is_ok_and(|n| n < expressions))
        {
            true => Ok((grouping.grouping_expressions.len(), grouping.expression_references.len())),
            false => Err(missing("an expression that a grouping refers to")),
        }
    }

    fn join(&mut self, join: &JoinRel) -> Result<usize, QueryError> {
        let left = self.relation(join.left.as_deref())?;
        let right = self.relation(join.right.as_deref())?;
        self.scope = left.saturating_add(right);
        self.maybe(join.expression.as_deref())?;
        self.maybe(join.post_join_filter.as_deref())?;
        Ok(match join.r#type() {
            JoinType::LeftSemi | JoinType::LeftAnti => left,
            JoinType::RightSemi | JoinType::RightAnti => right,
            // With a column that tells which rows have a partner.
            _ => left.saturating_add(right).saturating_add(1),
        })
    }

    /// How many of a relation's columns are handed on, each as large as `largest` at the most.
    fn emitted(&mut self, common: Option<&RelCommon>, width: usize, largest: usize) -> Result<usize, QueryError> {
        let Some(EmitKind::Emit(emit)) = common.and_then(|common| common.emit_kind.as_ref()) else {
            return Ok(width);
        };
        within_width(emit.output_mapping.iter().copied(), width)?;
        let (count, each) = (emit.output_mapping.len(), emit.output_mapping.iter().collect::<HashSet<_>>());
        self.repeat(count - each.len(), largest)?;
        Ok(count)
    }

    fn repeat(&mut self, times: usize, bytes: usize) -> Result<(), QueryError> {
        self.repeated = self.repeated.saturating_add(times);
        within("repeated columns", self.repeated, REPEATED_MAX)?;
        self.repeated_bytes = self.repeated_bytes.saturating_add(times.saturating_mul(bytes));
        within("bytes of repeated expressions", self.repeated_bytes, REPEATED_BYTES_MAX)
    }

    fn listed(&mut self, columns: usize) -> Result<(), QueryError> {
        self.columns = self.columns.saturating_add(columns);
        within("columns", self.columns, COLUMNS_MAX)
    }

    fn operator(&mut self, times: usize) -> Result<(), QueryError> {
        self.operators = self.operators.saturating_add(times);
        within("operators", self.operators, OPERATORS_MAX)
    }

    fn sorts(&mut self, sorts: &[SortField]) -> Result<(), QueryError> {
        for sort in sorts {
            self.expression(sort.expr.as_ref().ok_or_else(|| missing("the expression of an order"))?, 1)?;
        }
        Ok(())
    }

    fn maybe(&mut self, expression: Option<&Expression>) -> Result<(), QueryError> {
        expression.map_or(Ok(()), |expression| self.expression(expression, 1))
    }

    fn expressions(&mut self, expressions: &[Expression]) -> Result<(), QueryError> {
        expressions.iter().try_for_each(|expression| self.expression(expression, 1))
    }

    fn arguments(&mut self, arguments: &[FunctionArgument], times: usize) -> Result<(), QueryError> {
        for argument in arguments {
            if let Some(ArgType::Value(value)) = &argument.arg_type {
                self.expression(value, times)?;
            }
        }
        Ok(())
    }

    /// Looks at an expression that is planned so many times.
    fn expression(&mut self, expression: &Expression, times: usize) -> Result<(), QueryError> {
        match expression.rex_type.as_ref().ok_or_else(|| missing("an expression"))? {
            RexType::ScalarFunction(function) => {
                self.operator(times)?;
                let is_doubled = self.doubled.contains(&function.function_reference);
                self.arguments(&function.arguments, if is_doubled { times.saturating_mul(2) } else { times })
            }
            RexType::WindowFunction(function) => {
                self.operator(times)?;
                self.arguments(&function.arguments, times)?;
                self.expressions(&function.partitions)?;
                self.sorts(&function.sorts)
            }
            RexType::IfThen(choice) => {
                for clause in &choice.ifs {
                    self.operator(times)?;
                    let condition = clause.r#if.as_ref().ok_or_else(|| missing("a condition"))?;
                    self.expression(condition, times)?;
                    let then = clause.then.as_ref().ok_or_else(|| missing("what follows a condition"))?;
                    self.expression(then, times)?;
                }
                choice.r#else.as_deref().map_or(Ok(()), |otherwise| self.expression(otherwise, times))
            }
            RexType::SingularOrList(list) => {
                self.operator(times)?;
                let value = list.value.as_deref().ok_or_else(|| missing("what is looked for in a list"))?;
                self.expression(value, times)?;
                list.options.iter().try_for_each(|option| self.expression(option, times))
            }
            RexType::Cast(cast) => {
                self.operator(times)?;
                self.expression(cast.input.as_deref().ok_or_else(|| missing("what is cast"))?, times)
            }
            RexType::Subquery(subquery) => {
                self.operator(times)?;
                self.subqueries += 1;
                within("nested subqueries", self.subqueries, SUBQUERY_DEPTH_MAX)?;
                let kind = subquery.subquery_type.as_ref().ok_or_else(|| missing("a subquery"))?;
                let scope = self.scope;
                self.subquery(kind, times)?;
                self.subqueries -= 1;
                self.scope = scope;
                Ok(())
            }
            RexType::Nested(nested) => match &nested.nested_type {
                Some(NestedType::Struct(row)) => self.all(&row.fields, times),
                Some(NestedType::List(list)) => self.all(&list.values, times),
                Some(NestedType::Map(map)) => map.key_values.iter().try_for_each(|pair| {
                    let both = [&pair.key, &pair.value];
                    both.into_iter().flatten().try_for_each(|part| self.expression(part, times))
                }),
                None => Err(missing("a nested value")),
            },
            RexType::Lambda(lambda) => {
                self.operator(times)?;
                self.expression(lambda.body.as_deref().ok_or_else(|| missing("the body of a lambda"))?, times)
            }
            RexType::Selection(field) => self.field(field),
            // Planning refuses the others.
            _ => Ok(()),
        }
    }

    fn field(&self, field: &FieldReference) -> Result<(), QueryError> {
        let Some(FieldReferenceType::DirectReference(segment)) = &field.reference_type else {
            return Err(unsupported("a reference to a column by a mask"));
        };
        match (&segment.reference_type, &field.root_type) {
            (Some(SegmentType::StructField(column)), Some(RootType::RootReference(_)) | None) => {
                within_width([column.field].into_iter(), self.scope)
            }
            (Some(_), _) => Ok(()),
            (None, _) => Err(missing("the number of a column")),
        }
    }

    fn all(&mut self, expressions: &[Expression], times: usize) -> Result<(), QueryError> {
        expressions.iter().try_for_each(|expression| self.expression(expression, times))
    }

    fn subquery(&mut self, subquery: &SubqueryType, times: usize) -> Result<(), QueryError> {
        // It is planned as often as the expression around it; relations count once each.
        if times > 1 {
            return Err(unsupported("a subquery as an argument of xor"));
        }
        let relation = match subquery {
            SubqueryType::Scalar(scalar) => scalar.input.as_deref(),
            SubqueryType::InPredicate(predicate) => {
                self.all(&predicate.needles, times)?;
                predicate.haystack.as_deref()
            }
            SubqueryType::SetPredicate(predicate) => predicate.tuples.as_deref(),
            SubqueryType::SetComparison(comparison) => {
                self.maybe(comparison.left.as_deref())?;
                comparison.right.as_deref()
            }
        };
        self.relation(relation).map(|_| ())
    }
}

/// The bytes of the largest of these.
fn largest_of(expressions: &[Expression]) -> usize {
    expressions.iter().map(Message::encoded_len).max().unwrap_or(0)
}

fn within_width(numbers: impl Iterator<Item = i32>, width: usize) -> Result<(), QueryError> {
    for number in numbers {
        if usize::try_from(number).is_ok_and(|number| number < width) {
            continue;
        }
        return Err(QueryError::Plan(format!("it refers to column {number} of a relation that has {width}")));
    }
    Ok(())
}

fn within(what: &'static str, count: usize, count_max: usize) -> Result<(), QueryError> {
    if count > count_max { Err(QueryError::TooComplex { what, count_max }) } else { Ok(()) }
}
