//! Which credential serves while another one takes its place (RFC 8705 §6.3). Takes `now`; waits for nothing.
//!
//! A new credential becomes the current one together with its first token, in one step. Until then the old token is
//! handed out, with the old certificate. The old credential asks for no more tokens, unless the new one has just failed,
//! whatever for: a proxy that lets nobody in with the new certificate may look like a server that is away.

use std::sync::Arc;
use std::time::Duration;

use certbind_proto::entropy::Entropy;
use certbind_proto::time::Timestamp;
use tokio::sync::watch;

use crate::cache::{Advice, Failure, Key, Slot};
use crate::stumbles::Stumbles;
use crate::transport::Transport;
use crate::{AccessToken, Credential, Error};

/// What a request came to.
pub(crate) type Outcome = Result<Arc<AccessToken>, Error>;

/// A request under way; its outcome is for all who wait.
pub(crate) type Flight = watch::Receiver<Option<Outcome>>;

/// One snapshot of the credential and the connections that show it.
pub(crate) struct Active {
    pub(crate) credential: Credential,
    pub(crate) transport: Transport,
}

impl Active {
    /// Whether its certificate is over: then so is every token that is bound to it.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.credential.certificate().is_some_and(|certificate| certificate.not_after() <= now)
    }
}

/// The credential in use and, while it is being rotated, the one to follow it.
pub(crate) struct Rotation {
    current: Track,
    next: Option<Track>,
    /// When pauses were ended by hand.
    retried: Option<Timestamp>,
    stumbles: Stumbles,
}

/// One credential, its token, its request under way.
pub(crate) struct Track {
    pub(crate) active: Arc<Active>,
    flight: Option<Flight>,
    /// Whether a request with it has brought no token.
    has_failed: bool,
    /// Since when it is in use, or waits to be.
    pub(crate) since: Timestamp,
    slot: Slot,
}

/// Pauses are ended by hand once in this time, no more.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A request to be made now, and where its outcome is waited for once it has been settled.
pub(crate) struct Launch {
    pub(crate) active: Arc<Active>,
    pub(crate) landing: watch::Sender<Option<Outcome>>,
}

/// What somebody gets who wants a token.
pub(crate) enum Answer {
    Now(Outcome),
    Later(Flight),
    /// The new credential is tried. If nothing comes of it, the old one goes on: [`Rotation::step_after_trial`].
    Trial(Flight),
}

/// What the outcome of a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The credential in use.
    Current,
    /// A credential that was replaced meanwhile.
    Gone,
    /// The credential that is to follow; it has no token yet.
    Next,
    /// The credential that was to follow: it is in use from now on.
    Taken,
}

/// What became of a credential that is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Succession {
    /// It waits for its first token.
    Begun,
    /// It is the one in use; another one that waited does so no more.
    TakenBack,
    /// It is in use, or waits already.
    Unchanged,
}

impl Rotation {
    pub(crate) const fn new(active: Arc<Active>, key: Key, now: Timestamp) -> Self {
        Self {
            current: Track::new(active, Slot::new(key), now),
            next: None,
            retried: None,
            stumbles: Stumbles::new(now),
        }
    }

    pub(crate) const fn current(&self) -> &Track {
        &self.current
    }

    pub(crate) const fn next(&self) -> Option<&Track> {
        self.next.as_ref()
    }

    /// The credential for connections that carry no token: the one in use, or where no token is in use, the newest.
    pub(crate) fn shown(&self, now: Timestamp) -> &Credential {
        let serving = self.current.slot.token().is_some_and(|token| token.is_alive(now));
        let track = self.next.as_ref().filter(|_| !serving).unwrap_or(&self.current);
        &track.active.credential
    }

    /// What to do for somebody who wants a token with at least `min_left` of its life before it, and what to ask the server.
    pub(crate) fn step(&mut self, now: Timestamp, min_left: Duration) -> (Answer, Vec<Launch>) {
        self.retire(now);
        let mut launches = Vec::new();
        let Some(next) = &mut self.next else { return (self.current.step(now, min_left, &mut launches), launches) };
        let answer = match (self.current.slot.advise(now, min_left), next.slot.advise(now, min_left)) {
            (Advice::Use(token) | Advice::UseAndRenew(token), Advice::Fetch) => {
                next.take_off(&mut launches);
                Answer::Now(Ok(token))
            }
            (_, Advice::Fetch) => Answer::Trial(next.take_off(&mut launches)),
            // It has failed: the old one goes on, as if there were no other, and with pauses of its own.
            (_, Advice::Fail(_)) => self.current.step(now, min_left, &mut launches),
            (Advice::Use(token) | Advice::UseAndRenew(token), _) => Answer::Now(Ok(token)),
            (_, Advice::Use(token) | Advice::UseAndRenew(token)) => Answer::Now(Ok(token)),
        };
        (answer, launches)
    }

    /// The same for somebody who has waited for a [`Trial`](Answer::Trial) that came to nothing: the credential in use, even if
    /// the pause of the new one is over already.
    pub(crate) fn step_after_trial(&mut self, now: Timestamp, min_left: Duration) -> (Answer, Vec<Launch>) {
        self.retire(now);
        let mut launches = Vec::new();
        (self.current.step(now, min_left, &mut launches), launches)
    }

    /// The request for the first token of the credential to follow, if it is time for it, though nobody asks just now. Where
    /// no token is in use nobody needs one.
    pub(crate) fn pursue(&mut self, now: Timestamp) -> Vec<Launch> {
        self.retire(now);
        let mut launches = Vec::new();
        if let Some(next) = &mut self.next
            && self.current.slot.token().is_some_and(|token| token.is_alive(now))
            && matches!(next.slot.advise(now, Duration::ZERO), Advice::Fetch)
        {
            next.take_off(&mut launches);
        }
        launches
    }

    /// From now on another credential is to follow as soon as it has a token; one that was to follow before never will.
    /// The one in use, named again, stays.
    pub(crate) fn succeed(&mut self, active: Arc<Active>, key: Key, now: Timestamp) -> Succession {
        if self.current.active.credential.is_same(&active.credential) {
            return self.next.take().map_or(Succession::Unchanged, |_| Succession::TakenBack);
        }
        let before = self.next.as_ref().unwrap_or(&self.current);
        if before.active.credential.is_same(&active.credential) {
            return Succession::Unchanged;
        }
        let slot = before.slot.heir(key, self.stumbles.handed_down(now));
        self.next = Some(Track::new(active, slot, now));
        Succession::Begun
    }

    /// Goes on with another credential at once. The token in use stays only if it is good for that one too.
    pub(crate) fn replace(&mut self, active: Arc<Active>, key: Key, now: Timestamp) {
        self.next = None;
        self.current.active = active;
        self.current.flight = None;
        self.current.since = now;
        self.current.slot.rekey(key);
    }

    /// Ends the pauses of both credentials. `false` when that was done a moment ago already.
    pub(crate) fn retry_now(&mut self, now: Timestamp) -> bool {
        if self.retried.is_some_and(|at| at <= now && now < at.plus(RETRY_PAUSE)) {
            return false;
        }
        self.retried = Some(now);
        self.current.slot.end_pause(now);
        if let Some(next) = &mut self.next {
            next.slot.end_pause(now);
        }
        true
    }

    /// See [`Slot::reject`].
    pub(crate) fn reject(&mut self, token: &AccessToken, now: Timestamp) -> Result<(), Error> {
        self.current.slot.reject(token, now)
    }

    /// Takes in what a request with this credential came to.
    pub(crate) fn settle(
        &mut self,
        active: &Arc<Active>,
        outcome: &Outcome,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Settled {
        if let Some(mut next) = self.next.take_if(|next| Arc::ptr_eq(&next.active, active)) {
            next.settle(outcome, now, entropy);
            if outcome.is_err() {
                if let Some(failure) = next.failure().filter(|_| !next.has_failed) {
                    self.stumbles.note(failure, now);
                }
                next.has_failed = true;
                self.next = Some(next);
                return Settled::Next;
            }
            next.since = now;
            self.current = next;
            return Settled::Taken;
        }
        if !Arc::ptr_eq(&self.current.active, active) {
            return Settled::Gone;
        }
        self.current.settle(outcome, now, entropy);
        Settled::Current
    }

    /// A certificate that is over makes room at once, whatever becomes of its successor.
    fn retire(&mut self, now: Timestamp) {
        if self.current.active.is_over(now)
            && let Some(next) = self.next.take()
        {
            self.current = next;
            self.current.since = now;
        }
    }
}

impl Track {
    const fn new(active: Arc<Active>, slot: Slot, since: Timestamp) -> Self {
        Self { active, flight: None, has_failed: false, since, slot }
    }

    /// The token that it has, over or not.
    pub(crate) fn token(&self) -> Option<&Arc<AccessToken>> {
        self.slot.token()
    }

    /// Why its last request brought no token.
    pub(crate) const fn failure(&self) -> Option<&Failure> {
        self.slot.failure()
    }

    fn step(&mut self, now: Timestamp, min_left: Duration, launches: &mut Vec<Launch>) -> Answer {
        match self.slot.advise(now, min_left) {
            Advice::Fail(error) => Answer::Now(Err(error)),
            Advice::Fetch => Answer::Later(self.take_off(launches)),
            Advice::Use(token) => Answer::Now(Ok(token)),
            Advice::UseAndRenew(token) => {
                self.take_off(launches);
                Answer::Now(Ok(token))
            }
        }
    }

    /// The request under way, or a new one. One that was lost with its runtime is none.
    fn take_off(&mut self, launches: &mut Vec<Launch>) -> Flight {
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.has_changed().is_ok()) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        launches.push(Launch { active: self.active.clone(), landing });
        self.flight = Some(flight.clone());
        flight
    }

    fn settle(&mut self, outcome: &Outcome, now: Timestamp, entropy: &dyn Entropy) {
        self.flight = None;
        match outcome {
            Ok(token) => self.slot.succeeded(token.clone(), entropy),
            Err(error) => self.slot.failed(error.clone(), now, entropy),
        }
    }
}

#[cfg(test)]
mod tests;
