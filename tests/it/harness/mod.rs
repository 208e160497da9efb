//! What the tests stand on.

pub mod database;
pub mod process;
pub mod server;
pub mod store;
