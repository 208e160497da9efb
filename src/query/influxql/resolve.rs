//! A `SELECT` against what there is: which measurements, which columns, of which types, under which names.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::compile::{Compiled, CompiledSource, DATE_PART, Dimension};
use super::value::{Math, Type, binary_type};
use crate::syntax::influxql::{Cast, Expression, Field, Measurement, MeasurementName, Regex};

type Result<T> = std::result::Result<T, String>;

/// The most columns that wildcards may come to.
const COLUMNS_MAX: usize = 10_000;

/// What a measurement has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Measured {
    /// Keys of tags, by name.
    pub(super) tags: Vec<String>,
    pub(super) fields: BTreeMap<String, Type>,
}

impl Measured {
    pub(super) fn type_of(&self, name: &str) -> Type {
        match self.fields.get(name) {
            Some(field) => *field,
            None if self.tags.iter().any(|tag| tag == name) => Type::Tag,
            None => Type::Unknown,
        }
    }
}

/// What there is.
pub(super) trait Catalog {
    /// The name under which a database, or a retention policy of it, keeps its measurements.
    ///
    /// # Errors
    /// In the words of InfluxDB, if there is none.
    fn database(&self, database: Option<&str>, policy: Option<&str>) -> Result<String>;

    /// The names of all measurements, sorted.
    fn measurements(&self, database: &str) -> Vec<String>;

    /// What a measurement has, if it exists.
    fn measured(&self, database: &str, measurement: &str) -> Option<Arc<Measured>>;
}

/// A measurement of a database.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    pub(super) database: String,
    pub(super) name: String,
    pub(super) measured: Arc<Measured>,
}

/// Where rows come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Table(Table),
    Query(Box<Query>),
}

/// A `SELECT` whose names are known.
#[derive(Debug, Clone)]
pub(super) struct Query {
    pub(super) compiled: Compiled,
    /// What is asked for, without wildcards.
    pub(super) fields: Vec<Field>,
    /// The names of the columns behind the time; those that `top` and `bottom` add included.
    pub(super) columns: Vec<String>,
    /// What series are told apart by, in the order of the names.
    pub(super) dimensions: Vec<String>,
    pub(super) sources: Vec<Source>,
    /// What the columns are, by name; of those with one name it is that of the first.
    types: HashMap<String, Type>,
}

/// Looks up everything that a statement names.
///
/// # Errors
/// In the words of InfluxDB: databases that don't exist, types that don't go together.
pub(super) fn resolve(compiled: &Compiled, catalog: &dyn Catalog) -> Result<Query> {
    let mut sources = Vec::new();
    for source in &compiled.sources {
        match source {
            CompiledSource::Measurement(measurement) => tables(measurement, catalog, &mut sources)?,
            CompiledSource::Subquery(inner) => sources.push(Source::Query(Box::new(resolve(inner, catalog)?))),
        }
    }
    let known = Known::of(&sources);
    let dimensions = dimensions(&compiled.dimensions, &known);
    let fields = expand(compiled, &known, &dimensions)?;
    for field in &fields {
        type_of(&field.expression, &sources)?;
    }
    let columns = column_names(&fields);
    let dimensions = dimensions.into_iter().collect();
    let query =
        Query { compiled: compiled.clone(), fields, columns, dimensions, sources: Vec::new(), types: HashMap::new() };
    Ok(query.of_sources(sources))
}

fn tables(measurement: &Measurement, catalog: &dyn Catalog, sources: &mut Vec<Source>) -> Result<()> {
    let database = catalog.database(measurement.database.as_deref(), measurement.policy.as_deref())?;
    let names = match &measurement.name {
        MeasurementName::Name(name) => vec![name.clone()],
        MeasurementName::Regex(regex) => {
            catalog.measurements(&database).into_iter().filter(|name| regex.is_match(name)).collect()
        }
    };
    for name in names {
        // Named twice counts once.
        let is_there = |source: &Source| matches!(source, Source::Table(table) if table.database == database && table.name == name);
        if sources.iter().any(is_there) {
            continue;
        }
        if let Some(measured) = catalog.measured(&database, &name) {
            sources.push(Source::Table(Table { database: database.clone(), name, measured }));
        }
    }
    Ok(())
}

/// The names of all columns of all sources.
struct Known {
    fields: BTreeMap<String, Type>,
    tags: BTreeSet<String>,
}

impl Known {
    fn of(sources: &[Source]) -> Self {
        let mut known = Self { fields: BTreeMap::new(), tags: BTreeSet::new() };
        for source in sources {
            match source {
                Source::Table(table) => {
                    table.measured.fields.iter().for_each(|(name, field)| known.add(name, *field));
                    known.tags.extend(table.measured.tags.iter().cloned());
                }
                Source::Query(query) => {
                    for (column, expression) in query.outputs() {
                        known.add(column, type_of(expression, &query.sources).unwrap_or(Type::Unknown));
                    }
                    known.tags.extend(query.dimensions.iter().cloned());
                }
            }
        }
        known
    }

    fn add(&mut self, name: &str, field: Type) {
        let known = self.fields.entry(name.to_owned()).or_insert(Type::Unknown);
        *known = known.or(field);
    }
}

fn dimensions(asked: &[Dimension], known: &Known) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for dimension in asked {
        match dimension {
            Dimension::Name(name) => {
                names.insert(name.clone());
            }
            Dimension::All => names.extend(known.tags.iter().cloned()),
            Dimension::Matching(regex) => names.extend(known.tags.iter().filter(|tag| regex.is_match(tag)).cloned()),
        }
    }
    names
}

/// Puts names in the place of wildcards.
fn expand(compiled: &Compiled, known: &Known, dimensions: &BTreeSet<String>) -> Result<Vec<Field>> {
    let mut all: Vec<(String, Type)> = known.fields.iter().map(|(name, field)| (name.clone(), *field)).collect();
    // What series are told apart by is told with the series, not again with each row; and a wildcard among the dimensions means
    // all tags, whichever match.
    let is_by_wildcard = compiled.dimensions.iter().any(|dimension| !matches!(dimension, Dimension::Name(_)));
    let tags = known.tags.iter().filter(|tag| !is_by_wildcard && !dimensions.contains(*tag));
    all.extend(tags.map(|tag| (tag.clone(), Type::Tag)));
    all.sort_by(|(a, _), (b, _)| a.cmp(b));

    let mut fields = Vec::new();
    for field in &compiled.fields {
        let chosen = |wanted: &dyn Fn(&str, Type) -> bool| -> Vec<Field> {
            all.iter()
                .filter(|(name, kind)| wanted(name, *kind))
                .map(|(name, kind)| Field { expression: column(name, *kind), alias: None })
                .collect()
        };
        match &field.expression {
            Expression::Wildcard(None) => fields.extend(chosen(&|_, _| true)),
            Expression::Wildcard(Some(Cast::Tag)) => fields.extend(chosen(&|_, kind| kind == Type::Tag)),
            Expression::Wildcard(Some(_)) => fields.extend(chosen(&|_, kind| kind != Type::Tag)),
            Expression::Regex(regex) => fields.extend(chosen(&|name, _| regex.is_match(name))),
            Expression::Call { .. } => match wildcard_in(&field.expression) {
                Some((function, wildcard)) => {
                    let outer = name_of(field);
                    for (name, kind) in &all {
                        if *kind != Type::Tag && fits(function, *kind) && wildcard.matches(name)? {
                            let expression = with_first_column(&field.expression, name, *kind);
                            fields.push(Field { expression, alias: Some(format!("{outer}_{name}")) });
                        }
                    }
                    if let Wildcard::Tags(function) = wildcard {
                        return Err(format!("unable to use tag wildcard in {function}()"));
                    }
                }
                None => fields.push(field.clone()),
            },
            _ => fields.push(field.clone()),
        }
        if fields.len() > COLUMNS_MAX {
            return Err(format!("the query has more than {COLUMNS_MAX} columns"));
        }
    }
    Ok(fields)
}

fn column(name: &str, kind: Type) -> Expression {
    let cast = match kind {
        Type::Tag => Some(Cast::Tag),
        _ => Some(Cast::Field),
    };
    Expression::Column { name: name.to_owned(), cast }
}

enum Wildcard<'a> {
    All,
    Matching(&'a Regex),
    Tags(&'a str),
}

impl Wildcard<'_> {
    fn matches(&self, name: &str) -> Result<bool> {
        match self {
            Self::All => Ok(true),
            Self::Matching(regex) => Ok(regex.is_match(name)),
            Self::Tags(function) => Err(format!("unable to use tag wildcard in {function}()")),
        }
    }
}

/// The innermost function and its wildcard, if its first argument is one.
fn wildcard_in(expression: &Expression) -> Option<(&str, Wildcard<'_>)> {
    let Expression::Call { name, arguments } = expression else { return None };
    match arguments.first()? {
        Expression::Wildcard(Some(Cast::Tag)) => Some((name, Wildcard::Tags(name))),
        Expression::Wildcard(_) => Some((name, Wildcard::All)),
        Expression::Regex(regex) => Some((name, Wildcard::Matching(regex))),
        inner @ Expression::Call { .. } => wildcard_in(inner),
        _ => None,
    }
}

/// Whether a wildcard in the function means columns of this type too.
fn fits(function: &str, field: Type) -> bool {
    match field {
        Type::Float | Type::Integer => true,
        Type::Unsigned => !function.starts_with("holt_winters"),
        Type::String => matches!(function, "count" | "first" | "last" | "distinct" | "elapsed" | "mode" | "sample"),
        Type::Boolean => {
            matches!(function, "count" | "first" | "last" | "distinct" | "elapsed" | "mode" | "sample" | "min" | "max")
        }
        Type::Tag | Type::Unknown => false,
    }
}

fn with_first_column(expression: &Expression, name: &str, kind: Type) -> Expression {
    match expression {
        Expression::Call { name: function, arguments } => {
            let mut arguments = arguments.clone();
            if let Some(first) = arguments.first_mut() {
                *first = with_first_column(first, name, kind);
            }
            Expression::Call { name: function.clone(), arguments }
        }
        _ => column(name, kind),
    }
}

/// How a field is called.
pub(super) fn name_of(field: &Field) -> String {
    field.alias.clone().unwrap_or_else(|| derived_name(&field.expression))
}

fn derived_name(expression: &Expression) -> String {
    match expression {
        Expression::Column { name, .. } | Expression::Call { name, .. } => name.clone(),
        Expression::Parenthesis(inner) => derived_name(inner),
        Expression::Binary { .. } | Expression::Signed { .. } => {
            let mut names = Vec::new();
            parts_of_name(expression, &mut names);
            names.join("_")
        }
        _ => String::new(),
    }
}

fn parts_of_name<'a>(expression: &'a Expression, names: &mut Vec<&'a str>) {
    match expression {
        Expression::Column { name, .. } | Expression::Call { name, .. } => names.push(name),
        Expression::Parenthesis(inner) | Expression::Signed { operand: inner, .. } => parts_of_name(inner, names),
        Expression::Binary { left, right, .. } => {
            parts_of_name(left, names);
            parts_of_name(right, names);
        }
        _ => {}
    }
}

/// The tags that `top` and `bottom` bring along as columns.
pub(super) fn extra_columns(expression: &Expression) -> &[Expression] {
    match expression {
        Expression::Call { name, arguments } if (name == "top" || name == "bottom") && arguments.len() > 2 => {
            &arguments[1..arguments.len() - 1]
        }
        _ => &[],
    }
}

/// Aliases stay as they are; derived names get a number where they would come twice.
fn column_names(fields: &[Field]) -> Vec<String> {
    let mut columns = Vec::new();
    for field in fields {
        columns.push((field.alias.clone(), derived_name(&field.expression)));
        columns.extend(extra_columns(&field.expression).iter().map(|extra| (None, derived_name(extra))));
    }
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    for (alias, _) in &columns {
        if let Some(alias) = alias {
            used.insert(alias.clone(), 1);
        }
    }
    columns
        .into_iter()
        .map(|(alias, derived)| match alias {
            Some(alias) => alias,
            None => {
                let mut name = derived.clone();
                if let Some(count) = used.get(&derived).copied() {
                    let mut count = count;
                    loop {
                        name = format!("{derived}_{count}");
                        if !used.contains_key(&name) {
                            break;
                        }
                        count += 1;
                    }
                    used.insert(derived, count + 1);
                }
                *used.entry(name.clone()).or_insert(0) += 1;
                name
            }
        })
        .collect()
}

impl Query {
    /// What can be asked of this query as a subquery: names and what they are.
    pub(super) fn outputs(&self) -> impl Iterator<Item = (&str, &Expression)> {
        let expressions = self
            .fields
            .iter()
            .flat_map(|field| std::iter::once(&field.expression).chain(extra_columns(&field.expression)));
        self.columns.iter().map(String::as_str).zip(expressions)
    }

    /// The same query of other sources.
    pub(super) fn of_sources(&self, sources: Vec<Source>) -> Self {
        let mut types = HashMap::with_capacity(self.columns.len());
        for (column, expression) in self.outputs() {
            let kind = || type_of(expression, &sources).unwrap_or(Type::Unknown);
            types.entry(column.to_owned()).or_insert_with(kind);
        }
        let (compiled, fields) = (self.compiled.clone(), self.fields.clone());
        Self { compiled, fields, columns: self.columns.clone(), dimensions: self.dimensions.clone(), sources, types }
    }

    /// The measurements that rows come from at last, sorted.
    pub(super) fn measurements(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for source in &self.sources {
            match source {
                Source::Table(table) => {
                    names.insert(table.name.clone());
                }
                Source::Query(query) => names.extend(query.measurements()),
            }
        }
        names
    }
}

/// The type of a column of these sources.
pub(super) fn type_of_column(name: &str, cast: Option<Cast>, sources: &[Source]) -> Type {
    match cast {
        Some(Cast::Float) => return Type::Float,
        Some(Cast::Integer) => return Type::Integer,
        Some(Cast::Unsigned) => return Type::Unsigned,
        Some(Cast::String) => return Type::String,
        Some(Cast::Boolean) => return Type::Boolean,
        Some(Cast::Tag) => return Type::Tag,
        Some(Cast::Field) | None => {}
    }
    let found = sources.iter().fold(Type::Unknown, |found, source| {
        found.or(match source {
            Source::Table(table) => table.measured.type_of(name),
            Source::Query(query) => match query.types.get(name) {
                Some(kind) => *kind,
                None if query.dimensions.iter().any(|dimension| dimension == name) => Type::Tag,
                None => Type::Unknown,
            },
        })
    });
    match (found, cast) {
        (Type::Tag, Some(Cast::Field)) => Type::Unknown,
        (found, _) => found,
    }
}

/// The type of a value that is computed.
///
/// # Errors
/// `type error: …` if its parts don't go together.
pub(super) fn type_of(expression: &Expression, sources: &[Source]) -> Result<Type> {
    Ok(match expression {
        Expression::Column { name, cast } => type_of_column(name, *cast, sources),
        Expression::Parenthesis(inner) => type_of(inner, sources)?,
        Expression::Number(_) => Type::Float,
        Expression::Integer(_) => Type::Integer,
        Expression::Unsigned(_) => Type::Unsigned,
        Expression::String(_) => Type::String,
        Expression::Boolean(_) => Type::Boolean,
        Expression::Signed { negative, operand } => {
            let one = Expression::Integer(if *negative { -1 } else { 1 });
            let operator = crate::syntax::influxql::Operator::Multiply;
            type_of(&Expression::Binary { operator, left: Box::new(one), right: operand.clone() }, sources)?
        }
        Expression::Call { name, arguments } => {
            let argument = match arguments.first() {
                Some(argument) => type_of(argument, sources)?,
                None => Type::Unknown,
            };
            match Math::named(name) {
                Some(math) => {
                    for other in arguments.iter().skip(1) {
                        type_of(other, sources)?;
                    }
                    math.result(argument)
                }
                None if name == DATE_PART => Type::Integer,
                None => call_type(name, argument),
            }
        }
        Expression::Binary { operator, left, right } => {
            let (left_type, right_type) = (type_of(left, sources)?, type_of(right, sources)?);
            let failed = |message: String| Err(format!("type error: {}: {message}", typed_text(expression, sources)));
            if let (Type::Unsigned, Type::Integer) | (Type::Integer, Type::Unsigned) = (left_type, right_type) {
                let (integer, unsigned) = if left_type == Type::Integer { (left, right) } else { (right, left) };
                if matches!(**unsigned, Expression::Unsigned(_)) {
                    return failed(format!("cannot use {operator} with an integer and unsigned literal"));
                }
                if !matches!(**integer, Expression::Integer(_)) {
                    return failed(format!(
                        "cannot use {operator} between an integer and unsigned, an explicit cast is required"
                    ));
                }
            }
            match binary_type(*operator, left_type, right_type) {
                Some(result) => result,
                None => {
                    return failed(format!("incompatible types: {} and {}", left_type.name(), right_type.name()));
                }
            }
        }
        _ => Type::Unknown,
    })
}

/// The type of what a function of rows answers.
pub(super) fn call_type(name: &str, argument: Type) -> Type {
    match name {
        "count" | "count_hll" | "elapsed" => Type::Integer,
        "min"
        | "max"
        | "sum"
        | "first"
        | "last"
        | "mode"
        | "spread"
        | "percentile"
        | "top"
        | "bottom"
        | "sample"
        | "distinct"
        | "difference"
        | "non_negative_difference"
        | "cumulative_sum" => argument,
        _ => Type::Float,
    }
}

/// The expression as InfluxDB shows it in type errors: columns with their types.
fn typed_text(expression: &Expression, sources: &[Source]) -> String {
    match expression {
        Expression::Column { name, cast } => match type_of_column(name, *cast, sources) {
            Type::Unknown => expression.to_string(),
            found => format!("{}::{}", crate::syntax::influxql::Name(name), found.name()),
        },
        Expression::Number(value) => format!("{value:.3}"),
        Expression::Parenthesis(inner) => format!("({})", typed_text(inner, sources)),
        Expression::Signed { negative, operand } => {
            format!("{} * {}", if *negative { "-1" } else { "1" }, typed_text(operand, sources))
        }
        Expression::Binary { operator, left, right } => {
            format!("{} {operator} {}", typed_text(left, sources), typed_text(right, sources))
        }
        Expression::Call { name, arguments } => {
            let arguments: Vec<_> = arguments.iter().map(|argument| typed_text(argument, sources)).collect();
            format!("{name}({})", arguments.join(", "))
        }
        other => other.to_string(),
    }
}
