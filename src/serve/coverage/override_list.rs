//! `Coverage.ListOverrides`: what operators decided. Entry point: [`list_overrides`].

use okta_idmap_proto::v1;

use super::super::apps::AppQuery;
use super::super::ask::Ask;
use super::super::door;
use super::super::errors::Failure;
use super::super::gaps::Wide;
use super::super::listing::{Listing, fitting};
use super::super::overrides::operator_override;
use super::super::page::Paged;
use super::super::rows::Shower;
use super::super::subjects::{app_subject, find_app};
use crate::core::ids::AppId;
use crate::core::overrides::{OverrideRecord, OverrideSource};

/// Answers the request.
pub(super) fn list_overrides(
    ask: &Ask<'_>,
    request: &v1::ListOverridesRequest,
) -> Result<v1::ListOverridesResponse, Failure> {
    let sources: Vec<v1::OverrideSource> = door::enumeration("sources", &request.sources)?;
    let source = match (sources.contains(&v1::OverrideSource::Rpc), sources.contains(&v1::OverrideSource::Config)) {
        (true, false) => Some(OverrideSource::Call),
        (false, true) => Some(OverrideSource::Configuration),
        _ => None,
    };
    let mut listing = Listing::begin(ask, Paged::Overrides, request)?;
    let mut gaps = ask.wide_gaps(Wide::Org)?;
    let (mut subject, mut app): (_, Option<AppId>) = (None, None);
    if request.app.is_some() {
        let query = AppQuery::read("app", request.app.as_ref())?;
        let (outcome, found, of_app) = find_app(ask, &query)?;
        gaps.merge(of_app);
        app = match (&found, query) {
            (Some(found), _) => Some(found.id.clone()),
            // Of an app that went, the overrides are still there.
            (None, AppQuery::Id(id)) => Some(id),
            (None, _) => None,
        };
        subject = Some(app_subject(outcome, found, &Shower::new(ask)));
        listing.about(app.as_ref().map_or("", AppId::as_str))?;
    }
    let is_of_nothing = request.app.is_some() && app.is_none();
    fitting(listing.limit, |limit| {
        let read = |after, rows| ask.snapshot.overrides(app.as_ref(), source, after, rows);
        let show = |record: OverrideRecord| operator_override(ask, &record).map(Some);
        let mut response = v1::ListOverridesResponse {
            meta: Some(ask.meta(&gaps)),
            app: subject.clone(),
            ..v1::ListOverridesResponse::default()
        };
        if !is_of_nothing {
            let page = listing.collect(limit, read, show)?;
            response.next_page_token = listing.token(page.next);
            response.overrides = page.rows;
        }
        Ok(response)
    })
}
