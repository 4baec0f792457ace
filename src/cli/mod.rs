//! The command line of `okta-idmap`. Entry point: [`main`].
//!
//! | part | what it is |
//! |---|---|
//! | `args` | commands, flags, help |
//! | `sync`, `serve`, `check` | what talks to Okta |
//! | `resolve`, `acl`, `explain`, `user`, `app`, `group`, `search`, `status`, `gaps` | look-ups, answered by a server or by this process |
//! | `watch`, `export` | what changes; all there is |
//! | `release`, `reindex`, `trigger`, `overrides` | an operator's orders |
//! | `config_command`, `manual` | what is in force; manual pages and completions |
//! | `backend`, `dial`, `run` | who answers, and how the engine is called |
//! | `output`, `lists`, `words`, `progress`, `logging` | what is printed |
//! | `failure`, `signals` | how it ends |
//!
//! Invariants:
//! - Results go to standard output, everything else to standard error; a closed output ends the command quietly.
//! - Exit codes are those of [`Exit`].
//! - No secret is printed; names and e-mail addresses are in results only, never in the log above debug level.

mod acl;
mod app;
mod args;
mod backend;
mod check;
mod config_command;
mod context;
mod dial;
mod explain;
mod export;
mod failure;
mod gaps;
mod group;
mod lists;
mod logging;
mod manual;
mod output;
mod overrides;
mod progress;
mod reindex;
mod release;
mod resolve;
mod run;
mod search;
mod serve;
mod signals;
mod status;
mod sync;
mod trigger;
mod user;
mod watch;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use clap::Parser as _;
use tokio::runtime::{Builder, Runtime};

use self::args::{AskedForm, Cli, Command, ConfigArgs, ConfigCommand, Form, Global};
use self::context::Context;
pub use self::failure::Exit;
use self::failure::Failure;
use crate::config::{Flags, load_from_process};

/// Runs the command line that `arguments` (the program's name first) make, and answers how the process is to end.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap, too. Nobody to read them is no failure.
            let _ = error.print();
            let is_usage = error.exit_code() != 0;
            return if is_usage { Exit::Usage } else { Exit::Done }.into();
        }
    };
    match execute(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::error(&message);
            }
            failure.exit().into()
        }
    }
}

fn execute(cli: Cli) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    let form = match (global.printed(), &command) {
        (Some(form), _) => form,
        (None, Command::Export(_)) => Form::Table,
        (None, _) => return Err(Failure::Usage(anyhow!("only an export can be --output parquet"))),
    };
    match &command {
        // Before the configuration is read: one that waits for its first token is refused.
        Command::Config(ConfigArgs { what: Some(ConfigCommand::Token(args)) }) => {
            return config_command::token(args, form);
        }
        Command::Completions(_) | Command::Man(_) if !matches!(global.output, None | Some(AskedForm::Table)) => {
            return Err(Failure::Usage(anyhow!("scripts and manual pages have one form: leave --output out")));
        }
        // Packagers have none.
        Command::Completions(args) => return manual::completions(args.shell, &global),
        Command::Man(args) => return manual::man(args.dir.as_deref(), &global),
        _ => {}
    }
    let (config, warnings) = load_from_process(flags(&global, &command))?;
    logging::set_up(&config.log, &global)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let context = Context::new(config, global);
    let runtime = runtime(&command)?;
    let ended = runtime.block_on(Box::pin(dispatch(&context, &command)));
    // Whatever still runs on a thread is not waited for: the command is over, and the process with it.
    runtime.shutdown_background();
    ended
}

fn flags(global: &Global, command: &Command) -> Flags {
    let listen = match command {
        Command::Serve(args) => args.listen.clone(),
        _ => None,
    };
    Flags { listen, ..global.flags() }
}

/// What works on many things at a time gets all processors; a look-up is over before the threads had started.
fn runtime(command: &Command) -> anyhow::Result<Runtime> {
    let mut builder = match command {
        Command::Sync | Command::Serve(_) => Builder::new_multi_thread(),
        _ => Builder::new_current_thread(),
    };
    builder.enable_all().build().context("start the runtime")
}

async fn dispatch(context: &Context, command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::Sync => sync::run(context).await,
        Command::Serve(_) => serve::run(context).await,
        Command::Check => check::run(context).await,
        Command::Resolve(args) => resolve::run(context, args).await,
        Command::Acl(args) => acl::run(context, args).await,
        Command::Explain(args) => explain::run(context, args).await,
        Command::User(command) => user::run(context, command).await,
        Command::App(command) => app::run(context, command).await,
        Command::Group(command) => group::run(context, command).await,
        Command::Search(args) => search::run(context, args).await,
        Command::Status => status::run(context).await,
        Command::Gaps(args) => gaps::run(context, args).await,
        Command::Watch(args) => watch::run(context, args).await,
        Command::Export(args) => export::run(context, args).await,
        Command::Release(args) => release::run(context, args).await,
        Command::Override(command) => overrides::run(context, command).await,
        Command::Reindex(args) => reindex::run(context, *args).await,
        Command::Trigger(args) => trigger::run(context, args).await,
        Command::Config(_) => config_command::run(context),
        Command::Completions(args) => manual::completions(args.shell, &context.global),
        Command::Man(args) => manual::man(args.dir.as_deref(), &context.global),
    }
}
