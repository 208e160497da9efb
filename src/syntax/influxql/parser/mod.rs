//! From tokens to statements, by recursive descent.
//!
//! The order of questions is that of InfluxDB 1, because the places in its errors follow from what was looked at.

mod administration;
mod clauses;
mod expression;
mod select;
mod show;

use super::ast::{Dropped, ServerFacts, Statement};
use super::error::ParseError;
use super::parameters::Value;
use super::scanner::{Scanner, is_blank};
use super::token::{Kind, Position, Token};

/// How deep parentheses, calls and subqueries may nest.
pub const DEPTH_MAX: usize = 100;

/// How many operators one statement may have. Not each of its expressions: expressions stand in one another, and the tree
/// of a chain is as deep as the chain is long.
pub const OPERATORS_MAX: usize = 2_000;

/// How many regular expressions one text may have. Each may take a program of a mebibyte.
const REGEXES_MAX: usize = 128;

type Result<T> = std::result::Result<T, ParseError>;

/// How many tokens can be put back.
const KEPT: usize = 3;

pub(super) struct Parser<'a> {
    scanner: Scanner<'a>,
    /// The last tokens, the newest at `newest`.
    tokens: [Token; KEPT],
    newest: usize,
    /// How many of them are put back.
    put_back: usize,
    parameters: &'a [(String, Value)],
    depth: usize,
    /// Those of the statement so far.
    operators: usize,
    /// Those of the text so far.
    regexes: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str, parameters: &'a [(String, Value)]) -> Self {
        let none = || Token { kind: Kind::Eof, position: Position::default(), text: String::new() };
        let tokens = [none(), none(), none()];
        Self {
            scanner: Scanner::new(text),
            tokens,
            newest: 0,
            put_back: 0,
            parameters,
            depth: 0,
            operators: 0,
            regexes: 0,
        }
    }

    /// All statements up to the end.
    pub(super) fn statements(mut self) -> Result<Vec<Statement>> {
        let mut statements = Vec::new();
        let mut may_begin = true;
        loop {
            let token = self.next();
            match token.kind {
                Kind::Eof => return Ok(statements),
                Kind::Semicolon => may_begin = true,
                _ if !may_begin => return Err(ParseError::expected(&token, &[";"])),
                _ => {
                    self.back();
                    self.operators = 0;
                    statements.push(self.statement()?);
                    may_begin = false;
                }
            }
        }
    }

    fn statement(&mut self) -> Result<Statement> {
        let first = self.next();
        match first.kind {
            Kind::Select => Ok(Statement::Select(Box::new(self.select(select::Into::Optional)?))),
            Kind::Delete => self.delete(),
            Kind::Show => self.show(),
            Kind::Create => self.create(),
            Kind::Drop => self.drop_something(),
            Kind::Explain => self.explain(),
            Kind::Grant => self.grant(Kind::To).map(Statement::Grant),
            Kind::Revoke => self.grant(Kind::From).map(Statement::Revoke),
            Kind::Alter => {
                self.keywords(&[Kind::Retention, Kind::Policy])?;
                self.alter_retention_policy()
            }
            Kind::Set => {
                self.keywords(&[Kind::Password, Kind::For])?;
                self.set_password()
            }
            Kind::Kill => {
                self.keywords(&[Kind::Query])?;
                self.kill_query()
            }
            _ => Err(ParseError::expected(
                &first,
                &["SELECT", "DELETE", "SHOW", "CREATE", "DROP", "EXPLAIN", "GRANT", "REVOKE", "ALTER", "SET", "KILL"],
            )),
        }
    }

    fn show(&mut self) -> Result<Statement> {
        let what = self.next();
        Ok(match what.kind {
            Kind::Continuous => {
                self.keywords(&[Kind::Queries])?;
                Statement::ShowServer(ServerFacts::ContinuousQueries)
            }
            Kind::Databases => Statement::ShowServer(ServerFacts::Databases),
            Kind::Diagnostics => Statement::ShowServer(ServerFacts::Diagnostics(self.module()?)),
            Kind::Field => {
                let next = self.next();
                match next.kind {
                    Kind::Key => self.show_field_key_cardinality()?,
                    Kind::Keys => self.show_field_keys()?,
                    _ => return Err(ParseError::expected(&next, &["KEY", "KEYS"])),
                }
            }
            Kind::Grants => {
                self.keywords(&[Kind::For])?;
                Statement::ShowGrants { user: self.identifier()? }
            }
            Kind::Measurement => self.show_measurement_cardinality()?,
            Kind::Measurements => self.show_measurements()?,
            Kind::Queries => Statement::ShowServer(ServerFacts::Queries),
            Kind::Retention => {
                self.keywords(&[Kind::Policies])?;
                let database = if self.next_if(Kind::On) { Some(self.identifier()?) } else { None };
                Statement::ShowRetentionPolicies { database }
            }
            Kind::Series => self.show_series()?,
            Kind::Shard => {
                self.keywords(&[Kind::Groups])?;
                Statement::ShowServer(ServerFacts::ShardGroups)
            }
            Kind::Shards => Statement::ShowServer(ServerFacts::Shards),
            Kind::Stats => Statement::ShowServer(ServerFacts::Stats(self.module()?)),
            Kind::Subscriptions => Statement::ShowServer(ServerFacts::Subscriptions),
            Kind::Tag => {
                let next = self.next();
                match next.kind {
                    Kind::Key => self.show_tag_key_cardinality()?,
                    Kind::Keys => self.show_tag_keys()?,
                    Kind::Values => self.show_tag_values()?,
                    _ => return Err(ParseError::expected(&next, &["KEY", "KEYS", "VALUES"])),
                }
            }
            Kind::Users => Statement::ShowServer(ServerFacts::Users),
            _ => {
                return Err(ParseError::expected(
                    &what,
                    &[
                        "CONTINUOUS",
                        "DATABASES",
                        "DIAGNOSTICS",
                        "FIELD",
                        "GRANTS",
                        "MEASUREMENT",
                        "MEASUREMENTS",
                        "QUERIES",
                        "RETENTION",
                        "SERIES",
                        "SHARD",
                        "SHARDS",
                        "STATS",
                        "SUBSCRIPTIONS",
                        "TAG",
                        "USERS",
                    ],
                ));
            }
        })
    }

    /// `[FOR 'module']`.
    fn module(&mut self) -> Result<Option<String>> {
        if self.next_if(Kind::For) { self.string().map(Some) } else { Ok(None) }
    }

    fn create(&mut self) -> Result<Statement> {
        let what = self.next();
        match what.kind {
            Kind::Continuous => {
                self.keywords(&[Kind::Query])?;
                self.create_continuous_query()
            }
            Kind::Database => self.create_database(),
            Kind::User => self.create_user(),
            Kind::Retention => {
                self.keywords(&[Kind::Policy])?;
                self.create_retention_policy()
            }
            Kind::Subscription => self.create_subscription(),
            _ => Err(ParseError::expected(&what, &["CONTINUOUS", "DATABASE", "USER", "RETENTION", "SUBSCRIPTION"])),
        }
    }

    fn drop_something(&mut self) -> Result<Statement> {
        let what = self.next();
        Ok(Statement::Drop(match what.kind {
            Kind::Continuous => {
                self.keywords(&[Kind::Query])?;
                let (name, database) = self.name_on_database()?;
                Dropped::ContinuousQuery { name, database }
            }
            Kind::Database => Dropped::Database(self.identifier()?),
            Kind::Measurement => Dropped::Measurement(self.identifier()?),
            Kind::Retention => {
                self.keywords(&[Kind::Policy])?;
                let (name, database) = self.name_on_database()?;
                Dropped::RetentionPolicy { name, database }
            }
            Kind::Series => return self.drop_series(),
            Kind::Shard => Dropped::Shard(self.unsigned()?),
            Kind::Subscription => {
                let (name, database) = self.name_on_database()?;
                let policy = self.policy_behind_dot()?;
                Dropped::Subscription { name, database, policy }
            }
            Kind::User => Dropped::User(self.identifier()?),
            _ => {
                return Err(ParseError::expected(
                    &what,
                    &["CONTINUOUS", "DATABASE", "MEASUREMENT", "RETENTION", "SERIES", "SHARD", "SUBSCRIPTION", "USER"],
                ));
            }
        }))
    }

    // Tokens.

    /// The next token, blanks and comments too.
    fn next_raw(&mut self) -> Token {
        self.scan(Scanner::token)
    }

    fn scan(&mut self, read: impl Fn(&mut Scanner<'a>) -> Token) -> Token {
        if self.put_back > 0 {
            self.put_back -= 1;
        } else {
            self.newest = (self.newest + 1) % KEPT;
            self.tokens[self.newest] = read(&mut self.scanner);
        }
        let token = self.tokens[(self.newest + KEPT - self.put_back) % KEPT].clone();
        self.with_value(token)
    }

    /// The token that a parameter stands for; the parameter itself if it has no value.
    fn with_value(&self, token: Token) -> Token {
        if token.kind != Kind::Parameter {
            return token;
        }
        match self.value(&token).and_then(Value::token) {
            Some((kind, text)) => Token { kind, position: token.position, text },
            None => token,
        }
    }

    fn value(&self, parameter: &Token) -> Option<&'a Value> {
        let name = parameter.text.strip_prefix('$').unwrap_or_default();
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// The next token that is neither blank nor comment.
    fn next(&mut self) -> Token {
        loop {
            let token = self.next_raw();
            if !matches!(token.kind, Kind::Whitespace | Kind::Comment) {
                return token;
            }
        }
    }

    /// Puts the last token back, and so on.
    fn back(&mut self) {
        self.put_back += 1;
    }

    fn next_if(&mut self, kind: Kind) -> bool {
        let is_next = self.next().kind == kind;
        if !is_next {
            self.back();
        }
        is_next
    }

    /// Reads a word that is no keyword elsewhere.
    fn next_if_word(&mut self, word: &str) -> bool {
        let token = self.next();
        let is_next = token.kind == Kind::Identifier && token.text.eq_ignore_ascii_case(word);
        if !is_next {
            self.back();
        }
        is_next
    }

    fn expect(&mut self, kind: Kind) -> Result<()> {
        self.keywords(&[kind])
    }

    fn keywords(&mut self, kinds: &[Kind]) -> Result<()> {
        for kind in kinds {
            let token = self.next();
            if token.kind != *kind {
                return Err(ParseError::expected(&token, &[kind.name()]));
            }
        }
        Ok(())
    }

    fn skip_blanks(&mut self) {
        if self.next_raw().kind != Kind::Whitespace {
            self.back();
        }
    }

    /// The character behind the last token that was read from the text, whatever is put back.
    fn look(&mut self) -> Option<char> {
        self.scanner.look()
    }

    fn look_is_blank(&mut self) -> bool {
        self.look().is_some_and(is_blank)
    }

    // Words and numbers.

    fn identifier(&mut self) -> Result<String> {
        let token = self.next();
        match token.kind {
            Kind::Identifier => Ok(token.text),
            _ => Err(ParseError::expected(&token, &["identifier"])),
        }
    }

    fn identifiers(&mut self) -> Result<Vec<String>> {
        let mut list = vec![self.identifier()?];
        while self.next_if(Kind::Comma) {
            list.push(self.identifier()?);
        }
        Ok(list)
    }

    fn string(&mut self) -> Result<String> {
        let token = self.next();
        match token.kind {
            Kind::String => Ok(token.text),
            _ => Err(ParseError::expected(&token, &["string"])),
        }
    }

    fn strings(&mut self) -> Result<Vec<String>> {
        let mut list = vec![self.string()?];
        while self.next_if(Kind::Comma) {
            list.push(self.string()?);
        }
        Ok(list)
    }

    fn unsigned(&mut self) -> Result<u64> {
        let token = self.next();
        if token.kind != Kind::Integer {
            return Err(ParseError::expected(&token, &["integer"]));
        }
        let parsed = token.text.parse();
        parsed.map_err(|_| ParseError::at(token.position, format!("the number {} is out of range", token.text)))
    }

    /// Runs `read` one level deeper.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == DEPTH_MAX {
            return Err(ParseError::somewhere(format!("the query nests deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }
}
