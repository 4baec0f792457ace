//! Which app a caller means: [`select_app`].
//!
//! | the selector | selects |
//! |---|---|
//! | is an app id | that app, whatever others are called |
//! | else is exactly the label or the integration name of some | those: one app is selected, several are ambiguous |
//! | else is the label or name of some when case is folded | likewise |
//! | else | none |

use std::borrow::Cow;

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

fn is_folded(text: &str, folded_selector: &Cow<'_, str>) -> bool {
    // Most labels are ASCII: no allocation for them.
    if text.is_ascii() {
        return text.eq_ignore_ascii_case(folded_selector);
    }
    canonical_fold(text) == *folded_selector
}
