//! What the tests stand on.

pub mod caches;
pub mod database;
pub mod influxdb;
pub mod object_server;
pub mod process;
pub mod proxy;
pub mod server;
pub mod store;
