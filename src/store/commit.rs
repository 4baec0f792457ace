//! One batch within the writer's transaction.
//!
//! Entry points: [`commit`], [`release`]. What a batch expects is checked before anything is written; then the order is:
//! debts, removals, rows, memberships, bad records, walks, gaps, what was never read, log position, end of the crawl.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::apply::{Apply, IdCache, Put};
use super::debts::Debts;
use super::filtered::{Leavings, Sieve, Sifted};
use super::gaps::{self, Ages};
use super::members::apply_members;
use super::meta::{self, Meta, REQUEST_NUMBER_BLOCK};
use super::missing::{self, HELD};
use super::recent::Guard;
use super::touched::Touched;
use super::walks::{Books, CoverageChange, Shown};
use super::writer::ReleaseError;
use super::{StoreConfig, StoreError, as_i64, purge, returned, unread};
use crate::core::batch::{Batch, CrawlMark, CursorMove, Finished, Receipt, WalkState};
use crate::core::coverage::GapKind;
use crate::core::ids::{RequestNumber, Revision, Timestamp};
use crate::core::model::{Key, Kind, Scope};
use crate::core::pending::{Target, When};
use crate::core::reconcile::Brake;

/// How long a released account name is remembered, in days. Longer than the longest quarantine window.
const HISTORY_DAYS: i64 = 366;

/// What the writer knows beside what is stored.
pub(super) struct Memory {
    pub(super) ids: IdCache,
    pub(super) guard: Guard,
    pub(super) sieve: Sieve,
    pub(super) credential: String,
    pub(super) brake: Brake,
    /// Objects on which a gap is open.
    pub(super) object_gaps: BTreeSet<Scope>,
    /// Names and users about which the transaction changes something.
    pub(super) touched: Touched,
}

impl Memory {
    pub(super) fn new(config: &StoreConfig, sql: &Connection, sieve: Sieve) -> Result<Self, StoreError> {
        Ok(Self {
            ids: IdCache::default(),
            guard: Guard::default(),
            sieve,
            credential: config.credential.clone(),
            brake: config.brake,
            object_gaps: gaps::object_gaps(sql)?,
            touched: Touched::default(),
        })
    }
}

/// What the writer holds that work on rows needs.
pub(super) type Held<'a> = (&'a mut IdCache, &'a mut Guard, &'a mut BTreeSet<Scope>, &'a mut Touched);

/// Work on rows beside a batch: what was stored at `at` is not overwritten by anything older.
pub(super) fn apply_for<'a>(
    sql: &'a Connection,
    (ids, guard, object_gaps, touched): Held<'a>,
    revision: Revision,
    (at, now): (RequestNumber, Timestamp),
    rows: &'a mut BTreeMap<Kind, u64>,
) -> Apply<'a> {
    Apply {
        sql,
        ids,
        guard,
        revision,
        at,
        now,
        dates_count: false,
        is_reread: false,
        changed: false,
        lines: 0,
        apps_changed: false,
        groups_noted: false,
        gone: Vec::new(),
        orphans: BTreeSet::new(),
        ended: BTreeSet::new(),
        notes_strangers: false,
        unwanted_apps: BTreeSet::new(),
        object_gaps,
        touched,
        shown_objects: BTreeSet::new(),
        rows,
    }
}

/// What a batch did, published after the commit.
pub(super) struct Done {
    pub(super) receipt: Receipt,
    pub(super) coverage: Vec<CoverageChange>,
    /// Lines of the change log.
    pub(super) lines: u64,
    /// Whether names were removed that must not stay in any file.
    pub(super) has_purged: bool,
}

impl Done {
    /// The gaps that were opened, and the collections that are new. A gap that is about fewer rows is not yet: who reads rows of
    /// before must still see it.
    pub(super) fn openings(&self) -> impl Iterator<Item = CoverageChange> {
        self.coverage.iter().filter_map(|change| match change {
            CoverageChange::Opened(..) | CoverageChange::Born(..) => Some(change.clone()),
            CoverageChange::OpenedFor(scope, reach) | CoverageChange::Widened(scope, reach) => {
                Some(CoverageChange::Widened(scope.clone(), reach.clone()))
            }
            _ => None,
        })
    }
}

/// Carries out one batch within the transaction. A mismatch is found before anything is written.
pub(super) fn commit(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    batch: &Batch,
) -> Result<Done, StoreError> {
    check(meta, batch)?;
    begin_crawl(sql, meta, batch)?;
    if batch.at.0 >= meta.request_numbers_end {
        meta.request_numbers_end = batch.at.0 + REQUEST_NUMBER_BLOCK;
        meta::put_integer(sql, "request_number", as_i64(meta.request_numbers_end))?;
    }
    memory.guard.forget_old(batch.now);
    let mut debts = Debts { sql, now: batch.now, patience: batch.patience, owed: BTreeMap::new() };
    for debt in &batch.pending {
        debts.merge(debt)?;
    }
    for found in &batch.found {
        debts.found(found)?;
    }
    let Memory { ids, guard, sieve, credential, brake, object_gaps, touched } = memory;
    let revision = Revision(meta.revision.0 + 1);
    let seen = (batch.at, batch.now);
    let mut apply = apply_for(sql, (ids, guard, object_gaps, touched), revision, seen, &mut meta.rows);
    apply.is_reread = batch.is_reread;
    // While a list of users or groups is still to be read, whom it has not shown yet is no stranger.
    apply.notes_strangers = batch.is_followed && !meta.crawl.running && !debts.owes_objects()?;
    let mut leavings = Leavings::default();
    let forgotten = forget_groups(&mut apply, &mut debts, batch)?;
    let (shown, untaken) = apply_rows(&mut apply, sieve, batch, &mut leavings)?;
    apply_members(&mut apply, (sieve, &mut leavings), &mut debts, batch)?;
    let mut books = Books {
        apply: &mut apply,
        crawl: meta.crawl.id,
        okta_now: batch.okta_now,
        credential,
        brake: *brake,
        asks_for_missing: batch.is_followed,
        found: &batch.gaps,
        coverage: Vec::new(),
    };
    let has_purged = leavings.has_purged;
    sieve.quarantine(&books, &leavings)?;
    books.forget_gone()?;
    books.settle_shown(batch, &untaken)?;
    let finished = keep_books(&mut books, batch, &shown, &forgotten)?;
    for update in &batch.walks {
        let finished = finished.iter().find(|finished| finished.scope == update.scope);
        if let Some(shown) = shown.get(&update.scope) {
            sieve.keep_walk(&mut books, &mut debts, batch, update, (shown, finished))?;
        }
    }
    let bad = unread::bad_records(batch, &leavings.quarantined);
    sieve.follow_up(&mut books, &mut debts, batch, leavings)?;
    // What a held walk did not show is not settled: nothing is paid by it.
    let is_held = finished.iter().any(|finished| finished.verdict.is_hold());
    let paid = batch.answered.iter().filter(|_| !is_held);
    for answered in paid.clone() {
        debts.answer(answered)?;
    }
    books.settle_rest(paid.filter_map(|paid| Some((paid.target.object_key()?, paid.by))), bad)?;
    let running = meta.crawl.running.then_some(meta.crawl.id);
    for scope in batch.newborn.iter().flat_map(|(object, _)| Scope::below(object)) {
        if books.is_only_born(&scope)? {
            debts.owe_once(Target::List(scope.clone()), When::Now, "new", batch.at)?;
        }
    }
    for scope in &batch.needed {
        if books.is_unread(scope, running)? {
            debts.owe_once(Target::List(scope.clone()), When::Now, "never read", batch.at)?;
        }
    }
    for (scope, kind) in batch.closed_gaps.iter().filter(|_| batch.is_followed) {
        // Whoever says in the same batch that the list is no longer owed reads what it hangs on instead.
        let is_settled =
            batch.answered.iter().any(|answered| matches!(&answered.target, Target::List(list) if list == scope));
        if !is_settled && books.waits_for_walk(scope, *kind, running)? {
            debts.owe_once(Target::List(scope.clone()), When::Now, "its gap waits for it", batch.at)?;
        }
    }
    let ends_crawl = matches!(batch.crawl, Some(CrawlMark::End { .. }));
    if batch.unread_is_lost {
        books.lose_unread(ends_crawl)?;
    }
    if ends_crawl {
        for scope in books.lost()? {
            debts.owe_once(Target::List(scope), When::Now, "not read since the log told of everything", batch.at)?;
        }
    }
    let coverage = std::mem::take(&mut books.coverage);
    if batch.is_followed {
        for returned in &batch.returned {
            for list in returned::passed_over(sql, returned)? {
                debts.owe(list, When::Now, "shown again", batch.members_since)?;
            }
        }
        for target in std::mem::take(&mut apply.orphans) {
            let when = if matches!(target, Target::List(_)) { When::Quiet } else { When::Now };
            debts.owe(target, when, "named or known, and not shown", batch.members_since)?;
        }
        for target in std::mem::take(&mut apply.ended) {
            debts.announce(&target)?;
        }
    }
    let (changed, apps_changed, lines) = (apply.changed, apply.apps_changed, apply.lines);
    make_revision(meta, revision, changed, apps_changed);
    put_log_position(sql, meta, batch)?;
    if ends_crawl {
        end_crawl(sql, meta, batch.now)?;
    }
    if has_purged {
        meta.purged = meta.revision;
        meta::put_integer(sql, "purged", as_i64(meta.purged.0))?;
        purge::note(sql, purge::SCRUB_LOG)?;
    }
    let owed = debts.owed.into_values().collect();
    Ok(Done { receipt: Receipt { revision: meta.revision, finished, owed }, coverage, lines, has_purged })
}

/// Groups of the batch that count as gone: those of which nothing is stored, and those that an app brought which is gone.
/// Their debts are told so.
fn forget_groups(apply: &mut Apply<'_>, debts: &mut Debts<'_>, batch: &Batch) -> Result<BTreeSet<Scope>, StoreError> {
    let mut forgotten = BTreeSet::new();
    for group in &batch.forgettable {
        let key = Key::Group(group.clone());
        let is_stored = apply.is_stored(&key)?;
        if is_stored && !apply.source_app_of(group)?.is_some_and(|app| batch.departed_apps.contains(&app)) {
            continue;
        }
        // What was read later says that it is there: then the gap is for others to close.
        if is_stored && apply.remove(&key)?.is_none() {
            continue;
        }
        let target = Target::Group(group.clone());
        debts.owe(target.clone(), When::Now, "its app is gone", batch.members_since)?;
        debts.announce(&target)?;
        forgotten.insert(Scope::Group(group.clone()));
    }
    Ok(forgotten)
}

/// Whether nothing is stored of any group of [`Batch::brought`], but of those that an app brought which is gone.
fn are_gone_with_apps(apply: &mut Apply<'_>, batch: &Batch) -> Result<bool, StoreError> {
    for group in &batch.brought {
        let is_stored = apply.is_stored(&Key::Group(group.clone()))?;
        if is_stored && !apply.source_app_of(group)?.is_some_and(|app| batch.departed_apps.contains(&app)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Rows and removals; returns what the batch shows of the scopes whose walks it moves, and which of its rows were not taken over.
fn apply_rows(
    apply: &mut Apply<'_>,
    sieve: &Sieve,
    batch: &Batch,
    leavings: &mut Leavings,
) -> Result<(BTreeMap<Scope, Shown>, BTreeSet<usize>), StoreError> {
    let mut untaken = BTreeSet::new();
    let mut shown: BTreeMap<Scope, Shown> =
        batch.walks.iter().map(|update| (update.scope.clone(), Shown::default())).collect();
    apply.unwanted_apps = batch.unwanted_apps.iter().cloned().collect();
    for key in &batch.removals {
        apply.remove(key)?;
        if !shown.is_empty()
            && let Some(shown) = shown.get_mut(&key.scope())
        {
            shown.records += 1;
        }
    }
    let unwanted_apps = sieve.before_rows(apply, batch)?;
    if let Some(shown) = shown.get_mut(&Scope::Apps) {
        shown.dropped = unwanted_apps;
    }
    let is_idle = sieve.is_idle();
    for (place, row) in batch.rows.iter().enumerate() {
        let sifted = if is_idle { Sifted::Put(apply.put(row)?) } else { sieve.sift(apply, row, leavings)? };
        if matches!(sifted, Sifted::Undecided | Sifted::Put(Put::Older(_))) {
            untaken.insert(place);
        }
        if shown.is_empty() {
            continue;
        }
        let Some(shown) = shown.get_mut(&row.key().scope()) else { continue };
        shown.records += 1;
        let put = match sifted {
            Sifted::Put(put) => put,
            Sifted::Dropped(n) => {
                shown.dropped.extend(u32::try_from(n));
                continue;
            }
            Sifted::Undecided => continue,
        };
        if let Put::Unchanged(n) | Put::Older(n) | Put::Changed(n) = put
            && let Ok(n) = u32::try_from(n)
        {
            shown.seen.insert(n);
        }
    }
    Ok((shown, untaken))
}

/// Bad records, walks and gaps; returns what became of the walks that ended.
fn keep_books(
    books: &mut Books<'_, '_>,
    batch: &Batch,
    shown: &BTreeMap<Scope, Shown>,
    forgotten: &BTreeSet<Scope>,
) -> Result<Vec<Finished>, StoreError> {
    books.close_gaps_of_shown()?;
    for record in &batch.quarantined {
        books.quarantine(record)?;
    }
    for (object, created) in &batch.newborn {
        books.born(object, *created)?;
    }
    let mut finished = Vec::new();
    let nothing = Shown::default();
    for update in &batch.walks {
        if update.state == WalkState::Released && !batch.brought.is_empty() {
            if are_gone_with_apps(books.apply, batch)? {
                finished.extend(books.release_brought(&update.scope, &batch.departed_apps)?);
            }
            continue;
        }
        finished.extend(books.walk(update, shown.get(&update.scope).unwrap_or(&nothing))?);
    }
    if batch.observed_through.is_some() {
        books.close_gap(&Scope::Log, GapKind::Stale)?;
    }
    for gap in batch.gaps.iter().filter(|gap| !forgotten.contains(&gap.scope)) {
        books.open_gap(gap)?;
    }
    for (scope, kind) in &batch.closed_gaps {
        books.close_gap_by_read(scope, *kind)?;
    }
    Ok(finished)
}

fn make_revision(meta: &mut Meta, revision: Revision, changed: bool, apps_changed: bool) {
    if changed {
        meta.revision = revision;
        if apps_changed {
            meta.apps_revision = revision;
        }
    }
}

/// What the batch expects; nothing is written yet.
fn check(meta: &Meta, batch: &Batch) -> Result<(), StoreError> {
    let mismatch = |detail| Err(StoreError::Mismatch { detail });
    match &batch.crawl {
        Some(CrawlMark::Begin { id, .. }) if *id <= meta.crawl.id => {
            return mismatch(format!("crawl {} is to begin, but crawl {} has begun already", id.0, meta.crawl.id.0));
        }
        Some(CrawlMark::End { id }) if !meta.crawl.running || *id != meta.crawl.id => {
            return mismatch(format!("crawl {} is to end, but it is not running", id.0));
        }
        _ => {}
    }
    if let Some(CursorMove::Advance { expect, .. }) = &batch.cursor
        && meta.cursor.as_ref() != Some(expect)
    {
        let stored = meta.cursor.as_ref().map_or("none", |cursor| cursor.0.as_str());
        return mismatch(format!("the log is to be followed from {}, but the stored position is {stored}", expect.0));
    }
    Ok(())
}

fn begin_crawl(sql: &Connection, meta: &mut Meta, batch: &Batch) -> Result<(), StoreError> {
    let Some(CrawlMark::Begin { id, fingerprint }) = &batch.crawl else { return Ok(()) };
    // What a held walk has shown is kept until the scope's next walk begins: it can be released until then.
    sql.execute("DELETE FROM walk_seen WHERE scope NOT IN (SELECT scope FROM scopes WHERE state = ?1)", [HELD])?;
    sql.execute("UPDATE scopes SET state = 'idle', next = NULL WHERE state IN ('todo', 'walking')", ())?;
    meta::put_integer(sql, "crawl_id", as_i64(id.0))?;
    meta::put_integer(sql, "crawl_running", 1)?;
    meta::put_integer(sql, "crawl_started_at", batch.now.as_millis())?;
    let began = if batch.okta_now == Timestamp::default() { batch.now } else { batch.okta_now };
    meta::put_integer(sql, "crawl_began", began.as_millis())?;
    meta.crawl.began = Some(began);
    meta::put_text(sql, "crawl_fingerprint", fingerprint)?;
    // It reads everything that a wider filter wants.
    sql.execute("DELETE FROM meta WHERE name = 'widened'", ())?;
    meta.is_widened = false;
    meta.crawl.id = *id;
    meta.crawl.running = true;
    meta.crawl.started_at = Some(batch.now);
    meta.crawl.fingerprint.clone_from(fingerprint);
    Ok(())
}

/// The log position, up to when the log was followed, and the delta walks: no revision by themselves.
fn put_log_position(sql: &Connection, meta: &mut Meta, batch: &Batch) -> Result<(), StoreError> {
    let mut observed_through = batch.observed_through;
    let cursor = match &batch.cursor {
        Some(CursorMove::Anchor(cursor)) => {
            // A caller that does not know Okta's clock has only its own.
            let okta_now = if batch.okta_now == Timestamp::default() { batch.now } else { batch.okta_now };
            observed_through = observed_through.or(Some(okta_now));
            Some(cursor)
        }
        Some(CursorMove::Open { next, at }) => {
            meta::put_integer(sql, "log_opened_at", at.as_millis())?;
            meta.opened_at = Some(*at);
            Some(next)
        }
        Some(CursorMove::Advance { next, .. }) => Some(next),
        None => None,
    };
    if let Some(cursor) = cursor
        && meta.cursor.as_ref() != Some(cursor)
    {
        meta::put_text(sql, "log_cursor", &cursor.0)?;
        meta.cursor = Some(cursor.clone());
    }
    if let Some(through) = observed_through {
        meta::put_integer(sql, "observed_through", through.as_millis())?;
        meta.observed_through = Some(through);
        // A caller that does not know Okta's clock takes its own for it.
        let okta_now = if batch.okta_now == Timestamp::default() { batch.now } else { batch.okta_now };
        let by_our_clock = batch.now.plus_millis(-okta_now.millis_since(through));
        meta::put_integer(sql, "observed_by_our_clock", by_our_clock.as_millis())?;
        meta.observed_by_our_clock = Some(by_our_clock);
        if meta.opened_at.take().is_some() {
            meta::forget(sql, "log_opened_at")?;
        }
    }
    for (delta, began) in &batch.deltas {
        meta::put_integer(sql, meta::delta_name(*delta), began.as_millis())?;
        meta.deltas.insert(*delta, *began);
    }
    Ok(())
}

fn end_crawl(sql: &Connection, meta: &mut Meta, now: Timestamp) -> Result<(), StoreError> {
    meta::put_integer(sql, "crawl_running", 0)?;
    meta::put_integer(sql, "crawl_completed_at", now.as_millis())?;
    if let Some(began) = meta.crawl.began {
        meta::put_integer(sql, "crawl_whole_since", began.as_millis())?;
        meta.crawl.whole_since = Some(began);
    }
    meta.crawl.running = false;
    meta.crawl.completed_at = Some(now);
    let oldest = now.plus_millis(-HISTORY_DAYS * 86_400_000).as_millis();
    sql.execute("DELETE FROM account_history WHERE released_at < ?1", params![oldest])?;
    gaps::forget_old(sql, now)
}

/// An operator's order to release a hold.
#[derive(Clone, Debug)]
pub(super) struct Release {
    pub(super) scope: Scope,
    pub(super) expected_missing: u64,
    pub(super) now: Timestamp,
}

/// What became of a [`Release`].
pub(super) enum Released {
    Refused(ReleaseError),
    Done(Done, Finished),
}

/// Carries out an operator's order within the transaction. A refusal is found before anything is written.
pub(super) fn release(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    order: &Release,
) -> Result<Released, StoreError> {
    let missing = match order.scope.object() {
        // One object that is not shown: the release is about it and nothing else.
        Some(_) if gaps::absent(sql)?.contains(&order.scope) => 1,
        Some(_) => return Ok(Released::Refused(ReleaseError::NotHeld)),
        None => match missing::held(sql, &order.scope)? {
            Some(missing) => missing.rows.len() as u64,
            None => return Ok(Released::Refused(ReleaseError::NotHeld)),
        },
    };
    if missing != order.expected_missing {
        return Ok(Released::Refused(ReleaseError::Changed { missing }));
    }
    with_books(sql, memory, meta, order.now, |books| books.release(&order.scope)).map(|(done, finished)| match finished
    {
        Some(finished) => {
            let receipt = Receipt { finished: vec![finished.clone()], ..done.receipt };
            Released::Done(Done { receipt, ..done }, finished)
        }
        None => Released::Refused(ReleaseError::NotHeld),
    })
}

/// Notes what has grown too old, within the transaction.
pub(super) fn age(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    now: Timestamp,
    limits: Ages,
) -> Result<Done, StoreError> {
    let through = meta.observed_by_our_clock;
    with_books(sql, memory, meta, now, |books| books.age(limits, through)).map(|(done, ())| done)
}

/// A change of the books that comes with no batch.
pub(super) fn with_books<T>(
    sql: &Connection,
    memory: &mut Memory,
    meta: &mut Meta,
    now: Timestamp,
    change: impl FnOnce(&mut Books<'_, '_>) -> Result<T, StoreError>,
) -> Result<(Done, T), StoreError> {
    let revision = Revision(meta.revision.0 + 1);
    let at = (RequestNumber::default(), now);
    let held = (&mut memory.ids, &mut memory.guard, &mut memory.object_gaps, &mut memory.touched);
    let mut apply = apply_for(sql, held, revision, at, &mut meta.rows);
    let mut books = Books {
        apply: &mut apply,
        crawl: meta.crawl.id,
        okta_now: Timestamp::default(),
        credential: &memory.credential,
        brake: memory.brake,
        asks_for_missing: false,
        found: &[],
        coverage: Vec::new(),
    };
    let outcome = change(&mut books)?;
    let scopes = books.scopes_with_unread()?;
    books.settle_removed(&scopes)?;
    let coverage = std::mem::take(&mut books.coverage);
    let (changed, apps_changed, lines) = (apply.changed, apply.apps_changed, apply.lines);
    make_revision(meta, revision, changed, apps_changed);
    let receipt = Receipt { revision: meta.revision, finished: Vec::new(), owed: Vec::new() };
    Ok((Done { receipt, coverage, lines, has_purged: false }, outcome))
}
