//! Making a register of the store, in steps that are each a short read.
//!
//! Entry points: [`Builder::begin`], [`Builder::step`] until it is [`Step::Done`].
//!
//! The names come in ranges of their keys, which are hashes: a range is a short walk of each table of keys, and all of them in
//! turn are sorted without anything being sorted. The people come in the order of their surrogates.
//!
//! Invariant: the file gets its name once it is whole. What a step that is never followed by another leaves behind is
//! overwritten by the next builder.

use std::path::{Path, PathBuf};

use super::super::snapshot::Snapshot;
use super::super::StoreError;
use super::pages::{Head, PageWriter, Section};
use super::rows::put_account;
use super::{REGISTER_FILE, versions};
use crate::core::ids::Revision;
use crate::core::model::Kind;

/// Names, or rows of people and accounts, read in a step, about.
const STEP_ROWS: usize = 10_000;

/// Names of a step beyond which the keys are too uneven to go on: hashes of names that people choose are not.
pub(in crate::store) const STEP_NAMES_MAX: usize = 400_000;

/// A register in the making.
#[derive(Debug)]
pub struct Builder {
    dir: PathBuf,
    store_id: String,
    writer: PageWriter,
    place: Place,
    /// Users and accounts at the beginning.
    rows: u64,
    /// Rows of a step.
    step_rows: usize,
    /// Of the first and of the latest step, with the process that made it.
    oldest: (Revision, String),
    newest: (Revision, String),
    names: u64,
    accounts: u64,
    bytes: Vec<u8>,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// The range of keys with this number.
    Names(u64),
    /// Those who come after this surrogate.
    People(u32),
}

/// What a step came to.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    Next(Builder),
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
    /// Begins, in a file beside that of the register.
    ///
    /// # Errors
    /// The file cannot be made, the store cannot be read.
    pub(in crate::store) fn begin(dir: &Path, snapshot: &Snapshot<'_>) -> Result<Self, StoreError> {
        let path = Self::path(dir);
        let writer = PageWriter::create(&path).map_err(failed(&path))?;
        let meta = snapshot.meta()?;
        let rows = [Kind::User, Kind::AppUser].map(|kind| meta.rows.get(&kind).copied().unwrap_or_default());
        let rows = rows[0].saturating_add(rows[1]);
        let now = Self::now(snapshot);
        let (dir, store_id, place, bytes) = (dir.to_owned(), meta.store_id, Place::Names(0), Vec::new());
        let (oldest, newest) = (now.clone(), now);
        Ok(Self { dir, store_id, writer, place, rows, step_rows: STEP_ROWS, oldest, newest, names: 0, accounts: 0, bytes })
    }

    /// In shorter steps.
    #[cfg(test)]
    pub(super) fn in_steps_of(self, step_rows: usize) -> Self {
        Self { step_rows, ..self }
    }

    /// Ranges of keys.
    fn ranges(&self) -> u64 {
        (self.rows / self.step_rows.max(1) as u64).clamp(1, 1 << 20)
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
            Ok(true) => self.finish(),
            Ok(false) => Ok(Step::Next(self)),
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
        let path = Self::path(&self.dir);
        match self.place {
            Place::Names(range) => {
                let keys = keys_of_range(range, self.ranges());
                for (place, holders) in snapshot.holders_between(keys, STEP_NAMES_MAX)? {
                    self.bytes.clear();
                    holders.write(&mut self.bytes);
                    self.writer.put(place, &self.bytes).map_err(failed(&path))?;
                    self.names += 1;
                }
                self.place = Place::Names(range + 1);
                if range + 1 == self.ranges() {
                    self.writer.begin(Section::People).map_err(failed(&path))?;
                    self.place = Place::People(0);
                }
                Ok(false)
            }
            Place::People(after) => {
                let people = snapshot.people_after(after, self.step_rows)?;
                for (user, person, accounts) in &people {
                    self.bytes.clear();
                    person.write(&mut self.bytes);
                    self.writer.put((i64::from(*user), 0), &self.bytes).map_err(failed(&path))?;
                    for (app, account) in accounts {
                        self.bytes.clear();
                        put_account(&mut self.bytes, account, person);
                        self.writer.put((i64::from(*user), *app), &self.bytes).map_err(failed(&path))?;
                        self.accounts += 1;
                    }
                    self.place = Place::People(*user);
                }
                Ok(people.is_empty())
            }
        }
    }

    fn finish(self) -> Result<Step, StoreError> {
        let Self { dir, store_id, writer, oldest, newest, names, accounts, .. } = self;
        let path = Self::path(&dir);
        let made = Made { names, accounts, bytes: writer.bytes() };
        let head = Head {
            versions: versions(),
            store_id,
            oldest: oldest.0,
            newest: newest.0,
            eras: [oldest.1, newest.1],
        };
        let named = writer.finish(&head).and_then(|()| std::fs::rename(&path, dir.join(REGISTER_FILE)));
        named.map_err(failed(&path))?;
        Ok(Step::Done(made))
    }
}

/// The keys of one of so many ranges, in their order as they are stored.
fn keys_of_range(range: u64, ranges: u64) -> std::ops::RangeInclusive<i64> {
    let begin = |range: u64| (u128::from(range) << 64) / u128::from(ranges.max(1));
    #[expect(clippy::cast_possible_truncation, reason = "at most 2^64 - 1")]
    let key = |nth: u128| (nth as u64).wrapping_add(1 << 63).cast_signed();
    key(begin(range))..=key(begin(range + 1).saturating_sub(1))
}
