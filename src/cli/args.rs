//! The command line: commands, flags, help. Entry point: [`Cli`].
//!
//! Invariant: what needs no store and no network to be refused is refused here, with exit code 2.

mod config;
mod explain;
mod gaps;
mod objects;
mod orders;
mod overrides;
mod resolve;
mod rows;
mod search;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(super) use self::config::{ConfigArgs, ConfigCommand, TokenArgs};
pub(super) use self::explain::{ExplainArgs, ExplainCommand};
pub(super) use self::gaps::{GapsArgs, GapsCommand};
use self::objects::{APP_EXAMPLES, GROUP_EXAMPLES, USER_EXAMPLES};
pub(super) use self::objects::{AppCommand, GroupCommand, Limit, Place, UserCommand};
use self::orders::{REINDEX_EXAMPLES, RELEASE_EXAMPLES, TRIGGER_EXAMPLES};
pub(super) use self::orders::{ReindexArgs, ReleaseArgs, TriggerArgs};
pub(super) use self::overrides::{
    AccountArgs, OverrideCommand, SetArgs as OverrideSetArgs, SourceForm as OverrideSourceForm,
};
use self::resolve::RESOLVE_EXAMPLES;
pub(super) use self::resolve::ResolveArgs;
use self::rows::{EXPORT_EXAMPLES, WATCH_EXAMPLES};
pub(super) use self::rows::{ExportArgs, WatchArgs, WatchKind};
pub(super) use self::search::{SearchArgs, SearchKind};
use crate::config::Flags;

const EXAMPLES: &str = "\
Examples:
  okta-idmap check                        what can this credential read?
  okta-idmap sync                         read everything once
  okta-idmap serve                        read, keep reading, answer over gRPC
  okta-idmap resolve jira jdoe            who is the account jdoe of Jira?
  okta-idmap user accounts ada@acme.com   which accounts has Ada?
  okta-idmap <COMMAND> --help             examples of a command; `okta-idmap man` has all of it

Exit codes: 0 done, 1 failure, 2 usage or configuration, 3 done with open gaps, 4 not found or not resolved.";

const SYNC_EXAMPLES: &str = "\
Examples:
  okta-idmap sync                          every configured org, one after the other
  okta-idmap sync --org acme               only this org
  okta-idmap sync --output json            the summary for a script
  okta-idmap sync --quiet                  for cron: only the summary and what went wrong

An interrupted crawl goes on where it was with the next sync or serve (within a day).
Exit codes: 0 everything was read, 3 read with open gaps, 1 stopped or interrupted, 2 configuration.";

const SERVE_EXAMPLES: &str = "\
Examples:
  okta-idmap serve                          listen where the configuration says (127.0.0.1:8450)
  okta-idmap serve --listen 127.0.0.1:0     let the system choose the port; it is printed
  okta-idmap serve --org acme --log-format json";

const CHECK_EXAMPLES: &str = "\
Examples:
  okta-idmap check                          every configured org
  okta-idmap check --domain acme.okta.com --api-token-file ./token
  okta-idmap check --output json            for a script

One request per line of the table; nothing is stored. What is not readable, or only in part, comes with what it
hides and with the role, permission or OAuth scope that cures it.
Exit codes: 0 all readable, 3 something is not, or in part only, 1 unreachable or the credential is refused.";

const ACL_EXAMPLES: &str = "\
Examples:
  okta-idmap acl jira --account jdoe --account asmith      a document that two accounts may see
  okta-idmap acl jira --account jdoe --group 'Eng EU'      and a group of the app
  okta-idmap acl 'Jira Cloud' --account 557058:a1 --kind external-id --group-id 00g1gjh63g214q0Hq0g4
  okta-idmap acl jira                                      nobody: the deny-all principal
  okta-idmap user principals ada@acme.com                  the other side: what Ada's queries are filtered by

The app is an id, or a label or integration name that only one app has. Groups are those that are assigned to the app
or imported from it. How principals are used: docs/principals.md.
Exit codes: 0 safe to index, 4 not: an entry is in doubt.";

const STATUS_EXAMPLES: &str = "\
Examples:
  okta-idmap status                 every configured org
  okta-idmap status --org acme --output json";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  okta-idmap completions bash > ~/.local/share/bash-completion/completions/okta-idmap
  okta-idmap completions zsh > ~/.zfunc/_okta-idmap          a directory of $fpath
  okta-idmap completions fish > ~/.config/fish/completions/okta-idmap.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  okta-idmap man | man -l -                                  read it
  okta-idmap man --dir /usr/local/share/man/man1             okta-idmap(1), okta-idmap-user(1), ... for `man okta-idmap-user`";

/// Who is who in which app, read from Okta and never written to it.
#[derive(Debug, Parser)]
#[command(name = "okta-idmap", version, after_help = EXAMPLES, max_term_width = 120, disable_help_subcommand = true)]
pub(super) struct Cli {
    /// Flags of every command.
    #[command(flatten)]
    pub(super) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Flags of every command.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Global {
    /// Configuration file [default: OKTA_IDMAP_CONFIG, then ./okta-idmap.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Directory of the stores; look-ups then read it directly
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// Address of the only org, such as acme.okta.com
    #[arg(long, global = true, value_name = "HOST")]
    pub(super) domain: Option<String>,
    /// File with the API token of the only org
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) api_token_file: Option<PathBuf>,
    /// The org that is meant, where several are configured; sync, serve, check and status take several
    #[arg(long, global = true, value_name = "NAME")]
    pub(super) org: Vec<String>,
    /// Form of the output: table (default), json, jsonl or csv; of an export jsonl (default), csv or parquet
    // Hidden values keep the help at one line per flag; the sentence names them. What is left out means something else to
    // an export, which has no table.
    #[arg(long, short = 'o', global = true, value_name = "FORM", hide_possible_values = true)]
    pub(super) output: Option<AskedForm>,
    /// Ask the server at this address, and only it
    #[arg(long, global = true, value_name = "URL")]
    pub(super) server: Option<String>,
    /// File with the token to send to the server; never on the command line itself
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Read the data directory, whether a server runs or not
    #[arg(long, global = true, conflicts_with = "server")]
    pub(super) direct: bool,
    /// What to log: off, error, warn, info, debug, trace, or a filter such as warn,okta_idmap=debug
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
    /// How to log: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(super) log_format: Option<String>,
    /// No progress and no notes, only results, warnings about completeness, and errors
    #[arg(long, short = 'q', global = true)]
    pub(super) quiet: bool,
    /// No colours in the log
    #[arg(long, global = true)]
    pub(super) no_color: bool,
}

impl Global {
    /// The form of what is printed: a table unless another one is asked for; `None`: one that only an export has.
    pub(super) fn printed(&self) -> Option<Form> {
        self.output.map_or(Some(Form::Table), AskedForm::printed)
    }

    /// The part that is configuration.
    pub(super) fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            data_dir: self.data_dir.clone(),
            domain: self.domain.clone(),
            api_token_file: self.api_token_file.clone(),
            log_level: self.log_level.clone(),
            log_format: self.log_format.clone(),
            listen: None,
            server: self.server.clone(),
            token_file: self.token_file.clone(),
        }
    }
}

/// Form of the output as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum AskedForm {
    /// Aligned columns, for people
    Table,
    /// One document
    Json,
    /// One object per row and line
    Jsonl,
    /// Comma-separated, with a header
    Csv,
    /// Typed columns in a file
    Parquet,
}

impl AskedForm {
    /// The form of what is printed; `None`: this one only an export has.
    const fn printed(self) -> Option<Form> {
        match self {
            Self::Table => Some(Form::Table),
            Self::Json => Some(Form::Json),
            Self::Jsonl => Some(Form::Jsonl),
            Self::Csv => Some(Form::Csv),
            Self::Parquet => None,
        }
    }
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Aligned columns, for people.
    Table,
    /// One document.
    Json,
    /// One object per row and line.
    Jsonl,
    /// Comma-separated, with a header.
    Csv,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read everything from Okta once, or the rest of an interrupted crawl
    #[command(after_help = SYNC_EXAMPLES)]
    Sync,
    /// Read from Okta, follow what changes, and answer over gRPC
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Ask Okta for one object of everything: what can the credential read?
    #[command(after_help = CHECK_EXAMPLES)]
    Check,
    /// Who an account of an app belongs to
    #[command(after_help = RESOLVE_EXAMPLES)]
    Resolve(ResolveArgs),
    /// The principals to index with a document of an app
    #[command(after_help = ACL_EXAMPLES)]
    Acl(AclArgs),
    /// How an answer came about: evidence, rows, groups, statuses, gaps
    #[command(after_help = explain::EXAMPLES)]
    Explain(ExplainArgs),
    /// A user, its accounts and groups
    #[command(after_help = USER_EXAMPLES, subcommand)]
    User(UserCommand),
    /// Apps, their accounts and groups
    #[command(after_help = APP_EXAMPLES, subcommand)]
    App(AppCommand),
    /// Groups and their members
    #[command(after_help = GROUP_EXAMPLES, subcommand)]
    Group(GroupCommand),
    /// Find users, groups, apps and accounts by words
    #[command(after_help = search::EXAMPLES)]
    Search(SearchArgs),
    /// How the orgs are doing: crawls, rows, gaps, credential
    #[command(after_help = STATUS_EXAMPLES)]
    Status,
    /// What could not be read, and what to do about it
    #[command(after_help = gaps::EXAMPLES)]
    Gaps(GapsArgs),
    /// Print what changes as it changes; needs a running server
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Write everything that is stored, at one revision, as JSON lines, CSV or Parquet
    #[command(after_help = EXPORT_EXAMPLES)]
    Export(ExportArgs),
    /// Let the deletion brake go: remove the rows that a held collection no longer shows
    #[command(after_help = RELEASE_EXAMPLES)]
    Release(ReleaseArgs),
    /// Decide who an account name is, until a time, whatever the records say
    #[command(after_help = overrides::EXAMPLES, subcommand)]
    Override(OverrideCommand),
    /// Build the search index anew from the store
    #[command(after_help = REINDEX_EXAMPLES)]
    Reindex(ReindexArgs),
    /// Have a running server read again: everything, one collection or one object
    #[command(after_help = TRIGGER_EXAMPLES)]
    Trigger(TriggerArgs),
    /// Print the configuration in force, with secrets masked
    #[command(after_help = config::EXAMPLES)]
    Config(ConfigArgs),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
}

/// Arguments of `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell: bash, zsh, fish, powershell or elvish
    #[arg(hide_possible_values = true)]
    pub(super) shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Clone, Debug, Args)]
pub(super) struct ManArgs {
    /// Write the page of every command into this directory, which has to be there
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

/// Arguments of `serve`.
#[derive(Clone, Debug, Args)]
pub(super) struct ServeArgs {
    /// Where to listen; other than loopback needs TLS and clients that are named [default: server.listen of the configuration]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<String>,
}

/// Arguments of `acl`.
#[derive(Clone, Debug, Args)]
pub(super) struct AclArgs {
    /// The app that the document is in: its id, label or integration name
    pub(super) app: String,
    /// An account that may see the document, as the app shows it; may be given several times
    #[arg(long, value_name = "IDENTIFIER")]
    pub(super) account: Vec<String>,
    /// What the accounts are: user-name, external-id or email [default: all of these, cross-checked]
    #[arg(long, hide_possible_values = true)]
    pub(super) kind: Option<IdentifierForm>,
    /// A group of the app that may see the document, by its name; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(super) group: Vec<String>,
    /// A group of the app that may see the document, by its id; may be given several times
    #[arg(long, value_name = "ID")]
    pub(super) group_id: Vec<String>,
}

/// What an identifier is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum IdentifierForm {
    /// Login name in the app
    UserName,
    /// Primary key in the app
    ExternalId,
    /// E-mail address
    Email,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_teaches_by_example() {
        #[track_caller]
        fn check(command: &clap::Command, name: &str) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = help.split("\n\n").find_map(|part| part.strip_prefix("Examples:\n")).unwrap_or_default();
            // At least one example is about this very command, and all of them are commands of this program.
            assert!(examples.contains(name), "{name}: {help}");
            let lines = examples.lines().map(str::trim_start).filter_map(|line| line.strip_prefix("okta-idmap "));
            for line in lines {
                let first = line.split_whitespace().find(|word| !word.starts_with('-') && !word.contains('.'));
                let is_known = first.is_some_and(|first| Cli::command().find_subcommand(first).is_some());
                assert!(is_known || first == Some("<COMMAND>"), "{name}: {line}");
            }
            for inner in command.get_subcommands() {
                check(inner, &format!("{name} {}", inner.get_name()));
            }
        }
        check(&Cli::command(), "okta-idmap");
    }

    #[test]
    fn what_is_a_command() {
        #[track_caller]
        fn check(line: &str, expected: Result<(), clap::error::ErrorKind>) {
            let parsed = Cli::try_parse_from(["okta-idmap"].into_iter().chain(line.split(' ')));
            assert_eq!(parsed.map(drop).map_err(|error| error.kind()), expected, "{line}");
        }
        use clap::error::ErrorKind::{ArgumentConflict, InvalidValue, MissingRequiredArgument, ValueValidation};
        check("sync --org a --org b -o json", Ok(()));
        check("--output csv user accounts 00u1 --limit 5", Ok(()));
        check("user accounts 00u1 --limit 0", Err(ValueValidation));
        check("user in 00u1", Err(MissingRequiredArgument));
        check("user in 00u1 --app a --group b", Err(ArgumentConflict));
        check("search ada --kind account --kind user", Ok(()));
        check("search --suggest ada", Ok(()));
        check("search", Err(MissingRequiredArgument));
        check("watch --kinds user,app-user --kinds app -o jsonl", Ok(()));
        check("watch --kinds users", Err(InvalidValue));
        check("watch --store-id x", Err(MissingRequiredArgument));
        check("watch --once", Err(MissingRequiredArgument));
        check("watch --once --after 5 --store-id x", Ok(()));
        check("watch --once --after 5 --era e", Err(MissingRequiredArgument));
        check("watch --once --after 5 --store-id x --era e", Ok(()));
        check("watch --once --from-snapshot", Ok(()));
        check("watch --after 5 --from-snapshot --store-id x", Ok(()));
        check("release", Err(MissingRequiredArgument));
        check("release HELD:users --yes", Ok(()));
        check("override set jira jdoe ada --for 90d --reason x", Ok(()));
        check("override set jira jdoe 00u1 --until 2027-01-31T00:00:00Z --reason x --kind email -o json", Ok(()));
        check("override set jira jdoe ada --for 90d", Err(MissingRequiredArgument));
        check("override set jira jdoe ada --reason x", Err(MissingRequiredArgument));
        check("override set jira jdoe ada --for 90d --until 2027-01-31T00:00:00Z --reason x", Err(ArgumentConflict));
        check("override set jira jdoe ada --until tomorrow --reason x", Err(ValueValidation));
        check("override set jira jdoe ada --for 90 --reason x", Err(ValueValidation));
        check("override delete jira jdoe --kind external-id", Ok(()));
        check("override delete jira", Err(MissingRequiredArgument));
        check("override list --app jira --source config --limit 3 -o csv", Ok(()));
        check("override list --source file", Err(InvalidValue));
        check("watch --kinds override", Ok(()));
        check("reindex --org a -o json", Ok(()));
        check("reindex a", Err(clap::error::ErrorKind::UnknownArgument));
        check("reindex --wait --timeout 10m", Ok(()));
        check("reindex --timeout 10m", Err(MissingRequiredArgument));
        check("reindex --wait --timeout soon", Err(ValueValidation));
        check("trigger everything", Ok(()));
        check("trigger", Err(MissingRequiredArgument));
        check("trigger log", Err(ValueValidation));
        check("completions bash", Ok(()));
        check("completions sh", Err(InvalidValue));
        check("man --dir .", Ok(()));
        check("resolve jira --from -", Ok(()));
        check("resolve jira", Err(MissingRequiredArgument));
        check("resolve jira jdoe --from -", Err(ArgumentConflict));
        check("gaps --all --limit 5", Ok(()));
        check("gaps --kind forbidden,SCOPE_MISSING", Ok(()));
        check("gaps --kind forbidden --kind no-such-kind", Err(ValueValidation));
        check("gaps scopes --state never-read -o json --kind app-users", Ok(()));
        check("gaps scopes --state unspecified", Err(ValueValidation));
        check("gaps show", Err(MissingRequiredArgument));
        check("search ada --suggest ada", Err(ArgumentConflict));
        check("status --direct --server http://127.0.0.1:1", Err(ArgumentConflict));
        check("status -o xml", Err(InvalidValue));
        check("acl jira", Ok(()));
        check("explain account jira jdoe --kind email", Ok(()));
        check("explain user ada", Err(MissingRequiredArgument));
        check("acl jira --account a --account b --kind email --group g --group-id 00g1", Ok(()));
        check("acl --account a", Err(MissingRequiredArgument));
        check("user principals", Err(MissingRequiredArgument));
        check("resolve jira jdoe --kind external-id --candidates --groups", Ok(()));
    }
}
