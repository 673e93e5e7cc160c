//! The listeners of `certbind::net`, with real sockets, real TLS and certificates from devpki.

mod faults;
mod handshake;
mod http1;
mod http2;
mod rig;
