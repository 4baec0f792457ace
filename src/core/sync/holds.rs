//! Held scopes: walks whose missing rows are kept, because too many are missing or the list is empty.
//!
//! Some of the missing rows are asked for by id. If none of them exists any more, the hold is released; else it stands until
//! the rows come back (the list is read again, ever more rarely) or an operator releases it.

use std::collections::BTreeMap;

use super::super::batch::{WalkState, WalkUpdate};
use super::super::ids::Timestamp;
use super::super::model::{Key, Scope};
use super::super::pending::Target;
use super::{Call, Effect, Pending, Selection, SyncState};

/// What is known about one held scope.
#[derive(Debug)]
struct Hold {
    /// Probes that wait for their answer.
    probes: usize,
    /// Whether one of them says that its row is still there, or cannot tell.
    some_exist: bool,
    /// How often in a row the list was held.
    times: u32,
}

/// All held scopes.
#[derive(Debug, Default)]
pub(super) struct Holds {
    all: BTreeMap<Scope, Hold>,
}

impl Holds {
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn is_held(&self, scope: &Scope) -> bool {
        self.all.contains_key(scope)
    }

    /// A walk showed the rows again, or they were removed.
    pub(super) fn ended(&mut self, scope: &Scope) {
        self.all.remove(scope);
    }

    pub(super) fn not_gone(&mut self, scope: &Scope) {
        if let Some(hold) = self.all.get_mut(scope) {
            hold.probes = hold.probes.saturating_sub(1);
            hold.some_exist = true;
        }
    }

    /// One row is gone for sure; returns whether all that were asked for are.
    fn gone(&mut self, scope: &Scope) -> bool {
        let Some(hold) = self.all.get_mut(scope) else { return false };
        hold.probes = hold.probes.saturating_sub(1);
        hold.probes == 0 && !hold.some_exist
    }
}

impl SyncState {
    /// A scope is held; `sample` are some of the rows that are missing, none if probing cannot decide.
    pub(super) fn hold(&mut self, scope: Scope, sample: Vec<Key>, effects: &mut Vec<Effect>) {
        let times = self.holds.all.get(&scope).map_or(0, |hold| hold.times.saturating_add(1));
        self.holds.all.insert(scope.clone(), Hold { probes: sample.len(), some_exist: false, times });
        for key in sample {
            let call = match &key {
                // Memberships have no read by id: the user's groups tell.
                Key::GroupMember(_, user) => {
                    Call::Select { selection: Selection::UserGroups(user.clone()), next: None, limit: None }
                }
                key => Call::Read(key.clone()),
            };
            if let (Call::Select { selection, .. }, Key::GroupMember(group, _)) = (&call, &key) {
                let selected = super::Selected::probe(selection.clone(), scope.clone(), group.clone());
                self.call(call, Pending::Select(selected), effects);
            } else {
                self.call(call, Pending::Probe(scope.clone()), effects);
            }
        }
        if let Some(due_at) = self.hold_retry_at(times) {
            self.debts.owe_at(Target::List(scope), due_at, "held", self.moment);
        }
    }

    fn hold_retry_at(&self, times: u32) -> Option<Timestamp> {
        let (first, longest) = self.follow.as_ref()?.hold_retry_millis;
        let wait = first.max(1).saturating_mul(1 << times.min(16)).min(longest.max(first));
        Some(self.moment.now.plus_millis(wait))
    }

    /// A probe was answered.
    pub(super) fn on_probe(&mut self, scope: &Scope, is_gone: bool, effects: &mut Vec<Effect>) {
        if !is_gone {
            self.holds.not_gone(scope);
        } else if self.holds.gone(scope) {
            let mut batch = self.batch();
            batch.walks.push(WalkUpdate { scope: scope.clone(), state: WalkState::Released });
            self.commit(batch, effects);
        }
    }
}
