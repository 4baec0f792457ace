//! The API of a running engine, as a client in another process sees it. Entry point: [`Client::connect`].
//!
//! Lists are read to their last page; an answer of several pages is complete only if each of them is.

use std::net::SocketAddr;

use okta_idmap_proto::limits::RESPONSE_BYTES_MAX;
use okta_idmap_proto::v1;
use okta_idmap_proto::v1::changes_client::ChangesClient;
use okta_idmap_proto::v1::coverage_client::CoverageClient;
use okta_idmap_proto::v1::lookup_client::LookupClient;
use okta_idmap_proto::v1::search_client::SearchClient;
use tonic::transport::{Channel, Endpoint};

/// Rows per page: so few that lists have several pages, so many that a look does not take long.
const PAGE_SIZE: i32 = 40;

/// Clients of all services.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) lookup: LookupClient<Channel>,
    pub(crate) search: SearchClient<Channel>,
    pub(crate) changes: ChangesClient<Channel>,
    pub(crate) coverage: CoverageClient<Channel>,
}

/// The completeness of an answer.
#[derive(Clone, Debug)]
pub(crate) struct Cover {
    pub(crate) is_complete: bool,
    pub(crate) gap_ids: Vec<String>,
}

impl Cover {
    pub(crate) fn of(meta: Option<&v1::ResponseMeta>) -> Self {
        let meta = meta.expect("every answer has a meta");
        assert_ne!(meta.completeness(), v1::Completeness::Unspecified);
        let is_complete = meta.completeness() == v1::Completeness::Complete;
        assert_eq!(is_complete, meta.gap_ids.is_empty(), "{meta:?}");
        assert!(meta.gap_count as usize >= meta.gap_ids.len(), "{meta:?}");
        Self { is_complete, gap_ids: meta.gap_ids.clone() }
    }

    fn and(self, other: Self) -> Self {
        let gap_ids = self.gap_ids.into_iter().chain(other.gap_ids).collect();
        Self { is_complete: self.is_complete && other.is_complete, gap_ids }
    }
}

/// All pages of a list: `$call` asks for the page of a token.
macro_rules! pages {
    ($client:expr, $method:ident, $request:expr, $rows:ident) => {{
        let (mut rows, mut cover, mut token) = (Vec::new(), None::<Cover>, String::new());
        loop {
            let request = $request(token.clone());
            let answer = $client.$method(request).await.unwrap().into_inner();
            let page = Cover::of(answer.meta.as_ref());
            cover = Some(match cover {
                Some(earlier) => earlier.and(page),
                None => page,
            });
            token = answer.next_page_token.clone();
            rows.extend(answer.$rows.clone());
            if token.is_empty() {
                break (rows, cover.unwrap(), answer);
            }
        }
    }};
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self {
            lookup: LookupClient::new(channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX),
            search: SearchClient::new(channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX),
            changes: ChangesClient::new(channel.clone()).max_decoding_message_size(RESPONSE_BYTES_MAX),
            coverage: CoverageClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX),
        }
    }

    pub(crate) async fn user(&mut self, user: v1::UserSelector) -> (v1::SubjectOutcome, Cover) {
        let request = v1::GetUserRequest { user: Some(user), context: None };
        let answer = self.lookup.get_user(request).await.unwrap().into_inner();
        (answer.user.unwrap().outcome(), Cover::of(answer.meta.as_ref()))
    }

    pub(crate) async fn resolve(&mut self, account: v1::AccountSelector) -> (v1::Resolution, Cover) {
        let request =
            v1::ResolveAccountRequest { account: Some(account), include_candidates: true, ..Default::default() };
        let answer = self.lookup.resolve_account(request).await.unwrap().into_inner();
        (answer.resolution.unwrap(), Cover::of(answer.meta.as_ref()))
    }

    /// The resolutions of a batch. Their own completeness counts, not that of the answer as a whole.
    pub(crate) async fn resolve_all(&mut self, accounts: Vec<v1::AccountSelector>) -> Vec<v1::Resolution> {
        let items = accounts
            .into_iter()
            .map(|account| v1::BatchResolveItem { correlation_id: String::new(), account: Some(account) });
        let request = v1::BatchResolveRequest { items: items.collect(), ..Default::default() };
        let answer = self.lookup.batch_resolve(request).await.unwrap().into_inner();
        let cover = Cover::of(answer.meta.as_ref());
        let resolutions = answer.results.into_iter().map(|result| match result.result {
            Some(v1::batch_resolve_result::Result::Resolution(resolution)) => resolution,
            other => panic!("{other:?}"),
        });
        let resolutions: Vec<v1::Resolution> = resolutions.collect();
        let all_complete = resolutions.iter().all(|resolution| resolution.completeness() == v1::Completeness::Complete);
        assert!(!cover.is_complete || all_complete, "a batch is not more complete than its items");
        resolutions
    }

    pub(crate) async fn membership(&mut self, question: v1::MembershipQuestion) -> (v1::Membership, Cover) {
        let request = v1::CheckAppMembershipRequest { question: Some(question), context: None };
        let answer = self.lookup.check_app_membership(request).await.unwrap().into_inner();
        (answer.answer.unwrap().membership(), Cover::of(answer.meta.as_ref()))
    }

    /// Outcome and the ids of the apps in which a user has an account.
    pub(crate) async fn accounts(&mut self, user: &str) -> (v1::SubjectOutcome, Vec<String>, Cover) {
        let request = |page_token| v1::ListUserAccountsRequest {
            user: Some(by_id(user)),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        let (rows, cover, last) = pages!(self.lookup, list_user_accounts, request, accounts);
        let ids = rows.into_iter().map(|account| account.app_user.unwrap().app_id).collect();
        (last.user.unwrap().outcome(), ids, cover)
    }

    /// Outcome and the ids of the groups of a user.
    pub(crate) async fn groups_of(&mut self, user: &str) -> (v1::SubjectOutcome, Vec<String>, Cover) {
        let request = |page_token| v1::ListUserGroupsRequest {
            user: Some(by_id(user)),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        let (rows, cover, last) = pages!(self.lookup, list_user_groups, request, groups);
        let ids = rows.into_iter().map(|entry| entry.group.unwrap().id).collect();
        (last.user.unwrap().outcome(), ids, cover)
    }

    /// Outcome and the ids of the users of an app.
    pub(crate) async fn app_users(&mut self, app: &str) -> (v1::SubjectOutcome, Vec<String>, Cover) {
        let request = |page_token| v1::ListAppUsersRequest {
            app: Some(app_by_id(app)),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        let (rows, cover, last) = pages!(self.lookup, list_app_users, request, accounts);
        let ids = rows.into_iter().map(|account| account.app_user.unwrap().user_id).collect();
        (last.app.unwrap().outcome(), ids, cover)
    }

    /// Outcome and the ids of the groups that are assigned to an app.
    pub(crate) async fn app_groups(&mut self, app: &str) -> (v1::SubjectOutcome, Vec<String>, Cover) {
        let request = |page_token| v1::ListAppGroupsRequest {
            app: Some(app_by_id(app)),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        let (rows, cover, last) = pages!(self.lookup, list_app_groups, request, groups);
        let ids = rows.into_iter().map(|entry| entry.group.unwrap().id).collect();
        (last.app.unwrap().outcome(), ids, cover)
    }

    /// Outcome and the ids of the members of a group.
    pub(crate) async fn members(&mut self, group: &str) -> (v1::SubjectOutcome, Vec<String>, Cover) {
        let request = |page_token| v1::ListGroupMembersRequest {
            group_id: group.to_owned(),
            page_size: PAGE_SIZE,
            page_token,
            ..Default::default()
        };
        let (rows, cover, last) = pages!(self.lookup, list_group_members, request, members);
        let ids = rows.into_iter().map(|entry| entry.user.unwrap().id).collect();
        (last.group.unwrap().outcome(), ids, cover)
    }

    pub(crate) async fn apps(&mut self) -> (Vec<String>, Cover) {
        let request = |page_token| v1::ListAppsRequest { page_size: PAGE_SIZE, page_token, ..Default::default() };
        let (rows, cover, _) = pages!(self.lookup, list_apps, request, apps);
        (rows.into_iter().map(|app| app.id).collect(), cover)
    }

    pub(crate) async fn groups(&mut self) -> (Vec<String>, Cover) {
        let request = |page_token| v1::ListGroupsRequest { page_size: PAGE_SIZE, page_token, ..Default::default() };
        let (rows, cover, _) = pages!(self.lookup, list_groups, request, groups);
        (rows.into_iter().map(|group| group.id).collect(), cover)
    }

    /// The ids of the users and (app/user) of the accounts that a search finds; `None` while there is no index.
    pub(crate) async fn search(&mut self, query: &str) -> Option<(Vec<String>, Cover)> {
        use v1::search_hit::Row;
        let (mut ids, mut page_token, mut cover) = (Vec::new(), String::new(), None::<Cover>);
        loop {
            let request =
                v1::SearchRequest { query: query.to_owned(), page_size: PAGE_SIZE, page_token, ..Default::default() };
            let answer = indexed(self.search.search(request).await)?;
            let page = Cover::of(answer.meta.as_ref());
            cover = Some(match cover {
                Some(earlier) => earlier.and(page),
                None => page,
            });
            ids.extend(answer.hits.into_iter().map(|hit| match hit.row.unwrap() {
                Row::User(user) => user.id,
                Row::Group(group) => group.id,
                Row::App(app) => app.id,
                Row::Account(account) => {
                    let row = account.app_user.unwrap();
                    format!("{}/{}", row.app_id, row.user_id)
                }
            }));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Some((ids, cover?));
            }
        }
    }

    /// The ids of the users that are suggested for a prefix; `None` while there is no index.
    pub(crate) async fn suggest(&mut self, prefix: &str) -> Option<(Vec<String>, Cover)> {
        let request =
            v1::SuggestRequest { prefix: prefix.to_owned(), max_suggestions: 20, ..v1::SuggestRequest::default() };
        let answer = indexed(self.search.suggest(request).await)?;
        let ids = answer.suggestions.into_iter().map(|suggestion| suggestion.user.unwrap().id).collect();
        Some((ids, Cover::of(answer.meta.as_ref())))
    }

    /// Gaps in these states; none: all, with their history.
    pub(crate) async fn gaps(&mut self, states: &[v1::GapState]) -> (Vec<v1::Gap>, Cover) {
        let states: Vec<i32> = states.iter().map(|state| i32::from(*state)).collect();
        let request = |page_token| v1::ListGapsRequest {
            states: states.clone(),
            page_size: 1_000,
            page_token,
            ..Default::default()
        };
        let (rows, cover, _) = pages!(self.coverage, list_gaps, request, gaps);
        (rows, cover)
    }

    /// The completeness of the org as a whole, and how many gaps are open.
    pub(crate) async fn status(&mut self) -> (u32, Cover) {
        let answer = self.coverage.get_status(v1::GetStatusRequest::default()).await.unwrap().into_inner();
        (answer.open_gaps.iter().map(|count| count.gap_count).sum(), Cover::of(answer.meta.as_ref()))
    }

    /// The completeness of the newest changes.
    pub(crate) async fn changes(&mut self) -> Cover {
        let position = v1::ChangePosition::default();
        let start = Some(v1::ChangeStart { start: Some(v1::change_start::Start::After(position)) });
        let request = v1::ListChangesRequest { start, page_size: 1, ..Default::default() };
        let answer = self.changes.list_changes(request).await.unwrap().into_inner();
        Cover::of(answer.meta.as_ref())
    }
}

/// The answer of the index, if there is one yet.
fn indexed<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) if status.code() == tonic::Code::Unavailable => None,
        Err(status) => panic!("{status}"),
    }
}

pub(crate) fn by_id(id: &str) -> v1::UserSelector {
    v1::UserSelector { selector: Some(v1::user_selector::Selector::UserId(id.to_owned())) }
}

pub(crate) fn by_login(login: &str) -> v1::UserSelector {
    v1::UserSelector { selector: Some(v1::user_selector::Selector::Login(login.to_owned())) }
}

pub(crate) fn app_by_id(id: &str) -> v1::AppSelector {
    v1::AppSelector { selector: Some(v1::app_selector::Selector::AppId(id.to_owned())) }
}

pub(crate) fn app_by_label(label: &str) -> v1::AppSelector {
    v1::AppSelector { selector: Some(v1::app_selector::Selector::Label(label.to_owned())) }
}

pub(crate) fn account(app: v1::AppSelector, name: &str, kind: v1::IdentifierKind) -> v1::AccountSelector {
    let identifier = Some(v1::Identifier { value: name.to_owned(), kind: kind.into() });
    v1::AccountSelector { app: Some(app), identifier }
}
