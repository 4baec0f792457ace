//! Documents and people: they have a principal in common exactly if the oracle says that the person may see the document.
//!
//! The worlds are those of the resolution, with groups. The oracle knows no principals: it goes through the entries of the
//! document and asks of each whether it means this very person, who is active.

use std::collections::BTreeMap;

use fastrand::Rng;
use okta_idmap::core::acl::{GroupInput, GroupOutcome, Verdict, Way, decide_group, expand, index};
use okta_idmap::core::ids::{GroupId, OrgId};
use okta_idmap::core::model::{AppUserStatus, Group, GroupType};
use okta_idmap::core::principal::Encoder;

use crate::oracle::{Question, World, expect};
use crate::{
    NOW_MILLIS, Rows, app_id, ask, ask_worlds, build, number_from_environment, pick, random_question, random_world,
};

/// Documents of each world. With three people on average, this makes some seventy pairs.
const DOCUMENTS_PER_WORLD: u64 = 24;
/// People of a world on average; see `random_world`.
const PEOPLE_PER_WORLD: u64 = 3;
/// Two names for four groups, so that they meet.
const GROUP_NAMES: [&str; 2] = ["Eng", "eng"];

/// A group of the world.
#[derive(Debug)]
struct Team {
    name: &'static str,
    /// By person.
    members: Vec<bool>,
    /// By app.
    assigned: Vec<bool>,
    imported_from: Option<usize>,
}

impl Team {
    fn is_of(&self, app: usize) -> bool {
        self.assigned[app] || self.imported_from == Some(app)
    }
}

/// An entry of a document.
#[derive(Debug)]
enum Entry {
    Account(Question),
    /// By number, or by name.
    Group {
        app: usize,
        by: Result<usize, &'static str>,
        is_filtered: bool,
        is_partial: bool,
    },
    /// The selector means no app, or the entry is malformed.
    Broken,
}

fn random_teams(rng: &mut Rng, world: &World) -> Vec<Team> {
    let team = |_| Team {
        name: pick(rng, &GROUP_NAMES),
        members: world.people.iter().map(|_| rng.bool()).collect(),
        assigned: world.rules.iter().map(|_| rng.bool()).collect(),
        imported_from: (rng.u32(..4) == 0).then(|| rng.usize(..world.rules.len())),
    };
    (0..4).map(team).collect()
}

fn random_entry(rng: &mut Rng, world: &World, teams: &[Team]) -> Entry {
    match rng.u32(..12) {
        0..7 => Entry::Account(random_question(rng, world)),
        7..11 => Entry::Group {
            app: rng.usize(..world.rules.len()),
            // The last one does not exist.
            by: if rng.bool() { Ok(rng.usize(..=teams.len())) } else { Err(pick(rng, &["Eng", "eng", "ENG"])) },
            is_filtered: rng.u32(..5) == 0,
            is_partial: rng.u32(..5) == 0,
        },
        _ => Entry::Broken,
    }
}

/// What the oracle says of an entry: whether a person may see the document by it, or that nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Says {
    Person(usize),
    Team(usize, usize),
    Nobody,
    Doubt,
}

fn expect_entry(world: &World, teams: &[Team], entry: &Entry) -> Says {
    match entry {
        Entry::Broken => Says::Doubt,
        Entry::Account(question) => {
            let expected = expect(world, question, NOW_MILLIS);
            let words: Vec<&str> = expected.split(' ').collect();
            match words[0] {
                "RESOLVED" => Says::Person(words[2][1..].parse().unwrap()),
                "INACTIVE" | "FILTERED" | "NOT_FOUND" if !question.is_partial => Says::Nobody,
                _ => Says::Doubt,
            }
        }
        // One that is known to be kept out and one that is not there are nobody either way.
        Entry::Group { app, by, is_filtered: _, is_partial } => {
            let is_meant = |number: usize| match by {
                Ok(meant) => number == *meant,
                Err(name) => teams[number].name == *name,
            };
            let meant: Vec<usize> =
                (0..teams.len()).filter(|number| is_meant(*number) && teams[*number].is_of(*app)).collect();
            let is_app_on = world.app_statuses[*app] == "ACTIVE";
            match meant[..] {
                // Nobody in particular has an account there.
                _ if world.is_shared[*app] => Says::Doubt,
                [team] if is_app_on => Says::Team(*app, team),
                [_] if *is_partial => Says::Doubt,
                [_] => Says::Nobody,
                [] if *is_partial => Says::Doubt,
                [] => Says::Nobody,
                _ => Says::Doubt,
            }
        }
    }
}

fn is_sure(entry: &Entry, says: Says) -> bool {
    match (entry, says) {
        (Entry::Account(question), Says::Person(_)) => !question.is_partial,
        (Entry::Group { by: Err(_), is_partial, .. }, Says::Team(..)) => !is_partial,
        _ => true,
    }
}

/// Whether the person may see what the entry says.
fn may_see(world: &World, teams: &[Team], says: Says, person: usize) -> bool {
    match says {
        Says::Person(meant) => meant == person,
        Says::Team(app, team) => {
            let found = &world.people[person];
            let early = world.staged_grants && ["STAGED", "PROVISIONED"].contains(&found.status);
            let is_active = early || ["ACTIVE", "PASSWORD_EXPIRED", "RECOVERY", "LOCKED_OUT"].contains(&found.status);
            let has_account =
                found.records[app].as_ref().is_some_and(|record| ["ACTIVE", "PROVISIONED"].contains(&record.status));
            teams[team].members[person] && !found.is_unseen && is_active && has_account
        }
        Says::Nobody | Says::Doubt => false,
    }
}

fn group_row(number: usize, team: &Team) -> Group {
    Group {
        id: group_id(number),
        name: team.name.into(),
        description: None,
        group_type: GroupType::OktaGroup,
        source_app: team.imported_from.map(app_id),
        created: None,
        last_updated: None,
        last_membership_updated: None,
    }
}

fn group_id(number: usize) -> GroupId {
    GroupId::new(&format!("g{number}")).unwrap()
}

/// What the code under test says of an entry, from what a store would find.
fn verdict(rng: &mut Rng, world: &World, rows: &Rows, teams: &[Team], entry: &Entry) -> Verdict {
    match entry {
        Entry::Broken => Verdict::Doubt,
        Entry::Account(question) => {
            ask(rng, world, rows, question, |resolution| Verdict::of_account(resolution, !question.is_partial))
        }
        Entry::Group { app, by, is_filtered, is_partial } => {
            let found = teams.iter().enumerate().filter(|(number, team)| match by {
                Ok(meant) => number == meant && team.is_of(*app),
                Err(name) => team.name == *name && team.is_of(*app),
            });
            let groups: Vec<Group> = found.map(|(number, team)| group_row(number, team)).take(2).collect();
            let outcome = decide_group(&GroupInput {
                app: &rows.apps[*app],
                groups: &groups,
                is_withheld: false,
                is_filtered: *is_filtered,
                is_complete: !is_partial,
                policy: &rows.policy,
            });
            if let GroupOutcome::Resolved(group) = outcome {
                assert!(groups.contains(group));
            }
            Verdict::of_group(&rows.apps[*app], outcome, !is_partial)
        }
    }
}

/// The principals of a person, from what a store would find: groups that are of apps in which the person has a record.
fn expand_person(encoder: &Encoder, world: &World, rows: &Rows, teams: &[Team], person: usize) -> (Vec<String>, bool) {
    let mut found: Vec<(usize, GroupId, AppUserStatus)> = Vec::new();
    for (number, team) in teams.iter().enumerate().filter(|(_, team)| team.members[person]) {
        for (app, record) in rows.app_users[person].iter().enumerate() {
            if let Some(record) = record.as_ref().filter(|_| team.is_of(app)) {
                found.push((app, group_id(number), record.status.clone()));
                if team.assigned[app] && team.imported_from == Some(app) {
                    found.push((app, group_id(number), record.status.clone()));
                }
            }
        }
    }
    let ways: Vec<Way<'_>> = found
        .iter()
        .map(|(app, group, app_user_status)| {
            let app = &rows.apps[*app];
            Way { app: &app.id, app_status: &app.status, is_shared: app.is_shared_account(), app_user_status, group }
        })
        .collect();
    let user = Some(&rows.users[person]).filter(|_| !world.people[person].is_unseen);
    let expanded = expand(encoder, user, &ways, &rows.policy);
    (expanded.principals, expanded.match_nothing)
}

/// Asks one world; counts pairs by what made them see, and documents by their flags.
fn ask_world(seed: u64, seen: &mut BTreeMap<String, u64>) {
    let mut rng = Rng::with_seed(seed);
    let world = random_world(&mut rng);
    let rows = build(&world);
    let teams = random_teams(&mut rng, &world);
    let encoder = Encoder::new(OrgId::new("o1").unwrap());
    let elsewhere = Encoder::new(OrgId::new("o2").unwrap());
    let people: Vec<(Vec<String>, bool)> =
        (0..world.people.len()).map(|person| expand_person(&encoder, &world, &rows, &teams, person)).collect();
    let mut count = |class: &str| *seen.entry(class.to_owned()).or_default() += 1;
    for _ in 0..DOCUMENTS_PER_WORLD {
        let document: Vec<Entry> = (0..rng.usize(..5)).map(|_| random_entry(&mut rng, &world, &teams)).collect();
        let says: Vec<Says> = document.iter().map(|entry| expect_entry(&world, &teams, entry)).collect();
        let verdicts: Vec<Verdict> =
            document.iter().map(|entry| verdict(&mut rng, &world, &rows, &teams, entry)).collect();
        // A name that is resolved while something is hidden may have another holder.
        let is_sure = document.iter().zip(&says).all(|(entry, says)| is_sure(entry, *says));
        let indexed = index(&encoder, &verdicts, is_sure);
        let context = || format!("seed {seed}, {document:?} in {teams:?} and {world:#?}");
        // One principal per account or group that grants, and none of anything else.
        let mut granting: Vec<Says> =
            says.iter().copied().filter(|says| matches!(says, Says::Person(_) | Says::Team(..))).collect();
        granting.sort();
        granting.dedup();
        assert_eq!(indexed.deny_all, granting.is_empty(), "{}", context());
        assert_eq!(indexed.principals.len(), granting.len().max(1), "{}", context());
        assert_eq!(indexed.safe_to_index, is_sure && !says.contains(&Says::Doubt), "{}", context());
        assert!(indexed.principals.is_sorted(), "{}", context());
        let foreign = index(&elsewhere, &verdicts, is_sure).principals;
        count(if indexed.deny_all { "document: deny all" } else { "document: granting" });
        count(if indexed.safe_to_index { "document: safe" } else { "document: unsafe" });
        for (person, (principals, match_nothing)) in people.iter().enumerate() {
            let sees = principals.iter().any(|principal| indexed.principals.contains(principal));
            let by = says.iter().find(|says| may_see(&world, &teams, **says, person));
            assert_eq!(
                sees,
                by.is_some(),
                "person {person}, {principals:?} and {:?}, {}",
                indexed.principals,
                context()
            );
            assert!(!principals.iter().any(|principal| foreign.contains(principal)), "{}", context());
            assert!(!sees || !match_nothing, "{}", context());
            count("pairs");
            count(match by {
                Some(Says::Person(_)) => "pair: by an account",
                Some(_) => "pair: by a group",
                None if *match_nothing => "pair: may see nothing",
                None => "pair: not",
            });
        }
    }
}

#[test]
fn documents_and_people_agree_with_the_oracle() {
    let pairs = number_from_environment("ACL_ORACLE_PAIRS", 40_000);
    let world_count = pairs.div_ceil(DOCUMENTS_PER_WORLD * PEOPLE_PER_WORLD);
    let seen = ask_worlds(world_count, ask_world);
    println!("{seen:#?}");
    // The worlds are not too tame to prove anything: everything came up, and not only once.
    assert_eq!(seen.len(), 9);
    for (class, count) in &seen {
        assert!(*count * 200 > seen["pairs"], "{class}: {count} of {} pairs", seen["pairs"]);
    }
}
