//! Keeps tokens fresh for programs that do not do so themselves: in a file, in a folder together with the certificate that
//! it is bound to (RFC 8705 §3), and over a Unix socket.
//!
//! | file | takes | gives |
//! |---|---|---|
//! | `keeper` | a `TokenSource` of `certbind-client` | each new token in its places, and nothing in them once it is over |
//! | `file` | a token | a file with it, replaced as a whole |
//! | `folder` | a token | a folder with it, its certificate and its key, all three replaced at once |
//! | `place` | a path | the folder there, held open and locked: no other is ever written into in its stead |
//! | `question` | resources and scope | the `TokenSource` that answers this question |
//! | `door` | a request over the socket | a token, or a `fault` and its name |
//! | `hook` | the word that there is a new token | a command that was run, or a signal that was sent |
//!
//! When a token is renewed, which certificate it is asked for with and what is done after a failure is decided by
//! `certbind-client`. Nothing here opens a token.

pub mod door;
pub mod fault;
pub mod file;
pub mod folder;
pub mod hook;
mod keeper;
mod place;
pub mod question;

pub use door::Door;
pub use file::TokenFile;
pub use folder::TokenFolder;
pub use hook::Hook;
pub use keeper::{Keeper, Outputs};
pub use question::Questions;
