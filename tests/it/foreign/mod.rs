//! Clients of other people, unmodified, against the real server and an API that enforces the binding.

mod clients;
pub(crate) mod openssl;
pub(crate) mod page;
mod provider;
mod refused;
pub(crate) mod rig;
