//! The copy as what the server's own answers are read from. Entry point: [`At`].

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use okta_idmap_proto::limits::GAP_IDS_MAX;
use okta_idmap_proto::v1;

use super::Mirror;
use crate::core::coverage::{Asked, GapId, OnGap};
use crate::core::ids::{AppId, GroupId, Timestamp, UserId};
use crate::core::model::{App, AppStatus, AppUser, Group, Kind, Scope, User};
use crate::core::normalize::{Identifier, LookupKey, NameRule};
use crate::core::overrides::OverrideRecord;
use crate::core::policy::GrantPolicy;
use crate::core::principal::Encoder;
use crate::core::resolve::{AskedOf, NameField};
use crate::serve::{Facts, Failure, Gaps, Wide, Withholds, gap_ids_of};
use crate::store::{AccountHit, GroupOfApp, HeldName, WayOf};

/// A copy at the moment of a question.
pub(super) struct At<'a> {
    pub(super) mirror: &'a Mirror,
    pub(super) now: Timestamp,
}

/// Why a copy has no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// It lacks what the server has.
    OnlyServerKnows,
    /// The server would refuse the question.
    Refused(Failure),
}

impl From<Failure> for NoAnswer {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// The gaps that could hide a principal of anybody, by the look at which lists are too old. Whoever changes what they depend on
/// takes another one; a clone begins without.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Option<(Timestamp, Arc<Vec<String>>)>>);

impl Clone for Remembered {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Remembered {
    fn get(&self, looked_at: Timestamp) -> Option<Arc<Vec<String>>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(at, _)| *at == looked_at).map(|(_, ids)| Arc::clone(ids))
    }

    fn put(&self, looked_at: Timestamp, ids: Arc<Vec<String>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((looked_at, ids));
    }
}

impl At<'_> {
    fn asked(&self, with_objects: bool) -> Asked {
        let mark = &self.mirror.mark;
        // Rows and coverage are of one moment: nothing closes in between.
        Asked {
            now: self.now,
            observed_through: mark.observed_at,
            generation: None,
            policy: self.mirror.policy.coverage,
            with_objects,
        }
    }

    fn gaps_of(&self, scopes: &[Scope], with_objects: bool) -> Gaps {
        let mut gaps = Gaps::default();
        gaps.add(&self.mirror.coverage.completeness(self.asked(with_objects), scopes));
        gaps
    }

    /// `Everyone`, where it is visible. Which of several the server takes, only the server knows.
    fn everyone(&self) -> Result<Option<&GroupId>, NoAnswer> {
        let everyone = self.mirror.table.groups().everyone();
        if everyone.len() > 1 { Err(NoAnswer::OnlyServerKnows) } else { Ok(everyone.first()) }
    }
}

impl Withholds for At<'_> {
    fn may_withhold(&self) -> bool {
        let policy = self.mirror.policy.coverage;
        policy.on_gap == OnGap::Withhold || policy.max_stale_millis.is_some()
    }

    fn withholds(&self, rows: &[(Scope, &str)]) -> bool {
        let (coverage, policy) = (&self.mirror.coverage, self.mirror.policy.coverage);
        rows.iter().any(|(scope, row)| coverage.withholds(scope, row, self.now, policy))
    }
}

impl Facts for At<'_> {
    type Error = NoAnswer;

    fn meta(&self, gaps: &Gaps) -> v1::ResponseMeta {
        let (completeness, gap_ids, gap_count) = gaps.shown(GAP_IDS_MAX);
        v1::ResponseMeta { completeness: completeness.into(), gap_ids, gap_count, ..self.mirror.mark.meta.clone() }
    }

    fn encoder(&self) -> Result<Encoder, NoAnswer> {
        self.mirror.encoder.clone().ok_or(NoAnswer::OnlyServerKnows)
    }

    fn policy(&self) -> &GrantPolicy {
        &self.mirror.policy.grant
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn gaps(&self, scopes: &[Scope]) -> Gaps {
        self.gaps_of(scopes, true)
    }

    fn gaps_of_known(&self, scopes: &[Scope]) -> Gaps {
        self.gaps_of(scopes, false)
    }

    fn knows_gaps_of_principals(&self) -> Result<bool, NoAnswer> {
        Ok(true)
    }

    fn gaps_of_principals(&self) -> Result<Gaps, NoAnswer> {
        let Mirror { table, coverage, policy, remembered, .. } = self.mirror;
        self.everyone()?;
        let policy = policy.coverage.of_lists();
        let looked_at = policy.last_look(self.now);
        let lists = remembered.get(looked_at).unwrap_or_else(|| {
            let scopes = Wide::Principals.scopes(table.apps(), table.groups().of_apps().cloned().collect());
            let asked = Asked { now: looked_at, policy, ..self.asked(false) };
            let ids: BTreeSet<GapId> = coverage.completeness(asked, &scopes).gap_ids().iter().cloned().collect();
            let ids = gap_ids_of(ids);
            remembered.put(looked_at, Arc::clone(&ids));
            ids
        });
        let mut gaps = Gaps::of_many(lists);
        // What depends on the moment is not remembered.
        gaps.merge(self.gaps_of_known(&[]));
        for kind in [Kind::App, Kind::Group] {
            gaps.add_all(coverage.object_gaps(kind, coverage.generation()).into_iter());
        }
        Ok(gaps)
    }

    fn apps(&self) -> Result<&[App], NoAnswer> {
        Ok(self.mirror.table.apps())
    }

    fn candidates(
        &self,
        app: &AppId,
        key: LookupKey,
        of: AskedOf,
        limit: usize,
    ) -> Result<Arc<[AccountHit]>, NoAnswer> {
        let table = &self.mirror.table;
        let hit = |user: &UserId| AccountHit {
            user: table.user(user).cloned(),
            app_user: table.app_user(app, user).cloned(),
        };
        Ok(table.with_key(app, key, of, limit).into_iter().map(hit).collect())
    }

    fn user(&self, user: &UserId) -> Result<Option<User>, NoAnswer> {
        Ok(self.mirror.table.user(user).cloned())
    }

    fn users_with_key(&self, key: LookupKey, limit: usize) -> Result<Vec<User>, NoAnswer> {
        Ok(self.mirror.table.users_with_key(key).take(limit).cloned().collect())
    }

    fn is_named(&self, user: &UserId) -> Result<bool, NoAnswer> {
        let table = &self.mirror.table;
        let is_in_everyone = table.user(user).is_some() && !table.groups().everyone().is_empty();
        let is_member = || table.groups_of(user).any(|group| table.groups().get(group).is_some());
        Ok(is_in_everyone || table.accounts_of(user).next().is_some() || is_member())
    }

    fn app_user(&self, app: &AppId, user: &UserId) -> Result<Option<AppUser>, NoAnswer> {
        Ok(self.mirror.table.app_user(app, user).cloned())
    }

    fn held_names(&self, app: &AppId, key: LookupKey, limit: usize) -> Result<Vec<HeldName>, NoAnswer> {
        let table = &self.mirror.table;
        if table.is_cut() { Err(NoAnswer::OnlyServerKnows) } else { Ok(table.held_names(app, key, limit)) }
    }

    fn overrides_with_key(&self, app: &AppId, key: LookupKey) -> Result<Vec<OverrideRecord>, NoAnswer> {
        Ok(self.mirror.table.overrides_with_key(app, key))
    }

    fn is_filtered_name(
        &self,
        app: Option<&App>,
        _name: Identifier<'_>,
        _fields: &[(NameField, NameRule)],
    ) -> Result<bool, NoAnswer> {
        // An account that everybody shares is nobody's, whatever the filter says.
        let is_shared = app.is_some_and(App::is_shared_account);
        if self.mirror.mark.keeps_filtered_names && !is_shared { Err(NoAnswer::OnlyServerKnows) } else { Ok(false) }
    }

    // The server has hashes of ids whether or not it has any of names, and does not tell that it has.
    fn is_filtered_user(&self, _user: &UserId) -> Result<bool, NoAnswer> {
        Err(NoAnswer::OnlyServerKnows)
    }

    fn is_filtered_group(&self, _group: &GroupId) -> Result<bool, NoAnswer> {
        Err(NoAnswer::OnlyServerKnows)
    }

    fn group(&self, group: &GroupId) -> Result<Option<Group>, NoAnswer> {
        Ok(self.mirror.table.groups().get(group).cloned())
    }

    fn is_group_of_app(&self, app: &AppId, group: &GroupId) -> Result<GroupOfApp, NoAnswer> {
        Ok(self.mirror.table.groups().of_app(app, group))
    }

    fn groups_named(&self, app: &AppId, name: &str, limit: usize) -> Result<Vec<Group>, NoAnswer> {
        Ok(self.mirror.table.groups().named(app, name, limit).into_iter().cloned().collect())
    }

    fn unseen_group_of(&self, app: &AppId) -> Result<Option<GroupId>, NoAnswer> {
        Ok(self.mirror.table.groups().unseen_of(app).cloned())
    }

    fn everyone_group(&self) -> Result<Option<GroupId>, NoAnswer> {
        Ok(self.everyone()?.cloned())
    }

    fn ways_of(&self, user: &UserId, limit: usize) -> Result<Vec<WayOf>, NoAnswer> {
        let (table, everyone) = (&self.mirror.table, self.everyone()?);
        let everyone = everyone.filter(|_| table.user(user).is_some());
        let mine: BTreeSet<&GroupId> = table.groups_of(user).chain(everyone).collect();
        let status_of = |app: &AppId| -> Option<&AppStatus> {
            let at = table.apps().binary_search_by(|known| known.id.cmp(app)).ok()?;
            table.apps().get(at).map(|app| &app.status)
        };
        let mut ways = Vec::new();
        for row in mine.into_iter().filter_map(|group| table.groups().get(group)) {
            let assigned = table.groups().apps_of(&row.id).map(|app| (app, false));
            let imported = row.source_app.iter().map(|app| (app, true));
            for (app, is_imported) in assigned.chain(imported) {
                let (Some(app_status), Some(account)) = (status_of(app), table.app_user(app, user)) else { continue };
                if ways.len() == limit {
                    return Ok(ways);
                }
                ways.push(WayOf {
                    app: app.clone(),
                    app_status: app_status.clone(),
                    group: row.id.clone(),
                    app_user_status: account.status.clone(),
                    is_imported,
                });
            }
        }
        Ok(ways)
    }

    fn is_stale(&self, scope: &Scope, row: &str) -> bool {
        self.mirror.coverage.is_stale(scope, row)
    }

    fn is_any_stale(&self) -> bool {
        self.mirror.coverage.open_gaps() > 0
    }
}
