//! The arguments of `resolve`. Entry point: [`ResolveArgs`].

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::IdentifierForm;

pub(super) const RESOLVE_EXAMPLES: &str = "\
Examples:
  okta-idmap resolve jira jdoe                            by user name, external id and e-mail
  okta-idmap resolve 0oa1gjh63g214q0Hq0g4 557058:a1 --kind external-id
  okta-idmap resolve 'Jira Cloud' jdoe --candidates       who may be meant when it is ambiguous
  okta-idmap resolve jira jdoe --groups --output json     with the groups that grant the app
  okta-idmap resolve jira --from accounts.txt -o csv      one identifier per line, - for standard input

The app is an id, or a label or integration name that only one app has. Of a file a thousand lines at a time are answered at
one revision; empty lines are left out.
Exit codes: 0 RESOLVED (all of them), 4 any other outcome.";

/// Arguments of `resolve`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("whom").required(true).args(["identifier", "from"])))]
pub(in crate::cli) struct ResolveArgs {
    /// The app: its id, label or integration name
    pub(in crate::cli) app: String,
    /// The account as the app shows it
    pub(in crate::cli) identifier: Option<String>,
    /// Resolve the identifiers of this file, one per line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) from: Option<PathBuf>,
    /// What the identifier is: user-name, external-id or email [default: all of these, cross-checked]
    #[arg(long, hide_possible_values = true)]
    pub(in crate::cli) kind: Option<IdentifierForm>,
    /// List who may be meant when the answer is ambiguous
    #[arg(long)]
    pub(in crate::cli) candidates: bool,
    /// List the groups through which the user has the app
    #[arg(long)]
    pub(in crate::cli) groups: bool,
}
