//! Store and org as text by key, and their comparison.

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::core::ids::{AppId, GroupId};
use okta_idmap::engine::index::{app_key, group_key, mapping_key, user_key};
use okta_idmap::store::{PageOf, Reader, Snapshot, StoreError};
use okta_sim::org::{AppStatus, TruthApp};
use okta_sim::{AppRef, GroupRef, Sim};

/// The part of the org that the settings ask for.
pub(crate) struct Want {
    /// Which apps are kept.
    pub(crate) app: fn(&TruthApp) -> bool,
    /// Of which of them app users and assigned groups are kept.
    pub(crate) assignments: fn(&TruthApp) -> bool,
    /// Whether assigned groups are kept at all.
    pub(crate) app_groups: bool,
    /// Whether only the members of assigned groups are kept.
    pub(crate) assigned_members: bool,
}

impl Default for Want {
    fn default() -> Self {
        Self { app: |app| !is_built_in(app), assignments: |_| true, app_groups: true, assigned_members: false }
    }
}

/// Okta's own apps: console, dashboard, plug-in.
pub(crate) fn is_built_in(app: &TruthApp) -> bool {
    app.name == "saasure" || app.name.starts_with("okta_")
}

pub(crate) fn is_active(app: &TruthApp) -> bool {
    app.status == AppStatus::Active
}

/// Everything that is compared, as text by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) rows: BTreeMap<String, String>,
}

fn all<T>(mut page: impl FnMut(Option<i64>) -> Result<PageOf<T>, StoreError>) -> Vec<T> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let next = page(after).unwrap();
        rows.extend(next.rows);
        match next.next {
            Some(n) => after = Some(n),
            None => return rows,
        }
    }
}

const PAGE: usize = 997;

/// What is compared of an app: (name, status, label), the shared account, (sign-on, scheme, kind of OIDC app), features.
fn app_text(
    names: (&str, &str, &str),
    shared_user_name: Option<&str>,
    kinds: (Option<&str>, Option<&str>, Option<&str>),
    features: &[&str],
) -> String {
    format!("{names:?} {shared_user_name:?} {kinds:?} {features:?}")
}

impl Picture {
    pub(crate) fn of_store(reader: &Reader) -> Self {
        reader.read(|snapshot| Ok(Self::of_snapshot(snapshot))).unwrap()
    }

    fn of_snapshot(snapshot: &Snapshot<'_>) -> Self {
        let mut rows = BTreeMap::new();
        for user in all(|after| snapshot.users(after, PAGE)) {
            let name =
                (user.login.as_deref(), user.email.as_deref(), user.first_name.as_deref(), user.last_name.as_deref());
            rows.insert(format!("user {}", user.id), format!("{} {name:?}", user.status.as_str()));
        }
        for group in all(|after| snapshot.groups(after, PAGE)) {
            let source = group.source_app.as_ref().map(AppId::as_str);
            rows.insert(
                format!("group {}", group.id),
                format!("{} {:?} {source:?}", group.group_type.as_str(), group.name),
            );
            for (user, _) in all(|after| snapshot.members(&group.id, after, PAGE)) {
                rows.insert(format!("member {} {user}", group.id), String::new());
            }
        }
        for app in all(|after| snapshot.apps(after, PAGE)) {
            let features: Vec<&str> = app.features.iter().map(AsRef::as_ref).collect();
            let kinds =
                (app.sign_on_mode.as_deref(), app.credential_scheme.as_deref(), app.oauth_application_type.as_deref());
            rows.insert(
                format!("app {}", app.id),
                app_text(
                    (&app.name, app.status.as_str(), &app.label),
                    app.shared_user_name.as_deref(),
                    kinds,
                    &features,
                ),
            );
            for row in all(|after| snapshot.app_users(&app.id, after, PAGE)) {
                let names = (row.user_name.as_deref(), row.external_id.as_deref());
                let via = row.via_group.as_ref().map(GroupId::as_str);
                let state = (row.status.as_str(), row.scope.as_str(), row.sync_state.as_deref());
                rows.insert(format!("app_user {} {}", row.app, row.user), format!("{names:?} {state:?} {via:?}"));
            }
            for row in all(|after| snapshot.app_groups(&app.id, after, PAGE)) {
                rows.insert(format!("app_group {} {}", row.app, row.group), format!("{:?}", row.priority));
            }
        }
        Self { rows }
    }

    pub(crate) fn of_org(sim: &Sim, want: &Want) -> Self {
        let org = &sim.org;
        let mut rows = BTreeMap::new();
        for user in org.truth_users() {
            let name = (Some(&*user.login), Some(&*user.email), user.first_name.as_deref(), user.last_name.as_deref());
            rows.insert(format!("user {}", user.id), format!("{} {name:?}", user.status.as_str()));
        }
        let mut assigned = BTreeSet::new();
        for app in org.truth_apps().filter(want.app) {
            let kinds =
                (app.sign_on.map(|mode| mode.as_str()), app.scheme.map(|scheme| scheme.as_str()), app.oauth_type);
            rows.insert(
                format!("app {}", app.id),
                app_text(
                    (&app.name, app.status.as_str(), &app.label),
                    app.shared_user_name.as_deref(),
                    kinds,
                    &app.features,
                ),
            );
            if (want.assignments)(&app) {
                Self::assignments_of_org(sim, &app, want, &mut rows, &mut assigned);
            }
        }
        for group in org.truth_groups() {
            let reference = GroupRef::parse(&group.id).unwrap();
            let source = group.source_app.as_deref();
            rows.insert(format!("group {}", group.id), format!("{} {:?} {source:?}", group.kind.as_str(), group.name));
            if want.assigned_members && reference != org.everyone() && !assigned.contains(&group.id) {
                continue;
            }
            for user in org.truth_members(reference) {
                rows.insert(format!("member {} {user}", group.id), String::new());
            }
        }
        Self { rows }
    }

    fn assignments_of_org(
        sim: &Sim,
        app: &TruthApp,
        want: &Want,
        rows: &mut BTreeMap<String, String>,
        assigned: &mut BTreeSet<String>,
    ) {
        let reference = AppRef::parse(&app.id).unwrap();
        for row in sim.org.truth_app_users(reference) {
            let names = (row.user_name.as_deref(), row.external_id.as_deref());
            let state = (row.status.as_str(), row.scope.as_str(), Some(row.sync.as_str()));
            let via = row.link_group.as_deref();
            rows.insert(format!("app_user {} {}", row.app_id, row.user_id), format!("{names:?} {state:?} {via:?}"));
        }
        for row in sim.org.truth_app_groups(reference).iter().filter(|_| want.app_groups) {
            rows.insert(format!("app_group {} {}", row.app_id, row.group_id), format!("{:?}", Some(row.priority)));
            assigned.insert(row.group_id.clone());
        }
    }

    /// The keys that the index of these rows has.
    pub(crate) fn index_keys(&self) -> BTreeSet<String> {
        let key = |row: &String| {
            let parts: Vec<&str> = row.split(' ').collect();
            Some(match parts.as_slice() {
                ["user", id] => user_key(id),
                ["group", id] => group_key(id),
                ["app", id] => app_key(id),
                ["app_user", app, user] => mapping_key(app, user),
                _ => return None,
            })
        };
        self.rows.keys().filter_map(key).collect()
    }

    /// The first of the rows that differ, and how many do; `None` where everything is the same.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let keys: BTreeSet<_> = self.rows.keys().chain(other.rows.keys()).collect();
        let different: Vec<String> = keys
            .into_iter()
            .filter(|key| self.rows.get(*key) != other.rows.get(*key))
            .map(|key| format!("{key}: stored {:?}, expected {:?}", self.rows.get(key), other.rows.get(key)))
            .collect();
        let shown = different[..different.len().min(20)].join("\n");
        (!different.is_empty()).then(|| format!("{} of {} rows differ:\n{shown}", different.len(), other.rows.len()))
    }

    /// The rows whose key begins so.
    pub(crate) fn count(&self, prefix: &str) -> usize {
        self.rows.keys().filter(|key| key.starts_with(prefix)).count()
    }

    pub(crate) fn assert_equals(&self, other: &Self, label: &str) {
        if let Some(difference) = self.difference(other) {
            panic!("{label}: {difference}");
        }
    }
}
