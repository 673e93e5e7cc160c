//! String preparation for comparison (RFC 4518 §2), with the case folding that caseIgnoreMatch asks for.

use stringprep::tables;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The form of `text` that is compared byte by byte; none when it has a prohibited character.
///
/// Case is folded by the table of RFC 3454 B.2 and never by a locale: `ß` is `ss`, a dotless `ı` is not `i`, and a
/// letter of another script that looks the same stays another letter.
pub(super) fn prepare(text: &str) -> Option<String> {
    if text.contains('\0') {
        return None; // RFC 4518 maps it to nothing; a name with a NUL in it is an attack (RFC 8705 §7.5)
    }
    let mapped = text.chars().filter_map(map).flat_map(tables::case_fold_for_nfkc);
    let normalized: Vec<char> = mapped.nfkc().collect();
    if normalized.iter().copied().any(is_prohibited) {
        return None;
    }
    Some(without_insignificant_spaces(&normalized))
}

/// Whether a reader cannot see `c`, or takes it for a plain space: controls, changes of direction, odd blanks.
pub(super) fn is_invisible(c: char) -> bool {
    map(c) != Some(c)
}

/// RFC 4518 §2.2.
fn map(c: char) -> Option<char> {
    match c {
        '\u{00AD}' | '\u{034F}' | '\u{1806}' | '\u{180B}'..='\u{180D}' | '\u{FE00}'..='\u{FE0F}' | '\u{FFFC}' => None,
        '\u{0009}'..='\u{000D}' | '\u{0085}' => Some(' '),
        '\u{0000}'..='\u{0008}' | '\u{000E}'..='\u{001F}' | '\u{007F}'..='\u{0084}' | '\u{0086}'..='\u{009F}' => None,
        '\u{06DD}' | '\u{070F}' | '\u{180E}' | '\u{200C}'..='\u{200F}' | '\u{202A}'..='\u{202E}' => None,
        '\u{2060}'..='\u{2063}' | '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' => None,
        '\u{1D173}'..='\u{1D17A}' | '\u{E0001}' | '\u{E0020}'..='\u{E007F}' => None,
        '\u{200B}' => None,
        '\u{00A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{2028}' | '\u{2029}' => Some(' '),
        '\u{202F}' | '\u{205F}' | '\u{3000}' => Some(' '),
        _ => Some(c),
    }
}

/// RFC 4518 §2.4.
fn is_prohibited(c: char) -> bool {
    c == '\u{FFFD}'
        || tables::unassigned_code_point(c)
        || tables::change_display_properties_or_deprecated(c)
        || tables::private_use(c)
        || tables::non_character_code_point(c)
}

/// RFC 4518 §2.6.1: outer spaces do not count, inner ones count as one. A space that carries a combining mark is a
/// character of its own.
fn without_insignificant_spaces(chars: &[char]) -> String {
    let mut prepared = String::with_capacity(chars.len());
    let mut space_before = false;
    for (i, &c) in chars.iter().enumerate() {
        let carries_mark = chars.get(i + 1).copied().is_some_and(is_combining_mark);
        if c == ' ' && !carries_mark {
            space_before = true;
            continue;
        }
        if space_before && !prepared.is_empty() {
            prepared.push(' ');
        }
        space_before = false;
        prepared.push(c);
    }
    prepared
}
