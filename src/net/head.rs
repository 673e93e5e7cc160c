//! The head of an HTTP/1.1 request, looked at before hyper parses it (RFC 9112 §2.2, §3.2, §6).
//!
//! hyper forgives what a proxy in front of it may read differently: lines that end in a bare LF, `Content-Length` next to
//! `Transfer-Encoding`, a length said twice. Each of them is a way to smuggle a request past that proxy. The watch spoils such a head,
//! so that the parser answers 400 and closes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::header::{HOST, TRANSFER_ENCODING};
use hyper::{Request, Version};
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::deadline::Pulse;

/// A stream that notes when bytes come and go, and watches the heads of HTTP/1.1.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    pulse: Arc<Pulse>,
    head: Option<HeadWatch>,
}

impl<T> Watched<T> {
    pub(super) fn http1(inner: T, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, head: Some(HeadWatch::default()) }
    }

    pub(super) const fn http2(inner: T, pulse: Arc<Pulse>) -> Self {
        Self { inner, pulse, head: None }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buf);
        let Self { pulse, head: Some(head), .. } = &mut *self else { return outcome };
        let new = &mut buf.filled_mut()[before..];
        if !new.is_empty() {
            head.watch(new, pulse.answered());
            pulse.bytes_came();
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> Watched<T> {
    fn note<R>(&self, outcome: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        match &outcome {
            Poll::Pending => self.pulse.write_stalled(),
            Poll::Ready(_) => self.pulse.bytes_went(),
        }
        outcome
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.note(outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Whether hyper's parser took a request that RFC 9112 refuses: without exactly one `Host` (§3.2), or with a transfer coding
/// other than `chunked` alone (§6.1, where the server may refuse what it does not know).
pub(super) fn is_malformed<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let coding_unknown = || {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    };
    request.version() == Version::HTTP_11 && (headers.get_all(HOST).iter().count() != 1 || coding_unknown())
}

/// Looks at heads line by line, however they are cut into reads.
///
/// After a head it looks at nothing until the request is answered: what comes is a body. A peer that sends its next request before it
/// has the answer (pipelining, which proxies do not do) is not watched.
#[derive(Debug, Default)]
struct HeadWatch {
    /// The head is over; how many requests were answered by then.
    ended_after: Option<u32>,
    /// The beginning of the present line in lower case: as much as tells apart the fields that matter.
    line: [u8; TRANSFER_ENCODING_LINE.len()],
    line_length: usize,
    last_byte: u8,
    /// Lines that were not empty.
    lines: usize,
    /// Lines that say how long the body is.
    framing_lines: usize,
}

const CONTENT_LENGTH_LINE: &[u8] = b"content-length:";
const TRANSFER_ENCODING_LINE: &[u8] = b"transfer-encoding:";

/// No parser takes it in a head (RFC 9110 §5.5).
const SPOILT: u8 = 0;

impl HeadWatch {
    /// Looks at bytes that just came, with so many requests answered so far.
    fn watch(&mut self, bytes: &mut [u8], answered: u32) {
        if self.ended_after.is_some_and(|then| then != answered) {
            *self = Self::default();
        }
        let mut rest = bytes;
        while self.ended_after.is_none() {
            let (text, end) = rest.split_at_mut(memchr(b'\n', rest).unwrap_or(rest.len()));
            self.extend_line(text);
            let Some((line_feed, behind)) = end.split_first_mut() else { return };
            match () {
                () if self.last_byte != b'\r' => *line_feed = SPOILT,
                () if self.line_length > 1 => self.end_line(),
                () if self.lines > 0 => {
                    self.ended_after = Some(answered);
                    if self.framing_lines > 1 {
                        *line_feed = SPOILT;
                    }
                }
                () => self.line_length = 0,
            }
            self.last_byte = *line_feed;
            rest = behind;
        }
    }

    fn extend_line(&mut self, text: &[u8]) {
        let free = self.line.get_mut(self.line_length..).unwrap_or_default();
        free.iter_mut().zip(text).for_each(|(place, byte)| *place = byte.to_ascii_lowercase());
        self.line_length += text.len();
        self.last_byte = text.last().copied().unwrap_or(self.last_byte);
    }

    fn end_line(&mut self) {
        let start = &self.line[..self.line_length.min(self.line.len())];
        if start.starts_with(CONTENT_LENGTH_LINE) || start.starts_with(TRANSFER_ENCODING_LINE) {
            self.framing_lines += 1;
        }
        self.lines += 1;
        self.line_length = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na\nb";

    /// What the parser gets to see when the bytes come in pieces of this size.
    fn seen(text: &str, piece: usize) -> Vec<u8> {
        let mut watch = HeadWatch::default();
        let mut bytes = text.as_bytes().to_vec();
        bytes.chunks_mut(piece).for_each(|piece| watch.watch(piece, 0));
        bytes
    }

    #[test]
    fn rfc9112_a_good_head_passes_unchanged_and_a_body_is_not_looked_at() {
        for piece in 1..GOOD.len() {
            assert_eq!(seen(GOOD, piece), GOOD.as_bytes());
        }
    }

    #[test]
    fn rfc9112_2_2_and_6_ambiguous_heads_are_spoilt() {
        for (good, spoilt) in [
            ("1.1\r\n", "1.1\n"),
            ("Host: a\r\n", "Host: a\n"),
            ("3\r\n\r\n", "3\r\n\n"),
            ("Host: a\r\n", "Transfer-Encoding: chunked\r\n"),
            ("Host: a\r\n", "content-LENGTH:3\r\n"),
            ("POST", "\nPOST"),
        ] {
            let text = GOOD.replace(good, spoilt);
            for piece in 1..text.len() {
                assert!(seen(&text, piece).contains(&SPOILT), "{text:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn the_next_head_is_looked_at_once_the_request_is_answered() {
        let mut watch = HeadWatch::default();
        watch.watch(&mut GOOD.as_bytes().to_vec(), 0);
        let mut next = GOOD.replace("\r\n", "\n").into_bytes();
        watch.watch(&mut next, 0);
        assert!(!next.contains(&SPOILT), "still the body of the first");
        watch.watch(&mut next, 1);
        assert!(next.contains(&SPOILT));
    }

    #[test]
    fn rfc9112_3_2_exactly_one_host() {
        let with = |hosts: &[&str]| {
            let request = hosts.iter().fold(Request::builder(), |request, host| request.header(HOST, *host));
            is_malformed(&request.body(()).unwrap())
        };
        assert!(!with(&["a"]));
        assert!(with(&[]));
        assert!(with(&["a", "a"]));
    }

    proptest! {
        #[test]
        fn the_cut_into_reads_changes_nothing(text in "[a\r\n:]{0,40}", piece in 1usize..8) {
            prop_assert_eq!(seen(&text, piece), seen(&text, 64));
        }
    }
}
