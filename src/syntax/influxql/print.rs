//! Statements as text: one way to write each, which is read back as the same value.

use std::fmt::{self, Display, Formatter};

use super::ast::*;
use super::duration;
use super::regex::Regex;
use super::scanner::is_identifier;
use super::token::Kind;

/// A number with a point, so that it is not read as a whole one.
pub(super) fn number(number: f64) -> String {
    let text = number.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

/// A name, in quotes where it needs them.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a>(pub &'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_plain = self.0.chars().all(is_identifier)
            && self.0.chars().next().is_some_and(|first| !first.is_ascii_digit())
            && Kind::keyword(self.0).is_none();
        if is_plain { f.write_str(self.0) } else { quoted(f, self.0, '"') }
    }
}

struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        quoted(f, self.0, '\'')
    }
}

fn quoted(f: &mut Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    write!(f, "{quote}")?;
    for letter in text.chars() {
        match letter {
            '\n' => f.write_str("\\n")?,
            '\\' => f.write_str("\\\\")?,
            letter if letter == quote => write!(f, "\\{letter}")?,
            letter => write!(f, "{letter}")?,
        }
    }
    write!(f, "{quote}")
}

impl Display for Regex {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str().replace('/', "\\/"))
    }
}

/// Items with a comma between them.
struct List<'a, T>(&'a [T]);

impl<T: Display> Display for List<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, item) in self.0.iter().enumerate() {
            write!(f, "{}{item}", if n == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// ` KEYWORD item`, or nothing.
fn clause<T: Display>(f: &mut Formatter<'_>, keyword: &str, item: Option<T>) -> fmt::Result {
    item.map_or(Ok(()), |item| write!(f, " {keyword} {item}"))
}

fn list_clause<T: Display>(f: &mut Formatter<'_>, keyword: &str, items: &[T]) -> fmt::Result {
    clause(f, keyword, (!items.is_empty()).then_some(List(items)))
}

fn number_clause(f: &mut Formatter<'_>, keyword: &str, number: u64) -> fmt::Result {
    clause(f, keyword, (number > 0).then_some(number))
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Select(select) => select.fmt(f),
            Self::Explain { analyze, verbose, select } => {
                let analyze = if *analyze { "ANALYZE " } else { "" };
                let verbose = if *verbose { "VERBOSE " } else { "" };
                write!(f, "EXPLAIN {analyze}{verbose}{select}")
            }
            Self::Show(show) => show.fmt(f),
            Self::ShowServer(facts) => facts.fmt(f),
            Self::ShowRetentionPolicies { database } => {
                f.write_str("SHOW RETENTION POLICIES")?;
                clause(f, "ON", database.as_deref().map(Name))
            }
            Self::ShowGrants { user } => write!(f, "SHOW GRANTS FOR {}", Name(user)),
            Self::Delete(selection) => write!(f, "DELETE{selection}"),
            Self::DropSeries(selection) => write!(f, "DROP SERIES{selection}"),
            Self::CreateDatabase(create) => create.fmt(f),
            Self::CreateRetentionPolicy(policy) => write!(f, "CREATE {policy}"),
            Self::AlterRetentionPolicy(policy) => write!(f, "ALTER {policy}"),
            Self::CreateContinuousQuery(query) => query.fmt(f),
            Self::CreateSubscription { name, database, policy, all, destinations } => {
                let (name, database, policy) = (Name(name), Name(database), Name(policy));
                let mode = if *all { "ALL" } else { "ANY" };
                let destinations: Vec<_> = destinations.iter().map(|place| Text(place)).collect();
                write!(
                    f,
                    "CREATE SUBSCRIPTION {name} ON {database}.{policy} DESTINATIONS {mode} {}",
                    List(&destinations)
                )
            }
            Self::CreateUser { name, password, admin } => {
                let admin = if *admin { " WITH ALL PRIVILEGES" } else { "" };
                write!(f, "CREATE USER {} WITH PASSWORD {}{admin}", Name(name), Text(password))
            }
            Self::SetPassword { user, password } => {
                write!(f, "SET PASSWORD FOR {} = {}", Name(user), Text(password))
            }
            Self::Grant(grant) => grant_text(f, "GRANT", grant, "TO"),
            Self::Revoke(grant) => grant_text(f, "REVOKE", grant, "FROM"),
            Self::Drop(dropped) => write!(f, "DROP {dropped}"),
            Self::KillQuery { id, host } => {
                write!(f, "KILL QUERY {id}")?;
                clause(f, "ON", host.as_deref().map(Name))
            }
        }
    }
}

fn grant_text(f: &mut Formatter<'_>, verb: &str, grant: &Grant, direction: &str) -> fmt::Result {
    let privilege = match grant.privilege {
        Privilege::Read => "READ",
        Privilege::Write => "WRITE",
        Privilege::All => "ALL PRIVILEGES",
    };
    write!(f, "{verb} {privilege}")?;
    clause(f, "ON", grant.database.as_deref().map(Name))?;
    write!(f, " {direction} {}", Name(&grant.user))
}

impl Display for Dropped {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(name) => write!(f, "DATABASE {}", Name(name)),
            Self::Measurement(name) => write!(f, "MEASUREMENT {}", Name(name)),
            Self::Shard(id) => write!(f, "SHARD {id}"),
            Self::User(name) => write!(f, "USER {}", Name(name)),
            Self::RetentionPolicy { name, database } => {
                write!(f, "RETENTION POLICY {} ON {}", Name(name), Name(database))
            }
            Self::ContinuousQuery { name, database } => {
                write!(f, "CONTINUOUS QUERY {} ON {}", Name(name), Name(database))
            }
            Self::Subscription { name, database, policy } => {
                write!(f, "SUBSCRIPTION {} ON {}.{}", Name(name), Name(database), Name(policy))
            }
        }
    }
}

impl Display for ServerFacts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (what, module) = match self {
            Self::Databases => ("DATABASES", None),
            Self::Queries => ("QUERIES", None),
            Self::Stats(module) => ("STATS", module.as_deref()),
            Self::Diagnostics(module) => ("DIAGNOSTICS", module.as_deref()),
            Self::Shards => ("SHARDS", None),
            Self::ShardGroups => ("SHARD GROUPS", None),
            Self::Subscriptions => ("SUBSCRIPTIONS", None),
            Self::ContinuousQueries => ("CONTINUOUS QUERIES", None),
            Self::Users => ("USERS", None),
        };
        write!(f, "SHOW {what}")?;
        clause(f, "FOR", module.map(Text))
    }
}

impl Display for Show {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_list = self.how == ShownAs::List;
        let what = match (self.what, is_list) {
            (Shown::Measurements, true) => "MEASUREMENTS",
            (Shown::Measurements, false) => "MEASUREMENT",
            (Shown::TagKeys, true) => "TAG KEYS",
            (Shown::TagKeys, false) => "TAG KEY",
            (Shown::TagValues, _) => "TAG VALUES",
            (Shown::FieldKeys, true) => "FIELD KEYS",
            (Shown::FieldKeys, false) => "FIELD KEY",
            (Shown::Series, _) => "SERIES",
        };
        let how = match self.how {
            ShownAs::List => "",
            ShownAs::Cardinality => " CARDINALITY",
            ShownAs::ExactCardinality => " EXACT CARDINALITY",
        };
        write!(f, "SHOW {what}{how}")?;
        clause(f, "ON", self.on.as_ref())?;
        match (self.what, is_list, self.sources.as_slice()) {
            (Shown::Measurements, true, [source]) => {
                let is_regex =
                    matches!(source, Source::Measurement(Measurement { name: MeasurementName::Regex(_), .. }));
                write!(f, " WITH MEASUREMENT {} {source}", if is_regex { "=~" } else { "=" })?;
            }
            (_, _, sources) => list_clause(f, "FROM", sources)?,
        }
        clause(f, "WITH KEY", self.keys.as_ref())?;
        clause(f, "WHERE", self.condition.as_ref())?;
        list_clause(f, "GROUP BY", &self.dimensions)?;
        clause(f, "ORDER BY", self.order)?;
        number_clause(f, "LIMIT", self.limit)?;
        number_clause(f, "OFFSET", self.offset)?;
        number_clause(f, "SLIMIT", self.series_limit)?;
        number_clause(f, "SOFFSET", self.series_offset)
    }
}

impl Display for ShowOn {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let part = |f: &mut Formatter<'_>, name: &Option<String>| match name {
            Some(name) => Name(name).fmt(f),
            None => f.write_str("*"),
        };
        part(f, &self.database)?;
        match &self.policy {
            Some(policy) => {
                f.write_str(".")?;
                part(f, policy)
            }
            None => Ok(()),
        }
    }
}

impl Display for KeyFilter {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(key) => write!(f, "= {}", Name(key)),
            Self::NotEqual(key) => write!(f, "!= {}", Name(key)),
            Self::In(keys) => write!(f, "IN ({})", List(&keys.iter().map(|key| Name(key)).collect::<Vec<_>>())),
            Self::Matches(regex) => write!(f, "=~ {regex}"),
            Self::MatchesNot(regex) => write!(f, "!~ {regex}"),
        }
    }
}

impl Display for Selection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list_clause(f, "FROM", &self.sources)?;
        clause(f, "WHERE", self.condition.as_ref())
    }
}

impl Display for CreateDatabase {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE DATABASE {}", Name(&self.name))?;
        if self.policy.is_none() && self.policy_name.is_none() {
            return Ok(());
        }
        f.write_str(" WITH")?;
        if let Some(options) = &self.policy {
            options.fmt(f)?;
        }
        clause(f, "NAME", self.policy_name.as_deref().map(Name))
    }
}

impl Display for RetentionPolicy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { name, database, options, default } = self;
        write!(f, "RETENTION POLICY {} ON {}", Name(name), Name(database))?;
        let limits =
            PolicyOptions { future_limit: options.future_limit, past_limit: options.past_limit, ..Default::default() };
        let lengths = PolicyOptions { future_limit: None, past_limit: None, ..options.clone() };
        write!(f, "{lengths}{}{limits}", if *default { " DEFAULT" } else { "" })
    }
}

impl Display for PolicyOptions {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let span = |nanos: i64| if nanos == 0 { "INF".to_owned() } else { duration::format(nanos) };
        clause(f, "DURATION", self.duration.map(span))?;
        clause(f, "REPLICATION", self.replication)?;
        clause(f, "SHARD DURATION", self.shard_duration.map(duration::format))?;
        clause(f, "FUTURE LIMIT", self.future_limit.map(span))?;
        clause(f, "PAST LIMIT", self.past_limit.map(span))
    }
}

impl Display for ContinuousQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "CREATE CONTINUOUS QUERY {} ON {}", Name(&self.name), Name(&self.database))?;
        if self.every.is_some() || self.resample_for.is_some() {
            f.write_str(" RESAMPLE")?;
        }
        clause(f, "EVERY", self.every.map(duration::format))?;
        clause(f, "FOR", self.resample_for.map(duration::format))?;
        write!(f, " BEGIN {} END", self.select)
    }
}

impl Display for Select {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "SELECT {}", List(&self.fields))?;
        clause(f, "INTO", self.into.as_ref())?;
        list_clause(f, "FROM", &self.sources)?;
        clause(f, "WHERE", self.condition.as_ref())?;
        list_clause(f, "GROUP BY", &self.dimensions)?;
        match self.fill {
            Fill::Null => {}
            Fill::None => f.write_str(" fill(none)")?,
            Fill::Previous => f.write_str(" fill(previous)")?,
            Fill::Linear => f.write_str(" fill(linear)")?,
            Fill::Integer(value) => write!(f, " fill({value})")?,
            Fill::Number(value) => write!(f, " fill({})", number(value))?,
        }
        clause(f, "ORDER BY", self.order)?;
        number_clause(f, "LIMIT", self.limit)?;
        number_clause(f, "OFFSET", self.offset)?;
        number_clause(f, "SLIMIT", self.series_limit)?;
        number_clause(f, "SOFFSET", self.series_offset)?;
        self.zone.map_or(Ok(()), |zone| write!(f, " tz('{zone}')"))
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.expression.fmt(f)?;
        clause(f, "AS", self.alias.as_deref().map(Name))
    }
}

impl Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        qualifiers(f, self.database.as_deref(), self.policy.as_deref())?;
        match &self.measurement {
            Some(name) => Name(name).fmt(f),
            None => f.write_str(":MEASUREMENT"),
        }
    }
}

/// `database.policy.`, as far as they are named.
fn qualifiers(f: &mut Formatter<'_>, database: Option<&str>, policy: Option<&str>) -> fmt::Result {
    match (database, policy) {
        (Some(database), Some(policy)) => write!(f, "{}.{}.", Name(database), Name(policy)),
        (Some(database), None) => write!(f, "{}..", Name(database)),
        (None, Some(policy)) => write!(f, "{}.", Name(policy)),
        (None, None) => Ok(()),
    }
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measurement(measurement) => measurement.fmt(f),
            Self::Subquery(select) => write!(f, "({select})"),
        }
    }
}

impl Display for Measurement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        qualifiers(f, self.database.as_deref(), self.policy.as_deref())?;
        match &self.name {
            MeasurementName::Name(name) => Name(name).fmt(f),
            MeasurementName::Regex(regex) => regex.fmt(f),
        }
    }
}

impl Display for Order {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ascending => "time ASC",
            Self::Descending => "time DESC",
        })
    }
}

impl Display for Cast {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::String => "string",
            Self::Boolean => "boolean",
            Self::Field => "field",
            Self::Tag => "tag",
        })
    }
}

impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Or => "OR",
            Self::And => "AND",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Matches => "=~",
            Self::MatchesNot => "!~",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
            Self::BitAnd => "&",
        })
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Column { name, cast } => {
                Name(name).fmt(f)?;
                cast.map_or(Ok(()), |cast| write!(f, "::{cast}"))
            }
            // The one keyword that is a function too.
            Self::Call { name, arguments } if name == "distinct" => write!(f, "{name}({})", List(arguments)),
            Self::Call { name, arguments } => write!(f, "{}({})", Name(name), List(arguments)),
            Self::Distinct(name) => write!(f, "DISTINCT {}", Name(name)),
            Self::Wildcard(None) => f.write_str("*"),
            Self::Wildcard(Some(cast)) => write!(f, "*::{cast}"),
            Self::Regex(regex) => regex.fmt(f),
            Self::String(text) => Text(text).fmt(f),
            Self::Number(value) => f.write_str(&number(*value)),
            Self::Integer(value) => value.fmt(f),
            Self::Unsigned(value) => value.fmt(f),
            Self::Boolean(value) => value.fmt(f),
            Self::Duration(nanos) => f.write_str(&duration::format(*nanos)),
            Self::Parenthesis(inner) => write!(f, "({inner})"),
            Self::Signed { negative, operand } => write!(f, "{}{operand}", if *negative { '-' } else { '+' }),
            Self::Binary { operator, left, right } => write!(f, "{left} {operator} {right}"),
        }
    }
}
