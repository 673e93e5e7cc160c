//! The answer to whoever may go on only once a line is on disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// How long a line may take to get to disk. Together with the deadline of the store it is the two seconds that a peer
/// waits for a refusal at the most.
const DEADLINE: Duration = Duration::from_millis(500);

/// The line is not known to be on disk, so what it tells of must not happen.
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

/// Comes true when the line is on disk, if it has to be; at once otherwise.
#[must_use = "the line may not be on disk before this is awaited"]
pub struct Receipt(State);

enum State {
    Settled(Result<(), AuditUnavailable>),
    Waiting { answer: oneshot::Receiver<Result<(), AuditUnavailable>>, withdrawn: Arc<AtomicBool>, deadline: Deadline },
}

/// A timer needs a runtime, so it starts with the wait.
type Deadline = Option<Pin<Box<Sleep>>>;

/// The other end of a receipt: somebody wants to know that the line is on disk.
pub(super) struct Wanted {
    answer: oneshot::Sender<Result<(), AuditUnavailable>>,
    withdrawn: Arc<AtomicBool>,
}

impl Wanted {
    /// Whether it was waited for too long: what the line tells of has not happened.
    pub(super) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    pub(super) fn settle(self, outcome: Result<(), AuditUnavailable>) {
        let _ = self.answer.send(outcome);
    }
}

impl Receipt {
    /// Nothing to wait for.
    pub const fn written() -> Self {
        Self(State::Settled(Ok(())))
    }

    /// Nothing to hope for.
    pub const fn unavailable() -> Self {
        Self(State::Settled(Err(AuditUnavailable)))
    }

    /// A receipt, and what it waits for.
    pub(super) fn awaited() -> (Self, Wanted) {
        let ((sender, receiver), withdrawn) = (oneshot::channel(), Arc::<AtomicBool>::default());
        let wanted = Wanted { answer: sender, withdrawn: Arc::clone(&withdrawn) };
        (Self(State::Waiting { answer: receiver, withdrawn, deadline: None }), wanted)
    }
}

impl Future for Receipt {
    type Output = Result<(), AuditUnavailable>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Settled(outcome) => Poll::Ready(*outcome),
            State::Waiting { answer, withdrawn, deadline } => {
                if let Poll::Ready(answer) = Pin::new(answer).poll(context) {
                    return Poll::Ready(answer.unwrap_or(Err(AuditUnavailable)));
                }
                let deadline = deadline.get_or_insert_with(|| Box::pin(sleep(DEADLINE)));
                deadline.as_mut().poll(context).map(|()| {
                    withdrawn.store(true, Ordering::Release);
                    Err(AuditUnavailable)
                })
            }
        }
    }
}
