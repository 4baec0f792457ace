//! User name templates of apps, as Okta sends them.

use okta_idmap::core::ids::UserId;
use okta_idmap::core::model::{User, UserStatus};
use okta_idmap::core::normalize::IDENTIFIER_BYTES_MAX;
use okta_idmap::core::template::{TEMPLATE_BYTES_MAX, Template};
use proptest::prelude::*;

use crate::runner::{Target, check_message, run};

const WORDS: &[&str] = &[
    "${",
    "}",
    "source.login",
    "user.email",
    "user.firstName",
    "target_app.namingContext",
    "fn:",
    "String.",
    "substringBefore(",
    "substringAfter(",
    "toLowerCase(",
    "toUpperCase(",
    "append(",
    ")",
    "(",
    ", \"@\")",
    "\"",
    "'",
    "\\",
    " + ",
    "İß",
];

/// Longest message about a template, in characters: with the longest name of a function that is shown.
const MESSAGE_CHARS_MAX: usize = 150;

fn user(login: &str) -> User {
    let text = |text: &str| Some(text.into());
    User {
        id: UserId::new("00u1").unwrap(),
        status: UserStatus::Active,
        login: text(login),
        email: text("ΑΣ@İstanbul.example"),
        second_email: None,
        first_name: text(&"ΐ".repeat(200)), // Six bytes each as capitals.
        last_name: text(""),
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

#[test]
fn fuzz_user_name_templates() {
    let (jane, john) = (user("Jane@acme.example"), user("john@acme.example"));
    run(&Target { name: "user_name_template", words: WORDS, cost: 1 }, |input| {
        let text = String::from_utf8_lossy(input);
        match Template::parse(&text) {
            Ok(template) => {
                prop_assert!(text.len() <= TEMPLATE_BYTES_MAX);
                let names = [&jane, &john].map(|user| template.predict(user));
                for name in names.iter().flatten() {
                    prop_assert!(!name.is_empty() && name.len() <= IDENTIFIER_BYTES_MAX, "{} bytes", name.len());
                }
                if template.is_login() {
                    prop_assert_eq!(names[0].as_deref(), jane.login.as_deref());
                }
                // Who differs in nothing but a field that the template does not name gets the same name.
                if !text.contains("login") {
                    prop_assert_eq!(&names[0], &names[1]);
                }
                Ok(true)
            }
            Err(why) => {
                check_message(&why.to_string(), MESSAGE_CHARS_MAX)?;
                Ok(false)
            }
        }
    });
}
