//! Which objects are wanted at all. Dropped before they are stored.
//!
//! Entry point: [`AppFilter::wants`]. E-mail domains and group names will be decided here too; the callers ask
//! already at the right places.

use super::model::{App, AppStatus};

/// Which apps are read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AppFilter {
    /// Ids, names or labels; empty = all.
    pub include: Vec<String>,
    /// Ids, names or labels; wins over `include`.
    pub exclude: Vec<String>,
    /// Whether Okta's own apps (console, dashboard, plug-in) are wanted.
    pub built_in: bool,
    /// Whether the app users of INACTIVE apps are read.
    pub sync_inactive: bool,
}

impl Default for AppFilter {
    fn default() -> Self {
        Self { include: Vec::new(), exclude: Vec::new(), built_in: false, sync_inactive: true }
    }
}

fn names(app: &App, list: &[String]) -> bool {
    list.iter().any(|entry| entry == app.id.as_str() || **entry == *app.name || **entry == *app.label)
}

impl AppFilter {
    /// Whether the app is kept. An explicit `include` beats the exclusion of built-in apps.
    pub fn wants(&self, app: &App) -> bool {
        if app.status == AppStatus::Deleted || names(app, &self.exclude) {
            return false;
        }
        if !self.include.is_empty() {
            return names(app, &self.include);
        }
        self.built_in || !app.is_okta_built_in()
    }

    /// Whether the app users and assigned groups of a kept app are read. Service apps have none (facts 4).
    pub fn wants_assignments(&self, app: &App) -> bool {
        !app.is_service_app() && (self.sync_inactive || app.status != AppStatus::Inactive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::AppId;

    fn app(name: &str, label: &str, status: AppStatus) -> App {
        App {
            id: AppId::new("0oa1").unwrap(),
            name: name.into(),
            label: label.into(),
            status,
            sign_on_mode: None,
            features: Vec::new(),
            credential_scheme: None,
            shared_user_name: None,
            user_name_template: None,
            oauth_application_type: None,
            implicit_assignment: Some(false),
            created: None,
            last_updated: None,
        }
    }

    #[track_caller]
    fn check(include: &[&str], exclude: &[&str], app: &App, expected: bool) {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        let filter = AppFilter { include: list(include), exclude: list(exclude), ..AppFilter::default() };
        assert_eq!(filter.wants(app), expected);
    }

    #[test]
    fn apps_are_chosen_by_id_name_or_label() {
        let jira = app("jira", "Jira Cloud", AppStatus::Active);
        check(&[], &[], &jira, true);
        check(&["0oa1"], &[], &jira, true);
        check(&["Jira Cloud"], &[], &jira, true);
        check(&["jira cloud"], &[], &jira, false);
        check(&["salesforce"], &[], &jira, false);
        check(&[], &["jira"], &jira, false);
        check(&["0oa1"], &["jira"], &jira, false);
        check(&[], &[], &app("saasure", "Okta Admin Console", AppStatus::Active), false);
        check(&[], &[], &app("okta_enduser", "Okta Dashboard", AppStatus::Active), false);
        check(&[], &[], &app("okta_org2org", "Partner org", AppStatus::Active), true);
        check(&["okta_enduser"], &[], &app("okta_enduser", "Okta Dashboard", AppStatus::Active), true);
        check(&[], &[], &app("jira", "Jira", AppStatus::Deleted), false);
    }

    #[test]
    fn service_apps_have_no_app_users() {
        let mut service = app("oidc_client", "Robot", AppStatus::Active);
        service.oauth_application_type = Some("service".into());
        assert!(AppFilter::default().wants(&service));
        assert!(!AppFilter::default().wants_assignments(&service));
        let inactive = app("jira", "Jira", AppStatus::Inactive);
        assert!(AppFilter::default().wants_assignments(&inactive));
        assert!(!AppFilter { sync_inactive: false, ..AppFilter::default() }.wants_assignments(&inactive));
    }
}
