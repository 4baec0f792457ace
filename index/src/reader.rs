//! Reading: searches, suggestions, and the list of keys, from one unchanging view at a time.
//!
//! Entry point: [`Reader`].
//!
//! Invariants:
//! - A search sees one commit, whole. What [`Reader::mark`] says is contained in what a later search sees.
//! - The same documents and the same query give the same hits in the same order, however they were written, if all matches
//!   were looked at ([`Extent::All`]). If not, they do for the same commit.
//! - No search panics, whatever the query and whatever became of the files.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tantivy::schema::IndexRecordOption;
use tantivy::termdict::TermMerger;
use tantivy::{IndexReader, Score, Searcher, TantivyError};

use crate::collect::{Collect, Collected, Found};
use crate::doc::{DocKind, Mark, Payload};
use crate::open::{IndexError, RebuildReason, manual_reader};
use crate::plan::{Effort, Floor, gains_from_edits, has_better_matches, plan};
use crate::query::{Clause, ParseError, parse};
use crate::schema::{Fields, SCHEMA_VERSION};
use crate::space::{FieldBytes, bytes_by_field};
use crate::steps::Steps;
use crate::suggest::SuggestQuery;
use crate::tokenize::tokenizers;

/// Hits of one page.
pub const PAGE_HITS_MAX: usize = 100;

/// Last hit that paging reaches, counted from the first. Each page collects all before it; nobody reads on so far, and
/// who needs everything lists the store.
pub const HITS_MAX: usize = 10_000;

/// Values of a facet in the result, by falling count.
pub const FACET_VALUES_MAX: usize = 20;

/// Steps of the walk over all matches of a query: one per document of each list that is gone through, more for jumps and for
/// what is counted. About 5 to 10 ms; some hundred thousand matches without facets, a hundred thousand with them.
pub const SEARCH_STEPS_MAX: u64 = 800_000;

/// Share of the steps that each walk over better matches has, where those of the walk over all did not suffice.
const STAGE_SHARE: u64 = 8;

/// A search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// In the query language of [`crate::query`]; at most [`crate::QUERY_BYTES_MAX`] bytes.
    pub text: String,
    /// Hits to skip.
    pub offset: usize,
    /// Hits to return, at most [`PAGE_HITS_MAX`]; `offset + limit` at most [`HITS_MAX`]. 0 counts only.
    pub limit: usize,
    /// Whether to count matches by status and app. They cost about as much as the search when there are many matches.
    pub facets: bool,
    /// How far to go, at most [`SEARCH_STEPS_MAX`].
    pub steps: u64,
}

impl Query {
    /// The first 20 hits for `text`, with facets.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), offset: 0, limit: 20, facets: true, steps: SEARCH_STEPS_MAX }
    }
}

/// A document that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Its key.
    pub key: String,
    /// What it is.
    pub kind: DocKind,
    /// How well it matches: see the tables of [`crate::query`] and [`crate::suggest`]. Not comparable between queries.
    pub score: f32,
}

/// Matches by facet; in each, the largest count first, equal counts by value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facets {
    /// Kinds that occur.
    pub kinds: Vec<(DocKind, u64)>,
    /// The [`FACET_VALUES_MAX`] most frequent statuses.
    pub statuses: Vec<(String, u64)>,
    /// The [`FACET_VALUES_MAX`] most frequent app ids.
    pub apps: Vec<(String, u64)>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Results {
    /// The page, by falling score, then by key.
    pub hits: Vec<Hit>,
    /// All matches, or those that were looked at: see `extent`.
    pub total: u64,
    /// Counts over these; `None` if not asked for.
    pub facets: Option<Facets>,
    /// Whether all matches were looked at.
    pub extent: Extent,
    /// Whether words of four characters and more were matched with one edit, because nothing matched as written.
    pub with_edits: bool,
}

/// How much of the matches an answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All: the hits are the best there are, the counts exact.
    All,
    /// A part, because a walk over all of them would have taken more than [`Query::steps`]. There are at least
    /// `total` matches; facets count those looked at. Each hit is a match, and what matches by whole values, ids and words
    /// of titles was looked for by itself, so a name is not lost among those who share a word; of equals only some are
    /// shown. For the same index it is always the same part, so pages join up.
    Part,
}

/// Why a search gave no answer, by phase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The query is not understood. The caller's mistake.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The page is out of bounds. The caller's mistake.
    #[error(
        "search: hits {offset} to {offset} + {limit} are out of bounds: at most {max} at once, and {HITS_MAX} in all"
    )]
    Page {
        /// Hits to skip.
        offset: usize,
        /// Hits to return.
        limit: usize,
        /// Most that one answer holds.
        max: usize,
    },
    /// A prefix or misspelling matches too many different words. The caller can be more precise.
    #[error("search: a beginning or misspelling matches too many words; write more of it")]
    TooBroad,
    /// The index could not be read.
    #[error("search index")]
    Search(#[source] TantivyError),
    /// The files of the index are damaged: it must be rebuilt.
    #[error("search index: it is damaged: {detail}")]
    Damaged {
        /// What was found.
        detail: String,
    },
}

/// Reads an index. Cheap to clone; all clones see the same commit.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    /// How far a search goes, whatever it asks for.
    steps_max: u64,
}

struct Shared {
    dir: PathBuf,
    view: RwLock<View>,
    /// Held while what searches see is switched, so that the last to switch shows the last commit.
    switching: Mutex<()>,
    fields: Fields,
    mark: RwLock<Option<Mark>>,
}

/// What searches see. Its files are mapped as long as it lives, and as what it has handed out does.
#[derive(Clone)]
struct View {
    index: tantivy::Index,
    reader: IndexReader,
}

/// What searches saw until now. It is let go when this is dropped, if no search uses it any more; for a hundred MiB that were used
/// that takes milliseconds.
#[must_use = "it counts as memory as long as it lives"]
pub struct Former(#[expect(dead_code, reason = "let go when dropped")] View);

impl View {
    fn of(index: &tantivy::Index) -> tantivy::Result<Self> {
        Ok(Self { index: index.clone(), reader: manual_reader(index)? })
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("mark", &self.mark()).finish_non_exhaustive()
    }
}

impl Reader {
    pub(crate) fn new(dir: &Path, index: &tantivy::Index, fields: Fields) -> tantivy::Result<Self> {
        let view = RwLock::new(View::of(index)?);
        let (dir, mark) = (dir.to_owned(), RwLock::new(None));
        let shared = Shared { dir, view, switching: Mutex::new(()), fields, mark };
        Ok(Self { shared: Arc::new(shared), steps_max: SEARCH_STEPS_MAX })
    }

    /// The same index, whose searches go no further than so many steps; more than [`SEARCH_STEPS_MAX`] are none the more. With
    /// few of them a small index answers as a large one does: by a part of the matches.
    #[must_use]
    pub fn within(self, steps_max: u64) -> Self {
        Self { steps_max: steps_max.min(SEARCH_STEPS_MAX), ..self }
    }

    /// Finds what `query` asks for.
    ///
    /// # Errors
    /// [`QueryError::Parse`], [`QueryError::Page`] and [`QueryError::TooBroad`] are the caller's; the others are ours.
    pub fn search(&self, query: &Query) -> Result<Results, QueryError> {
        let last_hit = query.offset.saturating_add(query.limit);
        if query.limit > PAGE_HITS_MAX || last_hit > HITS_MAX {
            return Err(QueryError::Page { offset: query.offset, limit: query.limit, max: PAGE_HITS_MAX });
        }
        let clauses = parse(&query.text)?;
        guarded(|| {
            let search = Search {
                searcher: self.searcher(),
                fields: &self.shared.fields,
                clauses,
                best_count: last_hit,
                steps: query.steps.min(self.steps_max),
            };
            let (mut collected, mut extent) = search.all(Effort::AsWritten, query.facets)?;
            let with_edits = collected.total == 0 && extent == Extent::All && gains_from_edits(&search.clauses);
            if with_edits {
                (collected, extent) = search.all(Effort::WithEdits, query.facets)?;
            }
            Ok(results(query, collected, extent, with_edits))
        })
    }

    /// Completes what a person types. See [`crate::suggest`].
    ///
    /// # Errors
    /// As [`Reader::search`].
    pub fn suggest(&self, query: &SuggestQuery) -> Result<Vec<Hit>, QueryError> {
        guarded(|| crate::suggest::suggest(&self.searcher(), &self.shared.fields, query))
    }

    /// What takes how much of the files, the largest field first. For people who wonder.
    ///
    /// # Errors
    /// As [`Reader::visit_keys`].
    pub fn bytes_by_field(&self) -> Result<Vec<FieldBytes>, QueryError> {
        guarded(|| bytes_by_field(&self.searcher()).map_err(|error| QueryError::Search(TantivyError::from(error))))
    }

    /// Documents in the index.
    pub fn doc_count(&self) -> u64 {
        self.searcher().num_docs()
    }

    /// How far the index goes; `None` for one that was just created.
    pub fn mark(&self) -> Option<Mark> {
        self.shared.mark.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls `visit` with every key in bytewise order, until it breaks, in constant memory. A key that is there twice
    /// comes twice. For the comparison with the store.
    ///
    /// # Errors
    /// [`QueryError::Search`], [`QueryError::Damaged`].
    pub fn visit_keys(&self, visit: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), QueryError> {
        guarded(|| visit_keys(&self.searcher(), &self.shared.fields, visit))
    }

    /// Every key, in bytewise order. Holds them all in memory: for tests and small indexes.
    ///
    /// # Errors
    /// As [`Reader::visit_keys`].
    pub fn all_keys(&self) -> Result<Vec<String>, QueryError> {
        let mut keys = Vec::new();
        self.visit_keys(&mut |key| {
            keys.push(key.to_owned());
            ControlFlow::Continue(())
        })?;
        Ok(keys)
    }

    /// Switches to the newest commit of another process and returns its mark (`None`: it was emptied and not filled yet).
    /// Readers of the owner need it not.
    ///
    /// # Errors
    /// [`IndexError::Reload`], [`IndexError::Unusable`]; the view stays as it was.
    pub fn refresh(&self) -> Result<Option<Mark>, IndexError> {
        // The mark first: what is loaded afterwards is not older.
        let payload = self.view().index.load_metas().map_err(IndexError::Reload)?.payload;
        let mark = match payload.map(|payload| serde_json::from_str::<Payload>(&payload)) {
            Some(Ok(payload)) if payload.schema == SCHEMA_VERSION => Some(payload.mark()),
            Some(Ok(payload)) => return Err(self.unusable(RebuildReason::Schema { found: payload.schema })),
            Some(Err(error)) => {
                return Err(self.unusable(RebuildReason::Damaged { detail: format!("read mark: {error}") }));
            }
            None => None,
        };
        self.switched(|| self.reload())?;
        *self.shared.mark.write().unwrap_or_else(PoisonError::into_inner) = mark.clone();
        Ok(mark)
    }

    /// Opens the files again, at the newest commit. Pages of them that searches have touched count as memory of this process
    /// until then; afterwards the system merely has them at hand, and a search that needs one does not read it again. Searches
    /// that are under way go on in what they began with. Costs what opening does, without its checks: milliseconds. An index
    /// without a mark is left as it is.
    ///
    /// `alone` is called when all is open, a moment before searches see it: whoever has no searches begin then, and waits for those
    /// that are under way, keeps what was mapped before from being used beside it. What it returns is given back, with what was
    /// mapped before.
    ///
    /// # Errors
    /// As [`Reader::refresh`], also where the files are no longer those of the mark, because the index was emptied or is of another
    /// store or era; the view stays as it was.
    pub fn map_anew<A>(&self, alone: impl FnOnce() -> A) -> Result<Option<(A, Former)>, IndexError> {
        self.switched(|| {
            if self.mark().is_none() {
                return Ok(None);
            }
            // Another index: one has each file mapped once, for as long as anybody uses it.
            let mut index = tantivy::Index::open_in_dir(&self.shared.dir)?;
            if index.schema() != Fields::schema().0 {
                return Err(TantivyError::SchemaError("the fields are not those of its schema".to_owned()));
            }
            index.set_tokenizers(tokenizers());
            // First: what is opened is not older.
            let opened = index.load_metas()?;
            let view = View::of(&index)?;
            let alone = alone();
            let _switching = self.shared.switching.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(mark) = self.mark() else { return Ok(None) };
            let mut metas = index.load_metas()?;
            // Searches may have seen what was committed meanwhile.
            if (metas.opstamp, &metas.payload) != (opened.opstamp, &opened.payload) {
                view.reader.reload()?;
                // Afterwards, so that it is not newer than what is judged: what was emptied is found empty, or further on.
                metas = index.load_metas()?;
            }
            goes_on_from(&mark, metas.payload.as_deref())?;
            let mut current = self.shared.view.write().unwrap_or_else(PoisonError::into_inner);
            Ok(Some((alone, Former(std::mem::replace(&mut *current, view)))))
        })
    }

    /// Switches to something newer, or says why that cannot be used.
    fn switched<T>(&self, switch: impl FnOnce() -> tantivy::Result<T>) -> Result<T, IndexError> {
        match guarded(|| switch().map_err(QueryError::Search)) {
            Ok(switched) => Ok(switched),
            Err(QueryError::Search(error)) => Err(IndexError::Reload(error)),
            Err(error) => Err(self.unusable(RebuildReason::Damaged { detail: error.to_string() })),
        }
    }

    /// Reads every file of the index and compares checksums; returns the names of the damaged ones. Takes as long as
    /// reading the whole index.
    ///
    /// # Errors
    /// [`IndexError::Verify`] if a file cannot be read at all.
    pub fn verify(&self) -> Result<Vec<String>, IndexError> {
        // One that was opened earlier knows only the files that there were then.
        let index = tantivy::Index::open_in_dir(&self.shared.dir).map_err(IndexError::Verify)?;
        let damaged = index.validate_checksum().map_err(IndexError::Verify)?;
        let mut names: Vec<String> = damaged.iter().map(|path| path.display().to_string()).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn fields(&self) -> &Fields {
        &self.shared.fields
    }

    pub(crate) fn set_mark(&self, mark: Mark) {
        *self.shared.mark.write().unwrap_or_else(PoisonError::into_inner) = Some(mark);
    }

    /// Switches to the newest commit, which is at `mark`.
    pub(crate) fn reload_at(&self, mark: &Mark) -> tantivy::Result<()> {
        self.reload()?;
        // Only now: a mark must not promise what a search does not see yet.
        self.set_mark(mark.clone());
        Ok(())
    }

    pub(crate) fn reload(&self) -> tantivy::Result<()> {
        let _switching = self.shared.switching.lock().unwrap_or_else(PoisonError::into_inner);
        self.view().reader.reload()
    }

    pub(crate) fn path_for_messages(&self) -> PathBuf {
        self.shared.dir.clone()
    }

    fn view(&self) -> View {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn unusable(&self, reason: RebuildReason) -> IndexError {
        IndexError::Unusable { path: self.path_for_messages(), reason }
    }

    fn searcher(&self) -> Searcher {
        self.shared.view.read().unwrap_or_else(PoisonError::into_inner).reader.searcher()
    }
}

/// Whether what is committed with this payload is of the past of `mark`, or what it became.
fn goes_on_from(mark: &Mark, payload: Option<&str>) -> tantivy::Result<()> {
    let payload = payload.map(serde_json::from_str::<Payload>).transpose()?;
    let is_of = |payload: &Payload| {
        let is_ours = payload.schema == SCHEMA_VERSION && payload.store_id == mark.store_id && payload.era == mark.era;
        is_ours && payload.revision >= mark.revision
    };
    match payload.is_some_and(|payload| is_of(&payload)) {
        true => Ok(()),
        false => Err(TantivyError::InvalidArgument("its files are no longer those that were opened".to_owned())),
    }
}

/// One search, parsed.
struct Search<'a> {
    searcher: Searcher,
    fields: &'a Fields,
    clauses: Vec<Clause>,
    best_count: usize,
    steps: u64,
}

impl Search<'_> {
    /// All matches if there are not too many, else as many as the steps allow and what is best of the others.
    fn all(&self, effort: Effort, facets: bool) -> Result<(Collected, Extent), QueryError> {
        let collect = |facets: bool, steps: u64| Collect {
            best_count: self.best_count,
            facets,
            scored: true,
            kinds: [true; 4],
            steps: Steps::new(steps),
        };
        let whole = collect(facets, self.steps);
        let mut collected = self.walk(effort, Floor::NONE, &whole)?;
        if !whole.steps.are_spent() {
            return Ok((collected, Extent::All));
        }
        if has_better_matches(&self.clauses) {
            for floor in Floor::STAGES {
                let stage = collect(false, self.steps / STAGE_SHARE);
                collected.add_best(self.walk(effort, floor, &stage)?, self.best_count);
                if stage.steps.are_spent() {
                    break;
                }
            }
        }
        Ok((collected, Extent::Part))
    }

    fn walk(&self, effort: Effort, floor: Floor, collect: &Collect) -> Result<Collected, QueryError> {
        let query = plan(self.fields, &self.clauses, effort, floor, &collect.steps).map_err(QueryError::Search)?;
        run(&self.searcher, query.as_ref(), collect)
    }
}

/// Runs a planned query.
pub(crate) fn run(
    searcher: &Searcher,
    query: &dyn tantivy::query::Query,
    collect: &Collect,
) -> Result<Collected, QueryError> {
    let collected = searcher.search(query, collect).map_err(QueryError::Search)?;
    if collect.steps.are_too_broad() {
        return Err(QueryError::TooBroad);
    }
    match collected.damaged {
        Some(detail) => Err(QueryError::Damaged { detail }),
        None => Ok(collected),
    }
}

/// Turns a panic into an error: tantivy asserts what a damaged file does not keep, and one bad block must not take
/// the server down.
fn guarded<T>(work: impl FnOnce() -> Result<T, QueryError>) -> Result<T, QueryError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_panic| Err(QueryError::Damaged { detail: "a file makes no sense".to_owned() }))
}

fn results(query: &Query, collected: Collected, extent: Extent, with_edits: bool) -> Results {
    let facets = query.facets.then(|| Facets {
        kinds: kind_counts(collected.kinds),
        statuses: most_frequent(collected.statuses),
        apps: most_frequent(collected.apps),
    });
    let hits = collected.best.into_iter().skip(query.offset).map(hit).collect();
    Results { hits, total: collected.total, facets, extent, with_edits }
}

pub(crate) fn hit(found: Found) -> Hit {
    Hit { key: found.key, kind: found.kind, score: found.score }
}

/// A hit of a suggestion, whose score is its kind of match.
pub(crate) fn hit_with_score(found: Found, score: Score) -> Hit {
    Hit { score, ..hit(found) }
}

fn kind_counts(counts: [u64; 4]) -> Vec<(DocKind, u64)> {
    let mut counts: Vec<(DocKind, u64)> =
        DocKind::ALL.into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
    counts.sort_by_key(|(kind, count)| (std::cmp::Reverse(*count), *kind));
    counts
}

fn most_frequent(counts: HashMap<String, u64>) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(FACET_VALUES_MAX);
    counts
}

fn visit_keys(
    searcher: &Searcher,
    fields: &Fields,
    visit: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<(), QueryError> {
    let failed = |error: std::io::Error| QueryError::Search(TantivyError::from(error));
    let segments = searcher.segment_readers();
    let indexes: Vec<_> = segments
        .iter()
        .map(|segment| segment.inverted_index(fields.key))
        .collect::<tantivy::Result<_>>()
        .map_err(QueryError::Search)?;
    let streams: Vec<_> =
        indexes.iter().map(|index| index.terms().stream()).collect::<Result<_, _>>().map_err(failed)?;
    let mut keys = TermMerger::new(streams);
    while keys.advance() {
        let Ok(key) = std::str::from_utf8(keys.key()) else {
            return Err(QueryError::Damaged { detail: "a key is not UTF-8".to_owned() });
        };
        for (segment, term) in keys.current_segment_ords_and_term_infos() {
            let mut postings =
                indexes[segment].read_block_postings_from_terminfo(&term, IndexRecordOption::Basic).map_err(failed)?;
            while !postings.docs().is_empty() {
                for doc in postings.docs() {
                    let deleted = segments[segment].alive_bitset().is_some_and(|alive| alive.is_deleted(*doc));
                    if !deleted && visit(key).is_break() {
                        return Ok(());
                    }
                }
                postings.advance();
            }
        }
    }
    Ok(())
}
