//! One walk over the pages of one scope.

use std::collections::BTreeSet;

use super::super::batch::{Listing, Position};
use super::super::coverage::ReadFailure;
use super::super::ids::{GroupId, RequestNumber, Timestamp};
use super::super::model::{Row, Scope};
use super::Call;
use super::endless::{Length, Pages, row_hash};

/// Pages of one walk. A list of 1,000,000 rows in pages of 10 has 100,000; more is an endless list.
pub(super) const WALK_PAGES_MAX: u32 = 200_000;

/// A walk: where it stands and what it has seen.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) scope: Scope,
    pub(super) from: Option<RequestNumber>,
    /// When the first page was asked for, by Okta's clock.
    pub(super) began: Timestamp,
    /// The same by our clock.
    pub(super) asked_at: Timestamp,
    /// When the page under way was asked for, by Okta's clock.
    pub(super) asked: Timestamp,
    listing: Listing,
    /// Asked for by a hint rather than by a crawl.
    pub(super) is_urgent: bool,
    limit: Option<u32>,
    next: Option<String>,
    page: u32,
    rows: u64,
    /// Records that could not be read.
    unreadable: u64,
    restarts: u8,
    /// Groups that it has shown and that were expected, see [`super::Target::AppGroup`].
    pub(super) expected: BTreeSet<GroupId>,
    pages: Pages,
}

/// What a page's `next` link means for the walk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Advance {
    Next(Position),
    End,
    /// The list ended without a row although there must be some.
    Empty,
    /// The list does not end; the evidence for the gap.
    Endless(String),
}

impl Walk {
    pub(super) fn new(scope: Scope) -> Self {
        Self {
            scope,
            from: None,
            began: Timestamp::default(),
            asked_at: Timestamp::default(),
            asked: Timestamp::default(),
            listing: Listing::Usual,
            is_urgent: false,
            limit: None,
            next: None,
            page: 0,
            rows: 0,
            unreadable: 0,
            restarts: 0,
            expected: BTreeSet::new(),
            pages: Pages::default(),
        }
    }

    /// A walk that a hint asks for.
    pub(super) fn urgent(scope: Scope) -> Self {
        Self { is_urgent: true, ..Self::new(scope) }
    }

    /// Whether nothing has been read yet.
    pub(super) fn is_at_start(&self) -> bool {
        self.next.is_none() && self.page == 0
    }

    pub(super) fn at(scope: Scope, position: Position) -> Self {
        let mut walk = Self::new(scope);
        walk.from = Some(position.from);
        walk.began = position.began;
        walk.listing = position.listing;
        walk.next = Some(position.next);
        walk.page = position.page;
        walk.rows = position.rows;
        walk
    }

    /// Records that the walk has shown so far.
    pub(super) fn records(&self) -> u64 {
        self.rows + self.unreadable
    }

    /// Notes records that could not be read.
    pub(super) fn add_unreadable(&mut self, records: usize) {
        self.unreadable += records as u64;
    }

    /// Looks at the rows of a page, before [`Walk::advance`].
    pub(super) fn look_at(&mut self, rows: &[Row]) {
        self.pages.look_at(rows.iter().map(row_hash));
    }

    pub(super) fn next_call(&self) -> Call {
        let (scope, listing, is_urgent) = (self.scope.clone(), self.listing, self.is_urgent);
        match &self.next {
            Some(next) => Call::NextPage { scope, listing, next: next.clone(), is_urgent },
            None => Call::FirstPage { scope, listing, limit: self.limit, is_urgent },
        }
    }

    /// Takes in a page of `rows` rows; no such list has more than `rows_max`. Every org has users (at least the credential's
    /// owner), groups (`Everyone`) and apps (Okta's own): such a list that ends without a row was emptied by a missing role, not
    /// by deletions (facts 7.2).
    pub(super) fn advance(&mut self, rows: usize, next: Option<String>, rows_max: Option<u64>) -> Advance {
        self.page += 1;
        self.rows += rows as u64;
        let Some(next) = next else {
            if self.listing == Listing::PlainUsers {
                return self.second_half();
            }
            let must_have_rows = matches!(self.scope, Scope::Users | Scope::Groups | Scope::Apps);
            return if must_have_rows && self.rows == 0 { Advance::Empty } else { Advance::End };
        };
        let length = Length { pages: self.page, pages_max: WALK_PAGES_MAX, page_rows: rows, rows: self.rows, rows_max };
        if let Err(evidence) = self.pages.go_on(&next, length) {
            return Advance::Endless(evidence);
        }
        self.next = Some(next.clone());
        Advance::Next(self.position(next))
    }

    fn position(&self, next: String) -> Position {
        Position {
            next,
            page: self.page,
            rows: self.rows,
            from: self.from.unwrap_or_default(),
            began: self.began,
            listing: self.listing,
        }
    }

    /// The plain user list omits the deactivated ones: they come by a second list of the same walk (facts 2.2).
    fn second_half(&mut self) -> Advance {
        self.listing = Listing::DeactivatedUsers;
        self.next = None;
        // An empty link means: the first page of this listing.
        Advance::Next(self.position(String::new()))
    }

    /// Prepares the walk to start again, if that helps against `failure`.
    pub(super) fn restart(&mut self, failure: &ReadFailure, restarts_max: u8) -> Result<(), String> {
        match failure {
            ReadFailure::CursorGone if self.next.is_some() => {}
            ReadFailure::RestartWalk { limit } => self.limit = Some(*limit),
            ReadFailure::SearchUnavailable if self.scope == Scope::Users && self.listing == Listing::Usual => {
                self.listing = Listing::PlainUsers;
            }
            ReadFailure::CursorGone => return Err("400 on the first page".to_owned()),
            ReadFailure::SearchUnavailable => return Err("search is not available".to_owned()),
            ReadFailure::Forbidden { detail, .. }
            | ReadFailure::Unauthorized { detail }
            | ReadFailure::Failed { detail }
            | ReadFailure::NotFound { detail }
            | ReadFailure::Unreachable { detail } => return Err(detail.clone()),
        }
        if self.restarts >= restarts_max {
            return Err(format!("the walk had to start again more than {restarts_max} times"));
        }
        self.restarts += 1;
        if self.listing == Listing::DeactivatedUsers {
            self.listing = Listing::PlainUsers;
        }
        self.next = None;
        self.page = 0;
        self.rows = 0;
        self.unreadable = 0;
        self.from = None;
        self.expected.clear();
        self.pages = Pages::default();
        Ok(())
    }
}

/// A walk as the store keeps it.
pub(super) fn resumed(scope: Scope, position: Position) -> Walk {
    let mut walk = Walk::at(scope, position);
    // The second half of the plain user list begins without a link.
    if walk.next.as_deref() == Some("") {
        walk.next = None;
    }
    walk
}

#[cfg(test)]
mod tests {
    use super::super::endless::BLANK_PAGES_MAX;
    use super::*;

    /// Takes in pages with so many rows each, every one of which links to another.
    fn advance(walk: &mut Walk, pages: impl IntoIterator<Item = usize>) -> Advance {
        let first = walk.page;
        let links = (first..).map(|page| format!("page {}", page + 1));
        let ends = pages.into_iter().zip(links).map(|(rows, next)| walk.advance(rows, Some(next), None));
        ends.last().unwrap_or(Advance::End)
    }

    #[test]
    fn pages_that_show_nothing_end_at_last() {
        let most = BLANK_PAGES_MAX as usize;
        let mut walk = Walk::new(Scope::Groups);
        assert!(matches!(advance(&mut walk, vec![0; most - 1]), Advance::Next(_)));
        assert!(matches!(advance(&mut walk, [1]), Advance::Next(_)), "a row begins the count anew");
        assert!(matches!(advance(&mut walk, vec![0; most - 1]), Advance::Next(_)));
        assert!(matches!(advance(&mut walk, [0]), Advance::Endless(_)));
    }

    #[test]
    fn a_list_that_cannot_be_so_long_ends() {
        let mut walk = Walk::new(Scope::Groups);
        let mut rows = |rows, next: &str| walk.advance(rows, Some(next.to_owned()), Some(1_000));
        assert!(matches!(rows(600, "a"), Advance::Next(_)));
        assert!(matches!(rows(400, "b"), Advance::Next(_)));
        assert!(matches!(rows(1, "c"), Advance::Endless(_)));
        // What is over is over, however long it was.
        assert_eq!(walk.advance(1, None, Some(1_000)), Advance::End);
    }
}
