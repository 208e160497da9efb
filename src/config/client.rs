//! Settings that every client command shares: which server, which database, who asks, and how TLS is checked.

use std::fmt;
use std::path::PathBuf;

use clap::{ArgMatches, Command};

use super::command::argument;
use super::settings::{Preset, Setting};
use super::sources::{ConfigError, Environment, Sources};
use super::values::Kind;

const SECTION: &str = "Connection";

/// The settings of all client commands, and the two that belong to one command each.
pub static CLIENT_SETTINGS: &[Setting] = &[
    Setting {
        section: SECTION,
        name: "host",
        kind: Kind::Text,
        preset: Preset::Text("http://127.0.0.1:8181"),
        env: &["FLIGHTLINE_HOST_URL", "INFLUXDB3_HOST_URL"],
        aliases: &[],
        sentence: "URL of the server.",
    },
    Setting {
        section: SECTION,
        name: "database",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_DATABASE_NAME", "INFLUXDB3_DATABASE_NAME"],
        aliases: &[],
        sentence: "Database to work on.",
    },
    Setting {
        section: SECTION,
        name: "token",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_AUTH_TOKEN", "INFLUXDB3_AUTH_TOKEN"],
        aliases: &[],
        sentence: "Token to show to the server. Prefer the environment: command lines can be seen by other users.",
    },
    Setting {
        section: SECTION,
        name: "tls-ca",
        kind: Kind::Path,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_TLS_CA", "INFLUXDB3_TLS_CA"],
        aliases: &[],
        sentence: "PEM file with authorities to trust besides those of the system.",
    },
    Setting {
        section: SECTION,
        name: "tls-no-verify",
        kind: Kind::Switch,
        preset: Preset::Text("false"),
        env: &["FLIGHTLINE_TLS_NO_VERIFY", "INFLUXDB3_TLS_NO_VERIFY"],
        aliases: &[],
        sentence: "Take any certificate: whoever is on the way can read and change everything.",
    },
    Setting {
        section: SECTION,
        name: "write-host",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_WRITE_HOST_URL", "INFLUXDB3_WRITE_HOST_URL"],
        aliases: &[],
        sentence: "URL of the server for writes, if it is not --host.",
    },
    Setting {
        section: SECTION,
        name: "query-host",
        kind: Kind::Text,
        preset: Preset::Nothing,
        env: &["FLIGHTLINE_QUERY_HOST_URL", "INFLUXDB3_QUERY_HOST_URL"],
        aliases: &[],
        sentence: "URL of the server for queries, if it is not --host.",
    },
];

/// Which of the two special hosts a command knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// Only `--host`.
    Any,
    /// Also `--write-host`.
    Write,
    /// Also `--query-host`.
    Query,
}

impl HostKind {
    fn setting(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Write => Some("write-host"),
            Self::Query => Some("query-host"),
        }
    }
}

/// How a client command reaches its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// URL of the server, not yet checked.
    pub host: String,
    /// The database, if one was named.
    pub database: Option<String>,
    /// The token, if there is one.
    pub token: Option<Token>,
    /// A PEM file with further authorities.
    pub tls_ca: Option<PathBuf>,
    /// Whether any certificate will do.
    pub tls_no_verify: bool,
}

/// A secret: it never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// The secret, to be sent.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// Adds the settings of client commands to `command`.
pub fn with_client_settings(command: Command, host: HostKind) -> Command {
    let special = ["write-host", "query-host"];
    let wanted = |setting: &&Setting| !special.contains(&setting.name) || host.setting() == Some(setting.name);
    command.args(CLIENT_SETTINGS.iter().filter(wanted).map(|setting| match setting.name {
        "host" => argument(setting).short('H'),
        "database" => argument(setting).short('d'),
        _ => argument(setting),
    }))
}

impl ClientSettings {
    /// What the flags and the environment say.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn from_flags(flags: &ArgMatches, host: HostKind, environment: Environment<'_>) -> Result<Self, ConfigError> {
        // No client setting is a share of memory.
        let sources = Sources { flags: &[flags], environment, memory_bytes: 0 };
        Ok(Self {
            host: host_url(&sources, host)?,
            database: sources.text("database")?,
            token: sources.text("token")?.map(Token),
            tls_ca: sources.text("tls-ca")?.map(PathBuf::from),
            tls_no_verify: sources.switch("tls-no-verify")?,
        })
    }
}

/// The special host comes first, but a `--host` that was typed beats a special host from the environment.
fn host_url(sources: &Sources<'_>, host: HostKind) -> Result<String, ConfigError> {
    let Some(special) = host.setting() else { return sources.required_text("host") };
    let typed = |name| sources.said(name).is_some_and(|(_, origin)| origin.variable.is_none());
    if typed("host") && !typed(special) {
        return sources.required_text("host");
    }
    match sources.text(special)? {
        Some(url) => Ok(url),
        None => sources.required_text("host"),
    }
}
