//! Everything over real sockets on 127.0.0.1, in one binary.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod admin;
mod agent;
mod conformance_table;
mod dependencies;
mod deploy;
mod deployments;
mod documents;
mod foreign;
mod golden;
mod guard;
mod house;
mod layers;
mod limbo;
mod manifests;
mod net;
mod postgres;
mod process;
mod proxy;
mod reasons;
mod revocation;
mod services;
mod support;
mod token;
mod vectors;
