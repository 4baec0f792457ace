//! Writing: documents in, one kind of commit.
//!
//! Entry point: [`Writer`], from [`crate::Index::writer`].
//!
//! Invariants:
//! - [`Writer::commit_at`] is the only commit: a plain commit of tantivy 0.27 erases the mark.
//! - The last operation on a key wins, in the order of the calls, within a commit and across commits.
//! - After an error every further call fails: the writer must be dropped and started anew, and the index is as of its
//!   last commit. Nothing is ever rolled back in place.
//! - No operation has the number of a commit: merges tell by it what they have taken in.
//! - One writer at a time, and it is not `Clone`.

use std::fs::File;
use std::sync::Arc;

use tantivy::indexer::IndexWriterOptions;
use tantivy::query::AllQuery;
use tantivy::schema::Field;
use tantivy::{IndexWriter, TantivyDocument, TantivyError, Term};

use crate::doc::{DocKind, IndexDoc, KEY_BYTES_MAX, Mark, Payload, VALUES_PER_LIST_MAX};
use crate::fold::bounded;
use crate::merge::BoundedMerges;
use crate::open::IndexError;
use crate::reader::Reader;
use crate::schema::{Fields, SCHEMA_VERSION};
use crate::tokenize::is_machine_id;

/// Smallest heap of a writer, in bytes: the least tantivy accepts. A segment is written whenever the heap is full, so
/// a small one means many small segments.
pub const HEAP_BYTES_MIN: usize = 15_000_000;

/// Largest heap of a writer, in bytes: above it a segment's offsets would not fit. No use is known for more than a tenth.
pub const HEAP_BYTES_MAX: usize = 4_000_000_000;

/// One thread builds segments: the order of the operations is the order of the calls, and the other core is for the
/// crawl that feeds it.
const WORKER_THREADS: usize = 1;

/// One thread merges segments, for the same reason.
const MERGE_THREADS: usize = 1;

/// The one writer of an index.
pub struct Writer {
    inner: IndexWriter,
    reader: Reader,
    fields: Fields,
    state: State,
    /// Held, not used: the right to write.
    _owner_lock: Arc<File>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Working,
    Failed,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Writer").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Writer {
    pub(crate) fn start(
        index: &tantivy::Index,
        reader: &Reader,
        owner_lock: &Arc<File>,
        heap_bytes: usize,
    ) -> Result<Self, IndexError> {
        if !(HEAP_BYTES_MIN..=HEAP_BYTES_MAX).contains(&heap_bytes) {
            return Err(IndexError::Heap { found: heap_bytes });
        }
        let options = IndexWriterOptions::builder()
            .num_worker_threads(WORKER_THREADS)
            .memory_budget_per_thread(heap_bytes)
            .num_merge_threads(MERGE_THREADS)
            .build();
        let inner = index.writer_with_options(options).map_err(|error| match error {
            TantivyError::LockFailure(..) => IndexError::Locked { path: reader.path_for_messages() },
            error => IndexError::StartWriter(error),
        })?;
        inner.set_merge_policy(Box::new(BoundedMerges::default()));
        // A process that was killed within a commit leaves files that nothing refers to; the next commit may want their
        // names, and would fail.
        inner.garbage_collect_files().wait().map_err(IndexError::StartWriter)?;
        leave_out_the_stamp_of_the_last_commit(&inner).map_err(IndexError::StartWriter)?;
        let fields = reader.fields().clone();
        Ok(Self { inner, reader: reader.clone(), fields, state: State::Working, _owner_lock: owner_lock.clone() })
    }

    /// Adds a document, or replaces the one with its key. Blocks while the queue to the indexing thread is full.
    ///
    /// # Errors
    /// [`IndexError::Key`]: nothing changed, the writer works on. [`IndexError::Write`], [`IndexError::WriterFailed`].
    pub fn put(&mut self, doc: &IndexDoc) -> Result<(), IndexError> {
        self.check(&doc.key)?;
        self.inner.delete_term(Term::from_field_text(self.fields.key, &doc.key));
        self.add(doc)
    }

    /// Adds a document whose key is neither in the index nor was given to this writer since [`Writer::delete_all`]: the
    /// caller vouches for it. Spares the look-up of an older version in every segment, most of the cost of a first
    /// fill. A key added twice is found twice until it is deleted.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn put_new(&mut self, doc: &IndexDoc) -> Result<(), IndexError> {
        self.check(&doc.key)?;
        self.add(doc)
    }

    /// Removes the document with this key, if there is one.
    ///
    /// # Errors
    /// As [`Writer::put`].
    pub fn delete(&mut self, key: &str) -> Result<(), IndexError> {
        self.check(key)?;
        self.inner.delete_term(Term::from_field_text(self.fields.key, key));
        Ok(())
    }

    /// Removes every document, those put before this call in the same commit included.
    ///
    /// # Errors
    /// [`IndexError::Write`], [`IndexError::WriterFailed`].
    pub fn delete_all(&mut self) -> Result<(), IndexError> {
        self.check_working()?;
        // Not `delete_all_documents`: it spares documents that are not in a segment yet, and turns back the clock by
        // which pending deletes are ordered, so that they would remove what is put afterwards.
        let deleted = self.inner.delete_query(Box::new(AllQuery));
        self.note(deleted).map(drop).map_err(IndexError::Write)
    }

    /// Makes everything up to here durable, together with `mark`, and shows it to the readers of this index. When it
    /// returns, a search sees it.
    ///
    /// # Errors
    /// [`IndexError::Commit`]: the index is as of the last commit, or as of this one (the mark tells after opening it
    /// again). [`IndexError::Reload`]: committed, but readers still see the last commit. [`IndexError::WriterFailed`].
    pub fn commit_at(&mut self, mark: &Mark) -> Result<(), IndexError> {
        self.check_working()?;
        let payload = Payload::of(mark, SCHEMA_VERSION);
        let committed = serde_json::to_string(&payload).map_err(TantivyError::from).and_then(|payload| {
            let mut prepared = self.inner.prepare_commit()?;
            prepared.set_payload(&payload);
            prepared.commit()
        });
        self.note(committed).map_err(IndexError::Commit)?;
        let reloaded = self.reader.reload_at(mark);
        self.note(reloaded).map_err(IndexError::Reload)
    }

    /// Waits for the merges under way and ends the writer. Dropping it abandons them, which costs nothing but their
    /// work: the next writer starts them again.
    ///
    /// # Errors
    /// [`IndexError::Write`] if a merge failed; the index is as of its last commit.
    pub fn finish(self) -> Result<(), IndexError> {
        let Self { inner, reader, .. } = self;
        inner.wait_merging_threads().map_err(IndexError::Write)?;
        reader.reload().map_err(IndexError::Reload)
    }

    fn add(&mut self, doc: &IndexDoc) -> Result<(), IndexError> {
        let document = document(&self.fields, doc);
        let added = self.inner.add_document(document);
        self.note(added).map(drop).map_err(IndexError::Write)
    }

    fn check(&self, key: &str) -> Result<(), IndexError> {
        self.check_working()?;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(IndexError::Key { found: key.len() });
        }
        Ok(())
    }

    fn check_working(&self) -> Result<(), IndexError> {
        match self.state {
            State::Working => Ok(()),
            State::Failed => Err(IndexError::WriterFailed),
        }
    }

    fn note<T>(&mut self, result: tantivy::Result<T>) -> tantivy::Result<T> {
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }
}

/// Takes the first stamp of a writer for nothing.
///
/// tantivy 0.27 numbers operations on from the last commit, with the number of that commit once more. A merge of committed
/// segments that starts before this writer's first commit (one that was due when the last process was killed) takes in
/// what is numbered up to the last commit, so this writer's first operation too; it passes over the segments whose
/// deletes are of that number, because they are as of it, yet goes on behind the operation for all of them. The first key
/// that is put would then be there twice, and the first that is deleted would stay.
fn leave_out_the_stamp_of_the_last_commit(inner: &IndexWriter) -> tantivy::Result<()> {
    inner.run(std::iter::empty()).map(drop)
}

/// The document in terms of the schema. Copies the values; splitting them into words is the indexing thread's work.
fn document(fields: &Fields, doc: &IndexDoc) -> TantivyDocument {
    let mut document = TantivyDocument::default();
    document.add_text(fields.key, &doc.key);
    document.add_u64(fields.kind, doc.kind.number());
    let mut words = |fields: &[Field], value: &str| {
        let value = bounded(value);
        if !value.is_empty() {
            fields.iter().for_each(|field| document.add_text(*field, value));
        }
    };
    if doc.kind == DocKind::Mapping {
        let accounts = list(&doc.accounts).filter(|account| **account != doc.title);
        for account in std::iter::once(&doc.title).chain(accounts).chain(list(&doc.names)) {
            words(&[fields.account_whole], account);
            if !is_machine_id(account) {
                words(&[fields.mapping], without_mail_domain(account));
            }
        }
    } else {
        words(&[fields.title, fields.title_whole, fields.word, fields.gram], &doc.title);
        words(&[fields.title_line], &tagged_title(doc));
        for name in list(&doc.names) {
            words(&[fields.name, fields.word, fields.gram], name);
            // A whole name is a whole name in any field; logins are mostly names of accounts, too.
            if !is_account(doc, name) {
                words(&[fields.name_whole], name);
            }
        }
        for account in list(&doc.accounts) {
            words(&[fields.account_whole], account);
            if !is_machine_id(account) {
                words(&[fields.account, fields.word, fields.gram], account);
            }
        }
    }
    if !doc.status.is_empty() {
        document.add_text(fields.status, bounded(&doc.status));
    }
    for id in list(&doc.ids) {
        if !(is_machine_id(id) && is_account(doc, id)) {
            document.add_text(fields.id, bounded(id));
        }
    }
    for app in list(&doc.apps) {
        document.add_text(fields.app, bounded(app));
    }
    for label in list(&doc.app_labels) {
        document.add_text(fields.app_label, bounded(label));
        document.add_text(fields.app_line, bounded(label));
    }
    document
}

/// Whether an account of the document is called so; if it is, it stands in the field of whole account names.
fn is_account(doc: &IndexDoc, name: &str) -> bool {
    list(&doc.accounts).any(|account| account == name) || (doc.kind == DocKind::Mapping && doc.title == name)
}

fn tagged_title(doc: &IndexDoc) -> String {
    format!("{}{}", doc.kind.tag(), doc.title)
}

/// `j.doe` of `j.doe@example.com`. The domain is in every account of an org: as words of mappings it would only make
/// long lists that nobody reads.
fn without_mail_domain(account: &str) -> &str {
    match account.split_once('@') {
        Some((local, _)) if !local.is_empty() => local,
        _ => account,
    }
}

fn list(values: &[String]) -> impl Iterator<Item = &String> {
    values.iter().take(VALUES_PER_LIST_MAX).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tantivy::indexer::NoMergePolicy;

    use super::*;
    use crate::open::{Era, Expect, Index, Opened, open};

    const STORE_ID: &str = "store-1";

    fn open_any(dir: &Path) -> Index {
        let eras = vec![Era { name: "e".to_owned(), first: 0 }];
        let expect = Expect { store_id: STORE_ID.to_owned(), eras, revisions: 0..=9 };
        match open(dir, &expect).unwrap() {
            Opened::Ready(index, _) | Opened::Rebuild(index, _) => index,
        }
    }

    fn commit(writer: &mut Writer, revision: u64, keys: &[&str]) {
        for key in keys {
            writer.put(&IndexDoc::new(DocKind::User, *key, "Anna")).unwrap();
        }
        writer.commit_at(&Mark { store_id: STORE_ID.to_owned(), era: "e".to_owned(), revision }).unwrap();
    }

    /// What a process leaves that is killed after a commit, before the merge that this commit calls for has ended: the next
    /// writer begins that merge when it is given its first operation.
    #[track_caller]
    fn check(first: fn(&mut Writer), expected: &str) {
        let dir = tempfile::TempDir::new().unwrap();
        let index = open_any(dir.path());
        let mut killed = index.writer(HEAP_BYTES_MIN).unwrap();
        killed.inner.set_merge_policy(Box::new(NoMergePolicy));
        // The largest segment has no deletes, and is the first of the merge.
        commit(&mut killed, 1, &["a", "b", "c", "d", "e"]);
        commit(&mut killed, 2, &["k", "l", "m"]);
        // The second has some as of the last commit, and so many that it is rewritten, together with the others.
        commit(&mut killed, 3, &["l"]);
        drop((killed, index));

        let index = open_any(dir.path());
        let mut writer = index.writer(HEAP_BYTES_MIN).unwrap();
        first(&mut writer);
        // Without a document there would be no new segment, and no merge before the commit.
        commit(&mut writer, 4, &["n"]);
        writer.finish().unwrap();
        assert_eq!(index.reader().all_keys().unwrap().join(" "), expected);
    }

    #[test]
    fn the_first_operation_of_a_writer_reaches_a_merge_that_was_left_to_it() {
        check(|_| {}, "a b c d e k l m n");
        check(|writer| writer.put(&IndexDoc::new(DocKind::User, "k", "Bert")).unwrap(), "a b c d e k l m n");
        check(|writer| writer.delete("k").unwrap(), "a b c d e l m n");
        check(|writer| writer.delete("a").unwrap(), "b c d e k l m n");
        check(|writer| writer.delete_all().unwrap(), "n");
    }
}
