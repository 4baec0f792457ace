//! What is read again for somebody or something that was kept out and is wanted now.

use super::super::for_tests::{Opened, app, app_id, app_user, group, stored_group, user};
use crate::core::batch::{Batch, CrawlMark, Listing, Position, WalkState, WalkUpdate};
use crate::core::filter::{DomainFilter, DomainPattern, Filter};
use crate::core::ids::{CrawlId, RequestNumber, Timestamp};
use crate::core::model::{AppGroup, AppStatus, Group, Row, Scope};
use crate::core::pending::Target;

/// Stores rows as somebody who follows has read them; returns what the store owes for that.
fn put(opened: &Opened, at: u64, rows: Vec<Row>, walks: Vec<WalkUpdate>) -> Vec<String> {
    let at = RequestNumber(at);
    let receipt = opened.commit(Batch {
        at,
        rows,
        is_reread: walks.is_empty(),
        is_followed: true,
        members_since: at,
        lists_follow: walks.iter().any(|walk| matches!(walk.scope, Scope::Users | Scope::Groups | Scope::AppGroups(_))),
        walks,
        ..Batch::default()
    });
    receipt.owed.iter().map(|debt| debt.target.name()).collect()
}

fn todo(scope: Scope) -> WalkUpdate {
    WalkUpdate { scope, state: WalkState::Todo }
}

fn walking(scope: Scope, from: u64) -> WalkUpdate {
    let (from, began) = (RequestNumber(from), Timestamp::default());
    let next = "https://x.example/?page=1".to_owned();
    WalkUpdate {
        scope,
        state: WalkState::Walking(Position { next, page: 1, rows: 1, from, began, listing: Listing::Usual }),
    }
}

fn finished(scope: Scope, from: u64) -> WalkUpdate {
    let (from, began) = (RequestNumber(from), Timestamp::default());
    WalkUpdate { scope, state: WalkState::Finished { from, began, known_empty: false, ended: Vec::new() } }
}

fn assigned() -> Row {
    Row::AppGroup(AppGroup { app: app_id(1), group: group(1), priority: None, last_updated: None })
}

#[test]
fn lists_that_have_left_a_group_out_in_this_crawl_are_read_again() {
    #[track_caller]
    fn check(accounts: Vec<WalkUpdate>, groups: Option<(Vec<Row>, WalkUpdate)>, owed: &[&str]) {
        let mut filter = Filter::default();
        filter.groups.name_contains.insert("wanted".to_owned());
        let opened = Opened::new(filter);
        put(&opened, 1, vec![app(1, "Jira"), user(1, "one", ""), stored_group(1)], Vec::new());
        put(&opened, 2, vec![app_user(1, 1, "one", Some(group(1)))], accounts);
        if let Some((rows, walk)) = groups {
            put(&opened, 3, rows, vec![walk]);
        }
        let Row::Group(mut renamed) = stored_group(1) else { unreachable!() };
        renamed.name = "wanted".into();
        assert_eq!(put(&opened, 4, vec![Row::Group(renamed)], Vec::new()), owed);
    }
    let (users, groups) = (Scope::AppUsers(app_id(1)), Scope::AppGroups(app_id(1)));
    let (users_read, groups_read) = (vec![finished(users.clone(), 2)], finished(groups.clone(), 3));
    // The assignment is about to be read, and leads to no other read.
    check(users_read.clone(), None, &["list(app_users(0oa1))"]);
    check(users_read.clone(), Some((Vec::new(), todo(groups.clone()))), &["list(app_users(0oa1))"]);
    check(vec![walking(users.clone(), 2)], None, &["list(app_users(0oa1))"]);
    // It was on a page of a walk that goes on.
    let both = ["list(app_users(0oa1))", "list(app_groups(0oa1))"];
    check(users_read.clone(), Some((vec![assigned()], walking(groups, 3))), &both);
    // It is read already: its list is read again, and then that of the accounts.
    check(users_read.clone(), Some((vec![assigned()], groups_read.clone())), &["list(app_groups(0oa1))"]);
    check(users_read, Some((Vec::new(), groups_read)), &[]);
    // The accounts are still to be read.
    check(vec![todo(users)], None, &[]);
}

/// A group that is assigned leaves the filter and comes back: its assignment is read again, whatever walks ended meanwhile.
#[test]
fn what_is_dropped_beside_a_walk_is_known_at_its_end() {
    #[track_caller]
    fn check(walks: &[WalkUpdate], owed: &[&str]) {
        let mut filter = Filter::default();
        filter.groups.name_contains.insert("Engineers".to_owned());
        let opened = Opened::new(filter);
        let Row::Group(mut renamed) = stored_group(1) else { unreachable!() };
        renamed.name = "other".into();
        put(&opened, 1, vec![app(1, "Jira"), stored_group(1)], Vec::new());
        put(&opened, 2, vec![assigned()], vec![todo(groups()), walks[0].clone()]);
        put(&opened, 3, vec![Row::Group(renamed)], Vec::new());
        for walk in &walks[1..] {
            put(&opened, 4, Vec::new(), vec![walk.clone()]);
        }
        assert_eq!(put(&opened, 5, vec![stored_group(1)], Vec::new()), owed);
    }
    fn groups() -> Scope {
        Scope::AppGroups(app_id(1))
    }
    let on = |page: u32| match walking(groups(), 2) {
        WalkUpdate { scope, state: WalkState::Walking(position) } => {
            WalkUpdate { scope, state: WalkState::Walking(Position { page, ..position }) }
        }
        other => other,
    };
    let owed = ["list(app_groups(0oa1))"];
    check(&[finished(groups(), 2)], &owed);
    check(&[on(1)], &owed);
    check(&[on(1), finished(groups(), 2)], &owed);
    check(&[on(1), on(2), finished(groups(), 2)], &owed);
    // A walk that begins anew tells anew: it has not shown the assignment.
    check(&[on(1), todo(groups()), finished(groups(), 4)], &[]);
}

/// The crawl shows that somebody or something is wanted which a list had named before, and leaves that list to its own walk.
#[test]
fn what_a_crawl_was_to_read_is_owed_at_its_end_where_it_has_not() {
    #[track_caller]
    fn check(named: &dyn Fn(&str) -> Row, page: Scope, naming: Row, walk_from: Option<u64>, is_owed: bool) {
        let mut filter = Filter { users: DomainFilter::new(DomainPattern::parse("a.test")), ..Filter::default() };
        filter.groups.name_contains.insert("wanted".to_owned());
        let opened = Opened::new(filter);
        let list = naming.key().scope();
        let mark = |at: u64, crawl| {
            let (at, crawl) = (RequestNumber(at), Some(crawl));
            let receipt = opened.commit(Batch { at, members_since: at, is_followed: true, crawl, ..Batch::default() });
            receipt.owed.into_iter().map(|debt| debt.target).collect::<Vec<_>>()
        };
        put(&opened, 1, vec![app(1, "Jira"), named("one@b.test")], Vec::new());
        put(&opened, 2, vec![naming.clone()], vec![finished(list.clone(), 2)]);
        mark(3, CrawlMark::Begin { id: CrawlId(1), fingerprint: "f".to_owned() });
        let owed = put(&opened, 5, vec![named("wanted@a.test")], vec![walking(page.clone(), 4), finished(page, 4)]);
        assert_eq!(owed, Vec::<String>::new());
        if let Some(from) = walk_from {
            put(&opened, from, vec![naming], vec![finished(list.clone(), from)]);
        }
        let expected = if is_owed { vec![Target::List(list)] } else { Vec::new() };
        assert_eq!(mark(9, CrawlMark::End { id: CrawlId(1) }), expected);
        mark(10, CrawlMark::Begin { id: CrawlId(2), fingerprint: "f".to_owned() });
        assert_eq!(mark(11, CrawlMark::End { id: CrawlId(2) }), [], "once");
    }
    let named_group = |name: &str| match stored_group(1) {
        Row::Group(group) => Row::Group(Group { name: name.into(), ..group }),
        other => other,
    };
    let named_user = |login: &str| user(1, login, "");
    for (from, is_owed) in [(None, true), (Some(6), false), (Some(5), true)] {
        check(&named_group, Scope::Groups, assigned(), from, is_owed);
        check(&named_user, Scope::Users, app_user(1, 1, "one", None), from, is_owed);
    }
}

#[test]
fn accounts_in_inactive_apps_are_asked_for_when_their_user_is_back() {
    let users = DomainFilter::new(DomainPattern::parse("a.test"));
    let opened = Opened::new(Filter { users, ..Filter::default() });
    let Row::App(mut inactive) = app(1, "Jira") else { unreachable!() };
    inactive.status = AppStatus::Inactive;
    put(&opened, 1, vec![Row::App(inactive), user(1, "one@a.test", "")], Vec::new());
    put(&opened, 2, vec![app_user(1, 1, "one", None)], Vec::new());
    assert_eq!(put(&opened, 3, vec![user(1, "one@b.test", "")], Vec::new()), Vec::<String>::new());
    let owed = put(&opened, 4, vec![user(1, "one@a.test", "")], Vec::new());
    assert_eq!(owed, ["app_user(0oa1,00u1)", "user_apps(00u1)", "user_groups(00u1)"]);
}
