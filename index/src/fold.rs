//! Folding: text to the lower-case, accent-free form in which words are compared, in any script.
//!
//! Entry points: [`fold_into`] (word form) and [`whole_value`] (whole value, accents kept).
//!
//! Invariants, checked by the tests below:
//! - Folding twice changes nothing; two spellings that fold alike find each other.
//! - The two forms of [`Folded`] have the same separators in the same places, so their words pair up one by one.
//! - A folded form holds word characters and the separators `' '`, `'\''` and `'-'` only.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

/// Bytes of one value that are indexed and searched; the rest is ignored. Names and e-mail addresses are far
/// shorter; a description can be longer, but nobody searches for what stands on its third page.
pub(crate) const VALUE_BYTES_MAX: usize = 2_048;

/// A value in the two forms people type: `muller` and `mueller` for `Müller`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Folded {
    /// Every letter reduced to its base letter.
    pub(crate) base: String,
    /// Letters with a customary spelling-out spelt out (`ä` as `ae`, `å` as `aa`); equal to `base` if there are none.
    pub(crate) spelt_out: String,
}

/// What a character is to the word splitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Part of a word.
    Word,
    /// An accent on the letter before it: dropped.
    Accent,
    /// A character of a script written without spaces: a word of its own.
    Ideograph,
    /// Joins two halves of one name, `O'Brien`.
    Apostrophe,
    /// Joins two names, `Anne-Marie`.
    Hyphen,
    /// Ends a word.
    Other,
}

/// The first [`VALUE_BYTES_MAX`] bytes of `text`, cut at a character.
pub(crate) fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]
}

/// Folds `text` (its first [`VALUE_BYTES_MAX`] bytes) into `folded`, whose buffers are reused.
pub(crate) fn fold_into(text: &str, folded: &mut Folded) {
    folded.base.clear();
    folded.spelt_out.clear();
    let text = bounded(text);
    if text.is_ascii() {
        // Nearly every account name: no table, no second form to compute.
        folded.base.extend(text.bytes().map(fold_ascii));
        folded.spelt_out.push_str(&folded.base);
        return;
    }
    // Apostrophes first: compatibility normalisation takes some of them apart into a space and an accent. And once more,
    // because it makes some, too (of the Greek numeral sign).
    for raw in text.chars().map(plain_apostrophe).nfkc().map(plain_apostrophe) {
        for letter in raw.to_lowercase() {
            fold_char(letter, folded);
        }
    }
}

fn fold_ascii(byte: u8) -> char {
    match byte {
        b'A'..=b'Z' => char::from(byte.to_ascii_lowercase()),
        b'a'..=b'z' | b'0'..=b'9' | b'\'' | b'-' => char::from(byte),
        b'`' => '\'',
        _ => ' ',
    }
}

fn fold_char(letter: char, folded: &mut Folded) {
    if let Some((base, spelt_out)) = special_letter(letter) {
        folded.base.push_str(base);
        folded.spelt_out.push_str(spelt_out);
        return;
    }
    let mut push = |character: char| {
        folded.base.push(character);
        folded.spelt_out.push(character);
    };
    match class(letter) {
        Class::Accent => {}
        Class::Apostrophe => push('\''),
        Class::Hyphen => push('-'),
        Class::Other => push(' '),
        Class::Ideograph => {
            push(' ');
            push(letter);
            push(' ');
        }
        Class::Word => decompose_canonical(letter, |part| {
            if class(part) == Class::Accent {
                return;
            }
            match special_letter(part) {
                // `ǿ` comes apart into `ø` and an accent.
                Some((base, spelt_out)) => {
                    folded.base.push_str(base);
                    folded.spelt_out.push_str(spelt_out);
                }
                None => {
                    folded.base.push(part);
                    folded.spelt_out.push(part);
                }
            }
        }),
    }
}

/// Letters that no decomposition reduces to a base letter, or that have a customary spelling-out besides it.
fn special_letter(letter: char) -> Option<(&'static str, &'static str)> {
    Some(match letter {
        'ä' => ("a", "ae"),
        'ö' | 'ø' | 'ǿ' => ("o", "oe"),
        'ü' => ("u", "ue"),
        'å' => ("a", "aa"),
        'ß' => ("ss", "ss"),
        'æ' | 'ǽ' | 'ǣ' => ("ae", "ae"),
        'œ' => ("oe", "oe"),
        'þ' => ("th", "th"),
        'ð' | 'đ' => ("d", "d"),
        'ł' => ("l", "l"),
        'ħ' => ("h", "h"),
        'ı' => ("i", "i"),
        'ŋ' => ("n", "ng"),
        'ŧ' => ("t", "t"),
        'ς' => ("σ", "σ"),
        _ => return None,
    })
}

fn plain_apostrophe(character: char) -> char {
    match character {
        '\u{2019}' | '\u{2018}' | '\u{02BC}' | '\u{02BB}' | '\u{02B9}' | '\u{2032}' | '\u{00B4}' | '\u{FF07}' | '`' => {
            '\''
        }
        other => other,
    }
}

fn class(character: char) -> Class {
    match character {
        '\'' => Class::Apostrophe,
        '-' | '\u{2010}' | '\u{2011}' => Class::Hyphen,
        // General accents, Hebrew points and Arabic vowel signs: people leave them out when they search.
        '\u{0300}'..='\u{036F}'
        | '\u{0591}'..='\u{05BD}'
        | '\u{05BF}'..='\u{05C7}'
        | '\u{064B}'..='\u{065F}'
        | '\u{0670}'
        | '\u{1AB0}'..='\u{1AFF}'
        | '\u{1DC0}'..='\u{1DFF}'
        | '\u{20D0}'..='\u{20FF}'
        | '\u{FE20}'..='\u{FE2F}' => Class::Accent,
        _ if is_ideograph(character) => Class::Ideograph,
        // Vowel signs of the scripts of India and Thailand are marks, but part of the word.
        _ if character.is_alphanumeric() || is_combining_mark(character) => Class::Word,
        _ => Class::Other,
    }
}

/// Scripts written without spaces (Han, kana) or searched by part of a word (Hangul): one word per character.
pub(crate) fn is_ideograph(character: char) -> bool {
    matches!(character,
        '\u{3041}'..='\u{3096}'
        | '\u{30A1}'..='\u{30FA}'
        | '\u{30FC}'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{20000}'..='\u{3FFFF}')
}

/// The whole value as it is matched exactly: lower case, accents kept, one kind of apostrophe, single spaces.
pub(crate) fn whole_value(text: &str) -> String {
    let text = bounded(text);
    let mut whole = String::with_capacity(text.len());
    let mut gap = false;
    let mut push = |character: char| {
        if character.is_whitespace() {
            gap = !whole.is_empty();
            return;
        }
        if std::mem::take(&mut gap) {
            whole.push(' ');
        }
        whole.push(character);
    };
    if text.is_ascii() {
        text.chars().map(plain_apostrophe).for_each(|character| push(character.to_ascii_lowercase()));
    } else {
        text.chars().map(plain_apostrophe).nfkc().flat_map(char::to_lowercase).for_each(push);
    }
    whole
}

/// A folded form as one line of words: apostrophes closed up, everything else between words one space.
///
/// The start of it is what a person types, so `obri` and `anne m` begin `O'Brien` and `Anne-Marie`.
pub(crate) fn one_line(folded: &str, line: &mut String) {
    let mut gap = false;
    for character in folded.chars() {
        match character {
            '\'' => {}
            ' ' | '-' => gap = true,
            _ => {
                if std::mem::take(&mut gap) && !line.is_empty() {
                    line.push(' ');
                }
                line.push(character);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, base: &str, spelt_out: &str) {
        let mut folded = Folded::default();
        fold_into(text, &mut folded);
        assert_eq!((folded.base.as_str(), folded.spelt_out.as_str()), (base, spelt_out), "{text:?}");
    }

    #[test]
    fn letters_fold_to_both_spellings() {
        check("Müller", "muller", "mueller");
        check("Mu\u{308}ller", "muller", "mueller"); // The same name, decomposed.
        check("STRASSE Straße ẞ", "strasse strasse ss", "strasse strasse ss");
        check("Łukasz Wałęsa", "lukasz walesa", "lukasz walesa");
        check("Søren Åse Æther", "soren ase aether", "soeren aase aether");
        check("Ǿ", "o", "oe");
        check("İstanbul Işık", "istanbul isik", "istanbul isik");
        check("Ёлкин Йод", "елкин иод", "елкин иод");
        check("Ὀδυσσεύς ΟΔΥΣΣΕΥΣ", "οδυσσευσ οδυσσευσ", "οδυσσευσ οδυσσευσ");
        check("ﬁne ＡＢＣ", "fine abc", "fine abc");
        check("Nguyễn", "nguyen", "nguyen");
        check("α\u{374}", "α'", "α'");
    }

    #[test]
    fn separators_are_three() {
        check("O’Brien o`brien O´Brien", "o'brien o'brien o'brien", "o'brien o'brien o'brien");
        check("Anne\u{2011}Marie", "anne-marie", "anne-marie");
        check("DOMAIN\\j.doe_x@e", "domain j doe x e", "domain j doe x e");
        check("山田ab", " 山  田 ab", " 山  田 ab");
        check("ｶﾞ が", " ガ   が ", " ガ   が ");
        check("김철수", " 김  철  수 ", " 김  철  수 ");
        check("हिन्दी", "हिन्दी", "हिन्दी");
        check("", "", "");
    }

    #[test]
    fn whole_values_keep_accents() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(whole_value(text), expected);
        }
        check("  Anna \t Müller ", "anna müller");
        check("Mu\u{308}ller", "müller");
        check("O’Brien", "o'brien");
        check("DOMAIN\\User", "domain\\user");
        check("J.Doe@Example.com", "j.doe@example.com");
        check("", "");
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let long = "ä".repeat(VALUE_BYTES_MAX);
        assert_eq!(bounded(&long).len(), VALUE_BYTES_MAX);
        assert_eq!(bounded(&format!("a{long}")).len(), VALUE_BYTES_MAX - 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn folding_twice_changes_nothing_and_forms_pair_up(text in "\\PC{0,20}") {
            let (mut once, mut twice) = (Folded::default(), Folded::default());
            fold_into(&text, &mut once);
            fold_into(&once.base, &mut twice);
            let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            prop_assert_eq!(words(&twice.base), words(&once.base));
            let separators = |line: &str| line.chars().filter(|c| matches!(c, ' ' | '\'' | '-')).collect::<String>();
            prop_assert_eq!(separators(&once.base), separators(&once.spelt_out));
        }

        #[test]
        fn case_makes_no_difference_to_ascii(text in "[ -~]{0,20}") {
            let (mut lower, mut upper) = (Folded::default(), Folded::default());
            fold_into(&text.to_lowercase(), &mut lower);
            fold_into(&text.to_uppercase(), &mut upper);
            prop_assert_eq!(lower.base, upper.base);
        }
    }
}
