//! The arguments of `user`, `app` and `group`. Entry points: [`UserCommand`], [`AppCommand`], [`GroupCommand`].

use clap::{Args, Subcommand};

pub(super) const USER_EXAMPLES: &str = "\
Examples:
  okta-idmap user show ada@acme.com
  okta-idmap user accounts 00u1gjh63g214q0Hq0g4 --output csv
  okta-idmap user groups ada --limit 20
  okta-idmap user in ada@acme.com --app jira
  okta-idmap user principals ada@acme.com

A user is named by id, login, or an e-mail address that only one user has.";

pub(super) const USER_IN_EXAMPLES: &str = "\
Examples:
  okta-idmap user in ada@acme.com --app jira
  okta-idmap user in ada --group 'Eng EU'

Exit codes: 0 yes, 4 no or unknown.";

pub(super) const USER_PRINCIPALS_EXAMPLES: &str = "\
Examples:
  okta-idmap user principals ada@acme.com
  okta-idmap user principals 00u1gjh63g214q0Hq0g4 -o json

Exit codes: 0 done, 4 not found, or the user may see nothing.";

pub(super) const APP_EXAMPLES: &str = "\
Examples:
  okta-idmap app list --label-contains jira
  okta-idmap app show jira
  okta-idmap app users 'Jira Cloud' --granting-only --output jsonl
  okta-idmap app groups 0oa1gjh63g214q0Hq0g4";

pub(super) const GROUP_EXAMPLES: &str = "\
Examples:
  okta-idmap group list --name-contains Eng
  okta-idmap group members 'Eng EU' --output csv
  okta-idmap group members 00g1gjh63g214q0Hq0g4 --limit 10

A group is named by id, or by a name that only one group has.";

const USER_SHOW_EXAMPLES: &str = "\
Examples:
  okta-idmap user show ada@acme.com
  okta-idmap user show 00u1gjh63g214q0Hq0g4 -o json";

const USER_ACCOUNTS_EXAMPLES: &str = "\
Examples:
  okta-idmap user accounts ada@acme.com                   in all apps, whatever their status
  okta-idmap user accounts ada --granting-only -o csv";

const USER_GROUPS_EXAMPLES: &str = "\
Examples:
  okta-idmap user groups ada@acme.com
  okta-idmap user groups 00u1gjh63g214q0Hq0g4 --limit 20 -o jsonl";

const APP_LIST_EXAMPLES: &str = "\
Examples:
  okta-idmap app list
  okta-idmap app list --label-contains jira
  okta-idmap app list --name salesforce -o csv             the instances of one integration";

const APP_SHOW_EXAMPLES: &str = "\
Examples:
  okta-idmap app show jira
  okta-idmap app show 0oa1gjh63g214q0Hq0g4 -o json";

const APP_USERS_EXAMPLES: &str = "\
Examples:
  okta-idmap app users 'Jira Cloud'
  okta-idmap app users jira --granting-only -o jsonl       only accounts that give access";

const APP_GROUPS_EXAMPLES: &str = "\
Examples:
  okta-idmap app groups jira
  okta-idmap app groups 0oa1gjh63g214q0Hq0g4 --limit 10";

const GROUP_LIST_EXAMPLES: &str = "\
Examples:
  okta-idmap group list
  okta-idmap group list --name-contains Eng -o csv";

const GROUP_MEMBERS_EXAMPLES: &str = "\
Examples:
  okta-idmap group members 'Eng EU'
  okta-idmap group members 00g1gjh63g214q0Hq0g4 --limit 10";

/// How many rows of a list.
#[derive(Clone, Copy, Debug, Args)]
pub(in crate::cli) struct Limit {
    /// Rows at most [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(in crate::cli) limit: Option<u64>,
}

/// Commands about a user.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum UserCommand {
    /// The user itself
    #[command(after_help = USER_SHOW_EXAMPLES)]
    Show {
        /// Id, login or e-mail address
        user: String,
    },
    /// The user's accounts in all apps
    #[command(after_help = USER_ACCOUNTS_EXAMPLES)]
    Accounts {
        /// Id, login or e-mail address
        user: String,
        /// Leave out accounts that give no access
        #[arg(long)]
        granting_only: bool,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
    /// The groups that the user is in
    #[command(after_help = USER_GROUPS_EXAMPLES)]
    Groups {
        /// Id, login or e-mail address
        user: String,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
    /// Whether the user is in an app or group, and through what
    #[command(after_help = USER_IN_EXAMPLES)]
    In {
        /// Id, login or e-mail address
        user: String,
        /// Where.
        #[command(flatten)]
        place: Place,
    },
    /// The principals of the user: what to filter the user's queries by
    #[command(after_help = USER_PRINCIPALS_EXAMPLES)]
    Principals {
        /// Id, login or e-mail address
        user: String,
    },
}

/// An app or a group; exactly one.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct Place {
    /// The app: its id, label or integration name
    #[arg(long)]
    pub(in crate::cli) app: Option<String>,
    /// The group: its id, or a name that only one group has
    #[arg(long)]
    pub(in crate::cli) group: Option<String>,
}

/// Commands about apps.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AppCommand {
    /// All apps
    #[command(after_help = APP_LIST_EXAMPLES)]
    List {
        /// Only apps with this text in their label, ignoring case
        #[arg(long, value_name = "TEXT")]
        label_contains: Option<String>,
        /// Only instances of this integration
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
    /// One app
    #[command(after_help = APP_SHOW_EXAMPLES)]
    Show {
        /// Id, label or integration name
        app: String,
    },
    /// The accounts in an app
    #[command(after_help = APP_USERS_EXAMPLES)]
    Users {
        /// Id, label or integration name
        app: String,
        /// Leave out accounts that give no access
        #[arg(long)]
        granting_only: bool,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
    /// The groups that are assigned to an app
    #[command(after_help = APP_GROUPS_EXAMPLES)]
    Groups {
        /// Id, label or integration name
        app: String,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
}

/// Commands about groups.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum GroupCommand {
    /// All groups
    #[command(after_help = GROUP_LIST_EXAMPLES)]
    List {
        /// Only groups with this text in their name, minding case
        #[arg(long, value_name = "TEXT")]
        name_contains: Option<String>,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
    /// The members of a group, whatever their status
    #[command(after_help = GROUP_MEMBERS_EXAMPLES)]
    Members {
        /// Id, or a name that only one group has
        group: String,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
}
