//! Planning: clauses to a tantivy query.
//!
//! Entry point: [`plan`].
//!
//! A word scores as its best match; words add up. The steps, from the top:
//!
//! | match                                            | score |
//! |--------------------------------------------------|-------|
//! | the whole query, of several words, is the title  | + 16  |
//! | the whole query is the title, accents apart (not of mappings) | + 8   |
//! | the word is an id, a whole title, name, account  | 10    |
//! | word of the title / a name / an account or mapping | 6 / 5 / 4 |
//! | beginning of a word                              | 2     |
//! | a word some edits away                           | 1     |
//!
//! Below one step the kind decides (user, app, group, mapping), then the key.

use tantivy::query::{BooleanQuery, ConstScoreQuery, DisjunctionMaxQuery, Occur, PhraseQuery, Query, TermQuery};
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{Score, Term};

use crate::doc::DocKind;
use crate::expand::{Overflow, field_fuzzy_query, field_prefix_query, fuzzy_query, prefix_query};
use crate::fold::{is_ideograph, whole_value};
use crate::query::{Clause, FUZZY_TWO_EDITS_CHARS_MIN, Match, Target};
use crate::schema::Fields;
use crate::tokenize::{Words, lines};

/// Characters from which a word without matches is tried with one edit. Three letters are one edit from most others.
pub(crate) const FUZZY_CHARS_MIN: usize = 4;

const TITLE_IS_QUERY_SCORE: Score = 16.0;
const TITLE_FOLDS_TO_QUERY_SCORE: Score = 8.0;
const WHOLE_SCORE: Score = 10.0;
const WORD_SCORES: [Score; 3] = [6.0, 5.0, 4.0];
const MAPPING_SCORE: Score = 4.0;
const PREFIX_SCORE: Score = 2.0;
const FUZZY_SCORE: Score = 1.0;

/// How generous to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// As written.
    AsWritten,
    /// Words of [`FUZZY_CHARS_MIN`] characters also match with one edit.
    WithEdits,
}

/// The query for `clauses`. Whether a pattern was cut shows in `overflow` after the search.
pub(crate) fn plan(
    fields: &Fields,
    clauses: &[Clause],
    effort: Effort,
    overflow: &Overflow,
) -> tantivy::Result<Box<dyn Query>> {
    let planner = Planner { fields, overflow };
    let last_word = clauses.iter().rposition(|clause| !clause.excluded && is_plain_word(clause));
    let mut parts: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    let (mut kinds, mut statuses) = (Vec::new(), Vec::new());
    for (index, clause) in clauses.iter().enumerate() {
        // A document has one kind and one status: several of them can only mean any of them.
        match &clause.target {
            Target::Kind(kind) if !clause.excluded => kinds.push(planner.kind(*kind)),
            Target::Status(status) if !clause.excluded => statuses.push(planner.status(status)),
            target => {
                let occur = if clause.excluded { Occur::MustNot } else { Occur::Must };
                let effort = if clause.excluded { Effort::AsWritten } else { effort };
                parts.push((occur, planner.target(target, Some(index) == last_word, effort)?));
            }
        }
    }
    for filters in [kinds, statuses] {
        if !filters.is_empty() {
            parts.push((Occur::Must, unscored(any_of(filters))));
        }
    }
    parts.extend(planner.whole_query_bonus(clauses).into_iter().map(|query| (Occur::Should, query)));
    Ok(Box::new(BooleanQuery::new(parts)))
}

/// Whether any clause would match more with [`Effort::WithEdits`].
pub(crate) fn gains_from_edits(clauses: &[Clause]) -> bool {
    clauses.iter().any(|clause| {
        let Target::Words { text, how: Match::Word } = &clause.target else { return false };
        !clause.excluded && words_to_misspell(&Words::of(text)).into_iter().any(is_long)
    })
}

fn words_to_misspell(words: &Words) -> Vec<&str> {
    let parts = words.base_parts();
    if parts.len() == 1 { parts } else { words.joined() }
}

fn is_long(word: &str) -> bool {
    word.chars().count() >= FUZZY_CHARS_MIN
}

fn is_plain_word(clause: &Clause) -> bool {
    matches!(clause.target, Target::Words { how: Match::Word, .. })
}

/// The query for one kind, for suggestions.
pub(crate) fn kind_query(fields: &Fields, kind: DocKind) -> Box<dyn Query> {
    term(Term::from_field_u64(fields.kind, kind.number()))
}

/// Documents one of whose whole values, or ids, is `text`.
pub(crate) fn whole_query(fields: &Fields, text: &str) -> Box<dyn Query> {
    any_of(whole_terms(fields, text))
}

fn whole_terms(fields: &Fields, text: &str) -> Vec<Box<dyn Query>> {
    let whole = whole_value(text);
    let mut queries: Vec<Box<dyn Query>> = fields.wholes().map(|field| text_term(field, &whole)).into();
    queries.push(text_term(fields.id, text));
    queries
}

struct Planner<'a> {
    fields: &'a Fields,
    overflow: &'a Overflow,
}

impl Planner<'_> {
    fn target(&self, target: &Target, last_word: bool, effort: Effort) -> tantivy::Result<Box<dyn Query>> {
        Ok(match target {
            Target::Words { text, how } => self.words(text, *how, last_word, effort)?,
            Target::Kind(kind) => unscored(self.kind(*kind)),
            Target::Status(status) => unscored(self.status(status)),
            Target::App(app) => unscored(self.app(app)),
            Target::Account { text, how } => unscored(self.account(text, *how)?),
            Target::Id(id) => unscored(text_term(self.fields.id, id)),
        })
    }

    fn kind(&self, kind: DocKind) -> Box<dyn Query> {
        kind_query(self.fields, kind)
    }

    fn status(&self, status: &str) -> Box<dyn Query> {
        text_term(self.fields.status, &whole_value(status))
    }

    fn app(&self, app: &str) -> Box<dyn Query> {
        let mut queries = vec![text_term(self.fields.app, app)];
        queries.extend(lines(app).iter().map(|line| text_term(self.fields.app_line, line)));
        let words = Words::of(app);
        queries.extend(one_word(&words).into_iter().map(|word| text_term(self.fields.app_label, word)));
        any_of(queries)
    }

    fn account(&self, text: &str, how: Match) -> tantivy::Result<Box<dyn Query>> {
        let whole = text_term(self.fields.account_whole, &whole_value(text));
        let words = Words::of(text);
        let parts = words.base_parts();
        let mut queries = vec![whole];
        match (how, parts.as_slice()) {
            (Match::Prefix, _) => {
                queries.push(field_prefix_query(self.fields.account_whole, &whole_value(text), self.overflow));
                if let [part] = parts.as_slice() {
                    let fields = [self.fields.account, self.fields.mapping];
                    queries.extend(fields.map(|field| field_prefix_query(field, part, self.overflow)));
                }
            }
            (Match::Fuzzy, [_, ..]) => {
                queries.push(field_fuzzy_query(
                    self.fields.account_whole,
                    &whole_value(text),
                    edits_for(text),
                    self.overflow,
                )?);
            }
            (Match::Word, _) => {
                let fields = [self.fields.account, self.fields.mapping];
                let words = one_word(&words);
                queries.extend(fields.iter().flat_map(|field| words.iter().map(|word| text_term(*field, word))));
            }
            _ => {}
        }
        Ok(any_of(queries))
    }

    fn words(&self, text: &str, how: Match, last_word: bool, effort: Effort) -> tantivy::Result<Box<dyn Query>> {
        let words = Words::of(text);
        let parts = words.base_parts();
        let spelt_out = words.spelt_out_parts();
        let mut matches: Vec<(Score, Box<dyn Query>)> = Vec::new();
        if matches!(how, Match::Word | Match::Phrase) {
            matches.extend(whole_terms(self.fields, text).into_iter().map(|query| (WHOLE_SCORE, query)));
        }
        for (field, score) in self.fields.words().into_iter().zip(WORD_SCORES) {
            let spellings = std::iter::once(&parts).chain(&spelt_out);
            matches.extend(spellings.filter_map(|parts| phrase(field, parts)).map(|query| (score, query)));
            matches.extend(words.joined().iter().map(|joined| (score, text_term(field, joined))));
        }
        if matches!(how, Match::Word | Match::Phrase) {
            let of_mapping = one_word(&words).into_iter().map(|word| text_term(self.fields.mapping, word));
            matches.extend(of_mapping.map(|query| (MAPPING_SCORE, query)));
        }
        if how == Match::Prefix || (how == Match::Word && last_word) {
            matches.extend(self.beginnings(&words).into_iter().map(|query| (PREFIX_SCORE, query)));
        }
        if how == Match::Fuzzy || (how == Match::Word && effort == Effort::WithEdits) {
            matches.extend(self.misspelt(&words, how)?.into_iter().map(|query| (FUZZY_SCORE, query)));
        }
        Ok(best_of(matches))
    }

    /// The text as the beginning of something longer: its last part is one, and those before it stand next to each other.
    fn beginnings(&self, words: &Words) -> Vec<Box<dyn Query>> {
        let joined = words.joined();
        if !joined.is_empty() {
            // `o'bri` begins `obrien`. As parts it would also find `Brian O`.
            return joined.into_iter().map(|joined| prefix_query(self.fields, joined, self.overflow)).collect();
        }
        let spellings = std::iter::once(words.base_parts()).chain(words.spelt_out_parts());
        spellings.filter_map(|parts| self.beginning(&parts)).collect()
    }

    fn beginning(&self, parts: &[&str]) -> Option<Box<dyn Query>> {
        let (last, before) = parts.split_last()?;
        if before.is_empty() {
            return Some(prefix_query(self.fields, last, self.overflow));
        }
        if last.chars().all(is_ideograph) {
            return None; // Nothing goes on within it, so the phrase has said all.
        }
        let before = self.fields.words().into_iter().filter_map(|field| phrase(field, before)).collect();
        Some(all_of(vec![any_of(before), prefix_query(self.fields, last, self.overflow)]))
    }

    /// The text with edits: a single word, or a name joined by apostrophes and hyphens. Of an e-mail address or an id
    /// only the exact one is meant.
    fn misspelt(&self, words: &Words, how: Match) -> tantivy::Result<Vec<Box<dyn Query>>> {
        let edits = |word: &str| if how == Match::Fuzzy { edits_for(word) } else { 1 };
        let chosen = words_to_misspell(words);
        let chosen = chosen.into_iter().filter(|word| how == Match::Fuzzy || is_long(word));
        chosen.map(|word| fuzzy_query(self.fields, word, edits(word), self.overflow)).collect()
    }

    /// A document whose title is all the words of the query stands before one that has the words scattered.
    fn whole_query_bonus(&self, clauses: &[Clause]) -> Vec<Box<dyn Query>> {
        let mut words = Vec::new();
        for clause in clauses {
            match &clause.target {
                Target::Words { text, how: Match::Word } if !clause.excluded => words.push(text.as_str()),
                Target::Words { .. } => return Vec::new(),
                _ => {}
            }
        }
        if words.is_empty() {
            return Vec::new();
        }
        let text = words.join(" ");
        let mut queries = Vec::new();
        if words.len() > 1 {
            // One word alone has scored as a whole title already, and no better than as a whole account name.
            queries.push(scored(text_term(self.fields.title_whole, &whole_value(&text)), TITLE_IS_QUERY_SCORE));
        }
        let folded: Vec<Box<dyn Query>> = lines(&text)
            .iter()
            .flat_map(|line| {
                DocKind::ALL.map(|kind| text_term(self.fields.title_line, &format!("{}{line}", kind.tag())))
            })
            .collect();
        if !folded.is_empty() {
            queries.push(scored(any_of(folded), TITLE_FOLDS_TO_QUERY_SCORE));
        }
        queries
    }
}

/// The spellings of the text as one word; none if it is several.
fn one_word(words: &Words) -> Vec<&str> {
    if let [_] = words.base_parts().as_slice() {
        return words.iter().map(|(word, _)| word).collect();
    }
    words.joined()
}

fn edits_for(word: &str) -> u8 {
    if word.chars().count() >= FUZZY_TWO_EDITS_CHARS_MIN { 2 } else { 1 }
}

/// The parts next to each other in `field`. `None`: no parts.
fn phrase(field: Field, parts: &[&str]) -> Option<Box<dyn Query>> {
    match parts {
        [] => None,
        [word] => Some(text_term(field, word)),
        _ => Some(Box::new(PhraseQuery::new(parts.iter().map(|part| Term::from_field_text(field, part)).collect()))),
    }
}

fn text_term(field: Field, text: &str) -> Box<dyn Query> {
    term(Term::from_field_text(field, text))
}

fn term(term: Term) -> Box<dyn Query> {
    Box::new(TermQuery::new(term, IndexRecordOption::Basic))
}

fn scored(query: Box<dyn Query>, score: Score) -> Box<dyn Query> {
    Box::new(ConstScoreQuery::new(query, score))
}

fn unscored(query: Box<dyn Query>) -> Box<dyn Query> {
    scored(query, 0.0)
}

fn best_of(matches: Vec<(Score, Box<dyn Query>)>) -> Box<dyn Query> {
    Box::new(DisjunctionMaxQuery::new(matches.into_iter().map(|(score, query)| scored(query, score)).collect()))
}

pub(crate) fn any_of(queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    Box::new(BooleanQuery::union(queries))
}

pub(crate) fn all_of(queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    Box::new(BooleanQuery::intersection(queries))
}
