//! The index follower: brings the search index up to the store, and makes it anew where it cannot be trusted.
//!
//! Entry points: [`Follower::open`], then [`Follower::catch_up`] whenever the revision has grown, [`Follower::rebuild`] when
//! somebody asks for it; [`reindex`] without a server.
//!
//! Invariants:
//! - The store is the truth: a document is always made from the rows as they are now, never from a change's content.
//! - The mark is committed with the documents: after a crash the follower repeats at most the last batch.
//! - A mark is followed up only if its revision is of the era that the store knows it by: what was indexed of a store that was put
//!   back from a backup since is made anew, whatever revision either has reached.
//! - An index that was never completed has no mark and is not searched.
//! - While an index with a mark is made anew it is searched as it was: what is put shows with the commit of all of it, and what
//!   was put until then is never committed alone.

use std::collections::BTreeSet;

use okta_idmap_index::{DocKind, Era, Expect, Index, IndexDoc, Mark, Opened, Writer};

use super::{EngineError, OrgRuntime, OrgSettings};
use crate::core::ids::Revision;
use crate::core::model::{AppUser, Kind, User};
use crate::store::{ChangeKey, ChangeOp, Reader, Snapshot, StoreError};

/// Lines of the change log that are taken in at once; bounds the memory of a batch.
const CHANGES_MAX: usize = 20_000;

/// Rows read in one snapshot while the index is made anew: short enough to keep the write-ahead log small.
const REBUILD_ROWS: usize = 2_000;

/// Accounts of one user that become terms of its document.
const ACCOUNTS_MAX: usize = 4_000;

/// Keeps the index of one org.
pub struct Follower {
    reader: Reader,
    index: Index,
    writer: Writer,
    store_id: String,
    /// `None` = the index is to be made anew.
    mark: Option<Revision>,
    /// The writer holds a part of an index, which must not be committed.
    is_partial: bool,
}

/// Whether to go on with what takes long: asked every few thousand rows.
pub type GoOn<'a> = &'a dyn Fn() -> bool;

impl Follower {
    /// Opens the index and decides whether it can be followed up or has to be made anew.
    ///
    /// # Errors
    /// The directory is not an index, is in use by another process, or cannot be written.
    pub fn open(settings: &OrgSettings, reader: &Reader) -> Result<Self, EngineError> {
        let (meta, eras) = reader.read(|snapshot| Ok((snapshot.meta()?, snapshot.eras())))?;
        // An older one holds names of people who were purged.
        let oldest = meta.changes_from.max(meta.purged);
        let eras = eras.into_iter().map(|(name, first)| Era { name, first: first.0 }).collect();
        let expect = Expect { store_id: meta.store_id.clone(), eras, revisions: oldest.0..=meta.revision.0 };
        let (index, mark) = match okta_idmap_index::open(&settings.index_dir(), &expect)? {
            Opened::Ready(index, mark) => (index, Some(Revision(mark.revision))),
            Opened::Rebuild(index, reason) => {
                tracing::info!(org = %settings.name, %reason, "the search index is made anew");
                (index, None)
            }
        };
        Self::of(settings, reader, index, mark, meta.store_id)
    }

    /// Empties the index, whatever it holds: it is made anew by the next [`Follower::catch_up`].
    ///
    /// # Errors
    /// As [`Follower::open`].
    pub fn open_anew(settings: &OrgSettings, reader: &Reader) -> Result<Self, EngineError> {
        let store_id = reader.read(|snapshot| snapshot.meta())?.store_id;
        let index = okta_idmap_index::open_anew(&settings.index_dir())?;
        Self::of(settings, reader, index, None, store_id)
    }

    fn of(
        settings: &OrgSettings,
        reader: &Reader,
        index: Index,
        mark: Option<Revision>,
        store_id: String,
    ) -> Result<Self, EngineError> {
        let writer = index.writer(settings.index_heap_bytes)?;
        Ok(Self { reader: reader.clone(), index, writer, store_id, mark, is_partial: false })
    }

    /// The searcher, once the index is complete.
    pub fn searcher(&self) -> Option<okta_idmap_index::Reader> {
        self.mark.map(|_| self.index.reader())
    }

    /// Up to which revision the index shows the store.
    pub fn mark(&self) -> Option<Revision> {
        self.mark
    }

    /// Whether the index holds names of people who were purged since: what is deleted from it stays in its files until they
    /// are merged, so it is to be dropped, opened again and made anew.
    pub fn is_stained(&self) -> Result<bool, StoreError> {
        let purged = self.reader.read(|snapshot| snapshot.meta())?.purged;
        Ok(self.mark.is_some_and(|mark| mark < purged))
    }

    /// Takes in everything that is in the store now. Nothing is done before the first complete crawl: until then there is
    /// nothing to be found, and making the index at once is much cheaper than following a crawl.
    pub fn catch_up(&mut self, go_on: GoOn<'_>) -> Result<(), EngineError> {
        let meta = self.reader.read(|snapshot| snapshot.meta())?;
        match self.mark {
            None if meta.crawl.completed_at.is_none() => Ok(()),
            Some(mark) if mark >= meta.changes_from => self.follow(mark),
            _ => self.rebuild(go_on).map(drop),
        }
    }

    fn commit(&mut self, revision: Revision) -> Result<(), EngineError> {
        // The eras stay while this process is the one that writes.
        let era = self.reader.read(|snapshot| Ok(snapshot.era_of(revision).unwrap_or_default().to_owned()))?;
        self.writer.commit_at(&Mark { store_id: self.store_id.clone(), era, revision: revision.0 })?;
        self.mark = Some(revision);
        Ok(())
    }

    /// Takes in what was written before the end, up to two batches: a clean end leaves an index that is as new as the store, and a
    /// backlog does not delay it. An index that is to be made anew is left for the next start.
    pub fn finish(&mut self) -> Result<(), EngineError> {
        let oldest = self.reader.read(|snapshot| snapshot.meta())?.changes_from;
        match self.mark {
            Some(mark) if mark >= oldest && !self.is_partial => match self.follow_batch(mark)? {
                // Behind the last row there may be revisions without one.
                Some(next) => self.follow_batch(next).map(|_| ()),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Ends it when the merges that are due have ended. Every search looks into each segment, and whoever opens the index next
    /// may not write for long: an index that was just built has ten times as many as it would have then.
    ///
    /// # Errors
    /// See [`EngineError`]; the index is as of its last commit.
    pub fn settle(self) -> Result<(), EngineError> {
        Ok(self.writer.finish()?)
    }

    fn follow(&mut self, mut mark: Revision) -> Result<(), EngineError> {
        while let Some(next) = self.follow_batch(mark)? {
            mark = next;
        }
        Ok(())
    }

    /// Returns the new mark, or nothing at the end.
    fn follow_batch(&mut self, mark: Revision) -> Result<Option<Revision>, EngineError> {
        let (changes, newest, purged) = self.reader.read(|snapshot| {
            let purged = snapshot.meta()?.purged;
            Ok((snapshot.changes_after(mark, CHANGES_MAX)?, snapshot.revision(), purged))
        })?;
        if mark < purged {
            return Ok(None); // It is to be made anew, see `is_stained`: a newer mark would hide that.
        }
        let Some(last) = changes.last().map(|change| change.revision) else {
            // Revisions that only opened or closed gaps: without a mark the index would look old until a row changes.
            if newest > mark {
                self.commit(newest)?;
            }
            return Ok(None);
        };
        let mut dirty = BTreeSet::new();
        for change in &changes {
            self.mark_dirty(change.key, change.op, &mut dirty)?;
        }
        for chunk in dirty.into_iter().collect::<Vec<_>>().chunks(REBUILD_ROWS) {
            let documents = self.reader.read(|snapshot| documents(snapshot, chunk))?;
            for document in documents {
                match document {
                    Document::Put(document) => self.writer.put(&document)?,
                    Document::Delete(key) => self.writer.delete(&key)?,
                }
            }
        }
        self.commit(last)?;
        Ok(Some(last))
    }

    /// The documents that a change touches.
    fn mark_dirty(&self, key: ChangeKey, op: ChangeOp, dirty: &mut BTreeSet<ChangeKey>) -> Result<(), StoreError> {
        let user = |n| ChangeKey { kind: Kind::User, a: n, b: 0 };
        match key.kind {
            Kind::User | Kind::Group => {
                dirty.insert(key);
            }
            Kind::App => {
                dirty.insert(key);
                if op == ChangeOp::Relabelled {
                    for n in self.reader.read(|snapshot| snapshot.users_of_app_by_n(key.a))? {
                        dirty.insert(ChangeKey { kind: Kind::AppUser, a: key.a, b: n });
                        dirty.insert(user(n));
                    }
                }
            }
            Kind::AppUser => {
                dirty.insert(key);
                dirty.insert(user(key.b));
            }
            Kind::GroupMember | Kind::AppGroup => {}
        }
        Ok(())
    }

    /// Makes the index anew from the store. Until it is whole, searches see it as it was. `false` when it was broken off: then
    /// this follower can do nothing more, and the index is as it was.
    ///
    /// # Errors
    /// The store cannot be read, or the index not be written.
    pub fn rebuild(&mut self, go_on: GoOn<'_>) -> Result<bool, EngineError> {
        self.is_partial = true;
        self.writer.delete_all()?;
        // Rows that change from here on are taken in by the next round.
        let revision = self.reader.read(|snapshot| Ok(snapshot.revision()))?;
        for kind in [Kind::User, Kind::Group, Kind::App, Kind::AppUser] {
            let mut after = (-1, -1);
            loop {
                if !go_on() {
                    return Ok(false);
                }
                let (keys, documents) = self.reader.read(|snapshot| {
                    let keys = snapshot.keys_after(kind, after, REBUILD_ROWS)?;
                    let documents = documents(snapshot, &keys)?;
                    Ok((keys, documents))
                })?;
                for document in documents {
                    if let Document::Put(document) = document {
                        self.writer.put_new(&document)?;
                    }
                }
                match keys.last() {
                    Some(last) => after = (last.a, last.b),
                    None => break,
                }
            }
        }
        self.commit(revision)?;
        self.is_partial = false;
        Ok(true)
    }
}

/// An index that was built anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Up to where it shows the store.
    pub revision: Revision,
    /// Documents in it.
    pub entries: u64,
}

/// Builds the search index anew from the store, as the one process that holds the org; `None` where nothing was ever read
/// completely. Until it is whole, other processes search in the one that there was, unless that one is damaged. Blocks.
///
/// # Errors
/// See [`EngineError`]: above all a store that is in use.
pub fn reindex(settings: OrgSettings) -> Result<Option<Built>, EngineError> {
    let (org, _writer) = OrgRuntime::open(settings)?;
    let meta = org.reader().read(|snapshot| snapshot.meta())?;
    if meta.crawl.completed_at.is_none() {
        return Ok(None);
    }
    let mut follower = Follower::open(org.settings(), org.reader())?;
    let built = follower.rebuild(&|| true);
    if let Err(EngineError::Index(error)) = &built {
        tracing::warn!(org = %org.name(), %error, "the index cannot be built beside the one that there is, which is dropped");
        drop(follower);
        follower = Follower::open_anew(org.settings(), org.reader())?;
        follower.rebuild(&|| true)?;
    } else {
        built?;
    }
    let entries = follower.searcher().map_or(0, |reader| reader.doc_count());
    let revision = follower.mark().unwrap_or_default();
    follower.settle()?;
    Ok(Some(Built { revision, entries }))
}

enum Document {
    Put(Box<IndexDoc>),
    Delete(String),
}

/// The key of a user's document.
pub fn user_key(id: &str) -> String {
    format!("user/{id}")
}

/// The key of a group's document.
pub fn group_key(id: &str) -> String {
    format!("group/{id}")
}

/// The key of an app's document.
pub fn app_key(id: &str) -> String {
    format!("app/{id}")
}

/// The key of a mapping's document.
pub fn mapping_key(app: &str, user: &str) -> String {
    format!("mapping/{app}/{user}")
}

fn documents(snapshot: &Snapshot<'_>, keys: &[ChangeKey]) -> Result<Vec<Document>, StoreError> {
    let mut documents = Vec::with_capacity(keys.len());
    for key in keys {
        documents.extend(document(snapshot, *key)?);
    }
    Ok(documents)
}

/// The document of a row as it is now; `None` for surrogates that never had an id.
fn document(snapshot: &Snapshot<'_>, key: ChangeKey) -> Result<Option<Document>, StoreError> {
    let put = |document| Some(Document::Put(Box::new(document)));
    let id = |n| -> Result<String, StoreError> { Ok(snapshot.id_of(n)?.unwrap_or_default()) };
    Ok(match key.kind {
        Kind::User => match snapshot.user_by_n(key.a)? {
            Some(user) => put(user_document(snapshot, &user, key.a)?),
            None => Some(Document::Delete(user_key(&id(key.a)?))),
        },
        Kind::Group => match snapshot.group_by_n(key.a)? {
            Some(group) => {
                let mut document = IndexDoc::new(DocKind::Group, group_key(group.id.as_str()), &*group.name);
                document.names.extend(group.description.as_deref().map(str::to_owned));
                document.ids.push(group.id.to_string());
                put(document)
            }
            None => Some(Document::Delete(group_key(&id(key.a)?))),
        },
        Kind::App => match snapshot.app_by_n(key.a)? {
            Some(app) => {
                let mut document = IndexDoc::new(DocKind::App, app_key(app.id.as_str()), &*app.label);
                document.names.push(app.name.to_string());
                document.ids.push(app.id.to_string());
                app.status.as_str().clone_into(&mut document.status);
                document.apps.push(app.id.to_string());
                document.app_labels.push(app.label.to_string());
                put(document)
            }
            None => Some(Document::Delete(app_key(&id(key.a)?))),
        },
        Kind::AppUser => match snapshot.app_user_by_n(key.a, key.b)? {
            Some(app_user) => put(mapping_document(snapshot, &app_user, key.a)?),
            None => Some(Document::Delete(mapping_key(&id(key.a)?, &id(key.b)?))),
        },
        Kind::GroupMember | Kind::AppGroup => None,
    })
}

fn user_document(snapshot: &Snapshot<'_>, user: &User, n: i64) -> Result<IndexDoc, StoreError> {
    let full_name = [user.first_name.as_deref(), user.last_name.as_deref()].into_iter().flatten().collect::<Vec<_>>();
    let full_name = full_name.join(" ");
    let title = user
        .display_name
        .as_deref()
        .filter(|name| !name.trim().is_empty())
        .or_else(|| Some(full_name.as_str()).filter(|name| !name.is_empty()))
        .or(user.login.as_deref())
        .unwrap_or(user.id.as_str());
    let mut document = IndexDoc::new(DocKind::User, user_key(user.id.as_str()), title);
    document.names.push(full_name.clone());
    document.names.extend([&user.login, &user.email].into_iter().flatten().map(|name| name.to_string()));
    document.names.sort_unstable();
    document.names.dedup();
    document.names.retain(|name| !name.is_empty());
    document.ids.push(user.id.to_string());
    user.status.as_str().clone_into(&mut document.status);
    for account in snapshot.accounts_by_n(n, None, ACCOUNTS_MAX)?.rows {
        document.accounts.extend(names_of(&account));
        if let Some(app) = snapshot.app(&account.app)? {
            document.app_labels.push(app.label.into());
        }
        document.apps.push(account.app.to_string());
    }
    document.accounts.sort_unstable();
    document.accounts.dedup();
    Ok(document)
}

fn mapping_document(snapshot: &Snapshot<'_>, app_user: &AppUser, app: i64) -> Result<IndexDoc, StoreError> {
    let title = app_user.user_name.as_deref().or(app_user.external_id.as_deref()).unwrap_or(app_user.user.as_str());
    let key = mapping_key(app_user.app.as_str(), app_user.user.as_str());
    let mut document = IndexDoc::new(DocKind::Mapping, key, title);
    document.names.extend(app_user.email.as_deref().map(str::to_owned));
    document.accounts = names_of(app_user);
    document.ids.push(app_user.user.to_string());
    document.ids.extend(app_user.external_id.as_deref().map(str::to_owned));
    app_user.status.as_str().clone_into(&mut document.status);
    document.apps.push(app_user.app.to_string());
    document.app_labels.extend(snapshot.app_by_n(app)?.map(|app| app.label.into()));
    Ok(document)
}

fn names_of(app_user: &AppUser) -> Vec<String> {
    [&app_user.user_name, &app_user.external_id].into_iter().flatten().map(|name| name.to_string()).collect()
}
