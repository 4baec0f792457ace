//! What an operator decides about granting: statuses, name rules per app, quarantine, second e-mails, aliases.
//!
//! Entry point: [`GrantPolicy::new`], which turns [`GrantPolicySettings`] (any strings) into a policy or a typed refusal.
//!
//! Invariants:
//! - A status that this version does not know never grants, and cannot be configured to (facts 5.2, 13.24).
//! - A suspended or deactivated user never grants, and cannot be configured to (facts 2.2).
//! - Only an `ACTIVE` app grants; that is no setting.

use std::collections::HashMap;

use super::ids::{AppId, IdError, UserId};
use super::model::{App, AppStatus, AppUserStatus, UserStatus};
use super::normalize::{Identifier, IdentifierError, LookupKey, NameRule};
use super::resolve::IdentifierKind;

/// Quarantine of a released account name when nothing is configured: 24 hours. Long enough for every document that was
/// shared with the former holder to be read again before the name means somebody else.
pub const QUARANTINE_MILLIS_DEFAULT: i64 = 24 * 60 * 60 * 1000;

/// Longest quarantine that can be configured: a year. Longer ones are typing errors, and the history is not kept longer.
pub const QUARANTINE_MILLIS_MAX: i64 = 365 * QUARANTINE_MILLIS_DEFAULT;

/// Most name rules of a policy. More than one per app of the largest orgs; each is looked up by hash.
pub const NAME_RULES_MAX: usize = 10_000;

/// Most aliases of a policy: they are kept in memory, at some 200 bytes each.
pub const ALIASES_MAX: usize = 100_000;

/// Why settings are no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A user status that Okta does not document.
    #[error("user status {0:?} is unknown, known are {known:?}", known = UserStatus::KNOWN)]
    UserStatusUnknown(String),
    /// A user status that must not grant access.
    #[error("user status {0:?} must not grant access")]
    UserStatusForbidden(String),
    /// No user status would grant: nobody would ever resolve.
    #[error("no user status grants access")]
    UserStatusesEmpty,
    /// An app user status that Okta does not document.
    #[error("app user status {0:?} is unknown, known are {known:?}", known = AppUserStatus::KNOWN)]
    AppUserStatusUnknown(String),
    /// No app user status would grant: nobody would ever resolve.
    #[error("no app user status grants access")]
    AppUserStatusesEmpty,
    /// The quarantine is negative or longer than [`QUARANTINE_MILLIS_MAX`].
    #[error("quarantine of {0} ms is not within 0 and {QUARANTINE_MILLIS_MAX} ms")]
    Quarantine(i64),
    /// More than [`NAME_RULES_MAX`] name rules.
    #[error("{0} name rules, more than {NAME_RULES_MAX}")]
    NameRulesTooMany(usize),
    /// A name rule names no app.
    #[error("name rule without app")]
    NameRuleApp,
    /// Two name rules for one app.
    #[error("two name rules for app {0:?}")]
    NameRuleTwice(String),
    /// More than [`ALIASES_MAX`] aliases.
    #[error("{0} aliases, more than {ALIASES_MAX}")]
    AliasesTooMany(usize),
    /// The app of an alias is no app id.
    #[error("read the app of alias number {index}")]
    AliasApp {
        /// Position in the settings, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: IdError,
    },
    /// The user of an alias is no user id.
    #[error("read the user of alias number {index}")]
    AliasUser {
        /// Position in the settings, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: IdError,
    },
    /// The name of an alias can name no account.
    #[error("read the name of alias number {index}")]
    AliasName {
        /// Position in the settings, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        source: IdentifierError,
    },
}

/// The raw settings, as a configuration file has them. [`GrantPolicySettings::default`] is the documented default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantPolicySettings {
    /// Okta's spelling of the user statuses that grant.
    pub user_statuses: Vec<String>,
    /// Okta's spelling of the app user statuses that grant.
    pub app_user_statuses: Vec<String>,
    /// How names are compared, per app.
    pub name_rules: Vec<NameRuleSetting>,
    /// Whether `profile.secondEmail`, which users edit themselves, is evidence (tier T5).
    pub second_email: bool,
    /// How long a released account name does not resolve to its next holder.
    pub quarantine_millis: i64,
    /// Names that mean a user although no record in Okta says so (tier T4).
    pub aliases: Vec<AliasSetting>,
}

/// A name rule as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRuleSetting {
    /// App id, label or integration name, as Okta spells it.
    pub app: String,
    /// The rule for that app, or those apps.
    pub rule: NameRule,
}

/// An alias as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasSetting {
    /// App id. No label: labels are editable, and an alias must not move with one.
    pub app: String,
    /// What the name is; [`IdentifierKind::Untyped`] answers every kind of question.
    pub kind: IdentifierKind,
    /// The name.
    pub name: String,
    /// Okta's user id. No login: logins are reused (facts 2.2).
    pub user: String,
}

impl Default for GrantPolicySettings {
    fn default() -> Self {
        Self {
            // Locked out, in recovery, password expired: employed and assigned (facts 2.2).
            user_statuses: ["ACTIVE", "PASSWORD_EXPIRED", "RECOVERY", "LOCKED_OUT"].map(String::from).into(),
            app_user_statuses: ["ACTIVE", "PROVISIONED"].map(String::from).into(),
            name_rules: Vec::new(),
            second_email: false,
            quarantine_millis: QUARANTINE_MILLIS_DEFAULT,
            aliases: Vec::new(),
        }
    }
}

/// A configured alias (tier T4): in this app, this name is this user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alias {
    /// The app instance.
    pub app: AppId,
    /// What the name is.
    pub kind: IdentifierKind,
    /// The name, raw.
    pub name: Box<str>,
    /// Who it is.
    pub user: UserId,
}

/// What grants, and how names are compared. Made by [`GrantPolicy::new`] only.
#[derive(Clone, Debug)]
pub struct GrantPolicy {
    user_statuses: Vec<UserStatus>,
    app_user_statuses: Vec<AppUserStatus>,
    name_rules: HashMap<Box<str>, NameRule>,
    second_email: bool,
    quarantine_millis: i64,
    aliases: HashMap<LookupKey, Vec<Alias>>,
}

impl GrantPolicy {
    /// Checks the settings once; nothing behind this door checks them again.
    pub fn new(settings: &GrantPolicySettings) -> Result<Self, PolicyError> {
        let quarantine_millis = settings.quarantine_millis;
        if !(0..=QUARANTINE_MILLIS_MAX).contains(&quarantine_millis) {
            return Err(PolicyError::Quarantine(quarantine_millis));
        }
        Ok(Self {
            user_statuses: read_user_statuses(&settings.user_statuses)?,
            app_user_statuses: read_app_user_statuses(&settings.app_user_statuses)?,
            name_rules: read_name_rules(&settings.name_rules)?,
            second_email: settings.second_email,
            quarantine_millis,
            aliases: read_aliases(&settings.aliases)?,
        })
    }

    /// The settings that make this policy again.
    pub fn settings(&self) -> GrantPolicySettings {
        let rules = self.name_rules.iter();
        let alias = |alias: &Alias| AliasSetting {
            app: alias.app.to_string(),
            kind: alias.kind,
            name: alias.name.to_string(),
            user: alias.user.to_string(),
        };
        GrantPolicySettings {
            user_statuses: self.user_statuses.iter().map(|status| status.as_str().to_owned()).collect(),
            app_user_statuses: self.app_user_statuses.iter().map(|status| status.as_str().to_owned()).collect(),
            name_rules: rules.map(|(app, rule)| NameRuleSetting { app: app.to_string(), rule: *rule }).collect(),
            second_email: self.second_email,
            quarantine_millis: self.quarantine_millis,
            aliases: self.aliases.values().flatten().map(alias).collect(),
        }
    }

    /// Whether a user with this status may see anything. An unknown status never grants.
    pub fn user_grants(&self, status: &UserStatus) -> bool {
        self.user_statuses.contains(status)
    }

    /// Whether an app user with this status has access to the app. An unknown status never grants.
    pub fn app_user_grants(&self, status: &AppUserStatus) -> bool {
        self.app_user_statuses.contains(status)
    }

    /// Whether an app with this status gives access to anybody: `ACTIVE` only.
    pub fn app_grants(&self, status: &AppStatus) -> bool {
        *status == AppStatus::Active
    }

    /// How the app compares user names: the rule of its id, else of its label, else of its integration name.
    pub fn name_rule(&self, app: &App) -> NameRule {
        let of = |selector: &str| self.name_rules.get(selector).copied();
        of(app.id.as_str()).or_else(|| of(&app.label)).or_else(|| of(&app.name)).unwrap_or_default()
    }

    /// Whether second e-mails are evidence (tier T5).
    pub const fn second_email(&self) -> bool {
        self.second_email
    }

    /// How long a released account name does not resolve to its next holder, in milliseconds.
    pub const fn quarantine_millis(&self) -> i64 {
        self.quarantine_millis
    }

    /// How many aliases there are.
    pub fn alias_count(&self) -> usize {
        self.aliases.values().map(Vec::len).sum()
    }

    /// The aliases, of any app, whose name has this key: what [`super::resolve::ResolveInput`] takes.
    pub fn aliases_with_key(&self, key: LookupKey) -> &[Alias] {
        self.aliases.get(&key).map_or(&[], Vec::as_slice)
    }
}

fn read_user_statuses(raw: &[String]) -> Result<Vec<UserStatus>, PolicyError> {
    let mut statuses = Vec::new();
    for name in raw {
        let status = UserStatus::parse(name);
        match status {
            UserStatus::Other(_) => return Err(PolicyError::UserStatusUnknown(name.clone())),
            UserStatus::Suspended | UserStatus::Deprovisioned => {
                return Err(PolicyError::UserStatusForbidden(name.clone()));
            }
            UserStatus::Staged
            | UserStatus::Provisioned
            | UserStatus::Active
            | UserStatus::Recovery
            | UserStatus::PasswordExpired
            | UserStatus::LockedOut => {
                // Repeats change nothing, and the list stays as short as the enumeration.
                if !statuses.contains(&status) {
                    statuses.push(status);
                }
            }
        }
    }
    if statuses.is_empty() { Err(PolicyError::UserStatusesEmpty) } else { Ok(statuses) }
}

fn read_app_user_statuses(raw: &[String]) -> Result<Vec<AppUserStatus>, PolicyError> {
    let mut statuses = Vec::new();
    for name in raw {
        let status = AppUserStatus::parse(name);
        if let AppUserStatus::Other(_) = status {
            return Err(PolicyError::AppUserStatusUnknown(name.clone()));
        }
        if !statuses.contains(&status) {
            statuses.push(status);
        }
    }
    if statuses.is_empty() { Err(PolicyError::AppUserStatusesEmpty) } else { Ok(statuses) }
}

fn read_name_rules(raw: &[NameRuleSetting]) -> Result<HashMap<Box<str>, NameRule>, PolicyError> {
    if raw.len() > NAME_RULES_MAX {
        return Err(PolicyError::NameRulesTooMany(raw.len()));
    }
    let mut rules = HashMap::new();
    for setting in raw {
        if setting.app.is_empty() {
            return Err(PolicyError::NameRuleApp);
        }
        if rules.insert(setting.app.as_str().into(), setting.rule).is_some() {
            return Err(PolicyError::NameRuleTwice(setting.app.clone()));
        }
    }
    Ok(rules)
}

fn read_aliases(raw: &[AliasSetting]) -> Result<HashMap<LookupKey, Vec<Alias>>, PolicyError> {
    if raw.len() > ALIASES_MAX {
        return Err(PolicyError::AliasesTooMany(raw.len()));
    }
    let mut aliases: HashMap<LookupKey, Vec<Alias>> = HashMap::new();
    for (index, setting) in raw.iter().enumerate() {
        let app = AppId::new(&setting.app).map_err(|source| PolicyError::AliasApp { index, source })?;
        let user = UserId::new(&setting.user).map_err(|source| PolicyError::AliasUser { index, source })?;
        let name = Identifier::new(&setting.name).map_err(|source| PolicyError::AliasName { index, source })?;
        let alias = Alias { app, kind: setting.kind, name: name.as_str().into(), user };
        aliases.entry(name.lookup_key()).or_default().push(alias);
    }
    Ok(aliases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(raw: &[&str]) -> Vec<String> {
        raw.iter().map(|s| (*s).into()).collect()
    }

    fn alias(app: &str, name: &str, user: &str) -> AliasSetting {
        let kind = IdentifierKind::Untyped;
        AliasSetting { app: app.into(), kind, name: name.into(), user: user.into() }
    }

    #[test]
    fn bad_settings_are_refused() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut GrantPolicySettings), expected: PolicyError) {
            let mut settings = GrantPolicySettings::default();
            change(&mut settings);
            assert_eq!(GrantPolicy::new(&settings).map(|_| ()), Err(expected));
        }
        check(|s| s.user_statuses = strings(&["active"]), PolicyError::UserStatusUnknown("active".into()));
        check(|s| s.user_statuses = strings(&["SUSPENDED"]), PolicyError::UserStatusForbidden("SUSPENDED".into()));
        check(
            |s| s.user_statuses = strings(&["DEPROVISIONED"]),
            PolicyError::UserStatusForbidden("DEPROVISIONED".into()),
        );
        check(|s| s.user_statuses.clear(), PolicyError::UserStatusesEmpty);
        check(|s| s.app_user_statuses = strings(&["NEW"]), PolicyError::AppUserStatusUnknown("NEW".into()));
        check(|s| s.app_user_statuses.clear(), PolicyError::AppUserStatusesEmpty);
        check(|s| s.quarantine_millis = -1, PolicyError::Quarantine(-1));
        check(|s| s.quarantine_millis = i64::MAX, PolicyError::Quarantine(i64::MAX));
        let rule = |app: &str| NameRuleSetting { app: app.into(), rule: NameRule::Exact };
        check(|s| s.name_rules = vec![rule("")], PolicyError::NameRuleApp);
        check(|s| s.name_rules = vec![rule("a"), rule("a")], PolicyError::NameRuleTwice("a".into()));
        check(|s| s.name_rules = vec![rule("a"); 10_001], PolicyError::NameRulesTooMany(10_001));
        let source = IdError::Empty;
        check(|s| s.aliases = vec![alias("", "n", "u")], PolicyError::AliasApp { index: 0, source: source.clone() });
        check(
            |s| s.aliases = vec![alias("a", "n", "u"), alias("a", "n", "")],
            PolicyError::AliasUser { index: 1, source },
        );
        let source = IdentifierError::Control('\n');
        check(|s| s.aliases = vec![alias("a", "\n", "u")], PolicyError::AliasName { index: 0, source });
        check(|s| s.aliases = vec![alias("a", "n", "u"); 100_001], PolicyError::AliasesTooMany(100_001));
    }

    #[test]
    fn statuses_grant_as_documented() {
        let granting = |settings: GrantPolicySettings| {
            let policy = GrantPolicy::new(&settings).unwrap();
            let users = UserStatus::KNOWN.iter().filter(|raw| policy.user_grants(&UserStatus::parse(raw)));
            let app_users =
                AppUserStatus::KNOWN.iter().filter(|raw| policy.app_user_grants(&AppUserStatus::parse(raw)));
            let apps = AppStatus::KNOWN.iter().filter(|raw| policy.app_grants(&AppStatus::parse(raw)));
            [users.copied().collect::<Vec<_>>(), app_users.copied().collect(), apps.copied().collect()]
                .map(|names| names.join(" "))
        };
        assert_eq!(
            granting(GrantPolicySettings::default()),
            ["ACTIVE RECOVERY PASSWORD_EXPIRED LOCKED_OUT", "ACTIVE PROVISIONED", "ACTIVE"]
        );
        let settings = GrantPolicySettings {
            user_statuses: strings(&["STAGED", "PROVISIONED", "ACTIVE", "ACTIVE"]),
            app_user_statuses: strings(&["STAGED"]),
            ..GrantPolicySettings::default()
        };
        assert_eq!(granting(settings), ["STAGED PROVISIONED ACTIVE", "STAGED", "ACTIVE"]);
    }

    #[test]
    fn unknown_statuses_never_grant() {
        let policy = GrantPolicy::new(&GrantPolicySettings::default()).unwrap();
        assert!(!policy.user_grants(&UserStatus::parse("ACTIVE_2027")));
        assert!(!policy.app_user_grants(&AppUserStatus::parse("active")));
        assert!(!policy.app_grants(&AppStatus::parse("")));
    }

    #[test]
    fn aliases_are_found_by_key() {
        let settings = GrantPolicySettings {
            aliases: vec![alias("a", "JDoe", "u1"), alias("b", "jdoe", "u2"), alias("a", "other", "u3")],
            ..GrantPolicySettings::default()
        };
        let policy = GrantPolicy::new(&settings).unwrap();
        let found = |raw: &str| {
            let key = Identifier::new(raw).unwrap().lookup_key();
            let users = policy.aliases_with_key(key).iter().map(|alias| alias.user.to_string());
            users.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("JDOE"), "u1 u2");
        assert_eq!(found("other"), "u3");
        assert_eq!(found("nobody"), "");
    }
}
