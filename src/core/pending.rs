//! What has to be read again, and when: the debt that following the System Log builds up.
//!
//! Entry points: [`Target`] names a read, [`PendingRead`] is the debt for it, [`PendingRead::owe`] and
//! [`PendingRead::answer`] are how most change; an end is announced, or [`PendingRead::found`] not to be one.
//!
//! Invariants:
//! - A debt is paid only by a read that was *sent after* the last hint for it had arrived: its request number is larger
//!   than [`PendingRead::since`]. A read that was under way when the hint came may show the state before it.
//! - A debt is stored in the transaction that moves the log position past its event, and is paid in the transaction that
//!   stores what the read showed. A crash can repeat a read, never lose one.

use super::ids::{AppId, GroupId, RequestNumber, Timestamp, UserId};
use super::model::{Key, Scope};

/// Something that is read again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// A user by id.
    User(UserId),
    /// A group by id.
    Group(GroupId),
    /// An app by id.
    App(AppId),
    /// One user's account in one app.
    AppUser(AppId, UserId),
    /// One group's assignment to one app. The list of the app's groups pays it; a read by id is made only if that does not show
    /// the group.
    AppGroup(AppId, GroupId),
    /// All accounts of one user, by `apps?filter=user.id eq "…"&expand=user/…` (facts 1.3).
    UserApps(UserId),
    /// The groups of one user, by `users/{id}/groups`: adds memberships, and removes none.
    UserGroups(UserId),
    /// A collection, by walking its list.
    List(Scope),
    /// Groups that were imported from an app, and their members (facts 9.2).
    SourceGroups(AppId),
    /// Users changed since the last such walk (facts 12.3).
    UsersDelta,
    /// Groups whose profile or members changed since the last such walk, and the members of the latter (facts 12.3).
    GroupsDelta,
    /// Everything: a full crawl.
    Everything,
}

impl Target {
    /// The read of an object by itself; `None` for rows that have none.
    pub fn of_object(key: &Key) -> Option<Self> {
        Some(match key {
            Key::User(user) => Target::User(user.clone()),
            Key::Group(group) => Target::Group(group.clone()),
            Key::App(app) => Target::App(app.clone()),
            Key::AppUser(app, user) => Target::AppUser(app.clone(), user.clone()),
            Key::AppGroup(app, group) => Target::AppGroup(app.clone(), group.clone()),
            Key::GroupMember(..) => return None,
        })
    }

    /// Stable text form, `app_user(0oa1,00u1)`: what is stored and shown.
    pub fn name(&self) -> String {
        match self {
            Target::User(user) => format!("user({user})"),
            Target::Group(group) => format!("group({group})"),
            Target::App(app) => format!("app({app})"),
            Target::AppUser(app, user) => format!("app_user({app},{user})"),
            Target::AppGroup(app, group) => format!("app_group({app},{group})"),
            Target::UserApps(user) => format!("user_apps({user})"),
            Target::UserGroups(user) => format!("user_groups({user})"),
            Target::List(scope) => format!("list({scope})"),
            Target::SourceGroups(app) => format!("source_groups({app})"),
            Target::UsersDelta => "users_delta".to_owned(),
            Target::GroupsDelta => "groups_delta".to_owned(),
            Target::Everything => "everything".to_owned(),
        }
    }

    /// Reads [`Target::name`] back.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "users_delta" => return Some(Target::UsersDelta),
            "groups_delta" => return Some(Target::GroupsDelta),
            "everything" => return Some(Target::Everything),
            _ => {}
        }
        let (form, rest) = name.split_once('(')?;
        let inner = rest.strip_suffix(')')?;
        Some(match form {
            "user" => Target::User(UserId::new(inner).ok()?),
            "group" => Target::Group(GroupId::new(inner).ok()?),
            "app" => Target::App(AppId::new(inner).ok()?),
            "app_user" => {
                let (app, user) = inner.split_once(',')?;
                Target::AppUser(AppId::new(app).ok()?, UserId::new(user).ok()?)
            }
            "app_group" => {
                let (app, group) = inner.split_once(',')?;
                Target::AppGroup(AppId::new(app).ok()?, GroupId::new(group).ok()?)
            }
            "user_apps" => Target::UserApps(UserId::new(inner).ok()?),
            "user_groups" => Target::UserGroups(UserId::new(inner).ok()?),
            "list" => Target::List(Scope::parse(inner)?),
            "source_groups" => Target::SourceGroups(AppId::new(inner).ok()?),
            _ => return None,
        })
    }

    /// The one row that the answer shows, or of which it tells that it is gone; `None` where there are several.
    pub fn object_key(&self) -> Option<Key> {
        Some(match self {
            Target::User(user) => Key::User(user.clone()),
            Target::Group(group) => Key::Group(group.clone()),
            Target::App(app) => Key::App(app.clone()),
            Target::AppUser(app, user) => Key::AppUser(app.clone(), user.clone()),
            Target::AppGroup(app, group) => Key::AppGroup(app.clone(), group.clone()),
            _ => return None,
        })
    }

    /// The collection that the answer belongs to: where a failure leaves its gap. `None` for [`Target::Everything`].
    pub fn scope(&self) -> Option<Scope> {
        Some(match self {
            Target::User(_) | Target::UsersDelta => Scope::Users,
            Target::Group(_) | Target::GroupsDelta | Target::SourceGroups(_) | Target::UserGroups(_) => Scope::Groups,
            Target::App(_) | Target::UserApps(_) => Scope::Apps,
            Target::AppUser(app, _) => Scope::AppUsers(app.clone()),
            Target::AppGroup(app, _) => Scope::AppGroups(app.clone()),
            Target::List(scope) => scope.clone(),
            Target::Everything => return None,
        })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

/// When a hint wants its read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum When {
    /// As soon as the events of the burst are collected.
    Now,
    /// Once no hint for the same target has come for a while: the effect is spread over many events or comes by a job.
    Quiet,
    /// Some minutes later: a second look, since the effect is asynchronous and may come without an event (facts 11).
    Later,
}

/// How long hints wait, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    /// [`When::Now`]: how long the hints of a burst are collected.
    pub debounce_millis: i64,
    /// [`When::Quiet`]: how long no further hint must have come.
    pub quiet_millis: i64,
    /// [`When::Quiet`]: after this time it is read however busy the target is, and once more when it is quiet.
    pub quiet_millis_max: i64,
    /// [`When::Later`]: how much later the second look is.
    pub later_millis: i64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { debounce_millis: 250, quiet_millis: 30_000, quiet_millis_max: 300_000, later_millis: 180_000 }
    }
}

/// Longest wait after failures, in milliseconds: a permission that was granted again shows within a quarter of an hour.
const RETRY_MILLIS_MAX: i64 = 15 * 60 * 1000;

/// First wait after a failure, in milliseconds; doubles.
const RETRY_MILLIS_MIN: i64 = 5_000;

/// What is due within this time counts as under way, and so does what has been due for no longer, in milliseconds: what takes
/// longer (a long list, a rate limit) is nothing that the next moment settles.
const UNDER_WAY_MILLIS: i64 = 2_000;

/// Events come so much later than what they tell of, mostly, in milliseconds.
const LOG_LAG_MILLIS: i64 = 5_000;

/// The debt for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRead {
    /// What to read.
    pub target: Target,
    /// Largest request number that had been given out when the last hint arrived: only later requests count.
    pub since: RequestNumber,
    /// When the oldest unpaid hint arrived; where a read has paid and one more is owed, when that was due.
    pub first_at: Timestamp,
    /// When to read.
    pub due_at: Timestamp,
    /// When to read once more after that.
    pub again_at: Option<Timestamp>,
    /// Reads that failed in a row.
    pub attempts: u32,
    /// An event said that it is gone: then a 404 proves it. Without one it may mean "not visible" (facts 7.2).
    pub announced: bool,
    /// Since when reads by id do not find it, though nothing says that it is gone.
    pub absent_since: Option<Timestamp>,
    /// Why: the event type, or what else asked for it.
    pub cause: String,
}

impl PendingRead {
    /// A new debt.
    pub fn new(
        target: Target,
        when: When,
        cause: &str,
        since: RequestNumber,
        now: Timestamp,
        patience: Patience,
    ) -> Self {
        let (wait_millis, again_at) = match when {
            When::Now => (patience.debounce_millis, None),
            When::Quiet => (patience.quiet_millis, None),
            When::Later => (patience.later_millis, None),
        };
        let due_at = now.plus_millis(wait_millis);
        Self {
            target,
            since,
            first_at: now,
            due_at,
            again_at,
            attempts: 0,
            announced: false,
            absent_since: None,
            cause: cause.to_owned(),
        }
    }

    /// Another hint for the same target.
    pub fn owe(&mut self, when: When, since: RequestNumber, now: Timestamp, patience: Patience) {
        self.since = self.since.max(since);
        match when {
            When::Now => {
                // A read that was due later is due now, and once more when it was due: that look had its own reason.
                let due_at = now.plus_millis(patience.debounce_millis);
                if self.due_at > due_at {
                    self.again_at = Some(self.again_at.map_or(self.due_at, |again| again.max(self.due_at)));
                    self.due_at = due_at;
                }
            }
            When::Quiet => {
                let latest = self.first_at.plus_millis(patience.quiet_millis_max);
                let quiet_at = now.plus_millis(patience.quiet_millis);
                self.due_at = self.due_at.max(quiet_at.min(latest));
                // What is read before that, because the target is busy or the read is overdue, does not show all that the hint is
                // about. A read that has failed is paid by any that is answered.
                if self.due_at < quiet_at || self.attempts > 0 {
                    self.again_at = Some(self.again_at.map_or(quiet_at, |before| before.max(quiet_at)));
                }
            }
            When::Later => {
                let again = now.plus_millis(patience.later_millis);
                self.again_at = Some(self.again_at.map_or(again, |before| before.max(again)));
            }
        }
    }

    /// A read with request number `by` was stored. Returns what is still owed.
    #[must_use]
    pub fn answer(mut self, by: RequestNumber) -> Option<Self> {
        if by <= self.since {
            return Some(self);
        }
        let again_at = self.again_at.take()?;
        // What was owed by then is paid: what is busy is not read any more often for that.
        self.first_at = self.first_at.max(self.due_at);
        self.due_at = again_at;
        self.attempts = 0;
        Some(self)
    }

    /// The debt as its debtor knows it, over what is stored: of hints that the debtor has not heard of neither the request number
    /// is lost, nor that what they are about is gone.
    pub fn over(self, stored: Option<&Self>) -> Self {
        match stored {
            Some(stored) => {
                Self { since: self.since.max(stored.since), announced: self.announced || stored.announced, ..self }
            }
            None => self,
        }
    }

    /// Whether the next moment is likely to settle it: it is about to be read and no answer is known, or it was not found a
    /// moment ago, and the log may be about to say that it is gone.
    pub fn is_under_way(&self, now: Timestamp) -> bool {
        match self.absent_since {
            Some(since) => now.millis_since(since) <= LOG_LAG_MILLIS,
            None => self.attempts == 0 && now.millis_since(self.due_at).abs() <= UNDER_WAY_MILLIS,
        }
    }

    /// A read by id did not find it, and nothing says that it is gone: it is asked for again at `due_at`.
    pub fn not_found(&mut self, now: Timestamp, due_at: Timestamp) {
        self.absent_since.get_or_insert(now);
        self.attempts = 0;
        self.due_at = due_at;
    }

    /// It was found by the request with this number: what was said of its end before does not hold.
    pub fn found(&mut self, by: RequestNumber) {
        self.announced &= by <= self.since;
        self.absent_since = None;
    }

    /// A read failed for good: it is tried again, ever more rarely.
    pub fn failed(&mut self, now: Timestamp) {
        let wait = RETRY_MILLIS_MIN.saturating_mul(1 << self.attempts.min(16)).min(RETRY_MILLIS_MAX);
        self.attempts = self.attempts.saturating_add(1);
        self.due_at = now.plus_millis(wait);
    }
}

/// A debt that a read has paid, as the store is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was read.
    pub target: Target,
    /// With which request.
    pub by: RequestNumber,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    const PATIENCE: Patience =
        Patience { debounce_millis: 10, quiet_millis: 100, quiet_millis_max: 250, later_millis: 1000 };

    fn debt(when: When) -> PendingRead {
        PendingRead::new(Target::UsersDelta, when, "test", RequestNumber(5), at(0), PATIENCE)
    }

    #[test]
    fn later_hints_are_kept_over_what_the_debtor_knows() {
        let told =
            |since: u64, announced: bool| PendingRead { since: RequestNumber(since), announced, ..debt(When::Now) };
        // Known, stored, and what is stored then.
        let cases = [
            ((5, false), None, (5, false)),
            ((5, true), None, (5, true)),
            // The debtor has not heard of it; of what was found the rows themselves tell.
            ((5, false), Some((5, true)), (5, true)),
            ((6, false), Some((5, true)), (6, true)),
            ((5, false), Some((6, true)), (6, true)),
            ((5, true), Some((6, false)), (6, true)),
            ((5, false), Some((6, false)), (6, false)),
        ];
        for (known, stored, expected) in cases {
            let merged = told(known.0, known.1).over(stored.map(|(since, announced)| told(since, announced)).as_ref());
            assert_eq!((merged.since.0, merged.announced), expected, "{known:?} over {stored:?}");
        }
    }

    #[test]
    fn target_names_read_back() {
        let (user, group, app) = (UserId::new("00u1"), GroupId::new("00g1"), AppId::new("0oa1"));
        let (user, group, app) = (user.unwrap(), group.unwrap(), app.unwrap());
        for target in [
            Target::User(user.clone()),
            Target::Group(group.clone()),
            Target::App(app.clone()),
            Target::AppUser(app.clone(), user.clone()),
            Target::UserApps(user.clone()),
            Target::UserGroups(user),
            Target::List(Scope::GroupMembers(group)),
            Target::List(Scope::Users),
            Target::SourceGroups(app),
            Target::UsersDelta,
            Target::GroupsDelta,
            Target::Everything,
        ] {
            assert_eq!(Target::parse(&target.name()), Some(target));
        }
        for bad in ["", "user", "user()", "app_user(0oa1)", "list(nothing)", "roles(1)"] {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_was_never_answered_and_is_due_is_under_way_and_so_is_what_has_just_gone() {
        let fresh = debt(When::Now);
        assert!(fresh.is_under_way(at(0)));
        assert!(fresh.is_under_way(at(2_010)) && !fresh.is_under_way(at(2_011)), "it takes long");
        let later = PendingRead { due_at: at(2_001), ..fresh.clone() };
        assert!(!later.is_under_way(at(0)) && later.is_under_way(at(1)), "due in a while");
        assert!(!PendingRead { attempts: 1, ..fresh.clone() }.is_under_way(at(0)), "it has failed");
        let mut absent = fresh;
        absent.not_found(at(0), at(1));
        assert!(absent.is_under_way(at(5_000)), "its end may be told yet");
        assert!(!absent.is_under_way(at(5_001)), "it was not found");
    }

    #[test]
    fn only_a_later_request_pays() {
        assert!(debt(When::Now).answer(RequestNumber(5)).is_some());
        assert!(debt(When::Now).answer(RequestNumber(6)).is_none());
        let mut owed = debt(When::Now);
        owed.owe(When::Now, RequestNumber(8), at(1), PATIENCE);
        assert!(owed.clone().answer(RequestNumber(7)).is_some());
        assert!(owed.answer(RequestNumber(9)).is_none());
    }

    #[test]
    fn a_second_look_outlives_the_first() {
        let mut owed = debt(When::Now);
        owed.owe(When::Later, RequestNumber(5), at(0), PATIENCE);
        assert_eq!(owed.due_at, at(10));
        let owed = owed.answer(RequestNumber(6)).unwrap();
        assert_eq!((owed.due_at, owed.again_at), (at(1000), None));
        assert!(owed.answer(RequestNumber(7)).is_none());
    }

    #[test]
    fn now_comes_first_and_keeps_the_later_look() {
        let mut owed = debt(When::Later);
        owed.owe(When::Now, RequestNumber(6), at(20), PATIENCE);
        assert_eq!((owed.due_at, owed.again_at), (at(30), Some(at(1000))));
    }

    #[test]
    fn quiet_moves_on_but_not_for_ever() {
        let mut owed = debt(When::Quiet);
        assert_eq!(owed.due_at, at(100));
        owed.owe(When::Quiet, RequestNumber(6), at(90), PATIENCE);
        assert_eq!(owed.due_at, at(190));
        owed.owe(When::Quiet, RequestNumber(6), at(180), PATIENCE);
        assert_eq!((owed.due_at, owed.again_at), (at(250), Some(at(280))), "and once more when it is quiet");
        // As long until the next one, however many hints come.
        let mut owed = owed.answer(RequestNumber(7)).unwrap();
        for n in 27..=60 {
            owed.owe(When::Quiet, RequestNumber(8), at(n * 10), PATIENCE);
        }
        assert_eq!((owed.due_at, owed.again_at), (at(500), Some(at(700))));
    }

    #[test]
    fn what_is_overdue_or_has_failed_is_read_once_more_when_it_is_quiet() {
        let mut overdue = debt(When::Quiet);
        overdue.owe(When::Quiet, RequestNumber(6), at(1_000), PATIENCE);
        assert_eq!((overdue.due_at, overdue.again_at), (at(250), Some(at(1_100))));
        let mut failed = debt(When::Now);
        failed.failed(at(10));
        failed.owe(When::Quiet, RequestNumber(6), at(20), PATIENCE);
        assert_eq!((failed.due_at, failed.again_at), (at(5_010), Some(at(120))));
        assert_eq!(failed.answer(RequestNumber(7)).unwrap().due_at, at(120));
    }

    #[test]
    fn failures_wait_ever_longer() {
        let mut owed = debt(When::Now);
        for wait in [5_000, 10_000, 20_000] {
            owed.failed(at(0));
            assert_eq!(owed.due_at, at(wait));
        }
        for _ in 0..100 {
            owed.failed(at(0));
        }
        assert_eq!(owed.due_at, at(RETRY_MILLIS_MAX));
    }
}
