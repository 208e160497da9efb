//! InfluxQL from anyone: it never panics, and what is printed is read back as the same statements.

#![no_main]

#[path = "../../../src/syntax/influxql/mod.rs"]
#[allow(dead_code, unused_imports)]
mod influxql;

use influxql::{Value, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let parameters = [
        ("a".to_owned(), Value::Identifier("b c".to_owned())),
        ("r".to_owned(), Value::Regex("^x/y$".to_owned())),
        ("n".to_owned(), Value::Number(-1.5)),
    ];
    let Ok(statements) = parse(text, &parameters) else { return };
    let printed: Vec<_> = statements.iter().map(ToString::to_string).collect();
    let printed = printed.join(";");
    assert_eq!(parse(&printed, &[]).as_ref(), Ok(&statements), "{printed}");
});
