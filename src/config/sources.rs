//! Where a setting's text comes from: the flag, else the first environment variable that is set, else the preset.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use clap::ArgMatches;

use super::client::CLIENT_SETTINGS;
use super::ignored::{Foreign, Shape};
use super::settings::{self, Preset, Setting};
use super::values::{Kind, Value};

/// Reads one environment variable; a function, so that tests bring their own environment.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The environment of this process.
pub fn process_environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Why the settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("invalid value \"{value}\" for {setting}: expected {accepts}")]
    Value { setting: Origin, value: String, accepts: String },
    #[error("--{setting} is not set: {reason}")]
    Missing { setting: &'static str, reason: &'static str },
    #[error(
        "\"{address}\" for {setting} would open this server to the network, and nobody is asked for a token: leave out \
             --without-auth and --demo, use a loopback address such as 127.0.0.1:8181, or insist with --without-auth-anywhere"
    )]
    NotLoopback { setting: Origin, address: SocketAddr },
    #[error("{setting} cannot be used: {reason}")]
    Refused { setting: Origin, reason: &'static str },
    #[error("{setting} names the environment variable \"{variable}\", which is not set")]
    NoSuchVariable { setting: Origin, variable: String },
}

impl From<ConfigError> for crate::error::Error {
    fn from(error: ConfigError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Which setting, and who said it; prints as `--http-bind` or `--http-bind (from INFLUXDB3_HTTP_BIND_ADDR)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The setting's name.
    pub setting: &'static str,
    /// The environment variable that set it, if one did.
    pub variable: Option<&'static str>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.variable {
            Some(variable) => write!(f, "--{} (from {variable})", self.setting),
            None => write!(f, "--{}", self.setting),
        }
    }
}

/// Everything that was said about the settings.
pub(crate) struct Sources<'a> {
    /// The flags of the subcommand first, then those before it.
    pub flags: &'a [&'a ArgMatches],
    pub environment: Environment<'a>,
    pub memory_bytes: u64,
}

impl Sources<'_> {
    /// What was said about `name`, and by whom; presets do not count as said.
    pub(crate) fn said(&self, name: &'static str) -> Option<(String, Origin)> {
        self.said_as(name, setting(name).env)
    }

    /// The same for a setting of InfluxDB 3 that is not ours. A switch that is off does not count as said.
    pub(crate) fn said_foreign(&self, foreign: &Foreign) -> Option<Origin> {
        let (text, origin) = self.said_as(foreign.name, foreign.env)?;
        let is_off = foreign.shape == Shape::Alone && Kind::Switch.parse(&text, 0) == Some(Value::Switch(false));
        (!is_off).then_some(origin)
    }

    fn said_as(&self, name: &'static str, env: &[&'static str]) -> Option<(String, Origin)> {
        let flag = self.flags.iter().find_map(|flags| flags.try_get_one::<String>(name).ok().flatten());
        if let Some(text) = flag {
            return Some((text.clone(), Origin { setting: name, variable: None }));
        }
        env.iter().find_map(|variable| {
            // Compose files and service units set empty variables for "nothing".
            let text = (self.environment)(variable).filter(|text| !text.trim().is_empty())?;
            Some((text, Origin { setting: name, variable: Some(variable) }))
        })
    }

    /// The text of a setting, the preset included.
    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        Ok(match self.value(name)? {
            Some((Value::Text(text), _)) => Some(text),
            _ => None,
        })
    }

    pub(crate) fn required_text(&self, name: &'static str) -> Result<String, ConfigError> {
        self.text(name)?.ok_or(missing(name))
    }

    pub(crate) fn switch(&self, name: &'static str) -> Result<bool, ConfigError> {
        match self.value(name)? {
            Some((Value::Switch(switch), _)) => Ok(switch),
            _ => Err(missing(name)),
        }
    }

    pub(crate) fn duration(&self, name: &'static str) -> Result<Duration, ConfigError> {
        match self.value(name)? {
            Some((Value::Duration(duration), _)) => Ok(duration),
            _ => Err(missing(name)),
        }
    }

    pub(crate) fn address(&self, name: &'static str) -> Result<(SocketAddr, Origin), ConfigError> {
        match self.value(name)? {
            Some((Value::Address(address), origin)) => Ok((address, origin)),
            _ => Err(missing(name)),
        }
    }

    /// Bytes or a count.
    pub(crate) fn number(&self, name: &'static str) -> Result<usize, ConfigError> {
        self.number_or_nothing(name)?.ok_or(missing(name))
    }

    /// Bytes or a count; nothing if it has to be computed.
    pub(crate) fn number_or_nothing(&self, name: &'static str) -> Result<Option<usize>, ConfigError> {
        Ok(match self.value(name)? {
            Some((Value::Number(number), _)) => Some(usize::try_from(number).unwrap_or(usize::MAX)),
            _ => None,
        })
    }

    fn value(&self, name: &'static str) -> Result<Option<(Value, Origin)>, ConfigError> {
        let setting = setting(name);
        let preset = || match setting.preset {
            Preset::Text(text) => Some((text.to_owned(), Origin { setting: name, variable: None })),
            Preset::Nothing | Preset::Computed(_) => None,
        };
        let Some((text, origin)) = self.said(name).or_else(preset) else { return Ok(None) };
        match setting.kind.parse(&text, self.memory_bytes) {
            Some(value) => Ok(Some((value, origin))),
            None => Err(ConfigError::Value { setting: origin, value: text, accepts: setting.kind.accepts() }),
        }
    }
}

pub(crate) fn missing(setting: &'static str) -> ConfigError {
    ConfigError::Missing { setting, reason: "it has no default" }
}

fn setting(name: &str) -> &'static Setting {
    settings::all()
        .chain(CLIENT_SETTINGS)
        .find(|setting| setting.name == name)
        .expect("the setting is in the list, because every start reads every name and the tests start")
}
