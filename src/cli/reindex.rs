//! `okta-idmap reindex`: builds the search index anew from the store. Entry point: [`run`].
//!
//! A running server does it beside everything else, and is not waited for. Without one this process does it, as the one who
//! holds the org.

use okta_idmap_proto::v1;
use serde_json::json;

use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::{Field, to_json};
use super::{run as engine, words};

/// Has the index of one org built.
pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let (outcome, index) = if backend.is_server() {
        let answer = backend.reindex(v1::ReindexRequest { context: context.request_context()? }).await?;
        context.output.note("the server goes on with it: `okta-idmap status` shows when the index follows again");
        (words::start_outcome(answer.outcome), answer.index.unwrap_or_default())
    } else {
        // It has the files open that are to be written.
        drop(backend);
        let org = context.config.require_org(context.global.org.first().map(String::as_str))?;
        context.output.note(&format!("building the search index of org {} from its store", org.name));
        ("DONE".to_owned(), engine::reindex(&context.config, org).await?)
    };
    let fields = [
        Field::new("outcome", outcome.clone()),
        Field::new("index_state", words::index_state(index.state)),
        Field::new("index_revision", index.revision.to_string()),
        Field::new("index_entries", index.entry_count.to_string()),
    ];
    context.output.thing(&fields, &json!({ "outcome": outcome, "index": to_json(&index) }))?;
    Ok(Exit::Done)
}
