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
use super::world::{Server, World, user, user_id};

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
