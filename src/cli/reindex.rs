//! `okta-idmap reindex`: builds the search index anew from the store. Entry point: [`run`].
//!
//! A running server does it beside everything else; with `--wait` it is waited for. Without one this process does it, as the one
//! who holds the org.

use std::time::Duration;

use anyhow::anyhow;
use okta_idmap_proto::v1;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use super::args::ReindexArgs;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::{Field, to_json};
use super::{run as engine, words};

/// Time between two looks at a server that builds: its status is made once a second.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Time between two lines about a build that goes on.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Has the index of one org built.
pub(super) async fn run(context: &Context, args: ReindexArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let (outcome, index) = if backend.is_server() {
        let answer = backend.reindex(v1::ReindexRequest { context: context.request_context()? }).await?;
        let outcome = words::start_outcome(answer.outcome);
        if args.wait {
            let before = answer.index.unwrap_or_default().build_count;
            (outcome, wait(context, &backend, before, args.timeout).await?)
        } else {
            context.output.note("the server goes on with it: `okta-idmap status` shows when the index follows again");
            (outcome, answer.index.unwrap_or_default())
        }
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

/// Waits until searches see the new index, which is a newer one than `before` say. Where an index is damaged the server begins
/// again, so that is waited for as well.
async fn wait(context: &Context, backend: &Backend, before: u64, limit: Duration) -> Result<v1::IndexStatus, Failure> {
    let (started, mut told) = (Instant::now(), Instant::now());
    let end = started + limit;
    let mut last = v1::IndexState::Rebuilding;
    loop {
        let request = v1::GetStatusRequest { context: context.request_context()? };
        let answer = timeout_at(end, backend.get_status(request)).await.map_err(|_| late(last, limit))??;
        let index = answer.status.and_then(|status| status.index).unwrap_or_default();
        match index.state() {
            v1::IndexState::Following => return Ok(newer(index, before)?),
            v1::IndexState::Failed if last != v1::IndexState::Failed => {
                context.output.note("the index has failed; the server opens it again, and its log says why");
            }
            _ => {}
        }
        last = index.state();
        if told.elapsed() >= LINE_INTERVAL {
            told = Instant::now();
            let seconds = started.elapsed().as_secs();
            context.output.note(&format!("the new index is being made, for {seconds} s now"));
        }
        if Instant::now() + LOOK_INTERVAL > end {
            return Err(late(last, limit).into());
        }
        sleep(LOOK_INTERVAL).await;
    }
}

/// An index that is followed, if it is not the one of before.
fn newer(index: v1::IndexStatus, before: u64) -> anyhow::Result<v1::IndexStatus> {
    if index.build_count > before {
        return Ok(index);
    }
    Err(anyhow!(
        "the new index was not made, and searches see the one before: the build has failed, as the server's log says, or \
         the server was started again meanwhile"
    ))
}

fn late(state: v1::IndexState, limit: Duration) -> anyhow::Error {
    let (state, seconds) = (words::index_state(state.into()), limit.as_secs());
    anyhow!("the index is {state} after {seconds} s and is not waited for any longer; the server goes on with it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_before_is_no_new_one() {
        let is_new = |build_count: u64| newer(v1::IndexStatus { build_count, ..Default::default() }, 3).is_ok();
        assert_eq!([4, 3, 1].map(is_new), [true, false, false]);
    }
}
