//! `certbind exec` and `certbind agent` as processes: what programs find, while tokens and certificates are renewed.

mod daemon;
mod exec;
mod folder;
pub(crate) mod page;
mod rig;
