//! What was hidden before the first crawl, or from its creation on, and is known by a reference alone: a membership, an
//! account, an assignment, an event, a count. Entry point: the test.

use std::time::Duration;

use okta_idmap_proto::v1;
use okta_sim::org::UserStatus;
use okta_sim::{AppRef, ById, GroupRef, NewApp, NewUser, ProfileUpdate, Sim, UserRef, Way};

use crate::cases::Cases;
use crate::judge::{INTERVAL, Judge};
use crate::story::Story;
use crate::truth::Key;

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
fn make(sim: &mut Sim) -> Made {
    let new = NewUser::new("hidden.person@acme.example").named("Hidden", "Person").status(UserStatus::Active);
    let user = sim.org.create_user(&new).unwrap();
    let group = sim.org.create_group("Hidden Club");
    let app = sim.org.create_app(&NewApp::new("acme_hidden_1", "Hidden Tracker"));
    sim.org.run_all_jobs();
    Made { user, group, app }
}

struct Case {
    name: &'static str,
    /// Before the connector starts.
    before: fn(&mut Sim, Made),
    /// Once it has read everything that it can.
    after: fn(&mut Sim, Made),
    /// The gap that opens.
    gap: fn(Made) -> String,
}

fn unseen_user(made: Made) -> String {
    format!("UNSEEN_REFERENCE:user({})", made.user.id())
}

fn unseen_group(made: Made) -> String {
    format!("UNSEEN_REFERENCE:group({})", made.group.id())
}

fn unseen_app(made: Made) -> String {
    format!("UNSEEN_REFERENCE:app({})", made.app.id())
}

fn move_user(sim: &mut Sim, user: UserRef) {
    let update = ProfileUpdate { department: Some("Elsewhere".to_owned()), ..ProfileUpdate::default() };
    sim.org.update_profile(user, &update).unwrap();
}

const CASES: &[Case] = &[
    Case {
        name: "a user whom a group names",
        before: |sim, made| {
            sim.org.add_member(made.user, made.group).unwrap();
            sim.hidden.hide_user(&made.user.id(), NAMED);
        },
        after: |_, _| {},
        gap: unseen_user,
    },
    Case {
        name: "a user whom an app names",
        before: |sim, made| {
            sim.org.assign_user(made.app, made.user).unwrap();
            sim.hidden.hide_user(&made.user.id(), NAMED);
        },
        after: |_, _| {},
        gap: unseen_user,
    },
    Case {
        name: "a user whom an app names, 403 by id",
        before: |sim, made| {
            sim.org.assign_user(made.app, made.user).unwrap();
            sim.hidden.hide_user(&made.user.id(), Way { named: true, by_id: ById::Forbidden });
        },
        after: |_, _| {},
        gap: unseen_user,
    },
    Case {
        name: "a user whom an event names",
        before: |sim, made| sim.hidden.hide_user(&made.user.id(), NOWHERE),
        after: |sim, made| move_user(sim, made.user),
        gap: unseen_user,
    },
    Case {
        name: "a user whom the counts of Everyone give away",
        before: |sim, made| sim.hidden.hide_user(&made.user.id(), NOWHERE),
        after: |_, _| {},
        gap: |_| "COUNT_MISMATCH:*".to_owned(),
    },
    Case {
        name: "members whom the count of a group gives away",
        before: |sim, made| {
            let admin = sim.org.administrator();
            sim.org.add_member(made.user, made.group).unwrap();
            sim.org.add_member(admin, made.group).unwrap();
            sim.hidden.members.insert((made.group.id(), made.user.id()), ById::NotFound);
        },
        after: |_, _| {},
        gap: |made| format!("COUNT_MISMATCH:group_members({})", made.group.id()),
    },
    Case {
        name: "a group that an app names",
        before: |sim, made| {
            sim.org.assign_group(made.app, made.group).unwrap();
            sim.hidden.hide_group(&made.group.id(), NAMED);
        },
        after: |_, _| {},
        gap: unseen_group,
    },
    Case {
        name: "a group that an account names",
        before: |sim, made| {
            sim.org.assign_group(made.app, made.group).unwrap();
            sim.org.add_member(made.user, made.group).unwrap();
            sim.org.run_all_jobs();
            sim.hidden.hide_group(&made.group.id(), NOWHERE);
        },
        after: |_, _| {},
        gap: unseen_group,
    },
    Case {
        name: "a group that an event names",
        before: |sim, made| sim.hidden.hide_group(&made.group.id(), NOWHERE),
        after: |sim, made| sim.org.add_member(made.user, made.group).unwrap(),
        gap: unseen_group,
    },
    Case {
        name: "an app that an event names",
        before: |sim, made| sim.hidden.hide_app(&made.app.id(), NOWHERE),
        after: |sim, made| sim.org.assign_user(made.app, made.user).unwrap(),
        gap: unseen_app,
    },
    Case {
        name: "an app that an event names, 403 by id",
        before: |sim, made| sim.hidden.hide_app(&made.app.id(), Way { named: true, by_id: ById::Forbidden }),
        after: |sim, made| sim.org.assign_user(made.app, made.user).unwrap(),
        gap: unseen_app,
    },
];

async fn run(case: &'static Case, story: Story) {
    let mut judge = Judge::new(800, Some(INTERVAL), story);
    let made = make(&mut judge.sim());
    // What was made before the connector came is in no event that it reads.
    judge.sim().org.advance_ms(3_600_000);
    (case.before)(&mut judge.sim(), made);
    judge.start().await;
    judge.pause(INTERVAL * 2).await;
    (case.after)(&mut judge.sim(), made);
    let pattern = (case.gap)(made);
    let gap = judge.wait_for_gap(std::slice::from_ref(&pattern)).await;
    if pattern.starts_with("UNSEEN") {
        assert_eq!(gap.kind(), v1::GapKind::UnseenReference);
        let Some(v1::gap::Evidence::Reference(reference)) = &gap.evidence else { panic!("{gap:?}") };
        assert!(reference.key.is_some(), "{gap:?}");
    } else {
        assert_eq!(gap.kind(), v1::GapKind::CountMismatch);
        let Some(v1::gap::Evidence::Counts(counts)) = &gap.evidence else { panic!("{gap:?}") };
        assert!(counts.expected_row_count > counts.seen_row_count, "{gap:?}");
    }
    let is_made = |key: &Key| {
        let text = key.in_picture();
        [made.user.id(), made.group.id(), made.app.id()].iter().any(|id| text.contains(id))
    };
    judge.pause(crate::judge::GRACE).await;
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
    let mut judge = Judge::new(801, Some(INTERVAL), story);
    judge.start().await;
    judge.converge().await;
    let pattern = {
        let mut sim = judge.sim();
        let made = make(&mut sim);
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
    judge.wait_for_gap(&[pattern]).await;
    judge.pause(crate::judge::GRACE + Duration::from_millis(200)).await;
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
