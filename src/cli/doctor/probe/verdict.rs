//! A header and the answers to it, to what became of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use certbind_devpki::Identity;
use certbind_proto::forwarded::Format;
use hyper::header::HeaderName;

use super::asked::{Answer, Line, Standing, Target, Told, all};
use crate::http::reply::{ANOTHER_HEADER, NOT_ACCEPTED};

/// RFC 9440 §2.3. Without its certificate it is refused whatever stands in it.
const CHAIN: &str = "client-cert-chain";

/// What became of a header, the worse behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// The answer is that to a request without it.
    NoEffect,
    /// Somebody before certbind refused the request for it.
    RefusedOnTheWay,
    /// It arrived, and certbind refused the request for it.
    Refused,
    /// It cannot be told.
    Unclear,
    /// certbind read it as the certificate of the client.
    Believed,
}

impl Verdict {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NoEffect => "no_effect",
            Self::Believed => "believed",
            Self::Refused => "refused",
            Self::RefusedOnTheWay => "refused_on_the_way",
            Self::Unclear => "unclear",
        }
    }

    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::NoEffect => "the proxy takes it off or replaces it, or nothing there reads it",
            Self::Believed => "IT ARRIVES where certbind believes it: any client passes for any other",
            Self::Refused => "it arrives, and certbind refuses the request",
            Self::RefusedOnTheWay => "the proxy refuses the request",
            Self::Unclear => "cannot be told: look for the reason of this request in the audit log",
        }
    }

    pub(super) const fn is_fine(self) -> bool {
        match self {
            Self::NoEffect | Self::Refused | Self::RefusedOnTheWay => true,
            Self::Believed | Self::Unclear => false,
        }
    }
}

/// What is known of who reads there.
pub(super) struct Judge<'p> {
    pub(super) target: &'p Target,
    /// What stands in the headers.
    pub(super) certificate: &'p Identity,
    /// How the guard's proxy writes a certificate.
    pub(super) certificate_from: Option<&'p str>,
    /// The headers that somebody named.
    pub(super) named: &'p [String],
}

/// The worst verdict over one line, and the answer that it comes from.
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) answer: Option<Answer>,
}

impl Judge<'_> {
    /// Asks with this header until it is known what becomes of it.
    pub(super) async fn judge(
        &self,
        line: &Line<'_>,
        standing: &Standing,
        header: &HeaderName,
    ) -> anyhow::Result<Judged> {
        let plain = match standing {
            Standing::Reached(plain) => plain,
            Standing::HandshakeRefused => return Ok(Judged { verdict: Verdict::RefusedOnTheWay, answer: None }),
            Standing::Unshown(_) => return Ok(Judged { verdict: Verdict::Unclear, answer: None }),
        };
        let whole = self.value_of(header);
        let answers = line.ask(Some((header, &format!("{whole}-probe-")))).await?;
        let judged = answers.into_iter().map(|answer| Judged {
            verdict: answer.as_ref().map_or(Verdict::Unclear, |answer| self.verdict(header, plain, &answer.told)),
            answer,
        });
        let worst = judged.max_by_key(|judged| judged.verdict);
        let mut worst = worst.unwrap_or(Judged { verdict: Verdict::Unclear, answer: None });
        let Some(told) = worst.answer.as_ref().map(|answer| &answer.told) else { return Ok(worst) };
        if worst.verdict == Verdict::Refused && self.target.is_the_guards(told) {
            // The header that the guard reads may be empty, and no other one.
            let empty = line.ask(Some((header, ""))).await?;
            if !all(&empty, |told| self.target.is_the_guards(told)) {
                worst.verdict = Verdict::Unclear;
            }
        } else if worst.verdict == Verdict::Unclear && self.may_be_refused_on_the_way(header, told) {
            // Was it the name that was refused, or that it is no certificate? certbind takes none for an empty one.
            let mut is_the_name = true;
            for value in [&whole, "x", ""] {
                is_the_name = is_the_name && all(&line.ask(Some((header, value))).await?, |other| other == told);
            }
            if is_the_name {
                worst.verdict = Verdict::RefusedOnTheWay;
            }
        }
        Ok(worst)
    }

    fn verdict(&self, header: &HeaderName, plain: &Told, told: &Told) -> Verdict {
        match told.description.as_str() {
            _ if told == plain => Verdict::NoEffect,
            NOT_ACCEPTED if told.error == "invalid_request" => Verdict::Believed,
            ANOTHER_HEADER if told.error == "invalid_request" => Verdict::Refused,
            _ if self.target.is_the_guards(told) => self.at_the_guard(header),
            _ => Verdict::Unclear,
        }
    }

    /// Its answer does not say which header it would have believed.
    fn at_the_guard(&self, header: &HeaderName) -> Verdict {
        match self.certificate_from {
            None => Verdict::Unclear,
            Some(_) if self.is_read(header.as_str()) => Verdict::Believed,
            Some(_) => Verdict::Refused,
        }
    }

    /// Whether the guard reads this header: the one that somebody named, in the place of the usual one where a format has no name of its own.
    fn is_read(&self, header: &str) -> bool {
        let format = self.format();
        let is_free = matches!(format, Some(Format::Haproxy | Format::Nginx));
        let is_usual = format.is_some_and(|format| format.header() == header) && (self.named.is_empty() || !is_free);
        let is_chain = format == Some(Format::Rfc9440) && header == CHAIN;
        is_usual || is_chain || self.named.iter().any(|named| named.eq_ignore_ascii_case(header))
    }

    fn may_be_refused_on_the_way(&self, header: &HeaderName, told: &Told) -> bool {
        told.status.is_client_error()
            && told.error.is_empty()
            && !self.target.is_the_guards(told)
            && header.as_str() != CHAIN
    }

    fn format(&self) -> Option<Format> {
        Format::named(self.certificate_from?)
    }

    /// How a certificate is written into this header, or would be into one that is alike.
    fn value_of(&self, header: &HeaderName) -> String {
        let base64 = STANDARD.encode(self.certificate.certificate());
        let pem = || {
            format!("-----BEGIN%20CERTIFICATE-----%0A{}%0A-----END%20CERTIFICATE-----%0A", base64.replace('+', "%2B"))
        };
        let name = header.as_str().replace('_', "-");
        let usual = Format::ALL.into_iter().find(|format| format.header() == name);
        match usual.or_else(|| self.format()) {
            Some(Format::Haproxy | Format::Traefik) => base64,
            Some(Format::Rfc9440) => format!(":{base64}:"),
            Some(Format::Xfcc) => format!("Cert=\"{}\"", pem()),
            Some(Format::Alb | Format::Nginx) | None => pem(),
        }
    }
}
