//! What was hidden before the first crawl, or from its creation on, and is known by a reference alone: a membership, an
//! account, an assignment, an event, a count. Entry point: the test.

use std::time::Duration;

use okta_idmap_proto::v1;
use okta_sim::org::UserStatus;
use okta_sim::{AppRef, ById, GroupRef, NewApp, NewUser, Org, ProfileUpdate, Sim, UserRef, Way};

use crate::cases::Cases;
use crate::judge::{GRACE, INTERVAL, Judge, org};
use crate::story::Story;
use crate::truth::Key;

/// Of the org.
const SEED: u64 = 800;

/// Rows that one look asks about.
const ROWS: usize = 12;

/// Nowhere listed, 404 by id, and named by others.
const NAMED: Way = Way { named: true, by_id: ById::NotFound };

/// Nowhere at all.
const NOWHERE: Way = Way { named: false, by_id: ById::NotFound };

/// Objects that were made for a case.
#[derive(Clone, Copy)]
struct Made {
    user: UserRef,
    group: GroupRef,
    app: AppRef,
}

/// One user, one group, one app, all new and with nothing to do with each other.
fn make(org: &mut Org) -> Made {
    let new = NewUser::new("hidden.person@acme.example").named("Hidden", "Person").status(UserStatus::Active);
    let user = org.create_user(&new).unwrap();
    let group = org.create_group("Hidden Club");
    let app = org.create_app(&NewApp::new("acme_hidden_1", "Hidden Tracker"));
    org.run_all_jobs();
    Made { user, group, app }
}

struct Case {
    name: &'static str,
    /// Long before the connector starts: its events are in no part of the log that it reads.
    before: fn(&mut Org, Made),
    /// Hidden as it starts.
    hide: fn(&mut Sim, Made),
    /// Once it has read everything that it can.
    after: fn(&mut Sim, Made),
    /// One of these gaps opens.
    gaps: fn(Made) -> Vec<String>,
}

fn unseen_user(made: Made) -> Vec<String> {
    vec![format!("UNSEEN_REFERENCE:user({})", made.user.id())]
}

fn unseen_group(made: Made) -> Vec<String> {
    vec![format!("UNSEEN_REFERENCE:group({})", made.group.id())]
}

fn unseen_app(made: Made) -> Vec<String> {
    vec![format!("UNSEEN_REFERENCE:app({})", made.app.id())]
}

fn move_user(sim: &mut Sim, user: UserRef) {
    let update = ProfileUpdate { department: Some("Elsewhere".to_owned()), ..ProfileUpdate::default() };
    sim.org.update_profile(user, &update).unwrap();
}

const CASES: &[Case] = &[
    Case {
        name: "a user whom a group names",
        before: |org, made| {
            org.add_member(made.user, made.group).unwrap();
        },
        hide: |sim, made| {
            sim.hidden.hide_user(&made.user.id(), NAMED);
        },
        after: |_, _| {},
        gaps: unseen_user,
    },
    Case {
        name: "a user whom an app names",
        before: |org, made| {
            org.assign_user(made.app, made.user).unwrap();
        },
        hide: |sim, made| {
            sim.hidden.hide_user(&made.user.id(), NAMED);
        },
        after: |_, _| {},
        gaps: unseen_user,
    },
    Case {
        name: "a user whom an app names, 403 by id",
        before: |org, made| {
            org.assign_user(made.app, made.user).unwrap();
        },
        hide: |sim, made| {
            sim.hidden.hide_user(&made.user.id(), Way { named: true, by_id: ById::Forbidden });
        },
        after: |_, _| {},
        gaps: |made| [unseen_user(made), vec!["FORBIDDEN:users".to_owned()]].concat(),
    },
    Case {
        name: "a user whom an event names",
        before: |_, _| {},
        hide: |sim, made| {
            sim.hidden.hide_user(&made.user.id(), NOWHERE);
        },
        after: |sim, made| move_user(sim, made.user),
        gaps: unseen_user,
    },
    Case {
        name: "a user whom the counts of Everyone give away",
        before: |_, _| {},
        hide: |sim, made| {
            sim.hidden.hide_user(&made.user.id(), NOWHERE);
        },
        after: |_, _| {},
        gaps: |_| vec!["COUNT_MISMATCH:*".to_owned()],
    },
    Case {
        name: "members whom the count of a group gives away",
        before: |org, made| {
            let admin = org.administrator();
            org.add_member(made.user, made.group).unwrap();
            org.add_member(admin, made.group).unwrap();
        },
        hide: |sim, made| {
            sim.hidden.members.insert((made.group.id(), made.user.id()), ById::NotFound);
        },
        after: |_, _| {},
        gaps: |made| vec![format!("COUNT_MISMATCH:group_members({})", made.group.id())],
    },
    Case {
        name: "a group that an app names",
        before: |org, made| {
            org.assign_group(made.app, made.group).unwrap();
        },
        hide: |sim, made| {
            sim.hidden.hide_group(&made.group.id(), NAMED);
        },
        after: |_, _| {},
        gaps: unseen_group,
    },
    Case {
        name: "a group that an account names",
        before: |org, made| {
            org.assign_group(made.app, made.group).unwrap();
            org.add_member(made.user, made.group).unwrap();
            org.run_all_jobs();
        },
        hide: |sim, made| {
            sim.hidden.hide_group(&made.group.id(), NOWHERE);
        },
        after: |_, _| {},
        gaps: unseen_group,
    },
    Case {
        name: "a group that an event names",
        before: |_, _| {},
        hide: |sim, made| {
            sim.hidden.hide_group(&made.group.id(), NOWHERE);
        },
        after: |sim, made| sim.org.add_member(made.user, made.group).unwrap(),
        gaps: unseen_group,
    },
    Case {
        name: "an app that an event names",
        before: |_, _| {},
        hide: |sim, made| {
            sim.hidden.hide_app(&made.app.id(), NOWHERE);
        },
        after: |sim, made| sim.org.assign_user(made.app, made.user).unwrap(),
        gaps: unseen_app,
    },
    Case {
        name: "an app that an event names, 403 by id",
        before: |_, _| {},
        hide: |sim, made| {
            sim.hidden.hide_app(&made.app.id(), Way { named: true, by_id: ById::Forbidden });
        },
        after: |sim, made| sim.org.assign_user(made.app, made.user).unwrap(),
        gaps: |made| [unseen_app(made), vec!["FORBIDDEN:apps".to_owned()]].concat(),
    },
];

async fn run(case: &'static Case, story: Story) {
    let mut org = org(SEED);
    let made = make(&mut org);
    (case.before)(&mut org, made);
    org.run_all_jobs();
    let mut judge = Judge::of(org, SEED, Some(INTERVAL), story, |_| {});
    (case.hide)(&mut judge.sim(), made);
    judge.start().await;
    judge.pause(INTERVAL * 2).await;
    (case.after)(&mut judge.sim(), made);
    let gap = judge.wait_for_gap(&(case.gaps)(made)).await;
    match (gap.kind(), &gap.evidence) {
        (v1::GapKind::UnseenReference, Some(v1::gap::Evidence::Reference(reference))) => {
            assert!(reference.key.is_some(), "{gap:?}");
        }
        (v1::GapKind::CountMismatch, Some(v1::gap::Evidence::Counts(counts))) => {
            assert!(counts.expected_row_count > counts.seen_row_count, "{gap:?}");
        }
        (v1::GapKind::Forbidden, Some(v1::gap::Evidence::Http(_))) => {}
        _ => panic!("{gap:?}"),
    }
    let is_made = |key: &Key| {
        let text = key.in_picture();
        [made.user.id(), made.group.id(), made.app.id()].iter().any(|id| text.contains(id))
    };
    judge.pause(GRACE).await;
    judge.look(ROWS, is_made).await;
    judge.look(ROWS, |_| true).await;
    judge.lift();
    judge.converge().await;
    judge.assert_complete(ROWS).await;
    judge.assert_history().await;
    judge.end().await;
}

/// An object that is hidden from its creation on, while it is followed.
async fn run_new(kind: &'static str, story: Story) {
    let mut judge = Judge::new(SEED, Some(INTERVAL), story);
    judge.start().await;
    judge.converge().await;
    let gaps = {
        let mut sim = judge.sim();
        let made = make(&mut sim.org);
        match kind {
            "user" => {
                sim.hidden.hide_user(&made.user.id(), NOWHERE);
                unseen_user(made)
            }
            "group" => {
                sim.hidden.hide_group(&made.group.id(), NOWHERE);
                unseen_group(made)
            }
            _ => {
                sim.hidden.hide_app(&made.app.id(), NOWHERE);
                unseen_app(made)
            }
        }
    };
    judge.wait_for_gap(&gaps).await;
    judge.pause(GRACE + Duration::from_millis(200)).await;
    judge.look(ROWS, |_| true).await;
    judge.lift();
    judge.converge().await;
    judge.assert_history().await;
    judge.end().await;
}

#[test]
fn references_give_away_what_was_never_seen() {
    let mut cases = Cases::default();
    for case in CASES {
        cases.add(case.name, move |story| run(case, story));
    }
    for kind in ["user", "group", "app"] {
        cases.add(format!("a {kind} hidden from its creation on"), move |story| run_new(kind, story));
    }
    cases.run("references");
}
