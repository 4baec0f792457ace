//! `okta-idmap override`. Entry point: [`OverrideCommand`].

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{IdentifierForm, Limit};
use crate::config::parse_duration;
use crate::core::ids::Timestamp;

pub(super) const EXAMPLES: &str = "\
Examples:
  okta-idmap override set jira jdoe john.doe@acme.com --for 90d --reason 'IT-4711: two people, the account is John'
  okta-idmap override set 0oa1gjh63g214q0Hq0g4 557058:a1 00u1gjh63g214q0Hq0g4 --kind external-id \\
      --until 2027-01-31T00:00:00Z --reason 'IT-4712: the id was given again'
  okta-idmap override list --app jira             who decided what, until when, and why
  okta-idmap override delete jira jdoe

An override says who an account name is, before everything that the records say: a wrong one shows a person's documents
to another. It changes nothing in Okta. Who set it, when and why is kept and logged; it ends by itself. What else can be
done: `okta-idmap explain account jira jdoe`. The user is named by id, login, or an e-mail address that only one user has;
the one that is meant is shown and kept by its id. A running server does it; without one this command does.
Exit codes: 0 done, 1 failed or refused, 2 usage, 4 no such app or user.";

/// What to do with overrides.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum OverrideCommand {
    /// Decide who an account name is, until a time; in the place of what was decided before
    #[command(after_help = EXAMPLES)]
    Set(SetArgs),
    /// Take a decision back
    #[command(after_help = EXAMPLES)]
    Delete {
        /// The account, as it was set.
        #[command(flatten)]
        account: AccountArgs,
    },
    /// The decisions that there are, by command and by configuration
    #[command(after_help = EXAMPLES)]
    List {
        /// Only of this app: its id, or a label or integration name that is unique
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Only these: rpc, which are set by command, or config
        #[arg(long, value_name = "SOURCE", hide_possible_values = true)]
        source: Option<SourceForm>,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
}

/// An account.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct AccountArgs {
    /// The app: its id, label or integration name
    pub(in crate::cli) app: String,
    /// The account name as the app shows it
    pub(in crate::cli) name: String,
    /// What the name is: user-name, external-id or email [default: any, it answers questions of every kind]
    #[arg(long, hide_possible_values = true)]
    pub(in crate::cli) kind: Option<IdentifierForm>,
}

/// Arguments of `override set`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct SetArgs {
    /// The account.
    #[command(flatten)]
    pub(in crate::cli) account: AccountArgs,
    /// Whose it is: id, login or e-mail address
    pub(in crate::cli) user: String,
    /// Until when.
    #[command(flatten)]
    pub(in crate::cli) end: EndArgs,
    /// Why, for whoever reads it later; at most 512 bytes
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
}

/// When an override ends; exactly one.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct EndArgs {
    /// It ends at this time, at most 366 days ahead, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub(in crate::cli) until: Option<Timestamp>,
    /// It ends after this time, at most 366d, such as 90d or 12h
    #[arg(long = "for", value_name = "DURATION", value_parser = read_duration)]
    pub(in crate::cli) lasts: Option<Duration>,
}

/// Where an override comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SourceForm {
    /// By command
    Rpc,
    /// By configuration
    Config,
}

fn read_time(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "expected a time like 2027-01-31T00:00:00Z".to_owned())
}

fn read_duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration like 90d or 12h".to_owned())
}
