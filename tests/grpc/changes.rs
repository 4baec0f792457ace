//! Following an org: snapshots, deltas, checkpoints, starts that cannot be served, and the polling twin.

use std::collections::BTreeMap;
use std::time::Duration;

use okta_idmap::core::batch::Batch;
use okta_idmap::core::coverage::GapKind;
use okta_idmap::core::ids::{AppId, GroupId, UserId};
use okta_idmap::core::model::{GroupType, Key, Row, Scope};
use okta_idmap_proto::limits::CHANGE_EVENTS_MAX;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::change_event::Event;
use prost::Message as _;
use tokio::time::Instant;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use super::world::{Server, World, app, app_user, group, member, user, user_id};

/// Longest wait for something that should come at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn snapshot() -> Option<v1::ChangeStart> {
    Some(v1::ChangeStart { start: Some(v1::change_start::Start::Snapshot(v1::SnapshotStart {})) })
}

pub(super) fn after(world: &World, revision: u64) -> Option<v1::ChangeStart> {
    after_in(world.view().store_id(), revision)
}

pub(super) fn after_in(store_id: &str, revision: u64) -> Option<v1::ChangeStart> {
    let position = v1::ChangePosition { revision, store_id: store_id.to_owned(), ..Default::default() };
    Some(v1::ChangeStart { start: Some(v1::change_start::Start::After(position)) })
}

fn row_key(row: &v1::Row) -> String {
    use v1::row::Row;
    match row.row.as_ref().unwrap() {
        Row::User(row) => format!("user {}", row.id),
        Row::Group(row) => format!("group {}", row.id),
        Row::App(row) => format!("app {}", row.id),
        Row::AppUser(row) => format!("app_user {}/{}", row.app_id, row.user_id),
        Row::GroupMember(row) => format!("group_member {}/{}", row.group_id, row.user_id),
        Row::AppGroup(row) => format!("app_group {}/{}", row.app_id, row.group_id),
        Row::Override(row) => format!("override {}", row.number),
    }
}

fn deleted_key(key: &v1::RowKey) -> String {
    use v1::row_key::Key;
    match key.key.as_ref().unwrap() {
        Key::UserId(id) => format!("user {id}"),
        Key::GroupId(id) => format!("group {id}"),
        Key::AppId(id) => format!("app {id}"),
        Key::AppUser(key) => format!("app_user {}/{}", key.app_id, key.user_id),
        Key::GroupMember(key) => format!("group_member {}/{}", key.group_id, key.user_id),
        Key::AppGroup(key) => format!("app_group {}/{}", key.app_id, key.group_id),
        Key::Override(key) => format!("override {}", key.number),
    }
}

/// An event in one line; its revision relative to `base`.
fn shown(event: &v1::ChangeEvent, base: u64) -> String {
    let what = match event.event.as_ref().unwrap() {
        Event::Upsert(row) => format!("put {}", row_key(row)),
        Event::Delete(key) => format!("delete {}", deleted_key(key)),
        Event::Checkpoint(checkpoint) => {
            format!("checkpoint {}", checkpoint.meta.as_ref().unwrap().revision - base)
        }
        Event::GapOpened(gap) => format!("opened {}", gap.id),
        Event::GapClosed(gap) => format!("closed {}", gap.id),
        Event::SnapshotBegin(begin) => {
            let rows: Vec<String> = begin.row_counts.iter().map(|count| count.row_count.to_string()).collect();
            format!("begin {}", rows.join(" "))
        }
        Event::SnapshotEnd(_) => "end".to_owned(),
        Event::TooOld(too_old) => format!("too old {:?}", too_old.reason()),
        Event::Policy(_) | Event::Coverage(_) | Event::HeldNames(_) => panic!("not asked for: {event:?}"),
    };
    format!("+{} {what}", event.revision - base)
}

/// A client's copy, kept as the head of changes.proto says.
#[derive(Default)]
struct Mirror {
    rows: BTreeMap<String, Vec<u8>>,
    /// Rows that a running snapshot has shown.
    shown: Option<Vec<String>>,
    revision: u64,
    checkpoint: u64,
}

impl Mirror {
    fn apply(&mut self, event: &v1::ChangeEvent) {
        assert!(event.revision >= self.revision, "revisions never decrease");
        self.revision = event.revision;
        match event.event.as_ref().unwrap() {
            Event::Upsert(row) => {
                self.rows.insert(row_key(row), row.encode_to_vec());
                if let Some(shown) = &mut self.shown {
                    shown.push(row_key(row));
                }
            }
            Event::Delete(key) => {
                self.rows.remove(&deleted_key(key));
            }
            Event::SnapshotBegin(_) => self.shown = Some(Vec::new()),
            Event::SnapshotEnd(_) => {
                let shown = self.shown.take().unwrap();
                self.rows.retain(|key, _| shown.contains(key));
            }
            Event::Checkpoint(checkpoint) => {
                assert!(self.shown.is_none(), "no checkpoint within a snapshot");
                self.checkpoint = checkpoint.meta.as_ref().unwrap().revision;
            }
            Event::GapOpened(_) | Event::GapClosed(_) => {}
            Event::Policy(_) | Event::Coverage(_) | Event::HeldNames(_) => panic!("not asked for"),
            Event::TooOld(too_old) => panic!("{too_old:?}"),
        }
    }
}

pub(super) async fn watch(
    server: &Server,
    start: Option<v1::ChangeStart>,
    kinds: &[v1::RowKind],
) -> Streaming<v1::WatchResponse> {
    let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
    let request = v1::WatchRequest { start, kinds, ..Default::default() };
    server.changes().await.watch(request).await.unwrap().into_inner()
}

pub(super) async fn next(stream: &mut Streaming<v1::WatchResponse>) -> Vec<v1::ChangeEvent> {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    assert!((1..=CHANGE_EVENTS_MAX).contains(&message.events.len()), "{} events", message.events.len());
    message.events
}

/// Everything up to the checkpoint at `revision`, idle checkpoints at older revisions left out.
pub(super) async fn until(stream: &mut Streaming<v1::WatchResponse>, revision: u64) -> Vec<v1::ChangeEvent> {
    let mut events = Vec::new();
    loop {
        for event in next(stream).await {
            let checkpoint = match &event.event {
                Some(Event::Checkpoint(checkpoint)) => Some(checkpoint.meta.as_ref().unwrap().revision),
                _ => None,
            };
            if checkpoint.is_none_or(|reached| reached >= revision) {
                events.push(event);
            }
            if checkpoint.is_some_and(|reached| reached >= revision) {
                return events;
            }
        }
    }
}

/// All pages of a call chain.
pub(super) async fn list(
    server: &Server,
    request: v1::ListChangesRequest,
) -> (Vec<v1::ChangeEvent>, v1::ResponseMeta, usize) {
    let mut client = server.changes().await;
    let (mut events, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = client.list_changes(v1::ListChangesRequest { page_token, ..request.clone() }).await.unwrap();
        let page = page.into_inner();
        pages += 1;
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return (events, page.meta.unwrap(), pages);
        }
    }
}

/// The copy that a fresh snapshot makes.
async fn fresh(server: &Server) -> BTreeMap<String, Vec<u8>> {
    let mut mirror = Mirror::default();
    let (events, ..) =
        list(server, v1::ListChangesRequest { page_size: 1_000, start: snapshot(), ..Default::default() }).await;
    events.iter().for_each(|event| mirror.apply(event));
    mirror.rows
}

#[tokio::test]
async fn a_snapshot_shows_everything_and_then_what_changes() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    let mut stream = watch(&server, snapshot(), &[]).await;
    let events = until(&mut stream, base).await;
    assert_eq!(shown(&events[0], base), "+0 begin 250 4 4 130 122 3 0");
    assert_eq!(events.len(), 1 + 250 + 4 + 4 + 130 + 122 + 3 + 1 + 1);
    assert_eq!(shown(&events[events.len() - 2], base), "+0 end");
    let Some(Event::Checkpoint(checkpoint)) = &events[events.len() - 1].event else { panic!() };
    let meta = checkpoint.meta.as_ref().unwrap();
    assert_eq!((meta.revision, meta.completeness()), (base, v1::Completeness::Complete));
    assert!(meta.observed_through.is_some() && meta.snapshot_completed_at.is_some());

    // Several changes of one row are one event, with the row as it is.
    world.put(vec![Row::User(user(900)), member("00gops", &user_id(900))]).await;
    let later = super::world::NOW;
    let renamed =
        okta_idmap::core::model::User { last_name: Some("Later".into()), last_updated: Some(later), ..user(900) };
    world.put(vec![Row::User(renamed)]).await;
    let mut found = Vec::new();
    while !found.contains(&"+2 checkpoint 2".to_owned()) {
        for event in next(&mut stream).await {
            if let Some(Event::Upsert(v1::Row { row: Some(v1::row::Row::User(user)) })) = &event.event
                && event.revision == base + 2
            {
                assert_eq!(user.last_name, "Later");
            }
            found.push(shown(&event, base));
        }
    }
    assert!(found.contains(&"+2 put user 00u0900".to_owned()), "{found:?}");
    assert!(found.contains(&"+1 put group_member 00gops/00u0900".to_owned()), "{found:?}");
}

#[tokio::test]
async fn removals_come_with_their_keys() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    let (eu, geng) = (AppId::new("0oaeu").unwrap(), GroupId::new("00geng").unwrap());
    let user = UserId::new(&user_id(2)).unwrap();
    world.remove(Key::AppUser(eu.clone(), user.clone())).await;
    world.remove(Key::GroupMember(geng.clone(), user.clone())).await;
    world.remove(Key::AppGroup(eu.clone(), geng)).await;
    let mut stream = watch(&server, after(&world, base), &[]).await;
    let events = until(&mut stream, base + 3).await;
    let found: Vec<String> = events.iter().map(|event| shown(event, base)).collect();
    assert_eq!(
        found,
        [
            "+1 delete app_user 0oaeu/00u0002",
            "+2 delete group_member 00geng/00u0002",
            "+3 delete app_group 0oaeu/00geng",
            "+3 checkpoint 3",
        ]
    );
    // What is gone and came back is there: only the present counts.
    world.put(vec![Row::AppUser(app_user("0oaeu", &user_id(2), "again"))]).await;
    let mut stream = watch(&server, after(&world, base), &[v1::RowKind::AppUser]).await;
    let events = until(&mut stream, base + 4).await;
    let found: Vec<String> = events.iter().map(|event| shown(event, base)).collect();
    assert_eq!(found, ["+4 put app_user 0oaeu/00u0002", "+4 checkpoint 4"]);
    // An app takes everything along that hangs on it.
    world.remove(Key::App(eu)).await;
    let (events, ..) =
        list(&server, v1::ListChangesRequest { start: after(&world, base + 4), ..Default::default() }).await;
    let deleted = events.iter().filter(|event| matches!(event.event, Some(Event::Delete(_)))).count();
    assert_eq!(deleted, 1 + 126 + 1, "the app, its accounts, its other group");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_stays_exact_while_the_store_changes() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut stream = watch(&server, snapshot(), &[]).await;
    let mut mirror = Mirror::default();
    for round in 0..60_usize {
        // Put, change, remove, bring back: by turns, some twice in a row, while the snapshot is still being sent.
        let n = round * 7 % 40;
        match round % 5 {
            0 => {
                world
                    .put(vec![Row::User(user(1_000 + n)), Row::AppUser(app_user("0oaus", &user_id(1_000 + n), "x"))])
                    .await
            }
            1 => world.remove(Key::User(UserId::new(&user_id(n)).unwrap())).await,
            2 => world.put(vec![member("00gops", &user_id(n)), Row::User(user(n))]).await,
            3 => {
                world.remove(Key::GroupMember(GroupId::new("00geng").unwrap(), UserId::new(&user_id(n)).unwrap())).await
            }
            _ => {
                let added = app(&format!("0oanew{n}"), "new", &format!("New {round}"));
                world.put(vec![Row::App(added), Row::Group(group("00gops", "Ops", GroupType::OktaGroup))]).await;
            }
        }
        if round % 3 == 0 {
            next(&mut stream).await.iter().for_each(|event| mirror.apply(event));
        }
    }
    let last = world.revision();
    while mirror.checkpoint < last {
        next(&mut stream).await.iter().for_each(|event| mirror.apply(event));
    }
    assert_eq!(mirror.rows, fresh(&server).await);
    // A copy that was left at a checkpoint is brought up by polling as well.
    world.remove(Key::App(AppId::new("0oaus").unwrap())).await;
    world.put((2_000..2_400).map(|n| Row::User(user(n))).collect()).await;
    for page_size in [1, 7, 1_000] {
        let request = v1::ListChangesRequest { page_size, start: after(&world, last), ..Default::default() };
        let (events, meta, _) = list(&server, request).await;
        let mut mirror = Mirror { rows: mirror.rows.clone(), ..Mirror::default() };
        events.iter().for_each(|event| mirror.apply(event));
        assert_eq!((meta.revision, mirror.checkpoint), (world.revision(), world.revision()));
        assert_eq!(mirror.rows, fresh(&server).await);
    }
}

#[tokio::test]
async fn messages_are_bounded() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    world.put((3_000..4_300).map(|n| Row::User(user(n))).collect()).await;
    let mut stream = watch(&server, after(&world, base), &[]).await;
    let mut sizes = Vec::new();
    // `next` checks the limit of each.
    while sizes.iter().sum::<usize>() < 1_301 {
        sizes.push(next(&mut stream).await.len());
    }
    assert_eq!(sizes, [500, 500, 301]);
}

#[tokio::test]
async fn a_filter_delays_no_checkpoint() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    let mut stream = watch(&server, after(&world, base), &[v1::RowKind::Group]).await;
    assert_eq!(until(&mut stream, base).await.len(), 1);
    world.put(vec![Row::User(user(901))]).await;
    world.put(vec![Row::Group(group("00gnew", "New", GroupType::OktaGroup)), Row::User(user(902))]).await;
    let found: Vec<String> = until(&mut stream, base + 2).await.iter().map(|event| shown(event, base)).collect();
    let last_two = &found[found.len() - 2..];
    assert_eq!(last_two, ["+2 put group 00gnew", "+2 checkpoint 2"]);
    assert!(found.iter().all(|event| !event.contains("user")), "{found:?}");
    let mut snapshot = watch(&server, snapshot(), &[v1::RowKind::Group, v1::RowKind::App]).await;
    let events = until(&mut snapshot, base + 2).await;
    assert_eq!(shown(&events[0], base), "+2 begin 5 4");
    assert_eq!(events.len(), 1 + 5 + 4 + 1 + 1);
}

#[tokio::test]
async fn an_idle_stream_says_where_it_stands() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    let mut stream = watch(&server, after(&world, base), &[]).await;
    next(&mut stream).await;
    // The second comes at the time of its connection, and from then on they are as far apart as is allowed.
    next(&mut stream).await;
    for _ in 0..3 {
        let begun = Instant::now();
        let events = next(&mut stream).await;
        assert_eq!(events.iter().map(|event| shown(event, base)).collect::<Vec<_>>(), ["+0 checkpoint 0"]);
        let waited = begun.elapsed();
        assert!(waited > Duration::from_millis(500), "{waited:?}: a checkpoint a second is enough");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    }
    // A checkpoint says what cannot be seen at present, although no row changed.
    world.open_gap(Scope::Users, GapKind::Forbidden, "GET /api/v1/users: 403 E0000006").await;
    loop {
        let events = next(&mut stream).await;
        let Some(Event::Checkpoint(checkpoint)) = &events[events.len() - 1].event else { panic!() };
        let meta = checkpoint.meta.as_ref().unwrap();
        if meta.revision > base {
            assert_eq!(meta.gap_ids, ["FORBIDDEN:users"]);
            break;
        }
    }
}

#[tokio::test]
async fn gaps_open_and_close() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    let mut stream = watch(&server, after(&world, base), &[v1::RowKind::AppGroup]).await;
    until(&mut stream, base).await;
    world.open_gap(Scope::Users, GapKind::Forbidden, "GET /api/v1/users: 403 E0000006").await;
    let events = until(&mut stream, base + 1).await;
    let found: Vec<String> = events.iter().map(|event| shown(event, base)).collect();
    assert_eq!(found, ["+1 opened FORBIDDEN:users", "+1 checkpoint 1"]);
    let Some(Event::GapOpened(gap)) = &events[0].event else { panic!() };
    assert_eq!((gap.kind(), gap.state()), (v1::GapKind::Forbidden, v1::GapState::Open));
    assert!(gap.first_seen_at.is_some() && !gap.remedy.is_empty(), "{gap:?}");
    // Seen once more: no event, no revision.
    world.open_gap(Scope::Users, GapKind::Forbidden, "GET /api/v1/users: 403 E0000006").await;
    assert_eq!(world.revision(), base + 1);
    world.put(vec![Row::User(user(908))]).await;
    world.close_gap(Scope::Users, GapKind::Forbidden).await;
    let found: Vec<String> = until(&mut stream, base + 3).await.iter().map(|event| shown(event, base)).collect();
    assert!(found.ends_with(&["+3 closed FORBIDDEN:users".to_owned(), "+3 checkpoint 3".to_owned()]), "{found:?}");
    // Who was away learns what is the case, once, and in its place among the rows.
    for page_size in [1, 100] {
        let request = v1::ListChangesRequest { page_size, start: after(&world, base), ..Default::default() };
        let (events, ..) = list(&server, request).await;
        let found: Vec<String> = events.iter().map(|event| shown(event, base)).collect();
        let last = ["+2 put user 00u0908", "+3 closed FORBIDDEN:users", "+3 checkpoint 3"];
        assert!(found.ends_with(&last.map(str::to_owned)), "{found:?}");
        assert!(found.iter().all(|event| !event.contains("opened")), "{found:?}");
    }
}

/// Code, reason and field of a refusal of both rpcs, which are the same.
async fn refused(server: &Server, start: Option<v1::ChangeStart>, kinds: Vec<i32>) -> String {
    let mut client = server.changes().await;
    let list = v1::ListChangesRequest { start: start.clone(), kinds: kinds.clone(), ..Default::default() };
    let listed = client.list_changes(list).await.unwrap_err();
    let watched = client.watch(v1::WatchRequest { start, kinds, ..Default::default() }).await.unwrap_err();
    let [listed, watched] = [listed, watched].map(|status| {
        let details = status.get_error_details();
        let field = details.bad_request().map_or("-", |bad| bad.field_violations[0].field.as_str()).to_owned();
        format!("{:?} {} {field}", status.code(), details.error_info().unwrap().reason)
    });
    assert_eq!(listed, watched);
    listed
}

#[tokio::test]
async fn starts_are_checked() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    assert_eq!(refused(&server, None, Vec::new()).await, "InvalidArgument FIELD_MISSING start");
    let unset = Some(v1::ChangeStart { start: None });
    assert_eq!(refused(&server, unset, Vec::new()).await, "InvalidArgument FIELD_MISSING start");
    assert_eq!(refused(&server, snapshot(), vec![0]).await, "InvalidArgument FIELD_INVALID kinds");
    assert_eq!(refused(&server, snapshot(), vec![77]).await, "InvalidArgument FIELD_INVALID kinds");
    let nameless = after_in("", 5);
    assert_eq!(refused(&server, nameless, Vec::new()).await, "InvalidArgument FIELD_MISSING start.after.store_id");
    let long = after_in(&"x".repeat(65), 5);
    assert_eq!(refused(&server, long, Vec::new()).await, "InvalidArgument FIELD_INVALID start.after.store_id");
    let position = v1::ChangePosition { revision: 5, store_id: "s".to_owned(), era: "x".repeat(65) };
    let long = Some(v1::ChangeStart { start: Some(v1::change_start::Start::After(position)) });
    assert_eq!(refused(&server, long, Vec::new()).await, "InvalidArgument FIELD_INVALID start.after.era");
    let ahead = after(&world, base + 1);
    assert_eq!(refused(&server, ahead, Vec::new()).await, "FailedPrecondition REVISION_NOT_REACHED -");
    // Demands hold at the begin.
    let context = Some(v1::RequestContext { at_least_revision: base + 1, ..Default::default() });
    let request = v1::WatchRequest { context, start: snapshot(), ..Default::default() };
    assert_eq!(server.changes().await.watch(request).await.unwrap_err().code(), Code::FailedPrecondition);
}

/// What both rpcs answer to a start that is too old; the stream ends after it.
pub(super) async fn too_old(server: &Server, start: Option<v1::ChangeStart>) -> v1::TooOld {
    let mut stream = watch(server, start.clone(), &[]).await;
    let events = next(&mut stream).await;
    assert!(stream.message().await.unwrap().is_none(), "nothing else follows");
    let (listed, ..) = list(server, v1::ListChangesRequest { start, ..Default::default() }).await;
    assert_eq!(events, listed);
    let [v1::ChangeEvent { event: Some(Event::TooOld(too_old)), .. }] = events.as_slice() else { panic!("{events:?}") };
    too_old.clone()
}

/// Forgets the change log up to a revision, as the writer does after very many of them.
pub(crate) fn forget_changes(world: &World, through: u64) {
    let path = world.dir.path().join("acme").join(okta_idmap::store::STORE_FILE);
    #[expect(clippy::disallowed_methods, reason = "the test plays the passing of 200,000 revisions")]
    let mut sql = rusqlite::Connection::open(path).unwrap();
    let through = i64::try_from(through).unwrap();
    // Both or neither, as the writer does it: whoever follows must not find the one without the other.
    let both = sql.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    both.execute("DELETE FROM changes WHERE revision <= ?1", [through]).unwrap();
    both.execute("REPLACE INTO meta(name, value) VALUES ('changes_from', ?1)", [through]).unwrap();
    both.commit().unwrap();
}

#[tokio::test]
async fn what_is_too_old_is_told() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    let replaced = too_old(&server, after_in("another", 3)).await;
    assert_eq!(replaced.reason(), v1::TooOldReason::StoreReplaced);
    assert_eq!(replaced.store_id, world.view().store_id());

    let mut stream = watch(&server, after(&world, base), &[]).await;
    until(&mut stream, base).await;
    // A chain that has begun, and one whose next page is not there any more.
    let request = v1::ListChangesRequest { page_size: 1, start: after(&world, 0), ..Default::default() };
    let begun = server.changes().await.list_changes(request.clone()).await.unwrap().into_inner();
    world.put(vec![Row::User(user(903))]).await;
    forget_changes(&world, base);
    let dropped = too_old(&server, after(&world, base - 1)).await;
    assert_eq!((dropped.reason(), dropped.oldest_revision), (v1::TooOldReason::ChangesDropped, base));
    let page_token = begun.next_page_token;
    let expired = server.changes().await.list_changes(v1::ListChangesRequest { page_token, ..request }).await;
    assert_eq!(expired.unwrap_err().get_error_details().error_info().unwrap().reason, "PAGE_TOKEN_EXPIRED");
    // Whoever is not behind goes on.
    until(&mut stream, base + 1).await;
    let mut fresh = watch(&server, after_in("", 0), &[]).await;
    assert_eq!(shown(&next(&mut fresh).await[0], base), "+1 too old ChangesDropped");
}

#[tokio::test]
async fn a_chain_ends_where_the_store_stood() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    world.put(vec![Row::User(user(904)), Row::User(user(905)), Row::User(user(906))]).await;
    let mut client = server.changes().await;
    let request = v1::ListChangesRequest { page_size: 2, start: after(&world, base), ..Default::default() };
    let first = client.list_changes(request.clone()).await.unwrap().into_inner();
    let found: Vec<String> = first.events.iter().map(|event| shown(event, base)).collect();
    assert_eq!(found, ["+1 put user 00u0904", "+1 put user 00u0905"]);
    world.put(vec![Row::User(user(907))]).await;
    let page_token = first.next_page_token;
    let second = v1::ListChangesRequest { page_token: page_token.clone(), ..request.clone() };
    let second = client.list_changes(second).await.unwrap().into_inner();
    let found: Vec<String> = second.events.iter().map(|event| shown(event, base)).collect();
    assert_eq!(found, ["+1 put user 00u0906", "+1 checkpoint 1"]);
    assert_eq!((second.meta.unwrap().revision, second.next_page_token.as_str()), (base + 1, ""));
    // A token belongs to its request.
    for other in [
        v1::ListChangesRequest { start: after(&world, base + 1), ..request.clone() },
        v1::ListChangesRequest { kinds: vec![v1::RowKind::User.into()], ..request.clone() },
    ] {
        let status = client.list_changes(v1::ListChangesRequest { page_token: page_token.clone(), ..other }).await;
        assert_eq!(status.unwrap_err().get_error_details().error_info().unwrap().reason, "PAGE_TOKEN_INVALID");
    }
    let idle = v1::ListChangesRequest { start: after(&world, base + 2), ..request };
    let (events, meta, pages) = list(&server, idle).await;
    assert_eq!((events.len(), meta.revision, pages), (1, base + 2, 1));
}

#[tokio::test]
async fn a_snapshot_by_pages_says_whether_it_is_consistent() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let base = world.revision();
    let request = v1::ListChangesRequest { page_size: 100, start: snapshot(), ..Default::default() };
    let (events, meta, pages) = list(&server, request.clone()).await;
    assert_eq!((events.len(), meta.revision), (1 + 513 + 1 + 1, base));
    assert!((6..=8).contains(&pages), "{pages}");
    assert_eq!(shown(&events[515], base), "+0 checkpoint 0");
    let mut client = server.changes().await;
    let first = client.list_changes(request.clone()).await.unwrap().into_inner();
    world.remove(Key::User(UserId::new(&user_id(2)).unwrap())).await;
    let (mut events, mut page_token) = (first.events, first.next_page_token);
    let meta = loop {
        let page = client.list_changes(v1::ListChangesRequest { page_token, ..request.clone() }).await.unwrap();
        let page = page.into_inner();
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break page.meta.unwrap();
        }
    };
    // The store went on: the copy is consistent only after the changes since.
    assert_eq!((shown(events.last().unwrap(), base).as_str(), meta.revision), ("+0 end", base));
    let mut mirror = Mirror::default();
    events.iter().for_each(|event| mirror.apply(event));
    let (events, ..) = list(&server, v1::ListChangesRequest { start: after(&world, base), ..Default::default() }).await;
    events.iter().for_each(|event| mirror.apply(event));
    assert_eq!(mirror.rows, fresh(&server).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_client_holds_nothing_open() {
    let world = World::crawled().await;
    let server = world.serve().await;
    // Begins a snapshot and stops reading.
    let mut slow = watch(&server, snapshot(), &[]).await;
    next(&mut slow).await;
    for n in 0..300 {
        let rows = (0..50).map(|m| Row::User(user(5_000 + n % 7 * 50 + m))).collect();
        let batch = Batch { rows, ..world.batch() };
        world.commit(batch).await;
    }
    let size = world.store.reader.size_bytes();
    assert!(size < 64 << 20, "{size} bytes: the write-ahead log could not restart");
    let mut mirror = Mirror { shown: Some(Vec::new()), ..Mirror::default() };
    while mirror.checkpoint < world.revision() {
        next(&mut slow).await.iter().for_each(|event| mirror.apply(event));
    }
    assert_eq!(mirror.rows.len(), fresh(&server).await.len());
}
