//! `okta-idmap search`: finding by words, and typeahead. Entry point: [`run`].

use okta_idmap_proto::limits::{SEARCH_PAGE_SIZE_MAX, SUGGESTIONS_MAX};
use okta_idmap_proto::v1;
use v1::search_hit::Row;

use super::app::{account, of, person, person_status};
use super::args::{SearchArgs, SearchKind};
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{PageFound, Printing, print_all};
use super::output::Column;
use super::words;

/// Hits that are shown unless told otherwise: a screenful. The best ones come first.
const HITS_DEFAULT: u64 = 20;

/// Prints hits or suggestions. Finding nothing is an answer, not a failure.
pub(super) async fn run(context: &Context, args: &SearchArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    match (&args.query, &args.suggest) {
        (_, Some(prefix)) => suggest(context, &backend, prefix, args.limit).await?,
        (query, None) => search(context, &backend, query.as_deref().unwrap_or_default(), args).await?,
    }
    Ok(Exit::Done)
}

const HITS: &[Column<v1::SearchHit>] = &[
    Column::shown("kind", |hit| kind(hit).to_owned()),
    Column::shown("id", id),
    Column::shown("name", name),
    Column::shown("detail", detail),
    Column::shown("status", status),
    Column::extra("user_id", |hit| match &hit.row {
        Some(Row::Account(row)) => person(row).id,
        Some(Row::User(user)) => user.id.clone(),
        _ => String::new(),
    }),
    Column::extra("app_id", |hit| match &hit.row {
        Some(Row::Account(row)) => of(row).id,
        Some(Row::App(app)) => app.id.clone(),
        _ => String::new(),
    }),
    Column::extra("score", |hit| format!("{:.3}", hit.score)),
];

const fn kind(hit: &v1::SearchHit) -> &'static str {
    match &hit.row {
        Some(Row::User(_)) => "user",
        Some(Row::Group(_)) => "group",
        Some(Row::App(_)) => "app",
        Some(Row::Account(_)) => "account",
        None => "",
    }
}

/// The id; of an account app and user, since it has none of its own.
fn id(hit: &v1::SearchHit) -> String {
    match &hit.row {
        Some(Row::User(user)) => user.id.clone(),
        Some(Row::Group(group)) => group.id.clone(),
        Some(Row::App(app)) => app.id.clone(),
        Some(Row::Account(row)) => format!("{}/{}", of(row).id, person(row).id),
        None => String::new(),
    }
}

fn name(hit: &v1::SearchHit) -> String {
    match &hit.row {
        Some(Row::User(user)) if user.display_name.is_empty() => {
            format!("{} {}", user.first_name, user.last_name).trim().to_owned()
        }
        Some(Row::User(user)) => user.display_name.clone(),
        Some(Row::Group(group)) => group.name.clone(),
        Some(Row::App(app)) => app.label.clone(),
        Some(Row::Account(row)) => account(row).user_name,
        None => String::new(),
    }
}

fn detail(hit: &v1::SearchHit) -> String {
    match &hit.row {
        Some(Row::User(user)) => user.login.clone(),
        Some(Row::Group(group)) => group.description.clone(),
        Some(Row::App(app)) => app.name.clone(),
        Some(Row::Account(row)) => format!("{} in {}", person(row).login, of(row).label),
        None => String::new(),
    }
}

fn status(hit: &v1::SearchHit) -> String {
    match &hit.row {
        Some(Row::User(user)) => words::raw_or(words::user_status(user.status), &user.status_raw),
        Some(Row::Group(group)) => words::raw_or(words::group_type(group.group_type), &group.group_type_raw),
        Some(Row::App(app)) => words::raw_or(words::app_status(app.status), &app.status_raw),
        Some(Row::Account(row)) => super::app::account_status(&account(row)),
        None => String::new(),
    }
}

async fn search(context: &Context, backend: &Backend, query: &str, args: &SearchArgs) -> Result<(), Failure> {
    let kinds = args.kind.iter().map(|kind| row_kind(*kind).into()).collect::<Vec<i32>>();
    let limit = Some(args.limit.unwrap_or(HITS_DEFAULT));
    let (mut total, mut is_lower_bound) = (0, false);
    let printing = Printing { rows_name: "hits", columns: HITS, limit, about: None };
    print_all(&context.output, printing, async |page| {
        let page_size_max = i32::try_from(SEARCH_PAGE_SIZE_MAX).unwrap_or(i32::MAX);
        let request = v1::SearchRequest {
            context: context.request_context()?,
            page_size: page.page_size.min(page_size_max),
            page_token: page.page_token,
            query: query.to_owned(),
            kinds: kinds.clone(),
            facet_fields: Vec::new(),
        };
        let response = backend.search(request).await?;
        (total, is_lower_bound) = (response.total_count, response.is_lower_bound);
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.hits })
    })
    .await?;
    context.output.note(&format!("{}{total} in all", if is_lower_bound { "at least " } else { "" }));
    Ok(())
}

const fn row_kind(kind: SearchKind) -> v1::RowKind {
    match kind {
        SearchKind::User => v1::RowKind::User,
        SearchKind::Group => v1::RowKind::Group,
        SearchKind::App => v1::RowKind::App,
        SearchKind::Account => v1::RowKind::AppUser,
    }
}

fn suggested(row: &v1::Suggestion) -> v1::UserRef {
    row.user.clone().unwrap_or_default()
}

const SUGGESTIONS: &[Column<v1::Suggestion>] = &[
    Column::shown("id", |row| suggested(row).id),
    Column::shown("name", |row| suggested(row).display_name),
    Column::shown("login", |row| suggested(row).login),
    Column::extra("email", |row| suggested(row).email),
    Column::shown("status", |row| person_status(&suggested(row))),
    Column::extra("score", |row| format!("{:.3}", row.score)),
];

async fn suggest(context: &Context, backend: &Backend, prefix: &str, limit: Option<u64>) -> Result<(), Failure> {
    let wanted = limit.map_or(0, |limit| limit.min(SUGGESTIONS_MAX as u64));
    let max_suggestions = i32::try_from(wanted).unwrap_or(i32::MAX);
    let printing = Printing { rows_name: "suggestions", columns: SUGGESTIONS, limit, about: None };
    print_all(&context.output, printing, async |_| {
        let request = v1::SuggestRequest {
            context: context.request_context()?,
            prefix: prefix.to_owned(),
            max_suggestions,
            granting_only: false,
        };
        let response = backend.suggest(request).await?;
        // Suggestions come on one page.
        Ok(PageFound { meta: response.meta, next_page_token: String::new(), rows: response.suggestions })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_hit() {
        #[track_caller]
        fn check(row: Row, expected: [&str; 5]) {
            let hit = v1::SearchHit { score: 1.0, row: Some(row) };
            let shown: Vec<String> =
                HITS.iter().filter(|column| column.in_table).map(|column| (column.cell)(&hit)).collect();
            assert_eq!(shown, expected);
        }
        let user = v1::User {
            id: "00u1".into(),
            first_name: "Ada".into(),
            last_name: "L".into(),
            login: "ada@acme.com".into(),
            status: 3,
            ..Default::default()
        };
        check(Row::User(user), ["user", "00u1", "Ada L", "ada@acme.com", "ACTIVE"]);
        let group = v1::Group { id: "00g1".into(), name: "Eng".into(), group_type: 1, ..Default::default() };
        check(Row::Group(group), ["group", "00g1", "Eng", "", "OKTA_GROUP"]);
        let account = v1::Account {
            app: Some(v1::AppRef { id: "0oa1".into(), label: "Jira".into(), ..Default::default() }),
            user: Some(v1::UserRef { id: "00u1".into(), login: "ada@acme.com".into(), ..Default::default() }),
            app_user: Some(v1::AppUser { user_name: "al".into(), status: 1, ..Default::default() }),
        };
        check(Row::Account(account), ["account", "0oa1/00u1", "al", "ada@acme.com in Jira", "ACTIVE"]);
    }
}
