//! The arguments of `config`. Entry point: [`ConfigArgs`].
//!
//! Invariant: a name that is taken here can stand as a bare key of the configuration.

use clap::{Args, Subcommand};

use crate::core::access::{CLIENT_NAME_BYTES_MAX, Role};

pub(super) const EXAMPLES: &str = "\
Examples:
  okta-idmap config                          what is in force, and where each value comes from
  okta-idmap --config ./acme.toml config     is this file valid? (exit code 2 and all problems if not)
  okta-idmap config token indexer            a new token for a client of the server";

const TOKEN_EXAMPLES: &str = "\
Examples:
  (umask 077; okta-idmap config token indexer > indexer.token)
  okta-idmap config token oncall --role admin -o json

Prints the token once, for the client, on standard output, and the line with its hash, for [server.tokens] of the
server's configuration, on standard error. Nothing is stored.";

/// Arguments of `config`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ConfigArgs {
    /// Something else than to print it.
    #[command(subcommand)]
    pub(in crate::cli) what: Option<ConfigCommand>,
}

/// What `config` does besides.
#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum ConfigCommand {
    /// Make a token for a client of the server
    #[command(after_help = TOKEN_EXAMPLES)]
    Token(TokenArgs),
}

/// Arguments of `config token`.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct TokenArgs {
    /// The client's name, for the audit log
    #[arg(value_parser = read_client_name)]
    pub(in crate::cli) name: String,
    /// What it may do: read, explain (also evidence), admin (also start work)
    #[arg(long, value_name = "ROLE", default_value = "read", value_parser = read_role)]
    pub(in crate::cli) role: Role,
}

fn read_role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "expected read, explain or admin".to_owned())
}

fn read_client_name(text: &str) -> Result<String, String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_good = (1..=CLIENT_NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_name);
    is_good.then(|| text.to_owned()).ok_or_else(|| "expected letters, digits, - and _".to_owned())
}
