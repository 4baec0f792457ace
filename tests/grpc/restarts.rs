//! What followers notice when the server is started again: with the same store or an earlier one, with the same configuration
//! or another.

use okta_idmap::core::model::Row;
use okta_idmap::core::policy::{AliasSetting, GrantPolicySettings};
use okta_idmap::core::resolve::IdentifierKind;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::change_event::Event;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::changes::{next, too_old, watch};
use super::world::{Server, World, account, app_by_id, user, user_id};

/// The first checkpoint at a revision, of a stream that begins there.
async fn checkpoint(server: &Server, world: &World) -> v1::Checkpoint {
    let position = v1::ChangePosition {
        revision: world.revision(),
        store_id: world.view().store_id().to_owned(),
        ..Default::default()
    };
    let mut stream = watch(server, after(&position), &[]).await;
    let events = next(&mut stream).await;
    let [v1::ChangeEvent { event: Some(Event::Checkpoint(checkpoint)), .. }] = events.as_slice() else {
        panic!("{events:?}")
    };
    checkpoint.clone()
}

fn after(position: &v1::ChangePosition) -> Option<v1::ChangeStart> {
    Some(v1::ChangeStart { start: Some(v1::change_start::Start::After(position.clone())) })
}

fn position(checkpoint: &v1::Checkpoint) -> v1::ChangePosition {
    let meta = checkpoint.meta.as_ref().unwrap();
    v1::ChangePosition { revision: meta.revision, store_id: meta.store_id.clone(), era: checkpoint.era.clone() }
}

async fn list(server: &Server, request: v1::ListChangesRequest) -> Result<v1::ListChangesResponse, Status> {
    Ok(server.changes().await.list_changes(request).await?.into_inner())
}

fn shown(status: &Status) -> String {
    let details = status.get_error_details();
    format!("{:?} {}", status.code(), details.error_info().unwrap().reason)
}

/// What a look-up says of itself that is not to be of before another answer.
async fn ask(server: &Server, not_before: &v1::ResponseMeta) -> Result<v1::ResponseMeta, Status> {
    let context = Some(v1::RequestContext::not_before(not_before));
    let request = v1::ResolveAccountRequest {
        context,
        account: account("0oaeu", "user4", v1::IdentifierKind::Unspecified),
        ..Default::default()
    };
    Ok(server.lookup().await.resolve_account(request).await?.into_inner().meta.unwrap())
}

async fn search(server: &Server, not_before: &v1::ResponseMeta) -> Result<Vec<v1::SearchHit>, Status> {
    let context = Some(v1::RequestContext::not_before(not_before));
    let request = v1::SearchRequest { context, query: "id:00u0004".to_owned(), ..Default::default() };
    Ok(server.search().await.search(request).await?.into_inner().hits)
}

async fn apps(server: &Server, page_token: &str) -> Result<v1::ListAppUsersResponse, Status> {
    let request = v1::ListAppUsersRequest {
        app: app_by_id("0oaeu"),
        page_size: 10,
        page_token: page_token.to_owned(),
        ..Default::default()
    };
    Ok(server.lookup().await.list_app_users(request).await?.into_inner())
}

/// Whether both rpcs go on from there: with the changes behind it, up to where the store is.
async fn assert_served(server: &Server, world: &World, position: &v1::ChangePosition) {
    let mut stream = watch(server, after(position), &[]).await;
    let first = next(&mut stream).await.remove(0);
    assert!(matches!(first.event, Some(Event::Upsert(_) | Event::Checkpoint(_))), "{position:?}: {first:?}");
    let request = v1::ListChangesRequest { start: after(position), page_size: 1_000, ..Default::default() };
    let page = list(server, request).await.unwrap();
    let Some(Event::Checkpoint(last)) = &page.events.last().unwrap().event else { panic!("{page:?}") };
    assert_eq!((last.meta.as_ref().unwrap().revision, &last.era), (world.revision(), &page.era));
}

#[tokio::test]
async fn who_has_seen_more_than_a_backup_has_begins_anew() {
    let mut world = World::crawled().await;
    let mut put = 1_000;
    let mut grow = async |world: &World, count: usize| {
        for _ in 0..count {
            put += 1;
            world.put(vec![Row::User(user(put))]).await;
        }
    };
    let server = world.serve().await;
    let first = position(&checkpoint(&server, &world).await);
    assert_eq!(first.era.len(), 16);
    server.stop().await;
    // The process that made the backup's last revisions lives on, and the next one as well.
    let backup = world.reopen(None);
    grow(&world, 3).await;
    let server = world.serve().await;
    let second = position(&checkpoint(&server, &world).await);
    assert!(second.era != first.era && second.revision == first.revision + 3);
    // A process that has written is another era, one that follows is not too old.
    for position in [&first, &second] {
        assert_served(&server, &world, position).await;
    }
    let request = v1::ListChangesRequest { start: after(&first), page_size: 1, ..Default::default() };
    let page_token = list(&server, request.clone()).await.unwrap().next_page_token;
    assert!(!page_token.is_empty());
    server.stop().await;

    world.reopen(Some(&backup));
    let unknown = v1::ChangePosition { era: "0123456789abcdef".to_owned(), ..first.clone() };
    // At once, when the store is behind them, and when it has passed them.
    for grown in [0, 1, 10] {
        grow(&world, grown).await;
        let server = world.serve().await;
        assert_served(&server, &world, &first).await;
        for position in [&second, &unknown] {
            let told = too_old(&server, after(position)).await;
            assert_eq!(told.reason(), v1::TooOldReason::StoreRestored, "{grown}");
        }
        let request = v1::ListChangesRequest { page_token: page_token.clone(), ..request.clone() };
        let expired = list(&server, request).await.unwrap_err();
        assert_eq!(expired.get_error_details().error_info().unwrap().reason, "PAGE_TOKEN_EXPIRED", "{grown}");
        server.stop().await;
    }
    // Whoever does not say the era is not protected, as the documents have it.
    let server = world.serve().await;
    let bare = v1::ChangePosition { era: String::new(), ..second };
    assert_served(&server, &world, &bare).await;
    // But a copy answers by what it has seen: it is from before there were eras, or it says one.
    let request = v1::WatchRequest { start: after(&bare), for_resolution: true, ..Default::default() };
    let mut stream = server.changes().await.watch(request).await.unwrap().into_inner();
    let events = next(&mut stream).await;
    let [v1::ChangeEvent { event: Some(Event::TooOld(told)), .. }] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(told.reason(), v1::TooOldReason::StoreRestored);
}

/// Answers, demands on them, pages and the index, when a store was put back from a backup and has passed what it was at.
#[tokio::test]
async fn what_was_told_before_a_backup_was_put_back_is_no_past() {
    let mut world = World::crawled().await;
    let nothing = v1::ResponseMeta::default();
    let server = world.serve().await;
    let first = ask(&server, &nothing).await.unwrap();
    assert_eq!((first.revision, first.era.len()), (world.revision(), 16));
    let first_page = apps(&server, "").await.unwrap();
    // Every answer says the same of itself.
    assert_eq!(first_page.meta.as_ref().unwrap().era, first.era);
    let told = checkpoint(&server, &world).await;
    assert_eq!((&told.era, &told.meta.as_ref().unwrap().era), (&first.era, &first.era));
    server.stop().await;
    let backup = world.reopen(None);
    world.put(vec![Row::User(user(1_001)), Row::User(user(1_002))]).await;
    world.put(vec![Row::User(user(1_003))]).await;
    world.index();
    let server = world.serve().await;
    let second = ask(&server, &first).await.unwrap();
    assert!(second.era != first.era && second.revision > first.revision);
    assert_eq!(search(&server, &second).await.unwrap().len(), 1);
    let second_page = apps(&server, "").await.unwrap();
    assert!(!second_page.next_page_token.is_empty());
    // Begun before a restart: it goes on.
    apps(&server, &first_page.next_page_token).await.unwrap();
    // A revision that this process is about to make is waited for.
    let next = v1::ResponseMeta { revision: second.revision + 1, ..second.clone() };
    assert_eq!(shown(&ask(&server, &next).await.unwrap_err()), "FailedPrecondition REVISION_NOT_REACHED");
    server.stop().await;

    world.reopen(Some(&backup));
    // Behind it, at the very revision, and beyond.
    let mut grown = 0;
    for beyond in [0, second.revision, second.revision + 5] {
        while world.revision() < beyond {
            grown += 1;
            world.put(vec![Row::User(user(2_000 + grown))]).await;
        }
        let server = world.serve().await;
        let third = ask(&server, &first).await.unwrap();
        assert_eq!(third.revision, world.revision());
        let refused = ask(&server, &second).await.unwrap_err();
        assert_eq!(shown(&refused), "FailedPrecondition STORE_RESTORED", "{beyond}");
        let metadata = refused.get_error_details().error_info().unwrap().metadata.clone();
        assert_eq!((metadata["revision"].clone(), &metadata["era"]), (third.revision.to_string(), &third.era));
        // Who does not say the era is told nothing of it, as the documents have it.
        let bare = v1::ResponseMeta { era: String::new(), ..second.clone() };
        let expected = if beyond == 0 { Err("FailedPrecondition REVISION_NOT_REACHED".to_owned()) } else { Ok(()) };
        assert_eq!(ask(&server, &bare).await.map(|_| ()).map_err(|status| shown(&status)), expected, "{beyond}");
        // The index of the future, at a revision that the store has or will have.
        assert_eq!(shown(&search(&server, &nothing).await.unwrap_err()), "Unavailable INDEX_REBUILDING", "{beyond}");
        let request = v1::GetStatusRequest::default();
        let status = server.coverage().await.get_status(request).await.unwrap().into_inner().status.unwrap();
        assert_eq!(status.index.unwrap().state(), v1::IndexState::Rebuilding, "{beyond}");
        apps(&server, &first_page.next_page_token).await.unwrap();
        let expired = apps(&server, &second_page.next_page_token).await.unwrap_err();
        assert_eq!(shown(&expired), "FailedPrecondition PAGE_TOKEN_EXPIRED", "{beyond}");
        server.stop().await;
    }
    world.index();
    let server = world.serve().await;
    let now = ask(&server, &first).await.unwrap();
    assert_eq!(search(&server, &now).await.unwrap().len(), 1);
}

#[tokio::test]
async fn another_configuration_is_told_in_a_word() {
    let mut world = World::crawled().await;
    let usual = GrantPolicySettings::default();
    let alias = AliasSetting {
        app: "0oaus".to_owned(),
        kind: IdentifierKind::Untyped,
        name: "boss".to_owned(),
        user: user_id(2),
    };
    let with_alias = GrantPolicySettings { aliases: vec![alias], ..usual.clone() };
    let mut words = Vec::new();
    for settings in [&usual, &usual, &with_alias, &usual] {
        let server = Server::start([world.view_with(settings)]).await;
        let checkpoint = checkpoint(&server, &world).await;
        let request =
            v1::ListChangesRequest { start: after(&position(&checkpoint)), page_size: 1_000, ..Default::default() };
        let page = list(&server, request).await.unwrap();
        let Some(Event::Checkpoint(listed)) = &page.events[0].event else { panic!("{page:?}") };
        assert_eq!(listed.policy_id, checkpoint.policy_id);
        words.push(checkpoint.policy_id);
        server.stop().await;
        world.reopen(None);
    }
    assert!(!words[0].is_empty() && words[0] != words[2], "{words:?}");
    assert!(words[1] == words[0] && words[3] == words[0], "{words:?}");
}
