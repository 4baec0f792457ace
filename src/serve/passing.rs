//! Gaps that the next moment may close, because what they lack is being read right now.
//!
//! Entry point: [`Ask::are_passing`]; whoever asked waits by [`super::patience`].

use super::ask::Ask;
use super::errors::Failure;
use super::gaps::Gaps;
use crate::core::coverage::{GapId, GapKind};
use crate::core::model::Scope;
use crate::core::pending::Target;

/// Gaps of which it is asked whether the next moment closes them.
const PASSING_GAPS_MAX: usize = 4;

impl Ask<'_> {
    /// Whether the next moment may make the answer complete: all that it lacks is being asked for, for the first time.
    pub(super) fn are_passing(&self, gaps: &Gaps) -> bool {
        let Some(ids) = gaps.if_few(PASSING_GAPS_MAX) else { return false };
        // An error is met again by whoever waits.
        ids.iter().all(|id| self.is_passing(id).unwrap_or(false))
    }

    fn is_passing(&self, gap_id: &str) -> Result<bool, Failure> {
        let Some((kind, scope)) = GapId::parse(gap_id) else { return Ok(false) };
        let is_recorded = self.view.reader().coverage().has_open(&scope, kind);
        if is_recorded {
            return Ok(false);
        }
        match (kind, scope) {
            (GapKind::UnseenReference, Scope::User(user)) => match self.is_under_way(Target::User(user))? {
                Some(is_under_way) => Ok(is_under_way),
                // A crawl asks at its end for those whom no list has shown and the log has not named meanwhile.
                None => Ok(self.snapshot_completed_at.is_some() && self.snapshot.meta()?.crawl.running),
            },
            (GapKind::NotRead, scope) => {
                let above = match &scope {
                    Scope::GroupMembers(group) => Some(Target::Group(group.clone())),
                    Scope::AppUsers(app) | Scope::AppGroups(app) => Some(Target::App(app.clone())),
                    _ => None,
                };
                for target in [Some(Target::List(scope)), above].into_iter().flatten() {
                    if self.is_under_way(target)? == Some(true) {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// `None`: nobody is going to read it.
    fn is_under_way(&self, target: Target) -> Result<Option<bool>, Failure> {
        Ok(self.snapshot.pending_read(&target)?.map(|read| read.is_under_way(self.now)))
    }
}
