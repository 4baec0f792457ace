//! The program `okta-idmap`; everything is in [`okta_idmap::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    okta_idmap::cli::main(std::env::args_os())
}
