//! InfluxQL: the query language of InfluxDB 1, as text in and statements out.
//!
//! [`parse`] reads what a client sends, several statements at once, with the errors of InfluxDB 1: what was found, what
//! could stand there, and where. What a statement means, whether its functions and columns exist, is for `query`.
//!
//! Always true:
//! - a statement that is printed is read back as the same statement;
//! - nesting and length of expressions are bounded, so that no text exhausts the stack, see [`DEPTH_MAX`];
//! - whatever the text, there is an answer and no panic (`tests/fuzz`).
//!
//! Differs from InfluxDB 1 where that loses text without a word: `a"b"` is two names and not the second one, and a zero
//! character does not end the text. `FUTURE`, `PAST` and `VERBOSE` are known where they have a meaning, and are free as names.

mod ast;
mod duration;
mod error;
mod parameters;
mod parser;
mod print;
mod regex;
mod scanner;
#[cfg(test)]
mod tests;
mod token;

pub use ast::*;
pub use duration::format as format_duration;
pub use error::ParseError;
pub use parameters::Value;
pub use parser::{DEPTH_MAX, OPERATORS_MAX};
pub use print::Name;
pub use regex::Regex;

/// The statements of a text, which are separated by `;`. A parameter that is not used is ignored.
///
/// # Errors
/// The first thing that is wrong. Nothing of the text is to be done then.
pub fn parse(text: &str, parameters: &[(String, Value)]) -> Result<Vec<Statement>, ParseError> {
    parser::Parser::new(text, parameters).statements()
}
