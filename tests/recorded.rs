//! Answers that real orgs gave must decode: `../shared/recorded`, relative to the manifest. Where the folder is absent the
//! tests say so and do nothing; made-up answers are tested beside the code.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use okta_idmap::core::ids::{AppId, GroupId, Timestamp, UserId};
use okta_idmap::core::model::Row;
use okta_idmap::okta::wire::{FailureBody, decode_log, decode_object, decode_org_metadata, decode_page};
use okta_idmap::okta::{
    AnswerHeaders, Endpoint, FailureKind, NextRule, NextUrl, ObjectPath, OktaError, OrgUrl, Resource, StatusFailure,
    next_link,
};
use serde_json::Value;

/// Characters of a line that a failed assertion shows.
const EXCERPT_CHARS: usize = 300;

struct Recording {
    file: String,
    kind: String,
    path: String,
    status: u16,
    headers: AnswerHeaders,
    body: Value,
    source: String,
}

impl Recording {
    fn read(file: &str, line: &str) -> Self {
        let read: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| read[key].as_str().unwrap_or_default().to_owned();
        let lines = read["headers"].as_object().into_iter().flatten().flat_map(|(name, lines)| {
            lines.as_array().into_iter().flatten().filter_map(move |line| Some((name.as_str(), line.as_str()?)))
        });
        Self {
            file: file.to_owned(),
            kind: text("kind"),
            path: text("path"),
            status: u16::try_from(read["status"].as_u64().unwrap()).unwrap(),
            headers: AnswerHeaders::new(lines),
            body: read["body"].clone(),
            source: text("source"),
        }
    }

    fn body_bytes(&self) -> Vec<u8> {
        if self.body.is_null() { Vec::new() } else { serde_json::to_vec(&self.body).unwrap() }
    }

    /// The id behind a segment of the path; some id where the path has none, or a placeholder like `{appId}`.
    fn id_after(&self, segment: &str) -> String {
        let mut segments = self.path.split('/').skip_while(|found| *found != segment).skip(1);
        segments.next().filter(|id| AppId::new(id).is_ok()).unwrap_or("unknown").to_owned()
    }

    fn excerpt(&self) -> String {
        let body: String = self.body.to_string().chars().take(EXCERPT_CHARS).collect();
        format!("{} {} {} {body}", self.file, self.kind, self.source)
    }
}

/// All recordings; empty, with a note, where the folder is absent.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn recordings() -> Vec<Recording> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/recorded");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("no recordings: {} is absent", folder.display());
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let mut recordings = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        recordings.extend(text.lines().map(|line| Recording::read(&name, line)));
    }
    recordings
}

/// The list that an answer's kind shows, or whose items look like the single object.
fn resource_of(recording: &Recording) -> Option<Resource> {
    let app = || AppId::new(&recording.id_after("apps")).unwrap();
    let group = || GroupId::new(&recording.id_after("groups")).unwrap();
    Some(match recording.kind.as_str() {
        "users" | "user" => Resource::Users,
        "groups" | "group" => Resource::Groups,
        "user_groups" => Resource::UserGroups(UserId::new(&recording.id_after("users")).unwrap()),
        "group_users" => Resource::GroupMembers(group()),
        "apps" | "app" | "group_apps" => Resource::Apps,
        "app_users" | "app_user" => Resource::AppUsers(app()),
        "app_groups" | "app_group" => Resource::AppGroups(app()),
        _ => return None,
    })
}

fn successes(recordings: &[Recording]) -> impl Iterator<Item = &Recording> {
    recordings.iter().filter(|recording| recording.status == 200 && recording.file != "errors.jsonl")
}

#[test]
fn every_list_gives_all_its_rows() {
    let recordings = recordings();
    let mut rows_by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for recording in successes(&recordings) {
        let Some(resource) = resource_of(recording) else { continue };
        // The answer to a creation is one object of the list.
        let items = recording.body.as_array().cloned().unwrap_or_else(|| vec![recording.body.clone()]);
        let page = decode_page(&resource, &serde_json::to_vec(&items).unwrap()).unwrap();
        assert_eq!(page.quarantined, [], "{}", recording.excerpt());
        assert_eq!((page.rows.len(), page.items), (items.len(), items.len()), "{}", recording.excerpt());
        for (row, item) in page.rows.iter().zip(&items) {
            check_row(row, item, recording);
        }
        *rows_by_kind.entry(recording.kind.as_str()).or_default() += page.rows.len();
    }
    if !recordings.is_empty() {
        println!("rows: {rows_by_kind:?}");
        for kind in ["users", "user", "groups", "group", "group_users", "user_groups", "apps", "app", "app_users"] {
            assert!(rows_by_kind.get(kind).is_some_and(|rows| *rows > 0), "no rows of {kind}: {rows_by_kind:?}");
        }
    }
}

/// The parts of lists that following the log asks for have the items of the whole lists.
#[test]
fn every_part_of_a_list_gives_the_rows_of_the_whole() {
    let recordings = recordings();
    let user = || UserId::new("00u1").unwrap();
    let since = Timestamp::from_millis(0);
    for recording in successes(&recordings) {
        let Some(whole) = resource_of(recording).filter(|_| recording.body.is_array()) else { continue };
        let parts = match whole {
            Resource::Users => vec![Resource::UsersChanged { since }, Resource::UsersByIds(vec![user()])],
            Resource::Groups | Resource::UserGroups(_) => {
                let of_app = Resource::GroupsOfApp(AppId::new("0oa1").unwrap());
                vec![Resource::GroupsChanged { since }, of_app, Resource::UserGroups(user())]
            }
            _ => continue,
        };
        let expected = decode_page(&whole, &recording.body_bytes()).unwrap();
        for part in parts {
            assert_eq!(decode_page(&part, &recording.body_bytes()).unwrap(), expected, "{}", recording.excerpt());
        }
    }
}

/// Groups of users: the form of the request is the one that Okta's own link shows.
#[test]
fn groups_of_users_are_asked_for_as_okta_names_the_list() {
    for recording in recordings().iter().filter(|recording| recording.kind == "user_groups") {
        let own = recording.headers.all("link").find(|line| line.contains("rel=\"self\"")).unwrap();
        let resource = resource_of(recording).unwrap();
        let asked = resource.first_page(resource.limit_default());
        assert!(own.contains(&format!("{asked}>")), "{asked} in {own}");
    }
}

#[test]
fn every_app_of_a_user_comes_with_the_recorded_account() {
    let recordings = recordings();
    let mut embedded_by_okta = 0;
    for recording in successes(&recordings) {
        let items = recording.body.as_array().cloned().unwrap_or_else(|| vec![recording.body.clone()]);
        match resource_of(recording) {
            Some(Resource::Apps) => {
                for item in &items {
                    let embedded = item.pointer("/_embedded/user");
                    let id = embedded.and_then(|user| user["id"].as_str());
                    embedded_by_okta += usize::from(id.is_some());
                    check_user_app(item, id, embedded, recording);
                }
            }
            Some(Resource::AppUsers(app)) => {
                for item in &items {
                    let around = serde_json::json!({ "id": app.as_str(), "_embedded": { "user": item } });
                    check_user_app(&around, item["id"].as_str(), Some(item), recording);
                    check_user_app(&around, Some("00uSomebodyElse"), None, recording);
                }
            }
            _ => {}
        }
    }
    assert!(recordings.is_empty() || embedded_by_okta > 0, "no app with an embedded app user");
}

/// Decodes an item of the list of a user's apps; `account` is what is embedded of that user.
fn check_user_app(item: &Value, user: Option<&str>, account: Option<&Value>, recording: &Recording) {
    let excerpt = recording.excerpt();
    let resource = Resource::UserApps(UserId::new(user.unwrap_or("00u1")).unwrap());
    let page = decode_page(&resource, &serde_json::to_vec(&[item]).unwrap()).unwrap();
    assert_eq!((page.rows.len(), page.quarantined.len(), page.user_apps.len()), (0, 0, 1), "{excerpt}");
    let seen = &page.user_apps[0];
    assert_eq!(Some(seen.app.as_str()), item["id"].as_str(), "{excerpt}");
    assert_eq!(seen.app_user.is_some(), account.is_some(), "{excerpt}");
    if let (Some(row), Some(account)) = (&seen.app_user, account) {
        assert_eq!(row.app, seen.app, "{excerpt}");
        check_row(&Row::AppUser(row.clone()), account, recording);
    }
}

/// Compares a row with its item, read the plain way.
fn check_row(row: &Row, item: &Value, recording: &Recording) {
    let text = |pointer: &str| item.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
    let date = |pointer: &str| text(pointer).and_then(Timestamp::parse);
    let excerpt = recording.excerpt();
    match row {
        Row::User(user) => {
            assert_eq!((user.id.as_str(), user.status.as_str()), (text("/id").unwrap(), text("/status").unwrap()));
            assert_eq!(user.login.as_deref(), text("/profile/login"), "{excerpt}");
            assert_eq!(user.email.as_deref(), text("/profile/email"), "{excerpt}");
            assert_eq!(user.last_updated, date("/lastUpdated"), "{excerpt}");
            assert!(user.created.is_some(), "{excerpt}");
        }
        Row::Group(group) => {
            assert_eq!((group.id.as_str(), &*group.name), (text("/id").unwrap(), text("/profile/name").unwrap()));
            assert_eq!(group.group_type.as_str(), text("/type").unwrap_or_default(), "{excerpt}");
            assert_eq!(group.last_membership_updated, date("/lastMembershipUpdated"), "{excerpt}");
            if group.group_type.as_str() == "APP_GROUP" && item.pointer("/_links/source").is_some() {
                assert!(group.source_app.is_some(), "{excerpt}");
            }
        }
        Row::GroupMember(member) => assert_eq!(member.user.as_str(), text("/id").unwrap(), "{excerpt}"),
        Row::App(app) => {
            assert_eq!((app.id.as_str(), &*app.name), (text("/id").unwrap(), text("/name").unwrap()), "{excerpt}");
            assert_eq!(
                (Some(&*app.label), app.status.as_str()),
                (text("/label").or(text("/name")), text("/status").unwrap())
            );
            assert_eq!(app.sign_on_mode.as_deref(), text("/signOnMode"), "{excerpt}");
            let features = item["features"].as_array().map_or(0, Vec::len);
            assert_eq!(app.features.len(), features, "{excerpt}");
            assert_eq!(app.user_name_template.as_deref(), text("/credentials/userNameTemplate/template"), "{excerpt}");
            assert_eq!(app.credential_scheme.as_deref(), text("/credentials/scheme"), "{excerpt}");
        }
        Row::AppUser(user) => {
            assert_eq!((user.user.as_str(), user.status.as_str()), (text("/id").unwrap(), text("/status").unwrap()));
            assert_eq!(user.scope.as_str(), text("/scope").unwrap(), "{excerpt}");
            assert_eq!(user.external_id.as_deref(), text("/externalId"), "{excerpt}");
            let user_name = text("/credentials/userName").or_else(|| item["credentials\""]["userName"].as_str());
            assert_eq!(user.user_name.as_deref(), user_name, "{excerpt}");
            assert_eq!(user.via_group.is_some(), text("/_links/group/href").is_some(), "{excerpt}");
        }
        Row::AppGroup(group) => {
            assert_eq!(group.group.as_str(), text("/id").unwrap(), "{excerpt}");
            assert_eq!(group.priority, item["priority"].as_i64(), "{excerpt}");
        }
    }
}

#[test]
fn every_single_object_is_the_one_asked_for() {
    let recordings = recordings();
    for recording in successes(&recordings) {
        let Some(id) = recording.body["id"].as_str() else { continue };
        let app = || AppId::new(&recording.id_after("apps")).unwrap();
        let path = |id: &str| match recording.kind.as_str() {
            "user" => Some(ObjectPath::User(UserId::new(id).unwrap())),
            "group" => Some(ObjectPath::Group(GroupId::new(id).unwrap())),
            "app" => Some(ObjectPath::App(AppId::new(id).unwrap())),
            "app_user" => Some(ObjectPath::AppUser(app(), UserId::new(id).unwrap())),
            "app_group" => Some(ObjectPath::AppGroup(app(), GroupId::new(id).unwrap())),
            _ => None,
        };
        let (Some(own), Some(other)) = (path(id), path("another")) else { continue };
        assert!(decode_object(&own, &recording.body_bytes()).is_ok(), "{}", recording.excerpt());
        assert!(decode_object(&other, &recording.body_bytes()).is_err(), "{}", recording.excerpt());
    }
}

#[test]
fn every_event_is_a_hint() {
    let recordings = recordings();
    let events: Vec<&Value> = recordings
        .iter()
        .filter(|recording| matches!(recording.kind.as_str(), "log_event" | "event_hook_event"))
        .map(|recording| &recording.body)
        .collect();
    let page = decode_log(&serde_json::to_vec(&events).unwrap()).unwrap();
    assert_eq!(page.quarantined, []);
    assert_eq!(page.events.len(), events.len());
    for (event, raw) in page.events.iter().zip(&events) {
        assert_eq!(Some(&*event.event_type), raw["eventType"].as_str());
        // One sample is dated September 31.
        assert_eq!(event.published, raw["published"].as_str().and_then(Timestamp::parse), "{raw}");
        assert_eq!(event.targets.len(), raw["target"].as_array().map_or(0, Vec::len), "{raw}");
        let granted = raw.pointer("/debugContext/debugData/privilegeGranted").and_then(Value::as_str);
        let kept = event.debug_data.iter().find(|(key, _)| *key == "privilegeGranted").map(|(_, value)| &**value);
        assert_eq!(kept, granted, "{raw}");
    }
}

#[test]
fn every_error_is_classified() {
    let recordings = recordings();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for recording in recordings.iter().filter(|recording| recording.file == "errors.jsonl") {
        let url = OrgUrl::parse("https://acme.okta.example").unwrap().join(&recording.path);
        let failure = |on_next_page| {
            let (status, headers) = (recording.status, &recording.headers);
            let failure =
                StatusFailure::new(Endpoint::of(&url), status, headers, &recording.body_bytes(), on_next_page);
            OktaError::Status(Box::new(failure))
        };
        let code = FailureBody::read(None, &recording.body_bytes()).code;
        let kind = failure(false).kind();
        let fits = match (recording.status, code.as_deref()) {
            (404, Some("E0000007")) => kind == FailureKind::NotFound,
            (404, None) => kind == FailureKind::NotFoundPage,
            (404, Some(_)) => matches!(kind, FailureKind::Unavailable | FailureKind::NotFoundPage),
            (400, _) => kind == FailureKind::Rejected { code } && failure(true).kind() == FailureKind::CursorGone,
            (401, Some("E0000015")) => kind == FailureKind::Unavailable,
            (401, _) => kind == FailureKind::Unauthorized,
            (403 | 405, _) => matches!(kind, FailureKind::Forbidden { .. }),
            (429 | 500, _) => kind == FailureKind::Retry,
            _ => false,
        };
        assert!(fits, "{kind:?} of {}", recording.excerpt());
        assert!(failure(false).to_string().contains(&recording.status.to_string()));
        *kinds.entry(format!("{} {kind:?}", recording.status).chars().take(40).collect()).or_default() += 1;
    }
    println!("errors: {kinds:?}");
}

#[test]
fn every_header_is_read() {
    for recording in recordings() {
        let is_next = recording.headers.all("link").any(|line| line.to_ascii_lowercase().contains("rel=\"next\""));
        let next = next_link(recording.headers.all("link")).expect("the header can be read");
        assert_eq!(next.is_some(), is_next, "{}", recording.excerpt());
        // Role lists point to the admin console; in the plain lists the link leads back to the list.
        if let (Some(next), Some(resource)) = (next, resource_of(&recording)) {
            let (origin, _) = next.split_once("/api/").unwrap();
            let org = OrgUrl::parse(origin).unwrap();
            let adopted = NextUrl::adopt(next, &org, &resource.path(), NextRule::SameOrigin).unwrap();
            assert_eq!(adopted.as_str(), next);
            assert!(adopted.limit().is_some(), "{next}");
        }
        let rate = recording.headers.rate();
        if recording.headers.first("x-rate-limit-limit").is_some() {
            assert!(rate.limit.is_some() && rate.remaining.is_some(), "{}", recording.excerpt());
            let date = recording.headers.server_date().unwrap();
            let seconds_to_reset = rate.reset_unix_s.unwrap() - date.as_millis() / 1_000;
            assert!((0..=60).contains(&seconds_to_reset), "{seconds_to_reset} {}", recording.excerpt());
        }
        if recording.headers.first("date").is_some() {
            assert!(recording.headers.server_date().is_some(), "{}", recording.excerpt());
        }
    }
}

#[test]
fn mutated_answers_never_panic() {
    let recordings = recordings();
    // One seed for the whole test: a failure repeats.
    let mut random = fastrand::Rng::with_seed(20_260_802);
    for recording in &recordings {
        let Some(resource) = resource_of(recording) else { continue };
        let mut body = serde_json::to_vec(&[&recording.body]).unwrap();
        for _ in 0..random.usize(1..8) {
            if body.len() < 2 {
                break;
            }
            let at = random.usize(..body.len());
            match random.u8(..4) {
                0 => body[at] = random.u8(..),
                1 => drop(body.remove(at)),
                2 => body.insert(at, *random.choice(b"{}[]\",:\\0e-").unwrap()),
                _ => body.truncate(at.max(1)),
            }
        }
        if let Ok(page) = decode_page(&resource, &body) {
            assert_eq!(page.rows.len() + page.quarantined.len(), page.items);
        }
        let _ = decode_page(&Resource::UserApps(UserId::new("00u1").unwrap()), &body);
        let _ = (decode_log(&body), decode_org_metadata(&body), FailureBody::read(None, &body));
    }
}

#[test]
fn every_orgs_metadata_is_read() {
    for recording in recordings().iter().filter(|recording| recording.kind == "well_known") {
        let Some(id) = recording.body["id"].as_str() else { continue };
        let (read, pipeline) = decode_org_metadata(&recording.body_bytes()).unwrap();
        assert_eq!((&*read, pipeline.as_deref()), (id, recording.body["pipeline"].as_str()));
    }
}
