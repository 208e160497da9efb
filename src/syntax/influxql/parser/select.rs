//! `SELECT` and `EXPLAIN`.

use super::super::ast::{Expression, Field, Fill, Select, Statement, Target};
use super::super::error::ParseError;
use super::super::token::Kind;
use super::{Parser, Result};

/// Whether a `SELECT` has to say where its answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Required,
    Optional,
}

impl Parser<'_> {
    /// Behind `SELECT`.
    pub(super) fn select(&mut self, into: Into) -> Result<Select> {
        let fields = self.fields()?;
        let into = self.target(into)?;
        self.expect(Kind::From)?;
        Ok(Select {
            fields,
            into,
            sources: self.sources(true)?,
            condition: self.condition()?,
            dimensions: self.dimensions()?,
            fill: self.fill()?,
            order: self.order()?,
            limit: self.count_behind(Kind::Limit)?,
            offset: self.count_behind(Kind::Offset)?,
            series_limit: self.count_behind(Kind::Slimit)?,
            series_offset: self.count_behind(Kind::Soffset)?,
            zone: self.zone()?,
        })
    }

    /// Behind `EXPLAIN`.
    pub(super) fn explain(&mut self) -> Result<Statement> {
        let analyze = self.next_if(Kind::Analyze);
        let verbose = self.next_if_word("verbose");
        self.expect(Kind::Select)?;
        let select = Box::new(self.select(Into::Optional)?);
        Ok(Statement::Explain { analyze, verbose, select })
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        loop {
            fields.push(self.field()?);
            if self.next_raw().kind != Kind::Comma {
                self.back();
                return Ok(fields);
            }
        }
    }

    fn field(&mut self) -> Result<Field> {
        let expression = match self.regex()? {
            Some(regex) => Expression::Regex(regex),
            None => {
                let position = self.next().position;
                self.back();
                let expression = self.expression()?;
                if let Some(operator) = condition_in(&expression) {
                    return Err(ParseError::somewhere(format!(
                        "invalid operator {operator} in SELECT clause at line {}, char {}; \
                         operator is intended for WHERE clause",
                        position.line + 1,
                        position.char + 1
                    )));
                }
                expression
            }
        };
        let alias = if self.next_if(Kind::As) { Some(self.identifier()?) } else { None };
        self.skip_blanks();
        Ok(Field { expression, alias })
    }

    fn target(&mut self, into: Into) -> Result<Option<Target>> {
        let token = self.next();
        if token.kind != Kind::Into {
            if into == Into::Required {
                return Err(ParseError::expected(&token, &["INTO"]));
            }
            self.back();
            return Ok(None);
        }
        let (mut segments, goes_on) = self.segments()?;
        let measurement = if segments.len() < 3 && goes_on && self.look() == Some(':') {
            self.keywords(&[Kind::Colon, Kind::Measurement])?;
            None
        } else if goes_on {
            return Err(ParseError::expected(&self.next(), &["identifier"]));
        } else {
            segments.pop()
        };
        let policy = segments.pop().filter(|policy| !policy.is_empty());
        Ok(Some(Target { database: segments.pop(), policy, measurement }))
    }

    fn is_call_of(&mut self, function: &str) -> bool {
        let token = self.next();
        self.back();
        token.kind == Kind::Identifier && token.text.eq_ignore_ascii_case(function)
    }

    /// `[fill(…)]`.
    fn fill(&mut self) -> Result<Fill> {
        if !self.is_call_of("fill") {
            return Ok(Fill::Null);
        }
        let Expression::Call { arguments, .. } = self.expression()? else {
            return Err(ParseError::somewhere("fill must be a function call"));
        };
        let [argument] = arguments.as_slice() else {
            let message = "fill requires an argument, e.g.: 0, null, none, previous, linear";
            return Err(ParseError::somewhere(message));
        };
        match argument {
            Expression::Column { name, cast: None } => match name.as_str() {
                "null" => Ok(Fill::Null),
                "none" => Ok(Fill::None),
                "previous" => Ok(Fill::Previous),
                "linear" => Ok(Fill::Linear),
                _ => Err(ParseError::somewhere("expected number argument in fill()")),
            },
            Expression::Integer(value) => Ok(Fill::Integer(*value)),
            Expression::Number(value) => Ok(Fill::Number(*value)),
            _ => Err(ParseError::somewhere("expected number argument in fill()")),
        }
    }

    /// `[tz('…')]`.
    fn zone(&mut self) -> Result<Option<chrono_tz::Tz>> {
        if !self.is_call_of("tz") {
            return Ok(None);
        }
        let Expression::Call { arguments, .. } = self.expression()? else {
            return Err(ParseError::somewhere("tz must be a function call"));
        };
        match arguments.as_slice() {
            [Expression::String(name)] if name.is_empty() => Ok(Some(chrono_tz::UTC)),
            [Expression::String(name)] => {
                let zone = name.parse();
                zone.map(Some).map_err(|_| ParseError::somewhere(format!("unable to find time zone {name}")))
            }
            [_] => Err(ParseError::somewhere("expected string argument in tz()")),
            _ => Err(ParseError::somewhere("tz requires exactly one argument")),
        }
    }
}

/// The first comparison or `AND`, `OR` in an expression.
fn condition_in(expression: &Expression) -> Option<super::super::Operator> {
    match expression {
        Expression::Binary { operator, .. } if operator.is_condition() => Some(*operator),
        Expression::Binary { left, right, .. } => condition_in(left).or_else(|| condition_in(right)),
        Expression::Parenthesis(inner) | Expression::Signed { operand: inner, .. } => condition_in(inner),
        Expression::Call { arguments, .. } => arguments.iter().find_map(condition_in),
        _ => None,
    }
}
