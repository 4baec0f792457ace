//! `okta-idmap config`: the configuration in force. Entry point: [`run`].

use super::args::Form;
use super::context::Context;
use super::failure::{Exit, Failure};

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
