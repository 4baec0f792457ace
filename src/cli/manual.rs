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

/// The program's name, as files and pages have it.
const NAME: &str = env!("CARGO_PKG_NAME");
/// Where a page is from, and of which version.
const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));

/// Prints the script of a shell.
pub(super) fn completions(shell: Shell, global: &Global) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    let script = String::from_utf8_lossy(&script);
    match shell {
        Shell::Bash => print(&with_one_label(&script), global),
        _ => print(&script, global),
    }
}

/// The script for bash with one label per command. The generator (clap_complete up to 4.6.12, clap issue 6421) sets
/// `okta__idmap__subcmd__user` and then looks for `okta__subcmd__idmap__subcmd__user`: nothing behind the first command
/// would be completed. Without effect on a script that has the first form only.
fn with_one_label(script: &str) -> String {
    script.replace(&NAME.replace('-', "__subcmd__"), &NAME.replace('-', "__"))
}

/// Prints the page of the program, or writes that of every command into `dir`.
pub(super) fn man(dir: Option<&Path>, global: &Global) -> Result<Exit, Failure> {
    let mut program = Cli::command();
    // Gives every command its full name and the flags of all.
    program.build();
    let Some(dir) = dir else {
        return print(&String::from_utf8_lossy(&page(&program)?), global);
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
    // Commands below the program have no version of their own: the foot of every page is the program's. A date of nothing at
    // all would have what follows it taken for the date.
    Man::new(command.clone()).date("\"\"").source(VERSION).render(&mut text)?;
    Ok(text)
}

fn output(global: &Global) -> Output {
    Output { form: Form::Table, quiet: global.quiet }
}

fn print(text: &str, global: &Global) -> Result<Exit, Failure> {
    output(global).text(text)?;
    Ok(Exit::Done)
}
