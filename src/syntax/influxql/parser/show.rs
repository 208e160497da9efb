//! `SHOW` of measurements, tags, fields and series, and of how many there are.

use super::super::ast::{KeyFilter, Show, ShowOn, Shown, ShownAs, Statement};
use super::super::error::ParseError;
use super::super::token::Kind;
use super::{Parser, Result};

impl Show {
    fn new(what: Shown, how: ShownAs) -> Self {
        Self {
            what,
            how,
            on: None,
            sources: Vec::new(),
            keys: None,
            condition: None,
            dimensions: Vec::new(),
            order: None,
            limit: 0,
            offset: 0,
            series_limit: 0,
            series_offset: 0,
        }
    }
}

impl Parser<'_> {
    /// Behind `MEASUREMENTS`.
    pub(super) fn show_measurements(&mut self) -> Result<Statement> {
        let mut show = Show::new(Shown::Measurements, ShownAs::List);
        if self.next_if(Kind::On) {
            let database = self.name_or_star()?;
            let policy = if self.next_if(Kind::Dot) { Some(self.name_or_star()?) } else { None };
            show.on = Some(ShowOn { database, policy });
        }
        if self.next_if(Kind::With) {
            self.expect(Kind::Measurement)?;
            let operator = self.next();
            if !matches!(operator.kind, Kind::Equal | Kind::Matches) {
                return Err(ParseError::expected(&operator, &["=", "=~"]));
            }
            show.sources.push(self.source(false)?);
        }
        show.condition = self.condition()?;
        self.end_of_list(show)
    }

    fn name_or_star(&mut self) -> Result<Option<String>> {
        let token = self.next();
        match token.kind {
            Kind::Identifier => Ok(Some(token.text)),
            Kind::Multiply => Ok(None),
            _ => Err(ParseError::expected(&token, &["identifier or *"])),
        }
    }

    /// Behind `TAG KEYS`.
    pub(super) fn show_tag_keys(&mut self) -> Result<Statement> {
        let mut show = Show::new(Shown::TagKeys, ShownAs::List);
        self.on_and_from(&mut show)?;
        if self.next_if(Kind::With) {
            self.back();
            show.keys = Some(self.key_filter()?);
        }
        show.condition = self.condition()?;
        show.order = self.order()?;
        show.limit = self.count_behind(Kind::Limit)?;
        show.offset = self.count_behind(Kind::Offset)?;
        show.series_limit = self.count_behind(Kind::Slimit)?;
        show.series_offset = self.count_behind(Kind::Soffset)?;
        Ok(Statement::Show(show))
    }

    /// Behind `TAG VALUES`.
    pub(super) fn show_tag_values(&mut self) -> Result<Statement> {
        let how = match self.next().kind {
            Kind::Exact => {
                self.expect(Kind::Cardinality)?;
                ShownAs::ExactCardinality
            }
            Kind::Cardinality => ShownAs::Cardinality,
            _ => {
                self.back();
                ShownAs::List
            }
        };
        let mut show = Show::new(Shown::TagValues, how);
        self.on_and_from(&mut show)?;
        show.keys = Some(self.key_filter()?);
        match how {
            ShownAs::List => {
                show.condition = self.condition()?;
                self.end_of_list(show)
            }
            _ => self.end_of_cardinality(show),
        }
    }

    /// Behind `FIELD KEYS`.
    pub(super) fn show_field_keys(&mut self) -> Result<Statement> {
        let mut show = Show::new(Shown::FieldKeys, ShownAs::List);
        self.on_and_from(&mut show)?;
        self.end_of_list(show)
    }

    /// Behind `SERIES`.
    pub(super) fn show_series(&mut self) -> Result<Statement> {
        let exact = self.next_if(Kind::Exact);
        if self.next_if(Kind::Cardinality) {
            let how = if exact { ShownAs::ExactCardinality } else { ShownAs::Cardinality };
            return self.cardinality(Show::new(Shown::Series, how));
        }
        let mut show = Show::new(Shown::Series, ShownAs::List);
        self.on_and_from(&mut show)?;
        show.condition = self.condition()?;
        self.end_of_list(show)
    }

    /// Behind `MEASUREMENT`.
    pub(super) fn show_measurement_cardinality(&mut self) -> Result<Statement> {
        let how = self.next();
        match how.kind {
            Kind::Exact => {
                self.expect(Kind::Cardinality)?;
                self.cardinality(Show::new(Shown::Measurements, ShownAs::ExactCardinality))
            }
            Kind::Cardinality => self.cardinality(Show::new(Shown::Measurements, ShownAs::Cardinality)),
            _ => Err(ParseError::expected(&how, &["EXACT", "CARDINALITY"])),
        }
    }

    /// Behind `TAG KEY`.
    pub(super) fn show_tag_key_cardinality(&mut self) -> Result<Statement> {
        self.key_cardinality(Shown::TagKeys)
    }

    /// Behind `FIELD KEY`.
    pub(super) fn show_field_key_cardinality(&mut self) -> Result<Statement> {
        self.key_cardinality(Shown::FieldKeys)
    }

    fn key_cardinality(&mut self, what: Shown) -> Result<Statement> {
        let (how, expected): (_, &[&str]) = match self.next_if(Kind::Exact) {
            true => (ShownAs::ExactCardinality, &["CARDINALITY"]),
            false => (ShownAs::Cardinality, &["EXACT", "CARDINALITY"]),
        };
        let token = self.next();
        match token.kind {
            Kind::Cardinality => self.cardinality(Show::new(what, how)),
            _ => Err(ParseError::expected(&token, expected)),
        }
    }

    /// Behind `CARDINALITY`.
    fn cardinality(&mut self, mut show: Show) -> Result<Statement> {
        self.on_and_from(&mut show)?;
        self.end_of_cardinality(show)
    }

    fn on_and_from(&mut self, show: &mut Show) -> Result<()> {
        if self.next_if(Kind::On) {
            show.on = Some(ShowOn { database: Some(self.identifier()?), policy: None });
        }
        if self.next_if(Kind::From) {
            show.sources = self.sources(false)?;
        }
        Ok(())
    }

    fn end_of_list(&mut self, mut show: Show) -> Result<Statement> {
        show.order = self.order()?;
        show.limit = self.count_behind(Kind::Limit)?;
        show.offset = self.count_behind(Kind::Offset)?;
        Ok(Statement::Show(show))
    }

    fn end_of_cardinality(&mut self, mut show: Show) -> Result<Statement> {
        show.condition = self.condition()?;
        show.dimensions = self.dimensions()?;
        show.limit = self.count_behind(Kind::Limit)?;
        show.offset = self.count_behind(Kind::Offset)?;
        Ok(Statement::Show(show))
    }

    /// `WITH KEY …`.
    fn key_filter(&mut self) -> Result<KeyFilter> {
        self.keywords(&[Kind::With, Kind::Key])?;
        let operator = self.next();
        Ok(match operator.kind {
            Kind::In => {
                self.expect(Kind::OpeningParenthesis)?;
                let keys = self.identifiers()?;
                self.expect(Kind::ClosingParenthesis)?;
                KeyFilter::In(keys)
            }
            Kind::Equal => KeyFilter::Equal(self.identifier()?),
            Kind::NotEqual => KeyFilter::NotEqual(self.identifier()?),
            Kind::Matches | Kind::MatchesNot => {
                let Some(regex) = self.regex()? else {
                    return Err(ParseError::expected(&self.next(), &["regex"]));
                };
                if operator.kind == Kind::Matches { KeyFilter::Matches(regex) } else { KeyFilter::MatchesNot(regex) }
            }
            _ => return Err(ParseError::expected(&operator, &["IN", "=", "=~"])),
        })
    }
}
