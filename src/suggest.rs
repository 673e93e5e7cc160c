//! What somebody may have meant: the known word that is fewest slips away.

/// The nearest of `known`, if it is near enough to be meant.
#[must_use]
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = plain(typed);
    let tolerated = typed.chars().count().clamp(3, 9) / 3;
    known
        .into_iter()
        .map(|word| (slips(&typed, &plain(word)), word))
        .filter(|(slips, _)| *slips <= tolerated)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, word)| word)
}

/// Letter case, `-`, `_` and `.` are what people mix up most; they count for nothing.
fn plain(word: &str) -> String {
    const LONGEST: usize = 80;
    word.chars().filter(|c| !matches!(c, '-' | '_' | '.')).flat_map(char::to_lowercase).take(LONGEST).collect()
}

/// The distance of Damerau and Levenshtein: letters put in, left out, changed, or swapped with their neighbour.
fn slips(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_meant_if_it_is_near_enough() {
        const KNOWN: [&str; 5] = ["data_dir", "issuer", "profile", "min_tls", "cert"];
        for (typed, meant) in [
            ("datadir", Some("data_dir")),
            ("data-dir", Some("data_dir")),
            ("DataDir", Some("data_dir")),
            ("isuer", Some("issuer")),
            ("issure", Some("issuer")),
            ("profil", Some("profile")),
            ("min_tsl", Some("min_tls")),
            ("crt", Some("cert")),
            ("certificate", None),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, KNOWN), meant, "{typed:?}");
        }
    }

    #[test]
    fn slips_are_counted() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("abc", "adc", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(slips(a, b), expected, "{a} {b}");
        }
    }
}
