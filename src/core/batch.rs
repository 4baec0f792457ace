//! What one step wants to have stored, in one transaction or not at all.
//!
//! Rows, removals, membership events, debts, progress of the walks, gaps, quarantine, crawl marks and the log cursor of a
//! [`Batch`] are committed together; the store answers with a [`Receipt`].

use std::collections::BTreeSet;

use super::coverage::{Gap, GapKind};
use super::event::MemberChange;
use super::ids::{AppId, CrawlId, GroupId, LogCursor, RequestNumber, Revision, Timestamp, UserId};
use super::model::{Key, Quarantined, Row, Scope};
use super::pending::{Answered, Patience, PendingRead};
use super::reconcile::Verdict;

/// An object that is shown after reads which did not find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// A user or group.
    pub key: Key,
    /// Since when it was not found, by our clock; `None` where that is not known.
    pub missed_since: Option<Timestamp>,
}

/// One atomic change of an org's store.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// When it was made; the time of gaps, quarantine and released account names.
    pub now: Timestamp,
    /// Number of the request that showed `rows` and `removals`: an observation with a smaller number changes nothing.
    pub at: RequestNumber,
    /// The same moment by Okta's clock, which membership events and walks are compared by.
    pub okta_now: Timestamp,
    /// Whether the rows were read because of a hint, from a consistent source: then `at` is stored with every row, changed
    /// or not, an older list may not overwrite or sweep it, and Okta's own `lastUpdated` has no say. Pages of a crawl spare
    /// the write.
    pub is_reread: bool,
    /// Whether somebody follows: then what a removed group or app leaves behind becomes a debt ([`Receipt::owed`]).
    pub is_followed: bool,
    /// Debts about objects that a read by id has found: what was said of their end before that read does not hold.
    pub found: Vec<Answered>,
    /// What the answer showed.
    pub rows: Vec<Row>,
    /// Objects that are gone for sure (object-level 404, or dropped by a filter), with everything that hangs on them.
    pub removals: Vec<Key>,
    /// Apps that are there, and that the filter does not want.
    pub unwanted_apps: Vec<AppId>,
    /// Whether every list that can name the users and groups of `rows` is still to be read by the crawl: then nothing more
    /// has to be read for those who are newly wanted.
    pub lists_follow: bool,
    /// Memberships that events changed; applied where [`super::membership::decide`] says so, after `rows` and `removals`.
    /// Where it says to read, the store adds the debt itself and tells so in [`Receipt::owed`].
    pub members: Vec<MemberChange>,
    /// Largest request number that had been given out when the page with `members` arrived: only later reads pay the debts
    /// that the store makes of them.
    pub members_since: RequestNumber,
    /// How long the debts that the store makes may wait.
    pub patience: Patience,
    /// Debts as they are now, new ones and changed ones.
    pub pending: Vec<PendingRead>,
    /// Debts that this batch pays; after `pending`. Void if a walk of the batch ends in a hold: what it did not show is not
    /// settled.
    pub answered: Vec<Answered>,
    /// Collections that have to be read if they never were to the end: the store adds the debt and tells so in
    /// [`Receipt::owed`].
    pub needed: Vec<Scope>,
    /// Groups and apps that were created, by Okta's clock, while the log was followed: what is below them was empty then, and
    /// the log tells of everything since. Where nobody has begun to read that, it counts as read at that moment; it is owed all
    /// the same.
    pub newborn: Vec<(Key, Timestamp)>,
    /// Users and groups of `rows` that were not found before: of lists that may have passed over what hangs on them the store adds
    /// the debt, and tells so in [`Receipt::owed`].
    pub returned: Vec<Returned>,
    /// Records of the answer that could not become rows.
    pub quarantined: Vec<Quarantined>,
    /// Where the walks stand.
    pub walks: Vec<WalkUpdate>,
    /// Gaps that were found.
    pub gaps: Vec<Gap>,
    /// Rows that could not be read by themselves: each leaves the gap [`GapKind::Failed`] on its collection, for it alone, until a later
    /// request shows it, an answer pays for it, or it is removed; of one that is not stored, until the collection is read to its end.
    pub unread: Vec<UnreadKey>,
    /// Rows that could not be read before, and of which nothing needs to be read any more: a later request has not found them, or
    /// nobody wants them. With the request from which on that is so.
    pub settled: Vec<(Key, RequestNumber)>,
    /// Groups that are gone if nothing is stored of them, or if one of `departed_apps` had brought them: no gap is opened then.
    /// With an app go the groups that it brought, and no event tells of them (facts 9.4).
    pub forgettable: Vec<GroupId>,
    /// Apps that are gone.
    pub departed_apps: BTreeSet<AppId>,
    /// Groups that a held walk did not show, that are not found, and of which no event tells. If one of them is stored and none of
    /// `departed_apps` had brought it, this batch releases nothing; else what it releases is what these apps had brought, and the hold
    /// stays if more is missing: see [`WalkState::Released`].
    pub brought: Vec<GroupId>,
    /// Gaps that are over, beside those that a finished walk closes by itself.
    pub closed_gaps: Vec<(Scope, GapKind)>,
    /// Begin or end of a full crawl.
    pub crawl: Option<CrawlMark>,
    /// Whether the log does not tell what has happened before the running crawl: a collection that was read before, and not to its
    /// end in this crawl, may have changed without a word. It has the gap [`GapKind::LogLost`] until it is read. With the end of the
    /// crawl the store adds a debt for the list of every collection that has this gap, whoever said so, and tells so in
    /// [`Receipt::owed`]; before it nothing is owed, since the crawl is about to read.
    pub unread_is_lost: bool,
    /// Move of the System Log position.
    pub cursor: Option<CursorMove>,
    /// Up to when, by Okta's clock, the log has been followed: no event up to then is missing but late ones. With
    /// [`CursorMove::Anchor`], `okta_now` where it is `None`.
    pub observed_through: Option<Timestamp>,
    /// Begin of a finished delta walk, by Okta's clock: the next one asks for what changed since.
    pub deltas: Vec<(Delta, Timestamp)>,
}

/// A row that could not be read by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadKey {
    /// The row, stored or not.
    pub key: Key,
    /// What was seen: endpoint, code. No personal data.
    pub evidence: String,
    /// Only a later request shows it anew: the number of [`PendingRead::since`], where a read is owed.
    pub since: RequestNumber,
}

/// A walk of what changed since the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delta {
    /// Users.
    Users,
    /// Groups.
    Groups,
}

/// Where the walk of one scope stands after this batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkUpdate {
    /// The collection.
    pub scope: Scope,
    /// Its state.
    pub state: WalkState,
}

/// State of the walk of one scope within a crawl, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkState {
    /// To be read; nothing was read yet in this crawl, or the walk starts again.
    Todo,
    /// Read up to here.
    Walking(Position),
    /// Read to the end: rows older than `from` that were not shown are to be reconciled.
    Finished {
        /// Number of the walk's first request: what was stored before and not shown since is missing.
        from: RequestNumber,
        /// When that request was sent at the earliest, by Okta's clock.
        began: Timestamp,
        /// Another answer says that there are no rows (a group's member count, an app that cannot have users): then an
        /// empty walk is no reason to suspect anything.
        known_empty: bool,
        /// Users whose account in this app has ended, as events say that were there before the walk began: if the walk does
        /// not show it, it goes without further question.
        ended: Vec<UserId>,
    },
    /// Given up in this crawl; a gap says why. Rows are kept.
    GivenUp,
    /// The settings do not want it read (any more): its rows go, and it counts as never read.
    Unwanted,
    /// The rows that a held walk did not show are gone after all: by-id probes say so. Ends the hold; nothing happens
    /// unless the scope is held, or if [`Batch::brought`] speaks against it.
    Released,
}

/// Where to go on in a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The `next` URL, verbatim.
    pub next: String,
    /// Pages read so far.
    pub page: u32,
    /// Rows read so far.
    pub rows: u64,
    /// Number of the walk's first request.
    pub from: RequestNumber,
    /// When that request was sent at the earliest, by Okta's clock.
    pub began: Timestamp,
    /// Which listing the URL belongs to.
    pub listing: Listing,
}

/// Form of a list. Only users have more than one (facts 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// The usual form; for users the index-backed search that shows every status in one walk.
    Usual,
    /// Users without search: everybody but the deactivated.
    PlainUsers,
    /// The deactivated users, second half of [`Listing::PlainUsers`].
    DeactivatedUsers,
}

impl Listing {
    /// Stable name, as stored.
    pub const fn name(self) -> &'static str {
        match self {
            Listing::Usual => "usual",
            Listing::PlainUsers => "plain_users",
            Listing::DeactivatedUsers => "deactivated_users",
        }
    }

    /// Reads [`Listing::name`] back.
    pub fn parse(name: &str) -> Option<Self> {
        [Listing::Usual, Listing::PlainUsers, Listing::DeactivatedUsers].into_iter().find(|l| l.name() == name)
    }
}

/// Begin or end of a full crawl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrawlMark {
    /// A new crawl begins: walks of an unfinished older one are forgotten.
    Begin {
        /// Its number.
        id: CrawlId,
        /// What the crawl depends on (credential, filters, page sizes): it is resumed only under the same.
        fingerprint: String,
    },
    /// The crawl has read all it could.
    End {
        /// Its number; must be the running one.
        id: CrawlId,
    },
}

/// Move of the System Log position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorMove {
    /// Take this position whatever the old one: everything is being read anew from here.
    Anchor(LogCursor),
    /// The same, and nothing is said yet of up to when the log has been followed: much of what is stored is as old as the position
    /// before. [`Batch::observed_through`] says it later.
    Open {
        /// The position.
        next: LogCursor,
        /// When it was asked for, by Okta's clock: from there on it tells.
        at: Timestamp,
    },
    /// Go on from `expect`, which must be the stored position: otherwise the whole batch is refused.
    Advance {
        /// The position whose page was read.
        expect: LogCursor,
        /// The page's next link.
        next: LogCursor,
    },
}

/// The store's answer to a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The revision after the batch; unchanged when nothing changed that a reader can see.
    pub revision: Revision,
    /// What became of the walks that the batch finished.
    pub finished: Vec<Finished>,
    /// Debts that the store found to be necessary: memberships whose order is not clear, collections that were never read, or not
    /// since the log told of everything.
    pub owed: Vec<PendingRead>,
}

/// What became of a finished walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The collection.
    pub scope: Scope,
    /// What was decided about the missing rows.
    pub verdict: Verdict,
    /// Number of rows removed.
    pub removed: u64,
    /// Users, groups or apps that the list did not show. They are not removed by the sweep, because one may be readable by id
    /// and absent from the list (facts 13.22): each is asked for by id. Empty where somebody follows: then each is a debt.
    pub unlisted: Vec<Key>,
    /// For a walk whose missing rows are probed: some of them, at most five.
    pub sample: Vec<Key>,
    /// For a walk whose missing rows are kept: how many are missing. 0 for [`Verdict::HoldUnreadable`], which no probe can
    /// end.
    pub missing: u64,
    /// Rows that were stored before the walk; what is missing is a part of them.
    pub stored: u64,
}
