//! The server behind proxies that end the TLS of clients (RFC 8705 §6.5, RFC 9440): what they forward is the client's
//! certificate, and nobody else's word is.

mod alone;
mod connection;
mod formats;
mod gateways;
mod refused;
mod rig;
