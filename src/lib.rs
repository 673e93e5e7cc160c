//! The certbind authorization server, in the order in which a request walks through it.
//!
//! `net` → `http` → `flow` → `authn` → `grant` → `mint`; see `ARCHITECTURE.md` for who may import whom.

pub mod net;

pub mod http;

pub mod flow;

pub mod admin;

pub mod authn;
pub mod grant;
pub mod mint;

pub mod jwks_uri;
pub mod pkcs11;
pub mod registry;
pub mod revocation;
pub mod store;
pub mod usage;

pub mod agent;
pub mod guard;
pub mod proxy;

pub mod audit;
pub mod metrics;

pub mod config;
pub mod suggest;

pub mod cli;
