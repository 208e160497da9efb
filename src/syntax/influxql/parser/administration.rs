//! Statements that make, change and remove things.

use super::super::ast::{
    ContinuousQuery, CreateDatabase, Expression, Grant, Measurement, PolicyOptions, Privilege, RetentionPolicy,
    Selection, Source, Statement,
};
use super::super::duration;
use super::super::error::ParseError;
use super::super::token::{Kind, Position};
use super::{Parser, Result};

impl Parser<'_> {
    /// `name ON database`.
    pub(super) fn name_on_database(&mut self) -> Result<(String, String)> {
        let name = self.identifier()?;
        self.expect(Kind::On)?;
        Ok((name, self.identifier()?))
    }

    /// `.policy`.
    pub(super) fn policy_behind_dot(&mut self) -> Result<String> {
        let dot = self.next_raw();
        match dot.kind {
            Kind::Dot => self.identifier(),
            _ => Err(ParseError::expected(&dot, &["."])),
        }
    }

    /// Behind `DELETE`.
    pub(super) fn delete(&mut self) -> Result<Statement> {
        let selection = self.selection()?;
        let names_database = |measurement: &Measurement| measurement.database.is_some();
        if measurements(&selection).any(names_database) {
            return Err(ParseError::at(Position::default(), "database not supported"));
        }
        Ok(Statement::Delete(selection))
    }

    /// Behind `DROP SERIES`.
    pub(super) fn drop_series(&mut self) -> Result<Statement> {
        let selection = self.selection()?;
        for measurement in measurements(&selection) {
            if measurement.policy.is_some() {
                return Err(ParseError::at(Position::default(), "retention policy not supported"));
            }
            if measurement.database.is_some() {
                return Err(ParseError::at(Position::default(), "database not supported"));
            }
        }
        Ok(Statement::DropSeries(selection))
    }

    fn selection(&mut self) -> Result<Selection> {
        let token = self.next();
        let sources = if token.kind == Kind::From {
            self.sources(false)?
        } else {
            self.back();
            Vec::new()
        };
        let condition = self.condition()?;
        if sources.is_empty() && condition.is_none() {
            return Err(ParseError::expected(&token, &["FROM", "WHERE"]));
        }
        Ok(Selection { sources, condition })
    }

    /// Behind `CREATE DATABASE`.
    pub(super) fn create_database(&mut self) -> Result<Statement> {
        let name = self.identifier()?;
        if !self.next_if(Kind::With) {
            return Ok(Statement::CreateDatabase(CreateDatabase { name, policy: None, policy_name: None }));
        }
        let first = self.next();
        let is_limit = first.kind == Kind::Identifier
            && ["future", "past"].iter().any(|word| first.text.eq_ignore_ascii_case(word));
        if !matches!(first.kind, Kind::DurationWord | Kind::Name | Kind::Replication | Kind::Shard) && !is_limit {
            return Err(ParseError::expected(&first, &["DURATION", "NAME", "REPLICATION", "SHARD"]));
        }
        self.back();
        let mut options = PolicyOptions::default();
        if self.next_if(Kind::DurationWord) {
            options.duration = Some(self.duration()?);
        }
        if self.next_if(Kind::Replication) {
            options.replication = Some(self.replication()?);
        }
        if self.next_if(Kind::Shard) {
            self.expect(Kind::DurationWord)?;
            options.shard_duration = Some(self.duration()?);
        }
        self.write_limits(&mut options)?;
        let policy_name = if self.next_if(Kind::Name) { Some(self.identifier()?) } else { None };
        let policy = (options != PolicyOptions::default()).then_some(options);
        Ok(Statement::CreateDatabase(CreateDatabase { name, policy, policy_name }))
    }

    /// `[FUTURE LIMIT …] [PAST LIMIT …]`.
    fn write_limits(&mut self, options: &mut PolicyOptions) -> Result<()> {
        if self.next_if_word("future") {
            self.expect(Kind::Limit)?;
            options.future_limit = Some(self.duration()?);
        }
        if self.next_if_word("past") {
            self.expect(Kind::Limit)?;
            options.past_limit = Some(self.duration()?);
        }
        Ok(())
    }

    /// Behind `CREATE RETENTION POLICY`.
    pub(super) fn create_retention_policy(&mut self) -> Result<Statement> {
        let (name, database) = self.name_on_database()?;
        let mut options = PolicyOptions::default();
        self.expect(Kind::DurationWord)?;
        options.duration = Some(self.duration()?);
        self.expect(Kind::Replication)?;
        options.replication = Some(self.replication()?);
        if self.next_if(Kind::Shard) {
            self.expect(Kind::DurationWord)?;
            options.shard_duration = Some(self.shard_duration()?);
        }
        let default = self.next_if(Kind::Default);
        self.write_limits(&mut options)?;
        Ok(Statement::CreateRetentionPolicy(RetentionPolicy { name, database, options, default }))
    }

    /// Behind `ALTER RETENTION POLICY`.
    pub(super) fn alter_retention_policy(&mut self) -> Result<Statement> {
        let token = self.next();
        let name = match token.kind {
            Kind::Default => "default".to_owned(),
            Kind::Identifier => token.text,
            _ => return Err(ParseError::expected(&token, &["identifier"])),
        };
        self.expect(Kind::On)?;
        let database = self.identifier()?;
        let mut policy = RetentionPolicy { name, database, options: PolicyOptions::default(), default: false };
        let mut found_some = false;
        while self.changed_option(&mut policy)? {
            found_some = true;
        }
        if !found_some {
            let token = self.next();
            return Err(ParseError::expected(&token, &["DURATION", "REPLICATION", "SHARD", "DEFAULT"]));
        }
        Ok(Statement::AlterRetentionPolicy(policy))
    }

    /// Reads one option; `false` if there is none.
    fn changed_option(&mut self, policy: &mut RetentionPolicy) -> Result<bool> {
        let token = self.next();
        let options = &mut policy.options;
        let word = if token.kind == Kind::Identifier { token.text.to_ascii_lowercase() } else { String::new() };
        let is_again = match (token.kind, word.as_str()) {
            (Kind::DurationWord, _) => options.duration.is_some(),
            (Kind::Replication, _) => options.replication.is_some(),
            (Kind::Shard, _) => options.shard_duration.is_some(),
            (Kind::Default, _) => policy.default,
            (_, "future") => options.future_limit.is_some(),
            (_, "past") => options.past_limit.is_some(),
            _ => {
                self.back();
                return Ok(false);
            }
        };
        if is_again {
            let name = if word.is_empty() { token.kind.name().to_owned() } else { word.to_ascii_uppercase() };
            return Err(ParseError::at(token.position, format!("found duplicate {name} option")));
        }
        match (token.kind, word.as_str()) {
            (Kind::DurationWord, _) => options.duration = Some(self.duration()?),
            (Kind::Replication, _) => options.replication = Some(self.replication()?),
            (Kind::Shard, _) => {
                self.expect(Kind::DurationWord)?;
                options.shard_duration = Some(self.shard_duration()?);
            }
            (Kind::Default, _) => policy.default = true,
            (_, limit) => {
                self.expect(Kind::Limit)?;
                let span = Some(self.duration()?);
                if limit == "future" { options.future_limit = span } else { options.past_limit = span }
            }
        }
        Ok(true)
    }

    fn duration(&mut self) -> Result<i64> {
        let token = self.next();
        match token.kind {
            Kind::Inf => Ok(0),
            Kind::Duration => duration::parse(&token.text).map_err(|error| ParseError::at(token.position, error)),
            _ => Err(ParseError::expected(&token, &["duration"])),
        }
    }

    fn shard_duration(&mut self) -> Result<i64> {
        let token = self.next();
        if token.kind == Kind::Inf {
            return Err(ParseError::at(token.position, "invalid duration INF for shard duration"));
        }
        self.back();
        self.duration()
    }

    fn replication(&mut self) -> Result<i32> {
        let token = self.next();
        if token.kind != Kind::Integer {
            return Err(ParseError::expected(&token, &["integer"]));
        }
        let count = token.text.parse::<i32>().ok().filter(|count| *count >= 1);
        count.ok_or_else(|| {
            let message = format!("invalid value {}: must be 1 <= n <= {}", token.text, i32::MAX);
            ParseError::at(token.position, message)
        })
    }

    /// Behind `CREATE CONTINUOUS QUERY`.
    pub(super) fn create_continuous_query(&mut self) -> Result<Statement> {
        let (name, database) = self.name_on_database()?;
        let (every, resample_for) = if self.next_if(Kind::Resample) { self.resample()? } else { (None, None) };
        self.keywords(&[Kind::Begin, Kind::Select])?;
        let select = self.select(super::select::Into::Required)?;
        let has_call = select.fields.iter().any(|field| has_call(&field.expression));
        if has_call && !select.dimensions.iter().any(is_interval) {
            // Found is what stands last, as in 1.x.
            self.back();
            self.back();
            let token = self.next();
            return Err(ParseError::expected(&token, &["GROUP BY time(...)"]));
        }
        self.expect(Kind::End)?;
        let query = ContinuousQuery { name, database, every, resample_for, select: Box::new(select) };
        Ok(Statement::CreateContinuousQuery(query))
    }

    fn resample(&mut self) -> Result<(Option<i64>, Option<i64>)> {
        let every = if self.next_if(Kind::Every) { Some(self.finite_duration()?) } else { None };
        let resample_for = if self.next_if(Kind::For) { Some(self.finite_duration()?) } else { None };
        if every.is_none() && resample_for.is_none() {
            return Err(ParseError::expected(&self.next(), &["EVERY", "FOR"]));
        }
        Ok((every, resample_for))
    }

    fn finite_duration(&mut self) -> Result<i64> {
        let token = self.next();
        if token.kind != Kind::Duration {
            return Err(ParseError::expected(&token, &["duration"]));
        }
        duration::parse(&token.text).map_err(|error| ParseError::at(token.position, error))
    }

    /// Behind `CREATE SUBSCRIPTION`.
    pub(super) fn create_subscription(&mut self) -> Result<Statement> {
        let (name, database) = self.name_on_database()?;
        let policy = self.policy_behind_dot()?;
        self.expect(Kind::Destinations)?;
        let mode = self.next();
        let all = match mode.kind {
            Kind::All => true,
            Kind::Any => false,
            _ => return Err(ParseError::expected(&mode, &["ALL", "ANY"])),
        };
        Ok(Statement::CreateSubscription { name, database, policy, all, destinations: self.strings()? })
    }

    /// Behind `CREATE USER`.
    pub(super) fn create_user(&mut self) -> Result<Statement> {
        let name = self.identifier()?;
        self.keywords(&[Kind::With, Kind::Password])?;
        let password = self.string()?;
        let admin = self.next_if(Kind::With);
        if admin {
            self.keywords(&[Kind::All, Kind::Privileges])?;
        }
        Ok(Statement::CreateUser { name, password, admin })
    }

    /// Behind `SET PASSWORD FOR`.
    pub(super) fn set_password(&mut self) -> Result<Statement> {
        let user = self.identifier()?;
        self.expect(Kind::Equal)?;
        Ok(Statement::SetPassword { user, password: self.string()? })
    }

    /// Behind `GRANT` or `REVOKE`; `direction` is the word before the user.
    pub(super) fn grant(&mut self, direction: Kind) -> Result<Grant> {
        let token = self.next();
        let privilege = match token.kind {
            Kind::Read => Privilege::Read,
            Kind::Write => Privilege::Write,
            Kind::All => {
                self.next_if(Kind::Privileges);
                Privilege::All
            }
            _ => return Err(ParseError::expected(&token, &["READ", "WRITE", "ALL [PRIVILEGES]"])),
        };
        let token = self.next();
        let is_everywhere = token.kind == direction;
        match privilege {
            _ if token.kind == Kind::On => {
                let database = Some(self.identifier()?);
                self.expect(direction)?;
                Ok(Grant { privilege, database, user: self.identifier()? })
            }
            Privilege::All if is_everywhere => Ok(Grant { privilege, database: None, user: self.identifier()? }),
            Privilege::All => Err(ParseError::expected(&token, &["ON", direction.name()])),
            _ => Err(ParseError::expected(&token, &["ON"])),
        }
    }

    /// Behind `KILL QUERY`.
    pub(super) fn kill_query(&mut self) -> Result<Statement> {
        let id = self.unsigned()?;
        let host = if self.next_if(Kind::On) { Some(self.identifier()?) } else { None };
        Ok(Statement::KillQuery { id, host })
    }
}

fn measurements(selection: &Selection) -> impl Iterator<Item = &Measurement> {
    selection.sources.iter().filter_map(|source| match source {
        Source::Measurement(measurement) => Some(measurement),
        Source::Subquery(_) => None,
    })
}

fn has_call(expression: &Expression) -> bool {
    match expression {
        Expression::Call { .. } => true,
        Expression::Binary { left, right, .. } => has_call(left) || has_call(right),
        Expression::Parenthesis(inner) | Expression::Signed { operand: inner, .. } => has_call(inner),
        _ => false,
    }
}

/// Whether the dimension is `time(…)` with a length.
fn is_interval(dimension: &Expression) -> bool {
    match dimension {
        Expression::Call { name, arguments } => {
            name == "time" && matches!(arguments.first(), Some(Expression::Duration(nanos)) if *nanos != 0)
        }
        _ => false,
    }
}
