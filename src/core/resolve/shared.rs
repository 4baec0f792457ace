//! Names that several accounts of an app have: what a question for them would be refused for, before anybody asks.
//!
//! Entry point: [`shared_names`].
//!
//! Invariant: a typed question for a name that is told here is refused as [`Ambiguity::SharedName`](super::Ambiguity) of the
//! tier that is told; under [`Tier::UserNameNormalized`] for every spelling that nobody has byte by byte.

use std::collections::BTreeMap;

use super::{IdentifierKind, NameField, Tier};
use crate::core::model::AppUser;
use crate::core::normalize::{Identifier, NameRule, NormalizedName};

/// One shared name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedName<'a> {
    /// The comparison under which the names are equal.
    pub tier: Tier,
    /// The name in the form in which it is compared.
    pub name: NormalizedName,
    /// The accounts of two or more different users, ordered by user id.
    pub holders: Vec<&'a AppUser>,
}

impl SharedName<'_> {
    /// The kind of question that asks for it.
    pub fn kind(&self) -> IdentifierKind {
        match self.tier {
            Tier::ExternalId => IdentifierKind::ExternalId,
            Tier::Email => IdentifierKind::Email,
            _ => IdentifierKind::UserName,
        }
    }
}

/// The names that are shared among accounts of one app, whose user names are compared by `rule`. Of user names that differ
/// in bytes and are equal by the rule, the whole set is told once more under [`Tier::UserNameNormalized`]: each spelling may
/// have one holder, and any other spelling has several.
pub fn shared_names<'a>(accounts: &[&'a AppUser], rule: NameRule) -> Vec<SharedName<'a>> {
    let mut shared = same(accounts, NameField::ExternalId, NameRule::Exact, Tier::ExternalId);
    shared.extend(same(accounts, NameField::UserName, NameRule::Exact, Tier::UserNameExact));
    if rule != NameRule::Exact {
        let user_name = |account: &AppUser| NameField::UserName.of_app_user(account).map(str::to_owned);
        let by_rule = same(accounts, NameField::UserName, rule, Tier::UserNameNormalized);
        shared.extend(by_rule.into_iter().filter(|name| {
            let spelling = name.holders.first().and_then(|account| user_name(account));
            name.holders.iter().any(|account| user_name(account) != spelling)
        }));
    }
    shared.extend(same(accounts, NameField::AppEmail, NameRule::Default, Tier::Email));
    shared
}

fn same<'a>(accounts: &[&'a AppUser], field: NameField, rule: NameRule, tier: Tier) -> Vec<SharedName<'a>> {
    let mut by_name: BTreeMap<NormalizedName, Vec<&'a AppUser>> = BTreeMap::new();
    for account in accounts {
        // What is no identifier cannot be asked for.
        let Some(name) = field.of_app_user(account).and_then(|name| Identifier::new(name).ok()) else { continue };
        by_name.entry(name.normalize(rule)).or_default().push(account);
    }
    let names = by_name.into_iter().map(|(name, mut holders)| {
        holders.sort_by(|left, right| left.user.cmp(&right.user));
        holders.dedup_by(|left, right| left.user == right.user);
        SharedName { tier, name, holders }
    });
    names.filter(|name| name.holders.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{AppId, UserId};
    use crate::core::model::{AppUserStatus, AssignmentScope};

    fn account(user: &str, user_name: &str, external_id: &str, email: &str) -> AppUser {
        let text = |text: &str| (!text.is_empty()).then(|| text.into());
        AppUser {
            app: AppId::new("0oa1").unwrap(),
            user: UserId::new(user).unwrap(),
            user_name: text(user_name),
            external_id: text(external_id),
            email: text(email),
            status: AppUserStatus::Active,
            scope: AssignmentScope::User,
            sync_state: None,
            via_group: None,
            created: None,
            last_updated: None,
            status_changed: None,
        }
    }

    #[track_caller]
    fn check(rows: &[(&str, &str, &str, &str)], rule: NameRule, expected: &[&str]) {
        let rows: Vec<AppUser> = rows.iter().map(|(user, name, id, email)| account(user, name, id, email)).collect();
        let shown = |name: &SharedName<'_>| {
            let users: Vec<&str> = name.holders.iter().map(|account| account.user.as_str()).collect();
            format!("{:?} {} {}", name.tier, name.name.as_str(), users.join(" "))
        };
        let forward: Vec<&AppUser> = rows.iter().collect();
        let found: Vec<String> = shared_names(&forward, rule).iter().map(shown).collect();
        assert_eq!(found, expected);
        // Neither order nor repetition matters.
        let backward: Vec<&AppUser> = rows.iter().rev().chain(&rows).collect();
        assert_eq!(shared_names(&backward, rule).iter().map(shown).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn names_are_shared_under_the_rule_that_compares_them() {
        use NameRule::{Default, Exact, IgnoreCase};
        check(&[("u1", "jdoe", "", ""), ("u2", "jane", "", "")], Default, &[]);
        check(&[("u1", "jdoe", "", ""), ("u2", "jdoe", "", "")], Default, &["UserNameExact jdoe u1 u2"]);
        check(&[("u1", "jdoe", "", ""), ("u2", "JDoe", "", "")], Default, &[]);
        check(&[("u1", "jdoe", "", ""), ("u2", "JDoe", "", "")], IgnoreCase, &["UserNameNormalized jdoe u1 u2"]);
        check(&[("u1", "a@X.com", "", ""), ("u2", "A@x.com", "", "")], Exact, &[]);
        check(&[("u1", "a@X.com", "", ""), ("u2", "A@x.com", "", "")], Default, &["UserNameNormalized a@x.com u1 u2"]);
        // Two of one spelling and one of another: the one spelling by itself, and all three.
        check(
            &[("u1", "a@x.com", "", ""), ("u2", "a@x.com", "", ""), ("u3", "A@x.com", "", "")],
            Default,
            &["UserNameExact a@x.com u1 u2", "UserNameNormalized a@x.com u1 u2 u3"],
        );
    }

    #[test]
    fn ids_are_compared_by_bytes_and_addresses_as_addresses() {
        use NameRule::Default;
        check(&[("u1", "", "7", ""), ("u2", "", "7", "")], Default, &["ExternalId 7 u1 u2"]);
        check(&[("u1", "", "a", ""), ("u2", "", "A", "")], Default, &[]);
        check(&[("u1", "", "", "a@x.com"), ("u2", "", "", "A@X.com")], Default, &["Email a@x.com u1 u2"]);
        // A name of one field is not that of another, and what nobody can ask for is not shared.
        check(&[("u1", "a@x.com", "", ""), ("u2", "", "", "a@x.com")], Default, &[]);
        check(&[("u1", "a\u{0}b", "", ""), ("u2", "a\u{0}b", "", "")], Default, &[]);
    }
}
