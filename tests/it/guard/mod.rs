//! `certbind guard` behind real gateways, each set up by its file in `deploy/`: one table of verdicts for all of them.

mod gateways;
mod hostile;
mod istio;
mod native;
mod question;
mod reload;
pub(crate) mod rig;
