//! Texts of others on our terminal: control characters, width. Entry points: [`clean`], [`width`], [`guarded`].

use unicode_width::UnicodeWidthStr as _;

/// The text without what steers a terminal or turns the direction of writing: each such character as its escape.
pub(in crate::cli) fn clean(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || is_directional(c) { safe.extend(c.escape_unicode()) } else { safe.push(c) }
    }
    safe
}

/// Characters that reorder what is shown around them: a name with them could pass for another one.
const fn is_directional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Columns that a clean text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A cell that no spreadsheet takes for a formula: where it begins with `=`, `+`, `-`, `@`, a tab or a carriage return,
/// an apostrophe is put before it. Names come from whoever may edit a profile.
pub(super) fn guarded(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(clean(text), expected);
        }
        check("Ada Lövelace 李", "Ada Lövelace 李");
        check("a\u{1b}]0;x\u{7}b\nc\td", "a\\u{1b}]0;x\\u{7}b\\u{a}c\\u{9}d");
        check("\u{9b}31m", "\\u{9b}31m");
        check("gpj.\u{202e}exe", "gpj.\\u{202e}exe");
        check("", "");
    }

    #[test]
    fn formulas_are_disarmed() {
        #[track_caller]
        fn check(cell: &str, expected: &str) {
            assert_eq!(guarded(cell.to_owned()), expected);
        }
        for first in ["=", "+", "-", "@", "\t", "\r"] {
            check(&format!("{first}cmd"), &format!("'{first}cmd"));
            check(&format!("a{first}"), &format!("a{first}"));
        }
        check("", "");
        check("'=1", "'=1");
        check("ada@acme.com", "ada@acme.com");
    }
}
