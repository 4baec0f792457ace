//! What is wanted of an org at all: people by e-mail domain, groups by name, and what else can be left out.
//!
//! Entry points: [`FilterConfig`], [`check`].

use std::collections::BTreeSet;

use super::error::{ConfigError, Source, shown};
use super::layers::{Address, Reader};
use super::spec::{Choice, Raw, Spec, Switch, TextSet, Wrong};
use crate::core::filter::DomainPattern;

/// Keys of `[apps]` that have moved here, and where to.
const MOVED: [(&str, &str); 2] =
    [("skip_app_groups", "filter.skip_app_groups"), ("sync_inactive", "filter.sync_inactive_apps")];

/// Where a key of an earlier version is now.
pub(super) fn moved(section: &str, key: &str) -> Option<&'static str> {
    let known = MOVED.iter().find(|(old, _)| section == "apps" && *old == key);
    known.map(|(_, new)| *new)
}

/// Whether domains must be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterMode {
    /// No domains means everybody.
    All,
    /// The org holds an employer's people beside customers: without domains nothing starts.
    Ciam,
}

/// What is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterConfig {
    /// Whether domains must be named.
    pub mode: FilterMode,
    /// Only users whose login or primary e-mail is in one of these; empty: everybody.
    pub email_domains: BTreeSet<DomainPattern>,
    /// Only groups whose name holds one of these; empty: all.
    pub group_name_contains: BTreeSet<String>,
    /// Whether groups that an app brought in (type `APP_GROUP`, facts 3) are left out.
    pub skip_app_groups: bool,
    /// Whether the users of inactive apps are read.
    pub sync_inactive_apps: bool,
    /// Whether secondary e-mails are left out.
    pub skip_secondary_emails: bool,
}

impl FilterConfig {
    pub(super) fn read(reader: &mut Reader<'_>, base: Option<&Self>) -> Self {
        const MODE: Choice<FilterMode> =
            Choice { default: FilterMode::All, words: &[("all", FilterMode::All), ("ciam", FilterMode::Ciam)] };
        Self {
            mode: reader.take("filter", "mode", &MODE, base.map(|base| &base.mode)),
            email_domains: reader.take("filter", "email_domains", &Domains, base.map(|base| &base.email_domains)),
            group_name_contains: reader.take(
                "filter",
                "group_name_contains",
                &NameParts,
                base.map(|base| &base.group_name_contains),
            ),
            skip_app_groups: reader.take(
                "filter",
                "skip_app_groups",
                &Switch(false),
                base.map(|base| &base.skip_app_groups),
            ),
            sync_inactive_apps: reader.take(
                "filter",
                "sync_inactive_apps",
                &Switch(true),
                base.map(|base| &base.sync_inactive_apps),
            ),
            skip_secondary_emails: reader.take(
                "filter",
                "skip_secondary_emails",
                &Switch(false),
                base.map(|base| &base.skip_secondary_emails),
            ),
        }
    }
}

/// A list of texts; one alone may stand without brackets.
const TEXTS: TextSet = TextSet { default: &[], words: &[], empty_allowed: true };

fn texts(raw: &Raw) -> Result<BTreeSet<String>, Wrong> {
    match raw {
        Raw::Text(text) => TEXTS.parse(&Raw::List(vec![Raw::Text(text.clone())])),
        other => TEXTS.parse(other),
    }
}

/// Domains of e-mail addresses.
struct Domains;

impl Spec for Domains {
    type Value = BTreeSet<DomainPattern>;

    fn default_value(&self) -> Self::Value {
        BTreeSet::new()
    }

    fn parse(&self, raw: &Raw) -> Result<Self::Value, Wrong> {
        let parse = |entry: String| {
            DomainPattern::parse(&entry).map_err(|reason| Wrong::Because(format!("{} {reason}", shown(&entry))))
        };
        texts(raw)?.into_iter().map(parse).collect()
    }

    fn render(&self, value: &Self::Value) -> String {
        TEXTS.render(&value.iter().map(|pattern| pattern.as_str().to_owned()).collect())
    }

    fn expects(&self) -> String {
        "a list of domains such as \"example.com\", or \"*.example.com\" for its sub-domains".to_owned()
    }
}

/// Parts of names.
struct NameParts;

impl Spec for NameParts {
    type Value = BTreeSet<String>;

    fn default_value(&self) -> Self::Value {
        BTreeSet::new()
    }

    fn parse(&self, raw: &Raw) -> Result<Self::Value, Wrong> {
        texts(raw)
    }

    fn render(&self, value: &Self::Value) -> String {
        TEXTS.render(value)
    }

    fn expects(&self) -> String {
        "a text or a list of texts".to_owned()
    }
}

/// An org that must name domains and names none would be read whole: all its customers would be stored.
pub(super) fn check(reader: &mut Reader<'_>, org: &str, filter: &FilterConfig) {
    if filter.mode != FilterMode::Ciam || !filter.email_domains.is_empty() {
        return;
    }
    let address = Address::new(Some(org), "filter", "mode");
    let effective = reader.record.iter().find(|effective| effective.address == address);
    let at = effective.map_or(Source::Default, |effective| effective.source.clone());
    let reason = format!(
        "\"ciam\" needs the domains of the people to keep, so that nobody else is stored: set filter.email_domains, for \
         example email_domains = [\"example.com\"] in [filter] or [orgs.{org}.filter], or OKTA_IDMAP_FILTER__EMAIL_DOMAINS; \
         or mode = \"all\" to keep everybody"
    );
    reader.problems.push(ConfigError::Refused { at, key: address.to_string(), reason });
}
