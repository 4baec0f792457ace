//! Generation: the same seed gives the same org, everything occurs, and memory stays bounded.

use std::collections::{BTreeMap, BTreeSet};

use okta_sim::org::{AppStatus, AppUserStatus, GroupKind, Scheme, Scope, SignOnMode, UserStatus};
use okta_sim::{AppRef, GroupRef, Org, Spec};

#[test]
fn a_seed_decides_everything() {
    let snapshot = |seed| {
        let org = Org::generate(&Spec { users: 300, groups: 30, apps: 16, seed, ..Spec::default() });
        let apps: Vec<_> = org.truth_apps().collect();
        let rows: Vec<_> = apps
            .iter()
            .filter_map(|app| AppRef::parse(&app.id))
            .flat_map(|app| org.truth_app_users(app).collect::<Vec<_>>())
            .collect();
        (org.truth_users().collect::<Vec<_>>(), org.truth_groups().collect::<Vec<_>>(), apps, rows)
    };
    assert_eq!(snapshot(5), snapshot(5));
    assert_ne!(snapshot(5).0, snapshot(6).0);
}

#[test]
fn everything_occurs() {
    let org = Org::generate(&Spec::of_users(3_000));
    org.check_invariants().unwrap();
    let users: Vec<_> = org.truth_users().collect();
    let statuses: BTreeSet<_> = users.iter().map(|user| user.status).collect();
    assert_eq!(statuses.len(), UserStatus::ALL.len());
    assert!(users.iter().any(|user| user.login != user.email) && users.iter().any(|user| !user.login.contains('@')));
    assert!(users.iter().any(|user| user.first_name.is_none()), "sparse users");
    assert!(users.iter().any(|user| user.last_name.as_deref() == Some("O'Brien")));
    assert!(users.iter().any(|user| !user.login.is_ascii()));

    let groups: Vec<_> = org.truth_groups().collect();
    assert!(groups.iter().any(|group| group.kind == GroupKind::App && group.source_app.is_some()));
    assert!(groups.iter().any(|group| group.members == 0) && groups.iter().any(|group| group.members == 1_800));
    let gone: BTreeSet<_> =
        users.iter().filter(|user| user.status == UserStatus::Deprovisioned).map(|user| user.id.clone()).collect();
    let large = GroupRef::parse(&groups[1].id).unwrap();
    assert!(org.truth_members(large).iter().any(|member| gone.contains(member)), "deactivated users stay in groups");

    let apps: Vec<_> = org.truth_apps().collect();
    let has = |wanted: &dyn Fn(&okta_sim::org::TruthApp) -> bool| apps.iter().any(wanted);
    assert!(has(&|app| app.status == AppStatus::Inactive) && has(&|app| app.sign_on == Some(SignOnMode::Bookmark)));
    assert!(
        has(&|app| app.oauth_type == Some("service") && app.users == 0)
            && has(&|app| app.sign_on.is_none() && app.users > 0)
    );
    assert!(has(&|app| app.scheme == Some(Scheme::SharedUsernameAndPassword) && app.shared_user_name.is_some()));
    assert!(has(&|app| app.users == 0) && has(&|app| app.users > 500) && has(&|app| app.groups > 0));
    let mut names = BTreeMap::new();
    apps.iter().for_each(|app| *names.entry(app.name.as_str()).or_insert(0) += 1);
    assert!(names["salesforce"] >= 2, "two instances of one integration");
    assert!(["saasure", "okta_enduser", "okta_browser_plugin"].iter().all(|name| names.contains_key(*name)));

    let rows: Vec<_> = apps
        .iter()
        .filter_map(|app| AppRef::parse(&app.id))
        .flat_map(|app| org.truth_app_users(app).collect::<Vec<_>>())
        .collect();
    assert_eq!(rows.len(), org.app_user_count());
    assert!(rows.len() > 3 * users.len(), "{} app users", rows.len());
    assert_eq!(rows.iter().map(|row| row.status).collect::<BTreeSet<_>>().len(), AppUserStatus::ALL.len());
    assert!(rows.iter().any(|row| row.external_id.is_some()) && rows.iter().any(|row| row.external_id.is_none()));
    assert!(
        rows.iter().all(|row| (row.scope == Scope::Group) == row.link_group.is_some()),
        "a link only for scope GROUP"
    );
}

#[test]
fn tiny_orgs_are_possible() {
    for (users, groups, apps) in [(0, 0, 0), (1, 1, 1), (10, 3, 2), (0, 5, 5), (3, 0, 14)] {
        let org = Org::generate(&Spec { users, groups, apps, ..Spec::default() });
        org.check_invariants().unwrap_or_else(|error| panic!("{users} {groups} {apps}: {error}"));
        assert_eq!(
            (org.truth_users().count(), org.truth_groups().count(), org.truth_apps().count()),
            (users + 1, groups + 1, apps + 3)
        );
    }
}
