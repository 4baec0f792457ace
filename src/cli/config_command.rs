//! `okta-idmap config`: the configuration in force, and new tokens. Entry points: [`run`], [`token`].

use ring::rand::{SecureRandom as _, SystemRandom};

use super::args::{Form, TokenArgs};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::Output;
use crate::core::access::{TOKEN_RANDOM_BYTES, TokenHash, token_of};

/// Prints the configuration as TOML; secrets are masked by [`crate::config`]. A wrong configuration never gets here: it
/// ends every command with all its problems and exit code 2.
pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    match context.output.form {
        Form::Table => {}
        Form::Json | Form::Jsonl | Form::Csv => {
            return Err(Failure::Usage(anyhow::anyhow!(
                "the configuration is printed as TOML only: leave out --output"
            )));
        }
    }
    context.output.text(&context.config.effective_toml())?;
    if context.config.orgs.is_empty() {
        context
            .output
            .note("no org is configured: set OKTA_IDMAP_DOMAIN and OKTA_IDMAP_API_TOKEN, or write [orgs.<name>]");
    }
    Ok(Exit::Done)
}

/// Makes a token and prints it, once, with the line for the server's configuration. The token alone goes to standard output,
/// so that it can go into a file and never be on a screen.
pub(super) fn token(args: &TokenArgs, form: Form) -> Result<Exit, Failure> {
    let output = Output { form, quiet: false };
    let mut random = [0; TOKEN_RANDOM_BYTES];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("the system has no random numbers"))?;
    let token = token_of(&random);
    let hash = TokenHash::of(token.expose()).ok_or_else(|| anyhow::anyhow!("hash the token"))?;
    let value = format!("{} {hash}", args.role);
    match output.form {
        Form::Table => {
            output.text(&format!("{}\n", token.expose()))?;
            output.note("for [server.tokens] of the server:");
            output.note(&format!("{} = \"{value}\"", args.name));
        }
        Form::Json | Form::Jsonl => {
            let shown = serde_json::json!({ "name": args.name, "token": token.expose(), "server_tokens_value": value });
            output.text(&format!("{shown}\n"))?;
        }
        Form::Csv => {
            return Err(Failure::Usage(anyhow::anyhow!(
                "a token is printed as text or as JSON: leave out --output csv"
            )));
        }
    }
    Ok(Exit::Done)
}
