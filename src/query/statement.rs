//! From text to one statement, which reads or, where that is permitted, changes something.
//!
//! Reading: SELECT, WITH, VALUES, SHOW TABLES, SHOW COLUMNS, SHOW FUNCTIONS, DESCRIBE, and EXPLAIN
//! \[ANALYZE\] of these. Changing: INSERT, DELETE, CREATE TABLE and DROP TABLE, alone. What is refused is refused twice: here by the kind of statement, with words a user
//! understands, and by [`check_plan`] on the finished plan, which no way of planning can avoid.

use std::collections::HashSet;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use super::error::QueryError;
use super::limits;
use super::tables::TableChange;

/// Depth of the parser's recursion. A parenthesis may take more than one step.
const PARSER_DEPTH_MAX: usize = 2 * limits::PARENTHESES_DEPTH_MAX + 50;

/// The view of the session's settings: they are the server's, not the user's.
pub(super) const SETTINGS_VIEW: &str = "df_settings";

/// What a text may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permitted {
    Reading,
    ReadingAndChanging,
}

/// A statement, by what it does.
#[derive(Debug)]
pub(super) enum Parsed {
    Reading(Statement),
    /// INSERT or DELETE.
    Changing(Statement),
    Table(TableChange),
}

/// Parses exactly one statement that does what is permitted. `?` stands for `$1`, `$2` and so on, in order.
///
/// # Errors
/// `Empty`, `NotOneStatement`, `ReadOnly`, a bound of [`limits`], or what the parser says.
pub(super) fn parse(text: &str, bytes_max: usize, permitted: Permitted) -> Result<Parsed, QueryError> {
    let mut tokens = limits::tokenize(text, bytes_max)?;
    number_placeholders(&mut tokens);
    let words = first_words(&tokens);
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&GenericDialect {})
        .with_recursion_limit(PARSER_DEPTH_MAX)
        .build()?
        .parse_statements()?;
    if statements.len() > 1 {
        return Err(QueryError::NotOneStatement(statements.len()));
    }
    let statement = statements.pop_front().ok_or(QueryError::Empty)?;
    if permitted == Permitted::ReadingAndChanging
        && let Statement::Statement(inner) = &statement
    {
        if let Some(change) = TableChange::parse(inner) {
            return change.map(Parsed::Table);
        }
        if let ast::Statement::Delete(_) | ast::Statement::Insert(_) = inner.as_ref() {
            limits::check_tree(inner)?;
            return Ok(Parsed::Changing(statement));
        }
    }
    let reading = reading_statement(&statement).ok_or(QueryError::ReadOnly(words))?;
    limits::check_tree(reading)?;
    Ok(Parsed::Reading(statement))
}

/// JDBC and ODBC send `?`, planners count `$1`.
fn number_placeholders(tokens: &mut [TokenWithSpan]) {
    let mut number = 0;
    for TokenWithSpan { token, .. } in tokens {
        if *token == Token::Placeholder("?".to_owned()) {
            number += 1;
            *token = Token::Placeholder(format!("${number}"));
        }
    }
}

/// How the statement begins, for a message: at most two words, `EXPLAIN` and its options left out.
fn first_words(tokens: &[TokenWithSpan]) -> String {
    let words = tokens.iter().filter_map(|token| match &token.token {
        Token::Word(word) => Some(word.value.to_uppercase()),
        _ => None,
    });
    let told: Vec<String> =
        words.skip_while(|word| matches!(word.as_str(), "EXPLAIN" | "ANALYZE" | "VERBOSE")).take(2).collect();
    let begins_with_a_pair = matches!(
        told.first().map(String::as_str),
        Some("CREATE" | "DROP" | "ALTER" | "SHOW" | "INSERT" | "DELETE" | "START" | "SET")
    );
    told.into_iter().take(if begins_with_a_pair { 2 } else { 1 }).collect::<Vec<_>>().join(" ")
}

/// The statement inside EXPLAINs, if it only reads.
fn reading_statement(statement: &Statement) -> Option<&ast::Statement> {
    match statement {
        Statement::Explain(explain) => reading_statement(&explain.statement),
        Statement::Statement(statement) => match statement.as_ref() {
            ast::Statement::Query(_)
            | ast::Statement::ShowTables { .. }
            | ast::Statement::ShowColumns { .. }
            | ast::Statement::ShowFunctions { .. }
            | ast::Statement::ExplainTable { .. } => Some(statement.as_ref()),
            _ => None,
        },
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => None,
    }
}

/// Refuses a plan that does more than read, and one that reads the server's settings.
///
/// # Errors
/// `ReadOnly`.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<(), QueryError> {
    let only_read = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_read.verify_plan(plan).map_err(|error| QueryError::ReadOnly(error.message().into_owned()))?;
    let mut reads_settings = false;
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            reads_settings |= scan.table_name.table().eq_ignore_ascii_case(SETTINGS_VIEW)
                && scan.table_name.schema().is_some_and(|schema| schema.eq_ignore_ascii_case("information_schema"));
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    if reads_settings {
        return Err(QueryError::ReadOnly("reading the settings of the server".to_owned()));
    }
    Ok(())
}

/// The parameters of a plan, without the `$`: numbered ones in the order of their numbers, then named ones by name.
///
/// # Errors
/// If the plan can't be walked; a defect.
pub(super) fn parameter_names(plan: &LogicalPlan) -> Result<Vec<String>, DataFusionError> {
    let names: HashSet<String> = plan.get_parameter_names()?;
    let mut names: Vec<String> = names.iter().map(|name| name.trim_start_matches('$').to_owned()).collect();
    names.sort_by_cached_key(|name| (name.parse::<usize>().unwrap_or(usize::MAX), name.clone()));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        parse(text, 1024, Permitted::Reading).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_names_the_statement() {
        for (text, words) in [
            ("COPY cpu TO '/tmp/x'", "COPY"),
            ("EXPLAIN ANALYZE COPY cpu TO '/tmp/x.csv'", "COPY"),
            ("create external table x stored as parquet location '/etc'", "CREATE EXTERNAL"),
            ("SET datafusion.execution.batch_size = 1", "SET DATAFUSION"),
            ("INSERT INTO cpu VALUES (1)", "INSERT INTO"),
            ("SHOW ALL", "SHOW ALL"),
            ("DELETE FROM cpu", "DELETE FROM"),
        ] {
            assert_eq!(refusal(text), format!("queries are read-only: {words} is not allowed"));
        }
        assert_eq!(refusal("SELECT 1; SELECT 2"), "the query holds 2 statements, send exactly one");
        assert_eq!(refusal(" ; -- nothing"), "the query is empty");
    }

    #[test]
    fn only_a_statement_by_itself_changes_something() {
        let parsed = |text| parse(text, 1024, Permitted::ReadingAndChanging);
        assert!(matches!(parsed("DELETE FROM cpu"), Ok(Parsed::Changing(_))));
        assert!(matches!(parsed("INSERT INTO cpu (a) VALUES (1)"), Ok(Parsed::Changing(_))));
        assert!(matches!(parsed("DROP TABLE cpu"), Ok(Parsed::Table(_))));
        assert!(matches!(parsed("SELECT 1"), Ok(Parsed::Reading(_))));
        for other in [
            "EXPLAIN DELETE FROM cpu",
            "EXPLAIN DROP TABLE cpu",
            "DROP VIEW cpu",
            "UPDATE cpu SET a = 1",
            "DELETE FROM cpu; DELETE FROM mem",
        ] {
            assert!(parsed(other).is_err(), "{other}");
        }
    }

    #[test]
    fn question_marks_are_numbered_and_those_in_text_are_not() {
        let text = "SELECT * FROM cpu WHERE a = ? AND b = '?' AND c IN (?, ?)";
        let Parsed::Reading(statement) = parse(text, 1024, Permitted::Reading).unwrap() else { panic!("{text} reads") };
        assert_eq!(statement.to_string(), "SELECT * FROM cpu WHERE a = $1 AND b = '?' AND c IN ($2, $3)");
    }
}
