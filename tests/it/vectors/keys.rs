//! The keys and certificates of the vectors. **Published, and therefore nobody's**: they sign nothing but test cases.

use std::cell::RefCell;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use certbind_proto::jws::{Algorithm, SigningKey};
use certbind_proto::thumbprint::Thumbprint;
use serde_json::{Value, json};

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// The issuer, by its key for this algorithm; the `kid` is the algorithm's name in small letters.
    Of(Algorithm),
    /// Somebody else, who says the same `kid`.
    Stranger(Algorithm),
}

impl Key {
    /// What signs most cases: its signatures come out the same each time.
    pub(super) const USUAL: Self = Self::Of(Algorithm::EdDsa);

    pub(super) const fn algorithm(self) -> Algorithm {
        let (Self::Of(algorithm) | Self::Stranger(algorithm)) = self;
        algorithm
    }

    /// The identifier that its tokens say.
    pub(super) fn kid(self) -> String {
        self.algorithm().as_str().to_lowercase()
    }

    /// The public half as the issuer publishes it.
    pub(super) fn jwk(self) -> Value {
        self.secret().public_jwk(&self.kid()).to_json()
    }

    /// The private half.
    pub(super) fn secret(self) -> SigningKey {
        let pem = match self {
            Self::Of(Algorithm::EdDsa) => ED25519,
            Self::Of(Algorithm::Es256) => P256,
            Self::Of(Algorithm::Es384) => P384,
            Self::Of(Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Rs256) => RSA,
            Self::Stranger(Algorithm::EdDsa) => STRANGE_ED25519,
            Self::Stranger(_) => STRANGE_P256,
        };
        SigningKey::from_pkcs8_pem(pem, Some(self.algorithm())).unwrap()
    }
}

/// The set that the issuer publishes.
pub(super) fn issuer_keys() -> Value {
    json!({ "keys": Algorithm::ALL.map(|algorithm| Key::Of(algorithm).jwk()) })
}

/// Signatures of ES256 and PS256 come out anew each time. One that is in the files already, and holds, is used again: so the
/// files stay as they are until a case changes.
#[derive(Default)]
pub(super) struct Signatures(RefCell<BTreeMap<String, Vec<String>>>);

impl Signatures {
    /// Those of all tokens in these texts.
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a str>) -> Self {
        let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for word in files.flat_map(|text| text.split(['"', ' ', ','])) {
            if let Some((input, signature)) = word.rsplit_once('.').filter(|(input, _)| input.contains('.')) {
                known.entry(input.to_owned()).or_default().push(signature.to_owned());
            }
        }
        Self(RefCell::new(known))
    }

    /// The token of this header and payload.
    pub(super) fn sign(&self, key: Key, header: &[u8], payload: &[u8]) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let holds = |signature: &&String| {
            let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
            key.secret().public().verify(key.algorithm(), input.as_bytes(), &signature).is_ok()
        };
        let mut all = self.0.borrow_mut();
        let known = all.entry(input.clone()).or_default();
        let signature = known.iter().find(holds).cloned().unwrap_or_else(|| {
            let anew = URL_SAFE_NO_PAD.encode(key.secret().sign(input.as_bytes()).unwrap());
            known.push(anew.clone());
            anew
        });
        format!("{input}.{signature}")
    }
}

/// A client certificate, in base64 of its DER.
pub(super) type Certificate = &'static str;

/// Its thumbprint.
pub(super) fn thumbprint(certificate: &str) -> Thumbprint {
    Thumbprint::of_der(&STANDARD.decode(certificate).unwrap())
}

/// The certificate of the client that the tokens are for.
pub(super) const BILLING: Certificate = "\
    MIIBJTCB2KADAgECAgEBMAUGAytlcDASMRAwDgYDVQQDDAdiaWxsaW5nMB4XDTI2MTEyODE3MzM1OFoXDTM2MTEyNTE3MzM1OFowEjEQMA4GA1UEAw\
    wHYmlsbGluZzAqMAUGAytlcAMhAFa80DsQ/NvFU1tFKFfEtaSfowO52w4xSNPwQzxWUUDlo1MwUTAdBgNVHQ4EFgQUcLOde8UCeJ7bIQ02S6QsRilF\
    1iIwHwYDVR0jBBgwFoAUcLOde8UCeJ7bIQ02S6QsRilF1iIwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQAQVHzjswSNWFAerGegBDDpAOjkEYR09c\
    /w5MIpkQdJ2GxEkX/GU8+tP7tOPebqcXiB0oRMxdwBgUuzbXV1YSEJ";

/// Its next certificate: the same key and name (RFC 8705 §6.3).
pub(super) const RENEWED: Certificate = "\
    MIIBJTCB2KADAgECAgECMAUGAytlcDASMRAwDgYDVQQDDAdiaWxsaW5nMB4XDTI2MTEyODE3MzM1OFoXDTQ2MTEyMzE3MzM1OFowEjEQMA4GA1UEAw\
    wHYmlsbGluZzAqMAUGAytlcAMhAFa80DsQ/NvFU1tFKFfEtaSfowO52w4xSNPwQzxWUUDlo1MwUTAdBgNVHQ4EFgQUcLOde8UCeJ7bIQ02S6QsRilF\
    1iIwHwYDVR0jBBgwFoAUcLOde8UCeJ7bIQ02S6QsRilF1iIwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQDVipBuPpoy/z5lDlYOLOpu09mWZPQnH/\
    IRs4wEDA+X+7F3O8no7V2Fv5/n4O1Hzkm4Sdz6P48CJVEBqp3TOqkG";

/// The certificate of somebody else under the same name.
pub(super) const THIEF: Certificate = "\
    MIIBJTCB2KADAgECAgEBMAUGAytlcDASMRAwDgYDVQQDDAdiaWxsaW5nMB4XDTI2MTEyODE3MzM1OFoXDTM2MTEyNTE3MzM1OFowEjEQMA4GA1UEAw\
    wHYmlsbGluZzAqMAUGAytlcAMhAFe7deGXWzmYqzuobo2h6nCB5RZvFctGLcsQLVBYLGbEo1MwUTAdBgNVHQ4EFgQUXr2RJ0/MZ95Au8xA3ZEiPjGS\
    PdQwHwYDVR0jBBgwFoAUXr2RJ0/MZ95Au8xA3ZEiPjGSPdQwDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXADQQC8Bo+cH+YcQm4F7ze11RnSSmlBkSBbiM\
    W6ueHxePWcAhlkEDPKr8Ric51tXcrRK2aZsMMFwsNEyrZjWknJusUJ";

/// The one of RFC 8705 Appendix A.
pub(super) const APPENDIX_A: Certificate = "\
    MIIBBjCBrAIBAjAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARtdGxzMB4XDTE4MTAxODEyMzcwOVoXDTIyMDUwMjEyMzcwOVowDzENMAsGA1UEAwwEbX\
    RsczBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNcnyxwqV6hY8QnhxxzFQ03C7HKW9OylMbnQZjjJ/Au08/coZwxS7LfA4vOLS9WuneIXhbGGWvsD\
    Sb0tH6IxLm8wCgYIKoZIzj0EAwIDSQAwRgIhAP0RC1E+vwJD/D1AGHGzuri+hlV/PpQEKTWUVeORWz83AiEA5x2eXZOVbUlJSGQgjwD5vaUaKlLR50\
    Q2DmFfQj1L+SY=";

const ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIMfIk86lvI82gmbr23FlUUn8kby+HMUkWwcsA8rmsweY
-----END PRIVATE KEY-----
";

const P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgDNXNa6N9OjCQueed
xVEUFCcHmT3XYmaHdTtNCBxkxUOhRANCAARhyWHvctAXLOLR6Ypp4Af69kZ3+6ex
vfGmSrTJ5F9xo8/+j0tWQ6u826Ez/XjsAmSGaZrm/6SEfWJ5qsEpNxmk
-----END PRIVATE KEY-----
";

const P384: &str = "-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDC/M8/uHM9qdZY3skTf
dHkxfzTxka3rEPDyNqYPbZuDEBPwJSa/wFsevc6drjVSXN+hZANiAAQ210prxSaX
YjNfTdt7yveFi78QR+IFh7We+peORCQ3hY46SfPKzInXo947vz8KzdTY6FvxvVQ5
VVWSRmtKmi9hFeXtmigCKVjD/9WhsC1dCusz58joimvzPN7+w2l5nu4=
-----END PRIVATE KEY-----
";

const RSA: &str = "-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQDDQfzIWIXZETBs
dSWS8DAviBSFwTOVus3+xhGKOnUmdZd6S2DDhHGQuzo6i6ECw89AgPXjxZj+eEDb
tRakexvkZ0AqfDUOXVUR96Nfr8OiANP2mxEEwhgWjg/XzSnDbPs0zLp3x2b8lA5t
M3BV10a2XrbzNgBWk6j8G0M1fHN37wJweZ9ff/S9Wl35XzAfanuD0Y6gOIFWc/q5
gAAIgp6wkfGb2eK9xvnowwIlsmFTiiPFWam27o8qIHV4xQqHKylac3QNJJ/b86JO
siHFAL0b2nozw0TQElgUCb2bbKB73ktBjBMCuNcsBhnN4WhYGhJA9x7kbtDNVNFS
SJ3R7GBzAgMBAAECggEAHla3d03B5lt0YbXGE9G8OvZy8eF2KXKwJUETYp34q/Qj
iD4EF/0RRELDJmuhpfNU1Zn0GuMOBaQbt8eocAAs8k1UvAU2nTfFSxhmSyzdQePN
C4lGmK2r3n1OWuKm9ZWOZsLUyl2yU9aRc0hF0SC0/Qs0dA/U957T5/A4fiwLKPw1
olzLMV1+1GzZI0Gpv3LRZ+986rPoMqk678Az4PaPVAVia6I7f9qEqxV/nA8ONZKT
GROeuXlLoQm5Hn/jmCdlM1tKsNQoDBHUEElclgXSLaIMWTrsuqMP9RX1plHWuHQc
3KFI1tbiEtBt1rn/3ZNEEdB+xaD6sY0NPoZqzAsOKQKBgQDpj7qdr47aD2Epyv0X
+rXgUK733rhCvKbq+hKjx3vuI+/l1dojs0AD55OmlR04gwTVMbFXit/kv7oGcN2E
Nd5DnxaCPtk16DkxRr1VHaXwvc+t/n+nx4jxUKHvvQTPZhMR8S4bB8z7APoptHaz
wovinqLUpLnp6u0eKPy5iDNuNwKBgQDWBDUzXBui1ujMZqBQx+ZWMmIyV5dABPyp
Wm/CCpy+HD1TBQIoBfn2iuW7AdJElBCKSvwq7SGrPKL3fCBJzf6nKjFTWISPYTdC
CqkhpGcv72u2bgxhyh6XjmMvYSvU8weNQz2GvyuxSXp8pxwNg82l8M1MiJGFmsms
4xBgnljhpQKBgAq/mo73LVPLsWUC+nLIDuarz+GIVmJ73BKkP4dZ/tIOxVOGa+uI
rEGBvsHDyvx2yxokl0y4D2WvjRgOyaLz966U+6wyyDw626bw4nWwT5qsoYoYVDec
byjr1Qf7YuVIhUgmGUEVMtG6UcjpjSzonxdmxYeTrRqevRrOOBMxuWwxAoGBAKfz
v2hh5VJCg4k9FJywc6O7gHJvaMQV5c5lqYTG3UEYWkvXh1yva/29/RFoGYI2DFDr
DcAGPkDqoh3ELHafETRQmUsGEWmP6lSKlzZOlaf5pTcSX+cyPhXD6TSadlJ0sr16
QkOHrRtBRb2jSxGUGQQb2JEyL7mAwrpJq2WXfrr9AoGBAOHL6fsllYqPTTR1aKKS
ZbgojUiKfS+OuJLhdyLwE9MoUTkCwUeOmrwVWiXFoSJldraDa5zjrW/v0jZti219
NN+8IdOPwkzeOqlFTp2gy4veHE5EQ/7wGeUif2jUUn/7ckZgpNWyUvHXcCHGJA8y
fGzunZX8AXWEhz1AyAHqdVFU
-----END PRIVATE KEY-----
";

const STRANGE_ED25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIMoLwU5NNtHmtpJHS+3xgnTzB+lW9TErF3g/JEkXQTwd
-----END PRIVATE KEY-----
";

const STRANGE_P256: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgH1WjxMbCA91RvpVV
CJROm7gm4fvifj5zqvxyLWWpmfehRANCAAT1Wd3dHJojdPeBW7x02Y42bAaDxakW
ouu+7+BuXXIyuYu0xqfWQQtdTUsmEnErgjTdq8S77ylFGRiMVmVtXd5m
-----END PRIVATE KEY-----
";
