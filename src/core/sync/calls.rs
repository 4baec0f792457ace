//! What goes into the state machine and what comes out of it.
//!
//! Entry points: [`Input`], [`Effect`].

use std::collections::BTreeSet;

use super::super::batch::{Batch, Listing, Receipt, WalkUpdate};
use super::super::coverage::ReadFailure;
use super::super::event::LogEvent;
use super::super::ids::{AppId, CrawlId, GroupId, LogCursor, RequestNumber, Timestamp, UserId};
use super::super::model::{AppUser, GroupStats, Key, Quarantined, Row, Scope};
use super::super::pending::Target;
use super::super::plan::Sizes;
use super::absent::DeletionsSeen;

/// Okta's clock is told in whole seconds: so far before a moment something else may have come after it, in milliseconds.
pub const RECENT_MILLIS: i64 = 2_000;

/// The moment of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// By our clock.
    pub now: Timestamp,
    /// By Okta's clock.
    pub okta_now: Timestamp,
    /// Largest request number given out so far: only a read with a larger one was sent after this moment.
    pub newest: RequestNumber,
}

/// Names a call and its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// A list that is no scope: a selection of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Users that changed after a moment of Okta's clock.
    UsersChanged(Timestamp),
    /// Groups whose profile or members changed after a moment of Okta's clock.
    GroupsChanged(Timestamp),
    /// Groups imported from an app.
    GroupsOfApp(AppId),
    /// Apps of a user, each with the user's account in it.
    UserApps(UserId),
    /// Users by id, at most [`super::super::plan::USERS_PER_SEARCH_MAX`].
    UsersByIds(Vec<UserId>),
    /// Groups of a user.
    UserGroups(UserId),
}

/// A read that the shell is asked to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Open a System Log position at this moment of Okta's clock.
    AnchorLog {
        /// What was persisted from then on is shown.
        since: Timestamp,
    },
    /// The next page of the log.
    PollLog(LogCursor),
    /// The first page of a list; `limit` is set only where the usual page size was too big.
    FirstPage {
        /// The collection.
        scope: Scope,
        /// Its form.
        listing: Listing,
        /// Page size, when not the configured one.
        limit: Option<u32>,
        /// Whether somebody waits for it: then it goes before the pages of a crawl.
        is_urgent: bool,
    },
    /// The page behind a `next` link, verbatim.
    NextPage {
        /// The collection.
        scope: Scope,
        /// Its form.
        listing: Listing,
        /// The link.
        next: String,
        /// Whether somebody waits for it.
        is_urgent: bool,
    },
    /// A page of a selection.
    Select {
        /// Which.
        selection: Selection,
        /// The link; `None` = the first page.
        next: Option<String>,
        /// Page size, when not the usual one.
        limit: Option<u32>,
    },
    /// One object by id; never a group member, which has no such read.
    Read(Key),
    /// The deletions that the log tells of since a moment of Okta's clock; answered with [`Input::Deletions`].
    SearchDeletions {
        /// What was persisted from then on is shown.
        since: Timestamp,
    },
}

/// A page of the log as the shell hands it in.
#[derive(Clone, Debug, Default)]
pub struct LogSeen {
    /// Number of the request.
    pub at: RequestNumber,
    /// In the order of persistence.
    pub events: Vec<LogEvent>,
    /// Records that are no events.
    pub quarantined: Vec<Quarantined>,
    /// Where to go on.
    pub next: Option<LogCursor>,
    /// Whether more may be there at once.
    pub is_full: bool,
}

/// An app of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAppSeen {
    /// The app.
    pub app: AppId,
    /// The account, if the answer held it.
    pub app_user: Option<AppUser>,
}

/// A page of a list as the shell hands it in.
#[derive(Clone, Debug, Default)]
pub struct PageSeen {
    /// Number of the request that got it, taken when it was sent.
    pub at: RequestNumber,
    /// Good records.
    pub rows: Vec<Row>,
    /// `expand=stats` of groups.
    pub group_stats: Vec<(GroupId, GroupStats)>,
    /// Apps of a user, for [`Selection::UserApps`].
    pub user_apps: Vec<UserAppSeen>,
    /// Bad records.
    pub quarantined: Vec<Quarantined>,
    /// Link to the next page.
    pub next: Option<String>,
}

/// What a read by id told.
#[derive(Clone, Debug)]
pub enum ByIdSeen {
    /// The object, with the number of the request.
    Found(Box<Row>, RequestNumber),
    /// Object-level 404: gone, or not visible to this credential.
    NotFound(RequestNumber),
}

impl ByIdSeen {
    pub(super) fn at(&self) -> RequestNumber {
        match self {
            ByIdSeen::Found(_, at) | ByIdSeen::NotFound(at) => *at,
        }
    }
}

/// Objects that stored rows name and that are not stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnseenFound {
    /// Users whom accounts or memberships name.
    pub users: Vec<UserId>,
    /// How many there are.
    pub user_count: u64,
    /// Groups that are assigned to an app.
    pub groups: Vec<GroupId>,
    /// How many there are.
    pub group_count: u64,
    /// Apps that groups come from.
    pub apps: Vec<AppId>,
}

/// Everything that can happen.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A page of the log arrived.
    Log(CallId, LogSeen),
    /// A page arrived.
    Page(CallId, PageSeen),
    /// A read by id was answered.
    ById(CallId, ByIdSeen),
    /// A call failed for good.
    Failed(CallId, ReadFailure),
    /// The oldest uncommitted batch is stored.
    Committed(Receipt),
    /// Answer to [`Effect::LoadAssignedGroups`]; without `Everyone`.
    AssignedGroups {
        /// Groups that are assigned to an app.
        assigned: Vec<GroupId>,
        /// Groups that are not, but whose members are in the books: read under other settings or before the last assignment
        /// was taken away. Nobody reads them again, so what is stored would grow old unnoticed.
        unwanted: Vec<GroupId>,
    },
    /// Answer to [`Effect::Count`].
    Counted(Sizes),
    /// Answer to [`Effect::LoadUserApps`].
    UserApps(CallId, BTreeSet<AppId>),
    /// Somebody asks for a read.
    Asked(Target),
    /// An operator has ended a hold in the store, or said that an unseen object is gone; apps that the held list did not show
    /// are to be asked for by id.
    Released(Scope, Vec<Key>),
    /// What a search of the log found.
    Deletions(CallId, DeletionsSeen),
    /// Answer to [`Effect::CountUsers`].
    UsersCounted {
        /// Users known, but those created later.
        known: u64,
        /// How many of these were created in the last seconds before, by [`RECENT_MILLIS`].
        recent: u64,
    },
    /// Answer to [`Effect::FindUnseen`].
    Unseen(UnseenFound),
}

/// Everything that can be asked of the shell.
#[derive(Debug)]
pub enum Effect {
    /// Make this read; answer with its id.
    Call(CallId, Call),
    /// Store this; answer with [`Input::Committed`], in order.
    Commit(Box<Batch>),
    /// Tell the groups that are assigned to an app, and those with stored members that are not.
    LoadAssignedGroups,
    /// Tell how many rows are stored, up to the given numbers.
    Count {
        /// App users of apps.
        apps: Vec<(AppId, u64)>,
        /// App users of users.
        users: Vec<(UserId, u64)>,
    },
    /// Tell in which apps the user has a stored app user.
    LoadUserApps(CallId, UserId),
    /// Tell how many users are known.
    CountUsers {
        /// Who was created later does not count.
        created_by: Timestamp,
    },
    /// Tell which users, groups and apps stored rows name that are not stored themselves, at most so many of each kind.
    FindUnseen(usize),
    /// A crawl begins; only for the log lines.
    CrawlBegins(CrawlId),
    /// A crawl has come to its end, and the machine goes on following.
    CrawlEnded(CrawlId),
    /// The machine is done: the one crawl is over, or nothing can be read.
    End(CrawlEnd),
}

/// How a crawl ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CrawlEnd {
    /// Everything was read that could be; gaps may be open.
    Finished,
    /// Nothing more can be read now; the crawl is resumed by the next start.
    Stopped(ReadFailure),
}

/// What the store holds of an unfinished crawl.
#[derive(Clone, Debug, Default)]
pub struct StoredCrawl {
    /// Its number.
    pub id: CrawlId,
    /// The scopes of the crawl and where their walks stand.
    pub walks: Vec<WalkUpdate>,
    /// Users, groups and apps that a finished list did not show, as far as they have not been asked for by id: where nobody has
    /// followed.
    pub unlisted: Vec<Key>,
}
