//! User names and external ids as apps see them, computed from the user and the assignment.
//!
//! Entry points: `user_name`, `external_id`, `employee_number`. Pure functions.

use super::types::{App, Template, User};

/// The user name a template makes; `None` if the template needs a value the user has not got.
pub(crate) fn user_name(template: Template, user: &User) -> Option<String> {
    let short = || user.login.split('@').next().unwrap_or_default();
    match template {
        Template::Login => Some(user.login.to_string()),
        Template::Email => Some(user.email().to_owned()),
        Template::ShortName => Some(short().to_owned()),
        Template::UpperShortName => Some(short().to_uppercase()),
        Template::EmployeeNumber => employee_number(user),
        Template::None => None,
    }
}

/// `profile.employeeNumber`, for example `E-1042`.
pub(crate) fn employee_number(user: &User) -> Option<String> {
    (user.employee_number > 0).then(|| format!("E-{}", user.employee_number))
}

/// What the app calls the account: a directory object id for directories, else a number.
pub(crate) fn external_id(app: &App, assignment: u32) -> String {
    let spread = (u64::from(assignment) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if app.imports() && app.sign_on.is_none() {
        format!("{spread:016x}{:016x}", spread.rotate_left(23))
    } else {
        (u64::from(assignment) + 80_000).to_string()
    }
}
