//! Events that are not shown yet, and when they are. Entry points: [`Draft::listing`], [`Draft::following`], then
//! [`Draft::apply`].
//!
//! ```text
//!  listing    snapshot rows and changes ─▶ a copy that nobody sees ──consistent checkpoint──▶ takes the place of the old one
//!  following  changes ─▶ the last one of each row is kept ──────────consistent checkpoint──▶ all of them into the copy
//! ```
//!
//! Invariants:
//! - Between two consistent checkpoints nobody sees anything.
//! - A draft that is dropped leaves the copy where it was, and its position is the one to resume from.
//! - Only what was shown by this snapshot is in a copy that was listed: a row that the snapshot does not show is gone.

use std::collections::HashMap;

use okta_idmap_proto::v1::{self, change_event::Event};

use super::decode::Decoded;
use super::facts::Remembered;
use super::table::{Held, Table};
use super::{Mark, Mirror, MirrorError, Policy, decode};
use crate::core::coverage::{Coverage, CoverageChanges};
use crate::core::ids::{Timestamp, UserId};
use crate::core::model::{Key, Row};
use crate::core::overrides::OverrideRecord;

/// How often names are looked through that nobody is in quarantine for any more, by the server's clock.
const FORGET_EVERY_MILLIS: i64 = 3_600_000;

/// What an event leads to.
#[derive(Debug)]
pub enum Step {
    /// Nothing to be seen yet.
    More,
    /// The server lives, and there is nothing to be seen yet.
    Alive,
    /// There is another consistent state.
    Publish(Box<Change>),
    /// The position cannot be served: a copy has to be made anew. Why the server says so; what it does not say, or what this
    /// version does not know, is [`v1::TooOldReason::Unspecified`].
    ListAgain(v1::TooOldReason),
}

/// Events since the last consistent state.
#[derive(Debug)]
pub struct Draft {
    what: What,
    policy: Option<v1::ResolutionPolicy>,
    coverage: Vec<CoverageChanges>,
    /// Whether the last policy or coverage goes on in the next event.
    is_open: bool,
    rows_max: usize,
}

#[derive(Debug)]
enum What {
    Listing { table: Box<Table>, is_listed: bool },
    Following(Changed),
}

/// What has changed: of each thing the last that was told, `None` where it is gone.
#[derive(Debug, Default)]
struct Changed {
    rows: HashMap<Key, Option<Row>>,
    overrides: HashMap<i64, Option<OverrideRecord>>,
    held: HashMap<UserId, Held>,
}

impl Draft {
    /// For a stream that begins with a snapshot; for at most so many rows.
    pub fn listing(rows_max: usize) -> Self {
        Self::new(What::Listing { table: Box::default(), is_listed: false }, rows_max)
    }

    /// For a stream that goes on where a copy stands; for at most so many rows.
    pub fn following(rows_max: usize) -> Self {
        Self::new(What::Following(Changed::default()), rows_max)
    }

    fn new(what: What, rows_max: usize) -> Self {
        Self { what, policy: None, coverage: Vec::new(), is_open: false, rows_max }
    }

    /// Rows that wait to be seen.
    pub fn waiting(&self) -> usize {
        match &self.what {
            What::Listing { table, .. } => table.len(),
            What::Following(changed) => changed.rows.len() + changed.overrides.len() + changed.held.len(),
        }
    }

    /// Takes one event.
    ///
    /// # Errors
    /// [`MirrorError`]; the draft is of no use then, and the copy is as it was.
    pub fn apply(&mut self, event: v1::ChangeEvent) -> Result<Step, MirrorError> {
        match event.event {
            Some(Event::Upsert(row)) => {
                let Some(row) = decode::row(row)? else { return Ok(Step::More) };
                match (&mut self.what, row) {
                    (What::Listing { table, .. }, Decoded::Row(row)) => table.put(row),
                    (What::Listing { table, .. }, Decoded::Override(record)) => table.put_override(record),
                    (What::Following(changed), Decoded::Row(row)) => drop(changed.rows.insert(row.key(), Some(row))),
                    (What::Following(changed), Decoded::Override(record)) => {
                        drop(changed.overrides.insert(record.number, Some(record)));
                    }
                }
                self.check_size()
            }
            Some(Event::Delete(key)) => {
                let Some(key) = decode::key(key)? else { return Ok(Step::More) };
                match (&mut self.what, key) {
                    (What::Listing { table, .. }, Decoded::Row(key)) => table.remove(&key),
                    (What::Listing { table, .. }, Decoded::Override(number)) => table.remove_override(number),
                    (What::Following(changed), Decoded::Row(key)) => drop(changed.rows.insert(key, None)),
                    (What::Following(changed), Decoded::Override(number)) => {
                        drop(changed.overrides.insert(number, None))
                    }
                }
                self.check_size()
            }
            Some(Event::HeldNames(names)) => {
                let (user, names) = decode::held_names(names)?;
                match &mut self.what {
                    What::Listing { table, .. } => table.put_held(user, names),
                    What::Following(changed) => drop(changed.held.insert(user, names)),
                }
                self.check_size()
            }
            Some(Event::Policy(part)) => self.take_policy(part),
            Some(Event::Coverage(part)) => self.take_coverage(part),
            Some(Event::SnapshotBegin(_)) => match &self.what {
                What::Listing { is_listed: false, .. } => Ok(Step::More),
                _ => Err(unexpected("a snapshot")),
            },
            Some(Event::SnapshotEnd(_)) => match &mut self.what {
                What::Listing { is_listed, .. } if !*is_listed => {
                    *is_listed = true;
                    Ok(Step::More)
                }
                _ => Err(unexpected("the end of a snapshot")),
            },
            Some(Event::Checkpoint(checkpoint)) => self.checkpoint(checkpoint),
            Some(Event::TooOld(too_old)) => Ok(Step::ListAgain(too_old.reason())),
            // Gaps are part of the coverage.
            Some(Event::GapOpened(_) | Event::GapClosed(_)) | None => Ok(Step::More),
        }
    }

    fn check_size(&self) -> Result<Step, MirrorError> {
        if self.waiting() > self.rows_max {
            Err(MirrorError::TooManyRows { limit: self.rows_max })
        } else {
            Ok(Step::More)
        }
    }

    fn take_policy(&mut self, part: v1::ResolutionPolicy) -> Result<Step, MirrorError> {
        let more = part.more;
        match &mut self.policy {
            Some(whole) if self.is_open => {
                whole.name_rules.extend(part.name_rules);
                whole.aliases.extend(part.aliases);
            }
            policy => *policy = Some(part),
        }
        self.is_open = more;
        let lines = self.policy.as_ref().map_or(0, |whole| whole.name_rules.len() + whole.aliases.len());
        if lines > self.rows_max.max(LINES_MAX) { Err(unexpected("a policy without end")) } else { Ok(Step::More) }
    }

    fn take_coverage(&mut self, part: v1::CoverageChange) -> Result<Step, MirrorError> {
        let more = part.more;
        let part = decode::coverage(part)?;
        match self.coverage.last_mut() {
            Some(whole) if self.is_open => whole.scopes.extend(part.scopes),
            _ => {
                if part.is_full {
                    self.coverage.clear();
                }
                self.coverage.push(part);
            }
        }
        self.is_open = more;
        let scopes: usize = self.coverage.iter().map(|change| change.scopes.len() + 1).sum();
        if scopes > self.rows_max.max(LINES_MAX) { Err(unexpected("a coverage without end")) } else { Ok(Step::More) }
    }

    fn checkpoint(&mut self, checkpoint: v1::Checkpoint) -> Result<Step, MirrorError> {
        let v1::Checkpoint { meta, resolution, era, policy_id } = checkpoint;
        let (Some(mut meta), Some(mark)) = (meta, resolution) else {
            return Err(MirrorError::ServerTooOld);
        };
        // Servers did not always say it there, too.
        meta.era.clone_from(&era);
        if self.is_open || matches!(self.what, What::Listing { is_listed: false, .. }) {
            return Err(unexpected("a checkpoint"));
        }
        if !mark.consistent {
            return Ok(Step::Alive);
        }
        let served_at = mark.served_at.as_ref().map(decode::time).ok_or_else(|| unexpected("no time"))?;
        let observed_at = mark.observed_at.as_ref().map(decode::time);
        let keeps_filtered_names = mark.keeps_filtered_names;
        let mark = Mark { meta, served_at, observed_at, keeps_filtered_names, policy_id };
        let policy = self.policy.take().map(decode::policy).transpose()?;
        let coverage = std::mem::take(&mut self.coverage);
        let what = std::mem::replace(&mut self.what, What::Following(Changed::default()));
        let change = match what {
            What::Listing { table, .. } => {
                let policy = policy.ok_or(MirrorError::ServerTooOld)?;
                Changing::Whole { table, policy, coverage, mark }
            }
            What::Following(changed) => {
                let rows_max = self.rows_max;
                Changing::Part(Part { changed, policy, coverage, mark, rows_max })
            }
        };
        Ok(Step::Publish(Box::new(Change(change))))
    }
}

/// Scopes, or name rules and aliases, that are taken in any case: more than any org has.
const LINES_MAX: usize = 2_000_000;

fn unexpected(what: &str) -> MirrorError {
    MirrorError::Malformed { what: format!("{what} where none belongs") }
}

/// The step from one consistent state to the next.
#[derive(Debug)]
pub struct Change(Changing);

#[derive(Debug)]
enum Changing {
    Whole { table: Box<Table>, policy: Policy, coverage: Vec<CoverageChanges>, mark: Mark },
    Part(Part),
}

#[derive(Debug)]
struct Part {
    changed: Changed,
    policy: Option<Policy>,
    coverage: Vec<CoverageChanges>,
    mark: Mark,
    rows_max: usize,
}

impl Change {
    /// Whether it makes a copy of its own, in the place of whatever there was.
    pub fn is_whole(&self) -> bool {
        matches!(self.0, Changing::Whole { .. })
    }

    /// The server's time at the checkpoint.
    pub fn served_at(&self) -> Timestamp {
        match &self.0 {
            Changing::Whole { mark, .. } | Changing::Part(Part { mark, .. }) => mark.served_at,
        }
    }

    /// Makes the copy what the server has.
    ///
    /// # Errors
    /// [`MirrorError::TooManyRows`], after which the copy is too large and has to be dropped; else the copy is as it was.
    pub fn make(self, copy: &mut Option<Mirror>) -> Result<(), MirrorError> {
        match self.0 {
            Changing::Whole { table, policy, coverage, mark } => {
                let mut whole = Coverage::default();
                for change in coverage {
                    whole.take_over_all(change);
                }
                let forgotten_at = mark.served_at;
                let (remembered, encoder) = (Remembered::default(), None);
                let mut whole =
                    Mirror { table: *table, coverage: whole, policy, mark, forgotten_at, remembered, encoder };
                // Of the same store it is the same org.
                if let Some(before) = copy.as_ref().filter(|before| before.store_id() == whole.store_id()) {
                    whole.encoder.clone_from(&before.encoder);
                }
                *copy = Some(whole);
                Ok(())
            }
            Changing::Part(part) => match copy {
                Some(copy)
                    if copy.store_id() == part.mark.meta.store_id && copy.revision() <= part.mark.meta.revision =>
                {
                    part.make(copy)
                }
                _ => Err(unexpected("a checkpoint of another store, or of the past,")),
            },
        }
    }
}

impl Part {
    fn make(self, copy: &mut Mirror) -> Result<(), MirrorError> {
        // Names are told while they are in quarantine: those that were over by the old one are not here.
        let quarantine_of = |policy: &Policy| policy.grant.quarantine_millis();
        if self.policy.as_ref().is_some_and(|policy| quarantine_of(policy) > quarantine_of(&copy.policy)) {
            return Err(MirrorError::MustList { what: "the quarantine is longer than it was" });
        }
        // Another server sends facts that this copy does not have, or no longer those that it has.
        let version_of = |policy: &Policy| policy.wire.facts_version;
        if self.policy.as_ref().is_some_and(|policy| version_of(policy) != version_of(&copy.policy)) {
            return Err(MirrorError::MustList { what: "answers are made of other facts than they were" });
        }
        let Changed { rows, overrides, held } = self.changed;
        let are_lists_others = rows.keys().any(|key| matches!(key, Key::Group(_) | Key::App(_) | Key::AppGroup(..)));
        if are_lists_others || !self.coverage.is_empty() || self.policy.is_some() {
            copy.remembered = Remembered::default();
        }
        for (key, row) in rows {
            match row {
                Some(row) => copy.table.put(row),
                None => copy.table.remove(&key),
            }
        }
        for (number, record) in overrides {
            match record {
                Some(record) => copy.table.put_override(record),
                None => copy.table.remove_override(number),
            }
        }
        for (user, names) in held {
            copy.table.put_held(user, names);
        }
        for change in self.coverage {
            copy.coverage.take_over_all(change);
        }
        if let Some(policy) = self.policy {
            copy.policy = policy;
        }
        copy.mark = self.mark;
        if copy.mark.served_at.millis_since(copy.forgotten_at) >= FORGET_EVERY_MILLIS {
            copy.forgotten_at = copy.mark.served_at;
            // A day more than the quarantine, so that clocks do not matter.
            let kept_millis = copy.policy.grant.quarantine_millis().saturating_add(86_400_000);
            copy.table.forget_held(copy.mark.served_at.plus_millis(-kept_millis));
        }
        let limit = self.rows_max;
        if copy.table.len() > limit { Err(MirrorError::TooManyRows { limit }) } else { Ok(()) }
    }
}
