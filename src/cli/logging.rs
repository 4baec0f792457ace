//! The log of the process, on standard error. Entry point: [`set_up`].
//!
//! Invariant: a log line never lands within a progress bar, nor a bar within a line: both go through one gate.

use std::io::{self, IsTerminal as _, Write};
use std::sync::OnceLock;

use anyhow::Context as _;
use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::args::Global;
use crate::config::{LogConfig, LogFormat};

/// The bars that are on the screen, if any: log lines make them step aside.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// Begins to log as the configuration says. `--quiet` leaves only errors, unless a level was asked for on the command line.
pub(super) fn set_up(config: &LogConfig, global: &Global) -> anyhow::Result<()> {
    // A program that runs several commands, or has a log of its own, keeps the first one.
    if tracing::dispatcher::has_been_set() {
        return Ok(());
    }
    let level = if global.quiet && global.log_level.is_none() { "error" } else { config.level.as_str() };
    let filter = EnvFilter::try_new(filter(level)).with_context(|| format!("read the log level {level}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Gate).with_target(false);
    let set = match config.format {
        LogFormat::Text => builder.with_ansi(colours_wanted(global)).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("set up the log: {error}"))
}

/// The libraries below HTTP tell of every frame, which is of no use to those who ask what *we* do. Whoever wants it names
/// them: what comes later in a filter wins.
fn filter(level: &str) -> String {
    const NOISY: [&str; 6] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tower"];
    let is_chatty = ["debug", "trace"].iter().any(|chatty| level.to_ascii_lowercase().contains(chatty));
    if !is_chatty {
        return level.to_owned();
    }
    let muted = NOISY.map(|library| format!("{library}=info")).join(",");
    format!("{muted},{level}")
}

/// Colours are for terminals, unless `--no-color` or the variable `NO_COLOR` says otherwise.
fn colours_wanted(global: &Global) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !global.no_color && !refused && io::stderr().is_terminal()
}

/// The bars of this process. The same ones every time.
pub(super) fn bars() -> MultiProgress {
    BARS.get_or_init(MultiProgress::new).clone()
}

/// Standard error, with the bars out of the way.
struct Gate;

impl<'a> MakeWriter<'a> for Gate {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(Vec::new())
    }
}

/// One log line; written when it is complete, which is when it is dropped.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Whoever closed standard error does not want to know.
        let write = || drop(io::stderr().write_all(&self.0));
        match BARS.get() {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_muted_unless_they_are_named() {
        #[track_caller]
        fn check(level: &str, expected: &str) {
            assert_eq!(EnvFilter::try_new(filter(level)).unwrap().to_string(), expected);
        }
        check("info", "info");
        check("warn,okta_idmap=info", "okta_idmap=info,warn");
        check("debug", "hyper_util=info,reqwest=info,rustls=info,tower=info,hyper=info,h2=info,debug");
        check("debug,h2=trace", "hyper_util=info,reqwest=info,rustls=info,tower=info,hyper=info,h2=trace,debug");
    }
}
