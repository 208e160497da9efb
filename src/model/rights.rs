//! Who may do what: rights as plain values, their text, and the one place that decides.
//!
//! A permission is written as InfluxDB 3 writes it: `db:metrics:read,write`, `db:*:read`, `system:metrics:read`, and
//! `*:*:*` for everything; and as `table:metrics:cpu:read` for one table.
//!
//! Not here: who somebody is (`server::auth`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::names::{DatabaseName, TableName};

/// What somebody wants to do to a database or a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// See rows, columns and what the system tables say.
    Read,
    /// Write rows, and by that make tables and columns.
    Write,
    /// Make the database or tables in it at a word.
    Create,
    /// Delete rows, tables or the database, and bring back what was deleted.
    Delete,
    /// All that, and change how long rows are kept.
    Admin,
}

impl Action {
    const ALL: [Self; 5] = [Self::Read, Self::Write, Self::Create, Self::Delete, Self::Admin];

    /// The word in the text of a permission.
    pub fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Admin => "admin",
        }
    }
}

/// Something of the server itself that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Facility {
    /// Whether it lives.
    Health,
    /// Its numbers.
    Metrics,
    /// Its version.
    Ping,
}

impl Facility {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Health, Self::Metrics, Self::Ping];

    /// The word in the text of a permission.
    pub fn word(self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Metrics => "metrics",
            Self::Ping => "ping",
        }
    }
}

/// One thing that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    /// Everything: also tokens, backups and what is yet to come.
    Everything,
    /// Some actions on a database with all its tables; without a name on every database.
    Database {
        /// Which.
        name: Option<DatabaseName>,
        /// At least one.
        actions: BTreeSet<Action>,
    },
    /// Some actions on one table.
    Table {
        /// Its database.
        database: DatabaseName,
        /// Its name.
        name: TableName,
        /// At least one of read, write and delete.
        actions: BTreeSet<Action>,
    },
    /// To read something of the server; without a name all of it.
    System {
        /// Which.
        facility: Option<Facility>,
    },
}

/// Why a text is no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no permission: {reason}; write one as db:NAME:read,write or db:*:read (read, write, create, delete, admin), \
     table:DATABASE:TABLE:read, system:metrics:read, or *:*:* for everything"
)]
pub struct PermissionError {
    text: String,
    reason: String,
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, PermissionError> {
        let wrong = |reason: String| PermissionError { text: text.to_owned(), reason };
        if text == "*:*:*" {
            return Ok(Self::Everything);
        }
        let (kind, rest) = text.split_once(':').ok_or_else(|| wrong("it has no ':'".to_owned()))?;
        // Names of tables may hold colons; words of actions don't.
        let (name, words) = rest.rsplit_once(':').ok_or_else(|| wrong("the actions are missing".to_owned()))?;
        match kind {
            "db" => {
                let name = match name {
                    "*" => None,
                    name => Some(DatabaseName::new(name).map_err(|error| wrong(error.to_string()))?),
                };
                Ok(Self::Database { name, actions: actions(words, &Action::ALL).map_err(wrong)? })
            }
            "table" => {
                let (database, table) = name.split_once(':').ok_or_else(|| wrong("the table is missing".to_owned()))?;
                Ok(Self::Table {
                    database: DatabaseName::new(database).map_err(|error| wrong(error.to_string()))?,
                    name: TableName::new(table).map_err(|error| wrong(error.to_string()))?,
                    actions: actions(words, &[Action::Read, Action::Write, Action::Delete]).map_err(wrong)?,
                })
            }
            "system" if words != "read" => Err(wrong("the only action on the system is read".to_owned())),
            "system" => match Facility::ALL.into_iter().find(|facility| facility.word() == name) {
                Some(facility) => Ok(Self::System { facility: Some(facility) }),
                None if name == "*" => Ok(Self::System { facility: None }),
                None => Err(wrong(format!("the system has no '{name}', but health, metrics and ping"))),
            },
            other => Err(wrong(format!("'{other}' is none of db, table and system"))),
        }
    }
}

fn actions(words: &str, possible: &[Action]) -> Result<BTreeSet<Action>, String> {
    if words == "*" {
        return Ok(possible.iter().copied().collect());
    }
    let action = |word: &str| {
        let found = possible.iter().find(|action| action.word() == word.trim());
        found.copied().ok_or_else(|| format!("'{word}' is no action on it"))
    };
    words.split(',').map(action).collect()
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = |actions: &BTreeSet<Action>| {
            let words: Vec<&str> = actions.iter().map(|action| action.word()).collect();
            words.join(",")
        };
        match self {
            Self::Everything => f.write_str("*:*:*"),
            Self::Database { name: None, actions } => write!(f, "db:*:{}", words(actions)),
            Self::Database { name: Some(name), actions } => write!(f, "db:{name}:{}", words(actions)),
            Self::Table { database, name, actions } => write!(f, "table:{database}:{name}:{}", words(actions)),
            Self::System { facility: None } => f.write_str("system:*:read"),
            Self::System { facility: Some(facility) } => write!(f, "system:{}:read", facility.word()),
        }
    }
}

/// The tables of one database on which an action is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// All of them, also those that are yet to come, and the database as a whole.
    All,
    /// These and nothing else. May be empty.
    Only(BTreeSet<TableName>),
}

impl Tables {
    /// Whether a table of this name is among them.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }

    /// The tables that are among these or those.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Only(these), Self::Only(those)) => Self::Only(these.union(those).cloned().collect()),
            _ => Self::All,
        }
    }
}

/// What a statement may do to the tables of its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The tables that it may read, and know to exist.
    pub read: Tables,
    /// The tables to which it may add rows.
    pub write: Tables,
    /// The tables of which it may delete rows, and which it may drop.
    pub delete: Tables,
    /// Whether it may make tables.
    pub create: bool,
    /// Everything that who asks may do, for a statement that names other databases.
    pub rights: Rights,
}

impl Access {
    /// Everything.
    pub fn full() -> Self {
        let rights = Rights::everything();
        Self { read: Tables::All, write: Tables::All, delete: Tables::All, create: true, rights }
    }

    /// The tables to which it may do anything.
    pub fn seen(&self) -> Tables {
        self.read.union(&self.write).union(&self.delete)
    }
}

/// All that somebody may do. What no permission allows is forbidden.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights(Vec<Permission>);

impl Rights {
    /// The rights that these permissions give together.
    pub fn new(permissions: impl IntoIterator<Item = Permission>) -> Self {
        Self(permissions.into_iter().collect())
    }

    /// Everything is allowed.
    pub fn everything() -> Self {
        Self(vec![Permission::Everything])
    }

    /// The permissions, as they were given.
    pub fn permissions(&self) -> &[Permission] {
        &self.0
    }

    /// Whether everything is allowed, also what concerns no database.
    pub fn allow_everything(&self) -> bool {
        self.0.contains(&Permission::Everything)
    }

    /// Whether the action is allowed on the database as a whole.
    pub fn allow(&self, action: Action, database: &DatabaseName) -> bool {
        self.0.iter().any(|permission| match permission {
            Permission::Everything => true,
            Permission::Database { name, actions } => {
                name.as_ref().is_none_or(|name| name == database) && includes(actions, action)
            }
            Permission::Table { .. } | Permission::System { .. } => false,
        })
    }

    /// The tables of the database on which the action is allowed.
    pub fn tables(&self, action: Action, database: &DatabaseName) -> Tables {
        if self.allow(action, database) {
            return Tables::All;
        }
        let tables = self.0.iter().filter_map(|permission| match permission {
            Permission::Table { database: of, name, actions } if of == database && includes(actions, action) => {
                Some(name.clone())
            }
            _ => None,
        });
        Tables::Only(tables.collect())
    }

    /// What a statement may do to the database's tables.
    pub fn access(&self, database: &DatabaseName) -> Access {
        Access {
            read: self.tables(Action::Read, database),
            write: self.tables(Action::Write, database),
            delete: self.tables(Action::Delete, database),
            create: self.allow(Action::Create, database),
            rights: self.clone(),
        }
    }

    /// Whether the database may be known to exist: something in it is allowed.
    pub fn see(&self, database: &DatabaseName) -> bool {
        self.0.iter().any(|permission| match permission {
            Permission::Everything => true,
            Permission::Database { name, .. } => name.as_ref().is_none_or(|name| name == database),
            Permission::Table { database: of, .. } => of == database,
            Permission::System { .. } => false,
        })
    }

    /// Whether this of the server may be read.
    pub fn allow_reading(&self, facility: Facility) -> bool {
        self.0.iter().any(|permission| match permission {
            Permission::Everything => true,
            Permission::System { facility: of } => of.is_none_or(|of| of == facility),
            Permission::Database { .. } | Permission::Table { .. } => false,
        })
    }
}

fn includes(actions: &BTreeSet<Action>, action: Action) -> bool {
    actions.contains(&action) || actions.contains(&Action::Admin)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rights(texts: &[&str]) -> Rights {
        Rights::new(texts.iter().map(|text| text.parse().unwrap()))
    }

    fn database(name: &str) -> DatabaseName {
        DatabaseName::new(name).unwrap()
    }

    #[test]
    fn a_permission_is_read_as_it_is_written() {
        let texts = [
            "*:*:*",
            "db:metrics:read,write",
            "db:*:read",
            "db:a/b:read,write,create,delete,admin",
            "table:metrics:cpu: a:b:read,delete",
            "system:metrics:read",
            "system:*:read",
        ];
        for text in texts {
            assert_eq!(text.parse::<Permission>().unwrap().to_string(), text);
        }
        assert_eq!("db:m:*".parse::<Permission>().unwrap().to_string(), "db:m:read,write,create,delete,admin");
        assert_eq!("db:m:write, read".parse::<Permission>().unwrap().to_string(), "db:m:read,write");
    }

    #[test]
    fn what_is_no_permission_is_refused_with_the_reason() {
        let cases = [
            ("", "no ':'"),
            ("db:metrics", "actions are missing"),
            ("db:metrics:", "'' is no action"),
            ("db:metrics:drop", "'drop' is no action"),
            ("db:_internal:read", "did not start"),
            ("table:metrics:read", "the table is missing"),
            ("table:metrics:cpu:create", "'create' is no action"),
            ("system:disk:read", "no 'disk'"),
            ("system:metrics:write", "only action"),
            ("*:*", "actions are missing"),
            ("*:*:*:*", "none of db"),
        ];
        for (text, reason) in cases {
            let error = text.parse::<Permission>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn nothing_is_allowed_but_what_a_permission_says() {
        let (metrics, other) = (database("metrics"), database("other"));
        let writer = rights(&["db:metrics:write"]);
        assert!(writer.allow(Action::Write, &metrics) && writer.see(&metrics));
        for action in [Action::Read, Action::Create, Action::Delete, Action::Admin] {
            assert!(!writer.allow(action, &metrics), "{action:?}");
        }
        assert!(!writer.allow(Action::Write, &other) && !writer.see(&other));
        assert!(!writer.allow_everything() && !writer.allow_reading(Facility::Metrics));
        assert!(!Rights::default().see(&metrics));
    }

    #[test]
    fn an_administrator_of_a_database_may_do_everything_to_it_alone() {
        let admin = rights(&["db:metrics:admin"]);
        assert!(Action::ALL.iter().all(|action| admin.allow(*action, &database("metrics"))));
        assert!(Action::ALL.iter().all(|action| !admin.allow(*action, &database("metric"))));
        assert!(!rights(&["db:*:admin"]).allow_everything());
        assert!(rights(&["*:*:*"]).allow_everything());
    }

    #[test]
    fn a_right_to_a_table_is_none_to_its_database() {
        let metrics = database("metrics");
        let reader = rights(&["table:metrics:cpu:read", "table:metrics:mem:write", "table:other:disk:read"]);
        assert!(!reader.allow(Action::Read, &metrics) && reader.see(&metrics));
        let tables = reader.tables(Action::Read, &metrics);
        assert!(tables.contains("cpu") && !tables.contains("mem") && !tables.contains("disk"));
        assert_eq!(rights(&["db:*:read"]).tables(Action::Read, &metrics), Tables::All);
        assert_eq!(Rights::default().tables(Action::Read, &metrics), Tables::Only(BTreeSet::new()));
    }
}
