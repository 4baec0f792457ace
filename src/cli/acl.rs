//! `okta-idmap acl` and `okta-idmap user principals`: what to index with a document, what to filter a person's queries by.
//! Entry points: [`run`], [`principals`].

use okta_idmap_proto::v1;
use v1::unresolved_acl_entry::Reason;
use v1::{acl_entry, app_group_selector};

use super::args::AclArgs;
use super::backend::Backend;
use super::context::Context;
use super::failure::{Exit, Failure};
use super::lists::warn_if_partial;
use super::output::{Field, to_json};
use super::resolve::{any_app, identifier_kind};
use super::user::{by_id, yes_no};
use super::words;

/// Prints the principals of a document. Only what is safe to index ends with [`Exit::Done`].
pub(super) async fn run(context: &Context, args: &AclArgs) -> Result<Exit, Failure> {
    let backend = context.backend().await?;
    let (names, entries): (Vec<String>, Vec<v1::AclEntry>) = entries(args).into_iter().unzip();
    let request = v1::ResolveAclRequest { context: context.request_context()?, entries };
    let response = backend.resolve_acl(request).await?;
    context.output.thing(&acl_fields(&names, &response), &to_json(&response))?;
    warn_if_partial(response.meta.as_ref());
    Ok(if response.safe_to_index { Exit::Done } else { Exit::NotFound })
}

/// The entries of the access list, each with how it was named: `account jdoe`.
fn entries(args: &AclArgs) -> Vec<(String, v1::AclEntry)> {
    use acl_entry::Principal;
    use app_group_selector::Selector;
    let app = || Some(any_app(&args.app));
    let accounts = args.account.iter().map(|name| {
        let identifier = v1::Identifier { value: name.clone(), kind: identifier_kind(args.kind).into() };
        let account = v1::AccountSelector { app: app(), identifier: Some(identifier) };
        (format!("account {name}"), Principal::Account(account))
    });
    let group = |what: &str, name: &String, selector: fn(String) -> Selector| {
        let selector = v1::AppGroupSelector { app: app(), selector: Some(selector(name.clone())) };
        (format!("{what} {name}"), Principal::AppGroup(selector))
    };
    let groups = args.group.iter().map(|name| group("group", name, Selector::Name));
    let group_ids = args.group_id.iter().map(|id| group("group", id, Selector::GroupId));
    let all = accounts.chain(groups).chain(group_ids);
    all.map(|(name, principal)| (name, v1::AclEntry { principal: Some(principal) })).collect()
}

fn acl_fields(names: &[String], response: &v1::ResolveAclResponse) -> Vec<Field> {
    let unresolved = response.unresolved.iter().map(|entry| {
        let name = usize::try_from(entry.entry_index).ok().and_then(|index| names.get(index));
        format!("{}: {}", name.map_or("", String::as_str), why(entry.reason.as_ref()))
    });
    let unresolved: Vec<String> = unresolved.collect();
    vec![
        Field::in_table("principals", response.principals.join("\n")),
        Field::in_csv("principals", response.principals.join(" ")),
        Field::new("encoder_version", response.encoder_version.to_string()),
        Field::new("deny_all", yes_no(response.deny_all)),
        Field::new("safe_to_index", yes_no(response.safe_to_index)),
        Field::in_table("unresolved", unresolved.join("\n")),
        Field::in_csv("unresolved", unresolved.join("; ")),
    ]
}

/// Why an entry gave no principal. `resolve` says more of an account.
fn why(reason: Option<&Reason>) -> String {
    match reason {
        Some(Reason::Resolution(resolution)) => words::outcome(resolution.outcome),
        Some(Reason::GroupResolution(resolution)) => words::outcome(resolution.outcome),
        Some(Reason::Error(error)) => error.message.clone(),
        None => "the server does not say why".to_owned(),
    }
}

/// Prints the principals of a user. One who may see nothing ends with [`Exit::NotFound`].
pub(super) async fn principals(context: &Context, backend: &Backend, user: &v1::User) -> Result<Exit, Failure> {
    let request = v1::ExpandUserRequest { context: context.request_context()?, user: Some(by_id(user)) };
    let response = backend.expand_user(request).await?;
    context.output.thing(&user_fields(user, &response), &to_json(&response))?;
    warn_if_partial(response.meta.as_ref());
    Ok(if response.match_nothing { Exit::NotFound } else { Exit::Done })
}

fn user_fields(user: &v1::User, response: &v1::ExpandUserResponse) -> Vec<Field> {
    vec![
        Field::new("user_id", user.id.clone()),
        Field::new("login", user.login.clone()),
        Field::new("status", words::raw_or(words::user_status(user.status), &user.status_raw)),
        Field::in_table("principals", response.principals.join("\n")),
        Field::in_csv("principals", response.principals.join(" ")),
        Field::new("encoder_version", response.encoder_version.to_string()),
        Field::new("match_nothing", yes_no(response.match_nothing)),
    ]
}
