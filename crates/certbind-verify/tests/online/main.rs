//! The verifier with an issuer on the other end of real TLS connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod asking;
#[path = "../../examples/hyper.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod example;
mod fetch;
mod hyper_example;
mod issuer;
mod polling;
