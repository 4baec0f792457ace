//! Proofs of possession, nonces and wrong clocks, against the simulated org, which verifies every proof.

use futures_util::future::join_all;
use okta_sim::{ChallengeForm, Org, ServerConfig, ServiceApp as Registered, SimServer, Spec};

use super::service_app::{ALL_SCOPES, CLIENT_ID, P256, app, asked, key, read, world};
use super::*;

const CHALLENGE_FORMS: [ChallengeForm; 3] = [ChallengeForm::Body, ChallengeForm::Header, ChallengeForm::Nowhere];

/// Walks the users in pages of 20; `before` is called before each page after the first. The rows, or the first failure.
async fn walk(client: &Client, before: impl Fn(u32)) -> Result<usize, OktaError> {
    let limit = 20;
    let mut page = client.page(&PageRequest::First { resource: Resource::Users, limit }, Priority::Crawl).await?;
    let (mut rows, mut pages) = (page.rows.len(), 1);
    while let Some(next) = page.next {
        before(pages);
        let request = PageRequest::Next { resource: Resource::Users, url: next.into_string() };
        page = client.page(&request, Priority::Crawl).await?;
        (rows, pages) = (rows + page.rows.len(), pages + 1);
    }
    Ok(rows)
}

#[tokio::test]
async fn proofs_of_possession_follow_the_nonce() {
    for nonce in ["", "nonce1"] {
        let (server, client) = world(|app| app.requires_proof = true);
        server.sim().oauth.token_nonces.change_to(nonce);
        let limit = 20;
        let mut page = client.page(&PageRequest::First { resource: Resource::Users, limit }, Priority::Crawl).await;
        let mut pages = 1;
        while let Some(next) = page.unwrap().next {
            // The nonce changes in mid-walk, at both ends.
            {
                let mut sim = server.sim();
                let nonce = format!("nonce{}", pages + 1);
                sim.oauth.token_nonces.change_to(&nonce);
                sim.oauth.read_nonces.change_to(&nonce);
                if pages == 2 {
                    sim.oauth.expire_tokens();
                }
            }
            let request = PageRequest::Next { resource: Resource::Users, url: next.into_string() };
            page = client.page(&request, Priority::Crawl).await;
            pages += 1;
        }
        assert_eq!(pages, 4);
        assert_eq!(server.sim().requests.violations(), 0);
    }
}

#[tokio::test]
async fn wrong_clocks_are_corrected() {
    const HOUR: i64 = 3_600_000;
    fn off(millis: i64) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "a clock that is wrong by so much")]
        Timestamp::from_millis(chrono::Utc::now().timestamp_millis() + millis)
    }
    let clocks: [fn() -> Timestamp; 6] =
        [|| off(240_000), || off(-240_000), || off(420_000), || off(-420_000), || off(72 * HOUR), || off(-72 * HOUR)];
    for (number, now) in clocks.into_iter().enumerate() {
        for requires_proof in [false, true] {
            let clock = okta_sim::ClockMode::Wall;
            let config = ServerConfig { clock, ..ServerConfig::default() };
            let server = SimServer::start(Org::generate(&Spec::of_users(5)), &config).unwrap();
            let registered =
                Registered::new(CLIENT_ID).with_key("kid1", &key(P256).public_members()).with_scopes(ALL_SCOPES);
            server.sim().require_service_app(Registered { requires_proof, ..registered });
            let config = ClientConfig { now, ..config_for(&server.base_url()) };
            let client = Client::for_service_app(config, app(key(P256))).unwrap();
            let page = read(&client).await;
            assert!(page.is_ok(), "clock {number}: {:?}", page.err());
        }
    }
}

/// The time of refusals is believed also where they do not say that it is about time.
#[tokio::test]
async fn wrong_clocks_are_corrected_after_vague_refusals() {
    fn off(millis: i64) -> Timestamp {
        Timestamp::from_millis(okta_sim::org::START_MS + millis)
    }
    let clocks: [fn() -> Timestamp; 4] = [|| off(240_000), || off(-240_000), || off(3_600_000), || off(-3_600_000)];
    for (number, now) in clocks.into_iter().enumerate() {
        for requires_proof in [false, true] {
            let server = SimServer::start(Org::generate(&Spec::of_users(5)), &ServerConfig::default()).unwrap();
            let registered = Registered::new(CLIENT_ID).with_key("kid1", &key(P256).public_members());
            let registered = Registered { requires_proof, ..registered.with_scopes(ALL_SCOPES) };
            {
                let mut sim = server.sim();
                sim.require_service_app(registered);
                (sim.oauth.is_vague, sim.oauth.skew_s_max) = (true, 10);
            }
            let config = ClientConfig { now, ..config_for(&server.base_url()) };
            let client = Client::for_service_app(config, app(key(P256))).unwrap();
            let page = read(&client).await;
            assert!(page.is_ok(), "clock {number}: {:?}", page.err());
            assert!(asked(&server) <= 3, "clock {number}: {} token requests", asked(&server));
        }
    }
}

/// Both ends want nonces of their own, and tell a new one with each answer.
#[tokio::test]
async fn nonces_that_change_with_each_answer_are_followed() {
    for kept in [0, 2] {
        for challenge in CHALLENGE_FORMS {
            let (server, client) = world(|app| app.requires_proof = true);
            {
                let mut sim = server.sim();
                sim.oauth.challenge = challenge;
                let oauth = &mut sim.oauth;
                for (nonces, first) in [(&mut oauth.token_nonces, "token"), (&mut oauth.read_nonces, "read")] {
                    (nonces.kept, nonces.answers_per_nonce) = (kept, 1);
                    nonces.change_to(first);
                }
            }
            let walked = walk(&client, |pages| {
                if pages == 2 {
                    server.sim().oauth.expire_tokens();
                }
            });
            assert_eq!(walked.await.unwrap(), 61, "{challenge:?}");
            // One after the other, only the first read and the renewal meet a nonce that is not theirs.
            let (of_reads, of_tokens) = {
                let sim = server.sim();
                (sim.oauth.read_nonces.refused, sim.oauth.token_nonces.refused)
            };
            assert_eq!((of_reads, of_tokens), (1, 0), "{challenge:?}");
            // Side by side they take the nonces from each other.
            let pages = join_all((0..12).map(|_| read(&client))).await;
            let failed: Vec<_> = pages.iter().filter_map(|page| page.as_ref().err()).collect();
            assert!(failed.is_empty(), "{challenge:?}, {kept} kept: {failed:?}");
            assert_eq!(server.sim().requests.violations(), 0);
        }
    }
}

/// A token that has ended is replaced, however the refusal says so and whatever nonce comes with it.
#[tokio::test]
async fn ended_tokens_are_replaced_whatever_comes_with_the_refusal() {
    for challenge in CHALLENGE_FORMS {
        for requires_proof in [false, true] {
            let (server, client) = world(|app| app.requires_proof = requires_proof);
            server.sim().oauth.challenge = challenge;
            server.sim().oauth.read_nonces.change_to("nonce1");
            assert!(read(&client).await.is_ok());
            for round in 2..4 {
                server.sim().oauth.expire_tokens();
                let pages = join_all((0..8).map(|_| read(&client))).await;
                let failed: Vec<_> = pages.iter().filter_map(|page| page.as_ref().err()).collect();
                assert!(failed.is_empty(), "{challenge:?}: {failed:?}");
                assert_eq!(server.sim().oauth.issued, round, "{challenge:?}");
            }
        }
    }
}

/// The app is made to ask for proofs while it is in use, and no more later.
#[tokio::test]
async fn proofs_begin_when_the_app_is_made_to_ask_for_them() {
    let (server, client) = world(|_| {});
    assert!(read(&client).await.is_ok());
    for requires_proof in [true, false, true] {
        server.sim().oauth.apps[0].requires_proof = requires_proof;
        server.sim().oauth.token_nonces.change_to("again");
        server.sim().oauth.expire_tokens();
        assert!(read(&client).await.is_ok(), "{requires_proof}");
    }
    assert_eq!(server.sim().oauth.issued, 4);
}

/// A server that takes no proof at all is told, and is not asked for ever.
#[tokio::test(start_paused = true)]
async fn a_proof_that_is_never_taken_is_told() {
    let token = r#"{"token_type":"DPoP","expires_in":3600,"access_token":"ey","scope":"okta.users.read"}"#;
    let wanted = r#"{"error":"invalid_dpop_proof","error_description":"The DPoP proof JWT header is missing."}"#;
    for (status, refused) in [(400, "invalid_dpop_proof"), (401, "invalid_dpop_proof"), (401, "use_dpop_nonce")] {
        let refused = format!(r#"{{"error":"{refused}","error_description":"No."}}"#);
        let mut script = vec![reply(400, &[], wanted), reply(200, &[], token)];
        script.extend(vec![reply(status, &["DPoP-Nonce: n"], refused); 100]);
        let server = Server::start(script).await;
        let client = Client::for_service_app(config_for(&server.url), app(key(P256))).unwrap();
        let error = read(&client).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Retry, "the credential is not dead: {error}");
        assert!(error.to_string().contains("refuses the proof of possession"), "{error}");
        let reads = server.targets().iter().filter(|target| target.starts_with("/api/")).count();
        assert!((2..=12).contains(&reads), "{reads}");
        let proofs: std::collections::BTreeSet<String> = server.requests().into_iter().collect();
        assert_eq!(proofs.len(), server.requests().len(), "no proof is sent twice");
    }
}
