//! All ways to hide something from the connector, with what must come of each. Entry point: [`HIDINGS`].
//!
//! Adding a way = one entry. Permissions and what partial visibility looks like are those of facts 1.5 and 7.

use std::collections::BTreeSet;

use okta_sim::{Action, ById, PageMatch, ProfileUpdate, Refusal, Role, Rule, Sim, UserRef, Way};

use crate::aim::Aim;
use crate::truth::Truth;

/// What has nothing to do with what is hidden, and is still answered completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beside {
    /// An account of another app, by its user name.
    Account,
    /// A name that nobody has in another app.
    NoAccount,
    AppUsers,
    AppGroups,
    /// Another user, by id.
    User,
    /// A login that nobody has.
    NoUser,
    /// The members of another group.
    Members,
    Groups,
    Apps,
    /// The groups of another user.
    UserGroups,
}

/// One way to hide.
pub(crate) struct Hiding {
    pub(crate) name: &'static str,
    pub(crate) apply: fn(&mut Sim, &Aim),
    /// At least one of these gaps opens when what was known is hidden. Empty: none has to.
    pub(crate) gaps: &'static [&'static str],
    /// The same when it is hidden before the first crawl. `None`: nothing tells of it then.
    pub(crate) gaps_at_first: Option<&'static [&'static str]>,
    pub(crate) beside: &'static [Beside],
    /// Answers are 200 and look as if that were all: what changes meanwhile is told by the log alone.
    pub(crate) is_silent: bool,
}

/// The default of the rest.
const PLAIN: Hiding =
    Hiding { name: "", apply: |_, _| {}, gaps: &[], gaps_at_first: Some(&[]), beside: &[], is_silent: false };

const APP_USERS: &[&str] = &["FORBIDDEN:app_users({app})"];
const MEMBERS: &[&str] = &["FORBIDDEN:group_members({group})"];
const UNSEEN_APP: &[&str] = &["UNSEEN_REFERENCE:app({app})"];
const UNSEEN_GROUP: &[&str] = &["UNSEEN_REFERENCE:group({group})"];
const UNSEEN_USER: &[&str] = &["UNSEEN_REFERENCE:user({user})"];
const COUNTED_USERS: &[&str] = &["COUNT_MISMATCH:*", "UNSEEN_REFERENCE:user(*"];

use Beside::{Account, AppGroups, AppUsers, Apps, Groups, Members, NoAccount, NoUser, User, UserGroups};

const BESIDE_AN_APP: &[Beside] =
    &[Account, NoAccount, AppUsers, AppGroups, User, NoUser, Members, Groups, Apps, UserGroups];
const BESIDE_A_GROUP: &[Beside] = &[Account, NoAccount, AppUsers, User, NoUser, Members, Apps];

fn refuse(sim: &mut Sim, path: &str, refusal: Refusal) {
    sim.rules.push(Rule::on(path, Action::Refuse(refusal)));
}

fn forbid(sim: &mut Sim, paths: &[&str]) {
    for path in paths {
        refuse(sim, path, Refusal::Forbidden);
    }
}

fn app_users(aim: &Aim) -> String {
    format!("/api/v1/apps/{}/users", aim.app)
}

fn members(aim: &Aim) -> String {
    format!("/api/v1/groups/{}/users", aim.group)
}

/// Something changes about the user, so that the log names them.
fn stir(sim: &mut Sim, aim: &Aim) {
    let update = ProfileUpdate { department: Some("Moved".to_owned()), ..ProfileUpdate::default() };
    // Whoever is gone does not move.
    let _ = sim.org.update_profile(UserRef::parse(&aim.user).unwrap(), &update);
}

/// Two of three, the one that is aimed at among them.
fn most(all: impl Iterator<Item = String>, aimed: &str) -> BTreeSet<String> {
    all.enumerate().filter(|(number, id)| number % 3 != 2 || id == aimed).map(|(_, id)| id).collect()
}

const EVERYTHING: [&str; 3] = ["okta.users.read", "okta.groups.read", "okta.apps.read"];

/// Left with one group, one app, and the log.
fn narrow(sim: &mut Sim, aim: &Aim, told: bool) {
    let permissions = EVERYTHING.map(ToOwned::to_owned).into();
    let role = Role::Custom { permissions, reports: true };
    sim.narrow_role(role, std::slice::from_ref(&aim.other_group), std::slice::from_ref(&aim.other_app), told);
}

pub(crate) const HIDINGS: &[Hiding] = &[
    Hiding {
        name: "403 on one app's users",
        apply: |sim, aim| forbid(sim, &[&app_users(aim)]),
        gaps: APP_USERS,
        gaps_at_first: Some(APP_USERS),
        beside: BESIDE_AN_APP,
        ..PLAIN
    },
    Hiding {
        name: "403 on one app's users, by id too",
        apply: |sim, aim| forbid(sim, &[&app_users(aim), &format!("{}/*", app_users(aim))]),
        gaps: APP_USERS,
        gaps_at_first: Some(APP_USERS),
        beside: BESIDE_AN_APP,
        ..PLAIN
    },
    Hiding {
        name: "403 on one app's groups",
        apply: |sim, aim| forbid(sim, &[&format!("/api/v1/apps/{}/groups", aim.app)]),
        gaps: &["FORBIDDEN:app_groups({app})"],
        gaps_at_first: Some(&["FORBIDDEN:app_groups({app})"]),
        beside: BESIDE_AN_APP,
        ..PLAIN
    },
    Hiding {
        name: "403 on one group's members",
        apply: |sim, aim| forbid(sim, &[&members(aim)]),
        gaps: MEMBERS,
        gaps_at_first: Some(MEMBERS),
        beside: &[Account, NoAccount, AppUsers, AppGroups, User, NoUser, Members, Groups, Apps],
        ..PLAIN
    },
    Hiding {
        name: "403 on the list of groups",
        apply: |sim, _| forbid(sim, &["/api/v1/groups"]),
        gaps: &["FORBIDDEN:groups"],
        gaps_at_first: Some(&["FORBIDDEN:groups"]),
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        ..PLAIN
    },
    Hiding {
        name: "403 on everything about groups",
        apply: |sim, _| {
            forbid(sim, &["/api/v1/groups", "/api/v1/groups/*", "/api/v1/groups/*/users", "/api/v1/apps/*/groups"]);
        },
        gaps: &["FORBIDDEN:groups"],
        gaps_at_first: Some(&["FORBIDDEN:groups"]),
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        ..PLAIN
    },
    Hiding {
        name: "403 on the list of users",
        apply: |sim, _| forbid(sim, &["/api/v1/users"]),
        gaps: &["FORBIDDEN:users"],
        gaps_at_first: Some(&["FORBIDDEN:users"]),
        beside: &[AppGroups, Groups, Apps],
        ..PLAIN
    },
    Hiding {
        name: "403 on all users, by id too",
        apply: |sim, _| forbid(sim, &["/api/v1/users", "/api/v1/users/*"]),
        gaps: &["FORBIDDEN:users"],
        gaps_at_first: Some(&["FORBIDDEN:users"]),
        beside: &[AppGroups, Groups, Apps],
        ..PLAIN
    },
    Hiding {
        name: "403 on the list of apps",
        apply: |sim, _| forbid(sim, &["/api/v1/apps"]),
        gaps: &["FORBIDDEN:apps"],
        gaps_at_first: Some(&["FORBIDDEN:apps"]),
        beside: &[User, NoUser, Members, Groups, UserGroups],
        ..PLAIN
    },
    Hiding {
        name: "403 on the log",
        apply: |sim, _| forbid(sim, &["/api/v1/logs"]),
        gaps: &["FORBIDDEN:log", "LOG_LOST:log"],
        gaps_at_first: Some(&["FORBIDDEN:log", "LOG_LOST:log"]),
        ..PLAIN
    },
    Hiding {
        name: "403 on page 2 of the users",
        apply: |sim, _| {
            let rule = Rule::on("/api/v1/users", Action::Refuse(Refusal::Forbidden));
            sim.rules.push(rule.page(PageMatch::Number(2)));
        },
        gaps: &["FORBIDDEN:users"],
        gaps_at_first: Some(&["FORBIDDEN:users"]),
        beside: &[AppGroups, Groups, Apps],
        ..PLAIN
    },
    Hiding {
        name: "403 on page 2 of the groups",
        apply: |sim, _| {
            let rule = Rule::on("/api/v1/groups", Action::Refuse(Refusal::Forbidden));
            sim.rules.push(rule.page(PageMatch::Number(2)));
        },
        gaps: &["FORBIDDEN:groups"],
        gaps_at_first: Some(&["FORBIDDEN:groups"]),
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        ..PLAIN
    },
    Hiding {
        name: "403 on users by id, one of whom changes",
        apply: |sim, aim| {
            forbid(sim, &["/api/v1/users/*"]);
            stir(sim, aim);
        },
        gaps: &["FORBIDDEN:users", "UNSEEN_REFERENCE:user({user})"],
        beside: &[AppGroups, Groups, Apps],
        ..PLAIN
    },
    Hiding {
        name: "a scope missing for groups",
        apply: |sim, _| {
            for path in ["/api/v1/groups", "/api/v1/groups/*", "/api/v1/groups/*/users"] {
                refuse(sim, path, Refusal::InsufficientScope("okta.groups.read".to_owned()));
            }
        },
        gaps: &["SCOPE_MISSING:groups"],
        gaps_at_first: Some(&["SCOPE_MISSING:groups"]),
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        ..PLAIN
    },
    Hiding {
        name: "a scope missing for apps",
        apply: |sim, _| {
            for path in ["/api/v1/apps", "/api/v1/apps/*", "/api/v1/apps/*/users", "/api/v1/apps/*/groups"] {
                refuse(sim, path, Refusal::InsufficientScope("okta.apps.read".to_owned()));
            }
        },
        gaps: &["SCOPE_MISSING:apps"],
        gaps_at_first: Some(&["SCOPE_MISSING:apps"]),
        beside: &[User, NoUser, Members, Groups, UserGroups],
        ..PLAIN
    },
    Hiding {
        name: "one app hidden",
        apply: |sim, aim| sim.hidden.hide_app(&aim.app, Way::default()),
        gaps: UNSEEN_APP,
        gaps_at_first: None,
        beside: &[Account, NoAccount, AppUsers, AppGroups, User, NoUser, Members, Groups, UserGroups],
        is_silent: true,
    },
    Hiding {
        name: "one app hidden, 403 by id",
        apply: |sim, aim| sim.hidden.hide_app(&aim.app, Way { named: true, by_id: ById::Forbidden }),
        gaps: &["UNSEEN_REFERENCE:app({app})", "FORBIDDEN:apps", "FORBIDDEN:app_users({app})", "HELD:apps"],
        gaps_at_first: None,
        beside: &[User, NoUser, Members, Groups, UserGroups],
        is_silent: true,
    },
    Hiding {
        name: "one app missing in the list alone",
        apply: |sim, aim| sim.hidden.hide_app(&aim.app, Way { named: true, by_id: ById::Shown }),
        gaps_at_first: None,
        beside: &[User, NoUser, Members, Groups, UserGroups],
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "one group hidden",
        apply: |sim, aim| sim.hidden.hide_group(&aim.group, Way::default()),
        gaps: UNSEEN_GROUP,
        gaps_at_first: None,
        beside: BESIDE_A_GROUP,
        is_silent: true,
    },
    Hiding {
        name: "one group hidden but named by apps",
        apply: |sim, aim| sim.hidden.hide_group(&aim.group, Way { named: true, by_id: ById::NotFound }),
        gaps: UNSEEN_GROUP,
        gaps_at_first: Some(UNSEEN_GROUP),
        beside: BESIDE_A_GROUP,
        is_silent: true,
    },
    Hiding {
        name: "one group hidden, 403 by id",
        apply: |sim, aim| sim.hidden.hide_group(&aim.group, Way { named: true, by_id: ById::Forbidden }),
        gaps: &[
            "UNSEEN_REFERENCE:group({group})",
            "FORBIDDEN:groups",
            "FORBIDDEN:group_members({group})",
            "HELD:groups",
        ],
        gaps_at_first: Some(&["UNSEEN_REFERENCE:group({group})", "FORBIDDEN:groups"]),
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        is_silent: true,
    },
    Hiding {
        name: "one user hidden",
        apply: |sim, aim| sim.hidden.hide_user(&aim.user, Way::default()),
        gaps: UNSEEN_USER,
        gaps_at_first: Some(COUNTED_USERS),
        beside: &[User, Groups, Apps, AppGroups],
        is_silent: true,
    },
    Hiding {
        name: "one user hidden but named by groups and apps",
        apply: |sim, aim| sim.hidden.hide_user(&aim.user, Way { named: true, by_id: ById::NotFound }),
        gaps: UNSEEN_USER,
        gaps_at_first: Some(UNSEEN_USER),
        beside: &[User, Groups, Apps, AppGroups],
        is_silent: true,
    },
    Hiding {
        name: "one user hidden, 403 by id",
        apply: |sim, aim| sim.hidden.hide_user(&aim.user, Way { named: true, by_id: ById::Forbidden }),
        gaps: &["UNSEEN_REFERENCE:user({user})", "FORBIDDEN:users", "HELD:users"],
        gaps_at_first: Some(&["UNSEEN_REFERENCE:user({user})", "FORBIDDEN:users"]),
        beside: &[Groups, Apps, AppGroups],
        is_silent: true,
    },
    Hiding {
        name: "one user missing in the list alone",
        apply: |sim, aim| sim.hidden.hide_user(&aim.user, Way { named: true, by_id: ById::Shown }),
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "most apps hidden",
        apply: |sim, aim| sim.hidden.apps = most(Truth::of(sim).apps.into_keys(), &aim.app),
        gaps: &["HELD:apps", "UNSEEN_REFERENCE:app({app})"],
        gaps_at_first: None,
        beside: &[User, NoUser, Members, Groups, UserGroups],
        is_silent: true,
    },
    Hiding {
        name: "most groups hidden",
        apply: |sim, aim| sim.hidden.groups = most(Truth::of(sim).groups.into_keys(), &aim.group),
        gaps: &["HELD:groups", "UNSEEN_REFERENCE:group({group})"],
        gaps_at_first: None,
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        is_silent: true,
    },
    Hiding {
        name: "most users hidden",
        apply: |sim, aim| sim.hidden.users = most(Truth::of(sim).users.into_keys(), &aim.user),
        gaps: &["HELD:users", "UNSEEN_REFERENCE:user({user})"],
        gaps_at_first: Some(COUNTED_USERS),
        beside: &[Groups, Apps, AppGroups],
        is_silent: true,
    },
    Hiding {
        name: "no users listed",
        apply: |sim, _| sim.rules.push(Rule::on("/api/v1/users", Action::EmptyList)),
        gaps: &["EMPTY_SUSPECT:users"],
        gaps_at_first: Some(&["EMPTY_SUSPECT:users"]),
        beside: &[Groups, Apps, AppGroups],
        is_silent: true,
    },
    Hiding {
        name: "no groups listed",
        apply: |sim, _| sim.rules.push(Rule::on("/api/v1/groups", Action::EmptyList)),
        gaps: &["EMPTY_SUSPECT:groups"],
        gaps_at_first: Some(&["EMPTY_SUSPECT:groups"]),
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        is_silent: true,
    },
    Hiding {
        name: "no apps listed",
        apply: |sim, _| sim.rules.push(Rule::on("/api/v1/apps", Action::EmptyList)),
        gaps: &["EMPTY_SUSPECT:apps"],
        gaps_at_first: Some(&["EMPTY_SUSPECT:apps"]),
        beside: &[User, NoUser, Members, Groups, UserGroups],
        is_silent: true,
    },
    Hiding {
        name: "no members of one group listed",
        apply: |sim, aim| sim.rules.push(Rule::on(&members(aim), Action::EmptyList)),
        gaps: &["EMPTY_SUSPECT:group_members({group})", "COUNT_MISMATCH:group_members({group})"],
        gaps_at_first: Some(&["EMPTY_SUSPECT:group_members({group})", "COUNT_MISMATCH:group_members({group})"]),
        beside: &[Account, NoAccount, AppUsers, AppGroups, User, NoUser, Members, Groups, Apps],
        is_silent: true,
    },
    Hiding {
        name: "no users of one app listed",
        apply: |sim, aim| sim.rules.push(Rule::on(&app_users(aim), Action::EmptyList)),
        gaps: &["EMPTY_SUSPECT:app_users({app})", "HELD:app_users({app})"],
        gaps_at_first: None,
        beside: BESIDE_AN_APP,
        is_silent: true,
    },
    Hiding {
        name: "a tenth of every page of users missing",
        apply: |sim, _| sim.rules.push(Rule::on("/api/v1/users", Action::ShrinkList(90))),
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "some groups missing in the list",
        apply: |sim, _| sim.rules.push(Rule::on("/api/v1/groups", Action::ShrinkList(80))),
        is_silent: true,
        gaps_at_first: None,
        ..PLAIN
    },
    Hiding {
        name: "a tenth of one app's users missing",
        apply: |sim, aim| sim.rules.push(Rule::on(&app_users(aim), Action::ShrinkList(90))),
        gaps_at_first: None,
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "some members of one group missing",
        apply: |sim, aim| sim.rules.push(Rule::on(&members(aim), Action::ShrinkList(70))),
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "the role narrowed, as the log tells",
        apply: |sim, aim| narrow(sim, aim, true),
        gaps: &["HELD:*", "UNSEEN_REFERENCE:*"],
        gaps_at_first: None,
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "the role narrowed without a word",
        apply: |sim, aim| narrow(sim, aim, false),
        gaps: &["HELD:*", "UNSEEN_REFERENCE:*"],
        gaps_at_first: None,
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "a role without apps and log",
        apply: |sim, _| sim.role = Role::custom(["okta.users.read", "okta.groups.read"]),
        gaps: &["FORBIDDEN:apps"],
        gaps_at_first: Some(&["FORBIDDEN:apps"]),
        ..PLAIN
    },
    Hiding {
        name: "no role at all",
        apply: |sim, _| sim.quirks.role_missing = true,
        gaps: &["EMPTY_SUSPECT:users"],
        gaps_at_first: Some(&["EMPTY_SUSPECT:users"]),
        ..PLAIN
    },
    Hiding {
        name: "404 on one group's members",
        apply: |sim, aim| refuse(sim, &members(aim), Refusal::NotFound),
        gaps: &["FAILED:group_members({group})", "UNSEEN_REFERENCE:group({group})", "FORBIDDEN:group_members({group})"],
        gaps_at_first: Some(&[
            "FAILED:group_members({group})",
            "UNSEEN_REFERENCE:group({group})",
            "FORBIDDEN:group_members({group})",
        ]),
        beside: &[Account, NoAccount, AppUsers, User, NoUser, Apps],
        ..PLAIN
    },
    Hiding {
        name: "one account missing in the list alone",
        apply: |sim, aim| {
            sim.hidden.app_users.insert((aim.app.clone(), aim.user.clone()), ById::Shown);
        },
        gaps_at_first: None,
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "one account missing, 403 by id",
        apply: |sim, aim| {
            sim.hidden.app_users.insert((aim.app.clone(), aim.user.clone()), ById::Forbidden);
        },
        gaps_at_first: None,
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "one membership missing in the group alone",
        apply: |sim, aim| {
            sim.hidden.members.insert((aim.group.clone(), aim.user.clone()), ById::Shown);
        },
        is_silent: true,
        ..PLAIN
    },
    Hiding {
        name: "one assigned group missing in the list alone",
        apply: |sim, aim| {
            sim.hidden.app_groups.insert((aim.app.clone(), aim.group.clone()), ById::Shown);
        },
        gaps_at_first: None,
        is_silent: true,
        ..PLAIN
    },
];
