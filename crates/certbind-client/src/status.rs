//! How a source stands, for whoever shows it to people.

use std::fmt;
use std::sync::Arc;

use certbind_proto::time::Timestamp;

use crate::{ClientCertificate, CredentialFault, Error};

/// How a [`TokenSource`](crate::TokenSource) stands. Nothing in it is secret.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The certificate in use, if the credential in use has one.
    pub certificate: Option<ClientCertificate>,
    /// The files that are followed, if there are any.
    pub files: Option<FilesStatus>,
    /// The last request that brought no token, whatever has come after it.
    pub last_failure: Option<Failure>,
    /// When the credential in use is tried again, if the last request with it brought no token.
    pub retry_at: Option<Timestamp>,
    /// Since when this credential is in use.
    pub since: Timestamp,
    /// When the token in use is over, or when it was; `None` while there is none.
    pub token_expires: Option<Timestamp>,
    /// A newer credential that is not in use yet.
    pub waiting: Option<Waiting>,
}

/// A newer credential that is not in use yet, because there is no token for it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Waiting {
    /// Its certificate, if it has one.
    pub certificate: Option<ClientCertificate>,
    /// What the last request with it came to; `None` while the first one is under way, or waits for somebody to ask.
    pub failure: Option<Failure>,
    /// When it is tried again, after a failure.
    pub retry_at: Option<Timestamp>,
    /// When it was found.
    pub since: Timestamp,
}

/// A request that brought no token. The request id under which the server has logged it is
/// [`error.request_id()`](Error::request_id).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Failure {
    /// When it failed.
    pub at: Timestamp,
    /// Why.
    pub error: Error,
}

/// How the followed files stand.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilesStatus {
    /// Why they give no credential now; the last one that they gave is in force. `None` when all is well.
    pub fault: Option<FilesFault>,
    /// When the last look at them began that has ended; `None` before the first one has ended. There is a look a second: a time
    /// that is older than a few of them says that the file system does not answer, and the last credential goes on.
    pub looked: Option<Timestamp>,
}

/// Why files give no credential.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FilesFault {
    /// What is wrong with them.
    pub fault: Arc<CredentialFault>,
    /// Since when there has been something wrong with them.
    pub since: Timestamp,
}

impl fmt::Display for Waiting {
    /// Why it is not in use, in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            None => f.write_str("its first token is not there yet"),
            Some(Failure { error, .. }) => write!(f, "{error}"),
        }
    }
}
