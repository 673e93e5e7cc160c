//! The answer to whoever may go on only once a line is written down.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The line is not known to be written down, so what it tells of must not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written, and log.audit_required is set")]
pub struct AuditUnavailable;

impl AuditUnavailable {
    /// The stable name for audit and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        "audit_unavailable"
    }
}

/// Comes true when the line is written down, if it has to be; at once otherwise.
#[derive(Debug)]
#[must_use = "the line may not be on disk before this is awaited"]
pub struct Receipt(());

impl Receipt {
    /// Nothing to wait for.
    pub const fn written() -> Self {
        Self(())
    }
}

impl Future for Receipt {
    type Output = Result<(), AuditUnavailable>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(()))
    }
}
