//! What an answer says: the ten outcomes with their payloads, near misses, candidates, completeness.
//!
//! Entry point: [`Resolution`].
//!
//! Invariants:
//! - [`Resolution::granted_user`] is the one way to a user who may be granted something.
//! - Everything is borrowed from the question: an answer copies no name.

use super::AccountHolder;
use super::evidence::{NameField, Tier, TierSet};
use crate::core::ids::UserId;
use crate::core::model::{App, AppStatus, AppUser, AppUserStatus, User, UserStatus};

/// Whether everything that could change an answer has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness<'a> {
    /// Everything was read.
    Complete,
    /// Something was not: the ids of the gaps.
    Partial(&'a [String]),
}

/// One user whom the evidence names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Who.
    pub user_id: &'a UserId,
    /// The user, where a read has shown it.
    pub user: Option<&'a User>,
    /// The account: the user's record in the app. Missing only where an override names somebody without one.
    pub app_user: Option<&'a AppUser>,
    /// How it was found.
    pub tier: Tier,
}

/// Why an account exists but grants nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InactiveReason<'a> {
    /// No read has shown the user, so its status is not known.
    UserUnseen,
    /// The user's status does not grant.
    User(&'a UserStatus),
    /// The user has no record in the app.
    NotAssigned,
    /// The app user's status does not grant.
    AppUser(&'a AppUserStatus),
    /// The app's status does not grant.
    App(&'a AppStatus),
}

/// Why several users are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// They hold the name alike, at this tier.
    SharedName(Tier),
    /// They hold it in different fields: one as user name and another as e-mail, say. The best tier.
    Conflict(Tier),
    /// More than [`CANDIDATES_MAX`](super::CANDIDATES_MAX) candidates.
    TooMany,
}

/// The answer. Only [`Outcome::Resolved`] grants anything to anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Exactly one user, and user, app user and app grant.
    Resolved(Found<'a>),
    /// Two or more users; nobody is granted. They are among [`Resolution::candidates`].
    Ambiguous(Ambiguity),
    /// One user, but something does not grant.
    Inactive {
        /// Who.
        found: Found<'a>,
        /// Every reason, at least one.
        reasons: Vec<InactiveReason<'a>>,
    },
    /// Everybody uses one account of the app.
    Shared {
        /// Its name, where Okta tells it.
        user_name: Option<&'a str>,
    },
    /// One user, but the name was somebody else's a short while ago.
    Reused {
        /// Who holds it now.
        found: Found<'a>,
        /// The other holders within the quarantine, at least one.
        holders: Vec<&'a AccountHolder>,
    },
    /// Nobody, and the name is known to be kept out by the filter.
    Filtered,
    /// Nobody, and everything that could hold the name was read.
    NotFound,
    /// Nobody, but not everything that could hold the name was read.
    UnknownGap {
        /// The gaps.
        gap_ids: &'a [String],
    },
    /// The selector means no app.
    UnknownApp,
    /// The selector means several apps.
    AmbiguousApp {
        /// Those, in the order of their ids.
        apps: Vec<&'a App>,
    },
}

impl Outcome<'_> {
    /// The outcome's name in answers.
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Resolved(_) => "RESOLVED",
            Outcome::Ambiguous(_) => "AMBIGUOUS",
            Outcome::Inactive { .. } => "INACTIVE",
            Outcome::Shared { .. } => "SHARED",
            Outcome::Reused { .. } => "REUSED",
            Outcome::Filtered => "FILTERED",
            Outcome::NotFound => "NOT_FOUND",
            Outcome::UnknownGap { .. } => "UNKNOWN_GAP",
            Outcome::UnknownApp => "UNKNOWN_APP",
            Outcome::AmbiguousApp { .. } => "AMBIGUOUS_APP",
        }
    }
}

/// A user who matched in some way, for callers who ask for candidates and for explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidateMatch<'a> {
    /// Who.
    pub user_id: &'a UserId,
    /// The user's record in the app; without one the match does not count.
    pub app_user: Option<&'a AppUser>,
    /// Every tier of the question at which the user matches, also those that were not asked.
    pub tiers: TierSet,
    /// Whether the match took part in the decision.
    pub is_counted: bool,
}

/// How a near miss differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// In case, or in how accents are composed.
    CaseDiffers,
    /// In compatibility characters: full-width letters, ligatures, superscripts.
    NfkcDiffers,
}

/// Somebody else in the app holds a name that looks like the identifier. It was not granted for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning<'a> {
    /// How the names differ.
    pub kind: WarningKind,
    /// Whose name.
    pub user_id: &'a UserId,
    /// Where it stands.
    pub field: NameField,
}

/// An outcome and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// The answer.
    pub outcome: Outcome<'a>,
    /// Near misses, at most one per user, in the order of user ids.
    pub warnings: Vec<Warning<'a>>,
    /// Everybody who matched in some way, in the order of user ids. Personal data: shown only on request.
    pub candidates: Vec<CandidateMatch<'a>>,
    /// Of the coverage behind the answer. A `RESOLVED` may be partial: another holder could be hidden.
    pub completeness: Completeness<'a>,
}

impl<'a> Resolution<'a> {
    pub(super) fn bare(outcome: Outcome<'a>, completeness: Completeness<'a>) -> Self {
        Self { outcome, warnings: Vec::new(), candidates: Vec::new(), completeness }
    }

    /// The answer where the selector means no app; `completeness` is that of the app list.
    pub fn of_unknown_app(completeness: Completeness<'a>) -> Self {
        Self::bare(Outcome::UnknownApp, completeness)
    }

    /// The answer where the selector means several apps.
    pub fn of_ambiguous_app(apps: Vec<&'a App>, completeness: Completeness<'a>) -> Self {
        Self::bare(Outcome::AmbiguousApp { apps }, completeness)
    }

    /// The user who may be granted access: of `RESOLVED`, and of nothing else.
    pub fn granted_user(&self) -> Option<&'a UserId> {
        match &self.outcome {
            Outcome::Resolved(found) => Some(found.user_id),
            _ => None,
        }
    }

    /// The one user whom the evidence names, granted or not.
    pub fn found(&self) -> Option<&Found<'a>> {
        match &self.outcome {
            Outcome::Resolved(found) | Outcome::Inactive { found, .. } | Outcome::Reused { found, .. } => Some(found),
            Outcome::Ambiguous(_)
            | Outcome::Shared { .. }
            | Outcome::Filtered
            | Outcome::NotFound
            | Outcome::UnknownGap { .. }
            | Outcome::UnknownApp
            | Outcome::AmbiguousApp { .. } => None,
        }
    }

    /// The tier that decided, where one did.
    pub fn tier(&self) -> Option<Tier> {
        match self.outcome {
            Outcome::Ambiguous(Ambiguity::SharedName(tier) | Ambiguity::Conflict(tier)) => Some(tier),
            _ => self.found().map(|found| found.tier),
        }
    }
}
