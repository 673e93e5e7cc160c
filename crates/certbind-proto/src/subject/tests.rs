use certbind_devpki::{Eku, Encoding, Identity, LeafSpec, San as DevSan, Validity, rdn};
use proptest::prelude::*;

use super::*;

const VALIDITY: Validity = Validity::days_from(1_795_305_600, 30);

fn client() -> LeafSpec {
    LeafSpec::client("billing", VALIDITY)
}

fn certificate(spec: &LeafSpec) -> Certificate {
    Certificate::parse(Identity::self_signed(spec).unwrap().certificate()).unwrap()
}

fn subject(kind: SubjectKind, value: &str) -> Subject {
    Subject::parse(kind, value).unwrap_or_else(|fault| panic!("{value}: {fault}"))
}

const DIFFERS: Result<(), SubjectMismatch> = Err(SubjectMismatch::SanDiffers);
const MISSING: Result<(), SubjectMismatch> = Err(SubjectMismatch::SanMissing);

#[test]
fn rfc8705_2_1_2_subject_dn() {
    let presented = certificate(&client());
    for (registered, expected) in [
        ("CN=billing,O=certbind dev", Ok(())),
        ("cn=BILLING, o=Certbind  Dev", Ok(())),
        ("2.5.4.3=#0C0762696C6C696E67,O=certbind dev", Ok(())),
        ("O=certbind dev,CN=billing", Err(SubjectMismatch::DnDiffers)),
        ("CN=billing", Err(SubjectMismatch::DnDiffers)),
        ("CN=billing+O=certbind dev", Err(SubjectMismatch::DnDiffers)),
    ] {
        assert_eq!(subject(SubjectKind::Dn, registered).check(&presented), expected, "{registered}");
    }
    let mut bmp = rdn("CN", "billing");
    bmp[0].encoding = Encoding::Bmp;
    let presented = certificate(&LeafSpec { subject: vec![bmp], ..client() });
    assert_eq!(subject(SubjectKind::Dn, "CN=billing").check(&presented), Err(SubjectMismatch::DnNotComparable));
    let nameless = certificate(&LeafSpec { subject: Vec::new(), ..client() });
    assert_eq!(subject(SubjectKind::Dn, "CN=billing").check(&nameless), Err(SubjectMismatch::DnDiffers));
}

/// Attacks: alternative names of mixed kinds, `otherName`, the common name as a DNS name.
#[test]
fn rfc8705_2_1_2_a_name_is_looked_for_in_its_own_kind_only() {
    let text = "a.example";
    let specs = [
        client().email(text),
        client().uri(text),
        client().san(DevSan::Other(vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], text.to_owned())),
        LeafSpec { subject: vec![rdn("CN", text)], ..client() },
    ];
    for spec in &specs {
        assert_eq!(subject(SubjectKind::SanDns, text).check(&certificate(spec)), MISSING, "{:?}", spec.sans);
    }
    for (kind, registered, spec) in [
        (SubjectKind::SanUri, "https://a.example", client().dns("https://a.example")),
        (SubjectKind::SanUri, "spiffe://d/a", client().email("spiffe://d/a")),
        (SubjectKind::SanEmail, "a@a.example", client().uri("mailto:a@a.example")),
        (SubjectKind::SanEmail, "a@a.example", client().dns("a.example")),
        (
            SubjectKind::SanEmail,
            "a@a.example",
            LeafSpec { subject: vec![rdn("emailAddress", "a@a.example")], ..client() },
        ),
        (SubjectKind::SanIp, "192.0.2.7", client().dns("192.0.2.7")),
        (SubjectKind::SanIp, "192.0.2.7", client().uri("https://192.0.2.7")),
        (SubjectKind::SanDns, "a.example", client().ip([192, 0, 2, 7].into())),
    ] {
        assert_eq!(subject(kind, registered).check(&certificate(&spec)), MISSING, "{registered} {:?}", spec.sans);
    }
}

#[test]
fn rfc8705_2_1_any_of_several_names_is_enough() {
    let spec = client().dns("a.example").dns("b.example").uri("urn:a").uri("urn:b").ip([192, 0, 2, 1].into());
    let presented = certificate(&spec.ip([192, 0, 2, 2].into()).email("a@x.example").email("b@x.example"));
    for (kind, registered, expected) in [
        (SubjectKind::SanDns, "b.example", Ok(())),
        (SubjectKind::SanDns, "c.example", DIFFERS),
        (SubjectKind::SanUri, "urn:b", Ok(())),
        (SubjectKind::SanUri, "urn:c", DIFFERS),
        (SubjectKind::SanIp, "192.0.2.2", Ok(())),
        (SubjectKind::SanIp, "192.0.2.3", DIFFERS),
        (SubjectKind::SanEmail, "b@x.example", Ok(())),
        (SubjectKind::SanEmail, "c@x.example", DIFFERS),
    ] {
        assert_eq!(subject(kind, registered).check(&presented), expected, "{registered}");
    }
}

#[test]
fn rfc5280_7_2_dns_names_ignore_case_and_nothing_is_a_pattern() {
    for (presented, registered, expected) in [
        ("A.Example", "a.example", Ok(())),
        ("a.example", "A.EXAMPLE", Ok(())),
        ("XN--n3h.com", "xn--N3H.com", Ok(())),
        ("*.example.com", "a.example.com", DIFFERS),
        ("a.example.com", "example.com", DIFFERS),
        ("example.com", "a.example.com", DIFFERS),
        ("a.example.", "a.example", DIFFERS),
    ] {
        let certificate = certificate(&client().dns(presented));
        assert_eq!(subject(SubjectKind::SanDns, registered).check(&certificate), expected, "{presented} {registered}");
    }
}

#[test]
fn rfc5280_7_4_uris_ignore_the_case_of_scheme_and_host_only() {
    for (presented, registered, expected) in [
        ("spiffe://example.com/a", "spiffe://example.com/a", Ok(())),
        ("SPIFFE://Example.COM/a", "spiffe://example.com/a", Ok(())),
        ("https://example.com:8443/a?q#f", "HTTPS://EXAMPLE.com:8443/a?q#f", Ok(())),
        ("https://example.com", "https://EXAMPLE.com", Ok(())),
        ("https://example.com?Q", "https://EXAMPLE.com?Q", Ok(())),
        ("https://User@example.com/", "https://User@EXAMPLE.com/", Ok(())),
        ("https://[2001:DB8::1]/", "https://[2001:db8::1]/", Ok(())),
        ("URN:Example:a", "urn:Example:a", Ok(())),
        ("spiffe://example.com/A", "spiffe://example.com/a", DIFFERS),
        ("spiffe://example.com/%2F", "spiffe://example.com/%2f", DIFFERS),
        ("spiffe://example.com/%2f", "spiffe://example.com//", DIFFERS),
        ("spiffe://example.com/a/", "spiffe://example.com/a", DIFFERS),
        ("spiffe://example.com/./a", "spiffe://example.com/a", DIFFERS),
        ("https://example.com:443/", "https://example.com/", DIFFERS),
        ("https://example.com?q", "https://EXAMPLE.com?Q", DIFFERS),
        ("https://user@example.com/", "https://User@example.com/", DIFFERS),
        ("urn:example:a", "urn:Example:a", DIFFERS),
        ("https://example.com.evil/", "https://example.com/", DIFFERS),
        ("https://example.com@evil/", "https://example.com/", DIFFERS),
        ("no scheme", "urn:a", DIFFERS),
    ] {
        let certificate = certificate(&client().uri(presented));
        assert_eq!(subject(SubjectKind::SanUri, registered).check(&certificate), expected, "{presented} {registered}");
    }
}

#[test]
fn rfc5280_7_5_mail_addresses_ignore_the_case_of_the_host_only() {
    for (presented, registered, expected) in [
        ("ops@Example.COM", "ops@example.com", Ok(())),
        ("Ops@example.com", "Ops@EXAMPLE.com", Ok(())),
        ("Ops@example.com", "ops@example.com", DIFFERS),
        ("ops+x@example.com", "ops@example.com", DIFFERS),
        ("ops@sub.example.com", "ops@example.com", DIFFERS),
        ("example.com", "ops@example.com", DIFFERS),
    ] {
        let certificate = certificate(&client().email(presented));
        assert_eq!(
            subject(SubjectKind::SanEmail, registered).check(&certificate),
            expected,
            "{presented} {registered}"
        );
    }
}

#[test]
fn rfc8705_2_1_2_addresses_are_octets() {
    for (presented, registered, expected) in [
        ("2001:db8::1", "2001:DB8:0:0:0:0:0:1", Ok(())),
        ("2001:db8::1", "2001:0db8::0001", Ok(())),
        ("192.0.2.7", "192.0.2.7", Ok(())),
        ("192.0.2.7", "::ffff:192.0.2.7", DIFFERS),
        ("::ffff:192.0.2.7", "192.0.2.7", DIFFERS),
        ("::ffff:192.0.2.7", "::ffff:c000:207", Ok(())),
        ("2001:db8::1", "2001:db8::2", DIFFERS),
    ] {
        let certificate = certificate(&client().ip(presented.parse().unwrap()));
        assert_eq!(subject(SubjectKind::SanIp, registered).check(&certificate), expected, "{presented} {registered}");
    }
}

#[test]
fn rfc8705_2_1_2_a_registration_that_is_not_a_name_is_refused() {
    let long_label = format!("{}.example", "a".repeat(64));
    let long_name = ["abcdefghi."; 26].concat() + "example";
    use SubjectKind::{Dn, SanDns, SanEmail, SanIp, SanUri};
    for (kind, value, fault) in [
        (Dn, "/C=DE/CN=a", SubjectFault::Dn(DnFault::SlashForm)),
        (Dn, "", SubjectFault::Dn(DnFault::Empty)),
        (SanDns, "", SubjectFault::Dns),
        (SanDns, "*.example.com", SubjectFault::Wildcard),
        (SanDns, "bücher.example", SubjectFault::NotAscii),
        (SanDns, "192.0.2.7", SubjectFault::AddressAsDns),
        (SanDns, "2001:db8::1", SubjectFault::AddressAsDns),
        (SanDns, "010.0.0.1", SubjectFault::Dns),
        (SanDns, "a..example", SubjectFault::Dns),
        (SanDns, ".example", SubjectFault::Dns),
        (SanDns, "example.", SubjectFault::Dns),
        (SanDns, "-a.example", SubjectFault::Dns),
        (SanDns, "a_b.example", SubjectFault::Dns),
        (SanDns, "a b", SubjectFault::Dns),
        (SanDns, "a.example\0.evil", SubjectFault::Dns),
        (SanDns, "https://a.example", SubjectFault::Dns),
        (SanDns, &long_label, SubjectFault::Dns),
        (SanDns, &long_name, SubjectFault::Dns),
        (SanEmail, "a.example", SubjectFault::Email),
        (SanEmail, "@a.example", SubjectFault::Email),
        (SanEmail, "a@", SubjectFault::Email),
        (SanEmail, "a b@a.example", SubjectFault::Email),
        (SanEmail, "*@a.example", SubjectFault::Wildcard),
        (SanEmail, "ä@a.example", SubjectFault::NotAscii),
        (SanIp, "010.0.0.1", SubjectFault::Address),
        (SanIp, "192.0.2", SubjectFault::Address),
        (SanIp, "192.0.2.0/24", SubjectFault::Address),
        (SanIp, "fe80::1%eth0", SubjectFault::Address),
        (SanIp, " 192.0.2.7", SubjectFault::Address),
        (SanIp, "a.example", SubjectFault::Address),
        (SanUri, "", SubjectFault::Uri),
        (SanUri, "a.example/path", SubjectFault::Uri),
        (SanUri, "1a:b", SubjectFault::Uri),
        (SanUri, "urn:", SubjectFault::Uri),
        (SanUri, "urn:a b", SubjectFault::Uri),
        (SanUri, "urn:%2", SubjectFault::Uri),
        (SanUri, "urn:%zz", SubjectFault::Uri),
        (SanUri, "https://bücher.example/", SubjectFault::NotAscii),
        (SanUri, "https://*.example/", SubjectFault::Wildcard),
    ] {
        assert_eq!(Subject::parse(kind, value).err(), Some(fault), "{value:?}");
    }
}

#[test]
fn one_name_written_in_two_ways_is_one_registration() {
    for (kind, a, b) in [
        (SubjectKind::Dn, "CN=a+UID=1", "uid=1 + cn=A"),
        (SubjectKind::SanDns, "A.example", "a.EXAMPLE"),
        (SubjectKind::SanIp, "2001:db8::1", "2001:0DB8:0::1"),
        (SubjectKind::SanUri, "HTTPS://a/b", "https://A/b"),
        (SubjectKind::SanEmail, "a@B.example", "a@b.example"),
    ] {
        assert_eq!(subject(kind, a), subject(kind, b));
        assert_eq!((subject(kind, a).as_str(), subject(kind, a).kind()), (a, kind));
    }
    assert_ne!(subject(SubjectKind::SanDns, "a.example"), subject(SubjectKind::SanUri, "a:b"));
}

#[test]
fn an_explanation_shows_both_sides() {
    let presented = certificate(&LeafSpec { eku: vec![Eku::ClientAuth], ..client().dns("b.example").dns("a.example") });
    let comparison = subject(SubjectKind::SanDns, "A.example").explain(&presented);
    assert_eq!(
        comparison,
        Comparison {
            kind: SubjectKind::SanDns,
            registered: "A.example".to_owned(),
            presented: vec!["b.example".to_owned(), "a.example".to_owned()],
            ignored: vec!["subject: CN=billing,O=certbind dev".to_owned()],
            outcome: Ok(()),
        }
    );
    let comparison = subject(SubjectKind::Dn, "CN=other").explain(&presented);
    assert_eq!(comparison.presented, ["CN=billing,O=certbind dev"]);
    assert_eq!(comparison.ignored, ["DNS name: b.example", "DNS name: a.example"]);
    assert_eq!(comparison.outcome.map_err(SubjectMismatch::reason), Err("dn_mismatch"));
    assert_eq!(SubjectMismatch::SanMissing.reason(), "san_mismatch");
}

#[test]
fn rfc8705_2_1_2_each_name_of_a_certificate_can_be_registered_and_fits_it() {
    let spec = client().dns("a.example").email("ops@example.com").ip("192.0.2.7".parse().unwrap()).uri("spiffe://a/b");
    let presented = certificate(&LeafSpec { eku: vec![Eku::ClientAuth], ..spec });
    for kind in SubjectKind::ALL {
        let names = kind.names_in(&presented);
        assert_eq!(names.len(), 1, "{kind:?}: {names:?}");
        assert_eq!(subject(kind, &names[0]).check(&presented), Ok(()), "{kind:?}");
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(value in ".{0,60}") {
        for kind in SubjectKind::ALL {
            let _ = Subject::parse(kind, &value);
        }
    }

    #[test]
    fn rfc5280_7_4_canonical_uris_stay_what_they_are(uri in "[a-zA-Z]{1,4}:(//)?[a-zA-Z0-9@:/?#.%-]{1,20}") {
        if let Some(canonical) = canonical_uri(&uri) {
            let again = canonical_uri(&canonical);
            prop_assert_eq!(again.as_deref(), Some(canonical.as_str()));
            prop_assert!(canonical.eq_ignore_ascii_case(&uri));
        }
    }
}
