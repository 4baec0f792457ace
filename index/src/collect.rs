//! Collecting matches: the best of them in a fixed order, their number, and counts by facet, in one pass.
//!
//! Entry point: [`Collect`], a tantivy collector.
//!
//! Invariants:
//! - The order is score (falling), then key (rising, bytewise): it does not depend on segments.
//! - Deleted documents are never seen.
//! - Nothing is taken in once the [`Steps`] are spent; what was taken in before is right.
//! - A key is read when its document is the best of its segment that is not in the answer yet; until then its place in the
//!   order of keys stands for it. So about as many keys are read as are answered, however many segments there are.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::{Column, StrColumn};
use tantivy::{DocId, Score, SegmentOrdinal, SegmentReader};

use crate::doc::DocKind;
use crate::schema::{APP, KEY, KIND, STATUS};
use crate::steps::Steps;

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
    /// Matches that were looked at.
    pub(crate) total: u64,
    /// These by kind, in the order of [`DocKind::ALL`].
    pub(crate) kinds: [u64; 4],
    /// These by status.
    pub(crate) statuses: HashMap<String, u64>,
    /// These by app id.
    pub(crate) apps: HashMap<String, u64>,
    /// Detail of a column that could not be read.
    pub(crate) damaged: Option<String>,
}

impl Collected {
    fn keep_best(&mut self, count: usize) {
        self.best.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.key.cmp(&b.key)));
        self.best.truncate(count);
    }

    /// Takes in what another walk for the same query has found. A document that both have found has one score.
    pub(crate) fn add_best(&mut self, other: Self, count: usize) {
        self.total = self.total.max(other.total);
        self.best.extend(other.best);
        let mut seen = HashSet::new();
        self.best.retain(|found| seen.insert(found.key.clone()));
        self.keep_best(count);
    }
}

/// What to collect.
#[derive(Clone, Debug)]
pub(crate) struct Collect {
    /// Number of best documents.
    pub(crate) best_count: usize,
    /// Whether to count by status and app, which costs about as much as the search.
    pub(crate) facets: bool,
    /// Whether scores matter; without them all are the score of the kind.
    pub(crate) scored: bool,
    /// Kinds to take in, in the order of [`DocKind::ALL`]. A kind is read for each match anyway, which is cheaper than walking its
    /// list where words have left few documents.
    pub(crate) kinds: [bool; 4],
    /// How far to go.
    pub(crate) steps: Steps,
}

/// Steps that a match costs beside the way to it.
const MATCH_STEPS: u64 = 2;

/// The same where it is counted by status and app.
const FACETS_STEPS: u64 = 6;

impl Collector for Collect {
    type Fruit = Collected;
    type Child = SegmentCollect;

    fn for_segment(&self, _ordinal: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentCollect> {
        let columns = segment.fast_fields();
        let facet = |name: &str| -> tantivy::Result<Option<FacetCounts>> {
            Ok(if self.facets { columns.str(name)?.map(FacetCounts::new) } else { None })
        };
        Ok(SegmentCollect {
            steps: self.steps.clone(),
            wanted_kinds: self.kinds,
            match_steps: if self.facets { FACETS_STEPS } else { MATCH_STEPS },
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

    fn merge_fruits(&self, segments: Vec<SegmentFound>) -> tantivy::Result<Collected> {
        let mut merged = Collected::default();
        let mut ranked = Vec::with_capacity(segments.len());
        for SegmentFound { counted, ranked: ranked_here } in segments {
            merged.total += counted.total;
            for (sum, count) in merged.kinds.iter_mut().zip(counted.kinds) {
                *sum += count;
            }
            counted.statuses.into_iter().for_each(|(value, count)| *merged.statuses.entry(value).or_default() += count);
            counted.apps.into_iter().for_each(|(value, count)| *merged.apps.entry(value).or_default() += count);
            merged.damaged = merged.damaged.or(counted.damaged);
            ranked.push(ranked_here);
        }
        match best_of_segments(ranked, self.best_count) {
            Ok(best) => merged.best = best,
            Err(error) => merged.damaged = Some(format!("read keys: {error}")),
        }
        Ok(merged)
    }
}

/// What a segment has to say.
pub(crate) struct SegmentFound {
    /// Without the best.
    counted: Collected,
    ranked: Ranked,
}

/// The best of a segment, in order.
struct Ranked {
    keys: Option<StrColumn>,
    candidates: std::vec::IntoIter<(Rank, DocKind)>,
}

impl Ranked {
    /// The next one, by what orders it among those of all segments.
    fn read_next(&mut self) -> std::io::Result<Option<(u32, String, DocKind)>> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let mut key = String::new();
        for ((score_bits, key_ordinal), kind) in self.candidates.by_ref() {
            if keys.ord_to_str(key_ordinal, &mut key)? {
                return Ok(Some((score_bits, key, kind)));
            }
        }
        Ok(None)
    }
}

/// The best `count` of all segments.
fn best_of_segments(mut segments: Vec<Ranked>, count: usize) -> std::io::Result<Vec<Found>> {
    let mut heads = BinaryHeap::new();
    for (segment, ranked) in segments.iter_mut().enumerate() {
        heads.extend(ranked.read_next()?.map(|head| Reverse((head, segment))));
    }
    let mut best = Vec::new();
    while best.len() < count
        && let Some(Reverse(((score_bits, key, kind), segment))) = heads.pop()
    {
        best.push(Found { key, kind, score: Score::from_bits(!score_bits) });
        heads.extend(segments[segment].read_next()?.map(|head| Reverse((head, segment))));
    }
    Ok(best)
}

/// Order of a document in its segment: bits of the score turned round, then place of the key. Smaller is better.
type Rank = (u32, u64);

fn rank(score: Score, key_ordinal: u64) -> Rank {
    // Scores are never negative, so their bits order as they do.
    (!score.to_bits(), key_ordinal)
}

/// The collector of one segment.
pub(crate) struct SegmentCollect {
    steps: Steps,
    match_steps: u64,
    wanted_kinds: [bool; 4],
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
    type Fruit = SegmentFound;

    fn collect(&mut self, doc: DocId, score: Score) {
        if !self.steps.take(self.match_steps) {
            return;
        }
        // A document without a kind cannot be written; if a damaged column says so, it counts as the last kind.
        let kind = self.kind.first(doc).and_then(DocKind::from_number).unwrap_or(DocKind::Mapping);
        let place = usize::try_from(kind.number()).unwrap_or_default();
        if !self.wanted_kinds[place] {
            return;
        }
        self.total += 1;
        self.kinds[place] += 1;
        for facet in [&mut self.status, &mut self.app].into_iter().flatten() {
            facet.count(doc);
        }
        self.keep(doc, score + kind_score(kind), kind);
    }

    fn harvest(mut self) -> SegmentFound {
        self.prune();
        self.candidates.sort_unstable_by_key(|(rank, _)| *rank);
        let mut counted = Collected { total: self.total, kinds: self.kinds, ..Collected::default() };
        for (facet, counts) in [(&self.status, &mut counted.statuses), (&self.app, &mut counted.apps)] {
            if let Some(Err(error)) = facet.as_ref().map(|facet| facet.read_values(counts)) {
                counted.damaged = Some(format!("read facet values: {error}"));
            }
        }
        SegmentFound { counted, ranked: Ranked { keys: self.keys, candidates: self.candidates.into_iter() } }
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
