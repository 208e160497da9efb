//! Statements as values: what was written, not yet what it means.
//!
//! Everything prints itself as a text that is read back as the same value (`print`).

use super::regex::Regex;

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `SELECT …`.
    Select(Box<Select>),
    /// `EXPLAIN [ANALYZE] [VERBOSE] SELECT …`.
    Explain {
        /// Whether it is run.
        analyze: bool,
        /// Whether more is told.
        verbose: bool,
        /// What is explained.
        select: Box<Select>,
    },
    /// `SHOW` of what there is.
    Show(Show),
    /// `SHOW` of something about the server, without conditions.
    ShowServer(ServerFacts),
    /// `SHOW RETENTION POLICIES [ON database]`.
    ShowRetentionPolicies {
        /// Whose; else those of the request's database.
        database: Option<String>,
    },
    /// `SHOW GRANTS FOR user`.
    ShowGrants {
        /// Whose.
        user: String,
    },
    /// `DELETE [FROM …] [WHERE …]`: rows.
    Delete(Selection),
    /// `DROP SERIES [FROM …] [WHERE …]`.
    DropSeries(Selection),
    /// `CREATE DATABASE`.
    CreateDatabase(CreateDatabase),
    /// `CREATE RETENTION POLICY`.
    CreateRetentionPolicy(RetentionPolicy),
    /// `ALTER RETENTION POLICY`.
    AlterRetentionPolicy(RetentionPolicy),
    /// `CREATE CONTINUOUS QUERY`.
    CreateContinuousQuery(ContinuousQuery),
    /// `CREATE SUBSCRIPTION name ON database.policy DESTINATIONS ALL|ANY '…', …`.
    CreateSubscription {
        /// Its name.
        name: String,
        /// Of which database.
        database: String,
        /// Of which retention policy.
        policy: String,
        /// Whether every destination gets all.
        all: bool,
        /// Where to.
        destinations: Vec<String>,
    },
    /// `CREATE USER name WITH PASSWORD '…' [WITH ALL PRIVILEGES]`.
    CreateUser {
        /// Its name.
        name: String,
        /// Its password.
        password: String,
        /// Whether it may do everything.
        admin: bool,
    },
    /// `SET PASSWORD FOR user = '…'`.
    SetPassword {
        /// Whose.
        user: String,
        /// The new one.
        password: String,
    },
    /// `GRANT privilege ON database TO user`, or `GRANT ALL TO user`.
    Grant(Grant),
    /// `REVOKE privilege ON database FROM user`, or `REVOKE ALL FROM user`.
    Revoke(Grant),
    /// `DROP` of something that has a name.
    Drop(Dropped),
    /// `KILL QUERY id [ON "host"]`.
    KillQuery {
        /// Its number.
        id: u64,
        /// Where it runs.
        host: Option<String>,
    },
}

/// What a `DROP` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropped {
    /// A database with everything in it.
    Database(String),
    /// A measurement of the request's database.
    Measurement(String),
    /// A shard by its number.
    Shard(u64),
    /// A user.
    User(String),
    /// A retention policy.
    RetentionPolicy {
        /// Its name.
        name: String,
        /// Of which database.
        database: String,
    },
    /// A continuous query.
    ContinuousQuery {
        /// Its name.
        name: String,
        /// Of which database.
        database: String,
    },
    /// A subscription.
    Subscription {
        /// Its name.
        name: String,
        /// Of which database.
        database: String,
        /// Of which retention policy.
        policy: String,
    },
}

/// Something about the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerFacts {
    /// Names of databases.
    Databases,
    /// Statements that run now.
    Queries,
    /// Counters, of one module or all.
    Stats(Option<String>),
    /// Versions and settings, of one module or all.
    Diagnostics(Option<String>),
    /// Shards.
    Shards,
    /// Groups of shards.
    ShardGroups,
    /// Subscriptions.
    Subscriptions,
    /// Continuous queries.
    ContinuousQueries,
    /// Users.
    Users,
}

/// Which things a [`Show`] names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Measurements.
    Measurements,
    /// Keys of tags.
    TagKeys,
    /// Values of tags.
    TagValues,
    /// Keys of fields.
    FieldKeys,
    /// Series.
    Series,
}

/// How a [`Show`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShownAs {
    /// With the names themselves.
    List,
    /// With how many there are, perhaps estimated.
    Cardinality,
    /// With how many there are.
    ExactCardinality,
}

/// `SHOW MEASUREMENTS`, `TAG KEYS`, `TAG VALUES`, `FIELD KEYS`, `SERIES`, and how many there are of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Show {
    /// Which things.
    pub what: Shown,
    /// How.
    pub how: ShownAs,
    /// `ON`: of which database, else that of the request.
    pub on: Option<ShowOn>,
    /// `FROM`, or `WITH MEASUREMENT`: of which measurements, else of all.
    pub sources: Vec<Source>,
    /// `WITH KEY`: of which tags.
    pub keys: Option<KeyFilter>,
    /// `WHERE`.
    pub condition: Option<Expression>,
    /// `GROUP BY`, for cardinalities.
    pub dimensions: Vec<Expression>,
    /// `ORDER BY`.
    pub order: Option<Order>,
    /// `LIMIT`, 0 for none.
    pub limit: u64,
    /// `OFFSET`.
    pub offset: u64,
    /// `SLIMIT`, 0 for none.
    pub series_limit: u64,
    /// `SOFFSET`.
    pub series_offset: u64,
}

/// `ON database[.policy]`; a `*` is a name that is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShowOn {
    /// The database.
    pub database: Option<String>,
    /// Its retention policy, if one is given.
    pub policy: Option<Option<String>>,
}

/// `WITH KEY …`.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyFilter {
    /// `= key`.
    Equal(String),
    /// `!= key`.
    NotEqual(String),
    /// `IN (key, …)`.
    In(Vec<String>),
    /// `=~ /…/`.
    Matches(Regex),
    /// `!~ /…/`.
    MatchesNot(Regex),
}

/// What a statement removes: rows of measurements.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// `FROM`: which measurements, else all.
    pub sources: Vec<Source>,
    /// `WHERE`.
    pub condition: Option<Expression>,
}

/// `CREATE DATABASE name [WITH …]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateDatabase {
    /// Its name.
    pub name: String,
    /// What its retention policy is to be, if that is said.
    pub policy: Option<PolicyOptions>,
    /// What its retention policy is called.
    pub policy_name: Option<String>,
}

/// `CREATE` or `ALTER RETENTION POLICY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Its name.
    pub name: String,
    /// Of which database.
    pub database: String,
    /// What it is to be.
    pub options: PolicyOptions,
    /// Whether it becomes the one that is meant where none is named.
    pub default: bool,
}

/// How long points are kept and how they are stored; spans in nanoseconds, 0 for `INF`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyOptions {
    /// `DURATION`.
    pub duration: Option<i64>,
    /// `REPLICATION`.
    pub replication: Option<i32>,
    /// `SHARD DURATION`.
    pub shard_duration: Option<i64>,
    /// `FUTURE LIMIT`.
    pub future_limit: Option<i64>,
    /// `PAST LIMIT`.
    pub past_limit: Option<i64>,
}

/// `CREATE CONTINUOUS QUERY`.
#[derive(Debug, Clone, PartialEq)]
pub struct ContinuousQuery {
    /// Its name.
    pub name: String,
    /// Of which database.
    pub database: String,
    /// `RESAMPLE EVERY`, in nanoseconds.
    pub every: Option<i64>,
    /// `RESAMPLE FOR`, in nanoseconds.
    pub resample_for: Option<i64>,
    /// What it does.
    pub select: Box<Select>,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Query.
    Read,
    /// Write.
    Write,
    /// Both, and more.
    All,
}

/// Who may do what where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What.
    pub privilege: Privilege,
    /// In which database; `None`: everywhere.
    pub database: Option<String>,
    /// Who.
    pub user: String,
}

/// `SELECT`.
#[derive(Debug, Clone, PartialEq)]
pub struct Select {
    /// What is asked for, at least one.
    pub fields: Vec<Field>,
    /// `INTO`: where the answer is written.
    pub into: Option<Target>,
    /// `FROM`, at least one.
    pub sources: Vec<Source>,
    /// `WHERE`.
    pub condition: Option<Expression>,
    /// `GROUP BY`.
    pub dimensions: Vec<Expression>,
    /// `fill()`.
    pub fill: Fill,
    /// `ORDER BY`.
    pub order: Option<Order>,
    /// `LIMIT`, 0 for none.
    pub limit: u64,
    /// `OFFSET`.
    pub offset: u64,
    /// `SLIMIT`, 0 for none.
    pub series_limit: u64,
    /// `SOFFSET`.
    pub series_offset: u64,
    /// `tz()`.
    pub zone: Option<chrono_tz::Tz>,
}

/// One of the things asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What.
    pub expression: Expression,
    /// `AS`.
    pub alias: Option<String>,
}

/// `INTO`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The database, if one is named.
    pub database: Option<String>,
    /// The retention policy, if one is named.
    pub policy: Option<String>,
    /// The measurement; `None` for `:MEASUREMENT`, that of the rows.
    pub measurement: Option<String>,
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Measurements.
    Measurement(Measurement),
    /// `(SELECT …)`.
    Subquery(Box<Select>),
}

/// `[[database.][policy].]name`.
#[derive(Debug, Clone, PartialEq)]
pub struct Measurement {
    /// The database, if one is named.
    pub database: Option<String>,
    /// The retention policy, if one is named.
    pub policy: Option<String>,
    /// Which.
    pub name: MeasurementName,
}

/// Which measurements.
#[derive(Debug, Clone, PartialEq)]
pub enum MeasurementName {
    /// The one with this name.
    Name(String),
    /// Those whose names match.
    Regex(Regex),
}

/// What stands in a bucket or a row without a value.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Fill {
    /// Nothing, but the row is there.
    #[default]
    Null,
    /// The row is left out.
    None,
    /// What stood before.
    Previous,
    /// A value on the line between the neighbours.
    Linear,
    /// This whole number.
    Integer(i64),
    /// This number.
    Number(f64),
}

/// `ORDER BY [time] ASC|DESC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The oldest first.
    Ascending,
    /// The newest first.
    Descending,
}

/// What a name is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cast {
    /// A field, as a float.
    Float,
    /// A field, as an integer.
    Integer,
    /// A field, as an unsigned integer.
    Unsigned,
    /// A field, as text.
    String,
    /// A field, as a truth value.
    Boolean,
    /// A field of whatever type.
    Field,
    /// A tag.
    Tag,
}

/// What stands between two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `OR`.
    Or,
    /// `AND`.
    And,
    /// `=`.
    Equal,
    /// `!=`, `<>`.
    NotEqual,
    /// `=~`.
    Matches,
    /// `!~`.
    MatchesNot,
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `+`.
    Add,
    /// `-`.
    Subtract,
    /// `|`.
    BitOr,
    /// `^`.
    BitXor,
    /// `*`.
    Multiply,
    /// `/`.
    Divide,
    /// `%`.
    Modulo,
    /// `&`.
    BitAnd,
}

impl Operator {
    /// How strongly it binds: the higher, the stronger.
    pub(super) fn strength(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal
            | Self::NotEqual
            | Self::Matches
            | Self::MatchesNot
            | Self::Less
            | Self::LessOrEqual
            | Self::Greater
            | Self::GreaterOrEqual => 3,
            Self::Add | Self::Subtract | Self::BitOr | Self::BitXor => 4,
            Self::Multiply | Self::Divide | Self::Modulo | Self::BitAnd => 5,
        }
    }

    /// Whether it compares or joins conditions, so that the result is true or false.
    pub fn is_condition(self) -> bool {
        self.strength() <= 3
    }
}

/// A value to be computed.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// A column: `name`, `name::cast`.
    Column {
        /// Its name; the parts of `a.b` with the dot.
        name: String,
        /// What it is to be.
        cast: Option<Cast>,
    },
    /// `name(…)`, the name in lower case.
    Call {
        /// The function.
        name: String,
        /// Its arguments.
        arguments: Vec<Expression>,
    },
    /// `DISTINCT name`.
    Distinct(String),
    /// `*`, `*::field`, `*::tag`.
    Wildcard(Option<Cast>),
    /// `/…/`.
    Regex(Regex),
    /// `'…'`.
    String(String),
    /// `1.5`.
    Number(f64),
    /// `1`.
    Integer(i64),
    /// A whole number above those that fit with a sign.
    Unsigned(u64),
    /// `true`, `false`.
    Boolean(bool),
    /// `1h30m`, in nanoseconds.
    Duration(i64),
    /// `(…)`.
    Parenthesis(Box<Expression>),
    /// `-x`, `+x` where x is no number.
    Signed {
        /// Whether it is `-`.
        negative: bool,
        /// x.
        operand: Box<Expression>,
    },
    /// `left operator right`.
    Binary {
        /// The operator.
        operator: Operator,
        /// What stands before it.
        left: Box<Expression>,
        /// What stands behind it.
        right: Box<Expression>,
    },
}
