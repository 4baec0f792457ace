//! Bodies of Okta's answers.

use okta_idmap::core::ids::{AppId, GroupId, OKTA_ID_BYTES_MAX, Timestamp, UserId};
use okta_idmap::core::model::{Quarantined, Row};
use okta_idmap::okta::wire::{
    ATTRIBUTE_BYTES_MAX, BodyError, DEBUG_KEYS_KEPT, PAGE_ITEMS_MAX, TARGETS_MAX, decode_api_tokens, decode_log,
    decode_object, decode_org_metadata, decode_owner, decode_page, decode_roles,
};
use okta_idmap::okta::{ObjectPath, Resource};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use crate::runner::{Target, check_message, run};

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"id\":",
    "\"00u1\"",
    "\"id\":\"00u1\",",
    "\"status\":",
    "\"ACTIVE\"",
    "\"profile\":{",
    "\"login\":",
    "\"_embedded\":{",
    "\"_links\":{",
    "\"credentials\":{",
    "\"scope\":\"GROUP\"",
    "\"externalId\":",
    "\"priority\":",
    "\"uuid\":",
    "\"target\":[",
    "\"debugContext\":{\"debugData\":{",
    "\"published\":\"2026-08-02T09:00:03.511Z\"",
    "\"CANARY\"",
    "[[[[",
    "{\"a\":",
];

/// Longest reason of a quarantined record: a field's name and what is wrong with it.
const REASON_CHARS_MAX: usize = 200;

fn user() -> UserId {
    UserId::new("00u1").unwrap()
}

fn group() -> GroupId {
    GroupId::new("00g1").unwrap()
}

fn app() -> AppId {
    AppId::new("0oa1").unwrap()
}

fn check_id(id: &str) -> Result<(), TestCaseError> {
    let is_good =
        (1..=OKTA_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    prop_assert!(is_good, "an id {id:?}");
    Ok(())
}

fn check_texts<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> Result<(), TestCaseError> {
    for text in texts.into_iter().flatten() {
        prop_assert!(!text.is_empty() && text.len() <= ATTRIBUTE_BYTES_MAX, "a text of {} bytes", text.len());
    }
    Ok(())
}

/// What every row holds to, whatever it was made of.
fn check_row(row: &Row) -> Result<(), TestCaseError> {
    match row {
        Row::User(row) => {
            check_id(row.id.as_str())?;
            let texts = [&row.login, &row.email, &row.second_email, &row.first_name, &row.last_name, &row.display_name];
            check_texts(texts.map(Option::as_deref))?;
            check_texts([Some(row.status.as_str())])
        }
        Row::Group(row) => {
            check_id(row.id.as_str())?;
            check_texts([Some(&*row.name), row.description.as_deref()])?;
            // A group without a type is kept.
            check_texts([Some(row.group_type.as_str()).filter(|kind| !kind.is_empty())])
        }
        Row::GroupMember(row) => {
            check_id(row.user.as_str())?;
            prop_assert_eq!(&row.group, &group());
            Ok(())
        }
        Row::App(row) => {
            check_id(row.id.as_str())?;
            check_texts([Some(&*row.name), Some(&*row.label), Some(row.status.as_str())])?;
            let texts = [
                &row.sign_on_mode,
                &row.credential_scheme,
                &row.shared_user_name,
                &row.user_name_template,
                &row.oauth_application_type,
            ];
            check_texts(texts.map(Option::as_deref))?;
            check_texts(row.features.iter().map(|feature| Some(&**feature)))
        }
        Row::AppUser(row) => {
            check_id(row.user.as_str())?;
            prop_assert_eq!(&row.app, &app());
            check_texts([&row.user_name, &row.external_id, &row.email, &row.sync_state].map(Option::as_deref))?;
            check_texts([Some(row.status.as_str())])?;
            row.via_group.iter().try_for_each(|group| check_id(group.as_str()))
        }
        Row::AppGroup(row) => {
            check_id(row.group.as_str())?;
            prop_assert_eq!(&row.app, &app());
            Ok(())
        }
    }
}

/// Quarantined records are told by place and reason, and never by their values.
fn check_quarantined(records: &[Quarantined]) -> Result<(), TestCaseError> {
    for record in records {
        check_message(&record.reason, REASON_CHARS_MAX)?;
        prop_assert!(!record.reason.contains("CANARY"), "a value is shown: {}", record.reason);
        record.id.iter().try_for_each(|id| check_message(id, OKTA_ID_BYTES_MAX))?;
    }
    Ok(())
}

/// A list is read whole or not at all: cut off anywhere it is none, and JSON that is a list is one.
fn check_list<T>(
    body: &[u8],
    items: Result<usize, &BodyError>,
    again: impl Fn(&[u8]) -> Result<T, BodyError>,
) -> Result<(), TestCaseError> {
    let parsed: Option<Vec<serde_json::Value>> = serde_json::from_slice(body).ok();
    match (items, parsed) {
        (Ok(items), parsed) => {
            prop_assert!(items <= PAGE_ITEMS_MAX);
            prop_assert!(parsed.is_none_or(|parsed| parsed.len() == items), "items are lost");
            let whole = body.trim_ascii_end();
            for cut in [whole.len() - 1, whole.len() / 2, 1] {
                prop_assert!(again(&whole[..cut.min(whole.len() - 1)]).is_err(), "cut off at {cut} it is still a list");
            }
        }
        (Err(BodyError::TooManyItems), Some(parsed)) => prop_assert!(parsed.len() > PAGE_ITEMS_MAX),
        (Err(error), parsed) => {
            check_message(&error.to_string(), REASON_CHARS_MAX)?;
            prop_assert!(parsed.is_none(), "a list is refused: {error}");
        }
    }
    Ok(())
}

#[test]
fn fuzz_pages() {
    let resources = [
        Resource::Users,
        Resource::Groups,
        Resource::GroupMembers(group()),
        Resource::Apps,
        Resource::AppUsers(app()),
        Resource::AppGroups(app()),
        Resource::UserApps(user()),
    ];
    run(&Target { name: "wire_page", words: WORDS, cost: 2 }, |body| {
        let mut has_rows = false;
        for resource in &resources {
            let page = decode_page(resource, body);
            check_list(body, page.as_ref().map(|page| page.items), |body| decode_page(resource, body))?;
            let Ok(page) = page else { continue };
            prop_assert!(page.rows.len() + page.user_apps.len() <= page.items, "rows out of nothing");
            let told = page.rows.len() + page.user_apps.len() + page.quarantined.len();
            prop_assert!(told >= page.items, "a record is lost without a word");
            page.rows.iter().try_for_each(check_row)?;
            check_quarantined(&page.quarantined)?;
            for seen in &page.user_apps {
                check_id(seen.app.as_str())?;
                if let Some(app_user) = &seen.app_user {
                    prop_assert_eq!((&app_user.app, &app_user.user), (&seen.app, &user()));
                }
            }
            prop_assert!(page.group_stats.len() <= page.rows.len());
            has_rows |= !page.rows.is_empty();
            prop_assert_eq!(decode_page(resource, body), Ok(page), "the same again");
        }
        Ok(has_rows)
    });
}

#[test]
fn fuzz_objects() {
    let paths = [
        ObjectPath::User(user()),
        ObjectPath::Group(group()),
        ObjectPath::App(app()),
        ObjectPath::AppUser(app(), user()),
        ObjectPath::AppGroup(app(), group()),
    ];
    run(&Target { name: "wire_object", words: WORDS, cost: 1 }, |body| {
        let mut is_row = false;
        for path in &paths {
            match decode_object(path, body) {
                Ok(row) => {
                    check_row(&row)?;
                    let id = match &row {
                        Row::User(row) => row.id.as_str(),
                        Row::Group(row) => row.id.as_str(),
                        Row::App(row) => row.id.as_str(),
                        Row::AppUser(row) => row.user.as_str(),
                        Row::AppGroup(row) => row.group.as_str(),
                        Row::GroupMember(_) => "",
                    };
                    prop_assert!(["00u1", "00g1", "0oa1"].contains(&id), "the answer about {id} is taken for {path:?}");
                    is_row = true;
                }
                Err(error) => {
                    check_message(&error.to_string(), REASON_CHARS_MAX)?;
                    prop_assert!(!error.to_string().contains("CANARY"), "{error}");
                }
            }
        }
        Ok(is_row)
    });
}

#[test]
fn fuzz_log() {
    run(&Target { name: "wire_log", words: WORDS, cost: 1 }, |body| {
        let page = decode_log(body);
        check_list(body, page.as_ref().map(|page| page.items), decode_log)?;
        let Ok(page) = page else { return Ok(false) };
        prop_assert_eq!(page.events.len() + page.quarantined.len(), page.items);
        check_quarantined(&page.quarantined)?;
        for event in &page.events {
            prop_assert!(!event.uuid.is_empty() && !event.event_type.is_empty());
            prop_assert!(event.targets.len() <= TARGETS_MAX);
            prop_assert!(event.debug_data.iter().all(|(key, _)| DEBUG_KEYS_KEPT.contains(key)));
            let words = event.targets.iter().flat_map(|target| [&target.target_type, &target.id]);
            prop_assert!(words.into_iter().all(|word| !word.is_empty() && word.len() <= 256));
        }
        Ok(!page.events.is_empty())
    });
}

#[test]
fn fuzz_owner() {
    run(&Target { name: "wire_owner", words: WORDS, cost: 1 }, |body| {
        let (owner, metadata) = (decode_owner(body), decode_org_metadata(body));
        if let Ok(id) = &owner {
            check_id(id.as_str())?;
        }
        if let Ok((id, pipeline)) = &metadata {
            check_id(id)?;
            check_texts([pipeline.as_deref()])?;
        }
        let (roles, tokens) = (decode_roles(body), decode_api_tokens(body));
        for role in roles.iter().flatten() {
            check_message(&role.kind, 256)?;
        }
        prop_assert!(roles.as_ref().map_or(0, Vec::len) <= PAGE_ITEMS_MAX);
        let errors = [owner.as_ref().err(), metadata.as_ref().err(), roles.as_ref().err(), tokens.as_ref().err()];
        for error in errors.into_iter().flatten() {
            check_message(&error.to_string(), REASON_CHARS_MAX)?;
        }
        Ok(owner.is_ok() || roles.is_ok_and(|roles| !roles.is_empty()))
    });
}

#[test]
fn fuzz_times() {
    run(
        &Target {
            name: "times",
            words: &["2026-08-02", "T09:00:03", ".511", "Z", "+01:00", "-99:99", "0000", "60"],
            cost: 1,
        },
        |input| {
            let text = String::from_utf8_lossy(input);
            let Some(time) = Timestamp::parse(&text) else { return Ok(false) };
            let written = time.to_iso();
            prop_assert_eq!(Timestamp::parse(&written), Some(time), "{} is not read back", written);
            prop_assert!(time.plus_millis(i64::MAX) >= time && time.plus_millis(i64::MIN) <= time);
            Ok(true)
        },
    );
}
