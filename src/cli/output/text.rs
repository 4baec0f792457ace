//! Texts of others on our terminal: control characters, width, long lines. Entry points: [`clean`], [`width`],
//! [`wrapped`], [`guarded`].

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

/// Columns of a wrapped text: what fits a normal terminal and is read at a glance.
const WRAP_WIDTH: usize = 96;

/// The text in lines of at most [`WRAP_WIDTH`] columns, the first behind `head`, the others below it; a longer word stands
/// alone on its line. Line breaks of the text are kept.
pub(in crate::cli) fn wrapped(head: &str, text: &str) -> String {
    let indent = " ".repeat(width(head));
    let mut lines = String::new();
    let mut start = head;
    for paragraph in text.split('\n') {
        let mut line = start.to_owned();
        let mut is_begun = false;
        for word in paragraph.split_whitespace() {
            let word = clean(word);
            if is_begun && width(&line) + 1 + width(&word) > WRAP_WIDTH {
                lines.push_str(line.trim_end());
                lines.push('\n');
                line = indent.clone();
                is_begun = false;
            }
            if is_begun {
                line.push(' ');
            }
            line.push_str(&word);
            is_begun = true;
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
        start = &indent;
    }
    lines
}

/// A cell that no spreadsheet takes for a formula: where it begins with `=`, `+`, `-`, `@`, a tab or a carriage return,
/// an apostrophe is put before it. Names come from whoever may edit a profile.
pub(in crate::cli) fn guarded(cell: String) -> String {
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
    fn long_texts_are_wrapped() {
        #[track_caller]
        fn check(head: &str, text: &str, expected: &str) {
            assert_eq!(wrapped(head, text), expected);
        }
        check("a  ", "b c", "a  b c\n");
        check("a  ", "b\n\nc\u{1b}", "a  b\n\n   c\\u{1b}\n");
        let (long, word) = ("x".repeat(WRAP_WIDTH), "y".repeat(WRAP_WIDTH - 2));
        check("a ", &format!("b {long} c"), &format!("a b\n  {long}\n  c\n"));
        check("a ", &format!("{word} c"), &format!("a {word}\n  c\n"));
        check("", "", "\n");
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
