//! The client's copy where it has to give way: filters, limits, other stores, files that are no good. That it answers what the
//! server answers is tested in `copies`.

use std::path::Path;
use std::time::Duration;

use okta_idmap::client::{
    Answer, Client, MirrorError, Options, Phase, Reflector, ReflectorError, ReflectorSettings, ReflectorState, Retry,
    SetbackCause,
};
use okta_idmap::core::batch::Batch;
use okta_idmap::core::filter::{DomainFilter, DomainPattern, Filter};
use okta_idmap::core::ids::{GroupId, UserId};
use okta_idmap::core::model::{Key, Row, User};
use okta_idmap_proto::v1;

use super::copies::question;
use super::door::Door;
use super::world::{Server, World, app_user, member, user, user_id};

/// Longest wait for something that should come within a second.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn settings(file: Option<&Path>) -> ReflectorSettings {
    ReflectorSettings {
        file: file.map(Path::to_owned),
        silence_max: Duration::from_secs(20),
        retry: Retry {
            attempts_max: u32::MAX,
            wait_min: Duration::from_millis(20),
            wait_max: Duration::from_millis(100),
        },
        save_every: Duration::ZERO,
        ..ReflectorSettings::default()
    }
}

pub(super) fn client(server: &Server) -> Client {
    client_of(&format!("http://{}", server.address))
}

pub(super) fn client_of(url: &str) -> Client {
    Client::lazy(&Options::new(url).unwrap()).unwrap()
}

/// What a filter keeps out only the server can tell.
#[tokio::test]
async fn filtered_names_are_asked_of_the_server() {
    let filter = Filter { users: DomainFilter::new(DomainPattern::parse("example.com")), ..Filter::default() };
    let world = World::crawled_with(filter).await;
    let out = User { login: Some("out@outside.test".into()), email: None, ..user(900) };
    world.put(vec![Row::User(out), Row::AppUser(app_user("0oaeu", &user_id(900), "out"))]).await;
    let server = world.serve().await;
    let copy = Reflector::start(client(&server), settings(None));
    copy.ready(PATIENCE).await.unwrap();
    for (name, here, outcome) in [
        ("user4", true, v1::ResolutionOutcome::Resolved),
        ("out@outside.test", false, v1::ResolutionOutcome::Filtered),
        ("nobody", false, v1::ResolutionOutcome::NotFound),
    ] {
        let request = question("0oaeu", name, v1::IdentifierKind::Unspecified);
        let local = copy.resolve_here(&request).unwrap();
        assert_eq!(matches!(local, Answer::Local(_)), here, "{name}: {local:?}");
        let answer = copy.resolve(&request).await.unwrap();
        assert_eq!(answer.resolution.unwrap().outcome(), outcome, "{name}");
    }
    copy.stop().await;
}

#[tokio::test]
async fn nothing_is_told_before_there_is_something_to_tell() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let copy = Reflector::start(client(&server), settings(None));
    copy.ready(PATIENCE).await.unwrap();
    assert_eq!(copy.state().borrow().revision, Some(world.revision()));
    let asked = question("0oaeu", "user4", v1::IdentifierKind::Unspecified);
    let Answer::Local(answer) = copy.resolve_here(&asked).unwrap() else { panic!("the copy can tell") };
    assert_eq!(answer.resolution.unwrap().user.unwrap().id, user_id(4));
    let user = UserId::new(&user_id(2)).unwrap();
    let shown = copy.read(|mirror, _| {
        let apps: Vec<String> = mirror.accounts_of(&user).map(|account| account.app.to_string()).collect();
        let groups: Vec<String> = mirror.groups_of(&user).map(ToString::to_string).collect();
        format!("{} / {}", apps.join(" "), groups.join(" "))
    });
    assert_eq!(shown.unwrap(), "0oaeu 0oaoff 0oaus / 00geng 00gops");
    // What the copy cannot tell is asked.
    let groups = v1::ResolveAccountRequest { include_granting_groups: true, ..asked.clone() };
    assert_eq!(copy.resolve_here(&groups).unwrap(), Answer::OnlyServerKnows);
    assert!(copy.resolve(&groups).await.unwrap().resolution.unwrap().granting_groups.is_some());
    // A question that makes no sense is refused as the server refuses it.
    let ReflectorError::Question(refusal) = copy.resolve(&v1::ResolveAccountRequest::default()).await.unwrap_err()
    else {
        panic!("refused")
    };
    assert_eq!(refusal.reason, Some(v1::ErrorReason::FieldMissing));
    copy.stop().await;
}

#[tokio::test]
async fn a_copy_has_a_limit() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let copy = Reflector::start(client(&server), ReflectorSettings { rows_max: 300, ..settings(None) });
    let failed = failed(&copy, 1).await;
    assert!(failed.problem.unwrap().contains("more than 300 rows"));
    assert_eq!(failed.revision, None);
    // The server still answers.
    let answer = copy.who("0oaeu", "user4").await.unwrap();
    assert_eq!(answer.resolution.unwrap().outcome(), v1::ResolutionOutcome::Resolved);
    copy.stop().await;
}

/// Waits until the copy could not be kept so often in a row.
async fn failed(copy: &Reflector, in_a_row: u32) -> ReflectorState {
    let mut state = copy.state();
    let failed = state.wait_for(|state| state.setback.as_ref().is_some_and(|setback| setback.in_a_row == in_a_row));
    let failed = tokio::time::timeout(PATIENCE, failed).await.unwrap().unwrap().clone();
    assert_eq!(failed.phase, Phase::Failed);
    failed
}

/// Each list fits, and what comes next does not: it is listed less and less often, although each list succeeds.
#[tokio::test]
async fn an_org_that_just_fits_is_not_listed_again_and_again() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let copy = Reflector::start(client(&server), settings(None));
    copy.ready(PATIENCE).await.unwrap();
    let rows_max = copy.read(|mirror, _| mirror.row_count()).unwrap();
    copy.stop().await;
    let copy = Reflector::start(client(&server), ReflectorSettings { rows_max, ..settings(None) });
    let mut state = copy.state();
    let mut waits = Vec::new();
    for round in 1..=3 {
        let listed = state.wait_for(|state| state.phase == Phase::Following && state.lists == u64::from(round));
        tokio::time::timeout(PATIENCE, listed).await.unwrap().unwrap();
        world.put(vec![member("00gops", &user_id(250))]).await;
        let setback = failed(&copy, round).await.setback.unwrap();
        assert_eq!(setback.cause, SetbackCause::Mirror(MirrorError::TooManyRows { limit: rows_max }));
        assert!(copy.read(|_, _| ()).is_none(), "a copy with too many rows is seen");
        waits.push(setback.wait.as_millis());
        // It fits again. A user would leave names behind, which are rows of a copy, too.
        let removals = vec![Key::GroupMember(GroupId::new("00gops").unwrap(), UserId::new(&user_id(250)).unwrap())];
        world.commit(Batch { removals, ..world.batch() }).await;
    }
    assert_eq!(waits, [100, 200, 400]);
    copy.stop().await;
}

#[tokio::test]
async fn another_store_is_listed() {
    let (old, new) = (World::crawled().await, World::crawled().await);
    new.put(vec![Row::AppUser(app_user("0oaeu", &user_id(1), "newcomer"))]).await;
    let server = old.serve().await;
    let door = Door::open(server.address).await;
    let copy = Reflector::start(client_of(&door.url()), settings(None));
    copy.ready(PATIENCE).await.unwrap();
    server.stop().await;
    let server = new.serve().await;
    door.lead_to(Some(server.address));
    let mut state = copy.state();
    let listed = state.wait_for(|state| state.lists == 2 && state.revision == Some(new.revision()));
    tokio::time::timeout(PATIENCE, listed).await.unwrap().unwrap();
    let store = copy.read(|mirror, _| mirror.store_id().to_owned());
    assert_eq!(store.as_deref(), Some(new.view().store_id()));
    let answer = copy.who("0oaeu", "newcomer").await.unwrap();
    assert_eq!(answer.resolution.unwrap().outcome(), v1::ResolutionOutcome::Resolved);
    copy.stop().await;
    server.stop().await;
}

/// A copy of another store answers nothing; two stores behind one address are not listed in turn for ever.
#[tokio::test]
async fn a_copy_of_another_store_does_not_answer() {
    let (one, two) = (World::crawled().await, World::crawled().await);
    two.put(vec![Row::AppUser(app_user("0oaeu", &user_id(1), "newcomer"))]).await;
    let server = one.serve().await;
    let door = Door::open(server.address).await;
    // Waits that go on for longer than the test: what is seen in one of them stays so.
    let usual = settings(None);
    let retry = Retry { wait_max: PATIENCE * 10, ..usual.retry };
    let copy = Reflector::start(client_of(&door.url()), ReflectorSettings { retry, ..usual });
    copy.ready(PATIENCE).await.unwrap();
    server.stop().await;
    let server = two.serve().await;
    door.lead_to(Some(server.address));
    let mut state = copy.state();
    let listed = state.wait_for(|state| state.lists == 2 && state.revision == Some(two.revision()));
    let listed = tokio::time::timeout(PATIENCE, listed).await.unwrap().unwrap().clone();
    assert_eq!((listed.phase, listed.setback), (Phase::Following, None), "the first one is no setback");
    let asked = question("0oaeu", "newcomer", v1::IdentifierKind::Unspecified);
    assert!(matches!(copy.resolve_here(&asked).unwrap(), Answer::Local(_)));

    server.stop().await;
    let server = one.serve().await;
    door.lead_to(Some(server.address));
    let failed = failed(&copy, 2).await;
    let setback = failed.setback.unwrap();
    assert!(matches!(setback.cause, SetbackCause::AnotherStore { .. }), "{setback:?}");
    assert_eq!((setback.wait, failed.lists), (PATIENCE * 20, 2));
    assert!(matches!(copy.resolve_here(&asked), Err(ReflectorError::NotReady)));
    assert_eq!(copy.read(|mirror, age| (mirror.revision(), age)), Some((two.revision(), None)));
    let answer = copy.resolve(&asked).await.unwrap();
    assert_eq!(answer.resolution.unwrap().outcome(), v1::ResolutionOutcome::NotFound);
    copy.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_file_that_is_no_good_is_left_alone() {
    let world = World::crawled().await;
    let server = world.serve().await;
    let file = world.dir.path().join("copy");
    let start = || Reflector::start(client(&server), settings(Some(&file)));
    let copy = start();
    copy.ready(PATIENCE).await.unwrap();
    copy.stop().await;
    let whole = std::fs::read(&file).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    let check = async |content: &[u8], lists: u64| {
        std::fs::write(&file, content).unwrap();
        let copy = start();
        copy.ready(PATIENCE).await.unwrap();
        assert_eq!(copy.state().borrow().lists, lists, "{} bytes", content.len());
        copy.stop().await;
    };
    check(&whole, 0).await;
    check(&[], 1).await;
    check(&whole[..whole.len() - 1], 1).await;
    check(&whole[..whole.len() / 2], 1).await;
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    check(&changed, 1).await;
    let mut newer = whole.clone();
    newer[8] += 1;
    check(&newer, 1).await;
    // One of another org.
    std::fs::write(&file, &whole).unwrap();
    let settings = ReflectorSettings { org: "acme".to_owned(), ..settings(Some(&file)) };
    let copy = Reflector::start(client(&server), settings);
    copy.ready(PATIENCE).await.unwrap();
    assert_eq!(copy.state().borrow().lists, 1);
    drop(copy);
}
