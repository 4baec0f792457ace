//! Which gaps stand against an answer: small sets asked for each time, and large ones remembered.
//!
//! Entry points: [`Gaps`], [`Wide`].
//!
//! Invariants:
//! - An answer names the gaps of every collection that could hold it, as of before its rows were read.
//! - A remembered set is used only while coverage, apps and groups are the very same.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use okta_idmap_proto::v1;

use crate::core::coverage::{Completeness, GapId, GapKind};
use crate::core::ids::{GroupId, Timestamp, UserId};
use crate::core::model::{App, Scope};
use crate::store::{Snapshot, StoreError};

/// Gaps that could change an answer. Empty means that the answer is complete.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    /// Those of a handful of collections.
    few: BTreeSet<String>,
    /// Those of all accounts, or of all memberships, sorted; shared, because an unreadable org has one per group.
    many: Option<Arc<Vec<String>>>,
}

impl Gaps {
    /// Those of a set that is remembered: sorted, each once.
    pub(crate) fn of_many(many: Arc<Vec<String>>) -> Self {
        Self { few: BTreeSet::new(), many: Some(many) }
    }

    /// Adds those of a completeness.
    pub(crate) fn add(&mut self, completeness: &Completeness) {
        self.few.extend(completeness.gap_ids().iter().map(|id| id.as_str().to_owned()));
    }

    /// Adds gaps.
    pub(crate) fn add_all(&mut self, ids: impl Iterator<Item = GapId>) {
        self.few.extend(ids.map(|id| id.as_str().to_owned()));
    }

    /// Adds the gap of a user whom a row names and the user list does not show.
    pub(super) fn add_unseen_user(&mut self, user: &UserId) {
        self.few.insert(unseen_user_gap_id(user));
    }

    /// Adds the gap of a group that an assignment names and the group list does not show.
    pub(super) fn add_unseen_group(&mut self, group: &GroupId) {
        self.add_all(std::iter::once(GapId::of(GapKind::UnseenReference, &Scope::Group(group.clone()))));
    }

    /// Adds those of another answer on which this one rests.
    pub(crate) fn merge(&mut self, other: Gaps) {
        self.few.extend(other.few);
        match (&self.many, other.many) {
            (_, None) => {}
            (None, many) => self.many = many,
            (Some(mine), Some(theirs)) => {
                let union: BTreeSet<&String> = mine.iter().chain(theirs.iter()).collect();
                self.many = Some(Arc::new(union.into_iter().cloned().collect()));
            }
        }
    }

    /// Whether nothing stands against the answer.
    pub(super) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.as_ref().is_none_or(|many| many.is_empty())
    }

    /// Completeness, the first `limit` ids, and how many there are.
    pub(crate) fn shown(&self, limit: usize) -> (v1::Completeness, Vec<String>, u32) {
        if self.is_empty() {
            return (v1::Completeness::Complete, Vec::new(), 0);
        }
        let many = self.many.as_ref().map(|many| many.as_slice()).unwrap_or_default();
        let only_few: Vec<&String> = self.few.iter().filter(|id| many.binary_search(id).is_err()).collect();
        let count = many.len() + only_few.len();
        // Both are sorted; the first `limit` of their union are among the first `limit` of each.
        let mut ids: Vec<&String> = many.iter().take(limit).chain(only_few.into_iter().take(limit)).collect();
        ids.sort_unstable();
        let ids = ids.into_iter().take(limit).cloned().collect();
        (v1::Completeness::Partial, ids, u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// All ids, if there are at least one and at most `limit`.
    pub(super) fn if_few(&self, limit: usize) -> Option<Vec<String>> {
        let many = self.many.as_ref().map_or(0, |many| many.len());
        // Both may hold the same.
        (!self.is_empty() && many <= limit && self.few.len() <= limit).then(|| self.to_ids())
    }

    /// All ids, for the resolution.
    pub(super) fn to_ids(&self) -> Vec<String> {
        let mut ids = self.few.clone();
        ids.extend(self.many.iter().flat_map(|many| many.iter().cloned()));
        ids.into_iter().collect()
    }
}

/// Id of the gap that a user is named by some row and shown by no list.
pub(super) fn unseen_user_gap_id(user: &UserId) -> String {
    format!("UNSEEN_REFERENCE:user({user})")
}

/// Reads [`unseen_user_gap_id`] back.
pub(super) fn unseen_user_of(gap_id: &str) -> Option<UserId> {
    UserId::new(gap_id.strip_prefix("UNSEEN_REFERENCE:user(")?.strip_suffix(')')?).ok()
}

/// Sets of gaps over all apps or all groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wide {
    /// Users, apps and the app users of every app: the accounts of a person.
    Accounts,
    /// Users, groups and the members of every group: the groups of a person.
    Memberships,
    /// Users, groups, apps, the app users and app groups of each app, and the members of each group that an app has: the
    /// principals of a person.
    Principals,
    /// Everything: the org as a whole, the log included.
    Org,
}

impl Wide {
    /// All collections of it that there are by these apps and by [`Wide::groups`].
    pub(crate) fn scopes(self, apps: &[App], groups: Vec<GroupId>) -> Vec<Scope> {
        let mut scopes = vec![Scope::Users];
        if self != Self::Accounts {
            scopes.push(Scope::Groups);
            scopes.extend(groups.into_iter().map(Scope::GroupMembers));
        }
        if self != Self::Memberships {
            scopes.push(Scope::Apps);
            scopes.extend(apps.iter().map(|app| Scope::AppUsers(app.id.clone())));
        }
        if self == Self::Org {
            scopes.push(Scope::Log);
        }
        if matches!(self, Self::Org | Self::Principals) {
            scopes.extend(apps.iter().map(|app| Scope::AppGroups(app.id.clone())));
        }
        scopes
    }

    /// The groups whose members count. Of a group that no app has, nobody gets a principal, whoever is in it.
    pub(super) fn groups(self, snapshot: &Snapshot<'_>) -> Result<Vec<GroupId>, StoreError> {
        if self == Self::Principals { snapshot.groups_of_apps() } else { snapshot.walked_groups() }
    }
}

/// What a remembered set depends on. Groups are never compared one by one: as long as none is removed (that makes another
/// generation), the same number of groups and the same youngest one are the same groups. The third number changes when an app
/// gets a group. Lists that are read again matter only to a set in which one was too old.
#[derive(Clone)]
pub(super) struct WideMark {
    pub(super) generation: u64,
    /// When it was last looked which scopes are too old.
    pub(super) looked_at: Timestamp,
    /// How often a list was read again.
    pub(super) renewals: u64,
    pub(super) apps: Arc<Vec<App>>,
    pub(super) groups: (u64, i64, i64),
}

impl WideMark {
    fn is_same(&self, other: &Self) -> bool {
        self.generation == other.generation
            && self.looked_at == other.looked_at
            && self.groups == other.groups
            && Arc::ptr_eq(&self.apps, &other.apps)
    }
}

/// A computed set and what it depends on.
struct Computed {
    mark: WideMark,
    many: Arc<Vec<String>>,
    /// Whether something was too old, which is over once it is read again.
    has_stale: bool,
}

impl Computed {
    fn is_of(&self, mark: &WideMark) -> bool {
        self.mark.is_same(mark) && (!self.has_stale || self.mark.renewals == mark.renewals)
    }
}

/// The last computed sets of an org, one per [`Wide`].
#[derive(Default)]
pub(super) struct WideCache {
    slots: [Mutex<Option<Computed>>; 4],
}

impl WideCache {
    /// The remembered set, if nothing has changed.
    pub(super) fn get(&self, wide: Wide, mark: &WideMark) -> Option<Gaps> {
        let slot = self.slots[wide as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let known = slot.as_ref()?;
        known.is_of(mark).then(|| Gaps::of_many(Arc::clone(&known.many)))
    }

    /// Remembers a set.
    pub(super) fn put(&self, wide: Wide, mark: WideMark, many: Arc<Vec<String>>) {
        let has_stale = many.iter().any(|id| GapId::parse(id).is_some_and(|(kind, _)| kind == GapKind::Stale));
        let computed = Computed { mark, many, has_stale };
        *self.slots[wide as usize].lock().unwrap_or_else(PoisonError::into_inner) = Some(computed);
    }
}

/// A set as ids, to be remembered.
pub(crate) fn many(ids: BTreeSet<GapId>) -> Arc<Vec<String>> {
    Arc::new(ids.into_iter().map(|id| id.as_str().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(few: &[&str], many: Option<&[&str]>) -> Gaps {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        Gaps { few: owned(few).into_iter().collect(), many: many.map(|ids| Arc::new(owned(ids))) }
    }

    #[track_caller]
    fn check(gaps: &Gaps, limit: usize, expected: (v1::Completeness, &str, u32)) {
        let (completeness, ids, count) = gaps.shown(limit);
        assert_eq!((completeness, ids.join(" ").as_str(), count), expected);
    }

    #[test]
    fn gaps_are_merged_cut_and_counted_once() {
        use v1::Completeness::{Complete, Partial};
        check(&gaps(&[], None), 10, (Complete, "", 0));
        check(&gaps(&[], Some(&[])), 10, (Complete, "", 0));
        check(&gaps(&["b", "a"], None), 10, (Partial, "a b", 2));
        check(&gaps(&["b", "x"], Some(&["a", "b", "c"])), 10, (Partial, "a b c x", 4));
        check(&gaps(&["b", "x"], Some(&["a", "b", "c"])), 2, (Partial, "a b", 4));
        let mut merged = gaps(&["d"], Some(&["a", "c"]));
        merged.merge(gaps(&["e"], Some(&["b", "c"])));
        check(&merged, 10, (Partial, "a b c d e", 5));
        let mut merged = gaps(&["d"], None);
        merged.merge(gaps(&[], Some(&["b"])));
        check(&merged, 10, (Partial, "b d", 2));
    }

    #[test]
    fn a_set_is_remembered_until_something_may_be_another() {
        let apps: Arc<Vec<App>> = Arc::default();
        let mark = |generation: u64, looked_at: i64, renewals: u64, groups: u64| WideMark {
            generation,
            looked_at: Timestamp::from_millis(looked_at),
            renewals,
            apps: Arc::clone(&apps),
            groups: (groups, 0, 0),
        };
        let check = |id: &str, asked: WideMark, expected: bool| {
            let cache = WideCache::default();
            cache.put(Wide::Accounts, mark(1, 100, 5, 3), Arc::new(vec![id.to_owned()]));
            assert_eq!(cache.get(Wide::Accounts, &asked).is_some(), expected, "{id}");
            assert!(cache.get(Wide::Principals, &asked).is_none(), "another set");
        };
        check("FAILED:users", mark(1, 100, 5, 3), true);
        check("FAILED:users", mark(2, 100, 5, 3), false);
        check("FAILED:users", mark(1, 101, 5, 3), false);
        check("FAILED:users", mark(1, 100, 5, 4), false);
        check("FAILED:users", WideMark { apps: Arc::default(), ..mark(1, 100, 5, 3) }, false);
        // A list that is read again matters where one was too old.
        check("FAILED:users", mark(1, 100, 6, 3), true);
        check("STALE:users", mark(1, 100, 5, 3), true);
        check("STALE:users", mark(1, 100, 6, 3), false);
    }

    #[test]
    fn unseen_users_read_back() {
        let user = UserId::new("00u1").unwrap();
        assert_eq!(unseen_user_of(&unseen_user_gap_id(&user)), Some(user));
        assert_eq!(unseen_user_of("NOT_READ:users"), None);
        assert_eq!(unseen_user_of("UNSEEN_REFERENCE:user()"), None);
    }
}
