//! What an open [`super::GapKind::Failed`] of a list is about: reads that have failed, and records that could not be read.
//!
//! Entry point: [`Unread`], which the store keeps as a text beside the gap.
//!
//! Invariants:
//! - That a read has failed is over with a good one; a record that could not be read is not: only a newer record of the same row, the
//!   end of that row, or the next complete read of the list settles it.
//! - Of a record that does not say which row it is, nothing but the next complete read of the list settles it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Reach;
use crate::core::ids::{RequestNumber, Timestamp, is_okta_id};

/// Rows that are named; with more the gap is about all of its list.
pub const UNREAD_ROWS_MAX: usize = 1_000;

/// Records that do not say which row they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nameless {
    /// There are none.
    #[default]
    None,
    /// The rows that they may be are among those that are named, or are none that is stored.
    Named,
    /// They may be any row.
    Any,
}

/// A row whose record could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadRow {
    /// Only a later request shows it anew.
    pub since: RequestNumber,
    /// End of the last complete read of its list before.
    pub read_at: Option<Timestamp>,
}

/// What an open gap is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// A read of the list, or of a part of it, has failed, and nobody knows which rows it would have shown.
    pub has_failed: bool,
    /// Records without a name.
    pub nameless: Nameless,
    rows: BTreeMap<Box<str>, UnreadRow>,
}

impl Unread {
    /// A read of the list has failed; of records nothing is known.
    pub fn failed() -> Self {
        Self { has_failed: true, ..Self::default() }
    }

    /// The same with a failed read, or without.
    #[must_use]
    pub fn with_failed(self, has_failed: bool) -> Self {
        Self { has_failed, ..self }
    }

    /// The rows that are named.
    pub fn rows(&self) -> &BTreeMap<Box<str>, UnreadRow> {
        &self.rows
    }

    /// Whether nothing is left that the gap could be about.
    pub fn is_over(&self) -> bool {
        !self.has_failed && self.nameless == Nameless::None && self.rows.is_empty()
    }

    /// Which rows may be outdated.
    pub fn reach(&self) -> Reach {
        Reach {
            is_whole: self.has_failed || self.nameless == Nameless::Any,
            rows: Arc::new(self.rows.iter().map(|(id, row)| (id.clone(), row.read_at)).collect()),
        }
    }

    /// Notes that a record of this row could not be read. Who was not read before stays as old as it is.
    pub fn add(&mut self, id: &str, row: UnreadRow) {
        // What is no id would be read back as something else.
        if !is_okta_id(id) || self.rows.len() >= UNREAD_ROWS_MAX && !self.rows.contains_key(id) {
            self.nameless = Nameless::Any;
            return;
        }
        let known = self.rows.entry(id.into()).or_insert(row);
        *known = UnreadRow { since: known.since.max(row.since), read_at: known.read_at.min(row.read_at) };
    }

    /// Notes that a request has shown this row, or that it has not found it.
    pub fn settle(&mut self, id: &str, by: RequestNumber) {
        if self.rows.get(id).is_some_and(|row| row.since < by) {
            self.rows.remove(id);
        }
    }

    /// Notes that this is no row any more.
    pub fn forget(&mut self, id: &str) {
        self.rows.remove(id);
    }

    /// As it is stored. `None`: no record is the matter.
    pub fn to_text(&self) -> Option<String> {
        if self.nameless == Nameless::None && self.rows.is_empty() {
            return None;
        }
        let failed = self.has_failed.then(|| "!".to_owned());
        let nameless = match self.nameless {
            Nameless::None => None,
            Nameless::Named => Some("?".to_owned()),
            Nameless::Any => Some("*".to_owned()),
        };
        let rows = self.rows.iter().map(|(id, UnreadRow { since, read_at })| match read_at {
            Some(at) => format!("{id}@{since}@{}", at.as_millis(), since = since.0),
            None => format!("{id}@{}", since.0),
        });
        Some(failed.into_iter().chain(nameless).chain(rows).collect::<Vec<_>>().join(" "))
    }

    /// Reads [`Unread::to_text`] back. What is not understood may be any row.
    pub fn parse(text: Option<&str>) -> Self {
        let Some(text) = text else { return Self::failed() };
        let mut unread = Self::default();
        for token in text.split_ascii_whitespace() {
            match token {
                "!" => unread.has_failed = true,
                "?" => unread.nameless = unread.nameless.max(Nameless::Named),
                "*" => unread.nameless = Nameless::Any,
                row => match parse_row(row) {
                    Some((id, row)) => unread.add(id, row),
                    None => unread.nameless = Nameless::Any,
                },
            }
        }
        unread
    }
}

fn parse_row(token: &str) -> Option<(&str, UnreadRow)> {
    let mut parts = token.split('@');
    let id = parts.next().filter(|id| !id.is_empty())?;
    let since = RequestNumber(parts.next()?.parse().ok()?);
    let read_at = parts.next().map(str::parse).transpose().ok()?.map(Timestamp::from_millis);
    parts.next().is_none().then_some((id, UnreadRow { since, read_at }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(since: u64, read_at: Option<i64>) -> UnreadRow {
        UnreadRow { since: RequestNumber(since), read_at: read_at.map(Timestamp::from_millis) }
    }

    #[test]
    fn what_is_stored_is_read_back() {
        #[track_caller]
        fn check(text: &str, reach: &str, is_over: bool) {
            let unread = Unread::parse(Some(text));
            let Reach { is_whole, rows } = unread.reach();
            let all = is_whole.then_some("all");
            let shown = all.into_iter().chain(rows.keys().map(AsRef::as_ref)).collect::<Vec<&str>>().join(" ");
            assert_eq!((shown.as_str(), unread.is_over()), (reach, is_over));
            assert_eq!(Unread::parse(unread.to_text().as_deref()), if is_over { Unread::failed() } else { unread });
        }
        check("", "", true);
        check("!", "all", false);
        check("?", "", false);
        check("*", "all", false);
        check("00u1@7", "00u1", false);
        check("00u1@7 00u2@8@1700000000000", "00u1 00u2", false);
        check("? 00u1@7", "00u1", false);
        check("! 00u1@7", "all 00u1", false);
        check("* 00u1@7", "all 00u1", false);
        for damaged in ["00u1", "00u1@", "@7", "00u1@x", "00u1@7@x", "00u1@7@8@9"] {
            check(damaged, "all", false);
        }
        assert_eq!(Unread::parse(None), Unread::failed());
        assert_eq!(Unread::failed().to_text(), None);
    }

    #[test]
    fn only_later_requests_settle_a_record() {
        let mut unread = Unread::failed();
        unread.add("00u1", row(7, Some(100)));
        unread.add("00u1", row(9, Some(200)));
        assert_eq!(unread.rows()["00u1"], row(9, Some(100)), "not read since the first time");
        unread.has_failed = false;
        unread.settle("00u1", RequestNumber(9));
        unread.settle("00u2", RequestNumber(10));
        assert!(!unread.is_over());
        unread.settle("00u1", RequestNumber(10));
        assert!(unread.is_over());
        unread.add("00u1", row(7, None));
        unread.forget("00u1");
        assert!(unread.is_over());
    }

    #[test]
    fn too_many_rows_are_all() {
        let mut unread = Unread::default();
        for n in 0..UNREAD_ROWS_MAX {
            unread.add(&format!("00u{n}"), row(1, None));
        }
        unread.add("00u0", row(2, None));
        assert!(!unread.reach().is_whole);
        unread.add("00uother", row(1, None));
        assert!(unread.reach().is_whole && unread.rows().len() == UNREAD_ROWS_MAX);
        assert_eq!(Unread::parse(unread.to_text().as_deref()), unread);
    }
}
