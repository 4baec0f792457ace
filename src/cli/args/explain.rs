//! `explain`: its arguments and help.

use clap::{Args, Subcommand};

use super::{IdentifierForm, Place};

pub(super) const EXAMPLES: &str = "\
Examples:
  okta-idmap explain account jira jdoe                    why is jdoe this person, or nobody?
  okta-idmap explain account jira 557058:a1 --kind external-id
  okta-idmap explain user ada@acme.com --app jira         why has Ada this app, or not?
  okta-idmap explain user ada@acme.com --group 'Eng EU' -o json

The steps come in the order in which it was decided: how the app was found, what each kind of evidence said, the rows, the
groups, the statuses, and how completely everything was read. -o json has the facts of each step.
Exit codes: 0 RESOLVED or a member, 4 any other answer.";

const ACCOUNT_EXAMPLES: &str = "\
Examples:
  okta-idmap explain account jira jdoe
  okta-idmap explain account jira 557058:a1 --kind external-id -o json

Exit codes: 0 RESOLVED, 4 any other outcome.";

const USER_EXAMPLES: &str = "\
Examples:
  okta-idmap explain user ada@acme.com --app jira
  okta-idmap explain user ada --group 'Eng EU' -o json

Exit codes: 0 a member, 4 not, or unknown.";

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExplainArgs {
    /// What to explain.
    #[command(subcommand)]
    pub(in crate::cli) command: ExplainCommand,
}

/// What to explain.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum ExplainCommand {
    /// Why an account of an app belongs to somebody, or to nobody
    #[command(after_help = ACCOUNT_EXAMPLES)]
    Account {
        /// The app: its id, label or integration name
        app: String,
        /// The account as the app shows it
        identifier: String,
        /// What the identifier is: user-name, external-id or email [default: all of these, cross-checked]
        #[arg(long, hide_possible_values = true)]
        kind: Option<IdentifierForm>,
    },
    /// Why a user is in an app or group, or is not
    #[command(after_help = USER_EXAMPLES)]
    User {
        /// Id, login or e-mail address
        user: String,
        /// Where.
        #[command(flatten)]
        place: Place,
    },
}
