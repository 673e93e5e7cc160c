//! The engine for several servers, against a real PostgreSQL.

pub(crate) mod cluster;
mod engine;
mod proxy;
mod readme;
mod trouble;
