//! The store against a plain model: whatever is committed, every reader sees what the model holds.
//!
//! Entry point: `random_batches_match_the_model`, one run per seed; a failure prints the seed and the step. More seeds:
//! `STORE_CONTRACT_SEEDS=500 cargo test --test store_contract`.

#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "store_contract/cases.rs"]
mod cases;
#[path = "store_contract/compare.rs"]
mod compare;
#[path = "store_contract/filter_cases.rs"]
mod filter_cases;
#[path = "store_contract/follow.rs"]
mod follow;
#[path = "store_contract/follow_cases.rs"]
mod follow_cases;
#[path = "store_contract/gap_cases.rs"]
mod gap_cases;
#[path = "store_contract/gaps.rs"]
mod gaps;
#[path = "store_contract/generate.rs"]
mod generate;
#[path = "store_contract/hold_cases.rs"]
mod hold_cases;
#[path = "store_contract/missing_cases.rs"]
mod missing_cases;
#[path = "store_contract/model.rs"]
mod model;
#[path = "store_contract/overrides.rs"]
mod overrides;
#[path = "store_contract/unread_cases.rs"]
mod unread_cases;
#[path = "store_contract/walks.rs"]
mod walks;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::path::Path;

use okta_idmap::core::batch::{Batch, CrawlMark, Finished, Receipt, WalkState, WalkUpdate};
use okta_idmap::core::coverage::GapKind;
use okta_idmap::core::ids::{CrawlId, Revision, Timestamp};
use okta_idmap::core::model::{Key, Scope};
use okta_idmap::core::reconcile::{Brake, Verdict};
use okta_idmap::store::{Ages, ChangeRetention, Reader, ReleaseError, Store, StoreConfig, StoreError};

use self::compare::compare;
use self::generate::{Source, free_batch, user_ids, walk_batch};
use self::model::{Model, Rules};

/// Seeds of an ordinary run: a few seconds.
const SEEDS: u64 = 8;

/// Steps of a run; a step queues up to [`GROUP_MAX`] batches.
const STEPS: usize = 60;

/// Batches that are queued together, and so may share a transaction.
const GROUP_MAX: usize = 4;

/// Small enough that walks over a handful of rows meet it.
const BRAKE: Brake = Brake { share: 0.4, rows: 1 };

/// Short enough that a run prunes by age and by number.
const CHANGES: ChangeRetention = ChangeRetention { age_millis: 40 * 86_400_000, rows_max: 150 };

const CREDENTIALS: [&str; 2] = ["credential a", "credential b"];

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn open(dir: &Path, rules: &Rules) -> Store {
    let config = StoreConfig {
        dir: dir.to_owned(),
        brake: rules.brake,
        credential: rules.credential.clone(),
        changes: rules.changes,
        filter: okta_idmap::core::filter::Filter::default(),
    };
    Store::open(config).unwrap()
}

/// Queues all batches, then waits for their receipts.
fn commit(store: &Store, batches: &[Batch]) -> Vec<Result<Receipt, StoreError>> {
    wait(async {
        let mut receipts = Vec::new();
        for batch in batches {
            receipts.push(store.writer.commit(Box::new(batch.clone())).await.unwrap());
        }
        let mut outcomes = Vec::new();
        for receipt in receipts {
            outcomes.push(receipt.await.unwrap());
        }
        outcomes
    })
}

/// Commits to both and compares the receipts; returns what became of finished walks. The order of what is unlisted does not
/// matter.
fn commit_both(store: &Store, model: &mut Model, rules: &Rules, batches: &[Batch]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (outcome, batch) in commit(store, batches).into_iter().zip(batches) {
        let before = model.revision;
        match (outcome, model.apply(batch, rules)) {
            (Ok(mut found), Some(mut expected)) => {
                for finished in found.finished.iter_mut().chain(&mut expected.finished) {
                    finished.unlisted.sort();
                }
                for finished in &mut found.finished {
                    check_sample(finished);
                }
                assert_eq!(found, expected, "receipt of {batch:#?}");
                assert!(found.revision >= before, "revisions grow");
                verdicts.extend(found.finished.iter().map(|finished| finished.verdict));
            }
            (Err(StoreError::Mismatch { .. }), None) => assert_eq!(model.revision, before),
            (outcome, expected) => panic!("{outcome:?} instead of {expected:?} for {batch:#?}"),
        }
    }
    verdicts
}

/// Which of the missing rows are named is the store's choice; `compare` sees to it that they are missing ones.
fn check_sample(finished: &mut Finished) {
    let sample: BTreeSet<Key> = std::mem::take(&mut finished.sample).into_iter().collect();
    let expected = if finished.verdict.is_probed() { finished.missing.min(5) } else { 0 };
    assert_eq!(sample.len() as u64, expected, "a sample of {finished:?}");
    assert!(sample.iter().all(|key| key.scope() == finished.scope), "{sample:?} of {}", finished.scope);
}

/// An operator's order to release the hold of some scope or an object that is not shown, with the right number or a wrong
/// one; what was obeyed.
fn release(source: &mut Source, store: &Store, model: &mut Model, rules: &Rules) -> Option<&'static str> {
    let absent = model.absent();
    let held: Vec<Scope> = model.scopes.iter().filter(|(_, book)| book.is_held).map(|(s, _)| s.clone()).collect();
    let known: Vec<Scope> = held.iter().chain(&absent).cloned().collect();
    let scope = if known.is_empty() || source.random.u8(0..6) == 0 {
        let all = [Scope::Groups, Scope::User(user_ids()[0].clone())];
        all[source.random.usize(0..all.len())].clone()
    } else {
        known[source.random.usize(0..known.len())].clone()
    };
    let is_known = known.contains(&scope);
    let missing = if absent.contains(&scope) { 1 } else { model.missing(&scope).len() as u64 };
    let expected_missing = if source.random.bool() { missing } else { missing + 1 };
    match wait(store.writer.release_hold(scope.clone(), expected_missing, source.now)) {
        Ok(mut found) => {
            assert!(is_known && expected_missing == missing);
            let mut expected = model.release_by_order(&scope, source.now, rules).unwrap();
            found.unlisted.sort();
            expected.unlisted.sort();
            assert_eq!(found, expected, "release of {scope}");
            return Some(if scope.object().is_some() {
                "an object released by order"
            } else {
                "a hold released by order"
            });
        }
        Err(ReleaseError::NotHeld) => assert!(!is_known, "{scope} is held"),
        Err(ReleaseError::Changed { missing: found }) => {
            assert_eq!((is_known, found), (true, missing));
            assert_ne!(expected_missing, missing);
        }
        Err(ReleaseError::Store(error)) => panic!("{error}"),
    }
    None
}

/// Notes what has grown too old; nothing is answered, so that an empty batch tells when it is done.
fn note_ages(source: &mut Source, store: &Store, model: &mut Model, rules: &Rules) {
    let mut limit = || (source.random.usize(0..4) > 0).then(|| source.random.i64(0..60 * 86_400_000));
    let limits = Ages { scope_millis: limit(), log_millis: limit() };
    wait(store.writer.note_ages(source.now, limits)).unwrap();
    model.age(source.now, limits);
    commit_both(store, model, rules, &[Batch { now: source.now, ..Batch::default() }]);
}

fn crawl_batch(source: &mut Source, model: &Model) -> Batch {
    let mut batch = free_batch(source, model);
    let right = model.crawl.id.0;
    let wrong = source.random.usize(0..4) == 0;
    if model.crawl.running && source.random.bool() {
        let id = CrawlId(if wrong { right.saturating_sub(1) } else { right });
        batch.crawl = Some(CrawlMark::End { id });
        batch.unread_is_lost = source.random.bool();
    } else if source.random.usize(0..8) == 0 {
        batch.crawl = Some(CrawlMark::End { id: CrawlId(right + 1) });
    } else {
        let id = CrawlId(if wrong { right } else { right + source.random.u64(1..3) });
        batch.crawl = Some(CrawlMark::Begin { id, fingerprint: format!("fingerprint {}", source.now) });
        let todo = |scope| WalkUpdate { scope, state: WalkState::Todo };
        batch.walks = [Scope::Users, Scope::Groups, Scope::Apps].map(todo).into();
        batch.unread_is_lost = source.random.usize(0..4) == 0;
    }
    batch
}

/// Batches for one step. They are made from the model as it will be after the ones before.
fn step(source: &mut Source, model: &Model, rules: &Rules) -> Vec<Batch> {
    let mut ahead = model.clone();
    let mut batches = Vec::new();
    for _ in 0..source.random.usize(1..=GROUP_MAX) {
        // Seconds, so that walks and events meet; minutes, so that memories end; or up to twenty days, so that released
        // names grow too old in a run.
        let longest = [10_000, 15 * 60_000, 20 * 86_400_000][source.random.usize(0..3)];
        source.now = source.now.plus_millis(source.random.i64(0..longest));
        let batch = match source.random.u8(0..10) {
            0..4 => free_batch(source, &ahead),
            4..9 => walk_batch(source, &ahead),
            _ => crawl_batch(source, &ahead),
        };
        // As when a crawl has opened the log, or goes on.
        let is_lost = batch.unread_is_lost || source.random.usize(0..32) == 0;
        let batch = Batch { unread_is_lost: is_lost, ..batch };
        ahead.apply(&batch, rules);
        batches.push(batch);
    }
    batches
}

/// What a run must come to, so that its comparisons say something.
fn note_met(met: &mut BTreeSet<&'static str>, model: &Model, store: &Store) {
    let meta = store.reader.read(|snapshot| snapshot.meta()).unwrap();
    let facts = [
        ("a membership event applied", !model.marks.is_empty()),
        ("debts", !model.pending.is_empty()),
        ("a held scope with missing rows", model.scopes.keys().any(|scope| !model.missing(scope).is_empty())),
        ("a log position", model.cursor.is_some()),
        ("a delta walk", !model.deltas.is_empty()),
        ("changes that went", meta.changes_from > Revision(0)),
        ("an object that is not shown", !model.absent().is_empty()),
        ("a gap that was closed by age", model.gaps.values().any(|gap| gap.gap.kind == GapKind::Stale && !gap.open)),
    ];
    met.extend(facts.into_iter().filter(|(_, is_met)| *is_met).map(|(fact, _)| fact));
}

/// Number of different facts of [`note_met`] and of [`run`].
const FACTS: usize = 13;

fn run(seed: u64, current_step: &mut usize, met: &mut BTreeSet<&'static str>) -> Vec<Verdict> {
    let dir = tempfile::tempdir().unwrap();
    let mut rules = Rules { credential: CREDENTIALS[0].to_owned(), brake: BRAKE, changes: CHANGES };
    let mut store = open(dir.path(), &rules);
    let (mut model, mut verdicts) = (Model::default(), Vec::new());
    let mut source = Source {
        random: fastrand::Rng::with_seed(seed),
        now: Timestamp::from_millis(1_770_000_000_000),
        request: store.writer.first_request_number().0,
    };
    // By chance of its own, so that a seed stays what it was.
    let mut operator = fastrand::Rng::with_seed(!seed);
    compare(&store.reader, &model, &mut source.random);
    for step_number in 0..STEPS {
        *current_step = step_number;
        let batches = step(&mut source, &model, &rules);
        met.extend(overrides::end(&source, &store, &mut model, &rules));
        verdicts.extend(commit_both(&store, &mut model, &rules, &batches));
        assert_eq!(*store.reader.revisions().borrow(), model.revision, "published revision");
        compare(&store.reader, &model, &mut source.random);
        note_met(met, &model, &store);
        if source.random.usize(0..4) == 0 {
            met.extend(release(&mut source, &store, &mut model, &rules));
            compare(&store.reader, &model, &mut source.random);
        }
        if source.random.usize(0..4) == 0 {
            note_ages(&mut source, &store, &mut model, &rules);
            compare(&store.reader, &model, &mut source.random);
        }
        if operator.usize(0..3) == 0 {
            met.extend(overrides::order(&mut operator, source.now, &store, &mut model));
        }
        if source.random.usize(0..8) == 0 {
            drop(store);
            model.memory = follow::Memory::default();
            if source.random.usize(0..3) == 0 {
                CREDENTIALS[source.random.usize(0..CREDENTIALS.len())].clone_into(&mut rules.credential);
            }
            store = open(dir.path(), &rules);
            let first = store.writer.first_request_number().0;
            assert!(first > source.request, "request numbers never come again");
            source.request = first;
            compare(&store.reader, &model, &mut source.random);
            compare(&Reader::open(dir.path()).unwrap(), &model, &mut source.random);
        }
    }
    assert!(model.revision > Revision(10), "the run did something");
    verdicts
}

#[test]
fn random_batches_match_the_model() {
    let seeds = std::env::var("STORE_CONTRACT_SEEDS").ok().and_then(|raw| raw.parse().ok()).unwrap_or(SEEDS);
    let only: Option<u64> = std::env::var("STORE_CONTRACT_SEED").ok().and_then(|raw| raw.parse().ok());
    let (mut verdicts, mut met) = (Vec::new(), BTreeSet::new());
    for seed in only.map_or(0..seeds, |seed| seed..seed + 1) {
        let mut step = 0;
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run(seed, &mut step, &mut met)));
        match outcome {
            Ok(found) => verdicts.extend(found),
            Err(panic) => {
                eprintln!("seed {seed}, step {step}: again with STORE_CONTRACT_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let all = [
        Verdict::Nothing,
        Verdict::Ask,
        Verdict::Confirm,
        Verdict::HoldShrunk,
        Verdict::HoldCredential,
        Verdict::HoldUnreadable,
        Verdict::HoldEmpty,
    ];
    let never = all.iter().find(|verdict| only.is_none() && !verdicts.contains(verdict));
    assert_eq!(never, None, "a verdict that no run has met: the runs are too tame");
    assert!(only.is_some() || met.len() == FACTS, "no run has met more than {met:?}");
}
