//! What a change of the filter asks for: what goes, and what is to be read. Nothing else is touched.
//!
//! Entry point: [`change`].
//!
//! | the filter is | what happens |
//! |---|---|
//! | narrower | what it no longer wants is purged before anything is answered; nothing is read |
//! | wider | the lists are read that can show what it newly wants |
//! | other | both |
//!
//! Reading goes on from there by itself: a user who is newly stored has its accounts and memberships read, a group its
//! members and the assignments that name it, an app its lists.

use std::collections::BTreeSet;

use super::super::model::Scope;
use super::{AppFilter, Filter};

/// What becomes of a store whose filter has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Users outside of the domains go, with everything that names them.
    pub purges_users: bool,
    /// Secondary e-mails go.
    pub purges_second_emails: bool,
    /// Groups that are not wanted go, with their members and assignments.
    pub purges_groups: bool,
    /// Apps that are not wanted go, and the lists of those that are not read.
    pub purges_apps: bool,
    /// Lists that can show what is newly wanted.
    pub reads: BTreeSet<Scope>,
}

impl Change {
    /// Whether anything stored may have to go.
    pub fn purges(&self) -> bool {
        self.purges_users || self.purges_second_emails || self.purges_groups || self.purges_apps
    }
}

/// From `old` to `new`. Without an `old` nobody knows what the rows were read under: then everything is looked at, and what
/// to read is for the crawl to find out.
pub fn change(old: Option<&Filter>, new: &Filter) -> Change {
    let Some(old) = old else {
        return Change {
            purges_users: new.users.is_active(),
            purges_second_emails: new.skip_secondary_emails,
            purges_groups: new.groups.is_active(),
            purges_apps: true,
            reads: BTreeSet::new(),
        };
    };
    let mut reads = BTreeSet::new();
    if !old.users.covers(&new.users) || (old.skip_secondary_emails && !new.skip_secondary_emails) {
        reads.insert(Scope::Users);
    }
    if !old.groups.covers(&new.groups) {
        reads.insert(Scope::Groups);
    }
    if !covers_apps(&old.apps, &new.apps) {
        reads.insert(Scope::Apps);
    }
    Change {
        purges_users: !new.users.covers(&old.users),
        purges_second_emails: new.skip_secondary_emails && !old.skip_secondary_emails,
        purges_groups: !new.groups.covers(&old.groups),
        purges_apps: !covers_apps(&new.apps, &old.apps),
        reads,
    }
}

/// Whether every app that `narrow` reads is read by `wide`, as far as the settings alone can tell: where names and labels
/// would have to be known, `false`, which costs a look at the apps.
fn covers_apps(wide: &AppFilter, narrow: &AppFilter) -> bool {
    let excludes_no_more = wide.exclude.iter().all(|entry| narrow.exclude.contains(entry));
    let includes_as_much = match (wide.include.is_empty(), narrow.include.is_empty()) {
        (true, true) => wide.built_in || !narrow.built_in,
        // What is included by name may be one of Okta's own.
        (true, false) => wide.built_in,
        (false, true) => false,
        (false, false) => narrow.include.iter().all(|entry| wide.include.contains(entry)),
    };
    excludes_no_more && includes_as_much && (wide.sync_inactive || !narrow.sync_inactive)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::{DomainFilter, DomainPattern, GroupFilter};
    use super::*;

    fn domains(list: &[&str]) -> Filter {
        let users = DomainFilter::new(list.iter().map(|entry| DomainPattern::parse(entry).unwrap()));
        Filter { users, ..Filter::default() }
    }

    fn groups(list: &[&str], skip_app_groups: bool) -> Filter {
        let name_contains = list.iter().map(|part| (*part).to_owned()).collect();
        Filter { groups: GroupFilter { name_contains, skip_app_groups }, ..Filter::default() }
    }

    fn apps(include: &[&str], exclude: &[&str], built_in: bool, sync_inactive: bool) -> Filter {
        let list = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
        let apps = AppFilter { include: list(include), exclude: list(exclude), built_in, sync_inactive };
        Filter { apps, ..Filter::default() }
    }

    fn second_emails(skip_secondary_emails: bool) -> Filter {
        Filter { skip_secondary_emails, ..Filter::default() }
    }

    #[track_caller]
    fn check(old: &Filter, new: &Filter, expected: Expect) {
        let change = change(Some(old), new);
        let purges = [
            (change.purges_users, "users"),
            (change.purges_second_emails, "second e-mails"),
            (change.purges_groups, "groups"),
            (change.purges_apps, "apps"),
        ];
        let purges: Vec<&str> = purges.iter().filter(|(is_purged, _)| *is_purged).map(|(_, name)| *name).collect();
        let reads: Vec<String> = change.reads.iter().map(Scope::name).collect();
        assert_eq!(change.purges(), !purges.is_empty());
        expected.assert_eq(&format!("purge {purges:?} read {reads:?}"));
    }

    #[test]
    fn only_what_is_needed() {
        let none = Filter::default();
        check(&none, &none, expect!["purge [] read []"]);
        let (a, ab) = (domains(&["a.test"]), domains(&["a.test", "b.test"]));
        check(&none, &a, expect![[r#"purge ["users"] read []"#]]);
        check(&a, &none, expect![[r#"purge [] read ["users"]"#]]);
        check(&a, &ab, expect![[r#"purge [] read ["users"]"#]]);
        check(&ab, &a, expect![[r#"purge ["users"] read []"#]]);
        check(&a, &domains(&["b.test"]), expect![[r#"purge ["users"] read ["users"]"#]]);
        check(&domains(&["A.test"]), &a, expect!["purge [] read []"]);
        check(&second_emails(false), &second_emails(true), expect![[r#"purge ["second e-mails"] read []"#]]);
        check(&second_emails(true), &second_emails(false), expect![[r#"purge [] read ["users"]"#]]);
        check(&none, &groups(&["CIAM"], false), expect![[r#"purge ["groups"] read []"#]]);
        check(&groups(&["CIAM"], false), &none, expect![[r#"purge [] read ["groups"]"#]]);
        check(&groups(&["CIAM"], false), &groups(&["CIAM", "X"], false), expect![[r#"purge [] read ["groups"]"#]]);
        check(&groups(&["CIAM"], false), &groups(&["CIAM-EU"], false), expect![[r#"purge ["groups"] read []"#]]);
        check(&none, &groups(&[], true), expect![[r#"purge ["groups"] read []"#]]);
        check(&groups(&[], true), &none, expect![[r#"purge [] read ["groups"]"#]]);
    }

    #[test]
    fn apps_by_their_settings() {
        let all = apps(&[], &[], false, true);
        check(&all, &apps(&[], &["x"], false, true), expect![[r#"purge ["apps"] read []"#]]);
        check(&apps(&[], &["x"], false, true), &all, expect![[r#"purge [] read ["apps"]"#]]);
        check(&all, &apps(&[], &[], true, true), expect![[r#"purge [] read ["apps"]"#]]);
        check(&apps(&[], &[], true, true), &all, expect![[r#"purge ["apps"] read []"#]]);
        check(&all, &apps(&["x"], &[], false, true), expect![[r#"purge ["apps"] read ["apps"]"#]]);
        check(&apps(&["x"], &[], false, true), &all, expect![[r#"purge ["apps"] read ["apps"]"#]]);
        check(
            &apps(&["x"], &[], false, true),
            &apps(&["x", "y"], &[], false, true),
            expect![[r#"purge [] read ["apps"]"#]],
        );
        check(&all, &apps(&[], &[], false, false), expect![[r#"purge ["apps"] read []"#]]);
        check(&apps(&[], &[], false, false), &all, expect![[r#"purge [] read ["apps"]"#]]);
    }

    #[test]
    fn what_was_read_under_an_unknown_filter_is_looked_at() {
        let filter = Filter { users: domains(&["a.test"]).users, ..Filter::default() };
        let found = change(None, &filter);
        assert!(found.purges_users && found.purges_apps && !found.purges_groups && found.reads.is_empty());
    }
}
