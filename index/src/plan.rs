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

use std::collections::BTreeSet;

use tantivy::query::{BooleanQuery, ConstScoreQuery, Occur, PhraseQuery, Query};
use tantivy::schema::Field;
use tantivy::{Score, Term};

use crate::doc::DocKind;
use crate::expand::{field_fuzzy_query, field_prefix_query, fuzzy_query, prefix_query};
use crate::fold::{is_ideograph, whole_value};
use crate::lists::{BestOf, TermList};
use crate::query::{Clause, FUZZY_TWO_EDITS_CHARS_MIN, Match, Target};
use crate::schema::Fields;
use crate::steps::Steps;
use crate::tokenize::{Words, is_machine_id, lines};

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

/// Which matches of words count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Floor(Score);

impl Floor {
    /// Every match counts.
    pub(crate) const NONE: Self = Self(0.0);

    /// Best matches first: only whole values and ids; with words of titles; with words of names; with words of accounts.
    pub(crate) const STAGES: [Self; 4] =
        [Self(WHOLE_SCORE), Self(WORD_SCORES[0]), Self(WORD_SCORES[1]), Self(WORD_SCORES[2])];
}

/// Whether any match of the clauses is better than others: without words all are alike.
pub(crate) fn has_better_matches(clauses: &[Clause]) -> bool {
    clauses.iter().any(|clause| !clause.excluded && matches!(clause.target, Target::Words { .. }))
}

/// The query for `clauses`. Whether a pattern was cut shows in `steps` after the search, and whether they sufficed.
pub(crate) fn plan(
    fields: &Fields,
    clauses: &[Clause],
    effort: Effort,
    floor: Floor,
    steps: &Steps,
) -> tantivy::Result<Box<dyn Query>> {
    let planner = Planner { fields, steps, floor: floor.0 };
    // What is excluded is so by whatever match.
    let excluder = Planner { floor: Floor::NONE.0, ..planner };
    let last_word = clauses.iter().rposition(|clause| !clause.excluded && is_plain_word(clause));
    let mut parts: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    let (mut kinds, mut statuses) = (BTreeSet::new(), Vec::new());
    for (index, clause) in clauses.iter().enumerate() {
        // A document has one kind and one status: several of them can only mean any of them.
        match &clause.target {
            Target::Kind(kind) if !clause.excluded => drop(kinds.insert(*kind)),
            Target::Kind(_) => {}
            Target::Status(status) if !clause.excluded => statuses.push(planner.status(status)),
            target => {
                let query = match clause.excluded {
                    true => (Occur::MustNot, excluder.target(target, false, Effort::AsWritten)?),
                    false => (Occur::Must, planner.target(target, Some(index) == last_word, effort)?),
                };
                parts.push(query);
            }
        }
    }
    // And it has one in any case, so leaving out some means the others, whose lists can be short.
    let is_left_out =
        |kind: &DocKind| clauses.iter().any(|clause| clause.excluded && clause.target == Target::Kind(*kind));
    let wanted = DocKind::ALL.iter().filter(|kind| (kinds.is_empty() || kinds.contains(kind)) && !is_left_out(kind));
    let wanted: Vec<_> = wanted.map(|kind| planner.kind(*kind)).collect();
    if wanted.len() < DocKind::ALL.len() || !kinds.is_empty() {
        parts.push((Occur::Must, unscored(any_of(wanted))));
    }
    if !statuses.is_empty() {
        parts.push((Occur::Must, unscored(any_of(statuses))));
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

/// Documents one of whose whole values, or ids, is `text`.
pub(crate) fn whole_query(fields: &Fields, text: &str, steps: &Steps) -> Box<dyn Query> {
    any_of(whole_terms(fields, text, steps))
}

fn whole_terms(fields: &Fields, text: &str, steps: &Steps) -> Vec<Box<dyn Query>> {
    let whole = whole_value(text);
    let mut queries: Vec<Box<dyn Query>> = fields.wholes().map(|field| text_term(field, &whole, steps)).into();
    queries.push(text_term(fields.id, text, steps));
    queries
}

#[derive(Clone, Copy)]
struct Planner<'a> {
    fields: &'a Fields,
    steps: &'a Steps,
    floor: Score,
}

impl Planner<'_> {
    fn term(&self, field: Field, text: &str) -> Box<dyn Query> {
        text_term(field, text, self.steps)
    }

    /// The parts next to each other in `field`. `None`: no parts.
    fn phrase(&self, field: Field, parts: &[&str]) -> Option<Box<dyn Query>> {
        match parts {
            [] => None,
            [word] => Some(self.term(field, word)),
            _ => {
                let phrase = PhraseQuery::new(parts.iter().map(|part| Term::from_field_text(field, part)).collect());
                // Whether the parts stand together at all is found by lists that count.
                let mut queries: Vec<Box<dyn Query>> = parts.iter().map(|part| self.term(field, part)).collect();
                queries.push(Box::new(phrase));
                Some(all_of(queries))
            }
        }
    }

    fn target(&self, target: &Target, last_word: bool, effort: Effort) -> tantivy::Result<Box<dyn Query>> {
        Ok(match target {
            Target::Words { text, how } => self.words(text, *how, last_word, effort)?,
            Target::Kind(kind) => unscored(self.kind(*kind)),
            Target::Status(status) => unscored(self.status(status)),
            Target::App(app) => unscored(self.app(app)),
            Target::Account { text, how } => unscored(self.account(text, *how)?),
            Target::Id(id) => unscored(self.id(id)),
        })
    }

    fn kind(&self, kind: DocKind) -> Box<dyn Query> {
        term(Term::from_field_u64(self.fields.kind, kind.number()), self.steps)
    }

    fn status(&self, status: &str) -> Box<dyn Query> {
        self.term(self.fields.status, &whole_value(status))
    }

    /// An id that a machine made may stand among the names of accounts, where case makes no difference.
    fn id(&self, id: &str) -> Box<dyn Query> {
        let mut queries = vec![self.term(self.fields.id, id)];
        if is_machine_id(id) {
            queries.push(self.term(self.fields.account_whole, &whole_value(id)));
        }
        any_of(queries)
    }

    fn app(&self, app: &str) -> Box<dyn Query> {
        let mut queries = vec![self.term(self.fields.app, app)];
        queries.extend(lines(app).iter().map(|line| self.term(self.fields.app_line, line)));
        let words = Words::of(app);
        queries.extend(one_word(&words).into_iter().map(|word| self.term(self.fields.app_label, word)));
        any_of(queries)
    }

    fn account(&self, text: &str, how: Match) -> tantivy::Result<Box<dyn Query>> {
        let whole = self.term(self.fields.account_whole, &whole_value(text));
        let words = Words::of(text);
        let parts = words.base_parts();
        let mut queries = vec![whole];
        match (how, parts.as_slice()) {
            (Match::Prefix, _) => {
                queries.push(field_prefix_query(self.fields.account_whole, &whole_value(text), self.steps));
                if let [part] = parts.as_slice() {
                    let fields = [self.fields.account, self.fields.mapping];
                    queries.extend(fields.map(|field| field_prefix_query(field, part, self.steps)));
                }
            }
            (Match::Fuzzy, [_, ..]) => {
                queries.push(field_fuzzy_query(
                    self.fields.account_whole,
                    &whole_value(text),
                    edits_for(text),
                    self.steps,
                )?);
            }
            (Match::Word, _) => {
                let fields = [self.fields.account, self.fields.mapping];
                let words = one_word(&words);
                queries.extend(fields.iter().flat_map(|field| words.iter().map(|word| self.term(*field, word))));
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
            matches.extend(whole_terms(self.fields, text, self.steps).into_iter().map(|query| (WHOLE_SCORE, query)));
        }
        for (field, score) in self.fields.words().into_iter().zip(WORD_SCORES) {
            let spellings = std::iter::once(&parts).chain(&spelt_out);
            matches.extend(spellings.filter_map(|parts| self.phrase(field, parts)).map(|query| (score, query)));
            matches.extend(words.joined().iter().map(|joined| (score, self.term(field, joined))));
        }
        if matches!(how, Match::Word | Match::Phrase) {
            let of_mapping = one_word(&words).into_iter().map(|word| self.term(self.fields.mapping, word));
            matches.extend(of_mapping.map(|query| (MAPPING_SCORE, query)));
        }
        if PREFIX_SCORE >= self.floor && (how == Match::Prefix || (how == Match::Word && last_word)) {
            matches.extend(self.beginnings(&words).into_iter().map(|query| (PREFIX_SCORE, query)));
        }
        if FUZZY_SCORE >= self.floor && (how == Match::Fuzzy || (how == Match::Word && effort == Effort::WithEdits)) {
            matches.extend(self.misspelt(&words, how)?.into_iter().map(|query| (FUZZY_SCORE, query)));
        }
        matches.retain(|(score, _)| *score >= self.floor);
        Ok(best_of(matches))
    }

    /// The text as the beginning of something longer: its last part is one, and those before it stand next to each other.
    fn beginnings(&self, words: &Words) -> Vec<Box<dyn Query>> {
        let joined = words.joined();
        if !joined.is_empty() {
            // `o'bri` begins `obrien`. As parts it would also find `Brian O`.
            return joined.into_iter().map(|joined| prefix_query(self.fields, joined, self.steps)).collect();
        }
        let spellings = std::iter::once(words.base_parts()).chain(words.spelt_out_parts());
        spellings.filter_map(|parts| self.beginning(&parts)).collect()
    }

    fn beginning(&self, parts: &[&str]) -> Option<Box<dyn Query>> {
        let (last, before) = parts.split_last()?;
        if before.is_empty() {
            return Some(prefix_query(self.fields, last, self.steps));
        }
        if last.chars().all(is_ideograph) {
            return None; // Nothing goes on within it, so the phrase has said all.
        }
        let before = self.fields.words().into_iter().filter_map(|field| self.phrase(field, before)).collect();
        Some(all_of(vec![any_of(before), prefix_query(self.fields, last, self.steps)]))
    }

    /// The text with edits: a single word, or a name joined by apostrophes and hyphens. Of an e-mail address or an id
    /// only the exact one is meant.
    fn misspelt(&self, words: &Words, how: Match) -> tantivy::Result<Vec<Box<dyn Query>>> {
        let edits = |word: &str| if how == Match::Fuzzy { edits_for(word) } else { 1 };
        let chosen = words_to_misspell(words);
        let chosen = chosen.into_iter().filter(|word| how == Match::Fuzzy || is_long(word));
        chosen.map(|word| fuzzy_query(self.fields, word, edits(word), self.steps)).collect()
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
            queries.push(scored(self.term(self.fields.title_whole, &whole_value(&text)), TITLE_IS_QUERY_SCORE));
        }
        let folded: Vec<Box<dyn Query>> = lines(&text)
            .iter()
            .flat_map(|line| {
                DocKind::ALL.map(|kind| self.term(self.fields.title_line, &format!("{}{line}", kind.tag())))
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

fn text_term(field: Field, text: &str, steps: &Steps) -> Box<dyn Query> {
    term(Term::from_field_text(field, text), steps)
}

/// Documents with this term.
pub(crate) fn term(term: Term, steps: &Steps) -> Box<dyn Query> {
    Box::new(TermList { term, steps: steps.clone() })
}

fn scored(query: Box<dyn Query>, score: Score) -> Box<dyn Query> {
    Box::new(ConstScoreQuery::new(query, score))
}

fn unscored(query: Box<dyn Query>) -> Box<dyn Query> {
    scored(query, 0.0)
}

fn best_of(matches: Vec<(Score, Box<dyn Query>)>) -> Box<dyn Query> {
    Box::new(BestOf::new(matches))
}

pub(crate) fn any_of(queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    best_of(queries.into_iter().map(|query| (1.0, query)).collect())
}

pub(crate) fn all_of(queries: Vec<Box<dyn Query>>) -> Box<dyn Query> {
    Box::new(BooleanQuery::intersection(queries))
}
