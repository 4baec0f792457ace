//! `Coverage.ListQuarantined`: records that Okta sent and that could not become rows. Entry point: [`list_quarantined`].
//!
//! Within a collection and an id, records are in an order of their own: reasons are too long for a page token, so that
//! it holds a hash of the last one.

use okta_idmap_proto::limits::TEXT_BYTES_MAX;
use okta_idmap_proto::v1;
use xxhash_rust::xxh3::xxh3_64;

use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::listing::{began, bind, fitting, read_token};
use super::super::page::{PageToken, Paged};
use super::super::rows::timestamp;
use super::super::status::scope_to_proto;
use super::gap_list::named_scope;
use crate::store::QuarantineLine;

/// Records that are read: a hundred collections with as many as are kept of each, and some ten megabytes.
const RECORDS_MAX: usize = 100_000;

/// Place of a record in the list: its collection, its id, the hash of the reason.
type Place = (String, String, u64);

fn place_of(line: &QuarantineLine) -> Place {
    (line.scope.name(), line.item.clone(), xxh3_64(line.reason.as_bytes()))
}

/// Answers the request.
pub(super) fn list_quarantined(
    ask: &Ask<'_>,
    request: &v1::ListQuarantinedRequest,
) -> Result<v1::ListQuarantinedResponse, Failure> {
    let page_size = door::page_size(request.page_size)?;
    let kinds: Vec<v1::ScopeKind> = door::enumeration("scope_kinds", &request.scope_kinds)?;
    let binding = bind(ask, Paged::Quarantined, request);
    let token = read_token(ask, &request.page_token, &binding)?;
    let start = began(ask, token.as_ref());
    let after = token.map(|token| read_place(&token.position)).transpose()?;
    let lines = ask.snapshot.quarantine_lines(RECORDS_MAX)?.into_iter();
    let is_wanted = |line: &QuarantineLine| kinds.is_empty() || kinds.contains(&scope_to_proto(&line.scope).kind());
    let mut wanted: Vec<(Place, QuarantineLine)> =
        lines.filter(is_wanted).map(|line| (place_of(&line), line)).collect();
    wanted.sort_by(|(left, _), (right, _)| left.cmp(right));
    let first = after.map_or(0, |after| wanted.partition_point(|(place, _)| *place <= after));
    let rest = &wanted[first..];
    let page = &rest[..rest.len().min(page_size)];
    let meta = ask.meta(&ask.wide_gaps(Wide::Org)?);
    fitting(page_size, |limit| {
        let shown = &page[..page.len().min(limit)];
        let records = shown.iter().map(|(_, line)| to_proto(ask, line)).collect::<Result<Vec<_>, Failure>>()?;
        let next_page_token = match shown.last() {
            Some((place, _)) if shown.len() < rest.len() => {
                PageToken { start, position: write_place(place) }.encode(&binding)
            }
            _ => String::new(),
        };
        Ok(v1::ListQuarantinedResponse { meta: Some(meta.clone()), next_page_token, records })
    })
}

fn write_place((scope, item, reason): &Place) -> Vec<u8> {
    let mut bytes = reason.to_be_bytes().to_vec();
    // Neither holds a line break: ids have none, and names of collections are made of ids.
    bytes.extend_from_slice(format!("{scope}\n{item}").as_bytes());
    bytes
}

fn read_place(bytes: &[u8]) -> Result<Place, Failure> {
    let malformed = || Failure::PageTokenInvalid { detail: "it is malformed" };
    let (reason, rest) = bytes.split_first_chunk::<8>().ok_or_else(malformed)?;
    let (scope, item) = std::str::from_utf8(rest).ok().and_then(|rest| rest.split_once('\n')).ok_or_else(malformed)?;
    Ok((scope.to_owned(), item.to_owned(), u64::from_be_bytes(*reason)))
}

fn to_proto(ask: &Ask<'_>, line: &QuarantineLine) -> Result<v1::QuarantinedRecord, Failure> {
    let mut reason = line.reason.clone();
    reason.truncate(reason.floor_char_boundary(TEXT_BYTES_MAX));
    Ok(v1::QuarantinedRecord {
        scope: Some(named_scope(ask, &line.scope)?),
        record_id: line.item.clone(),
        reason,
        first_seen_at: Some(timestamp(line.first_seen)),
        last_seen_at: Some(timestamp(line.last_seen)),
        observation_count: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_read_back() {
        let place = ("app_users(0oa1)".to_owned(), String::new(), 7);
        assert_eq!(read_place(&write_place(&place)).unwrap(), place);
        for malformed in [&[0; 3][..], &[0; 8], &[0, 0, 0, 0, 0, 0, 0, 0, 0xff, b'\n']] {
            assert_eq!(read_place(malformed).map_err(|failure| failure.name()), Err("PAGE_TOKEN_INVALID"));
        }
    }
}
