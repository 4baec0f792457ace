//! `okta-idmap config`: the configuration in force, and new tokens. Entry points: [`run`], [`token`].

use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::args::{Form, TokenArgs};
use super::context::Context;
use super::failure::{Exit, Failure};
use super::output::Output;
use crate::config::{ClientConfig, ClientToken, Config, ServerConfig, read_remedy, read_secret_file};
use crate::core::access::{TOKEN_RANDOM_BYTES, TokenHash, token_of};

/// Prints the configuration as TOML; secrets are masked by [`crate::config`]. A wrong configuration never gets here: it
/// ends every command with all its problems and exit code 2. So does one here that names files which `serve` or a look-up
/// could not read.
pub(super) fn run(context: &Context) -> Result<Exit, Failure> {
    match context.output.form {
        Form::Table => {}
        Form::Json | Form::Jsonl | Form::Csv => {
            return Err(Failure::Usage(anyhow::anyhow!(
                "the configuration is printed as TOML only: leave out --output"
            )));
        }
    }
    let problems = unreadable_files(&context.config);
    if !problems.is_empty() {
        return Err(Failure::Files(problems));
    }
    context.output.text(&context.config.effective_toml())?;
    if context.config.orgs.is_empty() {
        context
            .output
            .note("no org is configured: set OKTA_IDMAP_DOMAIN and OKTA_IDMAP_API_TOKEN, or write [orgs.<name>]");
    }
    Ok(Exit::Done)
}

/// What is wrong with files that are read only when the server starts, or when it is called: each has to be there. Those of
/// an org were read with the configuration. What is in them is no matter of the configuration: it changes without it.
fn unreadable_files(config: &Config) -> Vec<String> {
    let (server, client) = (server_files(&config.server), client_files(&config.client));
    server.into_iter().chain(client).filter_map(unreadable).collect()
}

fn unreadable((key, path): (&str, &Path)) -> Option<String> {
    let error = read_secret_file(path).err()?;
    Some(format!("{key}: read {} ({}): {error}", path.display(), read_remedy(&error)))
}

fn server_files(server: &ServerConfig) -> Vec<(&'static str, &Path)> {
    let mut files = Vec::new();
    if let Some(tls) = &server.tls {
        files.push(("server.tls_cert_file", tls.cert_file.as_path()));
        files.push(("server.tls_key_file", tls.key_file.as_path()));
        files.extend(tls.client_ca_file.as_deref().map(|path| ("server.tls_client_ca_file", path)));
        files.extend(tls.client_crl_file.as_deref().map(|path| ("server.tls_client_crl_file", path)));
    }
    files.extend(server.access_file.as_ref().map(|file| ("server.access_file", file.path())));
    files
}

fn client_files(client: &ClientConfig) -> Vec<(&'static str, &Path)> {
    let mut files = Vec::new();
    if let Some(ClientToken::File(path)) = &client.token {
        files.push(("client.token_file", path.as_path()));
    }
    files.extend(client.ca_file.as_deref().map(|path| ("client.ca_file", path)));
    if let Some((certificate, key)) = &client.certificate {
        files.push(("client.cert_file", certificate.as_path()));
        files.push(("client.key_file", key.as_path()));
    }
    files
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
