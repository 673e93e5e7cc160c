//! Signing keys in a PKCS#11 token: a bounded number of threads, each with a session of its own, and a deadline for
//! whoever waits.
//!
//! A call of the module cannot be given up: a thread that is in one stays in it. So callers wait for an answer and not
//! for the thread; when all threads are stuck the queue fills, and callers are refused at once.

#![cfg(feature = "pkcs11")]

mod public;
mod session;

use std::collections::VecDeque;
use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use certbind_proto::jws::Algorithm;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::mint::signer::{KeyModule, ModuleFault, ModuleKey, ObjectId};
use crate::store::BoxFuture;

use session::{Library, Worker};

/// How many calls are in the module at once.
const SESSIONS: usize = 4;

/// How many calls may wait.
const MAX_WAITING: usize = 256;

/// How long a caller waits for its answer.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long the first look at the token may take: a module may have to reach its device first.
const FIRST_DEADLINE: Duration = Duration::from_secs(20);

/// How often a module that failed is tried while nobody asks.
const PROBE: Duration = Duration::from_secs(1);

/// Which keys these are, and how to get at them.
pub struct Settings {
    /// The library of the module. It is loaded into this process: whoever can write to it can do what certbind can.
    pub library: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The serial number of the token, where labels are not enough.
    pub serial: Option<String>,
    /// The label of the keys.
    pub object: String,
    /// The PIN of the token's user.
    pub pin: Zeroizing<String>,
}

/// Keys of one label in one token.
pub struct Pkcs11Keys {
    shared: Arc<Shared>,
}

/// What callers and threads share.
struct Shared {
    settings: Settings,
    library: Library,
    calls: Mutex<Calls>,
    called: Condvar,
    healthy: AtomicBool,
}

#[derive(Default)]
struct Calls {
    waiting: VecDeque<Call>,
    closed: bool,
}

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, ModuleFault>>;

/// What callers ask.
enum Call {
    Keys { reply: Reply<Vec<ModuleKey>> },
    Sign { id: ObjectId, algorithm: Algorithm, message: Vec<u8>, reply: Reply<Vec<u8>> },
}

impl Pkcs11Keys {
    /// Loads the module and starts the threads. The token is looked at when it is first asked.
    ///
    /// # Errors
    /// [`ModuleFault::Failed`] when the library is none, or no thread can be started.
    pub fn open(settings: Settings) -> Result<Self, ModuleFault> {
        let library = Library::load(&settings.library)?;
        let shared = Arc::new(Shared {
            settings,
            library,
            calls: Mutex::default(),
            called: Condvar::new(),
            healthy: AtomicBool::new(true),
        });
        for _ in 0..SESSIONS {
            let theirs = Arc::clone(&shared);
            let thread = thread::Builder::new().name("pkcs11".to_owned()).spawn(move || theirs.serve());
            thread.map_err(|error| ModuleFault::Failed(Arc::new(error)))?;
        }
        Ok(Self { shared })
    }

    fn ask<T: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl FnOnce(Reply<T>) -> Call,
    ) -> BoxFuture<'_, Result<T, ModuleFault>> {
        let (reply, answer) = oneshot::channel();
        let pushed = self.shared.push(call(reply));
        Box::pin(async move {
            pushed?;
            match timeout(deadline, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => {
                    self.shared.report(Some(&ModuleFault::Deadline));
                    Err(ModuleFault::Deadline)
                }
            }
        })
    }
}

impl KeyModule for Pkcs11Keys {
    fn keys(&self) -> BoxFuture<'_, Result<Vec<ModuleKey>, ModuleFault>> {
        self.ask(FIRST_DEADLINE, |reply| Call::Keys { reply })
    }

    fn sign(&self, id: &ObjectId, algorithm: Algorithm, message: &[u8]) -> BoxFuture<'_, Result<Vec<u8>, ModuleFault>> {
        let (id, message) = (id.clone(), message.to_vec());
        self.ask(DEADLINE, move |reply| Call::Sign { id, algorithm, message, reply })
    }

    fn is_healthy(&self) -> bool {
        self.shared.healthy.load(Ordering::Relaxed)
    }
}

/// The threads end when they are done with what they are in; nobody waits for a module that hangs.
impl Drop for Pkcs11Keys {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.called.notify_all();
    }
}

impl fmt::Debug for Pkcs11Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkcs11Keys").field("library", &self.shared.settings.library).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, call: Call) -> Result<(), ModuleFault> {
        let mut calls = self.lock();
        if calls.waiting.len() >= MAX_WAITING {
            return Err(ModuleFault::Busy);
        }
        calls.waiting.push_back(call);
        drop(calls);
        self.called.notify_one();
        Ok(())
    }

    /// The life of one thread.
    fn serve(&self) {
        let mut worker = Worker::new(&self.library, &self.settings);
        while let Some(call) = self.next() {
            match call {
                None => self.report(worker.probe().err().as_ref()),
                Some(call) if call.is_given_up() => {}
                Some(Call::Keys { reply }) => self.answer(reply, worker.keys()),
                Some(Call::Sign { id, algorithm, message, reply }) => {
                    self.answer(reply, worker.sign(&id, algorithm, &message));
                }
            }
        }
    }

    /// The next call; `Some(None)` when none came for a while and the module needs to be tried; `None` at the end.
    fn next(&self) -> Option<Option<Call>> {
        let mut calls = self.lock();
        loop {
            if calls.closed {
                return None;
            }
            if let Some(call) = calls.waiting.pop_front() {
                return Some(Some(call));
            }
            let waited = self.called.wait_timeout(calls, PROBE).unwrap_or_else(PoisonError::into_inner);
            calls = waited.0;
            if waited.1.timed_out() && !self.healthy.load(Ordering::Relaxed) {
                return Some(None);
            }
        }
    }

    fn answer<T>(&self, reply: Reply<T>, outcome: Result<T, ModuleFault>) {
        self.report(outcome.as_ref().err());
        let _ = reply.send(outcome);
    }

    /// Notes how a call went, and tells once when that changes.
    fn report(&self, fault: Option<&ModuleFault>) {
        let was_healthy = self.healthy.swap(fault.is_none(), Ordering::Relaxed);
        match fault {
            Some(fault) if was_healthy => {
                tracing::error!(
                    error = fault as &dyn Error,
                    "the security module fails; nothing is signed with its keys"
                );
            }
            None if !was_healthy => tracing::info!("the security module works again"),
            _ => {}
        }
    }
}

impl Call {
    fn is_given_up(&self) -> bool {
        match self {
            Self::Keys { reply } => reply.is_closed(),
            Self::Sign { reply, .. } => reply.is_closed(),
        }
    }
}
