//! What the text of a query may look like before anything is planned.
//!
//! Planners recurse over expressions and inline what is referred to more than once, so a small text can
//! cost a deep stack or exponential time. Text is tokenized first, which is a plain loop; only what
//! passes here is parsed and planned:
//!
//! | bound | against |
//! |---|---|
//! | bytes of the text | everything else's cost |
//! | operators | `a<>0 AND a<>1 AND …`: trees as deep as the chain is long |
//! | depth of parentheses | the parser's own recursion |
//! | depth of expressions, and of subqueries in them | recursion over trees; each subquery is planned twice for the one above |
//! | columns, and `*`, in select lists | time that grows with their square |
//! | `EXPLAIN`s | `EXPLAIN EXPLAIN …`, where the parser counts no depth |
//! | sources after inlining | `WITH b AS (SELECT * FROM a, a), c AS (SELECT * FROM b, b), …` doubles with every step |
//!
//! Not here: the size of values (`functions::bounded`) and of intermediate results (the memory pool).

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::error::QueryError;

/// Operators in one query. Each may add a level to the tree that the parser builds: 16 MiB of stack hold a walk
/// over this many in a debug build with room to spare.
pub(super) const OPERATORS_MAX: usize = 5_000;

/// Depth of nested parentheses and brackets.
pub(super) const PARENTHESES_DEPTH_MAX: usize = 200;

/// Depth of one expression. Planners name, type and simplify every level anew, so that time grows with the square:
/// a chain of this many terms takes some tenths of a second.
pub(super) const EXPRESSION_DEPTH_MAX: usize = 500;

/// Depth of subqueries inside expressions: time doubles with each.
pub(super) const SUBQUERY_DEPTH_MAX: usize = 8;

/// Columns in all select lists together.
pub(super) const COLUMNS_MAX: usize = 5_000;

/// `*` in select lists; each stands for all columns of a table.
pub(super) const WILDCARDS_MAX: usize = 64;

/// `EXPLAIN`s in one query.
const EXPLAINS_MAX: usize = 4;

/// Tables, subqueries and SELECTs, each counted as often as it is planned. Every join adds its columns to
/// all those above it, so the cost of planning grows with the square.
pub(super) const SOURCES_MAX: usize = 512;

/// The tokens of a text within bounds.
///
/// # Errors
/// `TextTooLong`, `TooComplex`, or what the tokenizer can't read.
pub(super) fn tokenize(text: &str, bytes_max: usize) -> Result<Vec<TokenWithSpan>, QueryError> {
    if text.len() > bytes_max {
        return Err(QueryError::TextTooLong { bytes: text.len(), bytes_max });
    }
    let tokens = Tokenizer::new(&GenericDialect {}, text)
        .tokenize_with_location()
        .map_err(|error| datafusion::error::DataFusionError::from(ParserError::from(error)))?;
    check_tokens(&tokens)?;
    Ok(tokens)
}

fn check_tokens(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let (mut operators, mut wildcards, mut explains) = (0_usize, 0_usize, 0_usize);
    let (mut depth, mut depth_most) = (0_usize, 0_usize);
    let mut before = &Token::SemiColon;
    for TokenWithSpan { token, .. } in tokens {
        match token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            Token::Word(word) if word.keyword == Keyword::EXPLAIN => explains += 1,
            _ => {}
        }
        depth_most = depth_most.max(depth);
        operators += usize::from(is_operator(token));
        wildcards += usize::from(*token == Token::Mul && opens_an_item(before));
        before = token;
    }
    for (what, count, count_max) in [
        ("operators", operators, OPERATORS_MAX),
        ("nested parentheses", depth_most, PARENTHESES_DEPTH_MAX),
        ("wildcards", wildcards, WILDCARDS_MAX),
        ("EXPLAINs", explains, EXPLAINS_MAX),
    ] {
        if count > count_max {
            return Err(QueryError::TooComplex { what, count_max });
        }
    }
    Ok(())
}

/// Everything that may make a tree deeper. What is not known to be flat counts.
fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::XOR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::BETWEEN
                | Keyword::DIV
                | Keyword::COLLATE
                | Keyword::AT
                | Keyword::CASE
                | Keyword::WHEN
                | Keyword::UNION
                | Keyword::INTERSECT
                | Keyword::EXCEPT
                | Keyword::MINUS
                | Keyword::JOIN
                | Keyword::APPLY
                | Keyword::OVERLAPS
                | Keyword::LATERAL
        ),
        Token::EOF
        | Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::NationalStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_)
        | Token::Comma
        | Token::Period
        | Token::SemiColon
        | Token::LParen
        | Token::RParen => false,
        _ => true,
    }
}

/// Whether a `*` after this token is a wildcard and not a product.
fn opens_an_item(before: &Token) -> bool {
    match before {
        Token::Comma | Token::Period => true,
        Token::Word(word) => matches!(word.keyword, Keyword::SELECT | Keyword::DISTINCT | Keyword::ALL),
        _ => false,
    }
}

/// Measures the tree that the parser has built.
///
/// # Errors
/// `TooComplex` past one of the bounds above.
pub(super) fn check_tree(statement: &ast::Statement) -> Result<(), QueryError> {
    let mut shape = Shape::default();
    if let ControlFlow::Break(refusal) = statement.visit(&mut shape) {
        return Err(refusal);
    }
    check_sources(statement)
}

/// Where in the tree the walk is.
#[derive(Debug, Default)]
struct Shape {
    /// Expressions around this place.
    depth: usize,
    /// For each query around this place how many expressions are around it.
    queries: Vec<usize>,
    columns: usize,
}

impl Visitor for Shape {
    type Break = QueryError;

    fn pre_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<QueryError> {
        self.depth += 1;
        within("nested expressions", self.depth, EXPRESSION_DEPTH_MAX)
    }

    fn post_visit_expr(&mut self, _: &ast::Expr) -> ControlFlow<QueryError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, _: &ast::Query) -> ControlFlow<QueryError> {
        self.queries.push(self.depth);
        // A query in a FROM has no more expressions around it than the query that it is in.
        let subqueries = self.queries.windows(2).filter(|pair| pair[0] < pair[1]).count();
        within("nested subqueries", subqueries, SUBQUERY_DEPTH_MAX)
    }

    fn post_visit_query(&mut self, _: &ast::Query) -> ControlFlow<QueryError> {
        self.queries.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<QueryError> {
        self.columns += select.projection.len();
        within("columns", self.columns, COLUMNS_MAX)
    }
}

fn within(what: &'static str, count: usize, count_max: usize) -> ControlFlow<QueryError> {
    if count > count_max {
        ControlFlow::Break(QueryError::TooComplex { what, count_max })
    } else {
        ControlFlow::Continue(())
    }
}

/// Counts what a statement reads, with every common table expression as often as it is inlined.
///
/// # Errors
/// `TooComplex` past [`SOURCES_MAX`].
fn check_sources(statement: &ast::Statement) -> Result<(), QueryError> {
    let mut definitions = Definitions::default();
    let _ = statement.visit(&mut definitions);
    let whole = sources(statement);
    match definitions.count(&whole) {
        count if count > SOURCES_MAX => {
            Err(QueryError::TooComplex { what: "tables, subqueries and SELECTs", count_max: SOURCES_MAX })
        }
        _ => Ok(()),
    }
}

/// What stands in one piece of a statement, before inlining.
#[derive(Debug, Default)]
struct Sources {
    count: usize,
    names: Vec<String>,
}

fn sources(piece: &impl Visit) -> Sources {
    let mut sources = Sources::default();
    let _ = piece.visit(&mut sources);
    sources
}

impl Visitor for Sources {
    type Break = ();

    fn pre_visit_select(&mut self, _: &ast::Select) -> ControlFlow<()> {
        self.count += 1;
        stop_past_the_limit(self.count)
    }

    fn pre_visit_table_factor(&mut self, factor: &ast::TableFactor) -> ControlFlow<()> {
        self.count += 1;
        if let ast::TableFactor::Table { name, .. } = factor {
            self.names.push(normalized(&name.to_string()));
        }
        stop_past_the_limit(self.count)
    }
}

fn stop_past_the_limit(count: usize) -> ControlFlow<()> {
    if count > SOURCES_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

/// Two names that planning may take for one must be one here; that more fall together only counts more.
fn normalized(name: &str) -> String {
    name.trim_matches('"').to_lowercase()
}

/// The common table expressions of a statement. Scopes are not told apart: definitions of one name add
/// up, which counts too much rather than too little.
#[derive(Debug, Default)]
struct Definitions {
    by_name: HashMap<String, Vec<Sources>>,
    count: usize,
}

impl Visitor for Definitions {
    type Break = ();

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<()> {
        for definition in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.count += 1;
            let name = normalized(&definition.alias.name.value);
            self.by_name.entry(name).or_default().push(sources(definition.query.as_ref()));
        }
        stop_past_the_limit(self.count)
    }
}

impl Definitions {
    fn count(&self, sources: &Sources) -> usize {
        let mut known = HashMap::new();
        // A definition that is never used is planned too: `sources.count` has it already.
        let references = sources.names.iter().map(|name| self.count_of(name, &mut known));
        references.fold(sources.count.max(self.count), usize::saturating_add)
    }

    /// What a reference to `name` is replaced by; nothing more for a table.
    fn count_of(&self, name: &str, known: &mut HashMap<String, usize>) -> usize {
        let Some(definitions) = self.by_name.get(name) else { return 0 };
        if let Some(count) = known.get(name) {
            return *count;
        }
        // A definition that reads a table of its own name, as in `WITH cpu AS (SELECT * FROM cpu)`.
        known.insert(name.to_owned(), 1);
        let mut count = 0_usize;
        for definition in definitions {
            count = count.saturating_add(definition.count);
            for reference in &definition.names {
                count = count.saturating_add(self.count_of(reference, known));
            }
        }
        known.insert(name.to_owned(), count);
        count
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    const TEXT_BYTES_MAX: usize = 256 * 1024;

    fn check(text: &str) -> Result<(), String> {
        let tokens = tokenize(text, TEXT_BYTES_MAX).map_err(|error| error.to_string())?;
        let dialect = GenericDialect {};
        let mut parser = Parser::new(&dialect).with_recursion_limit(1_000).with_tokens_with_locations(tokens);
        let statement = parser.parse_statement().map_err(|error| error.to_string())?;
        check_tree(&statement).map_err(|error| error.to_string())
    }

    fn chain(first: &str, link: &str, count: usize) -> String {
        format!("SELECT {first}{}", link.repeat(count))
    }

    #[test]
    fn each_bound_holds_exactly() {
        let cells = |count: usize| check(&format!("SELECT [{}]", vec!["-1"; count].join(",")));
        assert_eq!(cells(OPERATORS_MAX - 2), Ok(()), "the brackets count too");
        assert_eq!(cells(OPERATORS_MAX - 1), Err("the query has more than 5000 operators".to_owned()));

        assert_eq!(check(&chain("1", "+1", EXPRESSION_DEPTH_MAX - 1)), Ok(()));
        let refused = Err("the query has more than 500 nested expressions".to_owned());
        assert_eq!(check(&chain("1", "+1", EXPRESSION_DEPTH_MAX)), refused);

        assert_eq!(check(&chain("1", ",1", COLUMNS_MAX - 1)), Ok(()));
        assert_eq!(check(&chain("1", ",1", COLUMNS_MAX)), Err("the query has more than 5000 columns".to_owned()));

        let nested = |depth: usize| check(&format!("SELECT {}1{}", "(SELECT ".repeat(depth), ")".repeat(depth)));
        assert_eq!(nested(SUBQUERY_DEPTH_MAX), Ok(()));
        assert_eq!(nested(SUBQUERY_DEPTH_MAX + 1), Err("the query has more than 8 nested subqueries".to_owned()));
        let derived =
            |depth: usize| check(&format!("SELECT 1 FROM {}t{}", "(SELECT 1 FROM ".repeat(depth), ")".repeat(depth)));
        assert_eq!(derived(SUBQUERY_DEPTH_MAX + 40), Ok(()), "subqueries in FROM are no deeper");

        assert_eq!(check(&chain("*", ",*", WILDCARDS_MAX - 1)), Ok(()));
        assert_eq!(check(&chain("*", ",*", WILDCARDS_MAX)), Err("the query has more than 64 wildcards".to_owned()));
        assert_eq!(check(&chain("2", "*2", WILDCARDS_MAX + 1)), Ok(()), "products are no wildcards");

        let deep =
            |depth: usize| tokenize(&format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth)), TEXT_BYTES_MAX);
        assert!(deep(PARENTHESES_DEPTH_MAX).is_ok());
        let refused = deep(PARENTHESES_DEPTH_MAX + 1).unwrap_err().to_string();
        assert_eq!(refused, "the query has more than 200 nested parentheses");

        let long = format!("SELECT '{}'", "x".repeat(TEXT_BYTES_MAX));
        let refused = tokenize(&long, TEXT_BYTES_MAX).unwrap_err().to_string();
        assert_eq!(refused, "the query has 262153 bytes, more than the 262144 that are allowed");
    }

    #[test]
    fn a_common_table_expression_counts_as_often_as_it_is_inlined() {
        let doubling = |steps: usize| {
            let steps: Vec<String> =
                (0..steps).map(|n| format!("c{} AS (SELECT * FROM c{n} a, c{n} b)", n + 1)).collect();
            let last = steps.len();
            format!("WITH c0 AS (SELECT 1), {} SELECT count(*) FROM c{last}", steps.join(", "))
        };
        assert_eq!(check(&doubling(5)), Ok(()));
        let refused = Err("the query has more than 512 tables, subqueries and SELECTs".to_owned());
        assert_eq!(check(&doubling(9)), refused);
        assert_eq!(check(&doubling(30)), refused);
        assert_eq!(check("WITH cpu AS (SELECT * FROM cpu) SELECT * FROM cpu"), Ok(()));
    }

    #[test]
    fn joins_and_unions_are_counted_in_every_spelling() {
        let refused = Err("the query has more than 512 tables, subqueries and SELECTs".to_owned());
        for part in ["cpu", "(SELECT 1)", "unnest([1])"] {
            let list: Vec<String> = (0..600).map(|n| format!("{part} a{n}")).collect();
            assert_eq!(check(&format!("SELECT 1 FROM {}", list.join(", "))), refused, "{part}");
        }
        assert_eq!(check(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(600))), refused);
    }
}
