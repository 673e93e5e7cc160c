//! The real binary as a process: started, watched, hurt, killed and started again.

mod audit;
mod audit_required;
mod audit_search;
mod audit_store;
mod audit_store_look;
mod backup;
pub(crate) mod client;
mod completions;
mod configuration;
pub(crate) mod fleet;
mod hostile;
#[cfg(feature = "pkcs11")]
mod hsm;
mod keys;
mod lifecycle;
mod operations;
mod reload;
mod renewal;
mod replay;
mod reqwest;
mod restart;
pub(crate) mod rig;
mod secrets;
mod store;
mod stored_clients;
mod traffic;
