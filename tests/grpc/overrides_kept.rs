//! Overrides that outlast the server that took them: another configuration, another filter.

use okta_idmap::client::{Answer, Client, Options, Reflector, ReflectorSettings};
use okta_idmap::core::filter::{DomainFilter, DomainPattern, Filter};
use okta_idmap::core::model::{Row, User};
use okta_idmap::core::overrides::{CONFIGURATION, OverrideSetting};
use okta_idmap::serve::{Command, Control};
use okta_idmap::store::{Store, StoreConfig};
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::change_event::Event;
use tonic::Code;

use super::overrides::{ANY, HOUR, PATIENCE, delete, list, next, overriding, refused, resolve};
use super::world::{NOW, Server, World, account, app_by_any, app_user, open_store, user, user_id};

#[tokio::test]
async fn a_restart_keeps_them_and_takes_over_the_configuration() {
    let mut world = World::crawled().await;
    let dir = world.dir.path().join("acme");
    let later = NOW.plus_millis(HOUR);
    world.store.writer.set_override(overriding("dup", &user_id(2), later, "ada"), NOW).await.unwrap();
    // The lock goes with the store that is closed.
    world.store = open_store(&world.dir.path().join("beside"));
    let open = |settings: Vec<OverrideSetting>, now| {
        let config = StoreConfig {
            dir: dir.clone(),
            brake: Default::default(),
            credential: "c".to_owned(),
            changes: Default::default(),
            filter: Default::default(),
        };
        Store::open_with_overrides(config, settings, now).unwrap()
    };
    let configured = |name: &str, user: &str| overriding(name, user, later, CONFIGURATION);
    let all = v1::ListOverridesRequest::default;
    world.store = open(vec![configured("dup", &user_id(2)), configured("three", &user_id(2))], NOW);
    assert_eq!((world.store.overrides.kept, world.store.overrides.changed), (2, 2));
    let server = world.serve().await;
    assert_eq!(resolve(&server, "0oaus", "dup").await, "Resolved 00u0002 T6");
    assert_eq!(resolve(&server, "0oaus", "three").await, "Resolved 00u0002 T6");
    // A client's copy has them as well.
    let client = Client::lazy(&Options::new(&format!("http://{}", server.address)).unwrap()).unwrap();
    let copy = Reflector::start(client, ReflectorSettings::default());
    copy.ready(PATIENCE).await.unwrap();
    let asked = v1::ResolveAccountRequest { account: account("0oaus", "dup", ANY), ..Default::default() };
    let Answer::Local(answer) = copy.resolve_here(&asked).unwrap() else { panic!("the copy can tell") };
    assert_eq!(answer.resolution.unwrap().tier(), v1::MatchTier::OperatorOverride);
    copy.stop().await;
    let lines = list(&server, all()).await;
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[1], "Config 0oaus dup=00u0002 by configuration: IT-2");
    let only = v1::ListOverridesRequest { sources: vec![v1::OverrideSource::Rpc.into()], ..all() };
    assert_eq!(list(&server, only).await, ["Rpc 0oaus dup=00u0002 by ada: IT-2"]);
    let of_app = v1::ListOverridesRequest { app: app_by_any("0oaeu"), ..all() };
    assert!(list(&server, of_app).await.is_empty());
    server.stop().await;

    // Nothing new in the configuration: nothing is told.
    let revision = world.revision();
    world.store = open_store(&world.dir.path().join("beside"));
    world.store = open(vec![configured("dup", &user_id(2)), configured("three", &user_id(2))], NOW);
    assert_eq!((world.store.overrides.changed, world.revision()), (0, revision));

    // Another user for one of them, the other one taken out: two decisions about one name are none.
    world.store = open_store(&world.dir.path().join("beside"));
    world.store = open(vec![configured("dup", &user_id(3))], NOW);
    let found = world.store.overrides;
    assert_eq!((found.kept, found.changed, found.removed, world.revision()), (1, 1, 1, revision + 1));
    let (control, mut commands) = Control::channel();
    let server = Server::start([world.view().with_control(control)]).await;
    assert_eq!(resolve(&server, "0oaus", "dup").await, "Ambiguous - T6");
    assert_eq!(resolve(&server, "0oaus", "three").await, "Resolved 00u0003 T1");
    let mut admin = server.admin().await;
    let engine = async {
        let Some(Command::DeleteOverride { name, reply }) = commands.recv().await else { panic!() };
        reply.send(world.store.writer.delete_override(name, NOW).await);
        let Some(Command::DeleteOverride { name, reply }) = commands.recv().await else { panic!() };
        reply.send(world.store.writer.delete_override(name, NOW).await);
    };
    let operator = async {
        admin.delete_override(delete("0oaus", "dup")).await.unwrap();
        let status = admin.delete_override(delete("0oaus", "dup")).await.unwrap_err();
        assert_eq!(refused(&status), "FailedPrecondition OVERRIDE_CONFIGURED");
        assert_eq!(status.code(), Code::FailedPrecondition);
    };
    tokio::join!(engine, operator);
    assert_eq!(resolve(&server, "0oaus", "dup").await, "Resolved 00u0003 T6");
    server.stop().await;

    // A configuration that is over is none, and what is over of an earlier one goes.
    world.store = open_store(&world.dir.path().join("beside"));
    world.store = open(vec![configured("dup", &user_id(3))], later);
    assert_eq!((world.store.overrides.kept, world.store.overrides.expired), (0, 1));
    let server = world.serve().await;
    assert!(list(&server, all()).await.is_empty());
    assert_eq!(resolve(&server, "0oaus", "dup").await, "Ambiguous - T1");
}

/// Somebody whom the filter keeps out from now on: neither the name that was decided about, nor who it was, is in any answer.
#[tokio::test]
async fn nobody_sees_whom_an_override_named_once_the_filter_keeps_them_out() {
    let filter = Filter { users: DomainFilter::new(DomainPattern::parse("example.com")), ..Filter::default() };
    let world = World::crawled_with(filter).await;
    let later = NOW.plus_millis(HOUR);
    let hidden = User { login: Some("needle@example.com".into()), email: None, ..user(700) };
    world.put(vec![Row::User(hidden.clone()), Row::AppUser(app_user("0oaus", &user_id(700), "qzneedle"))]).await;
    let setting = overriding("qzneedle", &user_id(700), later, "ada");
    let setting = OverrideSetting { reason: "for needle".into(), ..setting };
    world.store.writer.set_override(setting, NOW).await.unwrap();
    let server = world.serve().await;
    let before = world.revision();
    let client = Client::lazy(&Options::new(&format!("http://{}", server.address)).unwrap()).unwrap();
    let copy = Reflector::start(client, ReflectorSettings::default());
    copy.ready(PATIENCE).await.unwrap();
    assert_eq!(resolve(&server, "0oaus", "qzneedle").await, "Resolved 00u0700 T6");
    assert!(format!("{:?}", list(&server, v1::ListOverridesRequest::default()).await).contains("needle"));

    // From now on another domain's.
    world.put(vec![Row::User(User { login: Some("needle@outside.test".into()), ..hidden })]).await;
    let mut told = vec![format!("{:?}", list(&server, v1::ListOverridesRequest::default()).await)];
    let mut lookup = server.lookup().await;
    // Asked about by name: the answer repeats the question, but says nobody.
    let question = v1::explain_request::Question::Account(account("0oaus", "qzneedle", ANY).unwrap());
    let explained = lookup.explain(v1::ExplainRequest { context: None, question: Some(question) }).await.unwrap();
    let request = v1::ResolveAccountRequest {
        account: account("0oaus", "qzneedle", ANY),
        include_candidates: true,
        ..Default::default()
    };
    let resolution = lookup.resolve_account(request.clone()).await.unwrap().into_inner().resolution.unwrap();
    assert_eq!(resolution.outcome(), v1::ResolutionOutcome::Filtered);
    for answer in [format!("{:?}", explained.into_inner()), format!("{resolution:?}")] {
        assert!(
            !answer.contains("00u0700") && !answer.contains("needle@") && !answer.contains("for needle"),
            "{answer}"
        );
    }
    let ambiguities = v1::ListAmbiguitiesRequest::default();
    told.push(format!("{:?}", server.coverage().await.list_ambiguities(ambiguities).await.unwrap().into_inner()));
    // Followers, from before it was decided and from the beginning, by stream and by page. One process has made all of it.
    let store_id = world.view().store_id().to_owned();
    let since = v1::ChangePosition { revision: before, store_id, ..Default::default() };
    let start = Some(v1::ChangeStart { start: Some(v1::change_start::Start::After(since.clone())) });
    let first = v1::ListChangesRequest { start, page_size: 1_000, ..Default::default() };
    let page = server.changes().await.list_changes(first).await.unwrap().into_inner();
    assert!(!page.era.is_empty());
    let starts = [
        v1::change_start::Start::Snapshot(v1::SnapshotStart {}),
        v1::change_start::Start::After(v1::ChangePosition::default()),
        v1::change_start::Start::After(v1::ChangePosition { era: page.era, ..since }),
    ];
    for start in starts {
        let start = Some(v1::ChangeStart { start: Some(start) });
        let request = v1::WatchRequest { start: start.clone(), for_resolution: true, ..Default::default() };
        let mut stream = server.changes().await.watch(request).await.unwrap().into_inner();
        let mut events = Vec::new();
        while !events.iter().any(|event: &v1::ChangeEvent| {
            matches!(&event.event, Some(Event::Checkpoint(at)) if at.meta.as_ref().unwrap().revision == world.revision())
        }) {
            events.extend(next(&mut stream).await);
        }
        told.push(format!("{events:?}"));
        let request = v1::ListChangesRequest { start, page_size: 1_000, ..Default::default() };
        told.push(format!("{:?}", server.changes().await.list_changes(request).await.unwrap().into_inner()));
    }
    for told in told {
        let at = told.find("needle");
        assert_eq!(at.map(|at| &told[at.saturating_sub(200)..told.len().min(at + 100)]), None);
    }
    // Nor does a copy that was made when it was still there.
    let mut state = copy.state();
    let revision = Some(world.revision());
    tokio::time::timeout(PATIENCE, state.wait_for(|state| state.revision == revision)).await.unwrap().unwrap();
    assert_eq!(copy.resolve_here(&request).unwrap(), Answer::OnlyServerKnows);
    copy.stop().await;
}
