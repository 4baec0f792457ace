//! The search index of users, which runs behind (facts 2.2): what `search` and `filter` see is the state of a while ago.
//!
//! Entry points: `Org::remember_user` before a change, `Org::users_behind` for a read.
//!
//! Invariant: only the last [`CHANGES_MAX`] changes are kept; with a longer lag than they cover, older ones show at once.

use std::collections::{HashMap, VecDeque};

use super::types::User;
use super::{Org, UserRef};
use crate::time::UnixMs;

/// Changes kept, of about 500 bytes each. A lag is seconds long, and no test changes more users than this in one.
const CHANGES_MAX: usize = 4_096;

/// What a user was before a change.
pub(super) struct Change {
    at_ms: UnixMs,
    user: u32,
    /// `None` = did not exist.
    before: Option<Box<User>>,
}

/// The last changes, oldest first.
pub(super) type Changes = VecDeque<Change>;

impl Org {
    /// The state of a user, to be handed to [`Org::remember_user`] once a change is certain.
    pub(super) fn copy_of_user(&self, user: UserRef) -> Option<Box<User>> {
        self.user(user.0).cloned().map(Box::new)
    }

    /// Notes that a user changes now, and what the user was before.
    pub(super) fn remember_user(&mut self, user: UserRef, before: Option<Box<User>>) {
        if self.index_changes.len() == CHANGES_MAX {
            self.index_changes.pop_front();
        }
        self.index_changes.push_back(Change { at_ms: self.now_ms, user: user.0, before });
    }

    /// The users that changed within the last `lag_ms` milliseconds, as they were before; `None` = they did not exist.
    pub(crate) fn users_behind(&self, lag_ms: u64) -> HashMap<u32, Option<&User>> {
        let seen_ms = self.now_ms.saturating_sub(i64::try_from(lag_ms).unwrap_or(i64::MAX));
        // From the newest back, so that the state before the oldest of them is what remains.
        let hidden = self.index_changes.iter().rev().take_while(|change| change.at_ms > seen_ms);
        hidden.map(|change| (change.user, change.before.as_deref())).collect()
    }
}
