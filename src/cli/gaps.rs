//! `okta-idmap gaps`: what could not be read. Entry point: [`run`].

use okta_idmap_proto::v1;

use super::args::GapsArgs;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::{PageFound, Printing, print_all};
use super::output::Column;
use super::words;

const COLUMNS: &[Column<v1::Gap>] = &[
    Column::shown("id", |gap| gap.id.clone()),
    Column::extra("kind", |gap| words::gap_kind(gap.kind)),
    Column::shown("state", |gap| words::gap_state(gap.state)),
    Column::extra("scope", |gap| words::scope(gap.scope.as_ref())),
    Column::shown("name", |gap| gap.scope.clone().unwrap_or_default().resource_name),
    Column::shown("first_seen_at", |gap| words::time(gap.first_seen_at.as_ref())),
    Column::shown("last_seen_at", |gap| words::time(gap.last_seen_at.as_ref())),
    Column::extra("observation_count", |gap| gap.observation_count.to_string()),
    Column::extra("hides", |gap| gap.hides.clone()),
    Column::shown("remedy", |gap| gap.remedy.clone()),
];

/// Prints the gaps of one org, the open ones unless all are asked for.
pub(super) async fn run(context: &Context, args: &GapsArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let states = if args.all { Vec::new() } else { vec![v1::GapState::Open.into()] };
    let printing = Printing { rows_name: "gaps", columns: COLUMNS, limit: args.limit.limit, about: None };
    print_all(&context.output, printing, async |page| {
        let request = v1::ListGapsRequest {
            context: context.request_context()?,
            page_size: page.page_size,
            page_token: page.page_token,
            states: states.clone(),
            ..Default::default()
        };
        let response = backend.list_gaps(request).await?;
        Ok(PageFound { meta: response.meta, next_page_token: response.next_page_token, rows: response.gaps })
    })
    .await?;
    Ok(Exit::Done)
}
