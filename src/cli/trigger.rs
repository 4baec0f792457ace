//! `okta-idmap trigger`: has a running server read something again. Entry point: [`run`].

use anyhow::anyhow;
use okta_idmap_proto::v1::{self, trigger_sync_request::Target as Asked};
use serde_json::json;

use super::args::TriggerArgs;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::{Field, to_json};
use super::words;
use crate::core::model::Scope;
use crate::core::pending::Target;

/// Asks for it, and says whether anything was begun.
pub(super) async fn run(context: &Context, args: &TriggerArgs) -> Result<Exit, Failure> {
    let target =
        asked(&args.target).ok_or_else(|| Failure::Usage(anyhow!("{} is not read by itself", args.target.name())))?;
    let backend = context.server("what reads from Okta is a running server, or `okta-idmap sync`").await?;
    let request = v1::TriggerSyncRequest { context: context.request_context()?, target: Some(target) };
    let answer = backend.trigger_sync(request).await?;
    let outcome = words::start_outcome(answer.outcome);
    let crawl = if answer.crawl_id == 0 { String::new() } else { answer.crawl_id.to_string() };
    let fields = [Field::new("outcome", outcome.clone()), Field::new("crawl_id", crawl)];
    let meta = answer.meta.as_ref().map(to_json);
    context.output.thing(&fields, &json!({ "outcome": outcome, "crawl_id": answer.crawl_id, "meta": meta }))?;
    context.output.note("the server goes on with it: `okta-idmap status` shows how far it is");
    Ok(Exit::Done)
}

/// What is asked for, in the words of the API; `None` for what only a server owes itself.
fn asked(target: &Target) -> Option<Asked> {
    let row = |key| Some(Asked::Row(v1::RowKey { key: Some(key) }));
    let list = |kind: v1::ScopeKind, id: &str| {
        let scope = v1::Scope { kind: kind.into(), resource_id: id.to_owned(), resource_name: String::new() };
        Some(Asked::Scope(scope))
    };
    match target {
        Target::Everything => Some(Asked::FullCrawl(v1::FullCrawl {})),
        Target::User(user) => row(v1::row_key::Key::UserId(user.to_string())),
        Target::Group(group) => row(v1::row_key::Key::GroupId(group.to_string())),
        Target::App(app) => row(v1::row_key::Key::AppId(app.to_string())),
        Target::AppUser(app, user) => {
            let key = v1::AppUserKey { app_id: app.to_string(), user_id: user.to_string() };
            row(v1::row_key::Key::AppUser(key))
        }
        Target::List(Scope::Users) => list(v1::ScopeKind::Users, ""),
        Target::List(Scope::Groups) => list(v1::ScopeKind::Groups, ""),
        Target::List(Scope::Apps) => list(v1::ScopeKind::Apps, ""),
        Target::List(Scope::GroupMembers(group)) => list(v1::ScopeKind::GroupMembers, group.as_str()),
        Target::List(Scope::AppUsers(app)) => list(v1::ScopeKind::AppUsers, app.as_str()),
        Target::List(Scope::AppGroups(app)) => list(v1::ScopeKind::AppGroups, app.as_str()),
        Target::List(Scope::Log | Scope::User(_) | Scope::Group(_) | Scope::App(_))
        | Target::AppGroup(..)
        | Target::UserApps(_)
        | Target::UserGroups(_)
        | Target::SourceGroups(_)
        | Target::UsersDelta
        | Target::GroupsDelta => None,
    }
}
