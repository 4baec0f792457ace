//! Signing in as a service app, against the simulated org, which verifies every signature.

use futures_util::future::join_all;
use okta_sim::{Org, ServerConfig, ServiceApp as Registered, SimServer, Spec};
use ring::rand::SystemRandom;
use tokio::time::Duration;

use super::*;
use crate::core::private_key::{PrivateKey, SigningAlgorithm};

const RSA: &str = include_str!("../../../tests/keys/rsa-pkcs1.pem");
pub(super) const P256: &str = include_str!("../../../tests/keys/p256-sec1.pem");
const P384: &str = include_str!("../../../tests/keys/p384-sec1.pem");
const P521: &str = include_str!("../../../tests/keys/p521-sec1.pem");
pub(super) const CLIENT_ID: &str = "0oaServiceApp1";
pub(super) const ALL_SCOPES: &str = "okta.users.read okta.groups.read okta.apps.read okta.logs.read";

pub(super) fn key(text: &str) -> PrivateKey {
    PrivateKey::parse(&Secret::new(text.to_owned()), &SystemRandom::new()).unwrap()
}

pub(super) fn app(private_key: PrivateKey) -> ServiceApp {
    ServiceApp { client_id: CLIENT_ID.into(), key_id: "kid1".into(), private_key, scopes: Default::default() }
}

/// An org that knows the app by the key, and a client with that app.
pub(super) fn world_of(private_key: PrivateKey, rig: impl FnOnce(&mut Registered)) -> (SimServer, Client) {
    let server = SimServer::start(Org::generate(&Spec::of_users(60)), &ServerConfig::default()).unwrap();
    let mut registered =
        Registered::new(CLIENT_ID).with_key("kid1", &private_key.public_members()).with_scopes(ALL_SCOPES);
    rig(&mut registered);
    server.sim().require_service_app(registered);
    // As if it were that day: what becomes of other clocks is a test of its own.
    let now = || Timestamp::from_millis(okta_sim::org::START_MS);
    let config = ClientConfig { now, ..config_for(&server.base_url()) };
    let client = Client::for_service_app(config, app(private_key)).unwrap();
    (server, client)
}

pub(super) fn world(rig: impl FnOnce(&mut Registered)) -> (SimServer, Client) {
    world_of(key(P256), rig)
}

pub(super) async fn read(client: &Client) -> Result<Page, OktaError> {
    client.page(&first(Resource::Users), Priority::Crawl).await
}

pub(super) fn asked(server: &SimServer) -> usize {
    server.sim().requests.count("/oauth2/v1/token").requests
}

#[tokio::test]
async fn every_algorithm_signs_in() {
    let rsa = |algorithm| key(RSA).with_algorithm(algorithm).unwrap();
    for private_key in [
        rsa(SigningAlgorithm::Rs256),
        rsa(SigningAlgorithm::Rs384),
        rsa(SigningAlgorithm::Rs512),
        key(P256),
        key(P384),
        key(P521),
    ] {
        let algorithm = private_key.algorithm();
        let (server, client) = world_of(private_key, |_| {});
        assert_eq!(client.scopes(), None);
        for _ in 0..3 {
            assert_eq!(read(&client).await.unwrap().rows.len(), 61, "{algorithm}");
        }
        assert_eq!((asked(&server), server.sim().requests.violations()), (1, 0), "{algorithm}");
        assert_eq!((client.granted_scopes().len(), client.missing_scopes().len()), (4, 0));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    async fn check(rig: impl FnOnce(&mut Registered), expected: &str) {
        let (server, client) = world(rig);
        let error = read(&client).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unauthorized, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        // Nobody asks again at once, and every refusal of a scope costs one request for each.
        let once = asked(&server);
        assert!(once == 1 || once == 5 || once == 9, "{once} {error}");
        join_all((0..20).map(|_| read(&client))).await;
        assert_eq!(asked(&server), once, "{error}");
        assert_eq!(server.sim().requests.count("/api/v1/users").requests, 0);
    }
    check(|app| app.client_id = "0oaOther".into(), "does not know client id 0oaServiceApp1").await;
    check(|app| app.is_active = false, "does not know client id").await;
    check(|app| app.keys[0].key_id = "kid2".into(), "no active key with id kid1").await;
    check(|app| app.keys[0].is_revoked = true, "no active key with id kid1").await;
    let other = key(include_str!("../../../tests/keys/p256.jwk.json"));
    let rig = |app: &mut Registered| {
        app.keys.clear();
        *app = app.clone().with_key("kid1", &key(P384).public_members());
    };
    assert_eq!(other.public_members(), key(P256).public_members());
    check(rig, "private_key is another key").await;
    check(|app| app.granted.clear(), "under \"Okta API Scopes\"").await;
}

#[tokio::test]
async fn scopes_that_are_not_granted_are_done_without() {
    for (drops_ungranted, scope_error) in
        [(true, "invalid_scope"), (false, "invalid_scope"), (false, "consent_required")]
    {
        let (server, client) = world(|app| {
            (app.drops_ungranted, app.scope_error) = (drops_ungranted, scope_error);
            app.granted.remove("okta.groups.read");
        });
        assert!(read(&client).await.is_ok());
        assert_eq!(client.missing_scopes().into_iter().collect::<Vec<_>>(), ["okta.groups.read"]);
        assert_eq!(client.granted_scopes().len(), 3);
        let groups = async || client.page(&first(Resource::Groups), Priority::Crawl).await;
        let error = groups().await.unwrap_err();
        let FailureKind::Forbidden { missing_scope, .. } = error.kind() else { panic!("{error}") };
        assert_eq!(missing_scope.as_deref(), Some("okta.groups.read"));
        let before = asked(&server);
        assert_eq!(before, if drops_ungranted { 1 } else { 6 });
        // A young token is not thrown away for it.
        groups().await.unwrap_err();
        assert_eq!(asked(&server), before);
        // Once it is granted the same client finds out by itself, without an error.
        server.sim().oauth.apps[0].granted.insert("okta.groups.read".to_owned());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        assert!(groups().await.is_ok());
        assert_eq!((asked(&server), client.missing_scopes().len()), (before + 1, 0));
    }
}

#[tokio::test]
async fn further_scopes_are_asked_for_and_none_that_changes_anything() {
    let (server, _) = world(|app| app.granted.extend(["okta.roles.read".to_owned(), "okta.users.manage".to_owned()]));
    let scopes = ["okta.roles.read".to_owned(), "okta.users.manage".to_owned()].into();
    let app = ServiceApp { scopes, ..app(key(P256)) };
    let client = Client::for_service_app(config_for(&server.base_url()), app).unwrap();
    assert!(read(&client).await.is_ok());
    let granted: Vec<String> = client.granted_scopes().into_iter().collect();
    assert_eq!(granted, ["okta.apps.read", "okta.groups.read", "okta.logs.read", "okta.roles.read", "okta.users.read"]);
}

#[tokio::test]
async fn many_who_need_a_token_make_one_request() {
    for requires_proof in [false, true] {
        let (server, client) = world(|app| app.requires_proof = requires_proof);
        let all_read = || async {
            let pages = join_all((0..20).map(|_| read(&client))).await;
            assert!(pages.iter().all(Result::is_ok), "{pages:?}");
        };
        all_read().await;
        assert_eq!(server.sim().oauth.issued, 1);
        // All of them are refused and one asks for the next token.
        server.sim().oauth.expire_tokens();
        all_read().await;
        assert_eq!(server.sim().oauth.issued, 2);
        assert_eq!(asked(&server), if requires_proof { 3 } else { 2 });
        assert_eq!(server.sim().requests.violations(), 0);
    }
}

#[tokio::test]
async fn a_token_is_renewed_before_its_time() {
    for requires_proof in [false, true] {
        renewed_before_its_time(requires_proof).await;
    }
}

async fn renewed_before_its_time(requires_proof: bool) {
    let (server, client) = world(|app| (app.expires_in_s, app.requires_proof) = (60, requires_proof));
    {
        let mut sim = server.sim();
        let oauth = &mut sim.oauth;
        for nonces in [&mut oauth.token_nonces, &mut oauth.read_nonces] {
            (nonces.kept, nonces.answers_per_nonce) = (1, 2);
            nonces.change_to("nonce");
        }
    }
    let advance = async |seconds: u64| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        server.sim().org.advance_ms(seconds * 1_000);
    };
    for (seconds, issued) in [(0, 1), (40, 1), (12, 2), (40, 2), (300, 3)] {
        advance(seconds).await;
        assert!(read(&client).await.is_ok());
        assert_eq!(server.sim().oauth.issued, issued);
    }
    let is_refused_read = |record: &&okta_sim::RequestRecord| record.status == 401 && record.method == "GET";
    // With proofs the very first read, which cannot know its nonce yet.
    let refused = server.sim().requests.records().filter(is_refused_read).count();
    assert_eq!(refused, usize::from(requires_proof));
    // While a good token is left, a key that is revoked is no trouble yet.
    server.sim().oauth.apps[0].keys[0].is_revoked = true;
    advance(53).await;
    assert!(read(&client).await.is_ok());
    advance(10).await;
    let error = read(&client).await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unauthorized);
    assert!(error.to_string().contains("no active key"), "{error}");
    // Back again, it works after the time that failures cost.
    server.sim().oauth.apps[0].keys[0].is_revoked = false;
    advance(300).await;
    assert!(read(&client).await.is_ok());
}

#[tokio::test]
async fn an_app_without_a_role_reads_nothing() {
    let (_server, client) = world(|app| app.has_role = false);
    assert_eq!(read(&client).await.unwrap().rows.len(), 0);
    let error = client.page(&first(Resource::Groups), Priority::Crawl).await.unwrap_err();
    assert!(matches!(error.kind(), FailureKind::Forbidden { missing_scope: None, .. }), "{error}");
}
