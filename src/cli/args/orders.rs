//! The arguments of what an operator orders: `release`, `reindex`, `trigger`. Entry points: [`ReleaseArgs`], [`ReindexArgs`],
//! [`TriggerArgs`].

use std::time::Duration;

use clap::Args;

use crate::config::parse_duration;
use crate::core::model::Scope;
use crate::core::pending::Target;

pub(super) const RELEASE_EXAMPLES: &str = "\
Examples:
  okta-idmap release HELD:users               shows what would be removed, and asks
  okta-idmap release 'app_users(0oa1)' --yes  does not ask: for scripts
  okta-idmap release 'user(00u1)'             says that a user who is not shown is deleted

Exit codes: 0 released, 1 declined or failed, 2 nobody to ask, 4 not held.";

pub(super) const REINDEX_EXAMPLES: &str = "\
Examples:
  okta-idmap reindex                  the only org; a running server does it, and goes on serving
  okta-idmap reindex --wait           and wait until searches see the new one, an hour at most
  okta-idmap reindex --wait --timeout 10m -o json
  okta-idmap reindex --org acme --direct

Nothing is asked of Okta. A server answers searches from the old index until the new one is whole. Without a server it is
done when the command ends.
Exit codes: 0 done, or the server has begun; 1 failed, not done in time, or another process holds the org.";

pub(super) const TRIGGER_EXAMPLES: &str = "\
Examples:
  okta-idmap trigger everything                   a full crawl, or the one that is going on
  okta-idmap trigger groups                       one collection
  okta-idmap trigger 'app_users(0oa1gjh63g214q0Hq0g4)'
  okta-idmap trigger 'user(00u1gjh63g214q0Hq0g4)' one object: user(...), group(...), app(...), app_user(APP,USER)

A running server reads it from Okta as soon as the rate limits allow; this command does not wait for that.
Exit codes: 0 begun or already going on, 1 refused.";

/// Arguments of `release`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ReleaseArgs {
    /// The gap, such as HELD:users, or its collection, such as users or app_users(0oa1)
    #[arg(value_name = "GAP_ID|SCOPE")]
    pub(in crate::cli) hold: String,
    /// Do not ask
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}

/// Arguments of `reindex`.
#[derive(Clone, Copy, Debug, Args)]
pub(in crate::cli) struct ReindexArgs {
    /// Wait until searches see the new index
    #[arg(long)]
    pub(in crate::cli) wait: bool,
    /// Give up waiting after this time, such as 10m; the server goes on
    #[arg(long, value_name = "TIME", requires = "wait", default_value = "1h", value_parser = read_time)]
    pub(in crate::cli) timeout: Duration,
}

/// Arguments of `trigger`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct TriggerArgs {
    /// everything; users, groups, apps, group_members(G), app_users(A), app_groups(A); user(U), group(G), app(A), app_user(A,U)
    #[arg(value_name = "WHAT", value_parser = read_target)]
    pub(in crate::cli) target: Target,
}

fn read_time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected a number with a unit, such as 90s, 10m or 1h".to_owned())
}

fn read_target(text: &str) -> Result<Target, String> {
    let found = match Scope::parse(text) {
        Some(Scope::Log) => None,
        Some(Scope::User(user)) => Some(Target::User(user)),
        Some(Scope::Group(group)) => Some(Target::Group(group)),
        Some(Scope::App(app)) => Some(Target::App(app)),
        Some(list) => Some(Target::List(list)),
        // What a server owes itself has other names as well, which nobody may ask for.
        None => Target::parse(text).filter(|target| matches!(target, Target::Everything | Target::AppUser(..))),
    };
    found.ok_or_else(|| "expected everything, a collection such as users, or an object such as user(00u1)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read_again() {
        #[track_caller]
        fn check(text: &str, expected: Option<&str>) {
            assert_eq!(read_target(text).ok().map(|target| target.name()).as_deref(), expected, "{text}");
        }
        check("everything", Some("everything"));
        check("users", Some("list(users)"));
        check("app_groups(0oa1)", Some("list(app_groups(0oa1))"));
        check("user(00u1)", Some("user(00u1)"));
        check("group(00g1)", Some("group(00g1)"));
        check("app(0oa1)", Some("app(0oa1)"));
        check("app_user(0oa1,00u1)", Some("app_user(0oa1,00u1)"));
        for not in ["", "log", "user()", "user(a/b)", "users_delta", "user_apps(00u1)", "list(users)", "app_user(0oa1)"]
        {
            check(not, None);
        }
    }
}
