//! Answers that are waited for: of a revision that is about to be reached, and about somebody who is being read.

use std::time::Duration;

use okta_idmap::core::batch::Batch;
use okta_idmap::core::ids::{RequestNumber, UserId};
use okta_idmap::core::model::Row;
use okta_idmap::core::pending::{Patience, PendingRead, Target, When};
use okta_idmap_proto::v1;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::world::{NOW, World, app_by_id, app_user, shown_meta, user, user_by_id, user_id};

/// Nobody waits this long.
const AGES: Duration = Duration::from_secs(20);

/// After this time nobody has been answered who waits, and all who wait still do.
const A_MOMENT: Duration = Duration::from_millis(100);

/// Somebody new, of whom an app tells first.
const NEWCOMER: usize = 900;

fn account_of_the_newcomer(world: &World, attempts: u32) -> Batch {
    let target = Target::User(UserId::new(&user_id(NEWCOMER)).unwrap());
    let debt = PendingRead::new(target, When::Now, "test", RequestNumber(0), NOW, Patience::default());
    let rows = vec![Row::AppUser(app_user("0oaeu", &user_id(NEWCOMER), "newcomer"))];
    Batch { rows, pending: vec![PendingRead { attempts, ..debt }], ..world.batch() }
}

#[tokio::test]
async fn a_revision_that_is_demanded_is_waited_for() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let context = Some(v1::RequestContext { at_least_revision: world.revision() + 1, ..Default::default() });
    let (mut lookup, mut again) = (server.lookup().await, server.lookup().await);
    let point = v1::GetUserRequest { context: context.clone(), user: user_by_id(&user_id(NEWCOMER)) };
    let scan = v1::ListAppUsersRequest { context, app: app_by_id("0oaeu"), ..Default::default() };
    let asked = async { tokio::join!(lookup.get_user(point), again.list_app_users(scan)) };
    let changed = async {
        tokio::time::sleep(A_MOMENT).await;
        world.put(vec![Row::User(user(NEWCOMER))]).await;
    };
    let ((point, scan), ()) = tokio::time::timeout(AGES, async { tokio::join!(asked, changed) }).await.unwrap();
    let subject = point.unwrap().into_inner().user.unwrap();
    assert_eq!(subject.outcome(), v1::SubjectOutcome::Found);
    assert_eq!(scan.unwrap().into_inner().meta.unwrap().revision, world.revision());
}

/// Refused for good it would not be asked of another server.
#[tokio::test]
async fn who_waits_for_a_revision_when_the_server_ends_is_told_that_it_ends() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let context = Some(v1::RequestContext { at_least_revision: world.revision() + 1, ..Default::default() });
    let (mut lookup, mut again) = (server.lookup().await, server.lookup().await);
    let point = v1::GetUserRequest { context: context.clone(), user: user_by_id(&user_id(0)) };
    let scan = v1::ListAppUsersRequest { context, app: app_by_id("0oaeu"), ..Default::default() };
    let asked = async { tokio::join!(lookup.get_user(point), again.list_app_users(scan)) };
    let ended = async {
        tokio::time::sleep(A_MOMENT).await;
        server.stop().await;
    };
    let ((point, scan), ()) = tokio::time::timeout(AGES, async { tokio::join!(asked, ended) }).await.unwrap();
    for status in [point.unwrap_err(), scan.unwrap_err()] {
        let info = status.get_details_error_info().unwrap();
        assert_eq!((status.code(), info.reason.as_str()), (Code::Unavailable, "NOT_SERVING"), "{status}");
    }
}

#[tokio::test]
async fn somebody_who_is_being_read_is_waited_for() {
    let world = World::crawled().await;
    let server = world.serve().await;
    world.commit(account_of_the_newcomer(&world, 0)).await;
    let mut lookup = server.lookup().await;
    let request = v1::GetUserRequest { user: user_by_id(&user_id(NEWCOMER)), ..Default::default() };
    let changed = async {
        tokio::time::sleep(A_MOMENT).await;
        world.put(vec![Row::User(user(NEWCOMER))]).await;
    };
    let asked = lookup.get_user(request);
    let (answer, ()) = tokio::time::timeout(AGES, async { tokio::join!(asked, changed) }).await.unwrap();
    let answer = answer.unwrap().into_inner();
    assert_eq!(shown_meta(answer.meta.as_ref()), "COMPLETE");
}

#[tokio::test]
async fn nobody_waits_long_nor_for_what_has_failed() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut lookup = server.lookup().await;
    let request = v1::GetUserRequest { user: user_by_id(&user_id(NEWCOMER)), ..Default::default() };
    let gap = format!("PARTIAL 1 UNSEEN_REFERENCE:user({})", user_id(NEWCOMER));
    world.commit(account_of_the_newcomer(&world, 0)).await;
    let begun = Instant::now();
    let answer = tokio::time::timeout(AGES, lookup.get_user(request.clone())).await.unwrap().unwrap().into_inner();
    assert_eq!(shown_meta(answer.meta.as_ref()), gap);
    let waited = begun.elapsed();
    world.commit(account_of_the_newcomer(&world, 1)).await;
    let begun = Instant::now();
    let answer = lookup.get_user(request).await.unwrap().into_inner();
    assert_eq!(shown_meta(answer.meta.as_ref()), gap);
    assert!(waited >= Duration::from_millis(900) && begun.elapsed() < waited, "{waited:?}, {:?}", begun.elapsed());
}
