//! Expressions: operands by descent, operators by how strongly they bind.

use super::super::ast::{Cast, Expression, Operator};
use super::super::duration;
use super::super::error::ParseError;
use super::super::regex::Regex;
use super::super::scanner::Scanner;
use super::super::token::{Kind, Token};
use super::{OPERATORS_MAX, Parser, REGEXES_MAX, Result};

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Result<Expression> {
        self.nested(|parser| {
            let first = parser.operand()?;
            parser.operators(first, 0)
        })
    }

    /// Adds to `left` what follows it, as long as the operators bind more strongly than `strength`.
    fn operators(&mut self, left: Expression, strength: u8) -> Result<Expression> {
        let mut left = left;
        while let Some(operator) = self.operator(strength) {
            self.operators += 1;
            if self.operators > OPERATORS_MAX {
                let message = format!("the statement has more than {OPERATORS_MAX} operators");
                return Err(ParseError::somewhere(message));
            }
            let right = if matches!(operator, Operator::Matches | Operator::MatchesNot) {
                match self.regex()? {
                    Some(regex) => Expression::Regex(regex),
                    None => return Err(ParseError::expected(&self.next(), &["regex"])),
                }
            } else {
                self.operand()?
            };
            // At most five levels deep, one for each strength.
            let right = self.operators(right, operator.strength())?;
            left = Expression::Binary { operator, left: Box::new(left), right: Box::new(right) };
        }
        Ok(left)
    }

    /// Reads an operator that binds more strongly than `strength`.
    fn operator(&mut self, strength: u8) -> Option<Operator> {
        let token = self.next();
        let operator = operator(token.kind).filter(|operator| operator.strength() > strength);
        if operator.is_none() {
            self.back();
        }
        operator
    }

    fn operand(&mut self) -> Result<Expression> {
        let token = self.next();
        match token.kind {
            Kind::OpeningParenthesis => {
                let inner = self.expression()?;
                self.expect(Kind::ClosingParenthesis)?;
                Ok(Expression::Parenthesis(Box::new(inner)))
            }
            Kind::Identifier => {
                if self.next_raw().kind == Kind::OpeningParenthesis {
                    return self.call(&token.text);
                }
                self.back();
                self.back();
                self.column()
            }
            Kind::Distinct => self.distinct(),
            Kind::String => Ok(Expression::String(token.text)),
            Kind::Number => {
                let number = token.text.parse::<f64>().ok().filter(|number| number.is_finite());
                number.map(Expression::Number).ok_or_else(|| ParseError::at(token.position, "unable to parse number"))
            }
            Kind::Integer => integer(&token),
            Kind::True => Ok(Expression::Boolean(true)),
            Kind::False => Ok(Expression::Boolean(false)),
            Kind::Duration => duration::parse(&token.text).map(Expression::Duration).map_err(ParseError::somewhere),
            Kind::Multiply => self.wildcard(),
            Kind::Parameter => Err(self.no_value(&token)),
            Kind::Add | Kind::Subtract => self.signed(token.kind == Kind::Subtract),
            _ => Err(ParseError::expected(&token, &["identifier", "string", "number", "bool"])),
        }
    }

    fn no_value(&self, parameter: &Token) -> ParseError {
        let name = parameter.text.strip_prefix('$').unwrap_or_default();
        ParseError::somewhere(match self.value(parameter) {
            _ if name.is_empty() => "empty bound parameter".to_owned(),
            Some(super::super::Value::Unusable(reason)) => reason.clone(),
            _ => format!("missing parameter: {name}"),
        })
    }

    /// Behind a sign.
    fn signed(&mut self, negative: bool) -> Result<Expression> {
        let token = self.next();
        self.back();
        let can_follow = matches!(
            token.kind,
            Kind::Number | Kind::Integer | Kind::Duration | Kind::OpeningParenthesis | Kind::Identifier
        );
        if !can_follow {
            return Err(ParseError::expected(&token, &["identifier", "number", "duration", "("]));
        }
        let operand = self.operand()?;
        Ok(match operand {
            Expression::Number(value) => Expression::Number(if negative { -value } else { value }),
            Expression::Integer(value) => Expression::Integer(if negative { value.wrapping_neg() } else { value }),
            Expression::Duration(value) => Expression::Duration(if negative { value.wrapping_neg() } else { value }),
            Expression::Unsigned(value) if negative => match 0_i64.checked_sub_unsigned(value) {
                Some(value) => Expression::Integer(value),
                None => return Err(ParseError::somewhere(format!("constant -{value} underflows int64"))),
            },
            Expression::Unsigned(value) => Expression::Unsigned(value),
            operand => Expression::Signed { negative, operand: Box::new(operand) },
        })
    }

    /// `a`, `a.b`, `a::float`.
    fn column(&mut self) -> Result<Expression> {
        let (segments, goes_on) = self.segments()?;
        if goes_on {
            return Err(ParseError::expected(&self.next(), &["identifier"]));
        }
        let name = segments.join(".");
        if self.next_raw().kind != Kind::DoubleColon {
            self.back();
            return Ok(Expression::Column { name, cast: None });
        }
        let token = self.next_raw();
        let cast = match token.kind {
            Kind::Field => Cast::Field,
            Kind::Tag => Cast::Tag,
            Kind::Identifier => match token.text.to_ascii_lowercase().as_str() {
                "float" => Cast::Float,
                "integer" => Cast::Integer,
                "unsigned" => Cast::Unsigned,
                "string" => Cast::String,
                "boolean" => Cast::Boolean,
                _ => {
                    let casts = ["float", "integer", "unsigned", "string", "boolean", "field", "tag"];
                    return Err(ParseError::expected(&token, &casts));
                }
            },
            _ => {
                let casts = ["float", "integer", "string", "boolean", "field", "tag"];
                return Err(ParseError::expected(&token, &casts));
            }
        };
        Ok(Expression::Column { name, cast: Some(cast) })
    }

    /// Behind `DISTINCT`.
    fn distinct(&mut self) -> Result<Expression> {
        let token = self.next_raw();
        match token.kind {
            Kind::OpeningParenthesis => self.call("distinct"),
            Kind::Whitespace => self.identifier().map(Expression::Distinct),
            _ => Err(ParseError::expected(&token, &["(", "identifier"])),
        }
    }

    /// Behind `*`.
    fn wildcard(&mut self) -> Result<Expression> {
        if self.next_raw().kind != Kind::DoubleColon {
            self.back();
            return Ok(Expression::Wildcard(None));
        }
        let token = self.next_raw();
        match token.kind {
            Kind::Field => Ok(Expression::Wildcard(Some(Cast::Field))),
            Kind::Tag => Ok(Expression::Wildcard(Some(Cast::Tag))),
            _ => Err(ParseError::expected(&token, &["field", "tag"])),
        }
    }

    /// Behind `name(`.
    fn call(&mut self, name: &str) -> Result<Expression> {
        let mut arguments = Vec::new();
        match self.regex()? {
            Some(regex) => arguments.push(Expression::Regex(regex)),
            None => {
                if self.next_raw().kind == Kind::ClosingParenthesis {
                    return Ok(Expression::Call { name: name.to_ascii_lowercase(), arguments });
                }
                self.back();
                arguments.push(self.expression()?);
            }
        }
        while self.next_if(Kind::Comma) {
            match self.regex()? {
                Some(regex) => arguments.push(Expression::Regex(regex)),
                None => arguments.push(self.expression()?),
            }
        }
        let end = self.next_raw();
        match end.kind {
            Kind::ClosingParenthesis => Ok(Expression::Call { name: name.to_ascii_lowercase(), arguments }),
            _ => Err(ParseError::expected(&end, &[")"])),
        }
    }

    /// The regular expression that stands here, or a parameter for one; `None` if something else does.
    pub(super) fn regex(&mut self) -> Result<Option<Regex>> {
        if self.look_is_blank() {
            self.skip_blanks();
        }
        match self.look() {
            Some('$') => {
                let token = self.next_raw();
                self.back();
                if token.kind != Kind::Regex {
                    return Ok(None);
                }
            }
            Some('/') => {}
            _ => return Ok(None),
        }
        let token = self.scan(Scanner::regex);
        match token.kind {
            Kind::Regex => self.compiled(&token).map(Some),
            Kind::BadRegex => Err(ParseError::at(token.position, format!("bad regex: {}", token.text))),
            _ => Err(ParseError::expected(&token, &["regex"])),
        }
    }

    fn compiled(&mut self, token: &Token) -> Result<Regex> {
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            let message = format!("the query has more than {REGEXES_MAX} regular expressions");
            return Err(ParseError::at(token.position, message));
        }
        Regex::new(&token.text).map_err(|message| ParseError::at(token.position, message))
    }
}

fn integer(token: &Token) -> Result<Expression> {
    if let Ok(value) = token.text.parse() {
        return Ok(Expression::Integer(value));
    }
    let value = token.text.parse().map(Expression::Unsigned);
    value.map_err(|_| ParseError::at(token.position, "unable to parse integer"))
}

fn operator(kind: Kind) -> Option<Operator> {
    Some(match kind {
        Kind::Add => Operator::Add,
        Kind::Subtract => Operator::Subtract,
        Kind::Multiply => Operator::Multiply,
        Kind::Divide => Operator::Divide,
        Kind::Modulo => Operator::Modulo,
        Kind::BitAnd => Operator::BitAnd,
        Kind::BitOr => Operator::BitOr,
        Kind::BitXor => Operator::BitXor,
        Kind::And => Operator::And,
        Kind::Or => Operator::Or,
        Kind::Equal => Operator::Equal,
        Kind::NotEqual => Operator::NotEqual,
        Kind::Matches => Operator::Matches,
        Kind::MatchesNot => Operator::MatchesNot,
        Kind::Less => Operator::Less,
        Kind::LessOrEqual => Operator::LessOrEqual,
        Kind::Greater => Operator::Greater,
        Kind::GreaterOrEqual => Operator::GreaterOrEqual,
        _ => return None,
    })
}
