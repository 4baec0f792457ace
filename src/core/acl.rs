//! Access lists: what becomes of an entry, what is indexed with the document, and what a person may see.
//!
//! Entry points: [`Verdict::of_account`], [`decide_group`], [`index`] for documents; [`expand`] for people.
//!
//! | the entry ends in | then |
//! |---|---|
//! | `RESOLVED` | its principal; by a name while a gap is open that could hide another holder, the document is not safe to index |
//! | `INACTIVE`, `FILTERED`, `NOT_FOUND`, and no gap could change that | it grants nobody |
//! | any other outcome, one of these while a gap is open, an error | doubt: no principal, and the document is not safe to index |
//!
//! The law, checked against an oracle by `tests/resolve_oracle.rs`: a document and a person have a principal in common
//! exactly if an account of the document's list resolves to that person, or the person is active in one of its groups.
//!
//! Invariants:
//! - Only `RESOLVED` gives a principal.
//! - A person whose status does not grant has no principal but [`Principal::MatchNothing`].
//! - Neither list is ever empty.

use super::ids::{AppId, GroupId, UserId};
use super::model::{App, AppStatus, AppUserStatus, Group, User};
use super::policy::GrantPolicy;
use super::principal::{Encoder, Principal};
use super::resolve::{Outcome, Resolution};

/// What an entry of an access list grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This person.
    User(UserId),
    /// Those who are active in the group and in the app.
    AppGroup {
        /// The app of the document.
        app: AppId,
        /// The group.
        group: GroupId,
    },
    /// Nobody, for sure.
    Nobody,
    /// Nobody that is known: it may be more.
    Doubt,
}

impl Verdict {
    /// What an account grants; `is_complete` is whether no gap could change the outcome.
    pub fn of_account(resolution: &Resolution<'_>, is_complete: bool) -> Self {
        if let Some(user) = resolution.granted_user() {
            return Self::User(user.clone());
        }
        match resolution.outcome {
            Outcome::Inactive { .. } | Outcome::Filtered | Outcome::NotFound => Self::unless_doubtful(is_complete),
            Outcome::Resolved(_)
            | Outcome::Ambiguous(_)
            | Outcome::Shared { .. }
            | Outcome::Reused { .. }
            | Outcome::UnknownGap { .. }
            | Outcome::UnknownApp
            | Outcome::AmbiguousApp { .. } => Self::Doubt,
        }
    }

    /// What a group of an app grants; `is_complete` as for accounts.
    pub fn of_group(app: &App, outcome: GroupOutcome<'_>, is_complete: bool) -> Self {
        match outcome {
            GroupOutcome::Resolved(group) => Self::AppGroup { app: app.id.clone(), group: group.id.clone() },
            GroupOutcome::Inactive(_) | GroupOutcome::Filtered | GroupOutcome::NotFound => {
                Self::unless_doubtful(is_complete)
            }
            GroupOutcome::Ambiguous | GroupOutcome::Shared | GroupOutcome::UnknownGap => Self::Doubt,
        }
    }

    const fn unless_doubtful(is_complete: bool) -> Self {
        if is_complete { Self::Nobody } else { Self::Doubt }
    }

    /// The principal, of those who grant somebody.
    pub const fn principal(&self) -> Option<Principal<'_>> {
        match self {
            Self::User(user) => Some(Principal::User(user)),
            Self::AppGroup { app, group } => Some(Principal::AppGroup { app, group }),
            Self::Nobody | Self::Doubt => None,
        }
    }
}

/// Which group of an app an entry means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupOutcome<'a> {
    /// This one, and the app grants.
    Resolved(&'a Group),
    /// Several groups of the app have the name.
    Ambiguous,
    /// Everybody has the same account in the app.
    Shared,
    /// This one, but the app is not active.
    Inactive(&'a Group),
    /// None that is kept: the filter excludes it.
    Filtered,
    /// None, and everything that could hold it was read.
    NotFound,
    /// None that is known for sure.
    UnknownGap,
}

/// What is known of the group that an entry names.
#[derive(Clone, Copy, Debug)]
pub struct GroupInput<'a> {
    /// The app of the document.
    pub app: &'a App,
    /// Groups with that id or name that are assigned to the app or imported from it: all, or at least two.
    pub groups: &'a [Group],
    /// Whether one of them rests on rows that the policy keeps back.
    pub is_withheld: bool,
    /// Whether the id is known to be kept out by the filter.
    pub is_filtered: bool,
    /// Whether no gap could hide such a group.
    pub is_complete: bool,
    /// What grants.
    pub policy: &'a GrantPolicy,
}

/// Decides which group is meant.
pub fn decide_group<'a>(input: &GroupInput<'a>) -> GroupOutcome<'a> {
    match input.groups {
        _ if input.app.is_shared_account() => GroupOutcome::Shared,
        [_, _, ..] => GroupOutcome::Ambiguous,
        [_] if input.is_withheld => GroupOutcome::UnknownGap,
        [group] if !input.policy.app_grants(&input.app.status) => GroupOutcome::Inactive(group),
        [group] => GroupOutcome::Resolved(group),
        [] if input.is_filtered => GroupOutcome::Filtered,
        [] if !input.is_complete => GroupOutcome::UnknownGap,
        [] => GroupOutcome::NotFound,
    }
}

/// What to index with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indexed {
    /// Sorted, without repetitions, never empty.
    pub principals: Vec<String>,
    /// Whether nobody is granted, so that the deny-all principal stands alone.
    pub deny_all: bool,
    /// Whether no entry is in doubt, and no name could be that of somebody else as well.
    pub safe_to_index: bool,
}

/// Makes a document's principals of the verdicts on its entries. `is_sure`: no name among those that were resolved could,
/// behind an open gap, have another holder.
pub fn index(encoder: &Encoder, verdicts: &[Verdict], is_sure: bool) -> Indexed {
    let mut principals: Vec<String> =
        verdicts.iter().filter_map(Verdict::principal).map(|principal| encoder.encode(principal)).collect();
    principals.sort_unstable();
    principals.dedup();
    let deny_all = principals.is_empty();
    if deny_all {
        principals.push(encoder.encode(Principal::DenyAll));
    }
    Indexed { principals, deny_all, safe_to_index: is_sure && !verdicts.contains(&Verdict::Doubt) }
}

/// A group that a user is in, in an app that the user has: the group is assigned to that app or imported from it.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The app.
    pub app: &'a AppId,
    /// Its status.
    pub app_status: &'a AppStatus,
    /// Whether everybody has the same account in it: then neither that account nor a group says who anybody is.
    pub is_shared: bool,
    /// Status of the user's account there.
    pub app_user_status: &'a AppUserStatus,
    /// The group.
    pub group: &'a GroupId,
}

/// What to filter a person's queries by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// Sorted, without repetitions, never empty.
    pub principals: Vec<String>,
    /// Whether the person may see nothing, so that the match-nothing principal stands alone.
    pub match_nothing: bool,
}

/// Makes the principals of a user; `None` is one who is not known, or not for sure.
pub fn expand(encoder: &Encoder, user: Option<&User>, ways: &[Way<'_>], policy: &GrantPolicy) -> Expanded {
    let Some(user) = user.filter(|user| policy.user_grants(&user.status)) else {
        return Expanded { principals: vec![encoder.encode(Principal::MatchNothing)], match_nothing: true };
    };
    let is_active = |way: &&Way<'_>| {
        !way.is_shared && policy.app_grants(way.app_status) && policy.app_user_grants(way.app_user_status)
    };
    let groups = ways.iter().filter(is_active).map(|way| Principal::AppGroup { app: way.app, group: way.group });
    let principals = groups.chain([Principal::User(&user.id)]);
    let mut principals: Vec<String> = principals.map(|principal| encoder.encode(principal)).collect();
    principals.sort_unstable();
    principals.dedup();
    Expanded { principals, match_nothing: false }
}

#[cfg(test)]
mod tests;
