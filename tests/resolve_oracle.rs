//! Resolution against a deliberately naive oracle, over small random worlds full of look-alike names.
//!
//! The oracle never normalises: which spellings are equal under which rule is written down in [`NAMES`], and names are
//! drawn from there. The code under test gets its candidates as the store finds them, by equality of keys.
//!
//! `RESOLVE_ORACLE_CASES` sets the number of resolutions (default 100,000; 10,000,000 take a minute or two with
//! `--release`), `ACL_ORACLE_PAIRS` that of documents and people, `RESOLVE_ORACLE_SEED` the first world. A failure prints
//! the seed of its world.

#![expect(clippy::unwrap_used, reason = "a test: what cannot be built ends it")]

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use okta_idmap::core::ids::{AppId, Timestamp, UserId};
use okta_idmap::core::model::{App, AppStatus, AppUser, AppUserStatus, AssignmentScope, User, UserStatus};
use okta_idmap::core::normalize::{Identifier, LookupKey, NameRule};
use okta_idmap::core::policy::{AliasSetting, GrantPolicy, GrantPolicySettings, NameRuleSetting};
use okta_idmap::core::resolve::{
    AccountHolder, Candidate, Completeness, IdentifierKind, InactiveReason, NameField, Outcome, Override, Resolution,
    ResolveInput, TierAnswer, WarningKind, explain_tiers, keys_of_app_user, keys_of_user, resolve,
};

#[path = "resolve_oracle/acl.rs"]
mod acl;
#[path = "resolve_oracle/oracle.rs"]
mod oracle;

use oracle::{Holder, Named, Person, Question, Record, World, expect};

/// Alike at all (same key) → equal when case is ignored → equal by default → the spellings.
const NAMES: &[&[&[&[&str]]]] = &[
    &[
        &[&["jdoe@example.com", "JDoe@Example.COM", "jdoe@example。com", "JDOE@ｅxample.com"]],
        &[&["ｊdoe@example.com", "Ｊdoe@EXAMPLE.com"]], // NFKC does not count in a local part.
        &[&["jdoe＠example.com"], &["JDOE＠example.com"]], // A full-width '@' makes no e-mail.
    ],
    &[&[&["jdoe+a@example.com", "JDOE+A@example.com"]]],
    &[&[&["j.doe@example.com"]]],
    &[
        &[&["a@straße.example", "A@STRAßE.example", "a@xn--strae-oqa.example", "A@XN--STRAE-OQA.Example"]],
        &[&["a@strasse.example", "a@STRASSE.example"]], // Another domain.
    ],
    &[&[&["straße@x.example", "STRASSE@x.example", "strasse@X.example"]]],
    &[&[&["jürgen@bücher.example", "ju\u{308}rgen@bu\u{308}cher.example", "JÜRGEN@XN--BCHER-KVA.EXAMPLE"]]],
    &[&[&["İ@x.example", "i\u{307}@x.example"]]],
    &[&[&["i@x.example", "I@x.example"]]],
    &[&[&["ı@x.example"]]],
    &[&[&["οδός@x.example", "ΟΔΌΣ@x.example", "οδόσ@X.example"]]],
    &[
        &[&["a@xn--ßq.example"], &["A@xn--ßq.example"]], // Refused by IDNA, and must not fold into the next ones.
        &[&["a@侘.example", "A@xn--ssq.example"]],
    ],
    &[&[&["jdoe"], &["JDoe"], &["JDOE"]], &[&["ｊdoe"], &["ＪDoe"]]],
    &[&[&["é"], &["e\u{301}"], &["É"]]],
    &[&[&["fin"], &["ﬁn"], &["FIN"]]],
    &[&[&["k9"], &["K9"], &["\u{212a}9"]]],
    &[&[&["00123"]]],
    &[&[&["123"]], &[&["¹23"]]],
    &[&[&["jdoe@corp"], &["JDOE@CORP"]]],
];

/// A spelling: its place in [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name([usize; 4]);

impl Name {
    fn every() -> Vec<Name> {
        let mut names = Vec::new();
        for (a, alike) in NAMES.iter().enumerate() {
            for (b, folded) in alike.iter().enumerate() {
                for (c, equal) in folded.iter().enumerate() {
                    names.extend((0..equal.len()).map(|d| Name([a, b, c, d])));
                }
            }
        }
        names
    }

    fn text(self) -> &'static str {
        let [a, b, c, d] = self.0;
        NAMES[a][b][c][d]
    }

    fn is_same(self, other: Name, rule: NameRule) -> bool {
        let depth = match rule {
            NameRule::Exact => 4,
            NameRule::Default => 3,
            NameRule::IgnoreCase => 2,
        };
        self.0[..depth] == other.0[..depth]
    }

    fn is_alike(self, other: Name) -> bool {
        self.0[0] == other.0[0]
    }
}

const NOW_MILLIS: i64 = 1_800_000_000_000;
const GAP_IDS: [&str; 1] = ["g1"];
/// Enough to meet most of a world's names in most ways; building it costs as much as ten questions.
const QUESTIONS_PER_WORLD: u64 = 80;

fn user_id(index: usize) -> UserId {
    UserId::new(&format!("u{index}")).unwrap()
}

fn app_id(index: usize) -> AppId {
    AppId::new(&format!("a{index}")).unwrap()
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn maybe<T>(rng: &mut Rng, percent: u32, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    (rng.u32(..100) < percent).then(|| make(rng))
}

fn random_kind(rng: &mut Rng) -> IdentifierKind {
    use IdentifierKind::{Email, ExternalId, Untyped, UserName};
    pick(rng, &[Untyped, Untyped, UserName, ExternalId, Email])
}

fn random_world(rng: &mut Rng) -> World {
    let every = Name::every();
    // Few names, so that people meet; neighbours in the table, so that they look alike.
    let near = rng.usize(..NAMES.len());
    let far = rng.usize(..NAMES.len());
    let names: Vec<Name> = every.into_iter().filter(|name| name.0[0] == near || name.0[0] == far).collect();
    let user_status = |rng: &mut Rng| match rng.u32(..10) {
        0..7 => "ACTIVE",
        7 => pick(rng, &["LOCKED_OUT", "RECOVERY", "PASSWORD_EXPIRED"]),
        8 => pick(rng, &["STAGED", "PROVISIONED"]),
        _ => pick(rng, &["SUSPENDED", "DEPROVISIONED", "FUTURE"]),
    };
    let app_user_status = |rng: &mut Rng| match rng.u32(..10) {
        0..8 => pick(rng, &["ACTIVE", "PROVISIONED"]),
        _ => pick(rng, &["STAGED", "INACTIVE", "SUSPENDED", "UNASSIGNED", "MATCHED", "FUTURE"]),
    };
    let user_count = rng.usize(1..6);
    let app_count = 2;
    let people = (0..user_count)
        .map(|_| Person {
            is_unseen: rng.u32(..20) == 0,
            status: user_status(rng),
            login: maybe(rng, 50, |rng| pick(rng, &names)),
            email: maybe(rng, 30, |rng| pick(rng, &names)),
            second_email: maybe(rng, 30, |rng| pick(rng, &names)),
            records: (0..app_count)
                .map(|_| {
                    maybe(rng, 70, |rng| Record {
                        status: app_user_status(rng),
                        user_name: maybe(rng, 40, |rng| pick(rng, &names)),
                        external_id: maybe(rng, 25, |rng| pick(rng, &names)),
                        email: maybe(rng, 20, |rng| pick(rng, &names)),
                    })
                })
                .collect(),
        })
        .collect();
    let quarantine_millis = pick(rng, &[0, 1, 86_400_000]);
    let named = |rng: &mut Rng, percent: u32| -> Vec<Named> {
        let count = if rng.u32(..100) < percent { rng.usize(1..4) } else { 0 };
        (0..count)
            .map(|_| Named {
                app: rng.usize(..app_count),
                kind: random_kind(rng),
                name: pick(rng, &names),
                user: rng.usize(..user_count + 1), // The last one is nobody.
                expires_at: NOW_MILLIS + rng.i64(-1..3),
            })
            .collect()
    };
    let (aliases, overrides) = (named(rng, 25), named(rng, 15));
    let history = (0..rng.usize(..4))
        .map(|_| Holder {
            app: rng.usize(..app_count),
            user: rng.usize(..user_count + 1),
            field: pick(rng, &NameField::ALL),
            name: pick(rng, &names),
            released_at: NOW_MILLIS - quarantine_millis + rng.i64(-1..3),
        })
        .collect();
    World {
        people,
        names,
        app_statuses: (0..app_count).map(|_| if rng.u32(..15) == 0 { "INACTIVE" } else { "ACTIVE" }).collect(),
        is_shared: (0..app_count).map(|_| rng.u32(..30) == 0).collect(),
        rules: (0..app_count).map(|_| pick(rng, &NameRule::ALL)).collect(),
        second_email: rng.bool(),
        staged_grants: rng.bool(),
        quarantine_millis,
        aliases,
        overrides,
        history,
    }
}

/// The world as the code under test sees it.
struct Rows {
    apps: Vec<App>,
    users: Vec<User>,
    app_users: Vec<Vec<Option<AppUser>>>,
    user_keys: Vec<BTreeSet<LookupKey>>,
    app_user_keys: Vec<Vec<BTreeSet<LookupKey>>>,
    overrides: Vec<(LookupKey, Override)>,
    history: Vec<(usize, LookupKey, AccountHolder)>,
    policy: GrantPolicy,
    gap_ids: Vec<String>,
}

fn key(raw: &str) -> LookupKey {
    Identifier::new(raw).unwrap().lookup_key()
}

fn text(name: Option<Name>) -> Option<Box<str>> {
    name.map(|name| name.text().into())
}

fn build_user(index: usize, person: &Person) -> User {
    User {
        id: user_id(index),
        status: UserStatus::parse(person.status),
        login: text(person.login),
        email: text(person.email),
        second_email: text(person.second_email),
        first_name: None,
        last_name: None,
        display_name: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

fn build_app_user(app: usize, user: usize, record: &Record) -> AppUser {
    AppUser {
        app: app_id(app),
        user: user_id(user),
        user_name: text(record.user_name),
        external_id: text(record.external_id),
        email: text(record.email),
        status: AppUserStatus::parse(record.status),
        scope: AssignmentScope::User,
        sync_state: None,
        via_group: None,
        created: None,
        last_updated: None,
        status_changed: None,
    }
}

fn build_app(world: &World, index: usize) -> App {
    App {
        id: app_id(index),
        name: format!("name{index}").into(),
        label: format!("Label {index}").into(),
        status: AppStatus::parse(world.app_statuses[index]),
        sign_on_mode: None,
        features: Vec::new(),
        credential_scheme: world.is_shared[index].then(|| "SHARED_USERNAME_AND_PASSWORD".into()),
        shared_user_name: Some("shared".into()),
        user_name_template: None,
        oauth_application_type: None,
        implicit_assignment: Some(false),
        created: None,
        last_updated: None,
    }
}

fn build_policy(world: &World) -> GrantPolicy {
    let mut settings = GrantPolicySettings {
        second_email: world.second_email,
        quarantine_millis: world.quarantine_millis,
        ..GrantPolicySettings::default()
    };
    if world.staged_grants {
        settings.user_statuses.extend(["STAGED".into(), "PROVISIONED".into()]);
    }
    for (index, rule) in world.rules.iter().enumerate() {
        // By each kind of selector in turn.
        let app = [format!("a{index}"), format!("Label {index}"), format!("name{index}")][index % 3].clone();
        settings.name_rules.push(NameRuleSetting { app, rule: *rule });
    }
    settings.aliases = world
        .aliases
        .iter()
        .map(|alias| AliasSetting {
            app: format!("a{}", alias.app),
            kind: alias.kind,
            name: alias.name.text().into(),
            user: format!("u{}", alias.user),
        })
        .collect();
    GrantPolicy::new(&settings).unwrap()
}

fn build(world: &World) -> Rows {
    let users: Vec<User> = world.people.iter().enumerate().map(|(index, person)| build_user(index, person)).collect();
    let app_users: Vec<Vec<Option<AppUser>>> = world
        .people
        .iter()
        .enumerate()
        .map(|(user, person)| {
            let records = person.records.iter().enumerate();
            records.map(|(app, record)| record.as_ref().map(|record| build_app_user(app, user, record))).collect()
        })
        .collect();
    let keys = |row: &Option<AppUser>| row.iter().flat_map(keys_of_app_user).map(|(_, key)| key).collect();
    let overrides = world.overrides.iter().map(|entry| {
        let entry_row = Override {
            app: app_id(entry.app),
            kind: entry.kind,
            name: entry.name.text().into(),
            user: user_id(entry.user),
            expires_at: Timestamp::from_millis(entry.expires_at),
        };
        (key(entry.name.text()), entry_row)
    });
    let history = world.history.iter().map(|holder| {
        let row = AccountHolder {
            user: user_id(holder.user),
            field: holder.field,
            name: holder.name.text().into(),
            released_at: Timestamp::from_millis(holder.released_at),
        };
        (holder.app, key(holder.name.text()), row)
    });
    Rows {
        apps: (0..world.rules.len()).map(|index| build_app(world, index)).collect(),
        user_keys: users.iter().map(|user| keys_of_user(user).map(|(_, key)| key).collect()).collect(),
        app_user_keys: app_users.iter().map(|rows| rows.iter().map(keys).collect()).collect(),
        users,
        app_users,
        overrides: overrides.collect(),
        history: history.collect(),
        policy: build_policy(world),
        gap_ids: GAP_IDS.map(String::from).into(),
    }
}

/// Asks the code under test, with what a store would find under the key, in any order and some of it twice.
fn ask<T>(
    rng: &mut Rng,
    world: &World,
    rows: &Rows,
    question: &Question,
    answer: impl FnOnce(&Resolution<'_>) -> T,
) -> T {
    let identifier = Identifier::new(question.name.text()).unwrap();
    let key = identifier.lookup_key();
    let aliases = rows.policy.aliases_with_key(key);
    let with_key = rows.overrides.iter().filter(|(held, _)| *held == key);
    let overrides: Vec<Override> = with_key.map(|(_, entry)| entry.clone()).collect();
    let with_key = rows.history.iter().filter(|(app, held, _)| *app == question.app && *held == key);
    let history: Vec<AccountHolder> = with_key.map(|(_, _, holder)| holder.clone()).collect();
    let mut candidates = Vec::new();
    for (index, user) in rows.users.iter().enumerate() {
        let is_found = (!world.people[index].is_unseen && rows.user_keys[index].contains(&key))
            || rows.app_user_keys[index][question.app].contains(&key)
            || aliases.iter().any(|alias| alias.user == user.id)
            || overrides.iter().any(|entry| entry.user == user.id);
        let app_user = rows.app_users[index][question.app].as_ref();
        let candidate = match app_user {
            _ if !is_found => continue,
            Some(app_user) if world.people[index].is_unseen => Candidate::Unseen { app_user },
            None if world.people[index].is_unseen => continue,
            app_user => Candidate::Known { user, app_user },
        };
        candidates.push(candidate);
        candidates.extend(maybe(rng, 10, |_| candidate));
    }
    rng.shuffle(&mut candidates);
    let completeness = if question.is_partial { Completeness::Partial(&rows.gap_ids) } else { Completeness::Complete };
    answer(&resolve(&ResolveInput {
        app: &rows.apps[question.app],
        identifier,
        kind: question.kind,
        candidates: &candidates,
        history: &history,
        aliases,
        overrides: &overrides,
        is_filtered: question.is_filtered,
        completeness,
        policy: &rows.policy,
        now: Timestamp::from_millis(NOW_MILLIS),
    }))
}

/// The answer as the oracle writes it.
fn render(resolution: &Resolution<'_>) -> String {
    let mut words = vec![resolution.outcome.name().to_owned()];
    words.extend(resolution.tier().map(|tier| tier.name().to_owned()));
    words.extend(resolution.found().map(|found| found.user_id.to_string()));
    match &resolution.outcome {
        Outcome::Inactive { reasons, .. } => words.extend(reasons.iter().map(|reason| match reason {
            InactiveReason::UserUnseen => "unseen".to_owned(),
            InactiveReason::User(status) => format!("user={}", status.as_str()),
            InactiveReason::NotAssigned => "unassigned".to_owned(),
            InactiveReason::AppUser(status) => format!("app_user={}", status.as_str()),
            InactiveReason::App(status) => format!("app={}", status.as_str()),
        })),
        Outcome::Reused { holders, .. } => {
            let others: BTreeSet<String> = holders.iter().map(|holder| format!("<{}", holder.user)).collect();
            words.extend(others);
        }
        Outcome::UnknownGap { gap_ids } => words.extend(gap_ids.iter().cloned()),
        _ => {}
    }
    words.extend(resolution.warnings.iter().map(|warning| match warning.kind {
        WarningKind::CaseDiffers => format!("~case:{}", warning.user_id),
        WarningKind::NfkcDiffers => format!("~nfkc:{}", warning.user_id),
    }));
    // Who took part may be asked for, and must be exactly those who would be confused.
    if let Outcome::Ambiguous(_) = resolution.outcome {
        let counted = resolution.candidates.iter().filter(|entry| entry.is_counted);
        words.extend(counted.map(|entry| format!("+{}", entry.user_id)));
    }
    words.join(" ")
}

/// Whoever a tier that was asked names took part in the decision, and nobody else.
fn check_tiers(kind: IdentifierKind, rows: &Rows, resolution: &Resolution<'_>) {
    let tiers = explain_tiers(kind, &rows.policy, resolution);
    let mut named: Vec<&UserId> = tiers.iter().flat_map(|tier| &tier.matching).map(|entry| entry.user_id).collect();
    named.sort();
    named.dedup();
    let counted = resolution.candidates.iter().filter(|entry| entry.is_counted).map(|entry| entry.user_id);
    assert_eq!(named, counted.collect::<Vec<_>>(), "{resolution:?} {tiers:?}");
    for tier in &tiers {
        let expected = match tier.answer {
            TierAnswer::OneUser => 1..=1,
            TierAnswer::SeveralUsers => 2..=usize::MAX,
            _ => 0..=0,
        };
        assert!(expected.contains(&tier.matching.len()), "{tier:?}");
    }
    if let (Some(decisive), Outcome::Resolved(_)) = (resolution.tier(), &resolution.outcome) {
        // An operator may name somebody who has no names at all; then no candidate shows it.
        let answer = tiers.iter().find(|tier| tier.tier == decisive).map(|tier| tier.answer);
        assert_eq!(answer, Some(TierAnswer::OneUser), "{resolution:?}");
    }
}

fn number_from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |raw| raw.parse().unwrap())
}

/// Keys are equal exactly where the table says that names are alike, and rules agree with it: all pairs.
#[test]
fn the_table_of_names_is_true() {
    for a in Name::every() {
        for b in Name::every() {
            let (left, right) = (Identifier::new(a.text()).unwrap(), Identifier::new(b.text()).unwrap());
            assert_eq!(left.lookup_key() == right.lookup_key(), a.is_alike(b), "{} {}", a.text(), b.text());
            for rule in NameRule::ALL {
                assert_eq!(left.is_same(right, rule), a.is_same(b, rule), "{} {} {rule:?}", a.text(), b.text());
            }
        }
    }
}

fn random_question(rng: &mut Rng, world: &World) -> Question {
    Question {
        app: rng.usize(..world.rules.len()),
        name: pick(rng, &world.names),
        kind: random_kind(rng),
        is_filtered: rng.u32(..5) == 0,
        is_partial: rng.u32(..5) == 0,
    }
}

/// Asks one world; counts the answers by outcome and tier.
fn ask_world(seed: u64, seen: &mut BTreeMap<String, u64>) {
    let mut rng = Rng::with_seed(seed);
    let world = random_world(&mut rng);
    let rows = build(&world);
    for _ in 0..QUESTIONS_PER_WORLD {
        let question = random_question(&mut rng, &world);
        let expected = expect(&world, &question, NOW_MILLIS);
        let actual = ask(&mut rng, &world, &rows, &question, |resolution| {
            check_tiers(question.kind, &rows, resolution);
            render(resolution)
        });
        assert_eq!(actual, expected, "seed {seed}, {:?} for {question:?} in {world:#?}", question.name.text());
        let is_class = |(index, word): &(usize, &str)| *index == 0 || (*index == 1 && word.starts_with('T'));
        let class: Vec<&str> = expected.split(' ').enumerate().filter(is_class).map(|(_, word)| word).collect();
        *seen.entry(class.join(" ")).or_default() += 1;
    }
}

/// Asks worlds, one per seed, on all processors; what was seen is counted by class.
fn ask_worlds(world_count: u64, ask_world: fn(u64, &mut BTreeMap<String, u64>)) -> BTreeMap<String, u64> {
    let first_seed = number_from_environment("RESOLVE_ORACLE_SEED", 1);
    let thread_count = std::thread::available_parallelism().map_or(1, usize::from);
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    std::thread::scope(|scope| {
        let ask_share = |offset: usize| {
            let mut seen = BTreeMap::new();
            let seeds = (first_seed..first_seed + world_count).skip(offset).step_by(thread_count);
            seeds.for_each(|seed| ask_world(seed, &mut seen));
            seen
        };
        let threads: Vec<_> = (0..thread_count).map(|offset| scope.spawn(move || ask_share(offset))).collect();
        for thread in threads {
            let share = thread.join().unwrap_or_else(|failure| std::panic::resume_unwind(failure));
            share.into_iter().for_each(|(class, count)| *seen.entry(class).or_default() += count);
        }
    });
    seen
}

#[test]
fn resolution_agrees_with_the_oracle() {
    let world_count = number_from_environment("RESOLVE_ORACLE_CASES", 100_000).div_ceil(QUESTIONS_PER_WORLD);
    let seen = ask_worlds(world_count, ask_world);
    println!("{} resolutions: {seen:#?}", world_count * QUESTIONS_PER_WORLD);
    // Every outcome at every tier came up: the worlds are not too tame to prove anything.
    let tiers = ["T0", "T1", "T2", "T3", "T4", "T5", "T6"];
    let of_tiers = |outcome: &'static str| tiers.map(|tier| format!("{outcome} {tier}"));
    let mut classes: Vec<String> =
        ["RESOLVED", "INACTIVE", "AMBIGUOUS", "REUSED"].into_iter().flat_map(of_tiers).collect();
    classes.retain(|class| class != "REUSED T6"); // The operator knows.
    classes.extend(["FILTERED", "NOT_FOUND", "UNKNOWN_GAP", "SHARED"].map(String::from));
    assert_eq!(seen.into_keys().collect::<BTreeSet<_>>(), classes.into_iter().collect());
}
