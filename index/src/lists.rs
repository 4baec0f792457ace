//! Walking lists of documents: those of one term, and those of the best of several matches.
//!
//! Entry points: [`TermList`], [`BestOf`].
//!
//! tantivy has both, but its unions look ahead by thousands of documents in two buffers each, which are cleared at each jump,
//! and nothing of it can be stopped.
//!
//! Invariants:
//! - A score is that of the best matching part, never a sum; parts are ordered by it, best first.
//! - Every list counts its [`Steps`].

use std::sync::Arc;

use tantivy::postings::SegmentPostings;
use tantivy::query::{ConstScorer, EmptyScorer, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocId, DocSet, Score, SeekDangerResult, SegmentReader, TERMINATED, TantivyError, Term};

use crate::steps::Steps;

/// Documents with one term. Scores 1.
#[derive(Clone, Debug)]
pub(crate) struct TermList {
    pub(crate) term: Term,
    pub(crate) steps: Steps,
}

impl Query for TermList {
    fn weight(&self, _scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        Ok(Box::new(self.clone()))
    }
}

impl Weight for TermList {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let list = reader.inverted_index(self.term.field())?;
        Ok(match list.read_postings(&self.term, IndexRecordOption::Basic)? {
            Some(postings) if !self.steps.are_spent() => {
                let list = Counted { docs: postings, steps: self.steps.clone() };
                Box::new(ConstScorer::new(list, boost))
            }
            _ => Box::new(EmptyScorer),
        })
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        explain(self, reader, doc, "term")
    }
}

/// A list that counts. It ends when the steps do.
pub(crate) struct Counted<T: DocSet> {
    pub(crate) docs: T,
    pub(crate) steps: Steps,
}

impl<T: DocSet> DocSet for Counted<T> {
    #[inline]
    fn advance(&mut self) -> DocId {
        if self.steps.take(1) { self.docs.advance() } else { self.docs.seek(TERMINATED) }
    }

    #[inline]
    fn seek(&mut self, target: DocId) -> DocId {
        if self.steps.take(SEEK_STEPS) { self.docs.seek(target) } else { self.docs.seek(TERMINATED) }
    }

    #[inline]
    fn seek_danger(&mut self, target: DocId) -> SeekDangerResult {
        if self.steps.take(SEEK_STEPS) {
            self.docs.seek_danger(target)
        } else {
            SeekDangerResult::SeekLowerBound(TERMINATED)
        }
    }

    #[inline]
    fn doc(&self) -> DocId {
        self.docs.doc()
    }

    fn size_hint(&self) -> u32 {
        self.docs.size_hint()
    }

    fn cost(&self) -> u64 {
        self.docs.cost()
    }
}

/// A jump decodes a block of a list, mostly.
const SEEK_STEPS: u64 = 4;

/// Documents that match any of the parts, with the score of the best. Parts have no score of their own.
#[derive(Clone, Debug)]
pub(crate) struct BestOf {
    parts: Arc<[(Score, Box<dyn Query>)]>,
}

impl BestOf {
    pub(crate) fn new(mut parts: Vec<(Score, Box<dyn Query>)>) -> Self {
        parts.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        Self { parts: parts.into() }
    }
}

impl Query for BestOf {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        let unscored = || match scoring.searcher() {
            Some(searcher) => EnableScoring::disabled_from_searcher(searcher),
            None => EnableScoring::disabled_from_schema(scoring.schema()),
        };
        let weights = self.parts.iter().map(|(score, part)| Ok((*score, part.weight(unscored())?)));
        Ok(Box::new(BestOfWeight { parts: weights.collect::<tantivy::Result<_>>()? }))
    }
}

struct BestOfWeight {
    parts: Vec<(Score, Box<dyn Weight>)>,
}

impl Weight for BestOfWeight {
    fn scorer(&self, reader: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        let mut parts = Vec::with_capacity(self.parts.len());
        for (score, weight) in &self.parts {
            let docs = weight.scorer(reader, 1.0)?;
            let doc = docs.doc();
            if doc != TERMINATED {
                parts.push(Part { doc, score: score * boost, docs: Docs::of(docs) });
            }
        }
        Ok(match (parts.pop(), parts.is_empty()) {
            (None, _) => Box::new(EmptyScorer),
            (Some(Part { score, docs: Docs::Term(docs), .. }), true) => Box::new(ConstScorer::new(*docs, score)),
            (Some(Part { score, docs: Docs::Other(docs), .. }), true) => Box::new(ConstScorer::new(docs, score)),
            (Some(last), false) => {
                parts.push(last);
                let doc = first_doc(&parts);
                Box::new(BestOfScorer { parts, doc })
            }
        })
    }

    fn explain(&self, reader: &SegmentReader, doc: DocId) -> tantivy::Result<Explanation> {
        explain(self, reader, doc, "best of")
    }
}

/// The documents of a part: mostly those of a term, which need no detour.
enum Docs {
    Term(Box<ConstScorer<Counted<SegmentPostings>>>),
    Other(Box<dyn Scorer>),
}

impl Docs {
    fn of(docs: Box<dyn Scorer>) -> Self {
        match docs.downcast() {
            Ok(docs) => Self::Term(docs),
            Err(docs) => Self::Other(docs),
        }
    }
}

struct Part {
    /// Where it stands.
    doc: DocId,
    score: Score,
    docs: Docs,
}

/// Walks all parts side by side. They are few, so the next document is found by looking at each.
struct BestOfScorer {
    parts: Vec<Part>,
    doc: DocId,
}

fn first_doc(parts: &[Part]) -> DocId {
    parts.iter().map(|part| part.doc).min().unwrap_or(TERMINATED)
}

impl BestOfScorer {
    fn settle(&mut self) -> DocId {
        let ended = self.parts.iter().any(|part| part.doc == TERMINATED);
        if ended {
            self.parts.retain(|part| part.doc != TERMINATED);
        }
        self.doc = first_doc(&self.parts);
        self.doc
    }
}

impl DocSet for BestOfScorer {
    fn advance(&mut self) -> DocId {
        for part in self.parts.iter_mut().filter(|part| part.doc == self.doc) {
            part.doc = match &mut part.docs {
                Docs::Term(docs) => docs.advance(),
                Docs::Other(docs) => docs.advance(),
            };
        }
        self.settle()
    }

    fn seek(&mut self, target: DocId) -> DocId {
        for part in self.parts.iter_mut().filter(|part| part.doc < target) {
            part.doc = match &mut part.docs {
                Docs::Term(docs) => docs.seek(target),
                Docs::Other(docs) => docs.seek(target),
            };
        }
        self.settle()
    }

    fn doc(&self) -> DocId {
        self.doc
    }

    fn size_hint(&self) -> u32 {
        let hint = |part: &Part| match &part.docs {
            Docs::Term(docs) => docs.size_hint(),
            Docs::Other(docs) => docs.size_hint(),
        };
        self.parts.iter().map(hint).fold(0, u32::saturating_add)
    }
}

impl Scorer for BestOfScorer {
    fn score(&mut self) -> Score {
        self.parts.iter().find(|part| part.doc == self.doc).map_or(0.0, |part| part.score)
    }
}

/// For people who debug: what tantivy wants of every weight.
pub(crate) fn explain(
    weight: &dyn Weight,
    reader: &SegmentReader,
    doc: DocId,
    what: &'static str,
) -> tantivy::Result<Explanation> {
    let mut scorer = weight.scorer(reader, 1.0)?;
    if scorer.doc() <= doc && scorer.seek(doc) == doc {
        return Ok(Explanation::new(what, scorer.score()));
    }
    Err(TantivyError::InvalidArgument("document does not match".to_owned()))
}
