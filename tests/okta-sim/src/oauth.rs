//! Service apps: the token endpoint, and who may read with which token (facts 10.2, 10.3, 7.2).
//!
//! Entry points: [`Oauth`], [`ServiceApp`]. Signatures are verified for real, with the registered public keys.
//!
//! Invariants: an assertion or proof is accepted once; a token works until it expires or its app is deactivated.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::faults::Refusal;
use crate::http::{Params, Request};
use crate::jwt::Jwt;
use crate::nonces::Nonces;
use crate::time::UnixMs;

/// Path of the token endpoint.
pub const TOKEN_PATH: &str = "/oauth2/v1/token";

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Most that `exp` may lie ahead, in seconds.
const EXP_AHEAD_S_MAX: i64 = 3_600;
/// Most that `iat` may be off unless a test says less, in seconds (facts 10.3).
const IAT_SKEW_S_MAX: i64 = 300;

/// A public key that an app is registered with.
#[derive(Clone, Debug)]
pub struct AppKey {
    /// `kid`.
    pub key_id: String,
    /// Whether it was revoked.
    pub is_revoked: bool,
    /// Members of the JWK.
    members: BTreeMap<String, String>,
}

/// An API Services app.
#[derive(Clone, Debug)]
pub struct ServiceApp {
    /// Client id.
    pub client_id: String,
    /// Its keys.
    pub keys: Vec<AppKey>,
    /// Scopes granted to it.
    pub granted: BTreeSet<String>,
    /// What becomes of a scope that is not granted: `true`: it is left out of the token; `false`: the request is refused.
    pub drops_ungranted: bool,
    /// The error of that refusal.
    pub scope_error: &'static str,
    /// Life of a token.
    pub expires_in_s: i64,
    /// Whether tokens are bound to a proof key.
    pub requires_proof: bool,
    /// Whether it is active.
    pub is_active: bool,
    /// Whether an admin role is assigned to it.
    pub has_role: bool,
}

impl ServiceApp {
    /// An active app with a role, without keys and scopes.
    pub fn new(client_id: &str) -> Self {
        Self {
            client_id: client_id.to_owned(),
            keys: Vec::new(),
            granted: BTreeSet::new(),
            drops_ungranted: false,
            scope_error: "invalid_scope",
            expires_in_s: 3_600,
            requires_proof: false,
            is_active: true,
            has_role: true,
        }
    }

    /// Registers a public key by the members of its JWK.
    #[must_use]
    pub fn with_key(mut self, key_id: &str, members: &[(&'static str, String)]) -> Self {
        let members = members.iter().map(|(name, text)| ((*name).to_owned(), text.clone())).collect();
        self.keys.push(AppKey { key_id: key_id.to_owned(), is_revoked: false, members });
        self
    }

    /// Grants scopes, separated by blanks.
    #[must_use]
    pub fn with_scopes(mut self, scopes: &str) -> Self {
        self.granted.extend(scopes.split(' ').map(str::to_owned));
        self
    }
}

struct Issued {
    client_id: String,
    expires_ms: UnixMs,
    scopes: BTreeSet<String>,
    /// Thumbprint of the proof key.
    bound_to: Option<String>,
}

/// Where a refused read says what is wrong with its token or proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChallengeForm {
    /// In the body, as Okta does.
    #[default]
    Body,
    /// In `WWW-Authenticate` and an empty body, as RFC 6750 and RFC 9449 have it.
    Header,
    /// Nowhere but in the status, and in `DPoP-Nonce` where there is one.
    Nowhere,
}

/// The org's authorization server.
pub struct Oauth {
    /// Registered apps.
    pub apps: Vec<ServiceApp>,
    /// Nonces of the token endpoint.
    pub token_nonces: Nonces,
    /// Nonces of reads.
    pub read_nonces: Nonces,
    /// How reads are refused.
    pub challenge: ChallengeForm,
    /// Most that `iat` of assertions and proofs may be off, in seconds.
    pub skew_s_max: i64,
    /// Whether refusals keep to themselves what is wrong with an assertion.
    pub is_vague: bool,
    /// Tokens given out.
    pub issued: usize,
    tokens: BTreeMap<String, Issued>,
    /// Ids of assertions and proofs that were used.
    used_ids: BTreeSet<String>,
}

impl Default for Oauth {
    fn default() -> Self {
        Self {
            apps: Vec::new(),
            token_nonces: Nonces::default(),
            read_nonces: Nonces::default(),
            challenge: ChallengeForm::Body,
            skew_s_max: IAT_SKEW_S_MAX,
            is_vague: false,
            issued: 0,
            tokens: BTreeMap::new(),
            used_ids: BTreeSet::new(),
        }
    }
}

/// An answer of the token endpoint.
pub(crate) struct TokenAnswer {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// What a token allows.
pub(crate) struct Admitted {
    pub(crate) has_role: bool,
    /// `DPoP-Nonce` to go with the answer.
    pub(crate) nonce: Option<String>,
}

/// Why a read is not let in.
pub(crate) struct Denied {
    pub(crate) refusal: Refusal,
    /// `DPoP-Nonce` to go with it.
    pub(crate) nonce: Option<String>,
    /// `WWW-Authenticate` to go with it.
    pub(crate) challenge: Option<String>,
}

/// Status, `error`, `error_description`.
type OauthError = (u16, &'static str, &'static str);

const fn client(description: &'static str) -> OauthError {
    (401, "invalid_client", description)
}

impl Oauth {
    /// Drops all tokens, as if their time had come.
    pub fn expire_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Answers a token request.
    pub(crate) fn answer(&mut self, request: &Request, base_url: &str, now_ms: UnixMs) -> TokenAnswer {
        let proves = request.header("dpop").is_some() || self.apps.iter().any(|app| app.requires_proof);
        let mut headers = vec![("Cache-Control".to_owned(), "no-cache, no-store".to_owned())];
        let granted = self.grant(request, base_url, now_ms);
        let nonce = if proves { self.token_nonces.told() } else { None };
        headers.extend(nonce.map(|nonce| ("dpop-nonce".to_owned(), nonce)));
        match granted {
            Ok(body) => TokenAnswer { status: 200, body, headers },
            Err((status, error, description)) => {
                let is_vague = self.is_vague && error == "invalid_client";
                let description = if is_vague { "Client authentication failed." } else { description };
                let body = json!({ "error": error, "error_description": description }).to_string();
                TokenAnswer { status, body, headers }
            }
        }
    }

    fn grant(&mut self, request: &Request, base_url: &str, now_ms: UnixMs) -> Result<String, OauthError> {
        let url = format!("{base_url}{TOKEN_PATH}");
        let form = Params::new(&request.body);
        let field = |name| form.get(name).unwrap_or_default();
        if request.header("content-type") != Some("application/x-www-form-urlencoded") {
            return Err((400, "invalid_request", "Accept and/or Content-Type headers are not supported."));
        }
        if field("grant_type") != "client_credentials" {
            return Err((400, "unsupported_grant_type", "The authorization grant type is not supported."));
        }
        if field("client_assertion_type") != ASSERTION_TYPE {
            return Err((400, "invalid_request", "The client_assertion_type is invalid."));
        }
        let place = self.authenticate(&field("client_assertion"), &url, now_ms)?;
        let bound_to = self.check_proof_of(request, place, &url, now_ms)?;
        let app = &self.apps[place];
        let asked: BTreeSet<String> = field("scope").split_whitespace().map(str::to_owned).collect();
        if asked.is_empty() {
            return Err((400, "invalid_scope", "The scope parameter is required."));
        }
        let given: BTreeSet<String> = asked.intersection(&app.granted).cloned().collect();
        if given.is_empty() || (given.len() < asked.len() && !app.drops_ungranted) {
            return Err((400, app.scope_error, "One or more scopes are not granted to the client application."));
        }
        self.issued += 1;
        let token = format!("eySimToken{:08}.{}", self.issued, URL_SAFE_NO_PAD.encode(digest(&SHA256, url.as_bytes())));
        let body = json!({
            "token_type": if bound_to.is_some() { "DPoP" } else { "Bearer" },
            "expires_in": app.expires_in_s,
            "access_token": token,
            "scope": given.iter().cloned().collect::<Vec<_>>().join(" "),
        });
        let expires_ms = now_ms.saturating_add(app.expires_in_s.saturating_mul(1_000));
        let issued = Issued { client_id: app.client_id.clone(), expires_ms, scopes: given, bound_to };
        self.tokens.insert(token, issued);
        Ok(body.to_string())
    }

    /// Checks an assertion; the place of its app.
    fn authenticate(&mut self, assertion: &str, url: &str, now_ms: UnixMs) -> Result<usize, OauthError> {
        let jwt = Jwt::parse(assertion).ok_or(client("The client_assertion is not a valid JWT."))?;
        let issuer = jwt.claims["iss"].as_str().unwrap_or_default();
        if jwt.claims["sub"].as_str() != Some(issuer) {
            return Err(client("The issuer ('iss') and subject ('sub') of client_assertion must be the client_id."));
        }
        let place = self.apps.iter().position(|app| app.client_id == issuer && app.is_active);
        let place = place.ok_or(client("Invalid value for 'client_id' parameter."))?;
        if jwt.claims["aud"].as_str() != Some(url) {
            return Err(client(
                "The audience claim for client_assertion must be the endpoint invoked for the request.",
            ));
        }
        let now_s = now_ms.div_euclid(1_000);
        let expires =
            jwt.claims["exp"].as_i64().ok_or(client("The client_assertion token must have an 'exp' claim."))?;
        if expires <= now_s {
            return Err(client("The client_assertion token has expired."));
        }
        if expires - now_s > EXP_AHEAD_S_MAX {
            return Err(client("The client_assertion token has an expiration too far in the future."));
        }
        if jwt.claims["iat"].as_i64().is_some_and(|issued| issued - now_s > self.skew_s_max) {
            return Err(client("The client_assertion token was issued in the future."));
        }
        let keys = self.apps[place].keys.iter();
        let kid = jwt.header["kid"].as_str();
        let key = keys.clone().find(|key| Some(key.key_id.as_str()) == kid && !key.is_revoked);
        let key = key.ok_or(client("The client_assertion JWT kid is invalid."))?;
        if !jwt.is_signed_by(&key.members) {
            return Err(client("The client_assertion signature is invalid."));
        }
        let id = jwt.claims["jti"].as_str().unwrap_or_default();
        if !id.is_empty() && !self.used_ids.insert(format!("assertion {id}")) {
            return Err(client("The client_assertion token has already been used."));
        }
        Ok(place)
    }

    /// Checks the proof of a token request; the thumbprint of its key.
    fn check_proof_of(
        &mut self,
        request: &Request,
        place: usize,
        url: &str,
        now_ms: UnixMs,
    ) -> Result<Option<String>, OauthError> {
        let Some(proof) = request.header("dpop") else {
            return if self.apps[place].requires_proof {
                Err((400, "invalid_dpop_proof", "The DPoP proof JWT header is missing."))
            } else {
                Ok(None)
            };
        };
        let proof = Proof { text: proof, method: "POST", url, token: None };
        let (thumbprint, nonce) = self.check_proof(&proof, now_ms)?;
        if !self.token_nonces.accept(&nonce) {
            return Err((400, "use_dpop_nonce", "Authorization server requires nonce in DPoP proof."));
        }
        Ok(Some(thumbprint))
    }

    /// Checks a proof; the thumbprint of its key, and its nonce.
    fn check_proof(&mut self, proof: &Proof<'_>, now_ms: UnixMs) -> Result<(String, String), OauthError> {
        let bad = |description| (400, "invalid_dpop_proof", description);
        let jwt = Jwt::parse(proof.text).ok_or(bad("The DPoP proof JWT is invalid."))?;
        let members: BTreeMap<String, String> = serde_json::from_value(jwt.header["jwk"].clone())
            .map_err(|_| bad("The DPoP proof JWT header must have a 'jwk'."))?;
        let is_public = !members.keys().any(|name| ["d", "p", "q", "dp", "dq", "qi"].contains(&name.as_str()));
        if jwt.header["typ"] != "dpop+jwt" || !is_public || !jwt.is_signed_by(&members) {
            return Err(bad("The DPoP proof JWT signature is invalid."));
        }
        if jwt.claims["htm"] != proof.method || jwt.claims["htu"] != proof.url {
            return Err(bad("The 'htm' or 'htu' claim in the DPoP proof JWT is invalid."));
        }
        let issued_at = jwt.claims["iat"].as_i64().unwrap_or(i64::MIN);
        if now_ms.div_euclid(1_000).abs_diff(issued_at) > self.skew_s_max.unsigned_abs() {
            return Err(bad("The 'iat' claim in the DPoP proof JWT is invalid."));
        }
        let hash = proof.token.map(|token| URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes())));
        if jwt.claims["ath"].as_str() != hash.as_deref() {
            return Err(bad("The 'ath' claim in the DPoP proof JWT is invalid."));
        }
        let id = jwt.claims["jti"].as_str().unwrap_or_default();
        if id.is_empty() || !self.used_ids.insert(format!("proof {id}")) {
            return Err(bad("The DPoP proof JWT has already been used."));
        }
        let canonical = serde_json::to_string(&members).unwrap_or_default();
        let nonce = jwt.claims["nonce"].as_str().unwrap_or_default().to_owned();
        Ok((URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes())), nonce))
    }

    /// Whether a read is let in by its token; `None`: it brings none of ours.
    pub(crate) fn admit(
        &mut self,
        request: &Request,
        base_url: &str,
        now_ms: UnixMs,
    ) -> Option<Result<Admitted, Denied>> {
        let (scheme, token) = request.header("authorization")?.split_once(' ')?;
        if !["Bearer", "DPoP"].contains(&scheme) || self.apps.is_empty() || request.path.starts_with("/.well-known/") {
            return None;
        }
        let admitted = self.admit_token(request, scheme, token, base_url, now_ms);
        let nonce = if scheme == "DPoP" { self.read_nonces.told() } else { None };
        Some(match admitted {
            Ok(has_role) => Ok(Admitted { has_role, nonce }),
            Err(refusal) => Err(self.denied(refusal, scheme, nonce)),
        })
    }

    /// A refusal in the form that is set.
    fn denied(&self, refusal: NotAdmitted, scheme: &str, nonce: Option<String>) -> Denied {
        let (status, error, refusal) = match refusal {
            NotAdmitted::Token => (401, "invalid_token", Refusal::InvalidToken),
            NotAdmitted::Scope(scope) => {
                return Denied { refusal: Refusal::InsufficientScope(scope.to_owned()), nonce, challenge: None };
            }
            NotAdmitted::Proof((status, error, description)) => {
                let body = json!({ "error": error, "error_description": description }).to_string();
                (status, error, Refusal::Custom(status, body))
            }
        };
        match self.challenge {
            ChallengeForm::Body => Denied { refusal, nonce, challenge: None },
            ChallengeForm::Nowhere => Denied { refusal: Refusal::Custom(401, String::new()), nonce, challenge: None },
            ChallengeForm::Header => {
                let challenge = Some(format!("{scheme} error=\"{error}\", algs=\"ES256 RS256\""));
                let status = if status == 400 { 401 } else { status };
                Denied { refusal: Refusal::Custom(status, String::new()), nonce, challenge }
            }
        }
    }

    /// Whether the token's app has a role.
    fn admit_token(
        &mut self,
        request: &Request,
        scheme: &str,
        token: &str,
        base_url: &str,
        now_ms: UnixMs,
    ) -> Result<bool, NotAdmitted> {
        let issued = self.tokens.get(token).filter(|issued| now_ms < issued.expires_ms).ok_or(NotAdmitted::Token)?;
        let app = self.apps.iter().find(|app| app.client_id == issued.client_id && app.is_active);
        let has_role = app.ok_or(NotAdmitted::Token)?.has_role;
        let (bound_to, scopes) = (issued.bound_to.clone(), issued.scopes.clone());
        if bound_to.is_some() != (scheme == "DPoP") {
            return Err(NotAdmitted::Token);
        }
        if let Some(bound_to) = bound_to {
            let url = format!("{base_url}{}", request.path);
            let text = request.header("dpop").unwrap_or_default();
            let proof = Proof { text, method: "GET", url: &url, token: Some(token) };
            let (thumbprint, nonce) = self.check_proof(&proof, now_ms).map_err(NotAdmitted::Proof)?;
            if thumbprint != bound_to {
                return Err(NotAdmitted::Token);
            }
            if !self.read_nonces.accept(&nonce) {
                let description = "Resource server requires nonce in DPoP proof.";
                return Err(NotAdmitted::Proof((401, "use_dpop_nonce", description)));
            }
        }
        match scope_of(&request.path) {
            Some(scope) if !scopes.contains(scope) => Err(NotAdmitted::Scope(scope)),
            _ => Ok(has_role),
        }
    }
}

/// What is wrong with a read.
enum NotAdmitted {
    /// Its token.
    Token,
    /// Its proof, or the nonce in it.
    Proof(OauthError),
    /// The token's scopes.
    Scope(&'static str),
}

struct Proof<'a> {
    text: &'a str,
    method: &'a str,
    url: &'a str,
    token: Option<&'a str>,
}

/// The scope that an endpoint wants (facts 1.1, 1.2).
fn scope_of(path: &str) -> Option<&'static str> {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api", "v1", "users", _, "groups"] => Some("okta.groups.read"),
        ["api", "v1", "users", ..] => Some("okta.users.read"),
        ["api", "v1", "groups", ..] => Some("okta.groups.read"),
        ["api", "v1", "apps", ..] => Some("okta.apps.read"),
        ["api", "v1", "logs"] => Some("okta.logs.read"),
        ["api", "v1", "api-tokens"] => Some("okta.apiTokens.read"),
        ["api", "v1", "org"] => Some("okta.orgs.read"),
        ["api", "v1", "iam", ..] => Some("okta.roles.read"),
        ["api", "v1", "principal-rate-limits"] => Some("okta.principalRateLimits.read"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::Value;

    use super::*;

    const NOW_S: i64 = 1_785_661_222;
    const BASE: &str = "http://127.0.0.1:1";

    fn key_pair() -> EcdsaKeyPair {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
    }

    fn members(pair: &EcdsaKeyPair) -> Vec<(&'static str, String)> {
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        vec![("crv", "P-256".to_owned()), ("kty", "EC".to_owned()), ("x", text(x)), ("y", text(y))]
    }

    fn signed(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(header), encode(claims));
        let signature = pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn claims(id: &str) -> Value {
        let url = format!("{BASE}{TOKEN_PATH}");
        json!({ "iss": "0oa1", "sub": "0oa1", "aud": url, "iat": NOW_S, "exp": NOW_S + 300, "jti": id })
    }

    fn ask(oauth: &mut Oauth, assertion: &str, scope: &str) -> (u16, Value) {
        let body = format!(
            "grant_type=client_credentials&scope={scope}&client_assertion_type={ASSERTION_TYPE}&client_assertion={assertion}"
        );
        let answer = oauth.answer(&Request::post_form(TOKEN_PATH, &body), BASE, NOW_S * 1_000);
        (answer.status, serde_json::from_str(&answer.body).unwrap())
    }

    #[test]
    fn assertions_are_checked() {
        let (pair, other) = (key_pair(), key_pair());
        let app = ServiceApp::new("0oa1").with_key("k1", &members(&pair)).with_scopes("okta.users.read");
        let mut oauth = Oauth { apps: vec![app], ..Oauth::default() };
        let header = json!({ "alg": "ES256", "kid": "k1" });
        let mut check = |assertion: String, expected: &str| {
            let (status, body) = ask(&mut oauth, &assertion, "okta.users.read");
            let told = body["error_description"].as_str().unwrap_or("granted");
            assert!(told.contains(expected), "{status} {body}, expected {expected}");
        };
        let with = |name: &str, value: Value| {
            let mut claims = claims(name);
            claims[name] = value;
            claims
        };
        check(signed(&pair, &header, &claims("1")), "granted");
        check(signed(&pair, &header, &claims("1")), "already been used");
        check(signed(&other, &header, &claims("2")), "signature");
        check(signed(&pair, &json!({ "alg": "ES256", "kid": "k2" }), &claims("3")), "kid");
        check(signed(&pair, &json!({ "alg": "none", "kid": "k1" }), &claims("4")), "signature");
        check(signed(&pair, &header, &with("aud", json!("http://other/oauth2/v1/token"))), "audience");
        check(signed(&pair, &header, &with("sub", json!("0oa2"))), "subject");
        check(signed(&pair, &header, &with("exp", json!(NOW_S))), "expired");
        check(signed(&pair, &header, &with("exp", json!(NOW_S + 3_601))), "too far in the future");
        check(signed(&pair, &header, &with("iat", json!(NOW_S + 301))), "issued in the future");
        check("a.b".to_owned(), "not a valid JWT");
    }

    #[test]
    fn tokens_let_in_where_their_scopes_reach() {
        let pair = key_pair();
        let app = ServiceApp::new("0oa1").with_key("k1", &members(&pair)).with_scopes("okta.users.read");
        let mut oauth = Oauth { apps: vec![app], ..Oauth::default() };
        let header = json!({ "alg": "ES256", "kid": "k1" });
        let both = "okta.users.read%20okta.apps.read";
        let (status, body) = ask(&mut oauth, &signed(&pair, &header, &claims("1")), both);
        assert_eq!((status, &body["error"]), (400, &json!("invalid_scope")));
        oauth.apps[0].drops_ungranted = true;
        let (_, body) = ask(&mut oauth, &signed(&pair, &header, &claims("2")), both);
        assert_eq!(body["scope"], "okta.users.read");
        let bearer = format!("Bearer {}", body["access_token"].as_str().unwrap());
        let mut check = |path: &str, authorization: &str, now_s: i64, expected: Option<Option<Refusal>>| {
            let request = Request::get(path).with_header("Authorization", authorization);
            let admitted = oauth.admit(&request, BASE, now_s * 1_000);
            assert_eq!(admitted.map(|admitted| admitted.err().map(|denied| denied.refusal)), expected, "{path}");
        };
        check("/api/v1/users", &bearer, NOW_S, Some(None));
        check(
            "/api/v1/users/1/groups",
            &bearer,
            NOW_S,
            Some(Some(Refusal::InsufficientScope("okta.groups.read".into()))),
        );
        check("/api/v1/apps/1/users", &bearer, NOW_S, Some(Some(Refusal::InsufficientScope("okta.apps.read".into()))));
        check("/api/v1/users", &bearer, NOW_S + 3_600, Some(Some(Refusal::InvalidToken)));
        check("/api/v1/users", "Bearer x", NOW_S, Some(Some(Refusal::InvalidToken)));
        check("/api/v1/users", "SSWS x", NOW_S, None);
        check("/.well-known/okta-organization", &bearer, NOW_S, None);
    }
}
