//! What is evidence for whom: the fields that hold names, the kinds of question that ask them, the tier of a match.
//!
//! Entry point: [`weigh`]. [`NameField::ALL`] is the one list of indexed names: the store keys exactly these.
//!
//! Invariants:
//! - Display names, templates and prefixes are no fields, so they are never evidence.
//! - A near miss never sets a tier.

use crate::core::ids::UserId;
use crate::core::model::{AppUser, User};
use crate::core::normalize::{Closeness, Comparer, Identifier, LookupKey, NameRule};
use crate::core::policy::GrantPolicy;

/// What the caller knows about an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum IdentifierKind {
    /// Nothing: every field is asked, and the answers are cross-checked.
    #[default]
    Untyped,
    /// A login name in the app.
    UserName,
    /// The primary key of an account in the app.
    ExternalId,
    /// An e-mail address.
    Email,
}

/// The fields that a question asks in an app whose names are compared by `of_app`, each with its own rule.
pub fn asked_fields(kind: IdentifierKind, of_app: NameRule, policy: &GrantPolicy) -> Vec<(NameField, NameRule)> {
    let asked = NameField::ALL.into_iter().filter(|field| field.is_asked(kind, policy));
    asked.map(|field| (field, field.rule(of_app))).collect()
}

/// Whose fields a question asks: those of accounts, and perhaps those of users too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedOf {
    /// Nobody can be meant but by a field of an account.
    Accounts,
    /// A login or an e-mail of a user may be meant as well.
    AccountsAndUsers,
}

impl AskedOf {
    /// Of questions of a kind.
    pub fn kind(kind: IdentifierKind, policy: &GrantPolicy) -> Self {
        let of_users = NameField::ALL.into_iter().any(|field| field.is_of_user() && field.is_asked(kind, policy));
        if of_users { Self::AccountsAndUsers } else { Self::Accounts }
    }
}

/// A field of a user or an app user that holds a name under which an account can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameField {
    /// `AppUser.externalId`.
    ExternalId,
    /// `AppUser.credentials.userName`.
    UserName,
    /// `AppUser.profile.email`: the account's own e-mail.
    AppEmail,
    /// `User.profile.login`.
    Login,
    /// `User.profile.email`; not unique (facts 2.1).
    PrimaryEmail,
    /// `User.profile.secondEmail`; self-editable.
    SecondEmail,
}

impl NameField {
    /// Every field.
    pub const ALL: [NameField; 6] = [
        NameField::ExternalId,
        NameField::UserName,
        NameField::AppEmail,
        NameField::Login,
        NameField::PrimaryEmail,
        NameField::SecondEmail,
    ];

    /// Stable name, for stored rows, logs and answers.
    pub const fn name(self) -> &'static str {
        match self {
            NameField::ExternalId => "external_id",
            NameField::UserName => "user_name",
            NameField::AppEmail => "app_email",
            NameField::Login => "login",
            NameField::PrimaryEmail => "email",
            NameField::SecondEmail => "second_email",
        }
    }

    /// The name that an app user holds in this field; `None` for the fields of users.
    pub fn of_app_user(self, row: &AppUser) -> Option<&str> {
        match self {
            NameField::ExternalId => row.external_id.as_deref(),
            NameField::UserName => row.user_name.as_deref(),
            NameField::AppEmail => row.email.as_deref(),
            NameField::Login | NameField::PrimaryEmail | NameField::SecondEmail => None,
        }
    }

    /// The name that a user holds in this field; `None` for the fields of app users.
    pub fn of_user(self, row: &User) -> Option<&str> {
        match self {
            NameField::Login => row.login.as_deref(),
            NameField::PrimaryEmail => row.email.as_deref(),
            NameField::SecondEmail => row.second_email.as_deref(),
            NameField::ExternalId | NameField::UserName | NameField::AppEmail => None,
        }
    }

    const fn is_of_user(self) -> bool {
        match self {
            NameField::Login | NameField::PrimaryEmail | NameField::SecondEmail => true,
            NameField::ExternalId | NameField::UserName | NameField::AppEmail => false,
        }
    }

    /// Whether a question of this kind asks this field.
    pub(super) fn is_asked(self, kind: IdentifierKind, policy: &GrantPolicy) -> bool {
        match (self, kind) {
            (NameField::SecondEmail, IdentifierKind::Untyped | IdentifierKind::Email) => policy.second_email(),
            (_, IdentifierKind::Untyped) => true,
            (NameField::ExternalId, IdentifierKind::ExternalId) => true,
            (NameField::UserName, IdentifierKind::UserName) => true,
            (NameField::AppEmail | NameField::Login | NameField::PrimaryEmail, IdentifierKind::Email) => true,
            (_, IdentifierKind::UserName | IdentifierKind::ExternalId | IdentifierKind::Email) => false,
        }
    }

    /// The rule by which the field is compared: `user_name` by the app's rule, ids by bytes, e-mails as e-mails.
    pub(super) const fn rule(self, of_app: NameRule) -> NameRule {
        match self {
            NameField::ExternalId => NameRule::Exact,
            NameField::UserName => of_app,
            NameField::AppEmail | NameField::Login | NameField::PrimaryEmail | NameField::SecondEmail => {
                NameRule::Default
            }
        }
    }

    /// The tier of a match that is as close as `closeness`; `None` where that is no match.
    const fn tier(self, closeness: Closeness) -> Option<Tier> {
        match (self, closeness) {
            (_, Closeness::CaseDiffers | Closeness::NfkcDiffers | Closeness::Different) => None,
            (NameField::ExternalId, Closeness::Identical | Closeness::Same) => Some(Tier::ExternalId),
            (NameField::UserName, Closeness::Identical) => Some(Tier::UserNameExact),
            (NameField::UserName, Closeness::Same) => Some(Tier::UserNameNormalized),
            (NameField::AppEmail | NameField::Login | NameField::PrimaryEmail, _) => Some(Tier::Email),
            (NameField::SecondEmail, _) => Some(Tier::SecondEmail),
        }
    }
}

/// The keys under which the store finds an app user. A name that is no [`Identifier`] has no key: nobody can ask for it.
pub fn keys_of_app_user(row: &AppUser) -> impl Iterator<Item = (NameField, LookupKey)> + '_ {
    NameField::ALL.into_iter().filter_map(|field| key_of(field, field.of_app_user(row)))
}

/// The keys under which the store finds a user.
pub fn keys_of_user(row: &User) -> impl Iterator<Item = (NameField, LookupKey)> + '_ {
    NameField::ALL.into_iter().filter_map(|field| key_of(field, field.of_user(row)))
}

fn key_of(field: NameField, raw: Option<&str>) -> Option<(NameField, LookupKey)> {
    Some((field, Identifier::new(raw?).ok()?.lookup_key()))
}

/// How a user was found, best first. Recorded on every mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// T0: `external_id`, the same bytes.
    ExternalId,
    /// T1: the app's `user_name`, the same bytes.
    UserNameExact,
    /// T2: the app's `user_name`, equal under the app's [`NameRule`].
    UserNameNormalized,
    /// T3: the app user's own e-mail, or the login or primary e-mail of its user.
    Email,
    /// T4: a configured alias.
    Alias,
    /// T5: the user's second e-mail.
    SecondEmail,
    /// T6: an operator's override. Decides alone, however good the others are.
    Override,
}

impl Tier {
    /// Every tier, best first.
    pub const ALL: [Tier; 7] = [
        Tier::ExternalId,
        Tier::UserNameExact,
        Tier::UserNameNormalized,
        Tier::Email,
        Tier::Alias,
        Tier::SecondEmail,
        Tier::Override,
    ];

    /// `T0` to `T6`.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::ExternalId => "T0",
            Tier::UserNameExact => "T1",
            Tier::UserNameNormalized => "T2",
            Tier::Email => "T3",
            Tier::Alias => "T4",
            Tier::SecondEmail => "T5",
            Tier::Override => "T6",
        }
    }
}

/// A set of tiers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TierSet(u8);

impl TierSet {
    /// Adds a tier.
    pub const fn insert(&mut self, tier: Tier) {
        self.0 |= 1 << tier as u8;
    }

    /// Whether the tier is in the set.
    pub const fn contains(self, tier: Tier) -> bool {
        self.0 & (1 << tier as u8) != 0
    }

    /// The tiers, best first.
    pub fn iter(self) -> impl Iterator<Item = Tier> {
        Tier::ALL.into_iter().filter(move |tier| self.contains(*tier))
    }

    /// The best tier.
    pub fn best(self) -> Option<Tier> {
        self.iter().next()
    }

    const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::fmt::Debug for TierSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Somebody whose user or app user shares the [`LookupKey`] of the question.
#[derive(Clone, Copy, Debug)]
pub enum Candidate<'a> {
    /// The user is known; `app_user` is its record in the app that is asked about, where it has one.
    Known {
        /// The user.
        user: &'a User,
        /// Its record in the app.
        app_user: Option<&'a AppUser>,
    },
    /// An app user whose user no read has shown. Never granted, but it takes part: leaving it out could make an
    /// ambiguous name look unique.
    Unseen {
        /// The record in the app.
        app_user: &'a AppUser,
    },
}

impl<'a> Candidate<'a> {
    /// The user's id.
    pub fn user_id(&self) -> &'a UserId {
        match self {
            Candidate::Known { user, .. } => &user.id,
            Candidate::Unseen { app_user } => &app_user.user,
        }
    }

    /// The user, where a read has shown it.
    pub fn user(&self) -> Option<&'a User> {
        match self {
            Candidate::Known { user, .. } => Some(user),
            Candidate::Unseen { .. } => None,
        }
    }

    /// The record in the app.
    pub fn app_user(&self) -> Option<&'a AppUser> {
        match self {
            Candidate::Known { app_user, .. } => *app_user,
            Candidate::Unseen { app_user } => Some(app_user),
        }
    }
}

/// What the records of one user say to the question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed<'a> {
    pub(super) user_id: &'a UserId,
    pub(super) user: Option<&'a User>,
    pub(super) app_user: Option<&'a AppUser>,
    pub(super) tiers: TierSet,
    /// The closest name that is spelt differently, and how differently.
    pub(super) near: Option<(Closeness, NameField)>,
}

impl<'a> Weighed<'a> {
    /// Of a user without rows.
    pub(super) fn bare(user_id: &'a UserId) -> Self {
        Self { user_id, user: None, app_user: None, tiers: TierSet::default(), near: None }
    }
}

/// The question, as far as evidence goes.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) comparer: &'a Comparer<'a>,
    pub(super) kind: IdentifierKind,
    pub(super) rule: NameRule,
    pub(super) policy: &'a GrantPolicy,
}

/// Compares every asked field of every candidate; one entry per user, in the order of their ids.
pub(super) fn weigh<'a>(question: Question<'_>, candidates: &[Candidate<'a>]) -> Vec<Weighed<'a>> {
    let mut weighed: Vec<Weighed<'a>> = candidates.iter().map(|candidate| weigh_one(question, candidate)).collect();
    weighed.sort_by_key(|entry| entry.user_id);
    weighed.dedup_by(|later, kept| {
        let is_same = later.user_id == kept.user_id;
        if is_same {
            kept.user = kept.user.or(later.user);
            kept.app_user = kept.app_user.or(later.app_user);
            kept.tiers = kept.tiers.union(later.tiers);
            kept.near = kept.near.into_iter().chain(later.near).min();
        }
        is_same
    });
    weighed
}

fn weigh_one<'a>(question: Question<'_>, candidate: &Candidate<'a>) -> Weighed<'a> {
    let (user, app_user) = (candidate.user(), candidate.app_user());
    let mut weighed = Weighed { user_id: candidate.user_id(), user, app_user, tiers: TierSet::default(), near: None };
    // Most people have one name in most of their fields: it is compared once.
    let mut last: Option<(Identifier<'_>, NameRule, Closeness)> = None;
    for field in NameField::ALL.into_iter().filter(|field| field.is_asked(question.kind, question.policy)) {
        let held = app_user.and_then(|row| field.of_app_user(row)).or_else(|| user.and_then(|row| field.of_user(row)));
        let Some(held) = held.and_then(|raw| Identifier::new(raw).ok()) else { continue };
        let rule = field.rule(question.rule);
        let closeness = match last {
            Some((name, last_rule, closeness)) if name == held && last_rule == rule => closeness,
            _ => question.comparer.compare(held, rule),
        };
        last = Some((held, rule, closeness));
        if let Some(tier) = field.tier(closeness) {
            weighed.tiers.insert(tier);
        }
        // Equal under the rule but other bytes: a warning for those whom a better tier outdoes.
        if !matches!(closeness, Closeness::Identical | Closeness::Different) {
            weighed.near = weighed.near.into_iter().chain([(closeness, field)]).min();
        }
    }
    weighed
}
