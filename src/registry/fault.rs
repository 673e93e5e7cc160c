//! What is wrong with a client's file, said so that it can be found and put right.

use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use certbind_proto::client::MetadataFault;
use certbind_proto::json::JsonFault;

use super::names::{CERTBIND, CLIENT, names};

/// One thing that is wrong with one file. `clients.d/billing.toml:3:1: scoep: there is no such key; did you mean `scope`?`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileFault {
    /// The client's file, or the folder.
    pub path: PathBuf,
    /// Where in it.
    pub position: Option<Position>,
    /// What is wrong.
    pub complaint: Complaint,
}

/// A place in a text, both counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

impl Position {
    /// The place of a byte.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Self { line, column: before[line_start..].chars().count() + 1 }
    }
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    /// Another file registers the same client.
    #[error("client_id: {client_id} is registered by another file as well; neither is taken until one of them is gone")]
    Duplicate {
        /// The identifier.
        client_id: String,
    },
    /// The registration is refused (RFC 7591 §3.2.2).
    #[error(transparent)]
    Metadata(#[from] MetadataFault),
    /// A registration of the store that is no JSON object, or that of another client.
    #[error("the store holds something else than a registration of this client")]
    NotADocument,
    /// A file that the registration names is no certificate.
    #[error("certbind.certificates: {} does not hold exactly one certificate, in PEM or DER", path.display())]
    NotACertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file that the registration names is no key set.
    #[error("jwks: {}: {fault}", path.display())]
    NotAKeySet {
        /// The file.
        path: PathBuf,
        /// Why not.
        fault: JsonFault,
    },
    /// Something other than `file:PATH`.
    #[error("{key}: give a file as file:PATH")]
    NotAReference {
        /// Where it stands.
        key: &'static str,
    },
    /// A certificate or key set of a registration in JSON that is not there itself. A server opens no file because
    /// somebody far away names it.
    #[error("{key}: give the content itself; only a client's file may name another file")]
    NotInline {
        /// Where it stands.
        key: &'static str,
    },
    /// Not UTF-8.
    #[error("is not UTF-8 text")]
    NotText,
    /// A file that the registration names cannot be read.
    #[error("{key}: {} cannot be read: {kind}", path.display())]
    ReferenceUnreadable {
        /// Where it is named.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        kind: io::ErrorKind,
    },
    /// Larger than a registration can be.
    #[error("is larger than {} KiB", super::source::MAX_BYTES / 1024)]
    TooLarge,
    /// Not TOML, or a value of the wrong type; in the words of the parser.
    #[error("{0}")]
    Toml(String),
    /// A key that no registration has.
    #[error("{key}: there is no such key{}", meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default())]
    UnknownKey {
        /// As typed.
        key: String,
        /// What may have been meant.
        meant: Option<&'static str>,
    },
    /// A client of this name has no path in the admin API (RFC 3986 §5.2.4), so nobody could change or disable it.
    #[error("client_id: . and .. cannot be names: clients of HTTP resolve them in a path (RFC 3986 §5.2.4)")]
    Unreachable,
    /// The file or the folder cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// A member of another type, in JSON.
    #[error("{key}: should be {expected}")]
    WrongType {
        /// Which member.
        key: String,
        /// What belongs there.
        expected: &'static str,
    },
}

impl Complaint {
    /// The member that it is about, as `scope` or `certbind.trust`; none when it is about the whole.
    #[must_use]
    pub fn member(&self) -> Option<String> {
        let text = self.to_string();
        let (key, _) = text.split_once(':')?;
        let known = match key.strip_prefix("certbind.") {
            Some(ours) => names(&CERTBIND).any(|name| name == ours),
            None => names(&CLIENT).any(|name| name == key),
        };
        let typed = matches!(self, Self::UnknownKey { .. } | Self::WrongType { .. });
        (known || typed).then(|| key.to_owned())
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A line for each fault, whatever the name of the file has in it.
        let shown = self.path.display().to_string();
        shown
            .chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { f.write_char(c) })?;
        if let Some(Position { line, column }) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.complaint)
    }
}

impl std::error::Error for FileFault {}

/// Something that is allowed and hardly meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// Clients of `tls_client_auth` share one name in one trust group: a certificate of one is good for the others,
    /// and `client_id` alone tells them apart (RFC 8705 §2.1).
    SharedSubject {
        /// The trust group.
        trust: String,
        /// The name.
        subject: String,
        /// Their identifiers, sorted.
        clients: Vec<String>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::SharedSubject { trust, subject, clients } = self;
        let clients = clients.join(", ");
        write!(f, "the clients {clients} share the name {subject} in the trust group {trust} (RFC 8705 §2.1)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_one_line_whatever_the_file_is_called() {
        let position = Some(Position { line: 3, column: 1 });
        let fault = FileFault { path: "clients.d/a\nb\u{1b}.toml".into(), position, complaint: Complaint::NotText };
        assert_eq!(fault.to_string(), "clients.d/a\\nb\\u{1b}.toml:3:1: is not UTF-8 text");
    }
}
