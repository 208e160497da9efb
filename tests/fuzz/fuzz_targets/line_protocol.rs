//! Line protocol from anyone: it never panics, and refused lines leave no trace.
//!
//! The second is checked by taking the refused lines out of the body: what is left is accepted whole
//! and gives the same tables, rows and dictionaries.

#![no_main]

#[path = "../../../src/error.rs"]
#[allow(dead_code)]
mod error;
#[path = "../../../src/model/mod.rs"]
#[allow(dead_code, unused_imports)]
mod model;
#[path = "../../../src/syntax/mod.rs"]
#[allow(dead_code, unused_imports)]
mod syntax;

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use model::{Precision, TableSchema, Timestamp};
use syntax::line_protocol::{Options, Parsed, Schemas, parse};

struct NoTables;

impl Schemas for NoTables {
    fn table(&self, _name: &str) -> Option<Arc<TableSchema>> {
        None
    }
}

fn parse_all(body: &[u8]) -> Parsed {
    let options = Options {
        precision: Precision::Auto,
        default_time: Timestamp::from_nanos(77),
        accept_partial: true,
        columns_per_table_max: 8,
        new_tables_max: 4,
    };
    parse(body, &NoTables, &options)
}

fuzz_target!(|body: &[u8]| {
    let parsed = parse_all(body);
    assert_eq!(parsed.accepted + parsed.refused_count, parsed.lines);
    assert_eq!(parsed.accepted, parsed.rows.row_count());

    // Where the body was no text, or not every refused line is told, the places in it are not known.
    let Ok(text) = std::str::from_utf8(body) else { return };
    if parsed.refused_count > parsed.refused.len() {
        return;
    }
    let mut good = text.to_owned();
    for line in parsed.refused.iter().rev() {
        let newline_before = line.line_number.checked_sub(2).and_then(|n| text.match_indices('\n').nth(n));
        let start = newline_before.map_or(0, |(newline, _)| newline + 1);
        let end = start + line.original_line.len();
        assert_eq!(text[start..end], line.original_line);
        good.replace_range(start..end, "");
    }
    let again = parse_all(good.as_bytes());
    assert_eq!((again.accepted, again.refused_count), (parsed.accepted, 0));
    assert_eq!(again.rows.tables.len(), parsed.rows.tables.len());
    for (table, same) in parsed.rows.tables.iter().zip(&again.rows.tables) {
        assert_eq!((&table.table, &table.batch), (&same.table, &same.batch));
    }
});
