//! Lists that do not end: whether one shows the same rows again and again, and how many rows a list can have at all.
//!
//! Entry points: [`Pages::go_on`], [`rows_max`].
//!
//! Invariants:
//! - A list half of whose rows are new is never cut short because it goes in circles, however long it is: chance has it less than once in
//!   2⁶⁴ rows.
//! - The memory of a walk is [`SAMPLE_MAX`] hashes, whatever the list has.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::super::model::{Row, Scope};

/// Rows of a walk that are remembered, as hashes. Of longer lists every second, fourth, … row is, chosen by its hash, so that
/// the same row is always chosen or never: 32 KiB tell for a list of any length.
const SAMPLE_MAX: usize = 4_096;

/// Pages in a row that show remembered rows and none that is new. A page may come twice by a cursor that was cut off, and rows
/// that change may move to its end; twenty pages of that are a list that goes in circles.
const OLD_PAGES_MAX: u32 = 20;

/// Remembered rows that these pages must have shown: of a list of one row a page says little.
const OLD_ROWS_MIN: u32 = 64;

/// Rows that any list may have, whatever the others say: they may be hidden from the credential, or not yet read.
const ROWS_UNSUSPECTED: u64 = 10_000_000;

/// Groups of an org, and apps of one; real ones have up to some hundred thousand, and some thousand.
const GROUPS_MAX: u64 = 5_000_000;
const APPS_MAX: u64 = 1_000_000;

/// What a walk has shown, as far as it has to be known to see that it goes in circles.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    seen: HashSet<u64>,
    /// Only rows whose hash ends in so many zeros are remembered.
    level: u32,
    /// Since the last new row that would be remembered: pages with remembered rows, and these rows.
    old_pages: u32,
    old_rows: u32,
}

impl Repeats {
    /// Takes in a page. Whether the list goes in circles: its latest pages showed nothing that had not been shown before.
    pub(super) fn page(&mut self, rows: impl IntoIterator<Item = u64>) -> bool {
        let (mut has_new, mut old) = (false, 0);
        for hash in rows {
            if hash.trailing_zeros() < self.level {
                continue;
            }
            if !self.seen.insert(hash) {
                old += 1;
                continue;
            }
            has_new = true;
            while self.seen.len() > SAMPLE_MAX {
                self.level += 1;
                self.seen.retain(|hash| hash.trailing_zeros() >= self.level);
            }
        }
        if has_new {
            (self.old_pages, self.old_rows) = (0, 0);
        } else if old > 0 {
            self.old_pages = self.old_pages.saturating_add(1);
            self.old_rows = self.old_rows.saturating_add(old);
        }
        self.old_pages >= OLD_PAGES_MAX && self.old_rows >= OLD_ROWS_MIN
    }
}

/// Pages in a row without a row. An empty page with a link is legal (facts 0.1); so many are a list that does not end.
pub(super) const BLANK_PAGES_MAX: u32 = 1_000;

/// The pages of one list, as far as they tell whether it ends.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Hashes of the links that were followed: a link that comes again is an endless loop (facts 13.2).
    visited: HashSet<u64>,
    repeats: Repeats,
    /// The latest pages showed nothing new.
    goes_in_circles: bool,
    /// Pages without a row since the last that had one.
    blank_pages: u32,
}

/// How long a list has become.
#[derive(Clone, Copy, Debug)]
pub(super) struct Length {
    /// Pages so far.
    pub(super) pages: u32,
    pub(super) pages_max: u32,
    /// Rows of the latest page.
    pub(super) page_rows: usize,
    /// Rows so far, and how many such a list can have, if anything tells.
    pub(super) rows: u64,
    pub(super) rows_max: Option<u64>,
}

impl Pages {
    /// Looks at a page, by hashes of its rows.
    pub(super) fn look_at(&mut self, rows: impl IntoIterator<Item = u64>) {
        self.goes_in_circles = self.repeats.page(rows);
    }

    /// Whether the list may go on at `next`; else why not.
    pub(super) fn go_on(&mut self, next: &str, length: Length) -> Result<(), String> {
        let pages = length.pages;
        self.blank_pages = if length.page_rows == 0 { self.blank_pages + 1 } else { 0 };
        if !self.visited.insert(hash(next)) {
            return Err(format!("page {pages} links to a page that was read already"));
        }
        if self.blank_pages >= BLANK_PAGES_MAX {
            return Err(format!("{BLANK_PAGES_MAX} pages in a row show nothing, and link to another"));
        }
        if self.goes_in_circles {
            return Err(format!("page {pages} and those before it show only what was shown already"));
        }
        if let Some(most) = length.rows_max.filter(|most| length.rows > *most) {
            return Err(format!("it shows more than {most} rows, which the org cannot have"));
        }
        if pages >= length.pages_max {
            return Err(format!("the list has more than {} pages", length.pages_max));
        }
        Ok(())
    }
}

/// The same number for the same row of a list.
pub(super) fn row_hash(row: &Row) -> u64 {
    let id = match row {
        Row::User(row) => row.id.as_str(),
        Row::Group(row) => row.id.as_str(),
        Row::GroupMember(row) => row.user.as_str(),
        Row::App(row) => row.id.as_str(),
        Row::AppUser(row) => row.user.as_str(),
        Row::AppGroup(row) => row.group.as_str(),
    };
    hash(id)
}

/// The same number for the same text.
pub(super) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What other answers say about how long a list can be.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// Users that the last walk of all of them showed.
    pub(super) users_shown: Option<u64>,
    /// Users of the org, as Okta counts them.
    pub(super) users_counted: Option<u64>,
    /// Users of the group whose members are listed, as Okta counts them.
    pub(super) members_counted: Option<u64>,
}

/// How many rows a list may show before it counts as endless; `None` where nothing tells, and only its pages are counted.
/// Members and accounts are users; twice as many as there are, and ten million more, leave room for an org that grows meanwhile,
/// for users whom the credential does not see elsewhere, and for deactivated ones, whom a count may leave out (facts 3).
pub(super) fn rows_max(scope: &Scope, evidence: Evidence) -> Option<u64> {
    let users = evidence.users_shown.into_iter().chain(evidence.users_counted).max();
    let of_users = |users: u64| users.saturating_mul(2).saturating_add(ROWS_UNSUSPECTED);
    match scope {
        Scope::Users => evidence.users_counted.map(of_users),
        Scope::GroupMembers(_) => evidence.members_counted.into_iter().chain(users).max().map(of_users),
        Scope::AppUsers(_) => users.map(of_users),
        Scope::Groups | Scope::AppGroups(_) => Some(GROUPS_MAX),
        Scope::Apps => Some(APPS_MAX),
        Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{AppId, GroupId};

    /// Pages of `size` rows with these numbers.
    fn pages(size: u64, rows: impl IntoIterator<Item = u64>) -> Vec<Vec<u64>> {
        let hashes: Vec<u64> = rows.into_iter().map(|number| hash(&format!("00u{number}"))).collect();
        hashes.chunks(usize::try_from(size).unwrap()).map(<[u64]>::to_vec).collect()
    }

    /// After how many pages a list counts as going in circles.
    fn ends_after(pages: impl IntoIterator<Item = Vec<u64>>) -> Option<usize> {
        let mut repeats = Repeats::default();
        let mut most = 0;
        let found = pages.into_iter().position(|page| {
            let ends = repeats.page(page);
            most = most.max(repeats.seen.len());
            ends
        });
        assert!(most <= SAMPLE_MAX, "{most}");
        found.map(|page| page + 1)
    }

    #[test]
    fn circles_are_seen_whatever_their_length_and_their_pages() {
        #[track_caller]
        fn check(length: u64, size: u64, within: u64) {
            // Rows per page that do not divide the circle shift its pages with each round.
            let rows = (0..).map(move |number| number % length).take(usize::try_from(length + within).unwrap());
            let found = ends_after(pages(size, rows)).map(|pages| pages as u64 * size);
            assert!(found.is_some_and(|rows| rows > length), "{length} rows, {size} on a page: {found:?}");
        }
        check(1, 1, 100);
        check(3, 1, 100);
        check(200, 200, 4_200);
        check(201, 200, 4_400);
        check(10_000, 10, 2_000);
        check(10_000, 1_000, 21_000);
        // Of every 32nd row or so is known whether it has been shown: some 64 of them.
        check(100_000, 200, 8_000);
        check(300_000, 500, 30_000);
    }

    #[test]
    fn lists_that_go_on_are_not_cut_short() {
        assert_eq!(ends_after(pages(1_000, 0..1_000_000)), None, "the members of a large group");
        // Every page twice, each beginning again with half of the one before, or a few that come again for a while.
        let twice = pages(200, 0..20_000).into_iter().flat_map(|page| [page.clone(), page]);
        assert_eq!(ends_after(twice), None);
        let overlap = (0..2_000).map(|page| pages(200, page * 100..page * 100 + 200).remove(0));
        assert_eq!(ends_after(overlap), None);
        let back = [pages(200, 0..10_000), pages(200, 6_200..10_000), pages(200, 10_000..20_000)].concat();
        assert_eq!(ends_after(back), None);
        // One new row on each page is a list that goes on.
        let slow = (0..5_000).map(|page| pages(10, (0..9).chain([page + 9])).remove(0));
        assert_eq!(ends_after(slow.take(SAMPLE_MAX / 2)), None);
    }

    #[test]
    fn how_long_a_list_can_be_is_told_by_others() {
        let (members, accounts) =
            (Scope::GroupMembers(GroupId::new("00g1").unwrap()), Scope::AppUsers(AppId::new("0oa1").unwrap()));
        #[track_caller]
        fn check(scope: &Scope, [users, everyone, group]: [u64; 3], expected: Option<u64>) {
            let said = |number: u64| (number > 0).then_some(number);
            let evidence =
                Evidence { users_shown: said(users), users_counted: said(everyone), members_counted: said(group) };
            assert_eq!(rows_max(scope, evidence), expected, "{}", scope.name());
        }
        check(&members, [0, 0, 0], None);
        check(&members, [100, 0, 0], Some(10_000_200));
        check(&members, [100, 0, 5_000_000], Some(20_000_000));
        check(&members, [5_000_000, 0, 3], Some(20_000_000));
        check(&accounts, [0, 0, 7], None);
        check(&accounts, [100, 300, 7], Some(10_000_600));
        // What the list itself showed says nothing about how long it can be.
        check(&Scope::Users, [100, 0, 7], None);
        check(&Scope::Users, [100, 300, 7], Some(10_000_600));
        check(&Scope::Groups, [0, 0, 0], Some(GROUPS_MAX));
        check(&Scope::Apps, [0, 0, 0], Some(APPS_MAX));
        check(&Scope::Log, [1, 1, 1], None);
        check(&members, [u64::MAX, 0, 0], Some(u64::MAX));
    }
}
