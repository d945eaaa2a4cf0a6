//! How text from outside is shown, so that it can neither end a log line nor steer a terminal.

use std::fmt::{self, Write as _};

/// Text from outside, shown in one line: a character that does not print is written as `\u{…}`. These are control characters (line ends and
/// the escape that begins terminal commands among them), what turns the direction of writing, invisible marks, separators other than the
/// space, and code points without a character.
///
/// It is for names, identifiers and messages in logs and on terminals. Whether a text holds such characters, [`is_printable`] tells.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if prints(c) {
                f.write_char(c)?;
            } else {
                write!(f, "{}", c.escape_unicode())?;
            }
        }
        Ok(())
    }
}

/// Whether each character of a text prints: [`Escaped`] shows it as it is then.
pub fn is_printable(text: &str) -> bool {
    text.chars().all(prints)
}

/// The text with what does not print escaped, as [`Escaped`] shows it.
pub fn escaped(text: String) -> String {
    if is_printable(&text) {
        text
    } else {
        Escaped(&text).to_string()
    }
}

/// Whether a character prints by itself. The standard library's tables decide: `escape_debug` leaves what prints, but for quotes and the
/// backslash, which do no harm.
fn prints(c: char) -> bool {
    matches!(c, '\'' | '"' | '\\') || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn what_does_not_print_is_escaped() {
        let harmless = "Zürich 東京 O'Brien \"x\" DOMAIN\\user = 1";
        assert!(is_printable(harmless));
        assert_eq!(Escaped(harmless).to_string(), harmless);
        for (text, shown) in [
            ("a\nb\r", "a\\u{a}b\\u{d}"),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("a\u{2028}\u{85}", "a\\u{2028}\\u{85}"),
            ("a\u{0}\u{7f}", "a\\u{0}\\u{7f}"),
            ("a\u{200b}\u{feff}\u{a0}", "a\\u{200b}\\u{feff}\\u{a0}"),
        ] {
            assert!(!is_printable(text), "{text:?}");
            assert_eq!(escaped(text.to_owned()), shown);
        }
    }
}
