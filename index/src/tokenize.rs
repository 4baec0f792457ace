//! Tokenising: one value to the words, word beginnings and whole values that the index stores and queries look up.
//!
//! Entry points: [`Words::of`], used on both sides, and [`tokenizers`], which hands the same code to tantivy.
//!
//! Invariants:
//! - Index and query use this one splitter, so what it does to a name it does to the words that look for it.
//! - A prefix of any length finds its words, through at most one gram length: see [`gram_chars_for`].
//! - No token is longer than [`TOKEN_CHARS_MAX`] characters, no value has more than [`PARTS_PER_VALUE_MAX`] parts.

use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer, TokenizerManager};

use crate::fold::{Folded, fold_into, one_line, whole_value};

/// Characters of one token; longer words are cut, in the index and in the query alike. Longer "words" are hashes
/// and keys, which the first 64 characters tell apart.
pub(crate) const TOKEN_CHARS_MAX: usize = 64;

/// Words of one value; more are ignored. A name has 5, an e-mail address 8, a long description 300.
const PARTS_PER_VALUE_MAX: u32 = 256;

/// A compound of up to this many parts is also indexed closed up (`obrien`, `annemarie`). Longer ones are UUIDs
/// and serial numbers, which nobody types without their hyphens.
const JOINED_PARTS_MAX: usize = 3;

/// Lengths, in characters, of the word beginnings that are indexed: where people type. A prefix of 5 is the union of the
/// beginnings of 6 that start with it; one of 7 and more is that of the words themselves, which are few by then, and whose
/// longer beginnings would take as much room as they do.
pub(crate) const GRAM_CHARS: [usize; 5] = [1, 2, 3, 4, 6];

/// Shortest id that counts as made by a machine: longer than employee numbers, shorter than a UUID or an id of Salesforce.
const MACHINE_ID_BYTES_MIN: usize = 15;

/// Tokenizer of the word fields.
pub(crate) const WORDS_TOKENIZER: &str = "idmap_words";
/// Tokenizer of the field of word beginnings.
pub(crate) const GRAMS_TOKENIZER: &str = "idmap_grams";
/// Tokenizer of whole values, lower-cased.
pub(crate) const WHOLE_TOKENIZER: &str = "idmap_whole";
/// Tokenizer of whole values, folded; one term per form.
pub(crate) const LINE_TOKENIZER: &str = "idmap_line";
/// As [`LINE_TOKENIZER`], but the first byte of the value is a tag that stands before each form unchanged.
pub(crate) const TAGGED_LINE_TOKENIZER: &str = "idmap_tagged_line";

/// What a word is in its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A word, base letters.
    Base,
    /// The same word spelt out; present only if it differs.
    SpeltOut,
    /// A compound closed up, base letters.
    Joined,
    /// The same compound spelt out; present only if it differs.
    JoinedSpeltOut,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
    position: u32,
    form: Form,
}

/// The words of one value, in one buffer that is reused from value to value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    text: String,
    spans: Vec<Span>,
    /// Runs of parts joined by apostrophes and hyphens.
    compounds: u32,
    folded: Folded,
}

impl Words {
    /// The words of `value`.
    pub(crate) fn of(value: &str) -> Self {
        let mut words = Self::default();
        words.load(value);
        words
    }

    /// Replaces the content by the words of `value`.
    fn load(&mut self, value: &str) {
        self.text.clear();
        self.spans.clear();
        self.compounds = 0;
        let mut folded = std::mem::take(&mut self.folded);
        fold_into(value, &mut folded);
        let same = folded.base == folded.spelt_out;
        let mut position = 0;
        let mut spelt_out_compounds = folded.spelt_out.split(' ');
        for base in folded.base.split(' ') {
            let spelt_out = if same { base } else { spelt_out_compounds.next().unwrap_or(base) };
            if !base.is_empty() && position < PARTS_PER_VALUE_MAX {
                position = self.push_compound(base, spelt_out, position);
            }
        }
        self.folded = folded;
    }

    fn push_compound(&mut self, base: &str, spelt_out: &str, first_position: u32) -> u32 {
        let separators = ['\'', '-'];
        let mut position = first_position;
        let mut parts = 0_usize;
        let pairs = base.split(separators).zip(spelt_out.split(separators)).filter(|(part, _)| !part.is_empty());
        for (part, spelt_out_part) in pairs {
            if position >= PARTS_PER_VALUE_MAX {
                break;
            }
            self.push(part, position, Form::Base);
            if part != spelt_out_part {
                self.push(spelt_out_part, position, Form::SpeltOut);
            }
            position += 1;
            parts += 1;
        }
        if (2..=JOINED_PARTS_MAX).contains(&parts) {
            self.push_joined(base, first_position, Form::Joined);
            if base != spelt_out {
                self.push_joined(spelt_out, first_position, Form::JoinedSpeltOut);
            }
        }
        self.compounds += u32::from(parts > 0);
        position
    }

    fn push_joined(&mut self, compound: &str, position: u32, form: Form) {
        let start = self.text.len();
        let letters = compound.chars().filter(|character| !matches!(character, '\'' | '-'));
        self.text.extend(letters.take(TOKEN_CHARS_MAX));
        self.push_span(start, position, form);
    }

    fn push(&mut self, word: &str, position: u32, form: Form) {
        let start = self.text.len();
        self.text.push_str(&word[..byte_of_char(word, TOKEN_CHARS_MAX)]);
        self.push_span(start, position, form);
    }

    fn push_span(&mut self, start: usize, position: u32, form: Form) {
        // `VALUE_BYTES_MAX` in several forms is far below 4 GiB.
        let bound = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        self.spans.push(Span { start: bound(start), end: bound(self.text.len()), position, form });
    }

    fn span_text(&self, span: Span) -> &str {
        &self.text[span.start as usize..span.end as usize]
    }

    /// Every word with its form, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Form)> {
        self.spans.iter().map(|span| (self.span_text(*span), span.form))
    }

    /// The parts of the value in base letters.
    pub(crate) fn base_parts(&self) -> Vec<&str> {
        self.iter().filter(|(_, form)| *form == Form::Base).map(|(text, _)| text).collect()
    }

    /// The parts with every spelling-out applied, or `None` if there is nothing to spell out.
    pub(crate) fn spelt_out_parts(&self) -> Option<Vec<&str>> {
        let mut parts: Vec<&str> = Vec::new();
        let mut differs = false;
        for (text, form) in self.iter() {
            match form {
                Form::Base => parts.push(text),
                Form::SpeltOut => {
                    parts.pop();
                    parts.push(text);
                    differs = true;
                }
                Form::Joined | Form::JoinedSpeltOut => {}
            }
        }
        differs.then_some(parts)
    }

    /// The whole value closed up, in each form, if it is one compound such as `O'Brien`.
    pub(crate) fn joined(&self) -> Vec<&str> {
        if self.compounds != 1 {
            return Vec::new();
        }
        let joined = |form: Form| matches!(form, Form::Joined | Form::JoinedSpeltOut);
        self.iter().filter(|(_, form)| joined(*form)).map(|(text, _)| text).collect()
    }
}

/// The folded one-line forms of `value`: one, or two if it can be spelt out. Empty for a value without words.
pub(crate) fn lines(value: &str) -> Vec<String> {
    let mut folded = Folded::default();
    fold_into(value, &mut folded);
    let (mut base, mut spelt_out) = (String::new(), String::new());
    one_line(&folded.base, &mut base);
    one_line(&folded.spelt_out, &mut spelt_out);
    if base.is_empty() {
        Vec::new()
    } else if base == spelt_out {
        vec![base]
    } else {
        vec![base, spelt_out]
    }
}

/// Whether a name is one that a machine made to tell things apart, such as an id of an app: at least 15 letters and digits
/// without a space, mixed up, so that at least twice a letter follows a digit. Of such a name only the whole means anything.
/// Numbers, logins with a number behind, and whatever has a dot or an `@` are none.
pub(crate) fn is_machine_id(name: &str) -> bool {
    let bytes = name.as_bytes();
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+' | b'/' | b'=');
    bytes.len() >= MACHINE_ID_BYTES_MIN
        && bytes.iter().all(is_part)
        && bytes.windows(2).filter(|pair| pair[0].is_ascii_digit() && pair[1].is_ascii_alphabetic()).count() >= 2
}

/// The gram length that answers a prefix of `prefix_chars` characters: the shortest that is not shorter. `None`: longer
/// than every gram, so whole words must be walked.
pub(crate) fn gram_chars_for(prefix_chars: usize) -> Option<usize> {
    GRAM_CHARS.into_iter().find(|gram_chars| *gram_chars >= prefix_chars)
}

/// Byte offset of the `chars`-th character, or the length if there are fewer.
fn byte_of_char(text: &str, chars: usize) -> usize {
    if text.len() <= chars {
        return text.len();
    }
    text.char_indices().nth(chars).map_or(text.len(), |(offset, _)| offset)
}

/// The tokenizers under the names that the schema uses.
pub(crate) fn tokenizers() -> TokenizerManager {
    let manager = TokenizerManager::default();
    manager.register(WORDS_TOKENIZER, TextAnalyzer::from(WordTokenizer::default()));
    manager.register(GRAMS_TOKENIZER, TextAnalyzer::from(GramTokenizer::default()));
    manager.register(WHOLE_TOKENIZER, TextAnalyzer::from(ValueTokenizer { make: |value| vec![whole_value(value)] }));
    manager.register(LINE_TOKENIZER, TextAnalyzer::from(ValueTokenizer { make: lines }));
    manager.register(TAGGED_LINE_TOKENIZER, TextAnalyzer::from(ValueTokenizer { make: tagged_lines }));
    manager
}

fn tagged_lines(tagged_value: &str) -> Vec<String> {
    let Some((tag, value)) = tagged_value.split_at_checked(1) else { return Vec::new() };
    lines(value).into_iter().map(|line| format!("{tag}{line}")).collect()
}

/// Buffers are kept from value to value: indexing a value allocates nothing once they have grown.
#[derive(Clone, Debug, Default)]
struct WordTokenizer {
    words: Words,
    token: Token,
}

impl Tokenizer for WordTokenizer {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.words.load(text);
        WordStream { words: &self.words, next: 0, token: &mut self.token }
    }
}

struct WordStream<'a> {
    words: &'a Words,
    next: usize,
    token: &'a mut Token,
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(span) = self.words.spans.get(self.next) else { return false };
        self.next += 1;
        set_token(self.token, self.words.span_text(*span), span.position);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

#[derive(Clone, Debug, Default)]
struct GramTokenizer {
    words: Words,
    token: Token,
}

impl Tokenizer for GramTokenizer {
    type TokenStream<'a> = GramStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> GramStream<'a> {
        self.words.load(text);
        GramStream { words: &self.words, word: 0, gram: 0, token: &mut self.token }
    }
}

/// The beginnings of each word that are shorter than the word: a whole word is found in its own field.
struct GramStream<'a> {
    words: &'a Words,
    word: usize,
    gram: usize,
    token: &'a mut Token,
}

impl TokenStream for GramStream<'_> {
    fn advance(&mut self) -> bool {
        while let Some(span) = self.words.spans.get(self.word) {
            let word = self.words.span_text(*span);
            if let Some(gram_chars) = GRAM_CHARS.get(self.gram) {
                let end = byte_of_char(word, *gram_chars);
                if end < word.len() {
                    self.gram += 1;
                    set_token(self.token, &word[..end], span.position);
                    return true;
                }
            }
            self.gram = 0;
            self.word += 1;
        }
        false
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

fn set_token(token: &mut Token, text: &str, position: u32) {
    token.text.clear();
    token.text.push_str(text);
    token.position = position as usize;
}

/// Terms that stand for a whole value.
#[derive(Clone)]
struct ValueTokenizer {
    make: fn(&str) -> Vec<String>,
}

impl Tokenizer for ValueTokenizer {
    type TokenStream<'a> = ValueStream;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> ValueStream {
        ValueStream { values: (self.make)(text).into_iter(), token: Token { position: 0, ..Token::default() } }
    }
}

struct ValueStream {
    values: std::vec::IntoIter<String>,
    token: Token,
}

impl TokenStream for ValueStream {
    fn advance(&mut self) -> bool {
        match self.values.next() {
            Some(value) if !value.is_empty() => {
                self.token.text = value;
                true
            }
            _ => false,
        }
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &str) {
        let words = Words::of(value);
        let shown: Vec<String> = words
            .iter()
            .zip(&words.spans)
            .map(|((text, form), span)| match form {
                Form::Base => format!("{}:{text}", span.position),
                Form::SpeltOut => format!("{}~{text}", span.position),
                Form::Joined => format!("{}+{text}", span.position),
                Form::JoinedSpeltOut => format!("{}+~{text}", span.position),
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{value:?}");
    }

    #[test]
    fn values_split_into_words() {
        check("Anna Müller", "0:anna 1:muller 1~mueller");
        check("Sean O'Brien Jr", "0:sean 1:o 2:brien 1+obrien 3:jr");
        check(
            "Anne-Marie Grün-Lüders",
            "0:anne 1:marie 0+annemarie 2:grun 2~gruen 3:luders 3~lueders 2+grunluders 2+~gruenlueders",
        );
        check("j.doe@example.com", "0:j 1:doe 2:example 3:com");
        check("DOMAIN\\user", "0:domain 1:user");
        check("山田 taro", "0:山 1:田 2:taro");
        check("550e8400-e29b-41d4-a716-446655440000", "0:550e8400 1:e29b 2:41d4 3:a716 4:446655440000");
        check("-- ' & ", "");
        check("'quoted'", "0:quoted");
    }

    #[test]
    fn grams_are_shorter_than_their_word() {
        let mut tokenizer = GramTokenizer::default();
        let mut stream = tokenizer.token_stream("jürgen Li 山");
        let mut grams = Vec::new();
        while let Some(token) = stream.next() {
            grams.push(token.text.clone());
        }
        let expected = "j ju jur jurg j ju jue juer juerge l";
        assert_eq!(grams.join(" "), expected);
    }

    #[test]
    fn lines_are_what_a_person_types() {
        #[track_caller]
        fn check(value: &str, expected: &[&str]) {
            assert_eq!(lines(value), expected);
        }
        check(" Sean  O’Brien ", &["sean obrien"]);
        check("Anne-Marie", &["anne marie"]);
        check("Müller, Anna", &["muller anna", "mueller anna"]);
        check("山田", &["山 田"]);
        check("@!", &[]);
        assert_eq!(tagged_lines("uÄda"), ["uada", "uaeda"]);
        assert!(tagged_lines("u").is_empty() && tagged_lines("").is_empty() && tagged_lines("ä").is_empty());
    }

    #[test]
    fn long_words_are_cut() {
        let words = Words::of(&"é".repeat(TOKEN_CHARS_MAX + 9));
        assert_eq!(words.base_parts(), ["e".repeat(TOKEN_CHARS_MAX)]);
        let many = Words::of(&"a ".repeat(1_000));
        assert_eq!(many.base_parts().len(), PARTS_PER_VALUE_MAX as usize);
    }

    #[test]
    fn machine_ids_are_told_from_names() {
        #[track_caller]
        fn check(name: &str, expected: bool) {
            assert_eq!(is_machine_id(name), expected, "{name:?}");
        }
        check("00u1abcd2EFGh3ijk4l5", true);
        check("0055f000003AbcDAAU", true);
        check("0055f000003AbcD", true);
        check("550e8400-e29b-41d4-a716-446655440000", true);
        check("kA2w3T9xQ0iZb1m4n5p6r7==", true);
        check("christopherandersson2", false);
        check("anne-marie-2nd-account", false);
        check("anna.mueller1a2b3c4d5e", false);
        check("a1b2c3d4e5f6g7@example.com", false);
        check("4711471147114711", false);
        check("E0012345", false);
        check("1a2b3c4d", false);
        check("", false);
    }

    #[test]
    fn every_prefix_length_has_its_gram() {
        let lengths: Vec<Option<usize>> = (1..=8).map(gram_chars_for).collect();
        assert_eq!(lengths, [Some(1), Some(2), Some(3), Some(4), Some(6), Some(6), None, None]);
    }
}
