//! The register: a file beside the store that has who is meant by each name, laid out so that to look one up takes two reads of
//! a page instead of four descents in trees of millions of rows.
//!
//! Entry points: [`Builder`] to make one, [`Register::open`] and [`Register::find`].
//!
//! It is made of the store, now and then, and holds nothing that the store does not have: without it, and where it is out of
//! date, the store itself is read. It is never changed; what commits change meanwhile is known by [`super::touched`].
//!
//! Invariants:
//! - What is answered holds for the revision that is asked about: since the making of the register began no revision has touched
//!   the name or anybody whom it leads to. A debug build reads the store as well and compares.
//! - A register is used only with the store that it was made of, if that still has all changes since ([`Register::open`]):
//!   then they count as touched. It holds no names that were purged since it was made.
//! - What is damaged is not used, and nothing of it is answered.

mod build;
mod pages;
mod rows;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use self::build::{Builder, Made, Step};
use self::pages::{Page, Pages, Section, Value};
use self::rows::StoredHolders;
pub(super) use self::rows::{Holders, Person};
use super::named::{HITS_MAX, Name, Named, Names};
use super::snapshot::{AccountHit, Snapshot};
use super::touched::{LastTouched, Touched};
use super::{FORMAT_VERSION, StoreError};
use crate::core::ids::{AppId, Revision, Timestamp};
use crate::core::model::Kind;
use crate::core::normalize::NORMALIZE_VERSION;
use crate::core::resolve::AskedOf;

/// Name of the file within the org's directory.
pub const REGISTER_FILE: &str = "register.bin";

/// Changes since a register was made, beyond which it is made anew: they are read one by one at the start of the process, and each
/// makes a part of it useless.
const CHANGES_MAX: usize = 50_000;

/// A register that is in use.
#[derive(Debug)]
pub(super) struct Register {
    pages: Pages,
    path: PathBuf,
    /// Revision when its making began: since then all that is in it was read.
    oldest: Revision,
    made_at: Timestamp,
    is_broken: AtomicBool,
}

/// Why there is no register to use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// There is no file.
    #[error("there is none")]
    Missing,
    /// It is of another store, or of a state of it that never was or of which the changes are not known.
    #[error("{0}")]
    Outdated(&'static str),
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a register is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adopted {
    /// It is.
    Yes,
    /// There is no file.
    Missing,
    /// There was one, which is of no use: why.
    No(String),
}

/// How things stand with a register.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RegisterLook {
    /// Accounts in the store.
    pub accounts: u64,
    /// Whether a crawl has ever come to its end.
    pub is_crawled: bool,
    /// Whether a register is in use, and not damaged.
    pub is_in_use: bool,
    /// The share of people whom it is of no use for any more, 0 to 1.
    pub touched_share: f64,
    /// Whether one that is in use, or damaged, holds names that must not stay in any file.
    pub is_stained: bool,
    /// When the making of the one in use began.
    pub made_at: Option<Timestamp>,
}

pub(super) fn look(names: Option<&Names>, snapshot: &Snapshot<'_>) -> Result<RegisterLook, StoreError> {
    let meta = snapshot.meta()?;
    let register = names.and_then(|names| Some((names, names.register()?)));
    let is_stained = register.as_ref().is_some_and(|(_, register)| register.oldest < meta.purged);
    let in_use = register.filter(|(_, register)| !register.is_broken.load(Ordering::Relaxed));
    Ok(RegisterLook {
        accounts: meta.rows.get(&Kind::AppUser).copied().unwrap_or_default(),
        is_crawled: meta.crawl.completed_at.is_some(),
        is_in_use: in_use.is_some(),
        touched_share: in_use.as_ref().map_or(0.0, |(names, register)| names.touched_share(register.oldest)),
        is_stained,
        made_at: in_use.map(|(_, register)| register.made_at),
    })
}

/// Takes the file of an org's directory into use. What cannot be used is removed. `is_own`: it was made by this process, which knows
/// what it has changed since.
pub(super) fn adopt(dir: &Path, names: &Names, snapshot: &Snapshot<'_>, is_own: bool) -> Result<Adopted, StoreError> {
    let why = match Register::open(dir, snapshot, is_own) {
        Ok((register, mut touched)) => {
            names.adopt(Some(register), &mut touched, snapshot.revision());
            return Ok(Adopted::Yes);
        }
        Err(Unusable::Store(error)) => return Err(error),
        Err(Unusable::Missing) => Adopted::Missing,
        Err(other) => Adopted::No(other.to_string()),
    };
    give_up(dir, names);
    Ok(why)
}

/// Removes, as the one who writes the store and before anybody uses a register, what is left of one that was never whole, and one
/// that holds names which must not stay in any file.
pub(super) fn tidy(dir: &Path, snapshot: &Snapshot<'_>) -> Result<(), StoreError> {
    remove(&Builder::path(dir));
    let path = dir.join(REGISTER_FILE);
    let purged = snapshot.meta()?.purged;
    match Pages::open(&path) {
        Ok((_, head)) if head.oldest >= purged => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        _ => remove(&path),
    }
    Ok(())
}

/// Uses none any more, and removes the files.
pub(super) fn give_up(dir: &Path, names: &Names) {
    names.adopt(None, &mut Touched::default(), Revision::default());
    [dir.join(REGISTER_FILE), Builder::path(dir)].iter().for_each(|path| remove(path));
}

fn remove(path: &Path) {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "cannot remove a register that is of no use any more");
        }
        _ => {}
    }
}

fn versions() -> (u32, u32) {
    (FORMAT_VERSION.unsigned_abs(), NORMALIZE_VERSION)
}

impl Register {
    /// Opens the file of an org's directory, with what has changed since it was made.
    fn open(dir: &Path, snapshot: &Snapshot<'_>, is_own: bool) -> Result<(Self, Touched), Unusable> {
        let path = dir.join(REGISTER_FILE);
        let (pages, head) = match Pages::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(Unusable::Missing),
            opened => opened?,
        };
        let meta = snapshot.meta()?;
        let [first, last] = &head.eras;
        let fault = if head.store_id != meta.store_id {
            Some("it is of another store")
        } else if head.versions != versions() {
            Some("it is of another version")
        } else if !snapshot.has_been_at(head.oldest, first) || !snapshot.has_been_at(head.newest, last) {
            Some("the store was put back from a backup")
        } else if head.oldest < meta.purged {
            Some("names were purged since it was made")
        } else if !is_own && head.oldest < meta.changes_from {
            Some("what has changed since is not known any more")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(Unusable::Outdated(fault));
        }
        let touched =
            if is_own { Some(Touched::default()) } else { snapshot.touched_since(head.oldest, CHANGES_MAX)? };
        let touched = touched.ok_or(Unusable::Outdated("too much has changed since"))?;
        let (oldest, made_at) = (head.oldest, head.made_at);
        Ok((Self { pages, path, oldest, made_at, is_broken: AtomicBool::new(false) }, touched))
    }

    /// What a name in an app, by id and surrogate, leads to at a revision. `None`: the store is to be read.
    pub(super) fn find(&self, app: &AppId, name: Name, revision: Revision, touched: &LastTouched) -> Option<Named> {
        if self.is_broken.load(Ordering::Relaxed) {
            return None;
        }
        match self.read(app, name, revision, touched) {
            Ok(found) => found,
            Err(error) => {
                if !self.is_broken.swap(true, Ordering::Relaxed) {
                    let file = self.path.display();
                    tracing::warn!(%file, %error, "the register is not used any more; it is made anew by itself");
                }
                None
            }
        }
    }

    fn read(
        &self,
        app: &AppId,
        name: Name,
        revision: Revision,
        touched: &LastTouched,
    ) -> std::io::Result<Option<Named>> {
        let damaged = || std::io::Error::new(std::io::ErrorKind::InvalidData, "an entry is not understood");
        let Ok(app_n) = u32::try_from(name.app) else { return Ok(None) };
        let mut page = Page::empty();
        // Those who have the name, in the order of their surrogates.
        let mut users = [0_i64; HITS_MAX];
        let (mut count, mut has_past) = (0, false);
        // Of Okta's own names the past counts in any case.
        for (of, are_asked) in [(0, name.of == AskedOf::AccountsAndUsers), (app_n, true)] {
            let value = self.pages.find(Section::Names, (name.key, of), &mut page)?;
            let holders = match value {
                Value::None => continue,
                Value::Some(value) => StoredHolders::read(value).ok_or_else(damaged)?,
                Value::Elsewhere => return Ok(None),
            };
            has_past |= holders.has_past;
            if !are_asked {
                continue;
            }
            if holders.has_more {
                return Ok(None);
            }
            for user in holders.users().map(i64::from) {
                if users[..count].contains(&user) {
                    continue;
                }
                // More than are remembered.
                let Some(free) = users.get_mut(count) else { return Ok(None) };
                (*free, count) = (user, count + 1);
            }
        }
        let users = &mut users[..count];
        users.sort_unstable();
        let mut hits = [const { None }; HITS_MAX];
        for (user, place) in users.iter().zip(&mut hits) {
            let value = self.pages.find(Section::People, (*user, 0), &mut page)?;
            let person = match value {
                Value::Some(value) => Person::read(value).ok_or_else(damaged)?,
                // Somebody who went while the register was made; or who is too long for a page.
                Value::None | Value::Elsewhere => return Ok(None),
            };
            let value = self.pages.find(Section::People, (*user, app_n), &mut page)?;
            let app_user = match value {
                Value::None => None,
                Value::Some(value) => Some(rows::account(value, app.clone(), &person).ok_or_else(damaged)?),
                Value::Elsewhere => return Ok(None),
            };
            *place = Some(AccountHit { user: person.user, app_user });
        }
        if !touched.is_untouched(self.oldest.min(revision), name.key, users) {
            return Ok(None);
        }
        // Nearly always one: without another piece of memory for it.
        let hits: Arc<[AccountHit]> = match hits {
            [Some(one), None] => Arc::new([one]),
            hits => hits.into_iter().flatten().collect(),
        };
        Ok(Named::new(hits, users, has_past))
    }
}
