//! What operators may ask of a running engine, and the way to it.
//!
//! Entry points: [`Control::channel`] makes both ends; the services keep the [`Control`], the engine the receiver.
//!
//! Invariants:
//! - The queue is bounded, and a full one refuses at once: an engine that hangs holds no caller up.
//! - A caller waits at most [`REPLY_MILLIS_MAX`] for a reply; a command whose caller has gone may still be carried out.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::errors::Failure;
use crate::core::model::Scope;
use crate::core::pending::Target;

/// Commands that wait for the engine at most. Operators and their scripts give a few; more is a script gone wrong.
pub const QUEUE_COMMANDS_MAX: usize = 64;

/// How long a caller waits for a reply, in milliseconds. A release is one transaction behind those that are queued.
pub const REPLY_MILLIS_MAX: u64 = 30_000;

/// A command to the engine of one org.
#[derive(Debug)]
pub enum Command {
    /// Remove the rows that the held walk of a collection did not show.
    ReleaseHold {
        /// The collection.
        scope: Scope,
        /// How many rows the operator saw missing: only exactly these are released.
        expected_missing: u64,
        /// What became of it, once it is stored.
        reply: oneshot::Sender<Result<Released, ReleaseRefusal>>,
    },
    /// Read something again.
    Read {
        /// What.
        target: Target,
        /// Whether it was put in the queue.
        reply: oneshot::Sender<ReadOutcome>,
    },
}

/// A hold is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// Rows that were removed.
    pub removed: u64,
}

/// Why a hold was not released; nothing was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReleaseRefusal {
    /// The collection is not held (any more).
    NotHeld,
    /// Another number of rows is missing than the operator saw.
    Changed {
        /// How many are missing now.
        missing: u64,
    },
    /// The release could not be stored.
    Failed {
        /// Why not; for the log.
        detail: String,
    },
}

/// What became of the wish to read something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// It is under way or in the queue.
    Started,
    /// It was so already; nothing was added.
    AlreadyRunning,
    /// It cannot be read.
    Refused {
        /// Why not; shown to the caller.
        detail: String,
    },
}

/// The way to the engine of one org. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control(mpsc::Sender<Command>);

impl Control {
    /// A queue of at most [`QUEUE_COMMANDS_MAX`] commands: the way in, and the end that the engine listens to.
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(QUEUE_COMMANDS_MAX);
        (Self(sender), receiver)
    }

    /// Has a hold released.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when the queue is full, [`Failure::NotServing`] when the engine does not reply.
    pub(super) async fn release(
        &self,
        scope: Scope,
        expected_missing: u64,
    ) -> Result<Result<Released, ReleaseRefusal>, Failure> {
        self.ask(|reply| Command::ReleaseHold { scope, expected_missing, reply }).await
    }

    /// Has something read.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when the queue is full, [`Failure::NotServing`] when the engine does not reply.
    pub(super) async fn read(&self, target: Target) -> Result<ReadOutcome, Failure> {
        self.ask(|reply| Command::Read { target, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Failure::NotServing(None),
        })?;
        match tokio::time::timeout(Duration::from_millis(REPLY_MILLIS_MAX), answer).await {
            Ok(Ok(answer)) => Ok(answer),
            // The engine ended, or is so busy that its work is better not waited for.
            Ok(Err(_)) | Err(_) => Err(Failure::NotServing(None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_an_engine_that_hangs() {
        let (control, receiver) = Control::channel();
        let begun = tokio::time::Instant::now();
        let failure = control.read(Target::Everything).await.unwrap_err();
        assert_eq!((failure.name(), begun.elapsed().as_millis()), ("NOT_SERVING", u128::from(REPLY_MILLIS_MAX)));
        // The one before is still in the queue.
        for _ in 1..QUEUE_COMMANDS_MAX {
            let (reply, _) = oneshot::channel();
            control.0.try_send(Command::Read { target: Target::Everything, reply }).unwrap();
        }
        assert_eq!(control.read(Target::Everything).await.unwrap_err().name(), "OVERLOADED");
        drop(receiver);
        assert_eq!(control.release(Scope::Users, 1).await.unwrap_err().name(), "NOT_SERVING");
    }
}
