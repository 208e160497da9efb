//! Where backups and the mirror are: a directory or a URL, with the credentials that the store flags give.

use std::path::PathBuf;

use clap::{Arg, ArgMatches};

use super::sources::{ConfigError, Environment, Sources};
use super::{Location, Machine, StoreConfig, StorePlace, path};

/// The server's setting, and the flag by which the commands that need no server are told the same.
const SETTING: &str = "backup-to";
const FLAG: &str = "from";

/// Where a backup is restored to.
#[derive(Debug, Clone)]
pub struct RestoreTarget {
    /// The store.
    pub store: StoreConfig,
    /// The data directory of the server that will work on that store.
    pub data_dir: PathBuf,
}

/// The flag that names the place for backups.
pub fn from_argument() -> Arg {
    let help = format!("Where the backups are: {}; without it FLIGHTLINE_BACKUP_TO", Location::ACCEPTS);
    Arg::new(FLAG).long(FLAG).value_name("PLACE").help(help)
}

impl StorePlace {
    /// The place for backups that the flags, or the environment, name for a command that needs no server.
    ///
    /// # Errors
    /// If none is named, or the first setting that cannot be used.
    pub fn from_flags(
        flags: &ArgMatches,
        environment: Environment<'_>,
        machine: &Machine,
    ) -> Result<Self, ConfigError> {
        let sources = Sources { flags: &[flags], environment, memory_bytes: machine.memory_bytes };
        let named = flags.try_get_one::<String>(FLAG).ok().flatten().cloned();
        let unnamed =
            ConfigError::Missing { setting: FLAG, reason: "it says where the backups are: a directory or a URL" };
        let text = match named {
            Some(text) => text,
            None => sources.text(SETTING)?.ok_or(unnamed)?,
        };
        place(&sources, &text)
    }
}

impl RestoreTarget {
    /// Puts together what the flags and the environment say.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn from_flags(
        flags: &ArgMatches,
        environment: Environment<'_>,
        machine: &Machine,
    ) -> Result<Self, ConfigError> {
        let sources = Sources { flags: &[flags], environment, memory_bytes: machine.memory_bytes };
        let data_dir = path(&sources.required_text("data-dir")?, environment)?;
        Ok(Self { store: StoreConfig::from_sources(&sources)?, data_dir })
    }
}

/// The place for the backups of a server; `None` if it has none.
pub(super) fn backup_place(sources: &Sources<'_>) -> Result<Option<StorePlace>, ConfigError> {
    sources.text(SETTING)?.map(|text| place(sources, &text)).transpose()
}

/// The place of the mirror of a server; `None` if it has none.
pub(super) fn mirror_place(sources: &Sources<'_>) -> Result<Option<StorePlace>, ConfigError> {
    let Some((value, setting)) = sources.said("mirror-to") else { return Ok(None) };
    match Location::parse(&value) {
        Some(location) => StorePlace::at(sources, location).map(Some),
        None => Err(ConfigError::Value { setting, value, accepts: Location::ACCEPTS.to_owned() }),
    }
}

fn place(sources: &Sources<'_>, text: &str) -> Result<StorePlace, ConfigError> {
    let location = Location::parse(text).ok_or_else(|| refused(sources, text))?;
    StorePlace::at(sources, location)
}

fn refused(sources: &Sources<'_>, text: &str) -> ConfigError {
    match sources.said(SETTING) {
        Some((value, setting)) if value == text => {
            ConfigError::Value { setting, value, accepts: Location::ACCEPTS.to_owned() }
        }
        _ => {
            let setting = super::Origin { setting: FLAG, variable: None };
            ConfigError::Value { setting, value: text.to_owned(), accepts: Location::ACCEPTS.to_owned() }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::super::with_store_settings;
    use super::*;

    fn place_of(arguments: &[&str], variables: &[(&str, &str)]) -> Result<StorePlace, String> {
        let command = with_store_settings(Command::new("test")).arg(from_argument());
        let flags = command.try_get_matches_from([&["test"], arguments].concat()).unwrap();
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let machine = Machine { memory_bytes: 1 << 30, processors: 1, host: None };
        StorePlace::from_flags(&flags, &environment, &machine).map_err(|error| error.to_string())
    }

    #[test]
    fn a_place_is_a_directory_or_a_url() {
        let place = |text: &str| {
            let variables = [("HOME", "/home/ann"), ("AZURE_STORAGE_ACCOUNT", "acc")];
            place_of(&["--from", text], &variables).map(|place| (format!("{:?}", place.store), place.prefix))
        };
        for (text, store, prefix) in [
            ("/mnt/b", "file:///mnt/b", ""),
            ("~/b", "file:///home/ann/b", ""),
            ("file:///mnt/b", "file:///mnt/b", ""),
            ("s3://bucket", "s3://bucket", ""),
            ("s3://bucket/a/b/", "s3://bucket", "a/b"),
            ("gs://bucket/a", "gs://bucket", "a"),
            ("azure://container/a", "azure://acc/container", "a"),
        ] {
            assert_eq!(place(text), Ok((store.to_owned(), prefix.to_owned())), "{text}");
        }
        for bad in ["ftp://host/a", "s3://", "s3:///a"] {
            let error = place(bad).unwrap_err();
            assert!(error.contains("--from") && error.contains("s3://bucket/path"), "{error}");
        }
    }

    #[test]
    fn the_variable_of_the_server_names_the_place_too() {
        let variables = [("FLIGHTLINE_BACKUP_TO", "/mnt/b")];
        assert_eq!(format!("{:?}", place_of(&[], &variables).unwrap().store), "file:///mnt/b");
        assert_eq!(format!("{:?}", place_of(&["--from", "/c"], &variables).unwrap().store), "file:///c");
        assert!(place_of(&[], &[]).unwrap_err().contains("--from is not set"));
        let error = place_of(&[], &[("FLIGHTLINE_BACKUP_TO", "ftp://x")]).unwrap_err();
        assert!(error.contains("FLIGHTLINE_BACKUP_TO"), "{error}");
    }
}
