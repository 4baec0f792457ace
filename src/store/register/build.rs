//! Making a register of the store, in steps that are each a short read.
//!
//! Entry points: [`Builder::begin`], [`Builder::step`] until it is [`Step::Done`].
//!
//! The names come in ranges of their keys, which are hashes: a range is a short walk of each table of keys, and all of them in
//! turn are sorted without anything being sorted. The people come in the order of their surrogates.
//!
//! Invariant: the file gets its name once it is whole. What is left of one that never was is removed when the store is opened
//! for writing, or overwritten by the next builder.

use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom as _, SystemRandom};

use super::super::StoreError;
use super::super::snapshot::Snapshot;
use super::pages::{ENTRY_HEAD_BYTES, Head, PageWriter, Section};
use super::rows::put_account;
use super::{REGISTER_FILE, versions};
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::Kind;

/// Names, or rows of people and accounts, read in a step, about.
const STEP_ROWS: usize = 10_000;

/// Keys of names: all numbers of 64 bits, in their order as they are stored.
const KEYS: u128 = 1 << 64;

/// A register in the making.
#[derive(Debug)]
pub struct Builder {
    dir: PathBuf,
    store_id: String,
    writer: PageWriter,
    place: Place,
    /// Keys of a step: at most, and of the next one.
    step_keys_max: u128,
    step_keys: u128,
    made_at: Timestamp,
    /// Rows of a step.
    step_rows: usize,
    /// Of the first and of the latest step, with the process that made it.
    oldest: (Revision, String),
    newest: (Revision, String),
    /// Users and accounts at the beginning.
    rows: u64,
    names: u64,
    accounts: u64,
    bytes: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// Keys from the one with this number on.
    Names(u128),
    /// Those who come after this surrogate.
    People(u32),
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    Next(Box<Builder>),
    /// It is whole.
    Done(Made),
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Names of accounts and users, each in its app.
    pub names: u64,
    /// Accounts.
    pub accounts: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
    move |source| StoreError::Io { path: path.to_owned(), source }
}

impl Builder {
    /// Begins at `now`, in a file beside that of the register.
    ///
    /// # Errors
    /// The file cannot be made, the store cannot be read.
    pub(in crate::store) fn begin(dir: &Path, snapshot: &Snapshot<'_>, now: Timestamp) -> Result<Self, StoreError> {
        let path = Self::path(dir);
        let mut nonce = [0; 8];
        let filled = SystemRandom::new().fill(&mut nonce);
        filled.map_err(|_| StoreError::Mismatch { detail: "the system has no random numbers".to_owned() })?;
        let meta = snapshot.meta()?;
        let writer = PageWriter::create(&path, u64::from_le_bytes(nonce)).map_err(failed(&path))?;
        let rows = [Kind::User, Kind::AppUser].map(|kind| meta.rows.get(&kind).copied().unwrap_or_default());
        let rows = rows[0].saturating_add(rows[1]);
        let (made_at, step_rows) = (now, STEP_ROWS);
        let now = Self::now(snapshot);
        let (dir, store_id, place, bytes) = (dir.to_owned(), meta.store_id, Place::Names(0), Vec::new());
        let (oldest, newest) = (now.clone(), now);
        Ok(Self {
            dir,
            store_id,
            writer,
            place,
            rows,
            step_rows,
            step_keys_max: KEYS,
            step_keys: KEYS,
            made_at,
            oldest,
            newest,
            names: 0,
            accounts: 0,
            bytes,
        }
        .in_steps_of(STEP_ROWS))
    }

    /// In steps of about so many rows.
    pub(super) fn in_steps_of(mut self, step_rows: usize) -> Self {
        self.step_rows = step_rows.max(1);
        self.step_keys_max = KEYS / u128::from(self.rows / self.step_rows as u64).max(1);
        self.step_keys = self.step_keys_max;
        self
    }

    /// Where it is made.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(format!("{REGISTER_FILE}.new"))
    }

    fn now(snapshot: &Snapshot<'_>) -> (Revision, String) {
        let revision = snapshot.revision();
        (revision, snapshot.era_of(revision).unwrap_or_default().to_owned())
    }

    /// Goes on, with a snapshot that is not older than the one before.
    ///
    /// # Errors
    /// [`StoreError::Io`] of the file, for example of a disk that is full: it is removed. Whatever else the store reports.
    pub(in crate::store) fn step(mut self, snapshot: &Snapshot<'_>) -> Result<Step, StoreError> {
        match self.go_on(snapshot) {
            Ok(true) => {
                let path = Self::path(&self.dir);
                // What cannot be removed is overwritten the next time.
                self.finish().inspect_err(|_| drop(std::fs::remove_file(path)))
            }
            Ok(false) => Ok(Step::Next(Box::new(self))),
            Err(error) => {
                self.abandon();
                Err(error)
            }
        }
    }

    /// Removes what was made so far.
    pub fn abandon(self) {
        let path = Self::path(&self.dir);
        drop(self);
        // What cannot be removed is overwritten the next time.
        let _ = std::fs::remove_file(path);
    }

    /// Whether that was all.
    fn go_on(&mut self, snapshot: &Snapshot<'_>) -> Result<bool, StoreError> {
        self.newest = Self::now(snapshot);
        if snapshot.meta()?.purged > self.oldest.0 {
            return Err(StoreError::Mismatch { detail: "names were purged meanwhile".to_owned() });
        }
        let path = Self::path(&self.dir);
        match self.place {
            Place::Names(from) => {
                let to = from.saturating_add(self.step_keys).min(KEYS);
                // Names that were removed are not counted beforehand, and are remembered all the same.
                let limit = self.step_rows.saturating_mul(4);
                let Some(holders) = snapshot.holders_between(key(from)..=key(to.saturating_sub(1)), limit)? else {
                    if self.step_keys <= 1 {
                        return Err(StoreError::Mismatch { detail: "too many apps have the same name".to_owned() });
                    }
                    self.step_keys /= 2;
                    return Ok(false);
                };
                for (place, holders) in holders {
                    self.bytes.clear();
                    holders.write(&mut self.bytes);
                    self.writer.put(place, &self.bytes).map_err(failed(&path))?;
                    self.names += 1;
                }
                self.step_keys = self.step_keys.saturating_mul(2).min(self.step_keys_max);
                self.place = Place::Names(to);
                if to == KEYS {
                    self.writer.begin(Section::People).map_err(failed(&path))?;
                    self.place = Place::People(0);
                }
                Ok(false)
            }
            Place::People(after) => {
                let people = snapshot.people_after(after, self.step_rows)?;
                let mut ends = Vec::new();
                for (user, person, accounts) in &people {
                    self.bytes.clear();
                    ends.clear();
                    person.write(&mut self.bytes);
                    ends.push((0, self.bytes.len()));
                    for (app, account) in accounts {
                        put_account(&mut self.bytes, account, person);
                        ends.push((*app, self.bytes.len()));
                    }
                    let all = self.bytes.len() + ends.len() * ENTRY_HEAD_BYTES;
                    self.writer.keep_together(all).map_err(failed(&path))?;
                    let mut begin = 0;
                    for (app, end) in ends.drain(..) {
                        let value = self.bytes.get(begin..end).unwrap_or_default();
                        self.writer.put((i64::from(*user), app), value).map_err(failed(&path))?;
                        begin = end;
                    }
                    self.accounts += accounts.len() as u64;
                    self.place = Place::People(*user);
                }
                Ok(people.is_empty())
            }
        }
    }

    fn finish(self) -> Result<Step, StoreError> {
        let Self { dir, store_id, writer, oldest, newest, names, accounts, made_at, .. } = self;
        let path = Self::path(&dir);
        let head = Head {
            versions: versions(),
            store_id,
            oldest: oldest.0,
            newest: newest.0,
            eras: [oldest.1, newest.1],
            made_at,
        };
        let bytes = writer.finish(&head).map_err(failed(&path))?;
        std::fs::rename(&path, dir.join(REGISTER_FILE)).map_err(failed(&path))?;
        Ok(Step::Done(Made { names, accounts, bytes }))
    }
}

/// The key with this number among all, which are stored as signed numbers.
fn key(number: u128) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "less than 2^64")]
    let number = number as u64;
    number.wrapping_add(1 << 63).cast_signed()
}
