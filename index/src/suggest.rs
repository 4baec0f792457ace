//! Suggesting: what a person means who has typed this much of a name.
//!
//! Entry point: [`crate::Reader::suggest`].
//!
//! | score | match                                                                             | order inside |
//! |-------|-----------------------------------------------------------------------------------|--------------|
//! | 4     | exact: the text is the whole title, a whole name, account or id                   | kind, key    |
//! | 3     | the title begins with the text                                                    | title, key   |
//! | 2     | every word of the text begins a word of the document                              | kind, key    |
//! | 1     | the same, with one edit in words of [`SUGGEST_FUZZY_CHARS_MIN`] characters or more | kind, key    |
//!
//! Invariants:
//! - A document stands in the first row it matches, once.
//! - The last row is looked at only if those above hold no exact match and fewer than [`SUGGEST_FUZZY_BELOW_HITS`].
//! - Of each row a bounded part is looked at; where more documents match, the order is that of this part.
//! - A lower row is looked at only if those above left room: most keystrokes are answered by a walk over the first
//!   20 titles.
//! - Accents and case make no difference.

use std::collections::{BTreeSet, HashSet};

use tantivy::columnar::StrColumn;
use tantivy::query::Query;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, Searcher, TantivyError, Term};

use crate::collect::{Collect, Found};
use crate::doc::DocKind;
use crate::expand::{fuzzy_prefix_query, prefix_query};
use crate::plan::{all_of, any_of, term, whole_query};
use crate::query::{ParseError, QUERY_BYTES_MAX};
use crate::reader::{Hit, QueryError, hit_with_score, run};
use crate::schema::{Fields, KEY};
use crate::steps::Steps;
use crate::tokenize::{Words, lines};

/// Suggestions of one answer. A list that is longer is not read while typing.
pub const SUGGESTIONS_MAX: usize = 20;

/// Characters from which a word is also tried with one edit.
pub const SUGGEST_FUZZY_CHARS_MIN: usize = 4;

/// Suggestions below which words are tried with one edit: with a few good ones on the list, near misses only bury them.
pub const SUGGEST_FUZZY_BELOW_HITS: usize = 3;

/// Words that count; further ones are ignored. Names have up to five, and each word is a walk over its matches.
const SUGGEST_WORDS_MAX: usize = 8;

/// Entries of titles that one segment is asked for beyond those wanted. Bounds the walk over titles whose documents
/// were deleted but not merged away yet (a third of a segment at most).
const TITLE_ENTRIES_MAX: usize = 100_000;

/// Steps of one row of the table. A beginning that more documents have suggests the first of those looked at: whoever has
/// typed so little goes on typing.
const SUGGEST_STEPS_MAX: u64 = 100_000;

const EXACT_SCORE: f32 = 4.0;
const TITLE_SCORE: f32 = 3.0;
const WORDS_SCORE: f32 = 2.0;
const FUZZY_SCORE: f32 = 1.0;

/// What was typed so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuggestQuery {
    /// The text, as typed; at most [`QUERY_BYTES_MAX`] bytes. No query language.
    pub text: String,
    /// Kinds to suggest; empty: users. Mappings match in the first row only.
    pub kinds: Vec<DocKind>,
    /// Hits to return, at most [`SUGGESTIONS_MAX`].
    pub limit: usize,
}

impl SuggestQuery {
    /// The first 10 users for `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), kinds: Vec::new(), limit: 10 }
    }
}

/// Suggests; see the table above.
pub(crate) fn suggest(searcher: &Searcher, fields: &Fields, query: &SuggestQuery) -> Result<Vec<Hit>, QueryError> {
    if query.limit > SUGGESTIONS_MAX {
        return Err(QueryError::Page { offset: 0, limit: query.limit, max: SUGGESTIONS_MAX });
    }
    if query.text.len() > QUERY_BYTES_MAX {
        return Err(QueryError::Parse(ParseError::TooLong { found: query.text.len() }));
    }
    let typed_lines = lines(&query.text);
    if typed_lines.is_empty() || query.limit == 0 {
        return Ok(Vec::new());
    }
    let kinds: BTreeSet<DocKind> =
        if query.kinds.is_empty() { [DocKind::User].into() } else { query.kinds.iter().copied().collect() };
    let walk = Walk { searcher, fields, kinds, limit: query.limit };
    let mut hits = Hits { hits: Vec::new(), seen: HashSet::new(), limit: query.limit };
    hits.add(walk.exact(&query.text, &typed_lines)?, EXACT_SCORE);
    if hits.have_room() {
        hits.add(walk.titles(&typed_lines, hits.hits.len())?, TITLE_SCORE);
    }
    if hits.have_room() {
        hits.add(walk.words(&query.text, Spelling::AsTyped, hits.hits.len())?, WORDS_SCORE);
    }
    // Who has typed an exact name or login has made no mistake.
    if hits.hits.len() < SUGGEST_FUZZY_BELOW_HITS.min(query.limit)
        && hits.hits.iter().all(|hit| hit.score < EXACT_SCORE)
    {
        hits.add(walk.words(&query.text, Spelling::OneEdit, hits.hits.len())?, FUZZY_SCORE);
    }
    Ok(hits.hits)
}

struct Hits {
    hits: Vec<Hit>,
    seen: HashSet<String>,
    limit: usize,
}

impl Hits {
    fn have_room(&self) -> bool {
        self.hits.len() < self.limit
    }

    fn add(&mut self, found: Vec<Found>, score: f32) {
        for found in found {
            if self.have_room() && self.seen.insert(found.key.clone()) {
                self.hits.push(hit_with_score(found, score));
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spelling {
    AsTyped,
    OneEdit,
}

struct Walk<'a> {
    searcher: &'a Searcher,
    fields: &'a Fields,
    kinds: BTreeSet<DocKind>,
    limit: usize,
}

impl Walk<'_> {
    fn exact(&self, text: &str, typed_lines: &[String]) -> Result<Vec<Found>, QueryError> {
        let steps = Steps::new(SUGGEST_STEPS_MAX);
        let mut queries = vec![whole_query(self.fields, text, &steps)];
        for (kind, line) in self.kinds.iter().flat_map(|kind| typed_lines.iter().map(move |line| (kind, line))) {
            let title = Term::from_field_text(self.fields.title_line, &tagged(*kind, line));
            queries.push(term(title, &steps));
        }
        self.best(any_of(queries).as_ref(), self.limit, &steps)
    }

    /// Documents by words that begin with the typed ones. `known` of them may be known already.
    fn words(&self, text: &str, spelling: Spelling, known: usize) -> Result<Vec<Found>, QueryError> {
        let steps = Steps::new(SUGGEST_STEPS_MAX);
        let words = Words::of(text);
        let mut spellings = vec![words.base_parts(), words.joined()];
        spellings.extend(words.spelt_out_parts());
        // Joined forms are alternatives of one word each, not a sequence.
        let joined = spellings.remove(1);
        let mut queries = Vec::new();
        for parts in &spellings {
            queries.extend(self.beginnings(parts, spelling, &steps)?);
        }
        for joined in joined {
            queries.extend(self.beginnings(&[joined], spelling, &steps)?);
        }
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        self.best(any_of(queries).as_ref(), self.limit + known, &steps)
    }

    /// `None`: with an edit allowed nothing would change.
    fn beginnings(
        &self,
        parts: &[&str],
        spelling: Spelling,
        steps: &Steps,
    ) -> Result<Option<Box<dyn Query>>, QueryError> {
        let mut queries = Vec::new();
        let mut edits = false;
        // The longest first: where it begins no word, the others are not looked for.
        let mut parts: Vec<&str> = parts.iter().copied().take(SUGGEST_WORDS_MAX).collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        for part in parts {
            let long = part.chars().count() >= SUGGEST_FUZZY_CHARS_MIN;
            queries.push(if spelling == Spelling::OneEdit && long {
                edits = true;
                fuzzy_prefix_query(self.fields, part, steps).map_err(QueryError::Search)?
            } else {
                prefix_query(self.fields, part, steps)
            });
        }
        let useful = !queries.is_empty() && (spelling == Spelling::AsTyped || edits);
        Ok(useful.then(|| all_of(queries)))
    }

    /// The first `count` documents of our kinds, by key.
    fn best(&self, query: &dyn Query, count: usize, steps: &Steps) -> Result<Vec<Found>, QueryError> {
        let kinds = DocKind::ALL.map(|kind| self.kinds.contains(&kind));
        let collect = Collect { best_count: count, facets: false, scored: false, kinds, steps: steps.clone() };
        Ok(run(self.searcher, query, &collect)?.best)
    }

    /// Documents whose title begins with a typed line, in the order of their titles. `known` may be known already.
    fn titles(&self, typed_lines: &[String], known: usize) -> Result<Vec<Found>, QueryError> {
        let count = self.limit + known;
        let mut entries = Vec::new();
        for (kind, line) in self.kinds.iter().flat_map(|kind| typed_lines.iter().map(move |line| (*kind, line))) {
            for segment in 0..self.searcher.segment_readers().len() {
                self.title_entries(segment, kind, line, count, &mut entries).map_err(QueryError::Search)?;
            }
        }
        // By title whatever the kind. Keys decide among equal titles only, and are read for those that may be wanted.
        entries.sort_unstable_by(|a, b| a.title.cmp(&b.title));
        let mut documents = HashSet::new();
        let last = entries.iter().find(|entry| {
            documents.insert((entry.segment, entry.key_ordinal));
            documents.len() == count
        });
        let wanted = last.map_or(entries.len(), |last| entries.partition_point(|entry| entry.title <= last.title));
        let mut named = Vec::with_capacity(wanted);
        for entry in entries.drain(..wanted) {
            let keys = self.keys(entry.segment).map_err(QueryError::Search)?;
            let mut key = String::new();
            if let Some(keys) = keys
                && keys.ord_to_str(entry.key_ordinal, &mut key).map_err(|error| QueryError::Search(error.into()))?
            {
                named.push((entry.title, key, entry.kind));
            }
        }
        named.sort_unstable();
        Ok(named.into_iter().map(|(_, key, kind)| Found { key, kind, score: 0.0 }).collect())
    }

    fn keys(&self, segment: usize) -> tantivy::Result<Option<StrColumn>> {
        self.searcher.segment_readers()[segment].fast_fields().str(KEY)
    }

    /// Adds the first `count` documents of the segment whose title begins with `line`.
    fn title_entries(
        &self,
        segment_ordinal: usize,
        kind: DocKind,
        line: &str,
        count: usize,
        entries: &mut Vec<TitleEntry>,
    ) -> tantivy::Result<()> {
        let Some(keys) = self.keys(segment_ordinal)? else { return Ok(()) };
        let segment = &self.searcher.segment_readers()[segment_ordinal];
        let begin = tagged(kind, line);
        let inverted_index = segment.inverted_index(self.fields.title_line)?;
        let mut titles = inverted_index.terms().range().ge(&begin).into_stream()?;
        let mut found: HashSet<u64> = HashSet::new();
        let mut visited = 0;
        while titles.advance() && found.len() < count && visited < TITLE_ENTRIES_MAX {
            if !titles.key().starts_with(begin.as_bytes()) {
                break;
            }
            let title = titles.key()[kind.tag().len_utf8()..].to_vec();
            let title =
                String::from_utf8(title).map_err(|_| TantivyError::InternalError("a title is not UTF-8".to_owned()))?;
            let mut key_ordinals = Vec::new();
            let mut postings =
                inverted_index.read_block_postings_from_terminfo(titles.value(), IndexRecordOption::Basic)?;
            while !postings.docs().is_empty() {
                let is_alive = |doc: &&DocId| segment.alive_bitset().is_none_or(|alive| alive.is_alive(**doc));
                let alive = postings.docs().iter().filter(is_alive);
                key_ordinals.extend(alive.filter_map(|doc| keys.ords().first(*doc)));
                visited += postings.docs().len();
                postings.advance();
            }
            key_ordinals.sort_unstable();
            for key_ordinal in key_ordinals {
                if found.len() >= count {
                    break;
                }
                if found.insert(key_ordinal) {
                    entries.push(TitleEntry { title: title.clone(), kind, segment: segment_ordinal, key_ordinal });
                }
            }
        }
        Ok(())
    }
}

/// A title of a document of a segment.
struct TitleEntry {
    title: String,
    kind: DocKind,
    segment: usize,
    key_ordinal: u64,
}

fn tagged(kind: DocKind, line: &str) -> String {
    format!("{}{line}", kind.tag())
}
