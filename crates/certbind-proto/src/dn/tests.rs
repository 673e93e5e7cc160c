use proptest::prelude::*;

use super::*;
use crate::der::{BIT_STRING, IA5_STRING, INTEGER, OID, PRINTABLE_STRING, SEQUENCE, SET, UTF8_STRING, encode};

const BMP_STRING: u8 = 0x1e;
const TELETEX_STRING: u8 = 0x14;
const CN: &[u8] = &[0x55, 4, 3];
const O: &[u8] = &[0x55, 4, 10];
const C: &[u8] = &[0x55, 4, 6];
const UID: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1];
const DC: &[u8] = &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
const EMAIL: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
const SERIAL_NUMBER: &[u8] = &[0x55, 4, 5];

type Pair<'a> = (&'a [u8], u8, &'a str);

/// A `Name` in DER from relative names in the order of DER.
fn name(rdns: &[&[Pair<'_>]]) -> Dn {
    let pair =
        |(oid, tag, value): &Pair<'_>| encode(SEQUENCE, &[encode(OID, oid), encode(*tag, value.as_bytes())].concat());
    let rdns = rdns.iter().map(|rdn| encode(SET, &rdn.iter().map(pair).collect::<Vec<_>>().concat()));
    Dn::from_der(&encode(SEQUENCE, &rdns.collect::<Vec<_>>().concat())).expect("a good name")
}

fn one(oid: &[u8], tag: u8, value: &str) -> Dn {
    name(&[&[(oid, tag, value)]])
}

fn dn(text: &str) -> Dn {
    Dn::parse_rfc4514(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn assert_pairs(pairs: &[(&str, &str, bool)]) {
    for (a, b, equal) in pairs {
        assert_eq!(dn(a).matches(&dn(b)), *equal, "{a}  against  {b}");
        assert_eq!(dn(b).matches(&dn(a)), *equal, "{b}  against  {a}");
    }
}

#[test]
fn rfc8705_2_1_2_the_most_specific_name_stands_first_in_text_and_last_in_der() {
    let presented = name(&[&[(C, PRINTABLE_STRING, "DE")], &[(O, UTF8_STRING, "b")], &[(CN, UTF8_STRING, "a")]]);
    assert!(dn("CN=a,O=b,C=DE").matches(&presented));
    assert!(!dn("C=DE,O=b,CN=a").matches(&presented));
    assert_eq!(presented.to_string(), "CN=a,O=b,C=DE");
}

#[test]
fn rfc5280_7_1_number_and_order_of_relative_names_count() {
    assert_pairs(&[
        ("CN=a,OU=x,OU=y", "CN=a,OU=x,OU=y", true),
        ("CN=a,OU=x,OU=y", "CN=a,OU=y,OU=x", false),
        ("CN=a,O=b", "CN=a", false),
        ("CN=a,O=b", "CN=a,O=b,C=DE", false),
        ("CN=a", "CN=a,CN=a", false),
        ("CN=a", "O=a", false),
    ]);
}

#[test]
fn rfc5280_7_1_a_multi_valued_relative_name_is_a_set() {
    assert_pairs(&[
        ("CN=a+UID=1", "UID=1+CN=a", true),
        ("CN=a+UID=1,O=b", "UID=1+CN=a,O=b", true),
        ("CN=a+UID=1", "CN=a,UID=1", false),
        ("CN=a+UID=1", "UID=1,CN=a", false),
        ("CN=a+UID=1", "CN=a", false),
        ("CN=a+CN=a", "CN=a", false),
        ("CN=a+UID=1", "CN=1+UID=a", false),
    ]);
    let presented = name(&[&[(UID, UTF8_STRING, "1"), (CN, UTF8_STRING, "a")]]);
    assert!(dn("CN=a+UID=1").matches(&presented));
}

#[test]
fn rfc5280_7_1_string_types_case_and_blanks_do_not_count() {
    let registered = dn("cn=pay svc");
    for (tag, value) in [
        (PRINTABLE_STRING, "Pay  Svc "),
        (UTF8_STRING, "Pay  Svc "),
        (UTF8_STRING, "\tPAY\u{a0}\u{3000}SVC\u{200b}"),
        (UTF8_STRING, "ＰＡＹ svc"),
        (UTF8_STRING, "p\u{ad}ay s\u{fe0f}vc"),
        (IA5_STRING, "pay svc"),
    ] {
        assert!(registered.matches(&one(CN, tag, value)), "{value:?}");
    }
    for value in ["paysvc", "pay svc x", "pay_svc", ""] {
        assert!(!registered.matches(&one(CN, UTF8_STRING, value)), "{value:?}");
    }
}

#[test]
fn rfc4518_2_case_folding_follows_stringprep_and_no_locale() {
    assert_pairs(&[
        ("CN=STRASSE", "CN=straße", true),
        ("CN=ΣΊΣΥΦΟΣ", "CN=σίσυφος", true),
        ("CN=ISTANBUL", "CN=istanbul", true),
        ("CN=ISTANBUL", "CN=ıstanbul", false),
        ("CN=İ", "CN=i", false),
        ("CN=e\u{301}", "CN=é", true),
        ("CN=ﬁle", "CN=file", true),
        ("CN=a \u{301}b", "CN=a\u{301}b", false),
    ]);
}

#[test]
fn rfc5280_7_1_look_alikes_of_another_script_do_not_match() {
    assert_pairs(&[
        ("CN=pay", "CN=p\u{430}y", false),
        ("CN=o", "CN=\u{3bf}", false),
        ("CN=a-b", "CN=a\u{2010}b", false),
    ]);
}

#[test]
fn rfc5280_7_3_domain_components_and_mail_addresses_ignore_case() {
    let presented = name(&[&[(DC, IA5_STRING, "Example")], &[(EMAIL, IA5_STRING, "Ops@Example.COM")]]);
    assert!(dn("emailAddress=ops@example.com,DC=EXAMPLE").matches(&presented));
    assert!(dn("1.2.840.113549.1.9.1=ops@example.com,0.9.2342.19200300.100.1.25=example").matches(&presented));
    assert!(dn("serialnumber=ab1").matches(&one(SERIAL_NUMBER, PRINTABLE_STRING, "AB1")));
    assert!(dn("2.5.4.5=ab1").matches(&one(SERIAL_NUMBER, PRINTABLE_STRING, "AB1")));
}

#[test]
fn rfc5280_7_1_string_types_without_rules_match_nothing() {
    for (tag, value) in [
        (BMP_STRING, "\0a"),
        (TELETEX_STRING, "a"),
        (INTEGER, "a"),
        (BIT_STRING, "\0a"),
        (UTF8_STRING, "a\0"),
        (UTF8_STRING, "a\u{fffd}"),
        (UTF8_STRING, "a\u{e000}"),
        (PRINTABLE_STRING, "ä"),
    ] {
        let presented = one(CN, tag, value);
        assert!(!presented.is_comparable(), "{tag} {value:?}");
        assert!(!dn("CN=a").matches(&presented), "{tag} {value:?}");
        assert!(!presented.matches(&presented.clone()), "{tag} {value:?}");
        assert!(presented.to_string().starts_with("CN=#"), "{presented}");
    }
}

#[test]
fn rfc4514_2_4_escapes() {
    assert_pairs(&[
        (r"CN=a\,b", r"CN=a\2Cb", true),
        (r"CN=a\,b", r"CN=a\2cb", true),
        (r"CN=\#a", r"CN=\23a", true),
        (r"CN=\ a", "CN=a", true),
        (r"CN=a\ ", "CN=a", true),
        (r"CN=a\20", "CN=a", true),
        (r"CN=Lu\C4\8Di\C4\87", "CN=Lučić", true),
        (r"CN=a=b", r"CN=a\=b", true),
        (r"CN=a\+UID=1", "CN=a+UID=1", false),
        ("CN=a , O=b", "CN = a,O= b ", true),
    ]);
}

#[test]
fn rfc4514_2_4_hexadecimal_values_and_identifiers() {
    assert_pairs(&[
        ("2.5.4.3=#0C0161", "CN=a", true),
        ("CN=#130141", "CN=a", true),
        ("CN=#0C0161 ,O=b", "CN=a,O=b", true),
        ("1.3.6.1.4.1.99999.1=#0C0161", "1.3.6.1.4.1.99999.1=A", true),
        ("organizationIdentifier=x", "2.5.4.97=X", true),
        ("jurisdictionC=DE", "1.3.6.1.4.1.311.60.2.1.3=de", true),
        ("GN=a,SN=b,title=c,STREET=d,ST=e,L=f", "givenname=a,surname=b,TITLE=c,street=d,st=e,l=f", true),
    ]);
}

/// Attack: one CN that holds the text of two relative names.
#[test]
fn a_value_that_looks_like_two_names_is_one() {
    let one_value = one(CN, UTF8_STRING, "pay, O=Bank");
    let two_names = name(&[&[(O, UTF8_STRING, "Bank")], &[(CN, UTF8_STRING, "pay")]]);
    let one_set = name(&[&[(CN, UTF8_STRING, "pay"), (O, UTF8_STRING, "Bank")]]);
    let texts = ["CN=pay,O=Bank", r"CN=pay\, O=Bank", "CN=pay+O=Bank", r"CN=pay\+O=Bank", r"CN=pay\,O\=Bank"];
    for (presented, expected) in [
        (&one_value, [false, true, false, false, false]),
        (&two_names, [true, false, false, false, false]),
        (&one_set, [false, false, true, false, false]),
    ] {
        assert_eq!(texts.map(|text| dn(text).matches(presented)), expected, "{presented}");
    }
}

#[test]
fn rfc4514_3_what_is_not_a_name_is_refused_by_its_fact() {
    let too_long = format!("CN={}", "a".repeat(MAX_TEXT));
    for (text, fault) in [
        ("", DnFault::Empty),
        ("   ", DnFault::Empty),
        ("CN=", DnFault::EmptyValue),
        ("CN=a,O=", DnFault::EmptyValue),
        (r"CN=\ \ ", DnFault::EmptyValue),
        ("CN=#0C00", DnFault::EmptyValue),
        ("CN=#0C0120", DnFault::EmptyValue),
        ("CN=#1E020061", DnFault::NotComparable),
        ("CN=#020101", DnFault::NotComparable),
        ("CN=#0C0261", DnFault::NotDer),
        ("CN=#0C81016161", DnFault::NotDer),
        ("CN=#", DnFault::NotDer),
        ("CN=#0C01610", DnFault::Syntax),
        ("CN=#0C01zz", DnFault::Syntax),
        (r"CN=a\00", DnFault::ProhibitedCharacter),
        ("CN=a\u{fffd}", DnFault::ProhibitedCharacter),
        ("/C=DE/CN=a", DnFault::SlashForm),
        ("a", DnFault::Syntax),
        ("=a", DnFault::Syntax),
        ("CN=a,", DnFault::Syntax),
        (",CN=a", DnFault::Syntax),
        ("CN=a,,O=b", DnFault::Syntax),
        ("CN=a+", DnFault::Syntax),
        ("CN=a;O=b", DnFault::Syntax),
        ("CN=\"a\"", DnFault::Syntax),
        ("CN=a<b", DnFault::Syntax),
        ("CN=a\0", DnFault::Syntax),
        (r"CN=a\", DnFault::Syntax),
        (r"CN=a\zz", DnFault::Syntax),
        (r"CN=a\C3", DnFault::Syntax),
        ("C N=a", DnFault::Syntax),
        ("2.5.04.3=a", DnFault::Syntax),
        ("2=a", DnFault::Syntax),
        ("1.40=a", DnFault::Syntax),
        ("3.1=a", DnFault::Syntax),
        ("2.5.=a", DnFault::Syntax),
        ("FOO=a", DnFault::UnknownAttribute),
        (&too_long, DnFault::TooLong),
    ] {
        assert_eq!(Dn::parse_rfc4514(text).err(), Some(fault), "{text}");
    }
}

#[test]
fn rfc5280_4_1_2_4_what_is_not_a_name_in_der_is_refused() {
    for bytes in [&[][..], &[0x30], &[0x31, 0], &[0x30, 2, 0x31, 0], &[0x30, 0, 0], &[0x30, 4, 0x31, 2, 0x30, 0]] {
        assert_eq!(Dn::from_der(bytes).err(), Some(DnFault::NotDer), "{bytes:02x?}");
    }
    let empty = Dn::from_der(&[0x30, 0]).expect("a name may be empty");
    assert!(empty.is_empty() && empty.to_string().is_empty());
}

#[test]
fn rfc4514_2_4_what_cannot_be_seen_is_printed_as_octets() {
    for (value, text) in [
        ("a\u{202e}b", r"CN=a\E2\80\AEb"),
        ("a\nb", r"CN=a\0Ab"),
        ("a\u{9b}b", r"CN=a\C2\9Bb"),
        ("a\u{200b}b", r"CN=a\E2\80\8Bb"),
        (" #a ", r"CN=\ #a\ "),
        ("#a", r"CN=\#a"),
        ("a,b+c\"d\\e<f>g;h=i", r#"CN=a\,b\+c\"d\\e\<f\>g\;h=i"#),
        ("Lučić", "CN=Lučić"),
    ] {
        assert_eq!(one(CN, UTF8_STRING, value).to_string(), text);
    }
    assert_eq!(one(&[0x2a, 3, 4], UTF8_STRING, "a").to_string(), "1.2.3.4=#0C0161");
}

fn attribute_type() -> impl Strategy<Value = String> {
    prop_oneof![Just("CN"), Just("O"), Just("ou"), Just("DC"), Just("emailAddress"), Just("2.5.4.97"), Just("1.2.3.4")]
        .prop_map(str::to_owned)
}

/// Any value, with every octet of it escaped.
fn value() -> impl Strategy<Value = String> {
    "[ #=,+\"<>;\\\\a-cÄßж]{0,6}[a-zé]"
        .prop_map(|text| text.bytes().fold(String::new(), |escaped, octet| escaped + &format!("\\{octet:02x}")))
}

fn any_dn() -> impl Strategy<Value = String> {
    let pair = (attribute_type(), value()).prop_map(|(attribute_type, value)| format!("{attribute_type}={value}"));
    let rdn = proptest::collection::vec(pair, 1..3).prop_map(|pairs| pairs.join("+"));
    proptest::collection::vec(rdn, 1..4).prop_map(|rdns| rdns.join(","))
}

proptest! {
    #[test]
    fn rfc4514_printing_and_parsing_round_trip(text in any_dn()) {
        let first = dn(&text);
        let second = dn(&first.to_string());
        prop_assert!(first.matches(&second), "{}", first);
        prop_assert_eq!(first.to_string(), second.to_string());
    }

    #[test]
    fn rfc5280_7_1_equality_is_symmetric(a in any_dn(), b in any_dn()) {
        prop_assert_eq!(dn(&a).matches(&dn(&b)), dn(&b).matches(&dn(&a)));
        prop_assert!(dn(&a).matches(&dn(&a)));
    }

    #[test]
    fn rfc5280_7_1_equality_ignores_case_and_outer_blanks(value in "[a-zA-Z0-9àéЖ]{1,8}( [a-z]{1,3}){0,2}") {
        let other = one(CN, UTF8_STRING, &format!("  {}\u{a0}", value.to_uppercase().replace(' ', "   ")));
        let registered = dn(&format!("cn={value}"));
        prop_assert!(registered.matches(&other));
    }

    #[test]
    fn rfc4514_parsing_never_panics(text in "[A-Z0-9.=,+#\\\\ a\u{e9}/\"]{0,40}", any in ".{0,40}") {
        let _ = Dn::parse_rfc4514(&text);
        let _ = Dn::parse_rfc4514(&any);
    }

    #[test]
    fn rfc5280_7_1_reading_der_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Dn::from_der(&bytes);
        let _ = Dn::from_der(&encode(SEQUENCE, &encode(SET, &encode(SEQUENCE, &bytes))));
    }
}
