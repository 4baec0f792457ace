//! `/logs`: polling and bounded requests (facts 8.1).
//!
//! Entry point: [`list`]. A polling cursor is `<epoch ms>_<position>`, a bounded one looks like a UUID.

use super::page::List;
use super::users::read_expression;
use super::{Answer, ApiError, Context};
use crate::expr::{Dialect, Expr, Value};
use crate::http::Params;
use crate::ids::{IdKind, encode};
use crate::json::{Object, array};
use crate::org::log::{Actor, Event, Target};
use crate::time::{UnixMs, iso_ms, parse_iso_ms};

const LOG_LIMIT: usize = 100;
const LOG_LIMIT_MAX: usize = 1_000;
const DAY_MS: UnixMs = 86_400_000;
/// Retention: older events are silently missing (facts 8.1).
const RETENTION_MS: UnixMs = 90 * DAY_MS;
/// `since` further back than this is refused.
const SINCE_AGE_MS_MAX: UnixMs = 180 * DAY_MS;
/// `since` when none is given: this long before `until`.
const SINCE_DEFAULT_MS: UnixMs = 7 * DAY_MS;
/// Keywords of `q` (facts 8.1).
const KEYWORDS_MAX: usize = 10;
const KEYWORD_CHARS_MAX: usize = 40;

fn invalid(cause: &str) -> ApiError {
    ApiError::new(400, "E0000053", "Invalid SCIM filter or log parameter.").cause(cause)
}

fn date(params: &Params<'_>, name: &str) -> Result<Option<UnixMs>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let at = parse_iso_ms(&text);
    at.map(Some).ok_or_else(|| {
        ApiError::new(400, "E0000030", "Invalid date. Dates must be of the form yyyy-MM-dd'T'HH:mm:ss.SSSZZ")
            .cause(name)
    })
}

pub(super) fn list(context: &Context<'_>) -> Result<Answer, ApiError> {
    let params = &context.params;
    let limit = match params.get("limit").as_deref() {
        None => LOG_LIMIT,
        Some(text) => {
            text.parse::<usize>().ok().filter(|limit| *limit <= LOG_LIMIT_MAX).ok_or_else(|| invalid("limit"))?
        }
    };
    if context.effects.fail_above.is_some_and(|bound| limit > bound) {
        return Err(ApiError::new(500, "E0000009", "Internal Server Error"));
    }
    let filter = params.get("filter").map(|text| read_expression(&text, Dialect::Log)).transpose()?;
    let keywords: Vec<String> =
        params.get("q").map(|text| text.split_whitespace().map(str::to_lowercase).collect()).unwrap_or_default();
    if keywords.len() > KEYWORDS_MAX || keywords.iter().any(|word| word.chars().count() > KEYWORD_CHARS_MAX) {
        return Err(invalid("q"));
    }
    let (since, until) = (date(params, "since")?, date(params, "until")?);
    if since.is_some_and(|since| context.now_ms - since > SINCE_AGE_MS_MAX) {
        return Err(invalid("since: older than 180 days"));
    }
    let descending = params.get("sortOrder").is_some_and(|order| order.eq_ignore_ascii_case("DESCENDING"));
    let select = |event: &Event| {
        let kept = event.published_ms >= context.now_ms - RETENTION_MS;
        let filtered =
            filter.as_ref().is_none_or(|filter: &Expr| filter.matches(false, &|name| log_value(event, name)));
        kept && filtered && (keywords.is_empty() || has_keywords(&render(context, event), &keywords))
    };
    if until.is_some() || descending {
        return bounded(context, limit, since, until.unwrap_or(context.now_ms), descending, &select);
    }
    polling(context, limit, since, &select)
}

fn has_keywords(json: &str, keywords: &[String]) -> bool {
    let json = json.to_lowercase();
    keywords.iter().all(|word| json.contains(word.as_str()))
}

/// Persistence order from a position on; always a next link, the same one as long as nothing new is there.
fn polling(
    context: &Context<'_>,
    limit: usize,
    since: Option<UnixMs>,
    select: &dyn Fn(&Event) -> bool,
) -> Result<Answer, ApiError> {
    let log = &context.org.log;
    let start = match context.params.get("after") {
        Some(_) if context.params.has("since") => return Err(invalid("since and after are mutually exclusive")),
        Some(cursor) => {
            let position = cursor.split_once('_').and_then(|(_, position)| position.parse::<u64>().ok());
            position.filter(|position| log.accepts(*position)).ok_or_else(|| invalid("after: invalid cursor"))?
        }
        None => log.position_since(since.unwrap_or(context.now_ms - SINCE_DEFAULT_MS)),
    };
    let mut list = List::first_page(Vec::new(), limit);
    let mut position = start;
    for (at, entry) in log.after(start) {
        if list.items.len() == limit {
            break;
        }
        if select(&entry.event) {
            list.items.push(render(context, &entry.event));
        }
        position = at + 1;
    }
    // Nothing for this reader: the cursor stays, even if events that its filter leaves out went by (facts 8.1).
    if list.items.is_empty() {
        position = start;
    }
    // The first part only has to look like a time; it must not change while the position does not.
    let label = if context.quirks.log_next_rewritten { context.now_ms } else { crate::org::START_MS };
    list.next_cursor = Some(format!("{label}_{position}"));
    list.next_drops = &["since"];
    Ok(Answer::List(list))
}

/// Order of `published` within an interval; the last page has no next link.
fn bounded(
    context: &Context<'_>,
    limit: usize,
    since: Option<UnixMs>,
    until: UnixMs,
    descending: bool,
    select: &dyn Fn(&Event) -> bool,
) -> Result<Answer, ApiError> {
    let since = since.unwrap_or(until - SINCE_DEFAULT_MS);
    let mut found: Vec<(UnixMs, u64, &Event)> = context
        .org
        .log
        .after(0)
        .map(|(position, entry)| (entry.event.published_ms, position, &*entry.event))
        .filter(|(published, _, event)| *published >= since && *published < until && select(event))
        .collect();
    found.sort_unstable_by_key(|(published, position, _)| (*published, *position));
    if descending {
        found.reverse();
    }
    let mut skip = 0;
    if let Some(cursor) = context.params.get("after") {
        let last = read_bounded_cursor(&cursor).ok_or_else(|| invalid("after: invalid cursor"))?;
        let passed = |key: (UnixMs, u64)| if descending { key >= last } else { key <= last };
        skip = found.iter().take_while(|(published, position, _)| passed((*published, *position))).count();
    }
    let mut list = List::first_page(Vec::new(), limit);
    list.items.extend(found.iter().skip(skip).take(limit).map(|(_, _, event)| render(context, event)));
    if limit > 0 && skip + limit < found.len() {
        let (published, position, _) = found[skip + limit - 1];
        list.next_cursor = Some(write_bounded_cursor(published, position));
    }
    Ok(Answer::List(list))
}

fn write_bounded_cursor(published: UnixMs, position: u64) -> String {
    let (high, low) = ((published >> 16) & 0xFFFF_FFFF, published & 0xFFFF);
    let (first, rest) = ((position >> 48) & 0xFFFF, position & 0xFFFF_FFFF_FFFF);
    format!("{high:08x}-{low:04x}-4000-{first:04x}-{rest:012x}")
}

fn read_bounded_cursor(text: &str) -> Option<(UnixMs, u64)> {
    let parts: Vec<&str> = text.split('-').collect();
    let [high, low, "4000", first, rest] = parts.as_slice() else { return None };
    let number =
        |part: &str, digits: usize| (part.len() == digits).then(|| u64::from_str_radix(part, 16).ok()).flatten();
    let published = i64::try_from((number(high, 8)? << 16) | number(low, 4)?).ok()?;
    Some((published, (number(first, 4)? << 48) | number(rest, 12)?))
}

fn log_value<'a>(event: &'a Event, name: &str) -> Option<Value<'a>> {
    let of_targets = |value: &dyn Fn(&Target) -> String| Some(Value::Many(event.targets.iter().map(value).collect()));
    match name {
        "uuid" => Some(Value::Text(event.uuid().into())),
        "eventType" => Some(Value::text(&event.event_type)),
        "outcome.result" => Some(Value::text(if event.succeeded { "SUCCESS" } else { "FAILURE" })),
        "severity" => Some(Value::text("INFO")),
        "actor.id" => Some(Value::Text(actor_id(event).into())),
        "actor.type" => Some(Value::text(if event.actor == Actor::System { "SystemPrincipal" } else { "User" })),
        "target.id" => of_targets(&|target| target.id.clone()),
        "target.type" => of_targets(&|target| target.kind.to_owned()),
        "target.alternateId" => of_targets(&|target| target.alternate_id.to_string()),
        "target.displayName" => of_targets(&|target| target.display_name.to_string()),
        "transaction.type" => Some(Value::text(if event.actor == Actor::System { "JOB" } else { "WEB" })),
        "transaction.id" => Some(Value::Text(transaction_id(event).into())),
        _ => {
            let key = name.strip_prefix("debugContext.debugData.")?;
            event.debug.iter().find(|(known, _)| *known == key).map(|(_, value)| Value::text(value))
        }
    }
}

fn actor_id(event: &Event) -> String {
    match event.actor {
        Actor::Administrator => encode(IdKind::User, 0),
        Actor::System => "sprAcmeSystem0000001".to_owned(),
    }
}

fn transaction_id(event: &Event) -> String {
    let prefix = if event.actor == Actor::System { "cmg" } else { "W" };
    format!("{prefix}AcmeSim{:012}", event.transaction)
}

fn render_target(target: &Target) -> String {
    let mut object = Object::new()
        .text("id", &target.id)
        .text("type", target.kind)
        .text("alternateId", &target.alternate_id)
        .text("displayName", &target.display_name)
        .raw("detailEntry", "null");
    if let Some((from, to)) = &target.change {
        let details = Object::new()
            .object("from", Object::new().text("label", from))
            .object("to", Object::new().text("label", to));
        object = object.object("changeDetails", details);
    }
    object.end()
}

fn render(context: &Context<'_>, event: &Event) -> String {
    let quirks = context.quirks;
    let is_job = event.actor == Actor::System;
    let mut targets: Vec<String> = event.targets.iter().map(render_target).collect();
    if quirks.targets_shuffled {
        targets.reverse();
        targets.extend(event.targets.iter().filter(|target| target.kind == "User").map(render_target));
    }
    let mut actor =
        Object::new().text("id", &actor_id(event)).text("type", if is_job { "SystemPrincipal" } else { "User" });
    actor = if is_job {
        actor.text("alternateId", "system@okta.com").text("displayName", "Okta System")
    } else {
        actor.text("alternateId", "jo.admin@acme.example").text("displayName", "Jo Admin")
    };
    let actor = actor.raw("detailEntry", "null").end();
    let result = match (event.succeeded && !quirks.outcomes_failed, quirks.log_shapes_odd) {
        (true, false) => "SUCCESS",
        (true, true) => "Success",
        (false, _) => "FAILURE",
    };
    let mut object = Object::new()
        .text("uuid", &event.uuid())
        .text("published", &iso_ms(event.published_ms))
        .text("eventType", &event.event_type)
        .raw("version", if quirks.log_shapes_odd { "0" } else { "\"0\"" })
        .text("severity", "INFO")
        .text_or_null("legacyEventType", None)
        .text("displayMessage", &event.event_type)
        .raw("actor", if quirks.targets_null { "null" } else { &actor })
        .raw("client", "null")
        .object("outcome", Object::new().text("result", result).text_or_null("reason", None))
        .raw("target", &if quirks.targets_null { "null".to_owned() } else { array(targets) });
    if quirks.log_shapes_odd {
        return object.raw("transaction", "{}").object("debugContext", Object::new().text("debugData", "")).end();
    }
    let detail =
        if is_job { Object::new() } else { Object::new().text("requestApiTokenId", &encode(IdKind::Token, 0)) };
    let kind = if is_job { "JOB" } else { "WEB" };
    let transaction = Object::new().text("id", &transaction_id(event)).text("type", kind).object("detail", detail);
    let debug = event.debug.iter().fold(Object::new(), |data, (key, value)| data.text(key, value));
    object = object.object("transaction", transaction);
    object.object("debugContext", Object::new().object("debugData", debug)).end()
}
