//! What the store of each format holds: rows of every kind, walks, debts, gaps, a filter and overrides.
//!
//! Entry points: [`history`], [`followed`], [`covered`], [`narrowed`] and [`decide`], one after the other.

use okta_idmap::core::batch::{
    Batch, CrawlMark, CursorMove, Delta, Listing, Position, UnreadKey, WalkState, WalkUpdate,
};
use okta_idmap::core::coverage::{Gap, GapKind};
use okta_idmap::core::event::MemberChange;
use okta_idmap::core::filter::{DomainFilter, DomainPattern, Filter, GroupFilter};
use okta_idmap::core::ids::{AppId, CrawlId, GroupId, LogCursor, RequestNumber, Timestamp, UserId};
use okta_idmap::core::model::{
    App, AppGroup, AppStatus, AppUser, AppUserStatus, AssignmentScope, Group, GroupMember, GroupType, Key, Quarantined,
    Row, Scope, User, UserStatus,
};
use okta_idmap::core::overrides::{OverrideName, OverrideSetting};
use okta_idmap::core::pending::{PendingRead, Target};
use okta_idmap::core::resolve::{IdentifierKind, Override};
use okta_idmap::store::Store;

pub(super) fn app_id(id: &str) -> AppId {
    AppId::new(id).unwrap()
}

pub(super) fn group_id(id: &str) -> GroupId {
    GroupId::new(id).unwrap()
}

pub(super) fn user_id(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_770_000_000_000 + seconds * 1_000)
}

pub(super) fn text(text: &str) -> Option<Box<str>> {
    Some(text.into())
}

fn full_user() -> User {
    User {
        id: user_id("00u1"),
        status: UserStatus::Active,
        login: text("Straße@example.com"),
        email: text("strasse@example.com"),
        second_email: text("other@example.org"),
        first_name: text("It's"),
        last_name: text(""),
        display_name: text("näme"),
        created: Some(time(-30)),
        last_updated: Some(time(-20)),
        status_changed: Some(time(-10)),
    }
}

pub(super) fn bare_user() -> User {
    User {
        id: user_id("00u2"),
        status: UserStatus::parse("IN_2027"),
        login: None,
        email: None,
        second_email: None,
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

fn groups() -> [Group; 2] {
    let everyone = Group {
        id: group_id("00g1"),
        name: "Everyone".into(),
        description: None,
        group_type: GroupType::BuiltIn,
        source_app: None,
        created: None,
        last_updated: None,
        last_membership_updated: None,
    };
    let imported = Group {
        id: group_id("00g2"),
        name: "Eng".into(),
        description: text("Engineers"),
        group_type: GroupType::AppGroup,
        source_app: Some(app_id("0oa1")),
        created: Some(time(-30)),
        last_updated: Some(time(-20)),
        last_membership_updated: Some(time(-10)),
    };
    [everyone, imported]
}

fn full_app(label: &str) -> App {
    App {
        id: app_id("0oa1"),
        name: "jira".into(),
        label: label.into(),
        status: AppStatus::Active,
        sign_on_mode: text("SAML_2_0"),
        features: vec!["PUSH_NEW_USERS".into(), "IMPORT_NEW_USERS".into()],
        credential_scheme: text("SHARED_USERNAME_AND_PASSWORD"),
        shared_user_name: text("team"),
        user_name_template: text("${source.login}"),
        oauth_application_type: text("web"),
        implicit_assignment: Some(true),
        created: Some(time(-30)),
        last_updated: Some(time(-20)),
    }
}

fn full_app_user(user_name: &str) -> AppUser {
    AppUser {
        app: app_id("0oa1"),
        user: user_id("00u1"),
        user_name: text(user_name),
        external_id: text("ext-1"),
        email: text("strasse@example.com"),
        status: AppUserStatus::Provisioned,
        scope: AssignmentScope::Group,
        sync_state: text("SYNCHRONIZED"),
        via_group: Some(group_id("00g2")),
        created: Some(time(-30)),
        last_updated: Some(time(-20)),
        status_changed: Some(time(-10)),
    }
}

pub(super) fn batch(at: u64, rows: Vec<Row>) -> Batch {
    let now = time(i64::try_from(at).unwrap());
    Batch { now, okta_now: now, at: RequestNumber(at), rows, ..Batch::default() }
}

fn update(scope: Scope, state: WalkState) -> WalkUpdate {
    WalkUpdate { scope, state }
}

/// A history that leaves a row in every table: a finished crawl with removals and renames, and one under way.
pub(super) fn history() -> Vec<Batch> {
    let finished = |scope, from| {
        update(
            scope,
            WalkState::Finished {
                from: RequestNumber(from),
                began: time(i64::try_from(from).unwrap()),
                known_empty: false,
                ended: Vec::new(),
            },
        )
    };
    let bare_app_user =
        AppUser { user: user_id("00u2"), user_name: None, external_id: None, email: None, ..full_app_user("") };
    let removed = User { id: user_id("00u3"), login: text("gone@example.com"), ..bare_user() };
    let [everyone, imported] = groups();
    let member = |user| Row::GroupMember(GroupMember { group: group_id("00g2"), user: user_id(user) });
    let position = |listing| Position {
        began: time(9),
        next: "https://org.example/api/v1/users?after=2".to_owned(),
        page: 1,
        rows: 2,
        from: RequestNumber(9),
        listing,
    };
    vec![
        Batch {
            crawl: Some(CrawlMark::Begin { id: CrawlId(1), fingerprint: "fingerprint 1".to_owned() }),
            walks: [Scope::Users, Scope::Groups, Scope::Apps].map(|scope| update(scope, WalkState::Todo)).into(),
            ..batch(1, Vec::new())
        },
        Batch {
            cursor: Some(CursorMove::Anchor(LogCursor("https://org.example/api/v1/logs?after=1".to_owned()))),
            walks: vec![finished(Scope::Log, 0)],
            ..batch(2, Vec::new())
        },
        Batch {
            walks: vec![finished(Scope::Users, 3)],
            quarantined: vec![Quarantined { scope: Scope::Users, id: text("00u9"), reason: "no status".to_owned() }],
            ..batch(3, vec![Row::User(full_user()), Row::User(bare_user()), Row::User(removed)])
        },
        Batch { walks: vec![finished(Scope::Groups, 4)], ..batch(4, vec![Row::Group(everyone), Row::Group(imported)]) },
        Batch {
            gaps: vec![Gap {
                scope: Scope::AppGroups(app_id("0oa2")),
                kind: GapKind::Forbidden,
                evidence: "GET /api/v1/apps/0oa2/groups: 403 E0000006".to_owned(),
            }],
            walks: vec![update(Scope::AppGroups(app_id("0oa2")), WalkState::GivenUp), finished(Scope::Apps, 5)],
            ..batch(5, vec![Row::App(full_app("Jira"))])
        },
        batch(6, vec![Row::AppUser(full_app_user("old name")), Row::AppUser(bare_app_user), member("00u1")]),
        Batch {
            removals: vec![Key::User(user_id("00u3"))],
            closed_gaps: vec![(Scope::Users, GapKind::Failed)],
            crawl: Some(CrawlMark::End { id: CrawlId(1) }),
            ..batch(
                7,
                vec![
                    Row::AppUser(full_app_user("new name")),
                    Row::App(full_app("Jira Cloud")),
                    member("00u7"), // A user whom no list shows.
                    Row::AppGroup(AppGroup {
                        app: app_id("0oa1"),
                        group: group_id("00g2"),
                        priority: Some(1),
                        last_updated: Some(time(-20)),
                    }),
                    Row::AppGroup(AppGroup {
                        app: app_id("0oa1"),
                        group: group_id("00g1"),
                        priority: None,
                        last_updated: None,
                    }),
                ],
            )
        },
        Batch {
            crawl: Some(CrawlMark::Begin { id: CrawlId(2), fingerprint: "fingerprint 2".to_owned() }),
            walks: vec![update(Scope::Groups, WalkState::Todo)],
            ..batch(8, Vec::new())
        },
        Batch {
            walks: vec![update(Scope::Users, WalkState::Walking(position(Listing::PlainUsers)))],
            ..batch(9, vec![Row::User(full_user()), Row::User(bare_user())])
        },
    ]
}

/// What following the log adds: a group whose members were walked, a page of events with its debts, and a held list.
pub(super) fn followed() -> Vec<Batch> {
    let finished = |scope, from| {
        let began = time(i64::try_from(from).unwrap());
        update(scope, WalkState::Finished { from: RequestNumber(from), began, known_empty: false, ended: Vec::new() })
    };
    let member = |user| Row::GroupMember(GroupMember { group: group_id("00g2"), user: user_id(user) });
    let position = |number| LogCursor(format!("https://org.example/api/v1/logs?after={number}"));
    let debt = |target, again_at| PendingRead {
        target,
        since: RequestNumber(10),
        first_at: time(11),
        due_at: time(12),
        again_at,
        attempts: 1,
        announced: false,
        absent_since: None,
        cause: "user.account.update_profile".to_owned(),
    };
    vec![
        Batch {
            walks: vec![finished(Scope::GroupMembers(group_id("00g2")), 10)],
            ..batch(10, vec![member("00u1"), member("00u7")])
        },
        Batch {
            cursor: Some(CursorMove::Advance { expect: position(1), next: position(2) }),
            observed_through: Some(time(30)),
            members: vec![MemberChange {
                group: group_id("00g2"),
                user: user_id("00u2"),
                added: true,
                published: Some(time(30)),
            }],
            members_since: RequestNumber(11),
            pending: vec![
                debt(Target::User(user_id("00u1")), None),
                debt(Target::AppUser(app_id("0oa1"), user_id("00u1")), Some(time(200))),
            ],
            deltas: vec![(Delta::Users, time(3)), (Delta::Groups, time(4))],
            ..batch(11, Vec::new())
        },
        Batch { walks: vec![finished(Scope::AppUsers(app_id("0oa1")), 12)], ..batch(12, Vec::new()) },
    ]
}

/// A row that could not be read by itself.
fn unread() -> Vec<UnreadKey> {
    let key = Key::App(app_id("0oa2"));
    vec![UnreadKey { key, evidence: "GET /api/v1/apps/0oa2: 503".to_owned(), since: RequestNumber(15) }]
}

/// What coverage adds: an object that nobody finds, one that is said to be gone, and a gap that was open twice.
pub(super) fn covered() -> Vec<Batch> {
    let debt = |target, announced, absent_since| PendingRead {
        target,
        since: RequestNumber(13),
        first_at: time(13),
        due_at: time(600),
        again_at: None,
        attempts: 0,
        announced,
        absent_since,
        cause: "named or known, and not shown".to_owned(),
    };
    let gap = |scope, kind| Gap { scope, kind, evidence: "asked for by id, 404 E0000007".to_owned() };
    let again = || vec![gap(Scope::App(app_id("0oa9")), GapKind::UnseenReference)];
    vec![
        Batch {
            gaps: [again(), vec![gap(Scope::User(user_id("00u7")), GapKind::UnseenReference)]].concat(),
            pending: vec![
                debt(Target::User(user_id("00u7")), false, Some(time(13))),
                debt(Target::Group(group_id("00g9")), true, None),
            ],
            ..batch(13, Vec::new())
        },
        Batch { closed_gaps: vec![(Scope::App(app_id("0oa9")), GapKind::UnseenReference)], ..batch(14, Vec::new()) },
        Batch { gaps: again(), ..batch(15, Vec::new()) },
        Batch { gaps: vec![gap(Scope::Groups, GapKind::CountMismatch)], unread: unread(), ..batch(16, Vec::new()) },
        Batch { closed_gaps: vec![(Scope::Groups, GapKind::CountMismatch)], ..batch(17, Vec::new()) },
    ]
}

/// What the filtered store wants: one domain, and groups with a part in their name.
pub(super) fn narrow() -> Filter {
    let users = DomainFilter::new([DomainPattern::parse("example.com").unwrap()]);
    let groups = GroupFilter { name_contains: ["Eng".to_owned()].into(), skip_app_groups: false };
    Filter { users, groups, ..Filter::default() }
}

/// A history under [`narrow`]: a user, a group and an app that are kept out, a user who leaves the domain, and rows that name
/// somebody whom nobody knows.
pub(super) fn narrowed() -> Vec<Batch> {
    let finished = |scope, from| {
        let began = time(i64::try_from(from).unwrap());
        update(scope, WalkState::Finished { from: RequestNumber(from), began, known_empty: false, ended: Vec::new() })
    };
    let user = |id, login| Row::User(User { id: user_id(id), login: text(login), ..bare_user() });
    let account = |user, user_name| {
        Row::AppUser(AppUser { user: user_id(user), via_group: None, external_id: None, ..full_app_user(user_name) })
    };
    let member = |user| Row::GroupMember(GroupMember { group: group_id("00g2"), user: user_id(user) });
    let assigned = |group| {
        Row::AppGroup(AppGroup { app: app_id("0oa1"), group: group_id(group), priority: None, last_updated: None })
    };
    let [everyone, wanted] = groups();
    let unwanted = Group { id: group_id("00g3"), name: "Sales".into(), ..everyone.clone() };
    vec![
        Batch {
            walks: vec![finished(Scope::Users, 1)],
            ..batch(
                1,
                vec![Row::User(full_user()), user("00u2", "leaves@example.com"), user("00u4", "Outside@example.org")],
            )
        },
        Batch {
            walks: vec![finished(Scope::Groups, 2)],
            ..batch(2, vec![Row::Group(everyone), Row::Group(wanted), Row::Group(unwanted)])
        },
        Batch {
            walks: vec![finished(Scope::Apps, 3)],
            unwanted_apps: vec![app_id("0oa3")],
            ..batch(3, vec![Row::App(full_app("Jira"))])
        },
        Batch {
            walks: vec![finished(Scope::AppUsers(app_id("0oa1")), 4)],
            ..batch(
                4,
                vec![
                    account("00u1", "new name"),
                    account("00u2", "leaving"),
                    account("00u4", "Outside"),
                    account("00u5", "unknown"),
                ],
            )
        },
        Batch {
            walks: vec![
                finished(Scope::GroupMembers(group_id("00g2")), 5),
                finished(Scope::AppGroups(app_id("0oa1")), 5),
            ],
            ..batch(5, vec![member("00u1"), member("00u4"), assigned("00g2"), assigned("00g3")])
        },
        Batch { is_reread: true, ..batch(6, vec![user("00u2", "left@example.org")]) },
        Batch {
            crawl: Some(CrawlMark::Begin { id: CrawlId(2), fingerprint: "fingerprint 2".to_owned() }),
            walks: vec![update(Scope::Users, WalkState::Todo)],
            ..batch(7, vec![member("00u6")])
        },
    ]
}

/// Overrides of each source and kind of name, one of them taken back.
pub(super) fn decide(store: &Store) {
    let now = time(20);
    let setting = |name: &str, kind, user| {
        let (app, user, expires_at) = (app_id("0oa1"), user_id(user), time(3_600));
        let entry = Override { app, kind, name: name.into(), user, expires_at };
        OverrideSetting { entry, created_by: "ada".into(), reason: "it's decided".into() }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for (name, kind, user) in [
            ("New Name", IdentifierKind::Untyped, "00u2"),
            ("new name", IdentifierKind::UserName, "00u1"),
            ("näme@example.com", IdentifierKind::Email, "00u1"),
            ("ext-1", IdentifierKind::ExternalId, "00u2"),
        ] {
            store.writer.set_override(setting(name, kind, user), now).await.unwrap();
        }
        let gone = OverrideName { app: app_id("0oa1"), kind: IdentifierKind::Email, name: "näme@example.com".into() };
        store.writer.delete_override(gone, now).await.unwrap();
    });
}
