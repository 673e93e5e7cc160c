//! How long a connection may wait for its peer: turns what happened when into going on, closing or cutting.
//!
//! Nothing here sleeps. Requests and reads only note the time; the connection's one timer asks for the verdict when it fires,
//! so that a request costs no change of timer.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The deadlines of a connection, and what it may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first byte to the end of the handshake.
    pub handshake: Duration,
    /// From the first byte of an HTTP/1.1 head to its end; also from the handshake to the first request.
    pub header: Duration,
    /// From an answer to the next request.
    pub idle: Duration,
    /// How long the peer may take none of the bytes that wait for it.
    pub write: Duration,
    /// After so long a connection ends between two requests, so that no certificate stays for ever.
    pub age: Duration,
    /// How long requests may take to finish once a connection or the server is to end.
    pub drain: Duration,
    /// The size of a request's head, in bytes.
    pub header_bytes: u32,
    /// Requests at the same time on one HTTP/2 connection.
    pub streams: u32,
    /// Requests that an HTTP/2 peer may give up (RST_STREAM) before the connection is cut: the attack called rapid reset.
    pub abandoned: u32,
}

impl Limits {
    /// The same for connections of proxies: they send what their clients sent with a certificate on top, ask much over one
    /// connection, and give up what their clients give up.
    #[must_use]
    pub const fn of_proxies(self) -> Self {
        Self { header_bytes: 64 * 1024, streams: 1000, abandoned: u32::MAX, ..self }
    }

    /// The shortest deadline that may begin at any moment: how often a connection has to look at its [`Pulse`].
    pub(super) fn soonest(&self) -> Duration {
        self.header.min(self.idle).min(self.write)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            write: Duration::from_secs(10),
            age: Duration::from_secs(3600),
            drain: Duration::from_secs(30),
            header_bytes: 16 * 1024,
            streams: 100,
            abandoned: 100,
        }
    }
}

/// What happened on a connection, in milliseconds since it began. Zero stands for "not now".
#[derive(Debug)]
pub(super) struct Pulse {
    began: Instant,
    in_flight: AtomicU32,
    first_request_came: AtomicBool,
    answered: AtomicU32,
    last_answer: AtomicU32,
    head_began: AtomicU32,
    write_stalled: AtomicU32,
    abandoned: AtomicU32,
    abandoned_limit: u32,
    closing: AtomicBool,
    /// Told when the peer has given up more requests than it may.
    pub(super) too_many_abandoned: Notify,
}

/// What to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Finish what is in flight, then close.
    Close,
    /// Close now.
    Cut,
    /// Ask again after so long.
    GoOn(Duration),
}

impl Pulse {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            began: Instant::now(),
            in_flight: AtomicU32::new(0),
            first_request_came: AtomicBool::new(false),
            answered: AtomicU32::new(0),
            last_answer: AtomicU32::new(0),
            head_began: AtomicU32::new(0),
            write_stalled: AtomicU32::new(0),
            abandoned: AtomicU32::new(0),
            abandoned_limit: limits.abandoned,
            closing: AtomicBool::new(false),
            too_many_abandoned: Notify::new(),
        }
    }

    /// How long the connection has lasted.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether no request is being answered.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// Whether there was a request yet.
    fn first_request_came(&self) -> bool {
        self.first_request_came.load(Ordering::Relaxed)
    }

    /// The next answer is to be the last.
    pub(super) fn close_after_next(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether [`Pulse::close_after_next`] was said.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// How many requests have ended; starts again at zero after four milliards.
    pub(super) fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Bytes of an HTTP/1.1 peer came.
    pub(super) fn bytes_came(&self) {
        if self.is_idle() && self.head_began.load(Ordering::Relaxed) == 0 {
            self.head_began.store(self.millis(), Ordering::Relaxed);
        }
    }

    /// The peer took bytes.
    pub(super) fn bytes_went(&self) {
        self.write_stalled.store(0, Ordering::Relaxed);
    }

    /// The peer takes no bytes.
    pub(super) fn write_stalled(&self) {
        let _ = self.write_stalled.compare_exchange(0, self.millis(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The head of a request is complete.
    pub(super) fn request_came(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.first_request_came.store(true, Ordering::Relaxed);
        self.head_began.store(0, Ordering::Relaxed);
    }

    /// A request is answered, or nobody waits for the answer any more.
    pub(super) fn request_ended(&self, end: RequestEnd) {
        self.last_answer.store(self.millis(), Ordering::Relaxed);
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if end == RequestEnd::Abandoned && self.abandoned.fetch_add(1, Ordering::Relaxed) >= self.abandoned_limit {
            self.too_many_abandoned.notify_one();
        }
    }

    /// What is to be done after `age`.
    pub(super) fn verdict(&self, limits: &Limits, age: Duration) -> Verdict {
        let cut_at = [
            self.deadline(&self.write_stalled, limits.write),
            self.deadline(&self.head_began, limits.header),
            (!self.first_request_came()).then_some(limits.header),
        ];
        let idle_since = Duration::from_millis(self.last_answer.load(Ordering::Relaxed).into());
        let close_at =
            limits.age.min(if self.is_idle() { idle_since.saturating_add(limits.idle) } else { Duration::MAX });

        let cut_at = cut_at.into_iter().flatten().min().unwrap_or(Duration::MAX);
        if cut_at <= age {
            return Verdict::Cut;
        }
        if close_at <= age {
            return Verdict::Close;
        }
        Verdict::GoOn((cut_at.min(close_at) - age).min(limits.soonest()))
    }

    fn deadline(&self, since: &AtomicU32, limit: Duration) -> Option<Duration> {
        let since = since.load(Ordering::Relaxed);
        (since != 0).then(|| Duration::from_millis(since.into()).saturating_add(limit))
    }

    /// Never zero, which stands for "not now".
    fn millis(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX).max(1)
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestEnd {
    Abandoned,
    Answered,
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(pulse: &Pulse, seconds: u32) -> Verdict {
        pulse.verdict(&Limits::default(), SECOND * seconds)
    }

    #[test]
    fn a_connection_without_a_request_is_cut_after_the_header_deadline() {
        let pulse = Pulse::new(&Limits::default());
        assert_eq!(after(&pulse, 9), Verdict::GoOn(SECOND));
        assert_eq!(after(&pulse, 10), Verdict::Cut);
    }

    #[test]
    fn a_request_in_flight_is_never_idle_and_an_answered_one_begins_the_idle_deadline() {
        let pulse = Pulse::new(&Limits::default());
        pulse.request_came();
        assert_eq!(after(&pulse, 3000), Verdict::GoOn(10 * SECOND));
        pulse.request_ended(RequestEnd::Answered);
        assert!(matches!(after(&pulse, 59), Verdict::GoOn(_)));
        assert_eq!(after(&pulse, 61), Verdict::Close);
    }

    #[test]
    fn a_head_that_began_must_end_whatever_else_comes() {
        let pulse = Pulse::new(&Limits::default());
        pulse.request_came();
        pulse.request_ended(RequestEnd::Answered);
        pulse.bytes_came();
        let began = pulse.head_began.load(Ordering::Relaxed);
        pulse.bytes_came();
        assert_eq!(pulse.head_began.load(Ordering::Relaxed), began);
        assert_eq!(after(&pulse, 11), Verdict::Cut);
        pulse.request_came();
        assert!(matches!(after(&pulse, 11), Verdict::GoOn(_)));
    }

    #[test]
    fn a_peer_that_takes_no_bytes_is_cut_and_one_that_takes_some_is_not() {
        let pulse = Pulse::new(&Limits::default());
        pulse.request_came();
        pulse.write_stalled();
        assert_eq!(after(&pulse, 11), Verdict::Cut);
        pulse.bytes_went();
        assert!(matches!(after(&pulse, 11), Verdict::GoOn(_)));
    }

    #[test]
    fn tls_live_a_no_connection_outlives_its_age() {
        let pulse = Pulse::new(&Limits::default());
        pulse.request_came();
        assert_eq!(after(&pulse, 3600), Verdict::Close);
    }

    #[tokio::test]
    async fn attack_56_too_many_abandoned_requests_are_reported() {
        let pulse = Pulse::new(&Limits { abandoned: 2, ..Limits::default() });
        for _ in 0..3 {
            pulse.request_came();
            pulse.request_ended(RequestEnd::Abandoned);
        }
        pulse.too_many_abandoned.notified().await;
    }
}
