//! Membership events into rows, within the writer's transaction.
//!
//! Entry point: [`apply_members`]. [`crate::core::membership::decide`] says what an event may do; where that is not to
//! apply it, or the store knows something later, the members are owed a read.

use rusqlite::{OptionalExtension as _, params};

use super::StoreError;
use super::apply::{Apply, N, Put};
use super::debts::Debts;
use super::filtered::{Leavings, Sieve};
use crate::core::batch::Batch;
use crate::core::event::MemberChange;
use crate::core::ids::{RequestNumber, Timestamp};
use crate::core::membership::{Applied, CLOCK_MARGIN_MILLIS, Decision, WalkWindow, decide};
use crate::core::model::{GroupMember, Key, Kind, Row, Scope};
use crate::core::pending::{Target, When};

/// What the books say about a group's members.
struct Members {
    is_complete: bool,
    window: Option<WalkWindow>,
}

/// Applies the membership events of a batch, and owes the reads that they oblige to.
pub(super) fn apply_members(
    apply: &mut Apply<'_>,
    (sieve, leavings): (&Sieve, &mut Leavings),
    debts: &mut Debts<'_>,
    batch: &Batch,
) -> Result<(), StoreError> {
    let is_reread = std::mem::replace(&mut apply.is_reread, true);
    for change in &batch.members {
        if !sieve.is_idle() && change.added && sieve.skips_member(apply, &change.group, &change.user, leavings)? {
            continue;
        }
        member_event(apply, debts, change, batch.members_since)?;
    }
    apply.is_reread = is_reread;
    Ok(())
}

fn member_event(
    apply: &mut Apply<'_>,
    debts: &mut Debts<'_>,
    change: &MemberChange,
    since: RequestNumber,
) -> Result<(), StoreError> {
    let group = apply.find(Kind::Group, change.group.as_str())?;
    let is_everyone = match group {
        Some(n) => group_is_everyone(apply, n)?,
        None => None,
    };
    if is_everyone == Some(true) {
        return Ok(()); // Its members are the users.
    }
    if is_everyone.is_none() {
        debts.owe(Target::Group(change.group.clone()), When::Now, "member of an unknown group", since)?;
    }
    let scope = Scope::GroupMembers(change.group.clone());
    if apply.gone.contains(&scope) {
        return Ok(()); // The group was removed by this very batch, and what is known of its members with it.
    }
    // Not in the books: the settings do not want the members of this group.
    let Some(members) = members_of(apply, &scope)? else { return Ok(()) };
    let owe_members = |debts: &mut Debts<'_>, when, cause| debts.owe(Target::List(scope.clone()), when, cause, since);
    // A group that is not stored may be the one of all users: nothing is applied to it.
    if members.is_complete && is_everyone.is_some() {
        let known = mark_of(apply, change)?;
        let decision = decide(change.added, change.published, members.window, known);
        let (is_applied, is_read) = match decision {
            Decision::Ignore => return Ok(()),
            Decision::Apply => (true, false),
            Decision::ApplyAndRead => (true, true),
            Decision::Read => (false, true),
        };
        // What the store refuses because a later request has shown the row may still be older than the event.
        let is_refused = is_applied && !put_member(apply, change)?;
        if is_read || is_refused {
            owe_members(debts, When::Quiet, "membership order")?;
        }
    } else {
        owe_members(debts, When::Now, "never read")?;
    }
    if change.added && !apply.is_stored(&Key::User(change.user.clone()))? {
        debts.owe(Target::User(change.user.clone()), When::Now, "unknown member", since)?;
    }
    Ok(())
}

/// Whether the group is the built-in one of all users; `None` when no such group is stored.
fn group_is_everyone(apply: &Apply<'_>, n: N) -> Result<Option<bool>, StoreError> {
    let mut select =
        apply.sql.prepare_cached("SELECT group_type = 'BUILT_IN' AND name = 'Everyone' FROM groups WHERE n = ?1")?;
    Ok(select.query_row([n], |row| row.get(0)).optional()?)
}

fn members_of(apply: &Apply<'_>, scope: &Scope) -> Result<Option<Members>, StoreError> {
    let mut select = apply.sql.prepare_cached("SELECT completed_at, began, ended FROM scopes WHERE scope = ?1")?;
    let members = select.query_row([scope.name()], |row| {
        let time = |index| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(index)?.map(Timestamp::from_millis));
        let window = match (time(1)?, time(2)?) {
            (Some(began), Some(ended)) => Some(WalkWindow { began, ended }),
            _ => None,
        };
        Ok(Members { is_complete: time(0)?.is_some(), window })
    });
    Ok(members.optional()?)
}

fn mark_of(apply: &Apply<'_>, change: &MemberChange) -> Result<Option<Applied>, StoreError> {
    let pair = (apply.find(Kind::Group, change.group.as_str())?, apply.find(Kind::User, change.user.as_str())?);
    let (Some(group), Some(user)) = pair else { return Ok(None) };
    let mut select =
        apply.sql.prepare_cached("SELECT published, added FROM member_marks WHERE grp = ?1 AND user = ?2")?;
    let mark = select.query_row([group, user], |row| {
        Ok(Applied { published: Timestamp::from_millis(row.get(0)?), added: row.get(1)? })
    });
    Ok(mark.optional()?)
}

/// Writes the row, or removes it, and notes the event; `false` when something later is known about the row.
fn put_member(apply: &mut Apply<'_>, change: &MemberChange) -> Result<bool, StoreError> {
    let Some(published) = change.published else { return Ok(false) };
    let member = GroupMember { group: change.group.clone(), user: change.user.clone() };
    let is_done = if change.added {
        !matches!(apply.put(&Row::GroupMember(member))?, Put::Older(_))
    } else {
        apply.remove(&Key::GroupMember(member.group, member.user))?.is_some()
    };
    if is_done {
        let (group, user) = (apply.group_n(&change.group)?, apply.user_n(&change.user)?);
        let mut put = apply
            .sql
            .prepare_cached("REPLACE INTO member_marks(grp, user, published, added) VALUES (?1, ?2, ?3, ?4)")?;
        put.execute(params![group, user, published.as_millis(), change.added])?;
    }
    Ok(is_done)
}

/// Forgets the events that a walk which began at `began` has seen for sure: it decides alone.
pub(super) fn forget_marks(apply: &Apply<'_>, scope: &Scope, began: Timestamp) -> Result<(), StoreError> {
    let Scope::GroupMembers(group) = scope else { return Ok(()) };
    let Some(group) = apply.find(Kind::Group, group.as_str())? else { return Ok(()) };
    let oldest = began.plus_millis(-CLOCK_MARGIN_MILLIS).as_millis();
    let mut delete = apply.sql.prepare_cached("DELETE FROM member_marks WHERE grp = ?1 AND published < ?2")?;
    delete.execute([group, oldest])?;
    Ok(())
}
