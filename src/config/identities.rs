//! What an operator says of single account names: aliases and overrides. Entry points: [`Aliases`], [`Overrides`].
//!
//! Both are lists of tables. Invariants:
//! - Ids are ids of Okta, never labels or logins: these move to others.
//! - An override has an end and a reason, and no two of one list are about the same name.
//! - What is wrong is told with the number of the entry and, in a file, its place.

use std::collections::BTreeSet;

use super::error::{Source, nearest, shown};
use super::spec::{Given, Raw, Spec, Wrong, quoted};
use crate::core::ids::{AppId, IdError, Timestamp, UserId};
use crate::core::normalize::Identifier;
use crate::core::overrides::{CONFIGURATION, OVERRIDES_MAX, OverrideName, OverrideSetting, check_reason};
use crate::core::policy::{ALIASES_MAX, AliasSetting};
use crate::core::resolve::{IdentifierKind, Override};

/// Names that mean a user although no record in Okta says so (tier T4).
pub(super) struct Aliases;

/// Decisions about names, until a time (tier T6).
pub(super) struct Overrides;

const KINDS: [(&str, IdentifierKind); 4] = [
    ("any", IdentifierKind::Untyped),
    ("user_name", IdentifierKind::UserName),
    ("external_id", IdentifierKind::ExternalId),
    ("email", IdentifierKind::Email),
];

const OF_BOTH: [&str; 4] = ["app", "kind", "name", "user"];
const OF_OVERRIDES: [&str; 6] = ["app", "kind", "name", "user", "expires_at", "reason"];

impl Spec for Aliases {
    type Value = Vec<AliasSetting>;

    fn default_value(&self) -> Self::Value {
        Vec::new()
    }

    fn parse(&self, raw: &Raw) -> Result<Self::Value, Wrong> {
        entries(raw, ALIASES_MAX, |entry| {
            entry.check_keys(&OF_BOTH)?;
            let (app, kind, name, user) = entry.account()?;
            let (app, name, user) = (app.to_string(), name.as_str().to_owned(), user.to_string());
            Ok(AliasSetting { app, kind, name, user })
        })
    }

    fn render(&self, value: &Self::Value) -> String {
        let account = |alias: &AliasSetting| rendered_account(&alias.app, alias.kind, &alias.name, &alias.user);
        list(value.iter().map(|alias| format!("{{ {} }}", account(alias))))
    }

    fn expects(&self) -> String {
        "a list of tables like { app = \"0oa…\", name = \"jdoe\", user = \"00u…\" }".to_owned()
    }
}

impl Spec for Overrides {
    type Value = Vec<OverrideSetting>;

    fn default_value(&self) -> Self::Value {
        Vec::new()
    }

    fn parse(&self, raw: &Raw) -> Result<Self::Value, Wrong> {
        let mut names = BTreeSet::new();
        entries(raw, OVERRIDES_MAX, |entry| {
            entry.check_keys(&OF_OVERRIDES)?;
            let (app, kind, name, user) = entry.account()?;
            let expires_at = entry.text("expires_at")?;
            let expires_at = Timestamp::parse(expires_at).ok_or_else(|| {
                let got = shown(expires_at);
                format!("expires_at: expected a time like \"2027-01-31T00:00:00Z\", got {got}")
            })?;
            let reason = entry.text("reason")?;
            check_reason(reason).map_err(|fault| format!("reason: {fault}"))?;
            let setting = Override { app, kind, name: name.as_str().into(), user, expires_at };
            if !names.insert(OverrideName::of(&setting)) {
                return Err("another entry is about the same app, kind and name: nobody would be granted".to_owned());
            }
            Ok(OverrideSetting { entry: setting, created_by: CONFIGURATION.into(), reason: reason.into() })
        })
    }

    fn render(&self, value: &Self::Value) -> String {
        list(value.iter().map(|setting| {
            let entry = &setting.entry;
            let account = rendered_account(entry.app.as_str(), entry.kind, &entry.name, entry.user.as_str());
            let (expires_at, reason) = (quoted(&entry.expires_at.to_iso()), quoted(&setting.reason));
            format!("{{ {account}, expires_at = {expires_at}, reason = {reason} }}")
        }))
    }

    fn expects(&self) -> String {
        "a list of tables like { app = \"0oa…\", name = \"jdoe\", user = \"00u…\", expires_at = \
         \"2027-01-31T00:00:00Z\", reason = \"…\" }"
            .to_owned()
    }
}

fn list(entries: impl Iterator<Item = String>) -> String {
    format!("[{}]", entries.collect::<Vec<_>>().join(", "))
}

fn rendered_account(app: &str, kind: IdentifierKind, name: &str, user: &str) -> String {
    let word = KINDS.iter().find(|(_, known)| *known == kind).map_or("any", |(word, _)| *word);
    format!("app = {}, kind = {}, name = {}, user = {}", quoted(app), quoted(word), quoted(name), quoted(user))
}

/// One table of a list.
struct Entry<'a>(&'a [(String, Given)]);

impl<'a> Entry<'a> {
    fn check_keys(&self, known: &[&'static str]) -> Result<(), String> {
        let Some((key, _)) = self.0.iter().find(|(key, _)| !known.contains(&key.as_str())) else { return Ok(()) };
        let suggestion = nearest(key, known.iter().copied()).map(|word| format!(" (did you mean {word}?)"));
        Err(format!("unknown key {}{}; it takes {}", shown(key), suggestion.unwrap_or_default(), known.join(", ")))
    }

    fn find(&self, key: &str) -> Option<&'a Raw> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, given)| &given.raw)
    }

    fn text(&self, key: &str) -> Result<&'a str, String> {
        let raw = self.find(key).ok_or_else(|| format!("{key} is missing"))?;
        raw.text().ok_or_else(|| format!("{key}: expected a text in quotes, got {}", raw.shown()))
    }

    fn account(&self) -> Result<(AppId, IdentifierKind, Identifier<'a>, UserId), String> {
        fn id<T>(
            key: &str,
            what: &str,
            text: &str,
            read: impl FnOnce(&str) -> Result<T, IdError>,
        ) -> Result<T, String> {
            read(text).map_err(|error| format!("{key}: expected {what}, got {}: {error}", shown(text)))
        }
        let app = id("app", "the id of an app", self.text("app")?, AppId::new)?;
        let kind = match self.find("kind") {
            None => IdentifierKind::Untyped,
            Some(_) => {
                let text = self.text("kind")?;
                let known = KINDS.iter().find(|(word, _)| *word == text).map(|(_, kind)| *kind);
                let words = KINDS.map(|(word, _)| quoted(word)).join(", ");
                known.ok_or_else(|| format!("kind: expected one of {words}, got {}", shown(text)))?
            }
        };
        let name = self.text("name")?;
        let name = Identifier::new(name).map_err(|error| format!("name: {error}"))?;
        let user = id("user", "the id of a user", self.text("user")?, UserId::new)?;
        Ok((app, kind, name, user))
    }
}

/// Reads a list of tables; from a variable it is written as TOML.
fn entries<T>(raw: &Raw, max: usize, mut read: impl FnMut(&Entry<'_>) -> Result<T, String>) -> Result<Vec<T>, Wrong> {
    let parsed;
    let items = match raw {
        Raw::List(items) => items,
        Raw::Untyped(text) => {
            parsed = super::file::parse_value(text.trim()).ok_or(Wrong::Unlike)?;
            match &parsed {
                Raw::List(items) => items,
                _ => return Err(Wrong::Unlike),
            }
        }
        _ => return Err(Wrong::Unlike),
    };
    if items.len() > max {
        return Err(Wrong::Because(format!("has more than {max} entries")));
    }
    let read_one = |(index, item): (usize, &Raw)| {
        let Raw::Table(keys) = item else {
            return Err(Wrong::Because(format!("entry {}: expected a table, got {}", index + 1, item.shown())));
        };
        read(&Entry(keys)).map_err(|reason| {
            let place = keys.iter().map(|(_, given)| &given.source).find(|source| **source != Source::Default);
            let place = place.map(|source| format!(" ({source})")).unwrap_or_default();
            Wrong::Because(format!("entry {}{place}: {reason}", index + 1))
        })
    };
    items.iter().enumerate().map(read_one).collect()
}
