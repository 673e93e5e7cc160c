//! Each format as its proxy writes it, and each way to write it otherwise.

use std::fmt::Write as _;
use std::sync::LazyLock;

use certbind_devpki::{Identity, Issuer, LeafSpec, Validity};
use proptest::prelude::*;

use super::*;

const VALIDITY: Validity = Validity::days_from(1_795_305_600, 30);

static ROOT: LazyLock<Issuer> = LazyLock::new(|| Issuer::root("root", VALIDITY).unwrap());
static CLIENT: LazyLock<Identity> = LazyLock::new(|| ROOT.leaf(&LeafSpec::client("billing", VALIDITY)).unwrap());

fn der() -> Vec<u8> {
    CLIENT.certificate().to_vec()
}

fn base64(der: &[u8]) -> String {
    STANDARD.encode(der)
}

fn pem(der: &[u8]) -> String {
    let lines: Vec<String> =
        base64(der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// Everything but letters, digits and `kept`, as the proxies do it.
fn escape(text: &str, kept: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c.is_ascii_alphanumeric() || kept.contains(c) {
            true => escaped.push(c),
            false => write!(escaped, "%{:02X}", u32::from(c)).unwrap(),
        }
        escaped
    })
}

fn nginx(der: &[u8]) -> String {
    escape(&pem(der), "-_.~")
}

fn hex(thumbprint: &Thumbprint) -> String {
    thumbprint.as_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn read(format: Format, headers: &[(&str, &str)]) -> Result<Option<Forwarded>, ForwardedFault> {
    Forwarding::new(format).read(headers.iter().map(|(name, value)| (*name, value.as_bytes())))
}

/// The one header of this format with this value.
fn fault(format: Format, value: &str) -> Option<ForwardedFault> {
    read(format, &[(format.header(), value)]).err()
}

#[test]
fn rfc9440_2_each_format_gives_the_certificate_that_was_shown() {
    let (own, root) = (der(), ROOT.certificate().to_vec());
    let thumbprint = Thumbprint::of_der(&own);
    let both = pem(&own) + &pem(&root);
    for (format, value, chain) in [
        (Format::Rfc9440, format!(":{}:", base64(&own)), 1),
        (Format::Nginx, nginx(&own), 1),
        (Format::Haproxy, base64(&own), 1),
        (Format::Traefik, base64(&own), 1),
        (Format::Traefik, format!("{},{}", base64(&own), base64(&root)), 2),
        (Format::Alb, escape(&both, "-+=/"), 2),
        (Format::Xfcc, format!("By=spiffe://a;Cert=\"{}\"", escape(&pem(&own), "-")), 1),
        (
            Format::Xfcc,
            format!("Hash={};Chain=\"{}\";Subject=\"CN=a,O=\\\"b;c\\\"\"", hex(&thumbprint), escape(&both, "-")),
            2,
        ),
    ] {
        let forwarded = read(format, &[("Accept", "*/*"), (format.header(), &value)]).unwrap();
        let Some(Forwarded::Certificate(certificate)) = forwarded else { panic!("{format:?}: {forwarded:?}") };
        assert_eq!((*certificate.thumbprint(), certificate.chain().len()), (thumbprint, chain), "{format:?}");
        assert_eq!(certificate.leaf().unwrap().der().as_ref(), own, "{format:?}");
    }
    let value = format!("hash={};URI=spiffe://a;DNS=b;DNS=c", hex(&thumbprint).to_uppercase());
    let forwarded = read(Format::Xfcc, &[("X-Forwarded-Client-Cert", &value)]).unwrap();
    assert!(matches!(forwarded, Some(Forwarded::Hash(hash)) if hash == thumbprint), "{forwarded:?}");
}

#[test]
fn rfc9440_2_3_the_chain_comes_in_its_own_header_and_never_alone() {
    let (leaf, root) = (format!(":{}:", base64(&der())), format!(":{}:", base64(ROOT.certificate())));
    let two = format!("{root}, {root}");
    let headers = [("client-cert-chain", two.as_str()), ("Client-Cert", &leaf), ("Client-Cert-Chain", &root)];
    let Ok(Some(Forwarded::Certificate(certificate))) = read(Format::Rfc9440, &headers) else {
        panic!("a certificate")
    };
    assert_eq!(certificate.chain().len(), 4);
    assert_eq!(certificate.chain()[0].as_ref(), der(), "the leaf is the one of Client-Cert");
    let alone = read(Format::Rfc9440, &[("Client-Cert-Chain", &root)]);
    assert_eq!(alone.err(), Some(ForwardedFault::ChainAlone));
    let long = [root.as_str(); 6].join(",");
    let outcome = read(Format::Rfc9440, &[("Client-Cert", &leaf), ("Client-Cert-Chain", &long)]);
    assert_eq!(outcome.err(), Some(ForwardedFault::TooLong));
}

#[test]
fn rfc9440_2_1_what_is_not_one_certificate_in_this_format_is_refused() {
    use ForwardedFault::{HashOther, Malformed, Several, TooLong};
    let (own, other) = (der(), ROOT.certificate().to_vec());
    let (b64, escaped) = (base64(&own), nginx(&own));
    let hash = hex(&Thumbprint::of_der(&own));
    let long = "A".repeat(100_000);
    for (format, value, expected) in [
        (Format::Rfc9440, b64.clone(), Malformed),
        (Format::Rfc9440, pem(&own).replace('\n', " "), Malformed),
        (Format::Rfc9440, format!(":{b64}"), Malformed),
        (Format::Rfc9440, format!(":{}:", b64.trim_end_matches('=').to_owned() + "!"), Malformed),
        (Format::Rfc9440, format!(":{b64}:;a=1"), Malformed),
        (Format::Rfc9440, format!(":{b64}:, :{b64}:"), Several),
        (Format::Rfc9440, "::".into(), Malformed),
        (Format::Rfc9440, format!(":{long}:"), TooLong),
        (Format::Nginx, b64.clone(), Malformed),
        (Format::Nginx, pem(&own), Malformed),
        (Format::Nginx, format!("{escaped}{}", nginx(&other)), Several),
        (Format::Nginx, format!("junk{escaped}"), Malformed),
        (Format::Nginx, format!("{escaped}junk"), Malformed),
        (Format::Nginx, escaped.replace("%0A", "%0"), Malformed),
        (Format::Nginx, escaped.replace("%0A", "%zz"), Malformed),
        (Format::Nginx, escaped.replace("%0A", "%ff"), Malformed),
        (Format::Nginx, escaped.replace("END", "ENE"), Malformed),
        (Format::Nginx, escaped.replace("BEGIN", "BEGIN%20TRUSTED"), Malformed),
        (Format::Haproxy, format!("{b64},{b64}"), Several),
        (Format::Haproxy, escaped.clone(), Malformed),
        (Format::Traefik, format!("{b64},"), Malformed),
        (Format::Traefik, [b64.as_str(); 7].join(","), TooLong),
        (Format::Alb, b64.clone(), Malformed),
        (Format::Xfcc, b64.clone(), Malformed),
        (Format::Xfcc, format!("Hash={hash},Hash={hash}"), Several),
        (Format::Xfcc, format!("Hash={hash};Hash={hash}"), Several),
        (Format::Xfcc, format!("Hash={}", &hash[1..]), Malformed),
        (Format::Xfcc, format!("Hash={}", hash.replace(&hash[..1], "g")), Malformed),
        (Format::Xfcc, "By=a;Subject=\"\"".into(), Malformed),
        (Format::Xfcc, format!("Hash={hash};Subject=\"open"), Malformed),
        (Format::Xfcc, format!("Hash={hash};New=1"), Malformed),
        (Format::Xfcc, format!("Hash={hash};Cert=\"{}\"", escape(&pem(&other), "-")), HashOther),
        (Format::Xfcc, format!("Cert=\"{escaped}\";Chain=\"{}\"", escape(&pem(&other), "-")), Several),
    ] {
        assert_eq!(fault(format, &value), Some(expected), "{format:?}: {value:.60}");
    }
}

#[test]
fn rfc9440_2_4_a_second_header_is_refused_even_when_it_says_the_same() {
    for format in Format::ALL {
        let value = "x";
        let outcome = read(format, &[(format.header(), value), (&format.header().to_uppercase(), value)]);
        assert_eq!(outcome.err(), Some(ForwardedFault::Several), "{format:?}");
    }
}

#[test]
fn rfc9440_4_any_other_header_that_forwards_a_certificate_is_refused_not_ignored() {
    for format in Format::ALL {
        for other in KNOWN.iter().filter(|other| **other != format.header()) {
            if format == Format::Rfc9440 && *other == CLIENT_CERT_CHAIN {
                continue;
            }
            for name in [(*other).to_owned(), other.replace('-', "_"), other.replace('-', "."), other.to_uppercase()] {
                let outcome = read(format, &[(&name, "")]);
                assert_eq!(outcome.err(), Some(ForwardedFault::OtherHeader), "{format:?}: {name}");
            }
        }
        let twin = format.header().replacen('-', "_", 1);
        assert_eq!(read(format, &[(&twin, "x")]).err(), Some(ForwardedFault::OtherHeader), "{twin}");
        assert!(KNOWN.contains(&format.header()));
    }
    assert!(KNOWN.is_sorted());
}

#[test]
fn rfc9440_4_where_none_is_forwarded_no_header_may_say_so() {
    for known in KNOWN {
        for name in [known.to_owned(), known.replace('-', "_"), known.replace('-', "."), known.to_uppercase()] {
            assert_eq!(none(["accept", &name]), Err(ForwardedFault::OtherHeader), "{name}");
        }
    }
    assert_eq!(none(["accept", "authorization", "x-client"]), Ok(()));
}

#[test]
fn a_client_without_a_certificate_is_one_without() {
    for format in Format::ALL {
        assert!(read(format, &[("accept", "*/*")]).unwrap().is_none(), "{format:?}");
        assert!(read(format, &[(format.header(), "")]).unwrap().is_none(), "{format:?}");
    }
}

#[test]
fn where_the_proxy_leaves_the_name_to_its_operator_it_may_be_another() {
    let own = Forwarding::in_header(Format::Nginx, "X-My-Cert").unwrap();
    let value = nginx(&der());
    assert!(own.read([("x-my-cert", value.as_bytes())]).unwrap().is_some());
    assert_eq!(own.read([("x_my_cert", value.as_bytes())]).err(), Some(ForwardedFault::OtherHeader));
    assert_eq!(own.read([("ssl-client-cert", value.as_bytes())]).err(), Some(ForwardedFault::OtherHeader));
    for (format, name) in [
        (Format::Xfcc, "x-my-cert"),
        (Format::Nginx, "x_my_cert"),
        (Format::Nginx, ""),
        (Format::Nginx, "authorization"),
        (Format::Haproxy, "x-original-uri"),
    ] {
        assert_eq!(Forwarding::in_header(format, name), None, "{format:?} {name}");
    }
    assert!(Forwarding::in_header(Format::Xfcc, "X-Forwarded-Client-Cert").is_some());
}

proptest! {
    #[test]
    fn attack_1_no_bytes_bring_it_down_or_pass_for_the_certificate(value in any::<Vec<u8>>(), format in 0..6_usize) {
        let forwarding = Forwarding::new(Format::ALL[format]);
        if let Ok(Some(forwarded)) = forwarding.read([(forwarding.header(), value.as_slice())]) {
            prop_assert_ne!(*forwarded.thumbprint(), Thumbprint::of_der(&der()));
        }
    }
}
