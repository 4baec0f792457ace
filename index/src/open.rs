//! Opening: an index directory is ready, or it is emptied and must be filled again. Nothing in between.
//!
//! Entry points: [`open`] and [`open_anew`] (the one owner), [`open_read_only`] (any other process, at any time).
//!
//! | found                                                    | outcome of [`open`]                          |
//! |----------------------------------------------------------|----------------------------------------------|
//! | an index of our store, our schema, a revision in range, of the era that the store knows it by | [`Opened::Ready`] |
//! | nothing, or an empty directory                           | [`RebuildReason::Missing`]                   |
//! | no commit yet, or one without mark                       | [`RebuildReason::Unmarked`]                  |
//! | a file missing, cut short or overwritten                 | [`RebuildReason::Damaged`]                   |
//! | another store, another schema, ahead, too old            | the reason of that name                      |
//! | a revision of another era, or a mark without an era       | [`RebuildReason::Restored`], [`RebuildReason::NoEra`] |
//! | must be rebuilt, but something else lies in the directory | [`IndexError::NotAnIndex`]; nothing is touched |
//! | another process owns it                                  | [`IndexError::Locked`]                       |
//!
//! Invariants:
//! - The owner holds a file lock from before the first look until its [`Index`] and [`crate::Writer`] are dropped.
//!   The system releases it when the process ends, however it ends, so a killed owner never blocks the next.
//! - Only files with names of ours are ever removed.
//! - After a rebuild the directory holds an empty index without mark: until the first commit it is rebuilt again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tantivy::directory::error::OpenReadError;
use tantivy::directory::{Directory, FileSlice, META_LOCK, MmapDirectory};
use tantivy::index::SegmentComponent;
use tantivy::{IndexSettings, ReloadPolicy, TantivyError};

use crate::doc::{Mark, Payload};
use crate::reader::Reader;
use crate::schema::{Fields, SCHEMA_VERSION};
use crate::tokenize::tokenizers;
use crate::writer::Writer;

/// The lock file of the owner. Left behind on purpose: removing a lock file lets two processes lock two files.
const OWNER_LOCK_FILE: &str = ".okta-idmap-index.lock";

/// Files of a directory that are looked at before it is emptied. An index has some hundred; more is not ours.
const DIRECTORY_FILES_MAX: usize = 100_000;

/// Bytes whose checksums are verified when opening, smallest files first. Reading 64 MB takes about 0.1 s of the 2 s
/// a restart may take; a cut file shows without it, and `verify` reads everything.
const OPEN_CHECKSUM_BYTES_MAX: u64 = 64 << 20;

/// Bytes that end each file of a segment: length and magic number of its footer. tantivy subtracts them unchecked.
const FOOTER_BYTES_MIN: u64 = 8;

/// What made a range of revisions: it has them in common with every store that knows it. See [`Mark::era`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Era {
    /// Its name; never empty.
    pub name: String,
    /// The first revision that it made, or will make.
    pub first: u64,
}

/// What the caller knows about its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Identity of the store.
    pub store_id: String,
    /// The eras that the store remembers, oldest first: each goes on until the next one.
    pub eras: Vec<Era>,
    /// Revisions from which the index can catch up: from the oldest change the store still has to its newest.
    pub revisions: RangeInclusive<u64>,
}

/// Why an index was emptied and must be filled from the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildReason {
    /// There was none.
    #[error("there is no index yet")]
    Missing,
    /// No commit with a mark: creating or filling it was interrupted.
    #[error("the index was never completed")]
    Unmarked,
    /// Files are missing, cut short or overwritten.
    #[error("the index is damaged: {detail}")]
    Damaged {
        /// What was found first.
        detail: String,
    },
    /// It belongs to another store.
    #[error("the index belongs to store {found:?}")]
    Foreign {
        /// The store named in its mark.
        found: String,
    },
    /// Another version of schema or tokenising made it.
    #[error("the index has schema {found}, expected {SCHEMA_VERSION}")]
    Schema {
        /// Version in its mark.
        found: u32,
    },
    /// Its revision is not in the store yet: the store was restored from a backup.
    #[error("the index is at revision {found}, ahead of the store at {newest}")]
    Ahead {
        /// Revision in its mark.
        found: u64,
        /// Newest revision of the store.
        newest: u64,
    },
    /// Its revision is one that the store has by another era, or by one that it has forgotten: the store was restored from a
    /// backup, and has grown since.
    #[error(
        "the index is at revision {found} of era {era:?}, which the store does not have: it was restored from a backup"
    )]
    Restored {
        /// Revision in its mark.
        found: u64,
        /// Era in its mark.
        era: String,
    },
    /// Its mark has no era: an earlier version made it, or the store knew none. Nothing tells what its content is of.
    #[error("the index does not say of which era its revision {found} is")]
    NoEra {
        /// Revision in its mark.
        found: u64,
    },
    /// The store has forgotten changes that the index lacks.
    #[error("the index is at revision {found}, the store has changes from {oldest}")]
    TooOld {
        /// Revision in its mark.
        found: u64,
        /// Oldest revision to catch up from.
        oldest: u64,
    },
}

/// Why an index could not be opened or written, by phase. None of them is cured by a rebuild.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The directory cannot be created, listed or emptied.
    #[error("prepare index directory {path}")]
    Directory {
        /// The directory or file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It would have to be emptied, but holds something that is not ours.
    #[error(
        "index directory {path} holds {entry:?}, which is not part of an index: name another directory, or empty it"
    )]
    NotAnIndex {
        /// The directory.
        path: PathBuf,
        /// The first thing that is not ours.
        entry: String,
    },
    /// Another process (or another [`Index`] in this one) owns it.
    #[error("index directory {path} is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Reading failed for a reason outside the files: permissions, file handles, memory.
    #[error("open index in {path}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: TantivyError,
    },
    /// [`open_read_only`] found no usable index: its owner will rebuild it.
    #[error("read index in {path}: {reason}")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: RebuildReason,
    },
    /// A writer could not be started.
    #[error("start index writer")]
    StartWriter(#[source] TantivyError),
    /// The heap for a writer is out of bounds.
    #[error(
        "start index writer: a heap of {found} bytes is not between {} and {}",
        crate::HEAP_BYTES_MIN,
        crate::HEAP_BYTES_MAX
    )]
    Heap {
        /// Bytes asked for.
        found: usize,
    },
    /// A document was not taken. Nothing changed.
    #[error("index document: its key has {found} bytes, 1 to {} are allowed", crate::KEY_BYTES_MAX)]
    Key {
        /// Bytes of the key.
        found: usize,
    },
    /// A change was not taken. Drop the writer and start another; the index is as of its last commit.
    #[error("write to index")]
    Write(#[source] TantivyError),
    /// The commit failed. Drop the writer and start another; the index is as of its last commit.
    #[error("commit index")]
    Commit(#[source] TantivyError),
    /// The writer failed before.
    #[error("write to index: this writer failed before and must be replaced")]
    WriterFailed,
    /// The index is committed, but readers could not be switched to it.
    #[error("reload index")]
    Reload(#[source] TantivyError),
    /// Checksums could not be computed.
    #[error("verify index")]
    Verify(#[source] TantivyError),
}

impl IndexError {
    /// Whether the files themselves are at fault, so that only an index made anew helps; else it is what is around them: space,
    /// permissions, file handles, memory, another process.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Unusable { .. } => true,
            Self::Open { source: error, .. }
            | Self::StartWriter(error)
            | Self::Write(error)
            | Self::Commit(error)
            | Self::Reload(error)
            | Self::Verify(error) => is_damage(error),
            Self::Directory { .. }
            | Self::NotAnIndex { .. }
            | Self::Locked { .. }
            | Self::Heap { .. }
            | Self::Key { .. }
            | Self::WriterFailed => false,
        }
    }
}

/// What [`open`] found.
#[derive(Debug)]
pub enum Opened {
    /// Usable; catch up from the mark.
    Ready(Index, Mark),
    /// Empty; fill it from the start.
    Rebuild(Index, RebuildReason),
}

/// An index and the right to write to it. There is one per directory; readers outlive it.
#[derive(Debug)]
pub struct Index {
    inner: tantivy::Index,
    reader: Reader,
    owner_lock: Arc<File>,
}

impl Index {
    /// Starts a writer with `heap_bytes` of memory for documents that are not on disk yet
    /// (between [`crate::HEAP_BYTES_MIN`] and [`crate::HEAP_BYTES_MAX`]).
    ///
    /// # Errors
    /// [`IndexError::Heap`]; [`IndexError::Locked`] while another writer lives; [`IndexError::StartWriter`].
    pub fn writer(&self, heap_bytes: usize) -> Result<Writer, IndexError> {
        Writer::start(&self.inner, &self.reader, &self.owner_lock, heap_bytes)
    }

    /// A reader, which sees every commit of this index's writers at once. Cheap to clone, usable from any thread.
    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }
}

/// Opens the index in `dir` for reading and writing, or empties it. See the table above.
///
/// # Errors
/// Only what a rebuild does not cure: see [`IndexError`].
pub fn open(dir: &Path, expect: &Expect) -> Result<Opened, IndexError> {
    let directory_error = |source: io::Error| IndexError::Directory { path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(directory_error)?;
    let owner_lock = Arc::new(lock_owner(dir)?);
    let reason = match load(dir)? {
        Ok((inner, reader, payload)) => match judge(payload, expect) {
            Ok(mark) => {
                reader.set_mark(mark.clone());
                return Ok(Opened::Ready(Index { inner, reader, owner_lock }, mark));
            }
            Err(reason) => reason,
        },
        Err(reason) => reason,
    };
    tracing::info!(directory = %dir.display(), %reason, "index must be rebuilt");
    Ok(Opened::Rebuild(emptied(dir, owner_lock)?, reason))
}

/// Empties the index in `dir`, whatever it holds of ours, and opens it for writing.
///
/// # Errors
/// As [`open`].
pub fn open_anew(dir: &Path) -> Result<Index, IndexError> {
    fs::create_dir_all(dir).map_err(|source| IndexError::Directory { path: dir.to_owned(), source })?;
    let owner_lock = Arc::new(lock_owner(dir)?);
    emptied(dir, owner_lock)
}

fn emptied(dir: &Path, owner_lock: Arc<File>) -> Result<Index, IndexError> {
    wipe(dir)?;
    let (inner, reader) = create(dir).map_err(|source| IndexError::Open { path: dir.to_owned(), source })?;
    Ok(Index { inner, reader, owner_lock })
}

/// Opens the index in `dir` for reading only, also while its owner writes. New commits show after
/// [`Reader::refresh`].
///
/// # Errors
/// [`IndexError::Unusable`] if the owner would rebuild it (store, era and revision are not judged);
/// [`IndexError::Open`].
pub fn open_read_only(dir: &Path) -> Result<Reader, IndexError> {
    let unusable = |reason: RebuildReason| IndexError::Unusable { path: dir.to_owned(), reason };
    let (_, reader, payload) = load(dir)?.map_err(unusable)?;
    if payload.schema != SCHEMA_VERSION {
        return Err(unusable(RebuildReason::Schema { found: payload.schema }));
    }
    reader.set_mark(payload.mark());
    Ok(reader)
}

/// Whether an index with this payload can be used.
fn judge(payload: Payload, expect: &Expect) -> Result<Mark, RebuildReason> {
    let (oldest, newest) = (*expect.revisions.start(), *expect.revisions.end());
    if payload.schema != SCHEMA_VERSION {
        Err(RebuildReason::Schema { found: payload.schema })
    } else if payload.store_id != expect.store_id {
        Err(RebuildReason::Foreign { found: payload.store_id })
    } else if payload.revision > newest {
        Err(RebuildReason::Ahead { found: payload.revision, newest })
    } else if payload.revision < oldest {
        Err(RebuildReason::TooOld { found: payload.revision, oldest })
    } else if payload.era.is_empty() {
        Err(RebuildReason::NoEra { found: payload.revision })
    } else if expect.era_of(payload.revision) != Some(payload.era.as_str()) {
        Err(RebuildReason::Restored { found: payload.revision, era: payload.era })
    } else {
        Ok(payload.mark())
    }
}

impl Expect {
    /// The era that the store knows a revision by.
    fn era_of(&self, revision: u64) -> Option<&str> {
        self.eras.iter().rev().find(|era| era.first <= revision).map(|era| era.name.as_str())
    }
}

fn lock_owner(dir: &Path) -> Result<File, IndexError> {
    let path = dir.join(OWNER_LOCK_FILE);
    let failed = |source: io::Error| IndexError::Directory { path: path.clone(), source };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IndexError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

type Loaded = (tantivy::Index, Reader, Payload);

/// Loads the index; the inner error is a reason to rebuild.
fn load(dir: &Path) -> Result<Result<Loaded, RebuildReason>, IndexError> {
    match fs::exists(dir.join(META_FILE)) {
        Ok(true) => {}
        Ok(false) => return Ok(Err(missing_or_damaged(dir)?)),
        Err(source) => return Err(IndexError::Directory { path: dir.to_owned(), source }),
    }
    // tantivy answers most damage with an error, but some by an assertion. Everything it touched is dropped.
    let loaded = catch_unwind(AssertUnwindSafe(|| load_unguarded(dir)));
    let damaged = |detail: String| Ok(Err(RebuildReason::Damaged { detail }));
    match loaded {
        Ok(Ok(Ok(loaded))) => Ok(Ok(loaded)),
        Ok(Ok(Err(reason))) => Ok(Err(reason)),
        Ok(Err(error)) if is_damage(&error) => damaged(error.to_string()),
        Ok(Err(source)) => Err(IndexError::Open { path: dir.to_owned(), source }),
        Err(_panic) => damaged("a file makes no sense".to_owned()),
    }
}

const META_FILE: &str = "meta.json";

/// Without `meta.json` there is no index; other files of one tell that there was.
fn missing_or_damaged(dir: &Path) -> Result<RebuildReason, IndexError> {
    let lock_files = [OWNER_LOCK_FILE, ".tantivy-writer.lock", ".tantivy-meta.lock"];
    let only_locks = !dir.is_dir() || entries(dir)?.iter().all(|name| lock_files.contains(&name.as_str()));
    Ok(if only_locks {
        RebuildReason::Missing
    } else {
        RebuildReason::Damaged { detail: format!("{META_FILE} is missing") }
    })
}

fn load_unguarded(dir: &Path) -> tantivy::Result<Result<Loaded, RebuildReason>> {
    let mut inner = tantivy::Index::open_in_dir(dir)?;
    // The owner makes no list of files to remove while somebody has this: without it a list that was read a moment ago names
    // some that are gone, which would be taken for damage. What is open stays, also when it is removed.
    let meta_lock =
        inner.directory().acquire_lock(&META_LOCK).map_err(|error| TantivyError::LockFailure(error, None))?;
    let Some(payload) = inner.load_metas()?.payload else { return Ok(Err(RebuildReason::Unmarked)) };
    let payload = match serde_json::from_str::<Payload>(&payload) {
        Ok(payload) => payload,
        Err(error) => return Ok(Err(RebuildReason::Damaged { detail: format!("read mark: {error}") })),
    };
    let (schema, fields) = Fields::schema();
    if payload.schema != SCHEMA_VERSION {
        return Ok(Err(RebuildReason::Schema { found: payload.schema }));
    }
    if inner.schema() != schema {
        return Ok(Err(RebuildReason::Damaged { detail: "the fields are not those of its schema".to_owned() }));
    }
    let files = match present_files(dir, &inner)? {
        Ok(files) => files,
        Err(detail) => return Ok(Err(RebuildReason::Damaged { detail })),
    };
    // The owner waits for it when it commits. Loading takes it again, and reads the list again.
    drop(meta_lock);
    for (name, _open) in files {
        if !inner.directory().validate_checksum(&name)? {
            let detail = format!("the checksum of {} is wrong", name.display());
            return Ok(Err(RebuildReason::Damaged { detail }));
        }
    }
    inner.set_tokenizers(tokenizers());
    let reader = Reader::new(dir, &inner, fields)?;
    Ok(Ok((inner, reader, payload)))
}

/// The small files of all segments, open, whose checksums are to be looked at (see [`OPEN_CHECKSUM_BYTES_MAX`]), or what is wrong
/// with the first that is missing or too short.
fn present_files(dir: &Path, index: &tantivy::Index) -> tantivy::Result<Result<Vec<(PathBuf, FileSlice)>, String>> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for segment in index.searchable_segment_metas()? {
        use SegmentComponent::{Delete, FastFields, FieldNorms, Positions, Postings, Store, Terms};
        let always = [Terms, Postings, Positions, FastFields, Store].map(|component| (component, true));
        for (component, needed) in always.into_iter().chain([(Delete, segment.has_deletes()), (FieldNorms, false)]) {
            let name = segment.relative_path(component);
            match fs::metadata(dir.join(&name)) {
                Ok(file) if file.len() < FOOTER_BYTES_MIN => {
                    return Ok(Err(format!("{} is cut short", name.display())));
                }
                Ok(file) => files.push((file.len(), name)),
                // Searching reads no store, merging does: a missing one would show too late.
                Err(error) if error.kind() == io::ErrorKind::NotFound && needed => {
                    return Ok(Err(format!("{} is missing", name.display())));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    files.sort_unstable();
    let mut bytes_read = 0;
    files.retain(|(bytes, _)| {
        bytes_read += bytes;
        bytes_read <= OPEN_CHECKSUM_BYTES_MAX
    });
    let open = |(_, name): (u64, PathBuf)| Ok((name.clone(), index.directory().open_read(&name)?));
    Ok(Ok(files.into_iter().map(open).collect::<tantivy::Result<_>>()?))
}

/// Whether the content of the files is to blame, so that a rebuild is the cure.
fn is_damage(error: &TantivyError) -> bool {
    let content = |kind: io::ErrorKind| {
        matches!(
            kind,
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::NotFound
                | io::ErrorKind::Other
        )
    };
    match error {
        TantivyError::IoError(error) => content(error.kind()),
        TantivyError::OpenReadError(OpenReadError::IoError { io_error, .. }) => content(io_error.kind()),
        TantivyError::OpenReadError(OpenReadError::FileDoesNotExist(_) | OpenReadError::IncompatibleIndex(_))
        | TantivyError::DataCorruption(_)
        | TantivyError::FieldNotFound(_)
        | TantivyError::InvalidArgument(_)
        | TantivyError::SchemaError(_)
        | TantivyError::IncompatibleIndex(_)
        | TantivyError::InternalError(_)
        | TantivyError::DeserializeError(_)
        | TantivyError::MissingPlugin(_)
        | TantivyError::UnexpectedPlugin(_)
        | TantivyError::ConflictingPlugins(_) => true,
        _ => false,
    }
}

fn create(dir: &Path) -> tantivy::Result<(tantivy::Index, Reader)> {
    let (schema, fields) = Fields::schema();
    let mut inner = tantivy::Index::create(MmapDirectory::open(dir)?, schema, IndexSettings::default())?;
    inner.set_tokenizers(tokenizers());
    let reader = Reader::new(dir, &inner, fields)?;
    Ok((inner, reader))
}

/// Opens a tantivy reader that is switched by hand: a commit is visible when its writer says so.
pub(crate) fn manual_reader(index: &tantivy::Index) -> tantivy::Result<tantivy::IndexReader> {
    index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()
}

/// Removes the files of an index, if there is nothing else.
fn wipe(dir: &Path) -> Result<(), IndexError> {
    let names = entries(dir)?;
    if let Some(stranger) = names.iter().find(|name| !is_index_file(name)) {
        return Err(IndexError::NotAnIndex { path: dir.to_owned(), entry: stranger.clone() });
    }
    let directory =
        MmapDirectory::open(dir).map_err(|error| IndexError::Open { path: dir.to_owned(), source: error.into() })?;
    // Readers in other processes open their files under this lock.
    let _meta_lock = directory
        .acquire_lock(&META_LOCK)
        .map_err(|error| IndexError::Open { path: dir.to_owned(), source: TantivyError::LockFailure(error, None) })?;
    // The list of segments first: a crash in between leaves files without an index, never an index without files.
    let meta_first = names.iter().filter(|name| *name == META_FILE);
    let rest = names.iter().filter(|name| *name != META_FILE && !is_lock_file(name));
    for name in meta_first.chain(rest) {
        let path = dir.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(IndexError::Directory { path, source });
            }
            _ => {}
        }
    }
    Ok(())
}

/// Names of what is in the directory; a directory among them gets a slash, so that it is no index file.
fn entries(dir: &Path) -> Result<Vec<String>, IndexError> {
    let failed = |source: io::Error| IndexError::Directory { path: dir.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if !entry.file_type().map_err(failed)?.is_file() {
            name.push('/');
        }
        if names.len() == DIRECTORY_FILES_MAX {
            return Err(IndexError::NotAnIndex { path: dir.to_owned(), entry: name });
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

fn is_lock_file(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".lock")
}

/// Whether tantivy or this module makes files of this name: `meta.json`, `.managed.json`, lock files, temporary files
/// of an interrupted atomic write (`.tmp` and six letters), and `<32 hex digits>.<component>`.
fn is_index_file(name: &str) -> bool {
    if [META_FILE, ".managed.json", OWNER_LOCK_FILE, ".tantivy-writer.lock", ".tantivy-meta.lock"].contains(&name) {
        return true;
    }
    if let Some(random) = name.strip_prefix(".tmp") {
        return random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric());
    }
    let components = ["idx", "pos", "term", "store", "fast", "fieldnorm", "temp", "store.temp", "del"];
    name.split_once('.').is_some_and(|(segment, component)| {
        let opstamp_del =
            component.strip_suffix(".del").is_some_and(|opstamp| opstamp.bytes().all(|byte| byte.is_ascii_digit()));
        segment.len() == 32
            && segment.bytes().all(|byte| byte.is_ascii_hexdigit())
            && (components.contains(&component) || opstamp_del)
    })
}
