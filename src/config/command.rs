//! The list of settings as flags for the command line and as a table for the README.

use std::fmt::Write;

use clap::{Arg, ArgAction, Command};

use super::ignored::{Foreign, IGNORED, REFUSED, Shape};
use super::settings::{self, Preset, Setting};
use super::values::Kind;

/// Adds every setting of the server to `command`, under the headings of the list, and hidden behind them the
/// settings of InfluxDB 3 that have no meaning here.
pub fn with_settings(command: Command) -> Command {
    let foreign = IGNORED.iter().chain(REFUSED).map(foreign_argument);
    command.args(settings::all().map(argument)).args(foreign).arg(
        Arg::new("verbose")
            .short('v')
            .long("verbose")
            .action(ArgAction::Count)
            .help_heading("Logs")
            .help("Log more, unless --log-filter is given: -v debug messages of this server, -vv of everything"),
    )
}

/// Adds the settings that are about the object store, as `serve` has them, to a command that needs no others.
pub fn with_store_settings(command: Command) -> Command {
    command.args(settings::all().filter(|setting| setting.is_of_store()).map(argument))
}

/// Adds the settings of stores over the network to a command to which URLs name the store and the bucket.
pub fn with_remote_store_settings(command: Command) -> Command {
    let said_by_url = ["object-store", "bucket", "data-dir", "object-store-single-writer"];
    let wanted = settings::all().filter(|setting| setting.is_of_store() && !said_by_url.contains(&setting.name));
    command.args(wanted.map(argument))
}

/// The flag of one setting.
pub fn argument(setting: &Setting) -> Arg {
    let argument = Arg::new(setting.name)
        .long(setting.name)
        .visible_aliases(setting.aliases.iter().copied())
        .value_name(setting.kind.value_name())
        .help_heading(setting.section)
        .help(help(setting))
        .long_help(long_help(setting));
    match setting.kind {
        // `--demo` and `--demo=false`, but not `--demo false`: what follows a switch is the next argument.
        Kind::Switch => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ => argument,
    }
}

fn foreign_argument(foreign: &Foreign) -> Arg {
    let argument = Arg::new(foreign.name).long(foreign.name).hide(true);
    match foreign.shape {
        Shape::Value => argument,
        Shape::Alone => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Shape::OptionalValue => argument.num_args(0..=1).default_missing_value("true"),
    }
}

fn help(setting: &Setting) -> String {
    match (setting.kind, setting.preset.text()) {
        (Kind::Switch, _) | (_, "") => setting.sentence.to_owned(),
        (_, preset) => format!("{} [default: {preset}]", setting.sentence),
    }
}

fn long_help(setting: &Setting) -> String {
    let mut text = help(setting);
    if let Kind::OneOf(_) | Kind::Count(..) | Kind::Bytes(..) | Kind::Duration(..) = setting.kind {
        let _ = write!(text, "\nTakes {}.", setting.kind.accepts());
    }
    let _ = write!(text, "\n[env: {}]", setting.env.join(", "));
    text
}

/// Every setting as a Markdown table: flag, default, environment, what it does. The README shows it.
pub fn settings_table() -> String {
    let mut table = String::new();
    let mut section = "";
    for setting in settings::all() {
        if setting.section != section {
            section = setting.section;
            let _ = write!(table, "\n**{section}**\n\n| Flag | Default | Environment | Meaning |\n|---|---|---|---|\n");
        }
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} |",
            flags(setting),
            preset(setting.preset),
            code_list(setting.env),
            setting.sentence.replace('|', "\\|")
        );
    }
    table.trim_start().to_owned()
}

fn flags(setting: &Setting) -> String {
    let names = std::iter::once(&setting.name).chain(setting.aliases);
    names.map(|name| format!("`--{name}`")).collect::<Vec<_>>().join(", ")
}

fn preset(preset: Preset) -> String {
    match preset {
        Preset::Nothing => "–".into(),
        Preset::Text(text) => format!("`{text}`"),
        Preset::Computed(text) => text.replace('<', "\\<"),
    }
}

fn code_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
