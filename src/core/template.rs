//! User name templates of apps: what Okta would name a user in an app, as far as what is stored of the user tells.
//!
//! Entry points: [`Template::parse`], then [`Template::predict`].
//!
//! | template | read as |
//! |---|---|
//! | `${source.login}`, `a-${fn:toLowerCase(source.email)}` | text with parts in `${…}` |
//! | `user.login`, `substringBefore(user.login, "@") + "@x"` | one expression |
//!
//! Expressions are fields of the user, texts in quotes, `+`, and the functions `substringBefore`, `substringAfter`,
//! `toLowerCase`, `toUpperCase` and `append`, with `fn:` or `String.` in front of them or without. Anything else, such as
//! functions of groups or attributes that are not stored, is [`Unpredictable`].
//!
//! Invariants:
//! - A prediction is never evidence: names may be set by hand, and an app may append what is not stored (facts 4).
//! - Where Okta does not say what comes out (a field is empty, a separator is not there), nothing is predicted.

use super::model::User;
use super::normalize::IDENTIFIER_BYTES_MAX;

/// Longest template, in bytes. The longest recorded one has 70.
pub const TEMPLATE_BYTES_MAX: usize = 1_024;

/// Functions and brackets within each other, so that a template cannot exhaust the stack.
pub const TEMPLATE_DEPTH_MAX: usize = 16;

/// Stands for the naming context of a directory, which is the same for all its users and is not stored. A domain that nobody
/// has: a naming context is a domain, and the names with it are compared as addresses.
pub const NAMING_CONTEXT: &str = "naming-context.invalid";

/// Longest name of a variable or function in a message, in bytes.
const SHOWN_BYTES_MAX: usize = 64;

/// Why nothing can be predicted from a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpredictable {
    /// There is no template, or an empty one. Okta's default is `${source.login}`, and recorded answers write it out; an
    /// empty one is allowed (facts 4), and what Okta makes of it is not documented.
    #[error("the app has no user name template")]
    Empty,
    /// Longer than [`TEMPLATE_BYTES_MAX`].
    #[error("the user name template has {0} bytes, more than {TEMPLATE_BYTES_MAX}")]
    TooLong(usize),
    /// Deeper than [`TEMPLATE_DEPTH_MAX`].
    #[error("the user name template has more than {TEMPLATE_DEPTH_MAX} functions within each other")]
    TooDeep,
    /// A variable that is not a stored field of the user.
    #[error("the user name template uses {0}, which is not stored")]
    Variable(Box<str>),
    /// A function that is not understood.
    #[error("the user name template uses the function {0}, which is not understood")]
    Function(Box<str>),
    /// A function whose arguments are not understood.
    #[error("the user name template uses the function {0} in a way that is not understood")]
    Arguments(Box<str>),
    /// Neither text nor expression.
    #[error("the user name template is not understood at byte {0}")]
    Syntax(usize),
}

/// A stored field of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Login,
    Email,
    SecondEmail,
    FirstName,
    LastName,
    DisplayName,
}

impl Field {
    fn of(self, user: &User) -> Option<&str> {
        let value = match self {
            Self::Login => &user.login,
            Self::Email => &user.email,
            Self::SecondEmail => &user.second_email,
            Self::FirstName => &user.first_name,
            Self::LastName => &user.last_name,
            Self::DisplayName => &user.display_name,
        };
        value.as_deref().filter(|value| !value.is_empty())
    }

    /// Of `user.login` or `source.login`: both are the user when Okta names the account.
    fn parse(variable: &str) -> Option<Self> {
        let attribute = variable.strip_prefix("user.").or_else(|| variable.strip_prefix("source."))?;
        Some(match attribute {
            "login" => Self::Login,
            "email" => Self::Email,
            "secondEmail" => Self::SecondEmail,
            "firstName" => Self::FirstName,
            "lastName" => Self::LastName,
            "displayName" => Self::DisplayName,
            _ => return None,
        })
    }
}

/// A part of a template. Nothing is nested deeper than [`TEMPLATE_DEPTH_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// The naming context of the app.
    NamingContext,
    Field(Field),
    Joined(Vec<Part>),
    Before(Box<Part>, Box<str>),
    After(Box<Part>, Box<str>),
    Lower(Box<Part>),
    Upper(Box<Part>),
}

impl Part {
    /// `None`: it cannot be told, or is longer than a name can be.
    fn of(&self, user: &User) -> Option<String> {
        let value = match self {
            Self::Text(text) => text.to_string(),
            Self::NamingContext => NAMING_CONTEXT.to_owned(),
            Self::Field(field) => field.of(user)?.to_owned(),
            Self::Joined(parts) => {
                let mut joined = String::new();
                for part in parts {
                    joined.push_str(&part.of(user)?);
                    if joined.len() > IDENTIFIER_BYTES_MAX {
                        return None;
                    }
                }
                joined
            }
            // What comes out without the separator is not documented.
            Self::Before(part, separator) => part.of(user)?.split_once(&**separator)?.0.to_owned(),
            Self::After(part, separator) => part.of(user)?.split_once(&**separator)?.1.to_owned(),
            Self::Lower(part) => part.of(user)?.to_lowercase(),
            Self::Upper(part) => part.of(user)?.to_uppercase(),
        };
        (value.len() <= IDENTIFIER_BYTES_MAX).then_some(value)
    }

    /// Whether it holds what only stands for something, whose letters say nothing.
    fn has_naming_context(&self) -> bool {
        match self {
            Self::NamingContext => true,
            Self::Text(_) | Self::Field(_) => false,
            Self::Joined(parts) => parts.iter().any(Self::has_naming_context),
            Self::Before(part, _) | Self::After(part, _) | Self::Lower(part) | Self::Upper(part) => {
                part.has_naming_context()
            }
        }
    }

    fn joined(mut parts: Vec<Part>) -> Part {
        match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => Part::Joined(parts.into_iter().chain(last).collect()),
        }
    }
}

/// A template that names can be predicted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Part);

impl Template {
    /// Reads a template as Okta spells it.
    ///
    /// # Errors
    /// [`Unpredictable`] names the first thing that stands in the way.
    pub fn parse(template: &str) -> Result<Self, Unpredictable> {
        if template.trim().is_empty() {
            return Err(Unpredictable::Empty);
        }
        if template.len() > TEMPLATE_BYTES_MAX {
            return Err(Unpredictable::TooLong(template.len()));
        }
        let mut parser = Parser { whole: template, rest: template };
        let part = if template.contains("${") { parser.text_with_parts() } else { parser.whole_expression() };
        part.map(Self)
    }

    /// The name that the user would get. `None`: the user lacks a field or separator that the template needs, or the name
    /// would be empty or too long to be asked for.
    pub fn predict(&self, user: &User) -> Option<String> {
        self.0.of(user).filter(|name| !name.is_empty())
    }

    /// Whether the name is the login and nothing else: logins are unique in an org, byte by byte (facts 2.1).
    pub fn is_login(&self) -> bool {
        self.0 == Part::Field(Field::Login)
    }
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn syntax<T>(&self) -> Result<T, Unpredictable> {
        Err(Unpredictable::Syntax(self.whole.len() - self.rest.len()))
    }

    /// Passes blanks, and then `wanted` if it comes next.
    fn eats(&mut self, wanted: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn text_with_parts(&mut self) -> Result<Part, Unpredictable> {
        let mut parts = Vec::new();
        while let Some((text, rest)) = self.rest.split_once("${") {
            if !text.is_empty() {
                parts.push(Part::Text(text.into()));
            }
            self.rest = rest;
            parts.push(self.expression(0)?);
            if !self.eats('}') {
                return self.syntax();
            }
        }
        if !self.rest.is_empty() {
            parts.push(Part::Text(self.rest.into()));
        }
        Ok(Part::joined(parts))
    }

    fn whole_expression(&mut self) -> Result<Part, Unpredictable> {
        let part = self.expression(0)?;
        self.rest = self.rest.trim_start();
        if self.rest.is_empty() { Ok(part) } else { self.syntax() }
    }

    fn expression(&mut self, depth: usize) -> Result<Part, Unpredictable> {
        let mut parts = vec![self.term(depth)?];
        while self.eats('+') {
            parts.push(self.term(depth)?);
        }
        Ok(Part::joined(parts))
    }

    fn term(&mut self, depth: usize) -> Result<Part, Unpredictable> {
        if depth > TEMPLATE_DEPTH_MAX {
            return Err(Unpredictable::TooDeep);
        }
        if self.eats('(') {
            let part = self.expression(depth + 1)?;
            return if self.eats(')') { Ok(part) } else { self.syntax() };
        }
        for quote in ['"', '\''] {
            if self.eats(quote) {
                return self.quoted(quote).map(|text| Part::Text(text.into()));
            }
        }
        let word = self.word();
        if word.is_empty() {
            return self.syntax();
        }
        if self.eats('(') {
            return self.call(word, depth);
        }
        match Field::parse(word) {
            Some(field) => Ok(Part::Field(field)),
            None if word == "target_app.namingContext" => Ok(Part::NamingContext),
            None => Err(Unpredictable::Variable(shown(word))),
        }
    }

    /// A name of a variable or function.
    fn word(&mut self) -> &'a str {
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':');
        let end = self.rest.find(|c: char| !is_of_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// The text up to the closing quote.
    fn quoted(&mut self, quote: char) -> Result<String, Unpredictable> {
        let mut text = String::new();
        let mut chars = self.rest.chars();
        loop {
            match chars.next() {
                Some(c) if c == quote => break,
                // Of escapes, only those whose meaning is beyond doubt.
                Some('\\') => match chars.next() {
                    Some(c @ ('"' | '\'' | '\\')) => text.push(c),
                    _ => return self.syntax(),
                },
                Some(c) => text.push(c),
                None => return self.syntax(),
            }
        }
        self.rest = chars.as_str();
        Ok(text)
    }

    /// A function, behind its opening bracket.
    fn call(&mut self, name: &str, depth: usize) -> Result<Part, Unpredictable> {
        let bare = name.strip_prefix("fn:").or_else(|| name.strip_prefix("String.")).unwrap_or(name);
        if !matches!(bare, "substringBefore" | "substringAfter" | "toLowerCase" | "toUpperCase" | "append") {
            return Err(Unpredictable::Function(shown(name)));
        }
        let mut arguments = vec![self.expression(depth + 1)?];
        while self.eats(',') {
            arguments.push(self.expression(depth + 1)?);
        }
        if !self.eats(')') {
            return self.syntax();
        }
        let not_understood = || Unpredictable::Arguments(shown(name));
        if bare == "append" {
            return if arguments.len() == 2 { Ok(Part::Joined(arguments)) } else { Err(not_understood()) };
        }
        if arguments.iter().any(Part::has_naming_context) {
            return Err(not_understood());
        }
        let mut arguments = arguments.into_iter();
        match (bare, arguments.next(), arguments.next(), arguments.next()) {
            ("toLowerCase", Some(of), None, None) => Ok(Part::Lower(of.into())),
            ("toUpperCase", Some(of), None, None) => Ok(Part::Upper(of.into())),
            ("substringBefore", Some(of), Some(Part::Text(separator)), None) if !separator.is_empty() => {
                Ok(Part::Before(of.into(), separator))
            }
            ("substringAfter", Some(of), Some(Part::Text(separator)), None) if !separator.is_empty() => {
                Ok(Part::After(of.into(), separator))
            }
            _ => Err(not_understood()),
        }
    }
}

/// A word for a message: words are ASCII, and may be long.
fn shown(word: &str) -> Box<str> {
    word.get(..SHOWN_BYTES_MAX).unwrap_or(word).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::UserId;
    use crate::core::model::UserStatus;

    fn jane() -> User {
        User {
            id: UserId::new("00u1").unwrap(),
            status: UserStatus::Active,
            login: Some("Jane.Doe@acme.example".into()),
            email: Some("jane@mail.example".into()),
            second_email: None,
            first_name: Some("Jane".into()),
            last_name: Some("Doe".into()),
            display_name: Some(String::new().into()),
            created: None,
            last_updated: None,
            status_changed: None,
        }
    }

    #[track_caller]
    fn check(template: &str, expected: Result<Option<&str>, &str>) {
        let found = Template::parse(template).map(|template| template.predict(&jane())).map_err(|why| why.to_string());
        let found = found.as_ref().map(|name| name.as_deref()).map_err(|why| why.as_str());
        assert_eq!(found, expected, "{template}");
    }

    #[test]
    fn templates_of_real_apps_are_predicted() {
        check("${source.login}", Ok(Some("Jane.Doe@acme.example")));
        check("user.login", Ok(Some("Jane.Doe@acme.example")));
        check("${source.email}", Ok(Some("jane@mail.example")));
        check("user.email", Ok(Some("jane@mail.example")));
        check("user.firstName", Ok(Some("Jane")));
        check("${fn:substringBefore(source.login, \"@\")}", Ok(Some("Jane.Doe")));
        check(
            "substringBefore(user.login, \"@\") + \"@\" + target_app.namingContext",
            Ok(Some("Jane.Doe@naming-context.invalid")),
        );
    }

    #[test]
    fn documented_functions_are_predicted() {
        check("${fn:substringAfter(source.email,'@')}", Ok(Some("mail.example")));
        check("${fn:toLowerCase(fn:substringBefore(source.login, \"@\"))}", Ok(Some("jane.doe")));
        check("String.substringBefore(user.login, \"@\")", Ok(Some("Jane.Doe")));
        check("String.toUpperCase(user.lastName)", Ok(Some("DOE")));
        check("String.append(user.firstName, '.' + user.lastName)", Ok(Some("Jane.Doe")));
        check(" (user.firstName + \"\\\"}\" ) ", Ok(Some("Jane\"}")));
        check("x-${source.firstName}.${source.lastName}@y", Ok(Some("x-Jane.Doe@y")));
        check("${source.firstName + \"}\"}", Ok(Some("Jane}")));
    }

    #[test]
    fn what_okta_does_not_say_is_not_predicted() {
        check("user.secondEmail", Ok(None)); // Not there.
        check("x${source.displayName}", Ok(None)); // Empty.
        check("substringBefore(user.login, \"#\")", Ok(None)); // No separator.
        check("substringAfter(user.firstName, \"e\")", Ok(None)); // An empty name.
        let long = vec!["user.login"; 60].join("+");
        check(&long, Ok(None)); // Longer than a name can be.
    }

    #[test]
    fn what_is_not_understood_is_named() {
        check("", Err("the app has no user name template"));
        check(" \t", Err("the app has no user name template"));
        check(
            "${source.samAccountName}",
            Err("the user name template uses source.samAccountName, which is not stored"),
        );
        check("jdoe", Err("the user name template uses jdoe, which is not stored"));
        let group = "isMemberOfGroupName(\"x\") ? user.login : user.email";
        check(group, Err("the user name template uses the function isMemberOfGroupName, which is not understood"));
        let substring = "String.substring(user.firstName, 0, 1)";
        check(substring, Err("the user name template uses the function String.substring, which is not understood"));
        let of =
            |name: &str| format!("the user name template uses the function {name} in a way that is not understood");
        check("toLowerCase(user.login, \"x\")", Err(&of("toLowerCase")));
        check("substringBefore(user.login, user.email)", Err(&of("substringBefore")));
        check("substringBefore(user.login, \"\")", Err(&of("substringBefore")));
        check("toUpperCase(\"x\" + target_app.namingContext)", Err(&of("toUpperCase")));
        check("append(user.login)", Err(&of("append")));
        check("user.login == null", Err("the user name template is not understood at byte 11"));
        check("${source.login", Err("the user name template is not understood at byte 14"));
        check("user.login + \"x", Err("the user name template is not understood at byte 14"));
        check("user.login + ", Err("the user name template is not understood at byte 13"));
        check("toLowerCase()", Err("the user name template is not understood at byte 12"));
        let long = "x".repeat(TEMPLATE_BYTES_MAX + 1);
        check(&long, Err("the user name template has 1025 bytes, more than 1024"));
        check(&"x".repeat(99), Err(&format!("the user name template uses {}, which is not stored", "x".repeat(64))));
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}user.login{}", "(".repeat(depth), ")".repeat(depth));
        check(&nested(TEMPLATE_DEPTH_MAX), Ok(Some("Jane.Doe@acme.example")));
        let too_deep = "the user name template has more than 16 functions within each other";
        check(&nested(TEMPLATE_DEPTH_MAX + 1), Err(too_deep));
        check(&"toLowerCase(".repeat(80), Err(too_deep));
    }

    #[test]
    fn a_login_alone_is_unique() {
        let is_login = |template: &str| Template::parse(template).unwrap().is_login();
        assert!(is_login("${source.login}") && is_login("user.login") && is_login("(source.login)"));
        assert!(!is_login("user.email") && !is_login("toLowerCase(user.login)") && !is_login("${user.login}x"));
    }
}
