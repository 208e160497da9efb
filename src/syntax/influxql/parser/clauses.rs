//! What statements have in common: `ON`, `FROM`, `WHERE`, `GROUP BY`, `ORDER BY`, `LIMIT`.

use super::super::ast::{Expression, Measurement, MeasurementName, Order, Source};
use super::super::error::ParseError;
use super::super::print::Name;
use super::super::token::{Kind, Position};
use super::{Parser, Result};

impl Parser<'_> {
    /// `database.policy.name`, `database..name`, up to three parts. A regular expression or `:MEASUREMENT` behind a dot
    /// is left there; the parts then say so by `true`.
    pub(super) fn segments(&mut self) -> Result<(Vec<String>, bool)> {
        let mut segments = vec![self.identifier()?];
        let mut goes_on = false;
        loop {
            if self.next_raw().kind != Kind::Dot {
                self.back();
                break;
            }
            match self.look() {
                Some('/' | ':') => {
                    goes_on = true;
                    break;
                }
                Some('.') => segments.push(String::new()),
                _ => segments.push(self.identifier()?),
            }
        }
        if segments.len() > 3 {
            let last = segments.len() - 1;
            let quoted = |(n, segment): (usize, &String)| match (n == last, segment.is_empty()) {
                (true, false) => Name(segment).to_string(),
                (false, true) => String::new(),
                _ => format!("\"{segment}\""),
            };
            let written: Vec<_> = segments.iter().enumerate().map(quoted).collect();
            let message = format!("too many segments in {}", written.join("."));
            return Err(ParseError::at(Position::default(), message));
        }
        Ok((segments, goes_on))
    }

    /// One source or several with commas between them.
    pub(super) fn sources(&mut self, may_be_subquery: bool) -> Result<Vec<Source>> {
        let mut sources = vec![self.source(may_be_subquery)?];
        while self.next_if(Kind::Comma) {
            sources.push(self.source(may_be_subquery)?);
        }
        Ok(sources)
    }

    pub(super) fn source(&mut self, may_be_subquery: bool) -> Result<Source> {
        if let Some(regex) = self.regex()? {
            let name = MeasurementName::Regex(regex);
            return Ok(Source::Measurement(Measurement { database: None, policy: None, name }));
        }
        if may_be_subquery && self.next_if(Kind::OpeningParenthesis) {
            self.expect(Kind::Select)?;
            let select = self.nested(|parser| parser.select(super::select::Into::Optional))?;
            if select.into.is_some() {
                // 1.x takes it here and forgets it.
                return Err(ParseError::somewhere("INTO is not allowed in a subquery"));
            }
            self.expect(Kind::ClosingParenthesis)?;
            return Ok(Source::Subquery(Box::new(select)));
        }
        let (mut segments, goes_on) = self.segments()?;
        let regex = if goes_on && segments.len() < 3 { self.regex()? } else { None };
        let name = match regex {
            Some(regex) => MeasurementName::Regex(regex),
            // `a.` ends behind the dot in 1.x where a colon follows.
            None if goes_on => return Err(ParseError::expected(&self.next(), &["identifier"])),
            None => MeasurementName::Name(segments.pop().unwrap_or_default()),
        };
        let policy = segments.pop().filter(|policy| !policy.is_empty());
        Ok(Source::Measurement(Measurement { database: segments.pop(), policy, name }))
    }

    /// `[WHERE …]`.
    pub(super) fn condition(&mut self) -> Result<Option<Expression>> {
        if self.next_if(Kind::Where) { self.expression().map(Some) } else { Ok(None) }
    }

    /// `[GROUP BY …]`.
    pub(super) fn dimensions(&mut self) -> Result<Vec<Expression>> {
        let mut dimensions = Vec::new();
        if !self.next_if(Kind::Group) {
            return Ok(dimensions);
        }
        self.expect(Kind::By)?;
        loop {
            match self.regex()? {
                Some(regex) => dimensions.push(Expression::Regex(regex)),
                None => {
                    dimensions.push(self.expression()?);
                    self.skip_blanks();
                }
            }
            if self.next_raw().kind != Kind::Comma {
                self.back();
                return Ok(dimensions);
            }
        }
    }

    /// `[ORDER BY [time] [ASC|DESC]]`.
    pub(super) fn order(&mut self) -> Result<Option<Order>> {
        if !self.next_if(Kind::Order) {
            return Ok(None);
        }
        self.expect(Kind::By)?;
        let token = self.next();
        let order = match token.kind {
            Kind::Asc => Order::Ascending,
            Kind::Desc => Order::Descending,
            Kind::Identifier => {
                let order = self.direction();
                if token.text != "time" {
                    return Err(only_time());
                }
                order
            }
            _ => return Err(ParseError::expected(&token, &["identifier", "ASC", "DESC"])),
        };
        let mut is_only_one = true;
        while self.next_if(Kind::Comma) {
            self.identifier()?;
            self.direction();
            is_only_one = false;
        }
        if is_only_one { Ok(Some(order)) } else { Err(only_time()) }
    }

    fn direction(&mut self) -> Order {
        if self.next_if(Kind::Desc) {
            return Order::Descending;
        }
        self.next_if(Kind::Asc);
        Order::Ascending
    }

    /// `[keyword n]`, 0 where it is missing.
    pub(super) fn count_behind(&mut self, keyword: Kind) -> Result<u64> {
        if !self.next_if(keyword) {
            return Ok(0);
        }
        let token = self.next();
        if token.kind != Kind::Integer {
            return Err(ParseError::expected(&token, &["integer"]));
        }
        if token.text.starts_with('-') {
            return Err(ParseError::at(token.position, format!("{} must be >= 0", keyword.name())));
        }
        // More than there can be is all there is.
        Ok(token.text.parse().unwrap_or(u64::MAX))
    }
}

fn only_time() -> ParseError {
    ParseError::somewhere("only ORDER BY time supported at this time")
}
