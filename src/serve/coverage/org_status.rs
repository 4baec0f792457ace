//! `Coverage.GetStatus`: what the store and the engine know of an org, put together.
//!
//! Entry point: [`get_status`].

use std::collections::BTreeMap;

use okta_idmap_index::Mark;
use okta_idmap_proto::v1;

use super::super::ask::Ask;
use super::super::control::ReindexState;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::rows::timestamp;
use super::super::status::{CredentialKind, FollowState, IndexState, KindProgress, RuntimeStatus};
use super::gap_list::count_by_kind;
use crate::core::coverage::{GapKind, Reach};
use crate::core::ids::{Revision, Timestamp};
use crate::core::model::{Kind, Scope};
use crate::core::normalize::NORMALIZE_VERSION;
use crate::core::overrides::OverrideSource;
use crate::core::token;
use crate::store::{FORMAT_VERSION, Meta};

/// Stale collections whose rows are counted for the status; those beyond are left out of the count, so that the status of a
/// large org that has become unreadable still comes at once.
const STALE_SCOPES_COUNTED_MAX: usize = 1_000;

/// Kinds in the order of `RowKind`.
const KINDS: [(Kind, v1::RowKind); 6] = [
    (Kind::User, v1::RowKind::User),
    (Kind::Group, v1::RowKind::Group),
    (Kind::App, v1::RowKind::App),
    (Kind::AppUser, v1::RowKind::AppUser),
    (Kind::GroupMember, v1::RowKind::GroupMember),
    (Kind::AppGroup, v1::RowKind::AppGroup),
];

fn duration(millis: i64) -> prost_types::Duration {
    let millis = millis.max(0);
    let nanos = i32::try_from(millis % 1_000).unwrap_or_default() * 1_000_000;
    prost_types::Duration { seconds: millis / 1_000, nanos }
}

/// Answers the request.
pub(in crate::serve) fn get_status(ask: &Ask<'_>, org_names: Vec<String>) -> Result<v1::GetStatusResponse, Failure> {
    let meta = ask.snapshot.meta()?;
    let runtime = ask.view.status().now();
    let gaps = ask.wide_gaps(Wide::Org)?;
    let open = ask.open_gaps();
    let mut known = runtime.clone().unwrap_or_default();
    known.credential = ask.view.status().credential();
    let status = v1::OrgStatus {
        org: ask.view.name().to_owned(),
        domain: known.domain.clone(),
        connector_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: known.started_at.map(timestamp),
        crawl: Some(crawl_status(&meta, &known)),
        log: Some(log_status(ask, &meta, runtime.as_ref(), &open)?),
        credential: Some(credential_status(&meta, &known, &open)),
        store: Some(store_status(ask, &meta, &open)?),
        index: Some(index_status(ask)),
        rate_limits: rate_limits(&known),
    };
    Ok(v1::GetStatusResponse {
        meta: Some(ask.meta(&gaps)),
        status: Some(status),
        open_gaps: count_by_kind(&gaps.to_ids()),
        org_names,
    })
}

fn crawl_status(meta: &Meta, known: &RuntimeStatus) -> v1::CrawlStatus {
    let crawl = &meta.crawl;
    let last_duration = match (crawl.running, crawl.started_at, crawl.completed_at) {
        (false, Some(started_at), Some(completed_at)) => Some(duration(completed_at.millis_since(started_at))),
        // The begin of the one before is not kept.
        _ => None,
    };
    // The store says that a crawl is unfinished; whether it goes on right now, only the engine knows.
    let is_running = known.crawl.is_some();
    v1::CrawlStatus {
        state: if is_running { v1::CrawlState::Running } else { v1::CrawlState::Idle }.into(),
        crawl_id: crawl.id.0,
        started_at: crawl.started_at.map(timestamp),
        completed_at: crawl.completed_at.map(timestamp),
        last_duration,
        progress: known.crawl.iter().flat_map(|crawl| progress(&crawl.kinds)).collect(),
        next_due_at: known.next_crawl_at.map(timestamp),
    }
}

fn progress(kinds: &[KindProgress]) -> Vec<v1::ScopeProgress> {
    let scope_kind = |kind: Kind| match kind {
        Kind::User => v1::ScopeKind::Users,
        Kind::Group => v1::ScopeKind::Groups,
        Kind::App => v1::ScopeKind::Apps,
        Kind::GroupMember => v1::ScopeKind::GroupMembers,
        Kind::AppUser => v1::ScopeKind::AppUsers,
        Kind::AppGroup => v1::ScopeKind::AppGroups,
    };
    let mut shown: Vec<v1::ScopeProgress> = kinds
        .iter()
        .map(|progress| v1::ScopeProgress {
            kind: scope_kind(progress.kind).into(),
            done_scope_count: progress.lists_done,
            total_scope_count: progress.lists_known,
            read_row_count: progress.rows,
            request_count: progress.requests,
        })
        .collect();
    shown.sort_by_key(|progress| progress.kind);
    shown
}

fn log_status(
    ask: &Ask<'_>,
    meta: &Meta,
    runtime: Option<&RuntimeStatus>,
    open: &[(Scope, GapKind)],
) -> Result<v1::LogStatus, Failure> {
    let known = runtime.cloned().unwrap_or_default();
    let is_lost = known.follow.state == FollowState::Lost
        || open.iter().any(|(scope, kind)| *scope == Scope::Log && *kind == GapKind::LogLost);
    let state = match &meta.cursor {
        _ if is_lost => v1::FollowState::Lost,
        None => v1::FollowState::Unanchored,
        Some(_) => v1::FollowState::Following,
    };
    let lag = match (known.log_polled_at, ask.observed_through()) {
        (Some(polled_at), Some(through)) => Some(duration(polled_at.millis_since(through))),
        _ => None,
    };
    // The engine's own count is as of this moment; without one there is what the last left behind.
    let pending_read_count = match runtime {
        Some(runtime) => runtime.follow.pending_reads,
        None => ask.snapshot.pending_count()?,
    };
    let interval_millis = i64::try_from(known.poll_interval_millis).unwrap_or(i64::MAX);
    Ok(v1::LogStatus {
        state: state.into(),
        observed_through: ask.observed_through().map(timestamp),
        lag,
        polled_at: known.log_polled_at.map(timestamp),
        poll_interval: (interval_millis > 0).then(|| duration(interval_millis)),
        pending_read_count,
    })
}

fn credential_status(meta: &Meta, known: &RuntimeStatus, open: &[(Scope, GapKind)]) -> v1::CredentialStatus {
    let used_at: Option<Timestamp> = known.credential_used_at.max(meta.credential_used_at);
    let is_refused = open.iter().any(|(_, kind)| *kind == GapKind::Unauthorized);
    let state = match used_at {
        _ if is_refused => v1::CredentialState::Refused,
        None => v1::CredentialState::Untried,
        Some(_) => v1::CredentialState::Accepted,
    };
    let (kind, lapses_at) = match known.credential {
        CredentialKind::ApiToken => (v1::CredentialKind::ApiToken, used_at.map(token::lapses_at)),
        CredentialKind::OauthServiceApp => (v1::CredentialKind::OauthServiceApp, None),
    };
    v1::CredentialStatus {
        kind: kind.into(),
        state: state.into(),
        used_at: used_at.map(timestamp),
        lapses_at: lapses_at.map(timestamp),
    }
}

fn store_status(ask: &Ask<'_>, meta: &Meta, open: &[(Scope, GapKind)]) -> Result<v1::StoreStatus, Failure> {
    let stale: BTreeMap<&Scope, Reach> =
        open.iter().filter_map(|(scope, _)| ask.stale(scope).map(|reach| (scope, reach))).collect();
    let mut stale_counts = [0_u64; KINDS.len()];
    for (scope, reach) in stale.into_iter().take(STALE_SCOPES_COUNTED_MAX) {
        let Some(index) = KINDS.iter().position(|(kind, _)| scope.kind() == Some(*kind)) else { continue };
        if reach.is_whole {
            stale_counts[index] += ask.snapshot.rows_in(scope)?;
            continue;
        }
        for id in reach.rows.keys() {
            stale_counts[index] += u64::from(ask.snapshot.has_row(scope, id)?);
        }
    }
    let filtered = ask.snapshot.filtered_counts()?;
    let row_counts = KINDS
        .iter()
        .zip(stale_counts)
        .map(|((kind, row_kind), stale_row_count)| v1::RowCount {
            kind: (*row_kind).into(),
            row_count: meta.rows.get(kind).copied().unwrap_or_default(),
            stale_row_count,
            filtered_count: filtered.get(kind).copied().unwrap_or_default(),
        })
        .collect();
    Ok(v1::StoreStatus {
        store_id: meta.store_id.clone(),
        revision: meta.revision.0,
        oldest_change_revision: meta.changes_from.0,
        row_counts,
        quarantined_count: ask.snapshot.quarantined_count()?,
        size_bytes: ask.view.reader().size_bytes(),
        format_version: u32::try_from(FORMAT_VERSION).unwrap_or_default(),
        normalization_version: NORMALIZE_VERSION,
        overrides: Some(override_status(ask)?),
    })
}

fn override_status(ask: &Ask<'_>) -> Result<v1::OverrideStatus, Failure> {
    let in_force = |source| ask.snapshot.overrides_in_force(source, ask.now);
    let (rpc_count, of_call) = in_force(OverrideSource::Call)?;
    let (config_count, of_configuration) = in_force(OverrideSource::Configuration)?;
    Ok(v1::OverrideStatus {
        rpc_count,
        config_count,
        next_expires_at: of_call.into_iter().chain(of_configuration).min().map(timestamp),
        alias_count: u64::try_from(ask.policy().alias_count()).unwrap_or(u64::MAX),
    })
}

/// The index as searches see it, and what becomes of it.
pub(in crate::serve) fn index_status(ask: &Ask<'_>) -> v1::IndexStatus {
    let runtime = ask.view.status().now();
    let is_wanted = ask.view.control().is_some_and(|control| control.reindex().state() != ReindexState::Idle);
    let reader = ask.view.search().get();
    let mark = reader.as_ref().and_then(|reader| reader.mark());
    // It may be at a revision that this snapshot does not have yet.
    let is_ours = |mark: &Mark| ask.era_of(Revision(mark.revision)) == mark.era;
    let mark = mark.filter(|mark| mark.store_id == ask.view.store_id() && is_ours(mark));
    let state = match (runtime.as_ref().map(|runtime| runtime.index.state), &mark) {
        (Some(IndexState::Failed), _) => v1::IndexState::Failed,
        // The status is made once a second; the wish is known at once.
        _ if is_wanted => v1::IndexState::Rebuilding,
        (Some(IndexState::Rebuilding), _) | (_, None) => v1::IndexState::Rebuilding,
        (Some(IndexState::Following) | None, Some(_)) => v1::IndexState::Following,
    };
    // What searches see, where there is an index; what the follower says while they see none.
    let revision = match (&mark, &runtime) {
        (Some(mark), _) => mark.revision,
        (None, Some(runtime)) => runtime.index.revision.0,
        (None, None) => Revision::default().0,
    };
    v1::IndexStatus {
        state: state.into(),
        revision,
        revision_lag: ask.snapshot.revision().0.saturating_sub(revision),
        entry_count: reader.map_or(0, |reader| reader.doc_count()),
        schema_version: okta_idmap_index::SCHEMA_VERSION,
        build_count: ask.view.control().map_or(0, |control| control.reindex().builds()),
    }
}

fn rate_limits(known: &RuntimeStatus) -> Vec<v1::RateLimitBucket> {
    let mut buckets: Vec<v1::RateLimitBucket> = known
        .buckets
        .iter()
        .map(|bucket| v1::RateLimitBucket {
            name: bucket.name.clone(),
            request_limit: bucket.limit,
            remaining_request_count: bucket.remaining,
            resets_at: bucket.reset_at.map(timestamp),
            throttled_until: bucket.throttled_until.map(timestamp),
            refused_request_count: bucket.refused,
            failing_since: bucket.failing_since.map(timestamp),
            outage_count: bucket.outages,
        })
        .collect();
    buckets.sort_by(|a, b| a.name.cmp(&b.name));
    buckets
}
