//! Every question whose answer could deny a row. Entry point: [`about`].
//!
//! What must hold of each answer about a row that exists ([`Answer::verdict`]):
//! - Absence (not found, "no", unknown app, a list without it) is never said with `COMPLETE`.
//! - Not found and "no" are never said without it: what is not known is `UNKNOWN`.

use okta_idmap_proto::v1;
use v1::membership_question::Target;

use crate::client::{Client, Cover, account, app_by_id, app_by_label, by_id, by_login};
use crate::truth::{Key, Truth};

/// What an answer says of the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    /// It is there.
    Shown,
    /// A list or a search does not have it.
    Missing,
    /// It is not there: not found, no.
    Denied,
    /// The app that was named is not there.
    NoSuchApp,
    /// It cannot be told.
    Unknown,
}

/// One answer about a row.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) question: &'static str,
    pub(crate) says: Says,
    pub(crate) cover: Cover,
    /// What else it said, for people.
    pub(crate) detail: String,
}

impl Answer {
    fn new(question: &'static str, says: Says, cover: Cover) -> Self {
        Self { question, says, cover, detail: String::new() }
    }

    fn of_list(question: &'static str, outcome: v1::SubjectOutcome, has_it: bool, cover: Cover) -> Self {
        let says = match outcome {
            v1::SubjectOutcome::NotFound => Says::Denied,
            v1::SubjectOutcome::Found if has_it => Says::Shown,
            v1::SubjectOutcome::Found => Says::Missing,
            _ => Says::Unknown,
        };
        Self::new(question, says, cover)
    }

    fn of_resolution(question: &'static str, resolution: &v1::Resolution, user: &str, is_sole: bool) -> Self {
        use v1::ResolutionOutcome::{Ambiguous, Inactive, NotFound, Resolved, Reused, UnknownApp, UnknownGap};
        let is_complete = resolution.completeness() == v1::Completeness::Complete;
        let cover = Cover { is_complete, gap_ids: resolution.gap_ids.clone() };
        let named = resolution.user.as_ref().map_or("", |user| user.id.as_str());
        let says = match resolution.outcome() {
            // Somebody else under a name that only this user has: a wrong match, worse than none.
            Resolved | Inactive if named != user && is_sole => Says::Denied,
            Resolved | Inactive | Ambiguous | Reused => Says::Shown,
            NotFound => Says::Denied,
            UnknownApp => Says::NoSuchApp,
            UnknownGap => Says::Unknown,
            other => panic!("{question}: {other:?}"),
        };
        let detail = format!("{:?} {named}", resolution.outcome());
        Self { question, says, cover, detail }
    }

    /// What is wrong with it, given that the row exists.
    pub(crate) fn verdict(&self) -> Option<String> {
        let Self { question, says, cover, detail } = self;
        match says {
            Says::Missing | Says::Denied | Says::NoSuchApp if cover.is_complete => {
                Some(format!("{question} says {says:?} and COMPLETE {detail}"))
            }
            Says::Denied => {
                Some(format!("{question} says {says:?} although it is PARTIAL ({}) {detail}", cover.gap_ids.join(" ")))
            }
            Says::Unknown if cover.is_complete => Some(format!("{question} says {says:?} and COMPLETE {detail}")),
            _ => None,
        }
    }
}

fn of_membership(question: &'static str, membership: v1::Membership, cover: Cover) -> Answer {
    let says = match membership {
        v1::Membership::Yes => Says::Shown,
        v1::Membership::No => Says::Denied,
        _ => Says::Unknown,
    };
    Answer::new(question, says, cover)
}

fn of_subject(question: &'static str, outcome: v1::SubjectOutcome, cover: Cover) -> Answer {
    let says = match outcome {
        v1::SubjectOutcome::Found | v1::SubjectOutcome::NotUnique => Says::Shown,
        v1::SubjectOutcome::NotFound => Says::Denied,
        _ => Says::Unknown,
    };
    Answer::new(question, says, cover)
}

/// Asks everything that could deny the row.
pub(crate) async fn about(client: &mut Client, truth: &Truth, key: &Key) -> Vec<Answer> {
    match key {
        Key::User(user) => about_user(client, truth, user).await,
        Key::Group(group) => about_group(client, group).await,
        Key::App(app) => about_app(client, truth, app).await,
        Key::Member(group, user) => about_member(client, group, user).await,
        Key::AppUser(app, user) => about_app_user(client, truth, app, user).await,
        Key::AppGroup(app, group) => {
            let (outcome, groups, cover) = client.app_groups(app).await;
            vec![Answer::of_list("ListAppGroups", outcome, groups.contains(group), cover)]
        }
    }
}

async fn about_user(client: &mut Client, truth: &Truth, user: &str) -> Vec<Answer> {
    let known = &truth.users[user];
    let mut answers = Vec::new();
    let (outcome, cover) = client.user(by_id(user)).await;
    answers.push(of_subject("GetUser by id", outcome, cover));
    let (outcome, cover) = client.user(by_login(&known.login)).await;
    answers.push(of_subject("GetUser by login", outcome, cover));
    let (outcome, members, cover) = client.members(&truth.everyone).await;
    answers.push(Answer::of_list("ListGroupMembers of Everyone", outcome, members.contains(&user.to_owned()), cover));
    let target = Some(Target::GroupId(truth.everyone.clone()));
    let question = v1::MembershipQuestion { user: Some(by_id(user)), target };
    let (membership, cover) = client.membership(question).await;
    answers.push(of_membership("CheckAppMembership in Everyone", membership, cover));
    if let Some((ids, cover)) = client.search(&format!("kind:user id:{user}")).await {
        answers.push(Answer::of_list("Search", v1::SubjectOutcome::Found, ids.contains(&user.to_owned()), cover));
    }
    if let Some((ids, cover)) = client.suggest(&known.login).await {
        answers.push(Answer::of_list("Suggest", v1::SubjectOutcome::Found, ids.contains(&user.to_owned()), cover));
    }
    answers
}

async fn about_group(client: &mut Client, group: &str) -> Vec<Answer> {
    let (groups, cover) = client.groups().await;
    let listed = Answer::of_list("ListGroups", v1::SubjectOutcome::Found, groups.contains(&group.to_owned()), cover);
    let (outcome, _, cover) = client.members(group).await;
    let mut answers = vec![listed, of_subject("ListGroupMembers", outcome, cover)];
    if let Some((ids, cover)) = client.search(&format!("kind:group id:{group}")).await {
        answers.push(Answer::of_list("Search", v1::SubjectOutcome::Found, ids.contains(&group.to_owned()), cover));
    }
    answers
}

async fn about_app(client: &mut Client, truth: &Truth, app: &str) -> Vec<Answer> {
    let (apps, cover) = client.apps().await;
    let listed = Answer::of_list("ListApps", v1::SubjectOutcome::Found, apps.contains(&app.to_owned()), cover);
    let (outcome, _, cover) = client.app_users(app).await;
    let users = of_subject("ListAppUsers", outcome, cover);
    let (outcome, _, cover) = client.app_groups(app).await;
    let groups = of_subject("ListAppGroups", outcome, cover);
    let mut answers = vec![listed, users, groups];
    let nobody = |app| account(app, "nobody-at-all", v1::IdentifierKind::Unspecified);
    for (question, selector) in [("app by id", app_by_id(app)), ("app by label", app_by_label(&truth.apps[app].label))]
    {
        let (resolution, cover) = client.resolve(nobody(selector)).await;
        let says = match resolution.outcome() {
            v1::ResolutionOutcome::UnknownApp => Says::NoSuchApp,
            v1::ResolutionOutcome::UnknownGap => Says::Unknown,
            _ => Says::Shown,
        };
        answers.push(Answer::new(question, says, cover));
    }
    answers
}

async fn about_member(client: &mut Client, group: &str, user: &str) -> Vec<Answer> {
    let target = Some(Target::GroupId(group.to_owned()));
    let question = v1::MembershipQuestion { user: Some(by_id(user)), target };
    let (membership, cover) = client.membership(question).await;
    let checked = of_membership("CheckAppMembership in group", membership, cover);
    let (outcome, members, cover) = client.members(group).await;
    let listed = Answer::of_list("ListGroupMembers", outcome, members.contains(&user.to_owned()), cover);
    let (outcome, groups, cover) = client.groups_of(user).await;
    let of_user = Answer::of_list("ListUserGroups", outcome, groups.contains(&group.to_owned()), cover);
    vec![checked, listed, of_user]
}

async fn about_app_user(client: &mut Client, truth: &Truth, app: &str, user: &str) -> Vec<Answer> {
    let (row, known) = (&truth.app_users[&(app.to_owned(), user.to_owned())], &truth.apps[app]);
    let question = v1::MembershipQuestion { user: Some(by_id(user)), target: Some(Target::App(app_by_id(app))) };
    let (membership, cover) = client.membership(question).await;
    let mut answers = vec![of_membership("CheckAppMembership in app", membership, cover)];
    let (outcome, users, cover) = client.app_users(app).await;
    answers.push(Answer::of_list("ListAppUsers", outcome, users.contains(&user.to_owned()), cover));
    let (outcome, apps, cover) = client.accounts(user).await;
    answers.push(Answer::of_list("ListUserAccounts", outcome, apps.contains(&app.to_owned()), cover));
    // A shared account belongs to nobody: every name resolves to SHARED.
    if known.shared_user_name.is_some() || known.scheme == Some(okta_sim::org::Scheme::SharedUsernameAndPassword) {
        return answers;
    }
    let mut accounts = Vec::new();
    if let Some(name) = &row.user_name {
        let is_sole = truth.holders(app, name) == 1;
        accounts.push(("by user name", account(app_by_id(app), name, v1::IdentifierKind::UserName), is_sole));
        let sole_label = truth.apps.values().filter(|other| other.label == known.label).count() == 1;
        if sole_label {
            let selector = app_by_label(&known.label);
            accounts.push(("by label and name", account(selector, name, v1::IdentifierKind::Unspecified), is_sole));
        }
    }
    if let Some(external) = &row.external_id {
        accounts.push(("by external id", account(app_by_id(app), external, v1::IdentifierKind::ExternalId), true));
    }
    for (question, selector, is_sole) in &accounts {
        let (resolution, _) = client.resolve(selector.clone()).await;
        answers.push(Answer::of_resolution(question, &resolution, user, *is_sole));
    }
    let selectors: Vec<v1::AccountSelector> = accounts.iter().map(|(_, selector, _)| selector.clone()).collect();
    for (resolution, (_, _, is_sole)) in client.resolve_all(selectors).await.iter().zip(&accounts) {
        answers.push(Answer::of_resolution("BatchResolve", resolution, user, *is_sole));
    }
    answers
}
