//! Tokens that nobody thought of: header or claims of a good one with pieces put in and taken out, signed all the same. The verifier and
//! the two in other languages say the same of each of them.

use serde_json::{Map, Value, json};

use super::case::{case, defaults};
use super::foreign;
use super::keys::{Key, Signatures};
use super::rust;

const COUNT: usize = 3000;

/// What is put in: what JSON is made of, what decides in a token, and what languages read differently.
const PIECES: &[&str] = &[
    "\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-",
    "-0",
    "0.5",
    "1e5",
    "1e309",
    "1e-400",
    "4.9e-324",
    "1795000000",
    "1795000000.9999",
    "253402300799.9999",
    "9007199254740993",
    "18446744073709551616",
    "\\u0000",
    "\\ud83d\\ude00",
    "\\udc00",
    "\\\"",
    "\\\\",
    "\\/",
    "\t",
    " ",
    "\n",
    "é",
    "\u{2028}",
    "\u{feff}",
    "\u{7f}",
    "\u{212a}",
    "\"x\":1,",
    "\"\\u0061ud\":1,",
    "\"aud\":[\"https://api.example.com/payments\"],",
    "\"exp\":1795000100,",
    "\"iat\":0,",
    "\"nbf\":1795000005,",
    "\"scope\":\"payments:read\",",
    "\"cnf\":null,",
    "\"jkt\":1,",
    "\"crit\":[],",
    "\"cty\":\"Jwt\",",
    "\"typ\":\"AT+JWT\",",
    "\"kid\":\"eddsa\",",
    "\"__proto__\":1,",
    "\"constructor\":{},",
];

#[test]
fn verifiers_in_other_languages_agree_about_tokens_that_nobody_thought_of() {
    let mut dice = Dice(9068);
    let cases: Vec<Value> = (0..COUNT).map(|number| mutated(number, &mut dice)).collect();
    let accepted = cases.iter().filter(|case| case["verdict"]["accepted"].is_object()).count();
    assert!((COUNT / 100..COUNT / 2).contains(&accepted), "{accepted} of {COUNT} are good all the same");

    let folder = tempfile::tempdir().unwrap();
    let file = json!({ "about": "mutated", "defaults": usual(), "cases": cases });
    std::fs::write(folder.path().join("mutated.json"), file.to_string()).unwrap();
    for command in foreign::commands() {
        let (said, status) = foreign::verdicts(&command, folder.path());
        assert_eq!(said.len(), COUNT, "{command}");
        for case in &cases {
            let name = ("mutated.json".to_owned(), case["name"].as_str().unwrap().to_owned());
            assert_eq!(said.get(&name), Some(&case["verdict"]), "{command}: {case}");
        }
        assert!(status.success(), "{command}");
    }
}

/// The defaults with one key: the others are a matter of the files.
fn usual() -> Map<String, Value> {
    let mut usual = defaults();
    usual["jwks"] = json!({ "keys": [Key::USUAL.jwk()] });
    usual
}

/// A case whose verdict is the verifier's own.
fn mutated(number: usize, dice: &mut Dice) -> Value {
    let (part, times) = (dice.below(3), 1 + dice.below(3));
    let mut spoil = |text: &str| (0..times).fold(text.to_owned(), |text, _| dice.spoil(&text));
    let good = case(number.to_string(), "any");
    let case = if part == 0 { good.header_from(&mut spoil) } else { good.payload_from(&mut spoil) };
    let mut members: Map<String, Value> = case.members(&Signatures::default()).into_iter().collect();
    let mut given = usual();
    given.extend(members.clone());
    members.insert("verdict".to_owned(), rust::verdict(&given));
    Value::Object(members)
}

/// Numbers that are the same in each run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    /// One piece put in, some characters taken out, or a value replaced; mostly where a member or value begins.
    fn spoil(&mut self, text: &str) -> String {
        let chars: Vec<char> = text.chars().collect();
        let begins: Vec<usize> = (0..chars.len()).filter(|at| "{[,:".contains(chars[*at])).map(|at| at + 1).collect();
        let at = match begins.as_slice() {
            [_, ..] if self.below(5) > 0 => begins[self.below(begins.len())],
            _ => self.below(chars.len() + 1),
        };
        let piece = PIECES[self.below(PIECES.len())];
        let value = chars[at..].iter().take_while(|c| !",}]".contains(**c)).count();
        let (piece, gone) = match self.below(10) {
            0..5 => (piece, 0),
            5..8 => (piece, value),
            _ => ("", [1, 2, 5, 12][self.below(4)]),
        };
        let kept = chars.iter().skip(at + gone);
        chars[..at].iter().chain(piece.chars().collect::<Vec<_>>().iter()).chain(kept).collect()
    }
}
