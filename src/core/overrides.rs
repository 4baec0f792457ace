//! Overrides as operators give them: what they must say, how long they may last, and how those of a configuration are kept.
//!
//! Entry points: [`check`] at the door, [`configured`] at a start. What an override decides is in [`super::resolve`].
//!
//! Invariants:
//! - Every override has a reason and an end, at most [`LIFE_MILLIS_MAX`] ahead: whoever is wrong is not wrong for ever.
//! - A name has at most one override by call and one by configuration; where these two differ, nobody is granted.

use std::collections::BTreeSet;

use super::ids::{AppId, Timestamp};
use super::resolve::{IdentifierKind, Override};

/// Overrides whose names are equal under the loosest comparison, of one app; by call, while there are as many none is added. Each
/// question about such a name reads all of them.
pub const OVERRIDES_OF_NAME_MAX: usize = 20;

/// Overrides by call, and overrides by configuration, of one org at most. Operators decide single cases; whoever needs more
/// has a rule, which belongs into Okta or into an alias. Each is a row of some 200 bytes.
pub const OVERRIDES_MAX: usize = 10_000;

/// How far ahead an override may end, in milliseconds: 366 days. By then somebody shall look at it again.
pub const LIFE_MILLIS_MAX: i64 = 366 * 24 * 60 * 60 * 1_000;

/// Bytes of a reason at most: a sentence and the number of a ticket.
pub const REASON_BYTES_MAX: usize = 512;

/// Who an override of the configuration was created by.
pub const CONFIGURATION: &str = "configuration";

/// Where an override comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OverrideSource {
    /// An operator called for it.
    Call,
    /// It stands in the configuration of this server.
    Configuration,
}

/// What an override is about: at most one of each source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OverrideName {
    /// The app instance.
    pub app: AppId,
    /// What the name is.
    pub kind: IdentifierKind,
    /// The name, raw.
    pub name: Box<str>,
}

impl OverrideName {
    /// What an override is about.
    pub fn of(entry: &Override) -> Self {
        Self { app: entry.app.clone(), kind: entry.kind, name: entry.name.clone() }
    }
}

/// An override that is to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideSetting {
    /// What it decides, and until when.
    pub entry: Override,
    /// Who wants it: the name of the caller, or [`CONFIGURATION`].
    pub created_by: Box<str>,
    /// Why; at most [`REASON_BYTES_MAX`] bytes, not empty.
    pub reason: Box<str>,
}

/// An override as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverrideRecord {
    /// Its number in the store: the same as long as changes of it are told.
    pub number: i64,
    /// Where it comes from.
    pub source: OverrideSource,
    /// What it decides, and until when.
    pub entry: Override,
    /// When it was set, by this machine's clock.
    pub created_at: Timestamp,
    /// Who set it.
    pub created_by: Box<str>,
    /// Why.
    pub reason: Box<str>,
}

/// What is wrong with an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideFault {
    /// No reason, or nothing but blanks.
    #[error("a reason is needed: who reads it later has nothing else to go by")]
    ReasonMissing,
    /// A reason longer than [`REASON_BYTES_MAX`].
    #[error("the reason has {0} bytes, at most {REASON_BYTES_MAX} are allowed")]
    ReasonTooLong(usize),
    /// A reason with control characters: it is shown on terminals and in logs.
    #[error("the reason holds control characters")]
    ReasonControl,
    /// The end is not ahead.
    #[error("the end is not ahead: {0}")]
    Over(Timestamp),
    /// The end is further ahead than [`LIFE_MILLIS_MAX`].
    #[error("the end is more than 366 days ahead: {0}")]
    TooLong(Timestamp),
}

impl OverrideFault {
    /// Whether it is about the end, not about the reason.
    pub const fn is_of_end(self) -> bool {
        matches!(self, Self::Over(_) | Self::TooLong(_))
    }
}

/// Whether a reason may be kept.
///
/// # Errors
/// [`OverrideFault`], one of the reason.
pub fn check_reason(reason: &str) -> Result<(), OverrideFault> {
    if reason.trim().is_empty() {
        return Err(OverrideFault::ReasonMissing);
    }
    if reason.len() > REASON_BYTES_MAX {
        return Err(OverrideFault::ReasonTooLong(reason.len()));
    }
    if reason.chars().any(char::is_control) {
        return Err(OverrideFault::ReasonControl);
    }
    Ok(())
}

/// Whether an override with this reason and end may be set at `now`.
///
/// # Errors
/// [`OverrideFault`].
pub fn check(reason: &str, expires_at: Timestamp, now: Timestamp) -> Result<(), OverrideFault> {
    check_reason(reason)?;
    if expires_at <= now {
        return Err(OverrideFault::Over(expires_at));
    }
    if expires_at.millis_since(now) > LIFE_MILLIS_MAX {
        return Err(OverrideFault::TooLong(expires_at));
    }
    Ok(())
}

/// What a configuration makes of the overrides that an earlier one left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// To be written: new ones, and those that say something else now.
    pub put: Vec<OverrideSetting>,
    /// Numbers of those that go.
    pub gone: Vec<i64>,
    /// How many of the configuration are over already.
    pub expired: usize,
}

/// Compares a configuration with what is `stored` of earlier ones. What is over at `now` counts as not there.
pub fn configured(settings: Vec<OverrideSetting>, stored: &[OverrideRecord], now: Timestamp) -> Configured {
    let mut outcome = Configured::default();
    let mut wanted = BTreeSet::new();
    for setting in settings {
        if setting.entry.expires_at <= now {
            outcome.expired += 1;
            continue;
        }
        let is_same = |record: &&OverrideRecord| {
            record.entry == setting.entry && record.reason == setting.reason && record.created_by == setting.created_by
        };
        wanted.insert(OverrideName::of(&setting.entry));
        if stored.iter().find(is_same).is_none() {
            outcome.put.push(setting);
        }
    }
    let is_gone = |record: &&OverrideRecord| !wanted.contains(&OverrideName::of(&record.entry));
    outcome.gone = stored.iter().filter(is_gone).map(|record| record.number).collect();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::UserId;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn an_override_says_why_and_until_when() {
        #[track_caller]
        fn check(reason: &str, expires_at: i64, expected: Result<(), OverrideFault>) {
            assert_eq!(super::check(reason, at(expires_at), at(1_000)), expected);
        }
        let (longest, reason) = (1_000 + LIFE_MILLIS_MAX, "x".repeat(REASON_BYTES_MAX));
        check("JIRA-1: two people, one name", 1_001, Ok(()));
        check(&reason, longest, Ok(()));
        check("", 1_001, Err(OverrideFault::ReasonMissing));
        check(" \t ", 1_001, Err(OverrideFault::ReasonMissing));
        check(&(reason + "x"), 1_001, Err(OverrideFault::ReasonTooLong(REASON_BYTES_MAX + 1)));
        check("a\nb", 1_001, Err(OverrideFault::ReasonControl));
        check("\u{1b}[31m", 1_001, Err(OverrideFault::ReasonControl));
        check("x", 1_000, Err(OverrideFault::Over(at(1_000))));
        check("x", -5, Err(OverrideFault::Over(at(-5))));
        check("x", longest + 1, Err(OverrideFault::TooLong(at(longest + 1))));
        check("x", i64::MAX, Err(OverrideFault::TooLong(at(i64::MAX))));
    }

    fn setting(name: &str, user: &str, expires_at: i64, reason: &str) -> OverrideSetting {
        let entry = Override {
            app: AppId::new("0oa1").unwrap(),
            kind: IdentifierKind::Untyped,
            name: name.into(),
            user: UserId::new(user).unwrap(),
            expires_at: at(expires_at),
        };
        OverrideSetting { entry, created_by: CONFIGURATION.into(), reason: reason.into() }
    }

    fn record(number: i64, setting: OverrideSetting) -> OverrideRecord {
        let OverrideSetting { entry, created_by, reason } = setting;
        let source = OverrideSource::Configuration;
        OverrideRecord { number, source, entry, created_at: at(1), created_by, reason }
    }

    #[test]
    fn a_configuration_is_taken_over() {
        #[track_caller]
        fn check(settings: &[OverrideSetting], stored: &[OverrideRecord], put: &[&str], gone: &[i64], expired: usize) {
            let found = configured(settings.to_vec(), stored, at(100));
            let names: Vec<&str> = found.put.iter().map(|setting| &*setting.entry.name).collect();
            assert_eq!((names.as_slice(), found.gone.as_slice(), found.expired), (put, gone, expired));
        }
        let (first, second) = (setting("a", "00u1", 200, "r"), setting("b", "00u2", 300, "r"));
        let stored = [record(7, first.clone()), record(8, second.clone())];
        check(&[], &[], &[], &[], 0);
        check(&[first.clone(), second.clone()], &[], &["a", "b"], &[], 0);
        // Nothing has changed: nothing is told.
        check(&[second.clone(), first.clone()], &stored, &[], &[], 0);
        check(std::slice::from_ref(&first), &stored, &[], &[8], 0);
        check(&[], &stored, &[], &[7, 8], 0);
        // Another user, another end, another reason: written again.
        check(&[setting("a", "00u9", 200, "r"), second.clone()], &stored, &["a"], &[], 0);
        check(&[setting("a", "00u1", 201, "r"), second.clone()], &stored, &["a"], &[], 0);
        check(&[setting("a", "00u1", 200, "s"), second.clone()], &stored, &["a"], &[], 0);
        // What is over counts as left out, whether it is stored or not.
        check(&[setting("c", "00u1", 100, "r"), second], &stored, &[], &[7], 1);
    }
}
