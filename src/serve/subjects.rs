//! What a request is about: the user, app or group that it selects, or why there is not exactly one.
//!
//! Entry points: [`UserQuery::read`] and [`find_user`], [`find_app`], [`find_group`].
//!
//! Invariants:
//! - `NOT_FOUND` is said only without gaps; with one it is `UNKNOWN_GAP`.
//! - A subject is shown exactly when it is `FOUND`.

use okta_idmap_proto::limits::GAP_IDS_MAX;
use okta_idmap_proto::v1::{self, SubjectOutcome, user_selector::Selector};

use super::apps::AppQuery;
use super::ask::Ask;
use super::door;
use super::errors::Failure;
use super::facts::Facts;
use super::gaps::Gaps;
use super::resolution::{AccountQuery, Wanted, resolve_by_facts};
use super::rows::Shower;
use super::withhold::Withholds as _;
use crate::core::ids::{GroupId, UserId};
use crate::core::model::{App, Group, Scope, User};
use crate::core::normalize::{Identifier, NameRule};
use crate::core::resolve::{AppSelection, CANDIDATES_MAX, NameField};

/// A user selector that has passed the door.
#[derive(Clone, Debug)]
pub(super) enum UserQuery<'a> {
    /// Okta's id.
    Id(UserId),
    /// The login.
    Login(Identifier<'a>),
    /// An account.
    Account(AccountQuery<'a>),
}

impl<'a> UserQuery<'a> {
    pub(super) fn read(selector: Option<&'a v1::UserSelector>) -> Result<Self, Failure> {
        match selector.and_then(|selector| selector.selector.as_ref()) {
            None => Err(Failure::FieldMissing { field: "user" }),
            Some(Selector::UserId(id)) => Ok(Self::Id(door::user_id("user.user_id", id)?)),
            Some(Selector::Login(login)) => Ok(Self::Login(door::identifier("user.login", login)?)),
            Some(Selector::Account(account)) => {
                let account = AccountQuery::read(Some(account)).map_err(|failure| failure.within("user"))?;
                Ok(Self::Account(account))
            }
        }
    }
}

/// The user that a request is about.
pub(super) struct SelectedUser {
    pub(super) outcome: SubjectOutcome,
    /// Known also where the outcome is `UNKNOWN_GAP`, when rows name a user whom no list shows.
    pub(super) id: Option<UserId>,
    pub(super) user: Option<User>,
    resolution: Option<v1::Resolution>,
    /// The gaps of the selection.
    pub(super) gaps: Gaps,
}

impl SelectedUser {
    /// What the answer says about it.
    pub(super) fn to_proto<F: Facts>(&self, shower: &Shower<'_, F>) -> v1::UserSubject {
        v1::UserSubject {
            outcome: self.outcome.into(),
            user: self.user.as_ref().map(|user| shower.user(user)),
            resolution: self.resolution.clone(),
        }
    }
}

/// Finds the user.
pub(super) fn find_user<F: Facts>(ask: &F, query: &UserQuery<'_>) -> Result<SelectedUser, F::Error> {
    match query {
        UserQuery::Id(id) => by_id(ask, id),
        UserQuery::Login(login) => by_login(ask, *login),
        UserQuery::Account(account) => by_account(ask, account),
    }
}

/// `NOT_FOUND` is a claim.
fn absent(gaps: &Gaps) -> SubjectOutcome {
    if gaps.is_empty() { SubjectOutcome::NotFound } else { SubjectOutcome::UnknownGap }
}

fn by_id<F: Facts>(ask: &F, id: &UserId) -> Result<SelectedUser, F::Error> {
    let mut gaps = ask.gaps_of_known(&[Scope::Users, Scope::User(id.clone())]);
    let shown = ask.user(id)?;
    // Somebody who is stored is not filtered.
    let is_stored = shown.is_some();
    let user = shown.filter(|user| !ask.withholds_user(&user.id));
    let mut known_id = user.is_some().then(|| id.clone());
    if user.is_none() && ask.is_named(id)? {
        // Whoever is stored was seen: the gaps of the rows say why they are kept back.
        if !is_stored {
            gaps.add_unseen_user(id);
        }
        known_id = Some(id.clone());
    }
    let outcome = match &user {
        Some(_) => SubjectOutcome::Found,
        None if !is_stored && ask.is_filtered_user(id)? => SubjectOutcome::Filtered,
        None => absent(&gaps),
    };
    Ok(SelectedUser { outcome, id: known_id, user, resolution: None, gaps })
}

fn by_login<F: Facts>(ask: &F, login: Identifier<'_>) -> Result<SelectedUser, F::Error> {
    let mut gaps = ask.gaps(&[Scope::Users]);
    let hits = ask.users_with_key(login.lookup_key(), CANDIDATES_MAX + 1)?;
    let is_too_many = hits.len() > CANDIDATES_MAX;
    let is_login = |user: &User| {
        let held = user.login.as_deref().and_then(|held| Identifier::new(held).ok());
        held.is_some_and(|held| login.is_same(held, NameRule::Default))
    };
    let mut users: Vec<User> = hits.into_iter().filter(is_login).collect();
    let is_withheld = users.iter().any(|user| ask.withholds_user(&user.id));
    let (outcome, user) = match users.len() {
        _ if is_too_many => (SubjectOutcome::NotUnique, None),
        1 if is_withheld => (SubjectOutcome::UnknownGap, None),
        0 if ask.is_filtered_name(None, login, &[(NameField::Login, NameRule::Default)])? => {
            (SubjectOutcome::Filtered, None)
        }
        0 => (absent(&gaps), None),
        1 => (SubjectOutcome::Found, users.pop()),
        _ => (SubjectOutcome::NotUnique, None),
    };
    let id = user.as_ref().map(|user| user.id.clone());
    if let Some(id) = &id {
        gaps.merge(ask.gaps_of_known(&[Scope::User(id.clone())]));
    }
    Ok(SelectedUser { outcome, id, user, resolution: None, gaps })
}

fn by_account<F: Facts>(ask: &F, account: &AccountQuery<'_>) -> Result<SelectedUser, F::Error> {
    let wanted = Wanted { gap_ids_max: GAP_IDS_MAX, ..Wanted::default() };
    let resolved = resolve_by_facts(ask, account, wanted)?;
    let id = resolved.user;
    let user = id.as_ref().map(|id| ask.user(id)).transpose()?.flatten();
    use v1::ResolutionOutcome as Resolution;
    let outcome = match resolved.resolution.outcome() {
        Resolution::Resolved | Resolution::Inactive if user.is_some() => SubjectOutcome::Found,
        Resolution::Filtered => SubjectOutcome::Filtered,
        Resolution::Ambiguous | Resolution::Shared | Resolution::Reused | Resolution::AmbiguousApp => {
            SubjectOutcome::NotUnique
        }
        Resolution::Resolved
        | Resolution::Inactive
        | Resolution::NotFound
        | Resolution::UnknownGap
        | Resolution::UnknownApp
        | Resolution::Unspecified => absent(&resolved.gaps),
    };
    Ok(SelectedUser { outcome, id, user, resolution: Some(resolved.resolution), gaps: resolved.gaps })
}

/// The app that a request is about, and the gaps of the selection.
pub(super) fn find_app<'a>(
    ask: &'a Ask<'_>,
    query: &AppQuery<'_>,
) -> Result<(SubjectOutcome, Option<&'a App>, Gaps), Failure> {
    // A label or name may be that of an app that is not shown as well; an id is not.
    let selection = query.select(ask.apps()?);
    let gaps = match &selection {
        AppSelection::One(app) if query.is_id_of(app) => ask.gaps_of_known(&[Scope::Apps, Scope::App(app.id.clone())]),
        _ => ask.gaps(&[Scope::Apps]),
    };
    Ok(match selection {
        AppSelection::One(app) if ask.withholds_app(&app.id) => (SubjectOutcome::UnknownGap, None, gaps),
        AppSelection::One(app) => (SubjectOutcome::Found, Some(app), gaps),
        AppSelection::None => (absent(&gaps), None, gaps),
        AppSelection::Many(_) => (SubjectOutcome::NotUnique, None, gaps),
    })
}

/// What the answer says about the app.
pub(super) fn app_subject(outcome: SubjectOutcome, app: Option<&App>, shower: &Shower<'_, Ask<'_>>) -> v1::AppSubject {
    v1::AppSubject { outcome: outcome.into(), app: app.map(|app| shower.app(app)) }
}

/// The group that a request is about, and the gaps of the selection.
pub(super) fn find_group(ask: &Ask<'_>, id: &GroupId) -> Result<(SubjectOutcome, Option<Group>, Gaps), Failure> {
    let gaps = ask.gaps_of_known(&[Scope::Groups, Scope::Group(id.clone())]);
    let group = ask.snapshot.group(id)?.filter(|group| !ask.withholds_group(&group.id));
    let outcome = match &group {
        Some(_) => SubjectOutcome::Found,
        None if ask.snapshot.is_filtered_group(id)? => SubjectOutcome::Filtered,
        None => absent(&gaps),
    };
    Ok((outcome, group, gaps))
}

/// What the answer says about the group.
pub(super) fn group_subject(
    outcome: SubjectOutcome,
    group: Option<&Group>,
    shower: &Shower<'_, Ask<'_>>,
) -> v1::GroupSubject {
    v1::GroupSubject { outcome: outcome.into(), group: group.map(|group| shower.group(group)) }
}

/// The collection that shows the members of a group: `Everyone` is derived from the users (facts 3).
pub(super) fn members_scope(group: &Group) -> Scope {
    if group.is_everyone() { Scope::Users } else { Scope::GroupMembers(group.id.clone()) }
}

/// `Lookup.GetUser`.
pub(super) fn get_user(ask: &Ask<'_>, request: &v1::GetUserRequest) -> Result<v1::GetUserResponse, Failure> {
    let query = UserQuery::read(request.user.as_ref())?;
    let selected = find_user(ask, &query)?;
    let user = selected.to_proto(&Shower::new(ask));
    Ok(v1::GetUserResponse { meta: Some(ask.meta(&selected.gaps)), user: Some(user) })
}
