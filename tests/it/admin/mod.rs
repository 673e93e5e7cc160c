//! The admin API as its callers meet it: the real binary, a real socket, real certificates.

mod changes;
mod cli;
mod credentials;
pub(crate) mod docs;
mod doctor;
mod keys;
mod listing;
mod problems;
mod revocations;
pub(crate) mod rig;
mod schemathesis;
mod socket;
mod tls;
