//! `okta-idmap watch` and `export`: rows of every kind, as they change or all at once. Entry points: [`WatchArgs`],
//! [`ExportArgs`].

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};

pub(super) const WATCH_EXAMPLES: &str = "\
Examples:
  okta-idmap watch                                    what changes from now on
  okta-idmap watch --from-snapshot -o jsonl           all rows, then what changes: an exact copy
  okta-idmap watch --after 1234 --store-id 5f0c --era 9d1e -o jsonl --from-snapshot
                                                      go on there; all anew where that is too old
  okta-idmap watch --kinds user,app-user
  okta-idmap watch --once --after 1234 --store-id 5f0c --era 9d1e
                                                      what changed since then, and no more; also without a server

A lost connection is made again, and goes on behind the last checkpoint. Ends with Ctrl-C, exit code 0; with --once when
everything has been printed.";

pub(super) const EXPORT_EXAMPLES: &str = "\
Examples:
  okta-idmap export --to acme.jsonl                   everything; the first line says of which revision
  okta-idmap export --kinds user,app-user | gzip > accounts.jsonl.gz
  okta-idmap export --kinds group-member -o csv --to members.csv
  okta-idmap export --kinds app-user -o parquet --to accounts.parquet

It reads the data directory itself, also while a server writes to it; until it is done the store's write-ahead log grows,
so give it a fast reader. Lines: one {\"export\": ...} with revision, era, completeness and numbers of rows, one object per row,
and at the end {\"end\": {\"rows\": N}}: without that line it is not whole. Parquet has typed columns, and revision, era, store
and completeness in the metadata of the file. From there `watch --after` goes on. A file appears when it is whole, or not at all.";

/// Arguments of `export`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    /// Only rows of these kinds: user, group, app, app-user, group-member, app-group, override; CSV and Parquet need exactly one
    #[arg(long, value_name = "KIND", value_delimiter = ',', hide_possible_values = true)]
    pub(in crate::cli) kinds: Vec<WatchKind>,
    /// Write to this file, which appears when it is whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) to: Option<PathBuf>,
}

/// Arguments of `watch`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("begin").multiple(true).args(["from_snapshot", "after"])))]
pub(in crate::cli) struct WatchArgs {
    /// Begin with all rows there are; with --after, only where changes since then cannot be had any more
    #[arg(long)]
    pub(in crate::cli) from_snapshot: bool,
    /// Begin behind this revision [default: the present one]
    #[arg(long, value_name = "REVISION")]
    pub(in crate::cli) after: Option<u64>,
    /// The store that the revision counts in, as checkpoints name it [default: the server's]
    #[arg(long, value_name = "ID", requires = "after")]
    pub(in crate::cli) store_id: Option<String>,
    /// The era of the revision, as checkpoints name it: without it, it goes unseen that the store was put back from a backup
    #[arg(long, value_name = "ERA", requires = "store_id")]
    pub(in crate::cli) era: Option<String>,
    /// End when everything up to now has been printed, and say where to go on
    #[arg(long, requires = "begin")]
    pub(in crate::cli) once: bool,
    /// Only rows of these kinds: user, group, app, app-user, group-member, app-group, override
    #[arg(long, value_name = "KIND", value_delimiter = ',', hide_possible_values = true)]
    pub(in crate::cli) kinds: Vec<WatchKind>,
}

/// Kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum WatchKind {
    /// A person in Okta
    User,
    /// A group
    Group,
    /// An app
    App,
    /// A person's account in an app
    AppUser,
    /// A person in a group
    GroupMember,
    /// A group that is assigned to an app
    AppGroup,
    /// What an operator decided about an account name
    Override,
}
