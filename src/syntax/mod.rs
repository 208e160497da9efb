//! Text in, values out: the languages that clients write. Pure, without IO, clocks or tasks.

pub mod influxql;
pub mod line_protocol;
