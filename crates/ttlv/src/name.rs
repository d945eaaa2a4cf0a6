//! The form that names of the standard take in XML and JSON.

use alloc::string::String;
use alloc::vec::Vec;

/// The form that names of the standard take in XML and JSON: `Re-key Key Pair` is `ReKeyKeyPair`, `PKCS#12` is `PKCS_12`
/// (Additional Message Encodings 1.0 §4.1.3).
///
/// ```
/// use keyferry_ttlv::normalized;
/// assert_eq!(normalized("Re-key Key Pair"), "ReKeyKeyPair");
/// assert_eq!(normalized("PKCS#12"), "PKCS_12");
/// assert_eq!(normalized("3DES"), "DES3");
/// ```
pub fn normalized(name: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let name: Vec<char> = name
        .chars()
        .map(|c| if matches!(c, '(' | ')') { ' ' } else { c })
        .collect();
    let split: String = (0..name.len())
        .filter_map(|at| match name.get(at..)? {
            [c, letter, lower, ..]
                if !is_word(*c) && letter.is_ascii_alphabetic() && lower.is_ascii_lowercase() =>
            {
                Some(' ')
            }
            [c, ..] => Some(if is_word(*c) || c.is_whitespace() {
                *c
            } else {
                '_'
            }),
            [] => None,
        })
        .collect();
    let mut text = String::with_capacity(split.len());
    for (i, word) in split.split_whitespace().enumerate() {
        let rest = if i == 0 {
            word.trim_start_matches(|c: char| c.is_ascii_digit())
        } else {
            word
        };
        let mut letters = rest.chars();
        text.extend(letters.next().into_iter().flat_map(char::to_uppercase));
        text.extend(letters);
        text.push_str(word.strip_suffix(rest).unwrap_or_default());
    }
    text
}
