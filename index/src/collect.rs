//! Collecting matches: the best of them in a fixed order, their number, and counts by facet, in one pass.
//!
//! Entry point: [`Collect`], a tantivy collector.
//!
//! Invariants:
//! - The order is score (falling), then key (rising, bytewise): it does not depend on segments.
//! - Deleted documents are never seen.
//! - Keys are read for the best documents only; until then their order in the segment stands for them.

use std::collections::HashMap;

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{Column, StrColumn};
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

use crate::doc::DocKind;
use crate::schema::{APP, KEY, KIND, STATUS};

/// Score of a kind besides the match: a person ranks before the mappings of the same name. Less than any step between
/// two kinds of match.
fn kind_score(kind: DocKind) -> Score {
    match kind {
        DocKind::User => 0.75,
        DocKind::App => 0.5,
        DocKind::Group => 0.25,
        DocKind::Mapping => 0.0,
    }
}

/// A collected document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found {
    pub(crate) key: String,
    pub(crate) kind: DocKind,
    pub(crate) score: Score,
}

/// What was collected.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// The best, in order; at most as many as asked for.
    pub(crate) best: Vec<Found>,
    /// All matches.
    pub(crate) total: u64,
    /// All matches by kind, in the order of [`DocKind::ALL`].
    pub(crate) kinds: [u64; 4],
    /// All matches by status.
    pub(crate) statuses: HashMap<String, u64>,
    /// All matches by app id.
    pub(crate) apps: HashMap<String, u64>,
    /// Detail of a column that could not be read.
    pub(crate) damaged: Option<String>,
}

/// What to collect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Collect {
    /// Number of best documents.
    pub(crate) best_count: usize,
    /// Whether to count by status and app, which costs about as much as the search.
    pub(crate) facets: bool,
    /// Whether scores matter; without them all are the score of the kind.
    pub(crate) scored: bool,
}

impl Collector for Collect {
    type Fruit = Collected;
    type Child = SegmentCollect;

    fn for_segment(&self, _ordinal: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentCollect> {
        let columns = segment.fast_fields();
        let facet = |name: &str| -> tantivy::Result<Option<FacetCounts>> {
            Ok(if self.facets { columns.str(name)?.map(FacetCounts::new) } else { None })
        };
        Ok(SegmentCollect {
            best_count: self.best_count,
            candidates: Vec::new(),
            worst_kept: None,
            total: 0,
            kinds: [0; 4],
            keys: columns.str(KEY)?,
            kind: columns.u64(KIND)?,
            status: facet(STATUS)?,
            app: facet(APP)?,
        })
    }

    fn requires_scoring(&self) -> bool {
        self.scored
    }

    fn merge_fruits(&self, segments: Vec<Collected>) -> tantivy::Result<Collected> {
        let mut merged = Collected::default();
        for segment in segments {
            merged.best.extend(segment.best);
            merged.total += segment.total;
            for (sum, count) in merged.kinds.iter_mut().zip(segment.kinds) {
                *sum += count;
            }
            segment.statuses.into_iter().for_each(|(value, count)| *merged.statuses.entry(value).or_default() += count);
            segment.apps.into_iter().for_each(|(value, count)| *merged.apps.entry(value).or_default() += count);
            merged.damaged = merged.damaged.or(segment.damaged);
        }
        merged.best.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.key.cmp(&b.key)));
        merged.best.truncate(self.best_count);
        Ok(merged)
    }
}

/// Order of a document in its segment: bits of the score turned round, then place of the key. Smaller is better.
type Rank = (u32, u64);

fn rank(score: Score, key_ordinal: u64) -> Rank {
    // Scores are never negative, so their bits order as they do.
    (!score.to_bits(), key_ordinal)
}

/// The collector of one segment.
pub(crate) struct SegmentCollect {
    best_count: usize,
    candidates: Vec<(Rank, DocKind)>,
    worst_kept: Option<Rank>,
    total: u64,
    kinds: [u64; 4],
    keys: Option<StrColumn>,
    kind: Column<u64>,
    status: Option<FacetCounts>,
    app: Option<FacetCounts>,
}

impl SegmentCollector for SegmentCollect {
    type Fruit = Collected;

    fn collect(&mut self, doc: DocId, score: Score) {
        self.total += 1;
        // A document without a kind cannot be written; if a damaged column says so, it counts as the last kind.
        let kind = self.kind.first(doc).and_then(DocKind::from_number).unwrap_or(DocKind::Mapping);
        if let Some(count) = usize::try_from(kind.number()).ok().and_then(|number| self.kinds.get_mut(number)) {
            *count += 1;
        }
        for facet in [&mut self.status, &mut self.app].into_iter().flatten() {
            facet.count(doc);
        }
        self.keep(doc, score + kind_score(kind), kind);
    }

    fn harvest(mut self) -> Collected {
        self.prune();
        let mut collected = Collected { total: self.total, kinds: self.kinds, ..Collected::default() };
        if let Err(error) = self.read_keys(&mut collected) {
            collected.damaged = Some(format!("read keys: {error}"));
        }
        for (facet, counts) in [(&self.status, &mut collected.statuses), (&self.app, &mut collected.apps)] {
            if let Some(Err(error)) = facet.as_ref().map(|facet| facet.read_values(counts)) {
                collected.damaged = Some(format!("read facet values: {error}"));
            }
        }
        collected
    }
}

impl SegmentCollect {
    fn keep(&mut self, doc: DocId, score: Score, kind: DocKind) {
        if self.best_count == 0 {
            return;
        }
        // Most matches are out by their score alone; only then is the key looked up.
        if self.worst_kept.is_some_and(|worst| !score.to_bits() > worst.0) {
            return;
        }
        let key_ordinal = self.keys.as_ref().and_then(|keys| keys.ords().first(doc)).unwrap_or(u64::MAX);
        let rank = rank(score, key_ordinal);
        if self.worst_kept.is_some_and(|worst| rank > worst) {
            return;
        }
        self.candidates.push((rank, kind));
        if self.candidates.len() >= self.best_count * 2 {
            self.prune();
        }
    }

    /// Reduces the candidates to the best. Amortised constant time for each match.
    fn prune(&mut self) {
        if self.candidates.len() <= self.best_count {
            return;
        }
        let (_, worst, _) = self.candidates.select_nth_unstable_by_key(self.best_count - 1, |(rank, _)| *rank);
        self.worst_kept = Some(worst.0);
        self.candidates.truncate(self.best_count);
    }

    fn read_keys(&mut self, collected: &mut Collected) -> std::io::Result<()> {
        let Some(keys) = &self.keys else { return Ok(()) };
        // In the order of the dictionary: neighbours share a block.
        self.candidates.sort_unstable_by_key(|((_, key_ordinal), _)| *key_ordinal);
        let mut key = String::new();
        for ((score_bits, key_ordinal), kind) in &self.candidates {
            if keys.ord_to_str(*key_ordinal, &mut key)? {
                collected.best.push(Found { key: key.clone(), kind: *kind, score: Score::from_bits(!score_bits) });
            }
        }
        Ok(())
    }
}

/// Counts by ordinal of a value.
struct FacetCounts {
    column: StrColumn,
    counts: Vec<u64>,
}

impl FacetCounts {
    fn new(column: StrColumn) -> Self {
        let counts = vec![0; column.num_terms()];
        Self { column, counts }
    }

    fn count(&mut self, doc: DocId) {
        for ordinal in self.column.ords().values_for_doc(doc) {
            if let Some(count) = usize::try_from(ordinal).ok().and_then(|ordinal| self.counts.get_mut(ordinal)) {
                *count += 1;
            }
        }
    }

    fn read_values(&self, counts: &mut HashMap<String, u64>) -> std::io::Result<()> {
        let mut value = String::new();
        for (ordinal, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            if self.column.ord_to_str(ordinal as u64, &mut value)? {
                counts.insert(value.clone(), *count);
            }
        }
        Ok(())
    }
}
