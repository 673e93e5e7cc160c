//! The verifier with an issuer on the other end of real TLS connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod asking;
#[path = "../../examples/axum.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod axum_example;
mod examples;
mod fetch;
#[path = "../../examples/hyper.rs"]
#[allow(
    dead_code,
    clippy::duplicate_mod,
    reason = "its main is not called; both examples have their connections in one file"
)]
mod hyper_example;
mod issuer;
mod polling;
