//! Patterns over the term dictionary: prefixes and misspellings as one query that matches the union of their terms.
//!
//! Entry points: [`prefix_query`], [`fuzzy_query`], [`fuzzy_prefix_query`].
//!
//! Invariants:
//! - A prefix matches exactly the documents with a word that begins so, whatever its length: beginnings up to the
//!   longest of `GRAM_CHARS` are terms of their own, and the words too short to have one are walked beside them; for longer
//!   ones the words are walked.
//! - No pattern reads more than [`PATTERN_TERMS_MAX`] terms; [`Steps`] tells when that cut one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tantivy::postings::BlockSegmentPostings;
use tantivy::query::{
    BitSetDocSet, ConstScorer, EmptyScorer, EnableScoring, Explanation, FuzzyTermQuery, Query, Scorer, Weight,
};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{BitSet, DocId, Score, SegmentReader, Term};
use tantivy_fst::Automaton;

use crate::lists::{Counted, explain};
use crate::schema::Fields;
use crate::steps::Steps;
use crate::tokenize::gram_chars_for;

/// Terms that one pattern may match, over all segments; with more the search fails, because what is left out would be left
/// out of what counts. Each costs about 0.2 µs, so this is 10 ms; indexed beginnings keep short
/// prefixes far below it, and few words share a long one.
const PATTERN_TERMS_MAX: usize = 50_000;

/// Documents of a list that go into a set in the time of one step.
const DOCS_PER_STEP: usize = 8;

/// Steps that a term costs which matches a pattern, beside its documents.
const TERM_STEPS: u64 = 10;

/// Documents with a word that begins with `prefix` (folded, not empty).
pub(crate) fn prefix_query(fields: &Fields, prefix: &str, steps: &Steps) -> Box<dyn Query> {
    let chars = prefix.chars().count();
    let pattern = |chars_min: usize, chars_max: usize| Pattern {
        letters: Letters::Prefix(Arc::from(prefix.as_bytes())),
        chars_min,
        chars_max,
    };
    match gram_chars_for(chars) {
        Some(gram_chars) => patterns(fields, pattern(chars, gram_chars), Some(pattern(gram_chars, gram_chars)), steps),
        None => patterns(fields, pattern(chars, usize::MAX), None, steps),
    }
}

/// Documents with a word at most `edits` (1 or 2) insertions, deletions, replacements and swaps away from `word`.
pub(crate) fn fuzzy_query(fields: &Fields, word: &str, edits: u8, steps: &Steps) -> tantivy::Result<Box<dyn Query>> {
    let dfa = FuzzyTermQuery::new(Term::from_field_text(fields.word, word), edits, true).automaton()?;
    let pattern = Pattern { letters: Letters::Edits(Arc::new(dfa)), chars_min: 0, chars_max: usize::MAX };
    Ok(patterns(fields, pattern, None, steps))
}

/// Documents with a term of `field` that begins with `prefix` (not empty). Walks all of them, so a short prefix of many
/// terms overflows.
pub(crate) fn field_prefix_query(field: Field, prefix: &str, steps: &Steps) -> Box<dyn Query> {
    let letters = Letters::Prefix(Arc::from(prefix.as_bytes()));
    of_field(field, Pattern { letters, chars_min: 0, chars_max: usize::MAX }, steps)
}

/// Documents with a term of `field` at most `edits` (1 or 2) away from `value`.
pub(crate) fn field_fuzzy_query(
    field: Field,
    value: &str,
    edits: u8,
    steps: &Steps,
) -> tantivy::Result<Box<dyn Query>> {
    let dfa = FuzzyTermQuery::new(Term::from_field_text(field, value), edits, true).automaton()?;
    let letters = Letters::Edits(Arc::new(dfa));
    Ok(of_field(field, Pattern { letters, chars_min: 0, chars_max: usize::MAX }, steps))
}

fn of_field(field: Field, pattern: Pattern, steps: &Steps) -> Box<dyn Query> {
    Box::new(PatternQuery::new(&[(field, pattern)], steps))
}

/// Documents with a word whose beginning is at most one edit away from `prefix`.
pub(crate) fn fuzzy_prefix_query(fields: &Fields, prefix: &str, steps: &Steps) -> tantivy::Result<Box<dyn Query>> {
    let dfa = FuzzyTermQuery::new_prefix(Term::from_field_text(fields.word, prefix), 1, true).automaton()?;
    let letters = Letters::Edits(Arc::new(dfa));
    // A beginning one longer than the prefix still shows an inserted letter.
    let gram_chars = gram_chars_for(prefix.chars().count() + 1);
    let words = Pattern { letters: letters.clone(), chars_min: 0, chars_max: gram_chars.unwrap_or(usize::MAX) };
    let grams = gram_chars.map(|gram_chars| Pattern { letters, chars_min: gram_chars, chars_max: gram_chars });
    Ok(patterns(fields, words, grams, steps))
}

fn patterns(fields: &Fields, words: Pattern, grams: Option<Pattern>, steps: &Steps) -> Box<dyn Query> {
    let mut parts = vec![(fields.word, words)];
    parts.extend(grams.map(|pattern| (fields.gram, pattern)));
    Box::new(PatternQuery::new(&parts, steps))
}

#[derive(Clone)]
enum Letters {
    /// The term begins with these bytes.
    Prefix(Arc<[u8]>),
    /// The Levenshtein automaton accepts it.
    Edits(Arc<tantivy::query::DfaWrapper>),
}

/// Terms whose letters match and whose length is in bounds. The bounds prune: longer terms are never read.
#[derive(Clone)]
struct Pattern {
    letters: Letters,
    chars_min: usize,
    chars_max: usize,
}

/// State after some bytes: of the letters (bytes matched, or state of the automaton; `None`: lost) and characters begun.
type PatternState = (Option<u32>, usize);

impl Automaton for Pattern {
    type State = PatternState;

    fn start(&self) -> PatternState {
        let letters = match &self.letters {
            Letters::Prefix(_) => 0,
            Letters::Edits(dfa) => dfa.start(),
        };
        (Some(letters), 0)
    }

    fn is_match(&self, (letters, chars): &PatternState) -> bool {
        let matched = letters.is_some_and(|state| match &self.letters {
            Letters::Prefix(prefix) => state as usize == prefix.len(),
            Letters::Edits(dfa) => dfa.is_match(&state),
        });
        matched && (self.chars_min..=self.chars_max).contains(chars)
    }

    fn can_match(&self, (letters, chars): &PatternState) -> bool {
        let possible = letters.is_some_and(|state| match &self.letters {
            Letters::Prefix(_) => true,
            Letters::Edits(dfa) => dfa.can_match(&state),
        });
        possible && *chars <= self.chars_max
    }

    fn accept(&self, (letters, chars): &PatternState, byte: u8) -> PatternState {
        let begins_character = byte & 0b1100_0000 != 0b1000_0000;
        let letters = letters.and_then(|state| match &self.letters {
            Letters::Prefix(prefix) => match prefix.get(state as usize) {
                Some(expected) if *expected == byte => Some(state + 1),
                Some(_) => None,
                None => Some(state),
            },
            Letters::Edits(dfa) => Some(dfa.accept(&state, byte)),
        });
        (letters, chars + usize::from(begins_character))
    }
}

/// Documents with a term that matches one of the patterns, each in its field. Scores 1.
#[derive(Clone)]
struct PatternQuery {
    parts: Arc<[(Field, Pattern)]>,
    /// Terms read so far, in all segments.
    terms_read: Arc<AtomicUsize>,
    steps: Steps,
}

impl std::fmt::Debug for PatternQuery {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("PatternQuery").field("parts", &self.parts.len()).finish_non_exhaustive()
    }
}

impl Query for PatternQuery {
    fn weight(&self, _scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for PatternQuery {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut docs: Option<BitSet> = None;
        for (field, pattern) in self.parts.iter() {
            self.collect(reader, *field, pattern, &mut docs)?;
        }
        Ok(match docs {
            Some(docs) if !self.steps.are_spent() => {
                let docs = Counted { docs: BitSetDocSet::from(docs), steps: self.steps.clone() };
                Box::new(ConstScorer::new(docs, boost))
            }
            _ => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        explain(self, reader, doc, "pattern")
    }
}

fn block_steps(docs: usize) -> u64 {
    (docs / DOCS_PER_STEP + 1) as u64
}

impl PatternQuery {
    fn new(parts: &[(Field, Pattern)], steps: &Steps) -> Self {
        Self { parts: parts.into(), terms_read: Arc::default(), steps: steps.clone() }
    }

    fn collect(
        &self,
        reader: &SegmentReader,
        field: Field,
        pattern: &Pattern,
        docs: &mut Option<BitSet>,
    ) -> tantivy::Result<()> {
        let inverted_index = reader.inverted_index(field)?;
        let mut terms = inverted_index.terms().search(pattern).without_keys().into_stream()?;
        let mut postings: Option<BlockSegmentPostings> = None;
        while terms.advance() {
            if self.terms_read.fetch_add(1, Ordering::Relaxed) >= PATTERN_TERMS_MAX {
                self.steps.note_too_broad();
                break;
            }
            if !self.steps.take(TERM_STEPS) {
                break;
            }
            let block = match &mut postings {
                Some(block) => {
                    inverted_index.reset_block_postings_from_terminfo(terms.value(), block)?;
                    block
                }
                none => none
                    .insert(inverted_index.read_block_postings_from_terminfo(terms.value(), IndexRecordOption::Basic)?),
            };
            let docs = docs.get_or_insert_with(|| BitSet::with_max_value(reader.max_doc()));
            while !block.docs().is_empty() && self.steps.take(block_steps(block.docs().len())) {
                for doc in block.docs() {
                    docs.insert(*doc);
                }
                block.advance();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &Pattern, term: &str, expected: bool) {
        let mut state = pattern.start();
        let mut pruned = false;
        for byte in term.bytes() {
            state = pattern.accept(&state, byte);
            pruned |= !pattern.can_match(&state);
        }
        assert_eq!(pattern.is_match(&state), expected, "{term:?}");
        assert!(!(pruned && expected), "{term:?} is a match, but was pruned");
    }

    #[test]
    fn prefixes_and_lengths() {
        let pattern = Pattern { letters: Letters::Prefix(Arc::from("éa".as_bytes())), chars_min: 2, chars_max: 4 };
        check(&pattern, "éa", true);
        check(&pattern, "éabc", true);
        check(&pattern, "éabcd", false);
        check(&pattern, "é", false);
        check(&pattern, "ea", false);
        let exact = Pattern { chars_min: 4, ..pattern };
        check(&exact, "éab", false);
        check(&exact, "éab山", true);
    }

    #[test]
    fn edits() {
        let (_, fields) = Fields::schema();
        let term = Term::from_field_text(fields.word, "jonh");
        let word = FuzzyTermQuery::new(term.clone(), 1, true).automaton().expect("a short word");
        let word = Pattern { letters: Letters::Edits(Arc::new(word)), chars_min: 0, chars_max: usize::MAX };
        check(&word, "john", true); // A swap is one edit.
        check(&word, "jonhs", true);
        check(&word, "jon", true);
        check(&word, "johns", false);
        let prefix = FuzzyTermQuery::new_prefix(term, 1, true).automaton().expect("a short word");
        let prefix = Pattern { letters: Letters::Edits(Arc::new(prefix)), chars_min: 0, chars_max: 6 };
        check(&prefix, "johns", true);
        check(&prefix, "johnson", false); // Too long for this pattern: its beginning of six matches instead.
        check(&prefix, "johnso", true);
    }
}
