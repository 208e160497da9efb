//! `create token`, `delete token` and `show tokens`: who may ask the server.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use reqwest::Method;
use serde_json::{Value, json};

use super::Exit;
use super::admin::Confirmation;
use super::client::{ClientError, Connection};
use super::query::{Output, format_argument};
use crate::clock::Clock;
use crate::config::client::ClientSettings;
use crate::config::values;
use crate::server::auth::{AdminTokenFile, NewTokenText, OPERATOR};

const PATH: &str = "/api/v3/configure/token";

/// What is to be done to tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenCommand {
    /// A token that may do everything; without a name the operator's.
    CreateAdmin {
        name: Option<String>,
        expiry: Option<Duration>,
        output: Shown,
    },
    /// Another operator's token in place of the one there is.
    Regenerate {
        confirmation: Confirmation,
        output: Shown,
    },
    /// A token that may do some things.
    Create {
        name: String,
        permissions: Vec<String>,
        expiry: Option<Duration>,
        output: Shown,
    },
    /// A file for `--admin-token-file`, without a server.
    Offline {
        name: String,
        expiry: Option<Duration>,
        file: PathBuf,
    },
    Delete {
        name: String,
        confirmation: Confirmation,
    },
    List {
        output: Output,
    },
}

/// How a new token is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    Text,
    Json,
}

pub(crate) fn create_command() -> Command {
    Command::new("token")
        .about("Create a token, and print it: it is never shown again")
        .arg(
            Arg::new("admin")
                .long("admin")
                .action(ArgAction::SetTrue)
                .required_unless_present("permission")
                .conflicts_with("permission")
                .help("A token that may do everything"),
        )
        .arg(
            Arg::new("permission")
                .long("permission")
                .value_name("PERMISSION")
                .action(ArgAction::Append)
                .help("What it may do: db:NAME:read,write or db:*:read (read, write, create, delete, admin), table:DATABASE:TABLE:read, system:metrics:read"),
        )
        .arg(Arg::new("token-name").long("name").value_name("NAME").required_unless_present("admin").help("Its name"))
        .arg(
            Arg::new("expiry")
                .long("expiry")
                .value_name("DURATION")
                .value_parser(|text: &str| values::duration(text).ok_or("expected a duration such as 90d or 12h"))
                .help("How long it counts, such as 90d; without it until it is deleted"),
        )
        .arg(
            Arg::new("regenerate")
                .long("regenerate")
                .action(ArgAction::SetTrue)
                .requires("admin")
                .conflicts_with_all(["token-name", "expiry", "offline"])
                .help("Another operator's token; the one that this command shows to the server is worth nothing from then on"),
        )
        .arg(
            Arg::new("offline")
                .long("offline")
                .action(ArgAction::SetTrue)
                .requires_all(["admin", "output-file"])
                .help("Only write a file for `serve --admin-token-file`; no server is asked"),
        )
        .arg(
            Arg::new("output-file")
                .long("output-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .requires("offline")
                .help("The file to write"),
        )
        .arg(
            Arg::new("format")
                .long("format")
                .value_name("FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("Form of the answer"),
        )
        .arg(Arg::new("yes").short('y').long("yes").action(ArgAction::SetTrue).help("Don't ask"))
        .after_help(
            "Examples:\n  flightline create token --name telegraf --permission db:metrics:write,create\n  \
             flightline create token --name grafana --permission 'db:*:read' --expiry 90d\n  \
             flightline create token --admin --name ops\n  \
             flightline create token --admin --offline --output-file admin.json",
        )
}

pub(crate) fn delete_command() -> Command {
    Command::new("token")
        .about("Delete a token: whoever shows it is nobody from then on")
        .arg(Arg::new("token-name").long("token-name").value_name("NAME").required(true).help("Its name"))
        .arg(Arg::new("yes").short('y').long("yes").action(ArgAction::SetTrue).help("Don't ask"))
        .after_help("Example:\n  flightline delete token --token-name telegraf")
}

pub(crate) fn show_command() -> Command {
    Command::new("tokens").about("List the tokens, without their texts").arg(format_argument())
}

impl TokenCommand {
    pub(crate) fn from_flags(verb: &str, flags: &ArgMatches) -> Self {
        let name = || flags.get_one::<String>("token-name").cloned();
        let confirmation = || if flags.get_flag("yes") { Confirmation::Given } else { Confirmation::Wanted };
        match verb {
            "delete" => return Self::Delete { name: name().unwrap_or_default(), confirmation: confirmation() },
            "show" => return Self::List { output: Output::from_flags(flags) },
            _ => {}
        }
        let expiry = flags.get_one::<Duration>("expiry").copied();
        let is_json = flags.get_one::<String>("format").is_some_and(|format| format == "json");
        let output = if is_json { Shown::Json } else { Shown::Text };
        match flags.get_one::<PathBuf>("output-file") {
            Some(file) => Self::Offline { name: name().unwrap_or(OPERATOR.to_owned()), expiry, file: file.clone() },
            None if flags.get_flag("regenerate") => Self::Regenerate { confirmation: confirmation(), output },
            None if flags.get_flag("admin") => Self::CreateAdmin { name: name(), expiry, output },
            None => Self::Create {
                name: name().unwrap_or_default(),
                permissions: flags.get_many("permission").unwrap_or_default().cloned().collect(),
                expiry,
                output,
            },
        }
    }

    pub(crate) async fn run(&self, settings: &ClientSettings, clock: &dyn Clock) -> Result<Exit, ClientError> {
        let post = |path: String, body: Option<Value>| async move {
            let connection = Connection::new(settings)?;
            let mut request = connection.request(Method::POST, &path);
            if let Some(body) = body {
                request = request.json(&body);
            }
            connection.json(request).await
        };
        let seconds = |expiry: &Option<Duration>| expiry.map(|expiry| expiry.as_secs());
        match self {
            Self::CreateAdmin { name: None, expiry: Some(_), .. } => {
                return Err(ClientError::Usage(
                    "the operator's token does not expire: give another one a --name".to_owned(),
                ));
            }
            Self::CreateAdmin { name: None, expiry: None, output } => {
                output.print(&post(format!("{PATH}/admin"), None).await?)?;
            }
            Self::CreateAdmin { name: Some(name), expiry, output } => {
                let body = json!({ "token_name": name, "expiry_secs": seconds(expiry) });
                output.print(&post(format!("{PATH}/named_admin"), Some(body)).await?)?;
            }
            Self::Regenerate { confirmation, output } => {
                confirmation.ask_for("make the operator's token anew; the old one is worth nothing from then on")?;
                output.print(&post(format!("{PATH}/admin/regenerate"), None).await?)?;
            }
            Self::Create { name, permissions, expiry, output } => {
                let body = json!({ "token_name": name, "permissions": permissions, "expiry_secs": seconds(expiry) });
                output.print(&post(PATH.to_owned(), Some(body)).await?)?;
            }
            Self::Offline { name, expiry, file } => {
                let token = NewTokenText::draw().map_err(ClientError::Store)?;
                let expires_at = expiry.map(|expiry| clock.now().after(expiry));
                AdminTokenFile::new(&token, name.clone(), expires_at).write(file).map_err(ClientError::Store)?;
                println!("Token written to {}: start the server with --admin-token-file", file.display());
            }
            Self::Delete { name, confirmation } => {
                confirmation.ask(&format!("token {name:?}"))?;
                let connection = Connection::new(settings)?;
                connection.success(connection.request(Method::DELETE, PATH).query(&[("token_name", name)])).await?;
                println!("Token {name:?} deleted successfully");
            }
            Self::List { output } => {
                output.check()?;
                let connection = Connection::new(settings)?;
                let request = connection.request(Method::GET, PATH).query(&[("format", &output.format)]);
                output.receive(connection.success(request).await?).await?;
            }
        }
        Ok(Exit::Success)
    }
}

impl Shown {
    fn print(self, answer: &Value) -> Result<(), ClientError> {
        let token = answer.get("token").and_then(Value::as_str).unwrap_or_default();
        match self {
            Self::Json => println!("{answer:#}"),
            Self::Text => println!(
                "New token created successfully!\n\nToken: {token}\nHTTP Requests Header: Authorization: Bearer {token}\n\n\
                 Keep it in a safe place: it can't be shown again."
            ),
        }
        Ok(())
    }
}
