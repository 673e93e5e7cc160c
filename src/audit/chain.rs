//! The hash chain: each line names the line that it follows, so that none is changed, taken out, put in or moved unseen.
//!
//! Why one chain for a file and not one for each process: `docs/decisions/0006-audit-chain.md`.

use std::fmt;
use std::io::Write as _;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use certbind_proto::entropy::Entropy;
use serde::Deserialize;

/// How many characters a hash has as text.
const HASH_TEXT: usize = 43;
/// How many characters a chain's id has.
const ID_TEXT: usize = 16;

/// SHA-256 over a line as it stands in the file, without the line end. Printed as base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LineHash([u8; digest::SHA256_OUTPUT_LEN]);

impl LineHash {
    /// Of these bytes.
    #[must_use]
    pub fn of(line: &[u8]) -> Self {
        Self::finish(&digest::digest(&digest::SHA256, line))
    }

    /// Of what was digested piece by piece.
    pub(super) fn finish(digest: &digest::Digest) -> Self {
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest.as_ref());
        Self(hash)
    }

    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut hash = [0; digest::SHA256_OUTPUT_LEN];
        let whole = URL_SAFE_NO_PAD.decode_slice(text, &mut hash) == Ok(digest::SHA256_OUTPUT_LEN);
        (text.len() == HASH_TEXT && whole).then_some(Self(hash))
    }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; HASH_TEXT];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.pad(std::str::from_utf8(&text[..written]).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineHash({self})")
    }
}

/// Where a chain stands: what the next line follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) chain: String,
    /// The number of the last line; none has been written at 0.
    pub(super) seq: u64,
    /// The hash of the last line. At 0: of the line of another chain, or of none, that stands before the first.
    pub(super) hash: Option<LineHash>,
}

impl Position {
    /// The beginning of a new chain, after this line.
    pub(super) fn new(entropy: &dyn Entropy, after: Option<LineHash>) -> Self {
        Self { chain: random_id(entropy), seq: 0, hash: after }
    }

    /// Appends an event to what is going to be written, as the next line of the chain.
    pub(super) fn append(&mut self, event: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let open = event.strip_suffix(b"}").unwrap_or(event);
        out.extend_from_slice(open);
        self.seq = self.seq.saturating_add(1);
        // A vector takes everything.
        let _ = write!(out, r#","chain":"{}","seq":{}"#, self.chain, self.seq);
        if let Some(hash) = self.hash {
            let _ = write!(out, r#","prev":"{hash}""#);
        }
        out.push(b'}');
        self.hash = Some(LineHash::of(&out[start..]));
        out.push(b'\n');
    }

    /// After so many lines, which are these.
    pub(super) fn after(mut self, lines: &[u8], count: usize) -> Self {
        if let Some(lines) = lines.strip_suffix(b"\n") {
            self.seq = self.seq.saturating_add(count as u64);
            self.hash = lines.rsplit(|byte| *byte == b'\n').next().map(LineHash::of);
        }
        self
    }

    /// The hash of the last line as text; whoever notes it can tell later whether it is still there.
    pub(super) fn head(&self) -> String {
        self.hash.map(|hash| hash.to_string()).unwrap_or_default()
    }
}

/// What the chain needs to know of a line.
#[derive(Debug, Deserialize)]
pub(super) struct Chained {
    pub(super) chain: String,
    pub(super) seq: u64,
    pub(super) prev: Option<String>,
    #[serde(default)]
    pub(super) ts: String,
    pub(super) event: Option<String>,
    pub(super) run: Option<String>,
    pub(super) lost: Option<u64>,
    pub(super) torn: Option<String>,
    pub(super) expired: Option<String>,
    pub(super) expired_seq: Option<u64>,
    pub(super) expired_head: Option<String>,
}

impl Chained {
    /// Reads a line; `None` when it is no line of a chain. Its id goes into our lines, so it has to be one of ours.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let chained: Self = serde_json::from_slice(line).ok()?;
        let is_id = chained.chain.len() == ID_TEXT && chained.chain.bytes().all(|b| b.is_ascii_hexdigit());
        is_id.then_some(chained)
    }
}

/// 64 random bits in hexadecimal.
pub(super) fn random_id(entropy: &dyn Entropy) -> String {
    let mut bytes = [0; 8];
    entropy.fill(&mut bytes);
    format!("{:016x}", u64::from_be_bytes(bytes))
}
