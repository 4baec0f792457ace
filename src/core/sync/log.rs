//! The System Log: its position, its polls, what its events oblige to.
//!
//! Rules (facts 8): the `next` link is followed verbatim; after a page that is not full the log is left alone until the next
//! poll; a position that Okta no longer accepts is replaced by one that lies well before it, and everything is read again.

use std::collections::{BTreeMap, BTreeSet};

use super::super::batch::{Batch, CursorMove, WalkState, WalkUpdate};
use super::super::coverage::{Gap, GapKind, ReadFailure, gap_of_failure};
use super::super::event::effects as effects_of;
use super::super::ids::{GroupId, LogCursor, RequestNumber, Timestamp};
use super::super::model::Scope;
use super::super::pending::{Target, When};
use super::{Call, CallId, Effect, LogSeen, Moment, Pending, SyncState};

/// How far back the log is opened, in milliseconds, so that events which are persisted late are seen (facts 11).
const ANCHOR_BACK_MILLIS: i64 = 5 * 60 * 1000;

/// How far before the last known position the log is opened again when the position is lost, in milliseconds (facts 8.1).
const LOST_BACK_MILLIS: i64 = 60 * 60 * 1000;

/// Okta keeps the log for 90 days; asking for more is refused beyond 180 (facts 8.1).
const RETENTION_MILLIS: i64 = 89 * 86_400_000;

/// A position older than this is not followed when everything is read anew anyway.
const CURRENT_MILLIS_MAX: i64 = 60 * 60 * 1000;

/// Longest wait until an unreadable log is asked again, in milliseconds.
const RETRY_MILLIS_MAX: i64 = 60_000;

/// How often an idle poll notes how far the log has been followed, in milliseconds: each note is a write.
const IDLE_NOTE_MILLIS: i64 = 5_000;

/// How long it is remembered that an event named members of a group, in milliseconds: longer than a walk of them takes.
const HINTED_MILLIS: i64 = 60 * 60 * 1000;

/// Groups of which that is remembered before the old ones are looked for; some 100 bytes each.
const HINTED_GROUPS_MAX: usize = 10_000;

/// Events about members of a group: the largest request number given out by the last of each kind, and when the last came.
#[derive(Clone, Copy, Debug, Default)]
struct Hinted {
    added: Option<RequestNumber>,
    removed: Option<RequestNumber>,
    at: Timestamp,
}

/// What following is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogState {
    /// The log is not followed.
    #[default]
    Off,
    /// A position is being opened.
    Unanchored,
    /// Polls are answered.
    Following,
    /// The position was lost: everything is being read again.
    Lost,
    /// The log cannot be read now.
    Failing,
}

/// What following looks like from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// What it is doing.
    pub state: LogState,
    /// Why the log cannot be read, for people.
    pub failure: Option<String>,
    /// Since when it cannot be read.
    pub failing_since: Option<Timestamp>,
    /// When a poll was last answered, by our clock.
    pub polled_at: Option<Timestamp>,
    /// Polls that were answered.
    pub polls: u64,
    /// Events seen.
    pub events: u64,
    /// Events of types that the table does not know.
    pub unknown_events: u64,
    /// When the last event arrived, by our clock.
    pub last_event_at: Option<Timestamp>,
    /// How often the position was lost.
    pub lost: u64,
    /// Time to the next poll when idle, in milliseconds.
    pub poll_millis: i64,
    /// Reads that are owed.
    pub debts: usize,
    /// Scopes that are held.
    pub held: usize,
    /// Calls that were made to pay debts.
    pub reads: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// A position is to be opened.
    WantsAnchor,
    Anchoring,
    /// The next poll is at `poll_at`.
    At(LogCursor),
    Polling,
    /// Nobody follows from here in this run.
    LeftAlone,
}

/// The position and what is known about it.
#[derive(Debug)]
pub(super) struct Log {
    state: State,
    /// Up to when the position tells, by Okta's clock.
    observed_through: Option<Timestamp>,
    /// The same, while the store has not been told: a crawl that nobody follows has opened the position, and not come to its end.
    opened_at: Option<Timestamp>,
    /// What has been read was read from then on: a first position must not lie later.
    read_since: Option<Timestamp>,
    poll_at: Timestamp,
    sent_at: Timestamp,
    failures: u32,
    /// The position was lost and everything is owed; until a crawl that began later is over.
    is_lost: bool,
    /// The crawl under way began after the loss.
    is_lost_before_crawl: bool,
    /// The crawl under way has opened the position: of what happened before nothing is told any more.
    is_opened_by_crawl: bool,
    /// Everything is read anew, and nothing of it before the log is open: what the log shows of earlier is no news.
    is_fresh: bool,
    gaps: BTreeSet<GapKind>,
    noted_at: Option<Timestamp>,
    /// Groups whose members events have changed lately.
    hinted: BTreeMap<GroupId, Hinted>,
    /// When the position was opened, by Okta's clock; `None`: it goes on from where an earlier run was.
    followed_since: Option<Timestamp>,
    unknown_events: u64,
    status: LogStatus,
}

impl Log {
    pub(super) fn new(
        cursor: Option<LogCursor>,
        (observed_through, opened_at): (Option<Timestamp>, Option<Timestamp>),
        read_since: Option<Timestamp>,
        gaps: BTreeSet<GapKind>,
        is_lost: bool,
        status: LogStatus,
    ) -> Self {
        Self {
            state: cursor.map_or(State::WantsAnchor, State::At),
            observed_through: opened_at.or(observed_through),
            opened_at,
            read_since,
            poll_at: Timestamp::default(),
            sent_at: Timestamp::default(),
            failures: 0,
            is_lost,
            is_lost_before_crawl: false,
            is_opened_by_crawl: false,
            is_fresh: false,
            gaps,
            noted_at: None,
            hinted: BTreeMap::new(),
            followed_since: None,
            unknown_events: 0,
            status,
        }
    }

    /// Whether the position is recent enough to be followed while everything is read.
    pub(super) fn is_current(&self, okta_now: Timestamp) -> bool {
        let is_recent =
            self.observed_through.is_some_and(|through| okta_now.millis_since(through) < CURRENT_MILLIS_MAX);
        matches!(self.state, State::At(_)) && is_recent
    }

    /// Whether there is a position, in use or not.
    pub(super) fn has_position(&self) -> bool {
        matches!(self.state, State::At(_))
    }

    /// A crawl opens the position. `is_fresh`: it has not read anything yet.
    pub(super) fn anchor_anew(&mut self, is_fresh: bool) {
        // The new position lies before the begin of the crawl. What was read before that is told of if the old one was followed for
        // so long, and the events that both show are heeded.
        let is_covered =
            !is_fresh && self.observed_through.zip(self.read_since).is_some_and(|(through, since)| through >= since);
        self.state = State::WantsAnchor;
        self.is_lost = false;
        self.is_opened_by_crawl = !is_covered;
        self.is_fresh = is_fresh;
        self.observed_through = None;
        self.opened_at = None;
    }

    /// The crawl that nobody follows ends: up to when the position tells, if the store has not been told. What is stored was read
    /// since then, or the same batch says that it may have changed without a word.
    pub(super) fn take_opened_at(&mut self) -> Option<Timestamp> {
        self.opened_at.take()
    }

    /// Whether the gap [`GapKind::LogLost`] of the log is open.
    pub(super) fn has_lost_gap(&self) -> bool {
        self.gaps.contains(&GapKind::LogLost)
    }

    pub(super) fn leave_alone(&mut self) {
        self.state = State::LeftAlone;
    }

    /// From when on the log is to be opened, if it is to be opened now.
    pub(super) fn take_anchor(&mut self, moment: Moment) -> Option<Timestamp> {
        if self.state != State::WantsAnchor || self.poll_at > moment.now {
            return None;
        }
        self.state = State::Anchoring;
        self.sent_at = moment.okta_now;
        let oldest = moment.okta_now.plus_millis(-RETENTION_MILLIS);
        let since = match self.observed_through {
            Some(through) => through.plus_millis(-LOST_BACK_MILLIS),
            None => self.read_since.unwrap_or(moment.okta_now).plus_millis(-ANCHOR_BACK_MILLIS),
        };
        Some(since.max(oldest))
    }

    /// When the last crawl began: everything that is stored was read since then, or is owed.
    pub(super) fn read_since(&self) -> Option<Timestamp> {
        self.read_since
    }

    /// Whether lists may be read: the log is open, or it is known that it cannot be opened now.
    pub(super) fn lets_lists_go(&self) -> bool {
        match self.state {
            State::At(_) | State::Polling | State::LeftAlone => true,
            State::WantsAnchor | State::Anchoring => self.failures > 0,
        }
    }

    pub(super) fn poll_at(&self) -> Option<Timestamp> {
        matches!(self.state, State::At(_) | State::WantsAnchor).then_some(self.poll_at)
    }

    fn hinted(&mut self, group: GroupId, added: bool, moment: Moment) {
        if self.hinted.len() >= HINTED_GROUPS_MAX {
            self.hinted.retain(|_, hinted| moment.now.millis_since(hinted.at) < HINTED_MILLIS);
        }
        let hinted = self.hinted.entry(group).or_default();
        hinted.at = moment.now;
        *(if added { &mut hinted.added } else { &mut hinted.removed }) = Some(moment.newest);
    }

    /// Whether an event has come since request `from` was sent that somebody joined the group.
    pub(super) fn has_added_since(&self, group: &GroupId, from: RequestNumber) -> bool {
        self.hinted.get(group).is_some_and(|hinted| hinted.added >= Some(from))
    }

    /// The same of somebody who left it.
    pub(super) fn has_removed_since(&self, group: &GroupId, from: RequestNumber) -> bool {
        self.hinted.get(group).is_some_and(|hinted| hinted.removed >= Some(from))
    }

    /// Whether an event about members of the group has come since request `from` was sent.
    pub(super) fn has_hinted_since(&self, group: &GroupId, from: RequestNumber) -> bool {
        self.has_added_since(group, from) || self.has_removed_since(group, from)
    }

    /// A crawl that began after the loss has read everything.
    pub(super) fn made_good(&mut self) {
        self.is_lost = false;
        self.is_lost_before_crawl = false;
        self.gaps.remove(&GapKind::LogLost);
    }

    pub(super) fn was_lost_before_crawl(&self) -> bool {
        self.is_lost_before_crawl
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// The crawl that goes on has opened the position, in an earlier run, or will.
    pub(super) fn opened_by_crawl(&mut self) {
        self.is_opened_by_crawl = true;
    }

    pub(super) fn was_opened_by_crawl(&self) -> bool {
        self.is_opened_by_crawl
    }

    pub(super) fn crawl_ends(&mut self) {
        self.is_opened_by_crawl = false;
    }

    /// A crawl begins: it makes good for everything that was lost before.
    pub(super) fn crawl_begins(&mut self, okta_now: Timestamp) {
        self.read_since = Some(okta_now);
        let is_open = !matches!(self.state, State::WantsAnchor | State::Anchoring);
        self.is_lost_before_crawl = self.is_lost && is_open;
        // The position will lie before this crawl, no more before the one that has read what this one does not.
        self.is_opened_by_crawl |= !is_open && self.observed_through.is_none();
    }

    /// Up to when the log has been read to its end, by Okta's clock.
    pub(super) fn observed_through(&self) -> Option<Timestamp> {
        self.observed_through
    }

    /// Whether polls are answered and none was lost.
    pub(super) fn is_followed(&self) -> bool {
        self.failures == 0 && !self.is_lost && matches!(self.state, State::At(_) | State::Polling)
    }

    /// Whether the log has been followed since before `at`, by Okta's clock.
    pub(super) fn is_followed_since(&self, at: Timestamp) -> bool {
        self.is_followed() && self.followed_since.is_none_or(|since| at > since)
    }

    pub(super) fn status(&self) -> LogStatus {
        let state = match self.state {
            State::LeftAlone => LogState::Off,
            _ if self.failures > 0 => LogState::Failing,
            _ if self.is_lost => LogState::Lost,
            State::WantsAnchor | State::Anchoring => LogState::Unanchored,
            State::At(_) | State::Polling => LogState::Following,
        };
        LogStatus { state, ..self.status.clone() }
    }

    /// An answer came: gaps that it ends.
    fn answered(&mut self, moment: Moment, batch: &mut Batch) {
        self.failures = 0;
        self.status.failure = None;
        self.status.failing_since = None;
        self.status.polled_at = Some(moment.now);
        self.status.polls += 1;
        // What was missed is made good for by a crawl that is over.
        let is_lost = self.is_lost || self.opened_at.is_some();
        let over = std::mem::take(&mut self.gaps).into_iter().partition(|kind| is_lost && *kind == GapKind::LogLost);
        let (kept, over): (BTreeSet<GapKind>, BTreeSet<GapKind>) = over;
        self.gaps = kept;
        batch.closed_gaps.extend(over.into_iter().map(|kind| (Scope::Log, kind)));
    }
}

impl SyncState {
    pub(super) fn poll(&mut self, effects: &mut Vec<Effect>) {
        if self.log.poll_at > self.moment.now {
            return;
        }
        if let State::At(cursor) = &self.log.state {
            let cursor = cursor.clone();
            self.log.state = State::Polling;
            self.log.sent_at = self.moment.okta_now;
            self.call(Call::PollLog(cursor.clone()), Pending::Poll(cursor), effects);
        }
    }

    pub(super) fn on_log(&mut self, call: CallId, page: LogSeen, effects: &mut Vec<Effect>) {
        let is_log = |pending: &Pending| matches!(pending, Pending::Anchor | Pending::Poll(_));
        let Some(pending) = self.answered(call, is_log) else { return };
        let Some(next) = page.next.clone() else {
            let detail = "GET /api/v1/logs: the answer has no next link, which a polling read always has".to_owned();
            self.lose(pending, &ReadFailure::Failed { detail }, effects);
            return;
        };
        match pending {
            Pending::Poll(cursor) => self.on_poll(cursor, next, page, effects),
            _ => self.on_anchor(next, &page, effects),
        }
    }

    fn on_anchor(&mut self, next: LogCursor, page: &LogSeen, effects: &mut Vec<Effect>) {
        let mut batch = self.batch();
        self.credential_lives(&mut batch);
        batch.cursor = Some(CursorMove::Anchor(next.clone()));
        batch.at = self.just_now();
        if std::mem::take(&mut self.log.is_fresh) {
            self.note_late_effects(page);
        } else {
            // What was read before may have changed by what is on this page, and the position is behind it.
            self.note_events(page, &mut batch);
        }
        if self.log.is_lost {
            batch.observed_through = self.log.observed_through;
            self.log.opened_at = None;
            self.owe(Target::Everything, When::Now, "log position lost");
        } else {
            let opened_at = self.log.sent_at;
            self.log.observed_through = Some(opened_at);
            self.log.followed_since = Some(opened_at);
            if self.follow.is_none() && self.log.was_opened_by_crawl() {
                // Most of what is stored is as old as the position before, and no gap says so until the end of the crawl, or until
                // somebody goes on who follows: so long the store does not count as followed up to now.
                self.log.opened_at = Some(opened_at);
                batch.cursor = Some(CursorMove::Open { next: next.clone(), at: opened_at });
            } else {
                batch.observed_through = Some(opened_at);
                // From here on the log looks followed.
                batch.unread_is_lost = self.log.was_opened_by_crawl();
            }
            let finished = WalkState::Finished {
                from: RequestNumber::default(),
                began: self.log.sent_at,
                known_empty: false,
                ended: Vec::new(),
            };
            batch.walks = vec![WalkUpdate { scope: Scope::Log, state: finished }];
        }
        self.log.answered(self.moment, &mut batch);
        self.log.state = if self.follow.is_some() { State::At(next) } else { State::LeftAlone };
        self.pause(page.is_full);
        self.commit(batch, effects);
    }

    fn on_poll(&mut self, cursor: LogCursor, next: LogCursor, page: LogSeen, effects: &mut Vec<Effect>) {
        let mut batch = self.batch();
        self.credential_lives(&mut batch);
        batch.at = self.just_now();
        self.note_events(&page, &mut batch);
        let has_moved = cursor != next;
        if has_moved {
            batch.cursor = Some(CursorMove::Advance { expect: cursor, next: next.clone() });
        }
        if !page.is_full {
            // Okta's clock is an estimate that may fall back a little; what was followed was followed.
            self.log.observed_through = self.log.observed_through.max(Some(self.log.sent_at));
            batch.observed_through = self.log.observed_through;
            self.log.opened_at = None;
        }
        if !page.is_full {
            self.settle_agreements(self.log.sent_at, &mut batch);
        }
        self.log.answered(self.moment, &mut batch);
        self.log.state = State::At(next);
        // A full page that leads to itself would be asked for without a pause, for ever.
        self.pause(page.is_full && has_moved);
        let now = self.moment.now;
        let is_idle = batch.cursor.is_none() && batch.closed_gaps.is_empty() && !self.debts.has_changed();
        let is_noted = self.log.noted_at.is_some_and(|at| now.millis_since(at) < IDLE_NOTE_MILLIS);
        if is_idle && is_noted {
            return;
        }
        self.log.noted_at = Some(now);
        self.commit(batch, effects);
    }

    fn pause(&mut self, is_full: bool) {
        let wait =
            self.follow.as_ref().map(|follow| follow.poll_millis).unwrap_or_default().max(self.log.status.poll_millis);
        self.log.poll_at = if is_full { self.moment.now } else { self.moment.now.plus_millis(wait) };
    }

    /// The pause that the log's budget asks for, in milliseconds; 0 = none.
    pub fn slow_down(&mut self, poll_millis: i64) {
        self.log.status.poll_millis = poll_millis;
    }

    /// Of events before anything is read only those matter whose effects may come after everything is read.
    fn note_late_effects(&mut self, page: &LogSeen) {
        for event in &page.events {
            let marks = effects_of(event).marks.into_iter().filter(|mark| mark.when != When::Now);
            for mark in marks {
                self.owe(mark.target.clone(), mark.when, &event.event_type);
                if mark.announces_end {
                    self.announce(&mark.target);
                }
            }
        }
    }

    /// What an event says is newer than the answers to most requests that were sent before it arrived, whatever the number
    /// of the poll, and older than those to all later ones.
    fn just_now(&self) -> RequestNumber {
        self.moment.newest
    }

    /// Events become debts, and membership changes that go with the position.
    fn note_events(&mut self, page: &LogSeen, batch: &mut Batch) {
        // What cannot be read may have been anything.
        self.log.unknown_events += page.quarantined.len() as u64;
        self.log.status.unknown_events += page.quarantined.len() as u64;
        batch.quarantined.extend(page.quarantined.iter().cloned());
        for event in &page.events {
            self.log.status.events += 1;
            self.log.status.last_event_at = Some(self.moment.now);
            let effects = effects_of(event);
            if effects.is_unknown {
                self.log.status.unknown_events += 1;
                self.log.unknown_events += 1;
            }
            if effects.visibility_changed {
                self.bring_crawl_forward();
            }
            for mark in effects.marks {
                self.owe(mark.target.clone(), mark.when, &event.event_type);
                if mark.announces_end {
                    self.announce(&mark.target);
                }
            }
            for (app, is_on) in effects.broker_mode {
                let scope = Scope::AppUsers(app);
                if self.is_of_unread_app(&scope) {
                    continue;
                }
                let kind = GapKind::ImplicitAssignment;
                if is_on {
                    let evidence = format!("the log says {}", event.event_type);
                    batch.gaps.push(Gap { scope, kind, evidence });
                } else {
                    batch.closed_gaps.push((scope, kind));
                }
            }
            for change in &effects.members {
                self.crawl.empty_groups.remove(&change.group);
                self.log.hinted(change.group.clone(), change.added, self.moment);
            }
            batch.members.extend(effects.members);
        }
        let most = self.follow.as_ref().map_or(u64::MAX, |follow| follow.unknown_events_max.max(1));
        if self.log.unknown_events >= most {
            self.log.unknown_events = 0;
            self.owe(Target::Everything, When::Now, "events of unknown types");
        }
    }

    pub(super) fn on_log_failed(&mut self, pending: Pending, failure: &ReadFailure, effects: &mut Vec<Effect>) {
        if matches!(failure, ReadFailure::CursorGone) {
            self.lose(pending, failure, effects);
            return;
        }
        self.log.state = match pending {
            Pending::Poll(cursor) => State::At(cursor),
            _ if self.follow.is_some() => State::WantsAnchor,
            // One crawl does not wait for the log.
            _ => State::LeftAlone,
        };
        let evidence = gap_of_failure(&Scope::Log, failure).map_or_else(|| "no answer".to_owned(), |gap| gap.evidence);
        let mut batch = self.batch();
        self.fail(&evidence, &mut batch);
        if let Some(gap) = gap_of_failure(&Scope::Log, failure) {
            self.log.gaps.insert(gap.kind);
            batch.gaps.push(gap);
        }
        self.commit(batch, effects);
    }

    /// The log cannot be read now: it is asked again, ever more rarely.
    fn fail(&mut self, evidence: &str, batch: &mut Batch) {
        self.log.is_fresh = false;
        let poll_millis = self.follow.as_ref().map_or(1_000, |follow| follow.poll_millis.max(1));
        let wait = poll_millis.saturating_mul(1 << self.log.failures.min(16)).min(RETRY_MILLIS_MAX.max(poll_millis));
        self.log.failures = self.log.failures.saturating_add(1);
        self.log.poll_at = self.moment.now.plus_millis(wait);
        self.log.status.failing_since.get_or_insert(self.moment.now);
        self.log.status.failure = Some(evidence.to_owned());
        self.log.gaps.insert(GapKind::LogLost);
        batch.gaps.push(Gap { scope: Scope::Log, kind: GapKind::LogLost, evidence: evidence.to_owned() });
        if self.crawl.is_running && self.log.observed_through.is_none() {
            batch.walks.push(WalkUpdate { scope: Scope::Log, state: WalkState::GivenUp });
        }
    }

    /// The position means nothing to Okta any more: what came since it was stored may never be shown.
    fn lose(&mut self, pending: Pending, failure: &ReadFailure, effects: &mut Vec<Effect>) {
        let evidence = match failure {
            ReadFailure::CursorGone => "Okta no longer accepts the log position".to_owned(),
            ReadFailure::Failed { detail } => detail.clone(),
            other => format!("{other:?}"),
        };
        let was_anchored = matches!(pending, Pending::Poll(_));
        let mut batch = self.batch();
        self.fail(&evidence, &mut batch);
        self.log.state = if self.follow.is_some() { State::WantsAnchor } else { State::LeftAlone };
        if was_anchored {
            self.log.is_lost = true;
            self.log.is_lost_before_crawl = false;
            self.log.status.lost += 1;
            self.absent.search_again();
            // A new position is asked for at once, the first time.
            if self.log.failures == 1 {
                self.log.failures = 0;
                self.log.poll_at = self.moment.now;
            }
            self.owe(Target::Everything, When::Now, "log position lost");
        }
        self.commit(batch, effects);
    }
}
