//! How a command ends: exit codes, and failures as one sentence. Entry points: [`Exit`], [`Failure`].
//!
//! Invariants:
//! - Every failure has an exit code here and nowhere else.
//! - A message holds no control characters of others: what Okta or a server says cannot steer a terminal.

use std::error::Error;
use std::io;
use std::process::ExitCode;

use okta_idmap_proto::v1::ErrorReason;

use super::output::text::clean;
use crate::config::ConfigErrors;

/// How a command ended. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: something failed, or a crawl stopped or was interrupted before its end.
    Failed,
    /// 2: the command line or the configuration is wrong.
    Usage,
    /// 3: done, with open gaps (`sync`) or with something unreadable (`check`).
    OpenGaps,
    /// 4: not found, not resolved, or not a member.
    NotFound,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::OpenGaps => 3,
            Self::NotFound => 4,
        }
    }

    /// Of several orgs the one that needs most attention: a failure, then open gaps.
    pub(super) fn worse(self, other: Self) -> Self {
        let weight = |exit: Self| match exit {
            Self::Done => 0,
            Self::NotFound => 1,
            Self::OpenGaps => 2,
            Self::Usage => 3,
            Self::Failed => 4,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

/// What was answered instead of what was asked for, in words, and the reason that programs go by.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) text: String,
    pub(super) reason: Option<ErrorReason>,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Refusal {}

/// Why a command cannot go on.
#[derive(Debug)]
pub(super) enum Failure {
    /// What was asked for makes no sense.
    Usage(anyhow::Error),
    /// The configuration is wrong.
    Config(ConfigErrors),
    /// Files that the configuration names cannot be read, each with its key.
    Files(Vec<String>),
    /// Something else failed.
    Failed(anyhow::Error),
    /// Whoever read our output has gone (`| head`): no failure of ours, nothing more to say.
    ClosedOutput,
}

impl Failure {
    /// How the process ends.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::Config(_) | Self::Files(_) => Exit::Usage,
            Self::Failed(_) if self.is_about_nothing() => Exit::NotFound,
            Self::Failed(_) => Exit::Failed,
            Self::ClosedOutput => Exit::Done,
        }
    }

    /// Whether what was asked for is not there.
    fn is_about_nothing(&self) -> bool {
        use ErrorReason::{AppUnknown, GapNotHeld, GapUnknown, OverrideUnknown, TargetUnknown, UserUnknown};
        [AppUnknown, GapNotHeld, GapUnknown, OverrideUnknown, TargetUnknown, UserUnknown]
            .iter()
            .any(|reason| self.is_refusal(*reason))
    }

    /// Whether a call was refused for this reason.
    pub(super) fn is_refusal(&self, reason: ErrorReason) -> bool {
        match self {
            Self::Usage(error) | Self::Failed(error) => {
                error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.reason == Some(reason))
            }
            Self::Config(_) | Self::Files(_) | Self::ClosedOutput => false,
        }
    }

    /// The same failure with what it got in the way of.
    pub(super) fn while_doing(self, what: &'static str) -> Self {
        match self {
            Self::Usage(error) => Self::Usage(error.context(what)),
            Self::Failed(error) => Self::Failed(error.context(what)),
            other => other,
        }
    }

    /// What to tell on standard error; `None` when there is nothing to tell.
    pub(super) fn message(&self) -> Option<String> {
        match self {
            Self::Usage(error) | Self::Failed(error) => Some(sentence(error.as_ref())),
            Self::Config(errors) => Some(config_message(errors.to_string().lines())),
            Self::Files(problems) => Some(config_message(problems.iter().map(String::as_str))),
            Self::ClosedOutput => None,
        }
    }
}

/// Every problem of the configuration on a line of its own.
fn config_message<'a>(problems: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<String> = problems.map(clean).collect();
    match lines.as_slice() {
        [only] => only.clone(),
        several => format!("the configuration has several problems:\n  {}", several.join("\n  ")),
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

/// Only errors of our own output come as a bare `io::Error`; all others carry their phase.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedOutput,
            _ => Self::Failed(anyhow::Error::new(error).context("write the output")),
        }
    }
}

/// An error with its causes as one sentence. A cause that its parent has already told is left out.
pub(super) fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let part = error.to_string();
        if !part.is_empty() && !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = error.source();
    }
    clean(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open the store{}", if *.told { format!(": {}", .source) } else { String::new() })]
    struct Opening {
        told: bool,
        source: io::Error,
    }

    #[test]
    fn a_chain_reads_as_one_sentence() {
        #[track_caller]
        fn check(told: bool, cause: &str, expected: &str) {
            let error = Opening { told, source: io::Error::other(cause.to_owned()) };
            assert_eq!(sentence(anyhow::Error::new(error).context("look up the user").as_ref()), expected);
        }
        check(false, "disk full", "look up the user: open the store: disk full");
        check(true, "disk full", "look up the user: open the store: disk full");
        check(false, "", "look up the user: open the store");
        check(true, "a\u{1b}[31mb", "look up the user: open the store: a\\u{1b}[31mb");
    }

    #[test]
    fn a_closed_output_is_no_failure() {
        #[track_caller]
        fn check(kind: io::ErrorKind, exit: Exit, message: Option<&str>) {
            let failure = Failure::from(io::Error::new(kind, "told"));
            assert_eq!((failure.exit(), failure.message().as_deref()), (exit, message));
        }
        check(io::ErrorKind::BrokenPipe, Exit::Done, None);
        check(io::ErrorKind::StorageFull, Exit::Failed, Some("write the output: told"));
    }

    #[test]
    fn what_is_not_there_is_told_by_the_exit_code() {
        #[track_caller]
        fn check(reason: Option<ErrorReason>, expected: Exit) {
            let refusal = Refusal { text: "told".to_owned(), reason };
            let failure = Failure::from(anyhow::Error::new(refusal)).while_doing("take the override back");
            assert_eq!(failure.exit(), expected, "{reason:?}");
            assert_eq!(failure.message().as_deref(), Some("take the override back: told"));
        }
        check(Some(ErrorReason::OverrideUnknown), Exit::NotFound);
        check(Some(ErrorReason::TargetUnknown), Exit::NotFound);
        check(Some(ErrorReason::OrgUnknown), Exit::Failed);
        check(Some(ErrorReason::RoleRequired), Exit::Failed);
        check(None, Exit::Failed);
    }

    #[test]
    fn the_worst_org_decides() {
        #[track_caller]
        fn check(exits: &[Exit], expected: u8) {
            let worst = exits.iter().fold(Exit::Done, |worst, exit| worst.worse(*exit));
            assert_eq!(worst.number(), expected);
        }
        check(&[], 0);
        check(&[Exit::Done, Exit::OpenGaps, Exit::Done], 3);
        check(&[Exit::Failed, Exit::OpenGaps], 1);
        check(&[Exit::NotFound], 4);
    }
}
