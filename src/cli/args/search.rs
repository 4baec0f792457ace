//! The arguments of `search`. Entry point: [`SearchArgs`].

use clap::{ArgGroup, Args, ValueEnum};

pub(super) const EXAMPLES: &str = "\
Examples:
  okta-idmap search lovelace                       all words must match; the last one also as a prefix
  okta-idmap search 'lovelce~ status:ACTIVE' --kind user
  okta-idmap search 'account:jdoe app:\"Jira Cloud\"'
  okta-idmap search --suggest ada                  users whose names begin like this";

/// Arguments of `search`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["query", "suggest"])))]
pub(in crate::cli) struct SearchArgs {
    /// Words, "phrases", word*, word~, -word, and kind: status: app: account: id:
    pub(in crate::cli) query: Option<String>,
    /// Users for a typeahead box: names that begin like this, one typing error forgiven
    #[arg(long, value_name = "PREFIX")]
    pub(in crate::cli) suggest: Option<String>,
    /// Only this kind: user, group, app or account; may be given several times
    #[arg(long, value_name = "KIND", conflicts_with = "suggest", hide_possible_values = true)]
    pub(in crate::cli) kind: Vec<SearchKind>,
    /// Hits at most [default: 20, of suggestions 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(in crate::cli) limit: Option<u64>,
}

/// What a hit can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SearchKind {
    /// A person in Okta
    User,
    /// A group
    Group,
    /// An app
    App,
    /// A person's account in an app
    Account,
}
