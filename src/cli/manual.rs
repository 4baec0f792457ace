//! `okta-idmap completions` and `man`: what shells and `man` know of the command line. Entry points: [`completions`], [`man`].
//!
//! Invariant: both are made of the definition that the arguments are parsed by, so that they cannot be behind it.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::{Cli, Form, Global};
use super::failure::{Exit, Failure};
use super::output::Output;

/// Prints the script of a shell.
pub(super) fn completions(shell: Shell, global: &Global) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), env!("CARGO_PKG_NAME"), &mut script);
    print(&script, global)
}

/// Prints the page of the program, or writes that of every command into `dir`.
pub(super) fn man(dir: Option<&Path>, global: &Global) -> Result<Exit, Failure> {
    let mut program = Cli::command();
    // Gives every command its full name and the flags of all.
    program.build();
    let Some(dir) = dir else {
        return print(&page(&program)?, global);
    };
    if !dir.is_dir() {
        return Err(Failure::Usage(anyhow!("--dir {}: is no directory", dir.display())));
    }
    let mut count = 0;
    let mut left = vec![program];
    while let Some(command) = left.pop() {
        // Named as `man` looks for it: okta-idmap-user-show.1.
        let path = dir.join(Man::new(command.clone()).get_filename());
        fs::write(&path, page(&command)?).with_context(|| format!("write {}", path.display()))?;
        count += 1;
        left.extend(command.get_subcommands().cloned());
    }
    output(global).note(&format!("{count} pages in {}", dir.display()));
    Ok(Exit::Done)
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}

fn output(global: &Global) -> Output {
    Output { form: Form::Table, quiet: global.quiet }
}

fn print(text: &[u8], global: &Global) -> Result<Exit, Failure> {
    output(global).text(&String::from_utf8_lossy(text))?;
    Ok(Exit::Done)
}
