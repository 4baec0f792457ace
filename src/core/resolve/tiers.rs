//! What each tier said: the same decision once more, for people who want to know why. Entry point: [`explain_tiers`].
//!
//! Invariant, checked against the oracle by `tests/resolve_oracle.rs`: whoever a tier that was asked names took part in the
//! decision, and nobody else.

use super::evidence::{IdentifierKind, Tier};
use super::outcome::{Ambiguity, CandidateMatch, Outcome, Resolution};
use crate::core::policy::GrantPolicy;

/// What a tier said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierAnswer {
    /// Nobody matches.
    Silent,
    /// One user matches.
    OneUser,
    /// Several users match.
    SeveralUsers,
    /// A higher tier, or the app as a whole, had answered.
    NotAsked,
    /// The kind of the question does not concern it.
    NotApplicable,
    /// It is switched off.
    Disabled,
}

/// A tier, its answer, and who matches at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TierExplained<'r, 'a> {
    /// The tier.
    pub tier: Tier,
    /// What it said.
    pub answer: TierAnswer,
    /// Who matches, in the order of their ids; empty unless it was asked.
    pub matching: Vec<&'r CandidateMatch<'a>>,
}

/// The tiers in the order in which they are asked: the operator first, then the others, best first.
pub fn explain_tiers<'r, 'a>(
    kind: IdentifierKind,
    policy: &GrantPolicy,
    resolution: &'r Resolution<'a>,
) -> Vec<TierExplained<'r, 'a>> {
    // Without an app user there is no account, unless an operator says so.
    let matching = |tier: Tier| -> Vec<&'r CandidateMatch<'a>> {
        let candidates = resolution.candidates.iter();
        candidates
            .filter(|entry| entry.tiers.contains(tier) && (entry.app_user.is_some() || tier == Tier::Override))
            .collect()
    };
    let is_silent = |tiers: &[Tier]| tiers.iter().all(|tier| matching(*tier).is_empty());
    let is_weighed = !matches!(resolution.outcome, Outcome::Shared { .. } | Outcome::Ambiguous(Ambiguity::TooMany));
    let is_overridden = resolution.tier() == Some(Tier::Override);
    let is_contradicted = matches!(resolution.outcome, Outcome::Ambiguous(Ambiguity::Conflict(Tier::Override)));
    let own_names = [Tier::ExternalId, Tier::UserNameExact, Tier::UserNameNormalized, Tier::Email];
    let is_asked = |tier: Tier| match tier {
        Tier::Override => true,
        // The one tier that can speak against an override.
        Tier::ExternalId if is_contradicted => true,
        _ if is_overridden => false,
        Tier::ExternalId | Tier::UserNameExact | Tier::Email => true,
        Tier::UserNameNormalized => is_silent(&[Tier::UserNameExact]),
        Tier::Alias => is_silent(&own_names),
        Tier::SecondEmail => is_silent(&own_names) && is_silent(&[Tier::Alias]),
    };
    let explain = |tier: Tier| {
        let answered = |answer| TierExplained { tier, answer, matching: Vec::new() };
        if !is_applicable(tier, kind) {
            return answered(TierAnswer::NotApplicable);
        }
        if tier == Tier::SecondEmail && !policy.second_email() {
            return answered(TierAnswer::Disabled);
        }
        if !is_weighed || !is_asked(tier) {
            return answered(TierAnswer::NotAsked);
        }
        let matching = matching(tier);
        let answer = match matching.len() {
            0 => TierAnswer::Silent,
            1 => TierAnswer::OneUser,
            _ => TierAnswer::SeveralUsers,
        };
        TierExplained { tier, answer, matching }
    };
    let others = Tier::ALL.into_iter().filter(|tier| *tier != Tier::Override);
    [Tier::Override].into_iter().chain(others).map(explain).collect()
}

/// Whether a question of this kind concerns the tier at all.
const fn is_applicable(tier: Tier, kind: IdentifierKind) -> bool {
    match (tier, kind) {
        (Tier::Alias | Tier::Override, _) | (_, IdentifierKind::Untyped) => true,
        (Tier::ExternalId, kind) => matches!(kind, IdentifierKind::ExternalId),
        (Tier::UserNameExact | Tier::UserNameNormalized, kind) => matches!(kind, IdentifierKind::UserName),
        (Tier::Email | Tier::SecondEmail, kind) => matches!(kind, IdentifierKind::Email),
    }
}
