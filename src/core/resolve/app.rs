//! Which app a caller means: [`select_app`].
//!
//! | the selector | selects |
//! |---|---|
//! | is an app id | that app, whatever others are called |
//! | else is exactly the label or the integration name of some | those: one app is selected, several are ambiguous |
//! | else is the label or name of some when case is folded | likewise |
//! | else | none |

use crate::core::model::App;
use crate::core::normalize::canonical_fold;

/// The app or apps that a selector means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppSelection<'a> {
    /// Exactly one.
    One(&'a App),
    /// No app.
    None,
    /// Two or more, in the order of their ids.
    Many(Vec<&'a App>),
}

/// Finds the app by id, label or integration name; labels and names are not unique (facts 4). An empty selector selects
/// none. Reads `apps` once; the same app may come twice.
pub fn select_app<'a>(selector: &str, apps: impl Iterator<Item = &'a App>) -> AppSelection<'a> {
    if selector.is_empty() {
        return AppSelection::None;
    }
    let folded_selector = canonical_fold(selector);
    let mut exact: Vec<&App> = Vec::new();
    let mut folded: Vec<&App> = Vec::new();
    for app in apps {
        if app.id.as_str() == selector {
            return AppSelection::One(app);
        }
        if *app.label == *selector || *app.name == *selector {
            exact.push(app);
        } else if is_folded(&app.label, &folded_selector) || is_folded(&app.name, &folded_selector) {
            folded.push(app);
        }
    }
    let mut matches = if exact.is_empty() { folded } else { exact };
    // Sorted, because thousands of custom apps may share one integration name.
    matches.sort_by_key(|app| &app.id);
    matches.dedup_by_key(|app| &app.id);
    match matches.as_slice() {
        [] => AppSelection::None,
        [app] => AppSelection::One(app),
        _ => AppSelection::Many(matches),
    }
}

fn is_folded(text: &str, folded_selector: &str) -> bool {
    // Most labels are ASCII: no allocation for them.
    if text.is_ascii() {
        return text.eq_ignore_ascii_case(folded_selector);
    }
    canonical_fold(text) == *folded_selector
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::resolve::tests::{app, render};
    use crate::core::resolve::{Completeness, Resolution};

    #[test]
    fn apps_are_selected() {
        #[track_caller]
        fn check(selector: &str, expected: &str) {
            let apps = [
                app("0oa1", "salesforce", "Sales"),
                app("0oa2", "salesforce", "SALES"),
                app("0oa3", "jira", "jira"),
                app("0oa4", "slack", "0oa1"), // Called like the id of another.
                app("0oa5", "box", "Größe"),
                app("0oa6", "oidc_client", "Slack"),
                app("0oa7", "GitHub", "Code"),
                app("0oa8", "custom", "github"),
            ];
            let twice = apps.iter().chain(&apps);
            let answer = match select_app(selector, twice) {
                AppSelection::One(app) => app.id.to_string(),
                AppSelection::None => render(&Resolution::of_unknown_app(Completeness::Complete)),
                AppSelection::Many(apps) => render(&Resolution::of_ambiguous_app(apps, Completeness::Complete)),
            };
            assert_eq!(answer, expected, "{selector:?}");
        }
        check("0oa1", "0oa1");
        check("0OA1", "0oa4"); // Ids are exact; a label is folded.
        check("Sales", "0oa1");
        check("SALES", "0oa2");
        check("sales", "AMBIGUOUS_APP 0oa1 0oa2");
        check("salesforce", "AMBIGUOUS_APP 0oa1 0oa2");
        check("SalesForce", "AMBIGUOUS_APP 0oa1 0oa2");
        check("jira", "0oa3"); // Label and name of one app.
        check("slack", "0oa4"); // An exact name before a folded label.
        check("Slack", "0oa6");
        check("SLACK", "AMBIGUOUS_APP 0oa4 0oa6");
        check("GRÖSSE", "0oa5");
        check("gro\u{308}ße", "0oa5");
        check("github", "0oa8");
        check("GITHUB", "AMBIGUOUS_APP 0oa7 0oa8");
        check("sale", "UNKNOWN_APP");
        check("", "UNKNOWN_APP");
    }
}
