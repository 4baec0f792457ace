//! The service `Search`: the index finds, the store shows.
//!
//! Entry points: [`SearchService`]; [`user_key`], [`group_key`], [`app_key`] and [`mapping_key`] are the keys under which
//! documents must stand in the index.
//!
//! Invariants:
//! - A hit is read from the store when it is answered: a lagging index can miss, never resurrect.
//! - A page shows a row once, whatever the index holds.
//! - An index of another store, or of one that went another way from a backup on, is no index.
//! - Searches run on blocking threads, a few at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use okta_idmap_index as index;
use okta_idmap_index::DocKind;
use okta_idmap_proto::limits::{SEARCH_HITS_MAX, SEARCH_QUERY_BYTES_MAX, SUGGEST_PREFIX_BYTES_MAX, SUGGESTIONS_MAX};
use okta_idmap_proto::v1::{self, search_server::Search};
use tonic::{Request, Response, Status, async_trait};

use super::ask::{Answered, Ask, Call};
use super::door;
use super::errors::{Failure, of_search};
use super::gaps::{Gaps, Wide};
use super::listing::{began, bind, fitting, read_token};
use super::page::{PageToken, Paged};
use super::patience::{self, Patience};
use super::requests::Asked;
use super::rows::{Shower, user_ref};
use super::withhold::Withholds as _;
use super::{CallLog, Services, mapped};
use crate::core::ids::{AppId, GroupId, Revision, UserId};
use crate::core::model::{App, Scope};

const _: () = assert!(SEARCH_HITS_MAX == index::HITS_MAX && SUGGESTIONS_MAX == index::SUGGESTIONS_MAX);
const _: () = assert!(SEARCH_QUERY_BYTES_MAX == index::QUERY_BYTES_MAX);

/// Key of a user's document.
pub fn user_key(user: &UserId) -> String {
    format!("user/{user}")
}

/// Key of a group's document.
pub fn group_key(group: &GroupId) -> String {
    format!("group/{group}")
}

/// Key of an app's document.
pub fn app_key(app: &AppId) -> String {
    format!("app/{app}")
}

/// Key of the document of an account.
pub fn mapping_key(app: &AppId, user: &UserId) -> String {
    format!("mapping/{app}/{user}")
}

/// What a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    User(UserId),
    Group(GroupId),
    App(AppId),
    Mapping(AppId, UserId),
}

impl Named {
    /// `None` for a key that this version does not write: a foreign document is no hit.
    fn parse(key: &str) -> Option<Self> {
        let (kind, id) = key.split_once('/')?;
        match kind {
            "user" => UserId::new(id).ok().map(Self::User),
            "group" => GroupId::new(id).ok().map(Self::Group),
            "app" => AppId::new(id).ok().map(Self::App),
            "mapping" => {
                let (app, user) = id.split_once('/')?;
                Some(Self::Mapping(AppId::new(app).ok()?, UserId::new(user).ok()?))
            }
            _ => None,
        }
    }
}

/// The service `Search`.
#[derive(Clone, Debug)]
pub struct SearchService(pub(super) Services);

/// A search that has passed the door.
struct SearchQuery {
    page_size: usize,
    /// Exclusions of the kinds that are not wanted, in front of what the caller wrote: excluding is the one filter that a
    /// `kind:` of the caller cannot widen.
    prefix: String,
    kinds: Vec<v1::RowKind>,
    facets: Vec<v1::FacetField>,
}

impl SearchQuery {
    fn read(request: &v1::SearchRequest) -> Result<Self, Failure> {
        let page_size = door::search_page_size(request.page_size)?;
        let query = request.query.as_str();
        if query.is_empty() {
            return Err(Failure::FieldMissing { field: "query" });
        }
        if query.len() > SEARCH_QUERY_BYTES_MAX {
            let detail = format!("{} bytes, at most {SEARCH_QUERY_BYTES_MAX} are allowed", query.len());
            return Err(Failure::FieldInvalid { field: "query", detail });
        }
        let kinds: Vec<v1::RowKind> = door::enumeration("kinds", &request.kinds)?;
        let mut wanted = Vec::new();
        for kind in &kinds {
            wanted.push(doc_kind(*kind).ok_or_else(|| {
                let detail = format!("{} is not searchable", kind.as_str_name());
                Failure::FieldInvalid { field: "kinds", detail }
            })?);
        }
        let facets: Vec<v1::FacetField> = door::enumeration("facet_fields", &request.facet_fields)?;
        if facets.iter().enumerate().any(|(index, field)| facets[..index].contains(field)) {
            let detail = "a field is named twice".to_owned();
            return Err(Failure::FieldInvalid { field: "facet_fields", detail });
        }
        let is_unwanted = |kind: &DocKind| !wanted.is_empty() && !wanted.contains(kind);
        let prefix = DocKind::ALL.into_iter().filter(is_unwanted).map(|kind| format!("-kind:{kind} ")).collect();
        Ok(Self { page_size, prefix, kinds, facets })
    }

    /// The gaps that could hide a hit: users carry the names of their accounts, too.
    fn gaps(&self, ask: &Ask<'_>) -> Result<Gaps, Failure> {
        use v1::RowKind::{App, AppUser, Group, User};
        let wants = |kind: v1::RowKind| self.kinds.is_empty() || self.kinds.contains(&kind);
        let mut gaps = Gaps::default();
        if wants(Group) {
            gaps.merge(ask.gaps(&[Scope::Groups]));
        }
        if wants(App) {
            gaps.merge(ask.gaps(&[Scope::Apps]));
        }
        if wants(User) || wants(AppUser) {
            gaps.merge(ask.wide_gaps(Wide::Accounts)?);
        }
        Ok(gaps)
    }
}

fn doc_kind(kind: v1::RowKind) -> Option<DocKind> {
    match kind {
        v1::RowKind::User => Some(DocKind::User),
        v1::RowKind::Group => Some(DocKind::Group),
        v1::RowKind::App => Some(DocKind::App),
        v1::RowKind::AppUser => Some(DocKind::Mapping),
        v1::RowKind::GroupMember | v1::RowKind::AppGroup | v1::RowKind::Override | v1::RowKind::Unspecified => None,
    }
}

/// The index, if it shows what the store was and has reached what the caller demands.
fn usable_index(call: &Call) -> Result<(index::Reader, Revision), Failure> {
    let reader = call.view().search().get().ok_or(Failure::IndexRebuilding)?;
    let mark = reader.mark().ok_or(Failure::IndexRebuilding)?;
    let revision = Revision(mark.revision);
    // After the mark: the store is never behind its index.
    let is_of_past = |ask: &Ask<'_>| Ok(ask.snapshot.has_been_at(revision, &mark.era));
    if mark.store_id != call.view().store_id() || !call.point(is_of_past)? {
        return Err(Failure::IndexRebuilding);
    }
    if revision.0 < call.at_least_revision() {
        let asked = call.at_least_revision();
        return Err(Failure::RevisionNotReached { what: "index", asked, revision });
    }
    Ok((reader, revision))
}

/// Runs a search on a blocking thread.
async fn blocking<T: Send + 'static>(
    call: &Call,
    work: impl FnOnce(&Call) -> Result<Answered<T>, Failure> + Send + 'static,
) -> Result<Answered<T>, Failure> {
    let place = call.view().place_in_queue()?;
    let permit = Arc::clone(call.view().searches()).acquire_owned().await.map_err(|_| Failure::NotServing(None))?;
    let call_there = call.clone();
    let work = move || {
        let _places = (place, permit);
        work(&call_there)
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Failure::NotServing(None))?
}

impl Services {
    /// Answers from the index.
    async fn search_index<Q: Asked + Send + Sync + 'static, R: Send + 'static>(
        &self,
        rpc: &'static str,
        request: Request<Q>,
        run: fn(&Call, &Q) -> Result<Answered<R>, Failure>,
    ) -> Result<Response<R>, Status> {
        let log = CallLog::start(rpc, &request);
        let mut patience = Patience::until(patience::until(request.metadata(), log.started));
        let request = Arc::new(request.into_inner());
        let mut call = match Call::begin(self, request.context()) {
            Ok(call) => call,
            Err(failure) => return log.refuse(&failure),
        };
        let answered = loop {
            let request = Arc::clone(&request);
            call.looks();
            let answered = blocking(&call, move |call| run(call, &request)).await.unwrap_or_else(Answered::refused);
            mapped::has_searched(self.orgs());
            if let Some(answered) = patience.take(self, &mut call, answered).await {
                break answered;
            }
        };
        log.finish(&call, answered)
    }
}

fn run_search(call: &Call, request: &v1::SearchRequest) -> Result<Answered<v1::SearchResponse>, Failure> {
    let query = SearchQuery::read(request)?;
    // The token is read in a snapshot of its own: the index is searched before the hits are read.
    let token = call.point(|ask| read_token(ask, &request.page_token, &bind(ask, Paged::Search, request)))?;
    let (reader, index_revision) = usable_index(call)?;
    let offset = match &token {
        Some(token) => usize::try_from(token.number()?).unwrap_or(usize::MAX),
        None => 0,
    };
    let limit = query.page_size.min(SEARCH_HITS_MAX.saturating_sub(offset));
    if limit == 0 {
        let detail = format!("a search shows the first {SEARCH_HITS_MAX} hits only");
        return Err(Failure::FieldInvalid { field: "page_token", detail });
    }
    let text = format!("{}{}", query.prefix, request.query);
    let steps = index::SEARCH_STEPS_MAX;
    let wanted = index::Query { text, offset, limit, facets: !query.facets.is_empty(), steps };
    let results = reader.search(&wanted).map_err(|error| of_search(error, query.prefix.len()))?;
    Ok(call.point_then(|ask| {
        let start = began(ask, token.as_ref());
        let total = usize::try_from(results.total).unwrap_or(usize::MAX);
        let gaps = query.gaps(ask)?;
        let facets = facets(ask, &query.facets, results.facets.as_ref())?;
        fitting(limit, |limit| {
            let end = offset + limit.min(results.hits.len());
            let has_more = end < total.min(SEARCH_HITS_MAX) && end > offset;
            let next_page_token = if has_more {
                let position = i64::try_from(end).unwrap_or(i64::MAX).to_be_bytes().to_vec();
                PageToken { start, position }.encode(&bind(ask, Paged::Search, request))
            } else {
                String::new()
            };
            let (hits, gaps) = hydrate(ask, &results.hits[..end - offset], gaps.clone())?;
            Ok(v1::SearchResponse {
                meta: Some(ask.meta(&gaps)),
                next_page_token,
                hits,
                total_count: results.total,
                facets: facets.clone(),
                index_revision: index_revision.0,
                is_lower_bound: results.extent == index::Extent::Part,
            })
        })
    }))
}

/// Reads the hits from the store; those that are gone are dropped, and so is the lower of two of one key.
fn hydrate(ask: &Ask<'_>, hits: &[index::Hit], mut gaps: Gaps) -> Result<(Vec<v1::SearchHit>, Gaps), Failure> {
    use v1::search_hit::Row;
    let shower = Shower::new(ask);
    let mut shown = Vec::with_capacity(hits.len());
    let mut seen = HashSet::new();
    // An index that should hold a key twice, of an old state and a new one, must not make two people of one.
    for hit in hits.iter().filter(|hit| seen.insert(hit.key.as_str())) {
        let row = match Named::parse(&hit.key) {
            Some(Named::User(id)) if ask.withholds_user(&id) => None,
            Some(Named::Group(id)) if ask.withholds_group(&id) => None,
            Some(Named::App(id)) if ask.withholds_app(&id) => None,
            Some(Named::Mapping(app_id, user_id)) if ask.withholds_account(&app_id, &user_id) => None,
            Some(Named::User(id)) => ask.snapshot.user(&id)?.map(|user| Row::User(shower.user(&user))),
            Some(Named::Group(id)) => ask.snapshot.group(&id)?.map(|group| Row::Group(shower.group(&group))),
            Some(Named::App(id)) => ask.snapshot.app(&id)?.map(|app| Row::App(shower.app(&app))),
            Some(Named::Mapping(app_id, user_id)) => match ask.snapshot.app_user(&app_id, &user_id)? {
                Some(row) => {
                    let (app, user) = (ask.snapshot.app(&app_id)?, ask.snapshot.user(&user_id)?);
                    if user.is_none() {
                        gaps.add_unseen_user(&user_id);
                    }
                    Some(Row::Account(shower.account(app.as_ref(), user.as_ref(), &row)))
                }
                None => None,
            },
            None => None,
        };
        shown.extend(row.map(|row| v1::SearchHit { score: hit.score, row: Some(row) }));
    }
    Ok((shown, gaps))
}

fn facets(
    ask: &Ask<'_>,
    fields: &[v1::FacetField],
    counted: Option<&index::Facets>,
) -> Result<Vec<v1::Facet>, Failure> {
    let Some(counted) = counted else { return Ok(Vec::new()) };
    let apps: HashMap<&str, &App> = ask.apps()?.iter().map(|app| (app.id.as_str(), app)).collect();
    let same =
        |value: &str, hit_count: u64| v1::FacetCount { value: value.to_owned(), label: value.to_owned(), hit_count };
    let labelled = |id: &str, hit_count: u64| v1::FacetCount {
        value: id.to_owned(),
        label: apps.get(id).map_or_else(|| id.to_owned(), |app| app.label.to_string()),
        hit_count,
    };
    let facet = |field: &v1::FacetField| {
        let counts = match field {
            v1::FacetField::Kind => counted.kinds.iter().map(|(kind, count)| same(kind.name(), *count)).collect(),
            v1::FacetField::Status => counted.statuses.iter().map(|(status, count)| same(status, *count)).collect(),
            v1::FacetField::App => counted.apps.iter().map(|(id, count)| labelled(id, *count)).collect(),
            v1::FacetField::Unspecified => Vec::new(),
        };
        v1::Facet { field: (*field).into(), counts }
    };
    Ok(fields.iter().map(facet).collect())
}

fn run_suggest(call: &Call, request: &v1::SuggestRequest) -> Result<Answered<v1::SuggestResponse>, Failure> {
    if request.prefix.is_empty() {
        return Err(Failure::FieldMissing { field: "prefix" });
    }
    if request.prefix.len() > SUGGEST_PREFIX_BYTES_MAX {
        let detail = format!("{} bytes, at most {SUGGEST_PREFIX_BYTES_MAX} are allowed", request.prefix.len());
        return Err(Failure::FieldInvalid { field: "prefix", detail });
    }
    let wanted = door::suggestions(request.max_suggestions)?;
    let (reader, index_revision) = usable_index(call)?;
    // More than wanted, since some may be gone or not granting.
    let query = index::SuggestQuery { limit: SUGGESTIONS_MAX, ..index::SuggestQuery::new(request.prefix.as_str()) };
    let hits = reader.suggest(&query).map_err(|error| of_search(error, 0))?;
    Ok(call.point_then(|ask| {
        let gaps = ask.wide_gaps(Wide::Accounts)?;
        let mut suggestions = Vec::with_capacity(wanted);
        for hit in hits {
            let Some(Named::User(id)) = Named::parse(&hit.key) else { continue };
            if ask.withholds_user(&id) {
                continue;
            }
            let Some(user) = ask.snapshot.user(&id)? else { continue };
            if request.granting_only && !ask.policy().user_grants(&user.status) {
                continue;
            }
            suggestions.push(v1::Suggestion { user: Some(user_ref(&user)), score: hit.score });
            if suggestions.len() == wanted {
                break;
            }
        }
        Ok(v1::SuggestResponse { meta: Some(ask.meta(&gaps)), suggestions, index_revision: index_revision.0 })
    }))
}

#[async_trait]
impl Search for SearchService {
    async fn search(&self, request: Request<v1::SearchRequest>) -> Result<Response<v1::SearchResponse>, Status> {
        self.0.search_index("Search.Search", request, run_search).await
    }

    async fn suggest(&self, request: Request<v1::SuggestRequest>) -> Result<Response<v1::SuggestResponse>, Status> {
        self.0.search_index("Search.Suggest", request, run_suggest).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let (app, user, group) =
            (AppId::new("0oa1").unwrap(), UserId::new("00u1").unwrap(), GroupId::new("g").unwrap());
        assert_eq!(Named::parse(&user_key(&user)), Some(Named::User(user.clone())));
        assert_eq!(Named::parse(&group_key(&group)), Some(Named::Group(group)));
        assert_eq!(Named::parse(&app_key(&app)), Some(Named::App(app.clone())));
        assert_eq!(Named::parse(&mapping_key(&app, &user)), Some(Named::Mapping(app, user)));
        for foreign in ["", "user", "user/", "mapping/0oa1", "mapping/0oa1/", "role/1", "user/a b", "user/a/b"] {
            assert_eq!(Named::parse(foreign), None, "{foreign:?}");
        }
    }

    #[track_caller]
    fn check(kinds: &[v1::RowKind], expected: &str) {
        let kinds = kinds.iter().map(|kind| (*kind).into()).collect();
        let request = v1::SearchRequest { query: "x".to_owned(), kinds, ..v1::SearchRequest::default() };
        let found = match SearchQuery::read(&request) {
            Ok(query) => query.prefix,
            Err(failure) => failure.name().to_owned(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn kinds_leave_out_the_others() {
        use v1::RowKind::{App, AppUser, Group, GroupMember, Unspecified, User};
        check(&[], "");
        check(&[User, Group, App, AppUser], "");
        check(&[User], "-kind:app -kind:group -kind:mapping ");
        check(&[AppUser, App], "-kind:user -kind:group ");
        check(&[GroupMember], "FIELD_INVALID");
        check(&[Unspecified], "FIELD_INVALID");
    }
}
