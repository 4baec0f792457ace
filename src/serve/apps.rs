//! Which app a request means.
//!
//! Entry points: [`AppQuery::read`] at the door, [`AppQuery::select`] among the apps of a snapshot.
//!
//! Invariant: labels and names are compared exactly first, then ignoring case; several matches are never narrowed down.

use okta_idmap_proto::v1::{AppSelector, app_selector::Selector};

use super::door;
use super::errors::Failure;
use crate::core::ids::AppId;
use crate::core::model::App;
use crate::core::normalize::canonical_fold;
use crate::core::resolve::{AppSelection, select_app};

/// An app selector that has passed the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AppQuery<'a> {
    /// Okta's id.
    Id(AppId),
    /// The display name.
    Label(&'a str),
    /// The integration name.
    Name(&'a str),
    /// Any of these.
    Any(&'a str),
}

impl<'a> AppQuery<'a> {
    /// Reads a selector; `field` names it in failures.
    pub(super) fn read(field: &'static str, selector: Option<&'a AppSelector>) -> Result<Self, Failure> {
        let Some(selector) = selector.and_then(|selector| selector.selector.as_ref()) else {
            return Err(Failure::FieldMissing { field });
        };
        let query = match selector {
            Selector::AppId(id) => door::app_id("app_id", id).map(Self::Id),
            Selector::Label(label) => door::needed_text("label", label).map(Self::Label),
            Selector::Name(name) => door::needed_text("name", name).map(Self::Name),
            Selector::Any(any) => door::needed_text("any", any).map(Self::Any),
        };
        query.map_err(|failure| failure.within(field))
    }

    /// Whether it names the app by its id, which no other app can have.
    pub(super) fn is_id_of(&self, app: &App) -> bool {
        match self {
            Self::Id(id) => app.id == *id,
            Self::Any(any) => app.id.as_str() == *any,
            Self::Label(_) | Self::Name(_) => false,
        }
    }

    /// The app or apps that it means.
    pub(super) fn select<'b>(&self, apps: &'b [App]) -> AppSelection<'b> {
        match self {
            Self::Id(id) => match apps.iter().find(|app| app.id == *id) {
                Some(app) => AppSelection::One(app),
                None => AppSelection::None,
            },
            Self::Label(label) => by_text(label, apps, |app| &app.label),
            Self::Name(name) => by_text(name, apps, |app| &app.name),
            Self::Any(any) => select_app(any, apps.iter()),
        }
    }
}

fn by_text<'b>(selector: &str, apps: &'b [App], text: impl Fn(&App) -> &str) -> AppSelection<'b> {
    let mut matches: Vec<&App> = apps.iter().filter(|app| text(app) == selector).collect();
    if matches.is_empty() {
        let folded = canonical_fold(selector);
        // Most labels are ASCII: no allocation for them.
        let is_folded = |text: &str| match text.is_ascii() {
            true => text.eq_ignore_ascii_case(&folded),
            false => canonical_fold(text) == folded,
        };
        matches = apps.iter().filter(|app| is_folded(text(app))).collect();
    }
    matches.sort_by_key(|app| &app.id);
    match matches.as_slice() {
        [] => AppSelection::None,
        [app] => AppSelection::One(app),
        _ => AppSelection::Many(matches),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::AppStatus;

    fn app(id: &str, name: &str, label: &str) -> App {
        App {
            id: AppId::new(id).unwrap(),
            name: name.into(),
            label: label.into(),
            status: AppStatus::Active,
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
    fn check(selector: Selector, expected: &str) {
        let apps = [
            app("0oa2", "jira", "Jira EU"),
            app("0oa1", "jira", "JIRA eu"),
            app("0oa3", "Jira EU", "0oa1"),
            app("0oa4", "Box", "Größe"),
        ];
        let selector = AppSelector { selector: Some(selector) };
        let found = match AppQuery::read("app", Some(&selector)).map(|query| query.select(&apps)) {
            Err(failure) => failure.name().to_owned(),
            Ok(AppSelection::One(app)) => app.id.to_string(),
            Ok(AppSelection::None) => "none".to_owned(),
            Ok(AppSelection::Many(apps)) => apps.iter().map(|app| app.id.as_str()).collect::<Vec<_>>().join(" "),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn apps_are_selected_by_one_field() {
        check(Selector::AppId("0oa1".into()), "0oa1");
        check(Selector::AppId("Jira EU".into()), "FIELD_INVALID");
        check(Selector::AppId("0oa9".into()), "none");
        check(Selector::Label("Jira EU".into()), "0oa2");
        check(Selector::Label("jira EU".into()), "0oa1 0oa2");
        check(Selector::Label("jira".into()), "none");
        check(Selector::Label("GRÖSSE".into()), "0oa4");
        check(Selector::Name("jira".into()), "0oa1 0oa2");
        check(Selector::Name("box".into()), "0oa4");
        check(Selector::Name("Größe".into()), "none");
        check(Selector::Any("0oa1".into()), "0oa1");
        check(Selector::Any("Jira EU".into()), "0oa2 0oa3");
        check(Selector::Any(String::new()), "FIELD_MISSING");
        check(Selector::Name("x".repeat(1_025)), "FIELD_INVALID");
    }

    #[test]
    fn a_selector_is_needed() {
        for selector in [None, Some(AppSelector { selector: None })] {
            let failure = AppQuery::read("app", selector.as_ref()).unwrap_err();
            assert_eq!(failure.name(), "FIELD_MISSING");
        }
    }
}
