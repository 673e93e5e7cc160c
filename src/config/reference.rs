//! References: where a file or a secret is found. A configuration names secrets, it never holds them.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::origin::Environment;

/// The variable by which systemd names the folder of a unit's credentials (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where something is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// `cred:NAME`, a credential that systemd hands to the unit.
    Credential(String),
    /// `env:NAME`, the value of an environment variable.
    Environment(String),
    /// `file:PATH`; the path is absolute here or starts at the folder of the configuration file.
    File(PathBuf),
}

/// Why a text is not a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceFault {
    /// `cred:` without a name, or with a path.
    #[error("`cred:` is followed by the name of a systemd credential, without a path")]
    CredentialName,
    /// `env:` without the name of a variable.
    #[error("`env:` is followed by the name of an environment variable")]
    EnvironmentName,
    /// `file:` without a path.
    #[error("`file:` is followed by a path")]
    FilePath,
    /// `pkcs11:`
    #[error("names a key in a PKCS#11 token, which comes with a later version; use `file:`, `env:` or `cred:`")]
    Pkcs11,
    /// None of the known beginnings. The text is not repeated: it may be a secret that was pasted.
    #[error(
        "is not a reference; write `file:`, `env:` or `cred:` before it, as in \"file:/etc/certbind/tls/server.pem\""
    )]
    Scheme,
}

/// Why what a reference names cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadFault {
    /// There is nothing in it.
    #[error("{0} is empty")]
    Empty(String),
    /// There is no such file, folder, variable or credential.
    #[error("{0} does not exist")]
    Missing(String),
    /// `cred:` outside a systemd unit.
    #[error(
        "there are no credentials: CREDENTIALS_DIRECTORY is not set, as it is in a systemd unit with LoadCredential="
    )]
    NoCredentials,
    /// A folder, a pipe or a device.
    #[error("{0} is not a file")]
    NotAFile(String),
    /// A private key that other users can look into or change.
    #[error(
        "{path} is for a private key and has the mode {mode:04o}, so that others can read or change it; `chmod 0640` or narrower"
    )]
    OpenToOthers {
        /// What was looked at.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// More bytes than are looked at.
    #[error("{path} has more than {limit} bytes")]
    TooLong {
        /// What was looked at.
        path: String,
        /// How many would be fine.
        limit: u64,
    },
    /// The system says no.
    #[error("{path} cannot be read: {kind}")]
    Unreadable {
        /// What was looked at.
        path: String,
        /// What the system says.
        kind: ErrorKind,
    },
}

impl Reference {
    /// A reference; a relative path starts at `folder`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, ReferenceFault> {
        let Some((scheme, rest)) = text.split_once(':') else { return Err(ReferenceFault::Scheme) };
        match scheme {
            "cred" if is_credential_name(rest) => Ok(Self::Credential(rest.to_owned())),
            "cred" => Err(ReferenceFault::CredentialName),
            "env" if is_variable_name(rest) => Ok(Self::Environment(rest.to_owned())),
            "env" => Err(ReferenceFault::EnvironmentName),
            "file" if rest.trim().is_empty() || rest.contains('\0') => Err(ReferenceFault::FilePath),
            "file" => Ok(Self::File(folder.join(rest))),
            "pkcs11" => Err(ReferenceFault::Pkcs11),
            _ => Err(ReferenceFault::Scheme),
        }
    }

    /// What stands there, up to `limit` bytes.
    ///
    /// # Errors
    /// Why it cannot be had; nothing there is a fault as well.
    pub fn read(&self, limit: u64, environment: &Environment) -> Result<Zeroizing<Vec<u8>>, ReadFault> {
        self.read_if(limit, environment, |_, _| Ok(()))
    }

    /// As [`Self::read`], for private keys: a file that others can read, or that its group can write, is refused.
    /// Its group may read it, as groups like `ssl-cert` and the `fsGroup` of Kubernetes do.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub fn read_private(&self, limit: u64, environment: &Environment) -> Result<Zeroizing<Vec<u8>>, ReadFault> {
        const OTHERS_OR_GROUP_WRITES: u32 = 0o027;
        self.read_if(limit, environment, |path, mode| {
            if mode & OTHERS_OR_GROUP_WRITES == 0 {
                return Ok(());
            }
            Err(ReadFault::OpenToOthers { path: path.display().to_string(), mode })
        })
    }

    /// The file behind it, if there is one: what to watch for changes.
    #[must_use]
    pub fn file(&self, environment: &Environment) -> Option<PathBuf> {
        match self {
            Self::Credential(name) => Some(Path::new(environment.get(CREDENTIALS_DIRECTORY)?).join(name)),
            Self::Environment(_) => None,
            Self::File(path) => Some(path.clone()),
        }
    }

    fn read_if(
        &self,
        limit: u64,
        environment: &Environment,
        allowed: impl Fn(&Path, u32) -> Result<(), ReadFault>,
    ) -> Result<Zeroizing<Vec<u8>>, ReadFault> {
        if let Self::Environment(name) = self {
            let value = environment.get(name).ok_or_else(|| ReadFault::Missing(self.to_string()))?;
            return bounded(value.as_bytes(), limit, &self.to_string());
        }
        let path = self.file(environment).ok_or(ReadFault::NoCredentials)?;
        read_file(&path, limit, |mode| allowed(&path, mode))
    }
}

/// `file:/etc/…`, `env:NAME`, `cred:NAME`: the way to a secret, never the secret.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "cred:{name}"),
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// A regular file, not longer than `limit` and not empty, whose permission bits are `allowed`.
/// What it is gets asked before it is opened, as opening a pipe would wait for somebody to write.
pub(super) fn read_file(
    path: &Path,
    limit: u64,
    allowed: impl Fn(u32) -> Result<(), ReadFault>,
) -> Result<Zeroizing<Vec<u8>>, ReadFault> {
    let shown = path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|error| unreadable(&shown, &error))?;
    if !metadata.is_file() {
        return Err(ReadFault::NotAFile(shown));
    }
    let file = File::open(path).map_err(|error| unreadable(&shown, &error))?;
    let mode = file.metadata().map_err(|error| unreadable(&shown, &error))?.permissions().mode() & 0o7777;
    allowed(mode)?;
    bounded(file, limit, &shown)
}

fn bounded(from: impl Read, limit: u64, shown: &str) -> Result<Zeroizing<Vec<u8>>, ReadFault> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(shown, &error))?;
    if bytes.len() as u64 > limit {
        return Err(ReadFault::TooLong { path: shown.to_owned(), limit });
    }
    if bytes.is_empty() {
        return Err(ReadFault::Empty(shown.to_owned()));
    }
    Ok(bytes)
}

fn unreadable(shown: &str, error: &io::Error) -> ReadFault {
    match error.kind() {
        ErrorKind::NotFound => ReadFault::Missing(shown.to_owned()),
        kind => ReadFault::Unreadable { path: shown.to_owned(), kind },
    }
}

fn is_credential_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains(['/', '\0'])
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;

    use super::*;

    fn parse(text: &str) -> Result<Reference, ReferenceFault> {
        Reference::parse(text, Path::new("/etc/certbind"))
    }

    #[test]
    fn a_reference_says_where_and_never_what() {
        for (text, expected) in [
            ("file:/run/tls.pem", Ok("file:/run/tls.pem")),
            ("file:tls/server.pem", Ok("file:/etc/certbind/tls/server.pem")),
            ("env:TLS_KEY", Ok("env:TLS_KEY")),
            ("cred:tls.key", Ok("cred:tls.key")),
            ("file:", Err(ReferenceFault::FilePath)),
            ("env:", Err(ReferenceFault::EnvironmentName)),
            ("env:A=B", Err(ReferenceFault::EnvironmentName)),
            ("env:1A", Err(ReferenceFault::EnvironmentName)),
            ("cred:", Err(ReferenceFault::CredentialName)),
            ("cred:../../etc/shadow", Err(ReferenceFault::CredentialName)),
            ("cred:..", Err(ReferenceFault::CredentialName)),
            ("pkcs11:token=x", Err(ReferenceFault::Pkcs11)),
            ("/run/tls.pem", Err(ReferenceFault::Scheme)),
            ("https://a/key.pem", Err(ReferenceFault::Scheme)),
            ("-----BEGIN PRIVATE KEY-----", Err(ReferenceFault::Scheme)),
            ("", Err(ReferenceFault::Scheme)),
        ] {
            assert_eq!(parse(text).map(|r| r.to_string()), expected.map(str::to_owned), "{text:?}");
        }
    }

    #[test]
    fn a_reference_reads_from_file_environment_and_credentials() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("key"), "from a file").expect("written");
        let shown = folder.path().to_str().expect("UTF-8");
        let environment = Environment::from([("KEY", "from a variable"), ("NONE", ""), (CREDENTIALS_DIRECTORY, shown)]);
        let read = |text: &str| {
            let reference = Reference::parse(text, folder.path()).expect("good");
            reference.read(15, &environment).map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
        };
        assert_eq!(read("file:key"), Ok("from a file".to_owned()));
        assert_eq!(read("cred:key"), Ok("from a file".to_owned()));
        assert_eq!(read("env:KEY"), Ok("from a variable".to_owned()));
        assert_eq!(read("env:OTHER"), Err(ReadFault::Missing("env:OTHER".to_owned())));
        assert_eq!(read("env:NONE"), Err(ReadFault::Empty("env:NONE".to_owned())));
        let no_unit = parse("cred:key").expect("good").read(1, &Environment::default());
        assert_eq!(no_unit, Err(ReadFault::NoCredentials));
    }

    #[test]
    fn attack_41_what_is_no_readable_file_is_a_fault_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let shown = |name: &str| path(name).display().to_string();
        fs::write(path("empty"), "").expect("written");
        fs::write(path("long"), "0123456789").expect("written");
        symlink(path("loop"), path("loop")).expect("linked");
        let read = |name: &str| {
            Reference::File(path(name)).read(9, &Environment::default()).map(|_| ()).expect_err("no such thing is read")
        };
        assert_eq!(read("gone"), ReadFault::Missing(shown("gone")));
        assert_eq!(read("empty"), ReadFault::Empty(shown("empty")));
        assert_eq!(read("long"), ReadFault::TooLong { path: shown("long"), limit: 9 });
        assert_eq!(read("."), ReadFault::NotAFile(shown(".")));
        assert!(matches!(read("loop"), ReadFault::Unreadable { .. }));
        assert!(matches!(read("long/x"), ReadFault::Unreadable { kind: ErrorKind::NotADirectory, .. }));
    }

    #[test]
    fn fault_26_a_private_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        fs::write(&path, "key").expect("written");
        for (mode, fine) in
            [(0o600, true), (0o400, true), (0o640, true), (0o440, true), (0o644, false), (0o604, false), (0o660, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
            let read = Reference::File(path.clone()).read_private(9, &Environment::default()).map(|_| ());
            let refused = ReadFault::OpenToOthers { path: path.display().to_string(), mode };
            assert_eq!(read, if fine { Ok(()) } else { Err(refused) }, "{mode:o}");
        }
    }
}
