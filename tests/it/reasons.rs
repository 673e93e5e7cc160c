//! Every reason that a decision can have is explained by `certbind explain`, and nothing else is.

use std::collections::BTreeSet;

use certbind::cli::explain::REASONS;

use crate::house;

#[test]
fn every_reason_is_explained_and_every_explanation_has_a_reason() {
    let returned: BTreeSet<String> = ["src", "crates"]
        .iter()
        .flat_map(|folder| house::programs(folder))
        .flat_map(|file| reasons_of(&house::code_with_texts(&house::read(&file))))
        .collect();
    let explained: BTreeSet<String> = REASONS.iter().map(|reason| reason.name.to_owned()).collect();
    let missing: Vec<_> = returned.difference(&explained).collect();
    assert!(missing.is_empty(), "src/cli/explain.rs does not explain {missing:?}");
    let dead: Vec<_> = explained.difference(&returned).collect();
    assert!(dead.is_empty(), "no `fn reason` returns {dead:?}, which src/cli/explain.rs explains");
}

/// Names that logs are searched for: they stay, whatever the fault enums become.
const STABLE: &[&str] = &[
    "alg_not_allowed",
    "assertion_audience",
    "assertion_expired",
    "assertion_malformed",
    "assertion_replayed",
    "assertion_signature",
    "assertion_too_long",
    "certificate_expired",
    "certificate_missing",
    "certificate_not_yet_valid",
    "certificate_revoked",
    "chain_untrusted",
    "client_disabled",
    "client_unknown",
    "crl_stale",
    "dn_mismatch",
    "eku_missing",
    "key_unknown",
    "method_not_registered",
    "resource_not_allowed",
    "san_mismatch",
    "scope_not_allowed",
    "store_unavailable",
    "thumbprint_unknown",
    "two_methods",
];

#[test]
fn the_names_that_operators_rely_on_stay() {
    for name in STABLE {
        assert!(certbind::cli::explain::find(name).is_some(), "{name}");
    }
}

#[test]
fn an_explanation_says_what_was_found_and_what_to_do() {
    for reason in REASONS {
        for sentence in [reason.cause, reason.cure] {
            assert!(sentence.ends_with('.') && sentence.len() > 15, "{}: {sentence}", reason.name);
        }
        assert!(reason.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", reason.name);
    }
}

#[test]
fn the_reasons_of_a_function_are_its_texts() {
    let source = r#"
        impl Fault {
            pub const fn reason(self) -> &'static str {
                match self { Self::A(f) if { true } => f.reason(), Self::B => "b_b", Self::C => { "c" } }
            }
            fn other() -> &'static str { "not_this" }
        }
        fn reason(name: &'static str) -> Reason { Reason { name, cause: "nor_this" } }
    "#;
    assert_eq!(reasons_of(source), ["b_b", "c"]);
}

/// The texts in the bodies of functions named `reason` that return a text.
pub(crate) fn reasons_of(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn reason(") {
        let rest = &code[at..];
        let Some((signature, _)) = rest.split_once('{') else { continue };
        if !signature.trim_end().ends_with("-> &'static str") {
            continue;
        }
        let chars: Vec<char> = rest.chars().collect();
        let body: String = chars[..house::item_end(&chars, 0)].iter().collect();
        found.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
    }
    found
}
