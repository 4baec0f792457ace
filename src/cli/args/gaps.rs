//! `okta-idmap gaps` and what belongs to it. Entry point: [`GapsArgs`].

use clap::{Args, Subcommand};
use okta_idmap_proto::v1;

use super::Limit;
use crate::cli::words;

pub(super) const EXAMPLES: &str = "\
Examples:
  okta-idmap gaps                               what cannot be read at present, and what to do about it
  okta-idmap gaps --kind forbidden,scope-missing
  okta-idmap gaps --all -o csv                  also what is over
  okta-idmap gaps show 'FORBIDDEN:app_users(0oa1)'
  okta-idmap gaps scopes --state forbidden      the collections of an org, and how completely each was read
  okta-idmap gaps quarantined                   records that Okta sent and that cannot be read
  okta-idmap gaps ambiguous --app jira          account names that several people have, so that nobody gets them
  okta-idmap gaps ambiguous --app jira --template   those that its user name template would make equal

Exit codes: 0 done, 4 no such gap (show).";

const SHOW_EXAMPLES: &str = "\
Examples:
  okta-idmap gaps show 'FORBIDDEN:app_users(0oa1)'
  okta-idmap gaps show HELD:users -o json

Exit codes: 0 done, 4 no such gap.";

const SCOPES_EXAMPLES: &str = "\
Examples:
  okta-idmap gaps scopes                                every collection, and when it was last read to its end
  okta-idmap gaps scopes --state forbidden,failed
  okta-idmap gaps scopes --kind app-users -o csv";

const AMBIGUOUS_EXAMPLES: &str = "\
Examples:
  okta-idmap gaps ambiguous
  okta-idmap gaps ambiguous --app 'Jira Cloud' -o csv";

const QUARANTINED_EXAMPLES: &str = "\
Examples:
  okta-idmap gaps quarantined
  okta-idmap gaps quarantined --kind users,app-users -o json";

/// Arguments of `gaps`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct GapsArgs {
    /// What of them; without, a list.
    #[command(subcommand)]
    pub(in crate::cli) command: Option<GapsCommand>,
    /// Closed gaps as well
    #[arg(long)]
    pub(in crate::cli) all: bool,
    /// Only gaps of these kinds, such as forbidden or scope-missing
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = words::parse_gap_kind)]
    pub(in crate::cli) kind: Vec<v1::GapKind>,
    /// How many.
    #[command(flatten)]
    pub(in crate::cli) limit: Limit,
}

/// What belongs to the gaps.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum GapsCommand {
    /// One gap: what it hides, what it rests on, what to do
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// Its id, as answers name it
        #[arg(value_name = "GAP_ID")]
        id: String,
    },
    /// The collections of an org, and how completely each was read
    #[command(after_help = SCOPES_EXAMPLES)]
    Scopes {
        /// Only collections of these kinds, such as users or app-users
        #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = words::parse_scope_kind)]
        kind: Vec<v1::ScopeKind>,
        /// Only these: complete, partial, forbidden, failed, held, never-read
        #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = words::parse_scope_state)]
        state: Vec<v1::ScopeState>,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
    /// Account names that several users of an app have, so that they resolve to nobody
    #[command(after_help = AMBIGUOUS_EXAMPLES)]
    Ambiguous {
        /// Only of this app: its id, or a label or integration name that is unique
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// The names that the app's user name template would give if everybody were assigned, not those that there are
        #[arg(long, requires = "app")]
        template: bool,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
    /// Records that Okta sent and that cannot be read
    #[command(after_help = QUARANTINED_EXAMPLES)]
    Quarantined {
        /// Only of collections of these kinds, such as users or app-users
        #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = words::parse_scope_kind)]
        kind: Vec<v1::ScopeKind>,
        /// How many.
        #[command(flatten)]
        limit: Limit,
    },
}
