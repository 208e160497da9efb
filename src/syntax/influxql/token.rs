//! The words of the language: what the scanner cuts a text into.

/// Defines [`Kind`] with the spelling of each keyword, in one list.
macro_rules! kinds {
    (special { $($special:ident = $special_name:literal,)* } keywords { $($keyword:ident = $keyword_name:literal,)* }) => {
        /// What a token is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Kind { $($special,)* $($keyword,)* }

        impl Kind {
            /// How an error names a token of this kind that has no text of its own.
            pub(super) fn name(self) -> &'static str {
                match self { $(Self::$special => $special_name,)* $(Self::$keyword => $keyword_name,)* }
            }

            /// The keyword that is spelled so, in whatever case.
            pub(super) fn keyword(word: &str) -> Option<Self> {
                const KEYWORDS: &[(&str, Kind)] = &[$(($keyword_name, Kind::$keyword),)*];
                KEYWORDS.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|(_, kind)| *kind)
            }
        }
    };
}

kinds! {
    special {
        Illegal = "ILLEGAL", Eof = "EOF", Whitespace = "WS", Comment = "",
        Identifier = "IDENT", Parameter = "", Number = "NUMBER", Integer = "", Duration = "DURATIONVAL",
        String = "STRING", BadString = "BADSTRING", BadEscape = "BADESCAPE", Regex = "REGEX", BadRegex = "",
        Add = "+", Subtract = "-", Multiply = "*", Divide = "/", Modulo = "%", BitAnd = "&", BitOr = "|", BitXor = "^",
        Equal = "=", NotEqual = "!=", Matches = "=~", MatchesNot = "!~",
        Less = "<", LessOrEqual = "<=", Greater = ">", GreaterOrEqual = ">=",
        OpeningParenthesis = "(", ClosingParenthesis = ")", Comma = ",", Colon = ":", DoubleColon = "::",
        Semicolon = ";", Dot = ".",
    }
    keywords {
        True = "TRUE", False = "FALSE", And = "AND", Or = "OR", In = "IN",
        All = "ALL", Alter = "ALTER", Analyze = "ANALYZE", Any = "ANY", As = "AS", Asc = "ASC", Begin = "BEGIN", By = "BY",
        Cardinality = "CARDINALITY", Create = "CREATE", Continuous = "CONTINUOUS", Database = "DATABASE",
        Databases = "DATABASES", Default = "DEFAULT", Delete = "DELETE", Desc = "DESC", Destinations = "DESTINATIONS",
        Diagnostics = "DIAGNOSTICS", Distinct = "DISTINCT", Drop = "DROP", DurationWord = "DURATION", End = "END",
        Every = "EVERY", Exact = "EXACT", Explain = "EXPLAIN", Field = "FIELD", For = "FOR", From = "FROM",
        Grant = "GRANT", Grants = "GRANTS", Group = "GROUP", Groups = "GROUPS", Inf = "INF", Insert = "INSERT",
        Into = "INTO", Key = "KEY", Keys = "KEYS", Kill = "KILL", Limit = "LIMIT", Measurement = "MEASUREMENT",
        Measurements = "MEASUREMENTS", Name = "NAME", Offset = "OFFSET", On = "ON", Order = "ORDER",
        Password = "PASSWORD", Policy = "POLICY", Policies = "POLICIES", Privileges = "PRIVILEGES",
        Queries = "QUERIES", Query = "QUERY", Read = "READ", Replication = "REPLICATION", Resample = "RESAMPLE",
        Retention = "RETENTION", Revoke = "REVOKE", Select = "SELECT", Series = "SERIES", Set = "SET", Show = "SHOW",
        Shard = "SHARD", Shards = "SHARDS", Slimit = "SLIMIT", Soffset = "SOFFSET", Stats = "STATS",
        Subscription = "SUBSCRIPTION", Subscriptions = "SUBSCRIPTIONS", Tag = "TAG", To = "TO", User = "USER",
        Users = "USERS", Values = "VALUES", Where = "WHERE", With = "WITH", Write = "WRITE",
    }
}

/// A place in a text, both from 0: lines, and characters of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) char: usize,
}

/// A piece of the text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) position: Position,
    /// What it says, unquoted; empty for operators and keywords.
    pub(super) text: String,
}

impl Token {
    /// How an error names it.
    pub(super) fn found(&self) -> String {
        if self.text.is_empty() { self.kind.name().to_owned() } else { self.text.clone() }
    }
}
