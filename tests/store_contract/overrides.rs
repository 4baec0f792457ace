//! Operators' overrides: orders to the store and to the model, and what readers see of them.
//!
//! Entry points: [`order`], [`end`], [`compare_overrides`].

use std::collections::{BTreeMap, BTreeSet};

use okta_idmap::core::batch::Batch;
use okta_idmap::core::ids::{Revision, Timestamp};
use okta_idmap::core::model::Key;
use okta_idmap::core::normalize::lookup_key;
use okta_idmap::core::overrides::{OverrideName, OverrideSetting};
use okta_idmap::core::resolve::{IdentifierKind, Override};
use okta_idmap::store::{OverrideError, Snapshot, Store, StoreError};

use super::generate::{NAMES, Source, app_ids, user_ids};
use super::model::{Model, Rules};
use super::{commit_both, wait};

const KINDS: [IdentifierKind; 4] =
    [IdentifierKind::Untyped, IdentifierKind::UserName, IdentifierKind::ExternalId, IdentifierKind::Email];

/// An override of the model, and when it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    setting: OverrideSetting,
    created_at: Timestamp,
}

/// What the model knows of overrides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decisions {
    there: BTreeMap<OverrideName, Decided>,
    log: BTreeMap<Revision, BTreeSet<OverrideName>>,
}

impl Model {
    fn tell(&mut self, names: BTreeSet<OverrideName>) {
        self.revision = Revision(self.revision.0 + 1);
        self.decisions.log.insert(self.revision, names);
    }

    fn set_override(&mut self, setting: OverrideSetting, now: Timestamp) -> Result<(), &'static str> {
        let entry = &setting.entry;
        if !self.rows.contains_key(&Key::App(entry.app.clone())) {
            return Err("app");
        }
        if !self.rows.contains_key(&Key::User(entry.user.clone())) {
            return Err("user");
        }
        if lookup_key(&entry.name).is_err() {
            return Err("name");
        }
        let name = OverrideName::of(entry);
        self.decisions.there.insert(name.clone(), Decided { setting, created_at: now });
        self.tell(BTreeSet::from([name]));
        Ok(())
    }

    fn delete_override(&mut self, name: &OverrideName) -> Result<(), &'static str> {
        self.decisions.there.remove(name).ok_or("unknown")?;
        self.tell(BTreeSet::from([name.clone()]));
        Ok(())
    }

    fn end_overrides(&mut self, now: Timestamp) -> bool {
        let is_over = |decided: &Decided| decided.setting.entry.expires_at <= now;
        let there = &self.decisions.there;
        let over: BTreeSet<OverrideName> =
            there.iter().filter(|(_, decided)| is_over(decided)).map(|(name, _)| name.clone()).collect();
        self.decisions.there.retain(|name, _| !over.contains(name));
        let has_ended = !over.is_empty();
        if has_ended {
            self.tell(over);
        }
        has_ended
    }
}

fn refused(error: &OverrideError) -> &'static str {
    match error {
        OverrideError::AppUnknown => "app",
        OverrideError::UserUnknown => "user",
        OverrideError::Name => "name",
        OverrideError::Unknown => "unknown",
        other => panic!("{other}"),
    }
}

/// An operator's order; what was obeyed.
pub(crate) fn order(
    random: &mut fastrand::Rng,
    now: Timestamp,
    store: &Store,
    model: &mut Model,
) -> Option<&'static str> {
    let (apps, users) = (app_ids(), user_ids());
    let entry = Override {
        app: apps[random.usize(0..apps.len())].clone(),
        kind: KINDS[random.usize(0..KINDS.len())],
        name: NAMES[random.usize(0..NAMES.len())].into(),
        user: users[random.usize(0..users.len())].clone(),
        expires_at: now.plus_millis(random.i64(1..10 * 86_400_000)),
    };
    let mut name = OverrideName::of(&entry);
    if random.u8(0..3) == 0 {
        // Mostly one that is there.
        if let Some(known) = random.choice(model.decisions.there.keys()) {
            name = known.clone();
        }
        let expected = model.decisions.there.get(&name).map(|decided| decided.setting.clone());
        let found = wait(store.writer.delete_override(name.clone(), now));
        let expected_outcome = model.delete_override(&name);
        assert_eq!(found.as_ref().map(|_| ()).map_err(refused), expected_outcome, "delete {name:?}");
        let found = found.ok()?;
        assert_eq!(Some(found.entry), expected.map(|setting| setting.entry));
        return Some("an override taken back");
    }
    let (created_by, reason) = (format!("op{}", random.u8(0..3)).into(), format!("because {}", random.u8(0..3)).into());
    let setting = OverrideSetting { entry, created_by, reason };
    let found = wait(store.writer.set_override(setting.clone(), now));
    let expected = model.set_override(setting.clone(), now);
    assert_eq!(found.as_ref().map(|_| ()).map_err(refused), expected, "set {setting:?}");
    assert_eq!(found.ok()?.entry, setting.entry);
    Some("an override set")
}

/// Ends what is over by now, before batches of that time share transactions in ways that nobody knows.
pub(crate) fn end(source: &Source, store: &Store, model: &mut Model, rules: &Rules) -> Option<&'static str> {
    // A commit costs: only where it ends something.
    if !model.decisions.there.values().any(|decided| decided.setting.entry.expires_at <= source.now) {
        return None;
    }
    commit_both(store, model, rules, &[Batch { now: source.now, ..Batch::default() }]);
    // After the batch, under a revision of its own, and with its transaction.
    let has_ended = model.end_overrides(source.now);
    assert_eq!(*store.reader.revisions().borrow(), model.revision);
    has_ended.then_some("an override that is over")
}

/// Compares what readers see with the model.
pub(crate) fn compare_overrides(
    snapshot: &Snapshot<'_>,
    model: &Model,
    random: &mut fastrand::Rng,
) -> Result<(), StoreError> {
    let (mut found, mut after) = (BTreeMap::new(), None);
    loop {
        let page = snapshot.overrides(None, None, after, random.usize(1..5))?;
        for record in page.rows {
            let (name, created_at) = (OverrideName::of(&record.entry), record.created_at);
            let setting = OverrideSetting { entry: record.entry, created_by: record.created_by, reason: record.reason };
            assert!(found.insert(name, Decided { setting, created_at }).is_none(), "one of each name");
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, model.decisions.there, "overrides");
    assert_eq!(snapshot.override_count()?, found.len() as u64);
    // There are many comparisons in a run: two names each.
    for _ in 0..2 {
        let (app, name) = (app_ids()[random.usize(0..app_ids().len())].clone(), NAMES[random.usize(0..NAMES.len())]);
        let Ok(key) = lookup_key(name) else { continue };
        let named = snapshot.overrides_with_key(&app, key)?;
        let named: BTreeSet<_> = named.iter().map(|record| OverrideName::of(&record.entry)).collect();
        let has_key = |entry: &&OverrideName| entry.app == app && lookup_key(&entry.name) == Ok(key);
        assert_eq!(named, found.keys().filter(has_key).cloned().collect(), "overrides of {name:?} in {app}");
    }
    compare_log(snapshot, model, random)
}

/// Reads the log of overrides from a random revision on, in pieces of random size, and expects every line once.
fn compare_log(snapshot: &Snapshot<'_>, model: &Model, random: &mut fastrand::Rng) -> Result<(), StoreError> {
    let first = Revision(random.u64(snapshot.meta()?.changes_from.0..=model.revision.0));
    let (mut after, mut found) = (first, BTreeMap::<Revision, BTreeSet<OverrideName>>::new());
    loop {
        let changes = snapshot.override_changes_after(after, random.usize(1..5))?;
        let Some(last) = changes.last().map(|change| change.revision) else { break };
        for change in changes {
            let name = match snapshot.override_by_number(change.number)? {
                Some(record) => OverrideName::of(&record.entry),
                None => {
                    let gone = snapshot.override_gone(change.number)?.expect("told of, so known");
                    OverrideName { app: gone.app, kind: gone.kind, name: gone.name }
                }
            };
            assert!(found.entry(change.revision).or_default().insert(name), "one line for an override and revision");
        }
        after = last;
    }
    let expected = model.decisions.log.range(Revision(first.0 + 1)..);
    assert_eq!(found, expected.map(|(revision, names)| (*revision, names.clone())).collect(), "log of overrides");
    Ok(())
}
