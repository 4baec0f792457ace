//! Searches and suggestions: hits are those of the store.

use std::collections::BTreeSet;

use okta_idmap::core::ids::UserId;
use okta_idmap::core::model::{Key, Row, UserStatus};
use okta_idmap::serve::user_key;
use okta_idmap_index::{DocKind, IndexDoc};
use okta_idmap_proto::v1;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::world::{USERS, World, shown_meta, user, user_id};

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    let position = info.metadata.get("position").map_or_else(String::new, |position| format!(" at {position}"));
    format!("{:?} {}{position}", status.code(), info.reason)
}

fn query(query: &str) -> v1::SearchRequest {
    v1::SearchRequest { query: query.to_owned(), ..Default::default() }
}

fn id_of(hit: &v1::SearchHit) -> String {
    use v1::search_hit::Row;
    match hit.row.as_ref().unwrap() {
        Row::User(user) => user.id.clone(),
        Row::Group(group) => group.id.clone(),
        Row::App(app) => app.id.clone(),
        Row::Account(account) => {
            let row = account.app_user.as_ref().unwrap();
            format!("{}/{}", row.app_id, row.user_id)
        }
    }
}

#[tokio::test]
async fn hits_are_hydrated() {
    let world = World::crawled().await;
    world.index();
    let server = world.serve().await;
    let mut client = server.search().await;
    let cases = [
        (query("muller id:00u0004"), vec!["00u0004"]),
        (query("\"Jira EU\" kind:app"), vec!["0oaeu"]),
        (query("kind:group ops"), vec!["00gops"]),
        (query("kind:mapping account:two"), vec!["0oaoff/00u0002"]),
        (v1::SearchRequest { kinds: vec![v1::RowKind::AppUser.into()], ..query("ghost") }, vec!["0oaeu/00ughost"]),
        (v1::SearchRequest { kinds: vec![v1::RowKind::App.into()], ..query("kind:group ops") }, vec![]),
        (query("zzzzzz"), vec![]),
    ];
    for (request, expected) in cases {
        let answer = client.search(request.clone()).await.unwrap().into_inner();
        assert_eq!(answer.hits.iter().map(id_of).collect::<Vec<_>>(), expected, "{}", request.query);
        assert_eq!((answer.total_count, answer.is_lower_bound), (expected.len() as u64, false));
        assert_eq!(answer.index_revision, world.revision());
    }
    let answer = client.search(query("account:ghost")).await.unwrap().into_inner();
    assert_eq!(shown_meta(answer.meta.as_ref()), "PARTIAL 1 UNSEEN_REFERENCE:user(00ughost)");
}

#[tokio::test]
async fn searches_are_paged() {
    let world = World::crawled().await;
    world.index();
    let server = world.serve().await;
    let mut client = server.search().await;
    let (mut found, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = v1::SearchRequest { page_size: 30, page_token, ..query("kind:user müller") };
        let answer = client.search(request).await.unwrap().into_inner();
        assert_eq!(answer.total_count, USERS as u64);
        found.extend(answer.hits.iter().map(id_of));
        page_token = answer.next_page_token;
        pages += 1;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((found.len(), pages), (USERS, 9));
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), (0..USERS).map(user_id).collect());
    let first = client.search(v1::SearchRequest { page_size: 1, ..query("müller") }).await.unwrap().into_inner();
    let other = v1::SearchRequest { page_token: first.next_page_token, ..query("ops") };
    let status = client.search(other).await.unwrap_err();
    assert_eq!(reason(&status), "InvalidArgument PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn facets_count_all_hits() {
    let world = World::crawled().await;
    world.index();
    let server = world.serve().await;
    let mut client = server.search().await;
    use v1::FacetField::{App, Kind, Status};
    let facet_fields = vec![App.into(), Kind.into(), Status.into()];
    let request = v1::SearchRequest { facet_fields, page_size: 1, ..query("dup") };
    let facets = client.search(request).await.unwrap().into_inner().facets;
    let shown: Vec<String> = facets
        .iter()
        .map(|facet| {
            let counts =
                facet.counts.iter().map(|count| format!("{}={}:{}", count.value, count.label, count.hit_count));
            format!("{} {}", facet.field().as_str_name(), counts.collect::<Vec<_>>().join(" "))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "FACET_FIELD_APP 0oaus=Jira US:2",
            "FACET_FIELD_KIND mapping=mapping:2",
            "FACET_FIELD_STATUS ACTIVE=ACTIVE:1 STAGED=STAGED:1"
        ]
    );
}

#[tokio::test]
async fn what_is_gone_is_dropped_and_what_has_changed_is_shown_as_it_is() {
    let world = World::crawled().await;
    world.index();
    let indexed = world.revision();
    world.remove(Key::User(UserId::new(&user_id(4)).unwrap())).await;
    let mut renamed = user(6);
    renamed.last_name = Some("Meier".into());
    renamed.last_updated = None;
    world.put(vec![Row::User(renamed)]).await;
    let server = world.serve().await;
    let mut client = server.search().await;
    let answer = client.search(query("id:00u0004")).await.unwrap().into_inner();
    assert_eq!((answer.hits.len(), answer.total_count), (0, 1));
    assert_eq!(answer.index_revision, indexed);
    let answer = client.search(query("id:00u0006")).await.unwrap().into_inner();
    let Some(v1::search_hit::Row::User(user)) = &answer.hits[0].row else { panic!() };
    assert_eq!(user.last_name, "Meier");
    // The index is behind what the caller has seen.
    let context = Some(v1::RequestContext { at_least_revision: world.revision(), ..Default::default() });
    let status = client.search(v1::SearchRequest { context, ..query("müller") }).await.unwrap_err();
    assert_eq!(reason(&status), "FailedPrecondition REVISION_NOT_REACHED");
}

#[tokio::test]
async fn a_key_that_is_in_the_index_twice_is_one_hit() {
    let world = World::crawled().await;
    let old = IndexDoc::new(DocKind::User, user_key(&user(4).id), "Maiden");
    let similar = IndexDoc::new(DocKind::User, user_key(&user(4).id), "First4 Maiden");
    world.index_and(&[old, similar]);
    let server = world.serve().await;
    let mut client = server.search().await;
    for text in ["\"first4\"", "maiden"] {
        let answer = client.search(query(text)).await.unwrap().into_inner();
        assert_eq!(answer.hits.iter().map(id_of).collect::<Vec<_>>(), [user_id(4)], "{text}");
        assert_eq!((answer.total_count, answer.next_page_token.as_str()), (2, ""), "{text}");
        let request =
            v1::SuggestRequest { context: None, prefix: text.to_owned(), max_suggestions: 5, granting_only: false };
        let suggestions = client.suggest(request).await.unwrap().into_inner().suggestions;
        let ids: Vec<String> = suggestions.into_iter().filter_map(|suggestion| Some(suggestion.user?.id)).collect();
        assert_eq!(ids.iter().filter(|id| **id == user_id(4)).count(), 1, "{text}: {ids:?}");
    }
}

#[tokio::test]
async fn suggestions_are_people() {
    let world = World::crawled().await;
    world.index();
    let server = world.serve().await;
    let mut client = server.search().await;
    let suggest = |prefix: &str, max_suggestions, granting_only| v1::SuggestRequest {
        context: None,
        prefix: prefix.to_owned(),
        max_suggestions,
        granting_only,
    };
    let answer = client.suggest(suggest("first12 mul", 3, false)).await.unwrap().into_inner();
    let names: Vec<&str> =
        answer.suggestions.iter().map(|suggestion| suggestion.user.as_ref().unwrap().display_name.as_str()).collect();
    assert_eq!(names.first(), Some(&"First12 Müller"));
    let answer = client.suggest(suggest("first", 0, false)).await.unwrap().into_inner();
    assert_eq!(answer.suggestions.len(), 10);
    let answer = client.suggest(suggest("first", 99, true)).await.unwrap().into_inner();
    assert!(!answer.suggestions.is_empty() && answer.suggestions.len() <= 20);
    let is_active = |suggestion: &v1::Suggestion| suggestion.user.as_ref().unwrap().status() == v1::UserStatus::Active;
    assert!(answer.suggestions.iter().all(is_active));
    let status = client.suggest(suggest("", 1, false)).await.unwrap_err();
    assert_eq!(reason(&status), "InvalidArgument FIELD_MISSING");
    let status = client.suggest(suggest(&"x".repeat(257), 1, false)).await.unwrap_err();
    assert_eq!(reason(&status), "InvalidArgument FIELD_INVALID");
    let status = client.suggest(suggest("x", -1, false)).await.unwrap_err();
    assert_eq!(reason(&status), "InvalidArgument FIELD_INVALID");
    // The user has left since.
    let mut gone = user(12);
    (gone.status, gone.last_updated) = (UserStatus::Suspended, None);
    world.put(vec![Row::User(gone)]).await;
    let answer = client.suggest(suggest("first12 muller", 1, true)).await.unwrap().into_inner();
    assert!(answer.suggestions.iter().all(|suggestion| suggestion.user.as_ref().unwrap().id != user_id(12)));
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let world = World::crawled().await;
    world.index();
    let server = world.serve().await;
    let mut client = server.search().await;
    let users = vec![v1::RowKind::User.into()];
    let cases = [
        (query(""), "InvalidArgument FIELD_MISSING"),
        (query(&"x".repeat(513)), "InvalidArgument FIELD_INVALID"),
        (query("x \"y"), "InvalidArgument QUERY_SYNTAX at 2"),
        (v1::SearchRequest { kinds: users, ..query("x \"y") }, "InvalidArgument QUERY_SYNTAX at 2"),
        (query("-x"), "InvalidArgument QUERY_SYNTAX at 0"),
        (query(&"a ".repeat(17)), "InvalidArgument QUERY_TOO_COMPLEX"),
        (v1::SearchRequest { kinds: vec![5], ..query("x") }, "InvalidArgument FIELD_INVALID"),
        (v1::SearchRequest { facet_fields: vec![1, 1], ..query("x") }, "InvalidArgument FIELD_INVALID"),
        (v1::SearchRequest { facet_fields: vec![0], ..query("x") }, "InvalidArgument FIELD_INVALID"),
        (v1::SearchRequest { page_size: -1, ..query("x") }, "InvalidArgument FIELD_INVALID"),
        (v1::SearchRequest { page_token: "x".to_owned(), ..query("x") }, "InvalidArgument PAGE_TOKEN_INVALID"),
    ];
    for (request, expected) in cases {
        let status = client.search(request.clone()).await.unwrap_err();
        assert_eq!(reason(&status), expected, "{request:?}");
    }
}

#[tokio::test]
async fn without_an_index_of_this_store_searches_wait() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let mut client = server.search().await;
    let status = client.search(query("x")).await.unwrap_err();
    assert_eq!(reason(&status), "Unavailable INDEX_REBUILDING");
    world.index();
    client.search(query("x")).await.unwrap();
    // The index of another store is none.
    let other = World::crawled().await;
    other.index();
    world.search.set(other.search.get());
    let status = client.search(query("x")).await.unwrap_err();
    assert_eq!(reason(&status), "Unavailable INDEX_REBUILDING");
    world.search.set(None);
    let suggest = v1::SuggestRequest { prefix: "x".to_owned(), ..Default::default() };
    let status = client.suggest(suggest).await.unwrap_err();
    assert_eq!(reason(&status), "Unavailable INDEX_REBUILDING");
}
