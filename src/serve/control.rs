//! What operators may ask of a running engine, and the way to it.
//!
//! Entry points: [`Control::channel`] makes both ends; the services keep the [`Control`], the engine the receiver. Whoever
//! keeps the index has [`Control::reindex`].
//!
//! Invariants:
//! - The queue is bounded, and a full one refuses at once: an engine that hangs holds no caller up.
//! - A caller waits at most [`REPLY_MILLIS_MAX`] for the engine to begin, and from then on until it is done. Whoever was told
//!   that it is not served can rely on it: what they asked for is not carried out later.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::errors::Failure;
use crate::core::model::Scope;
use crate::core::overrides::{OverrideName, OverrideRecord, OverrideSetting};
use crate::core::pending::Target;
use crate::store::OverrideError;

/// Commands that wait for the engine at most. Operators and their scripts give a few; more is a script gone wrong.
pub const QUEUE_COMMANDS_MAX: usize = 64;

/// How long a caller waits for the engine to begin, in milliseconds. A release is one transaction behind those that are queued.
pub const REPLY_MILLIS_MAX: u64 = 30_000;

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// The way back to who gave a command.
#[derive(Debug)]
pub struct Reply<T> {
    sender: oneshot::Sender<T>,
    state: Arc<AtomicU8>,
}

/// The end of a [`Reply`] that its caller keeps.
struct Answer<T> {
    receiver: oneshot::Receiver<T>,
    state: Arc<AtomicU8>,
}

fn reply_channel<T>() -> (Reply<T>, Answer<T>) {
    let (sender, receiver) = oneshot::channel();
    let state = Arc::new(AtomicU8::new(WAITS));
    (Reply { sender, state: Arc::clone(&state) }, Answer { receiver, state })
}

/// Leaves the state of waiting; only one of both ends can.
fn leave(state: &AtomicU8, next: u8) -> bool {
    state.compare_exchange(WAITS, next, Ordering::AcqRel, Ordering::Acquire).is_ok()
}

impl<T> Reply<T> {
    /// Called before the command is carried out; `false`: the caller has given up, and it must not be.
    pub fn begin(&self) -> bool {
        !self.sender.is_closed() && leave(&self.state, BEGUN)
    }

    /// Tells the caller. One who has gone away hears nothing; what was done is done.
    pub fn send(self, answer: T) {
        let _ = self.sender.send(answer);
    }
}

impl<T> Answer<T> {
    async fn wait(mut self) -> Result<T, Failure> {
        let limit = Duration::from_millis(REPLY_MILLIS_MAX);
        let answered = match tokio::time::timeout(limit, &mut self.receiver).await {
            Ok(answered) => answered,
            Err(_) if leave(&self.state, WITHDRAWN) => return Err(Failure::NotServing(None)),
            // It is being carried out: what became of it is to be told.
            Err(_) => self.receiver.await,
        };
        // Else the engine ended.
        answered.map_err(|_| Failure::NotServing(None))
    }
}

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
        reply: Reply<Result<Released, ReleaseRefusal>>,
    },
    /// Keep an operator's override.
    SetOverride {
        /// The override, checked.
        setting: Box<OverrideSetting>,
        /// As it is kept, once it is stored.
        reply: Reply<Result<OverrideRecord, OverrideError>>,
    },
    /// Take an override back.
    DeleteOverride {
        /// Which.
        name: OverrideName,
        /// As it was, once it is gone.
        reply: Reply<Result<OverrideRecord, OverrideError>>,
    },
    /// Read something again.
    Read {
        /// What.
        target: Target,
        /// Whether it was put in the queue.
        reply: Reply<ReadOutcome>,
    },
}

impl Command {
    /// Called before the command is carried out; `false`: the caller has given up, and it must not be.
    pub fn begin(&self) -> bool {
        match self {
            Command::ReleaseHold { reply, .. } => reply.begin(),
            Command::SetOverride { reply, .. } | Command::DeleteOverride { reply, .. } => reply.begin(),
            Command::Read { reply, .. } => reply.begin(),
        }
    }
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
    /// Nothing of the kind can be read now: the org does not answer, or refuses the credential; or nobody follows.
    NotNow,
}

/// How it stands with making the search index of an org anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReindexState {
    /// There is an index, and nobody wants another.
    Idle,
    /// There is none, and it is made, or will be once there is something to find.
    Filling,
    /// Somebody asked for another one.
    Asked,
    /// That one is being made.
    Rebuilding,
}

/// The wish for another search index of an org, between those who ask and the one who makes it. Cheap to clone; all clones
/// are the same wish.
#[derive(Clone, Debug)]
pub struct Reindex(watch::Sender<Wish>);

#[derive(Clone, Copy, Debug)]
struct Wish {
    state: ReindexState,
    /// How often the index has become whole.
    builds: u64,
}

impl Default for Reindex {
    fn default() -> Self {
        Self(watch::Sender::new(Wish { state: ReindexState::Filling, builds: 0 }))
    }
}

impl Reindex {
    /// How it stands.
    pub fn state(&self) -> ReindexState {
        self.0.borrow().state
    }

    /// How often the index has become whole since the process started, by a build or because it was found so at the start. A
    /// build that is given up does not count.
    pub fn builds(&self) -> u64 {
        self.0.borrow().builds
    }

    /// Asks for another index; `false` when it is under way or asked for already. With the number of builds before it.
    fn ask(&self) -> (bool, u64) {
        let mut builds = 0;
        let is_new = self.0.send_if_modified(|wish| {
            builds = wish.builds;
            let is_new = wish.state == ReindexState::Idle;
            if is_new {
                wish.state = ReindexState::Asked;
            }
            is_new
        });
        (is_new, builds)
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        // The sender is here: it does not close.
        let _ = self.0.subscribe().wait_for(|wish| wish.state == ReindexState::Asked).await;
    }

    /// Begins what was asked for; `false` when nobody did.
    pub fn begin(&self) -> bool {
        self.moves(|state| (state == ReindexState::Asked).then_some(ReindexState::Rebuilding))
    }

    /// There is an index that is whole. What was asked for since is still to be done.
    pub fn done(&self) {
        self.0.send_if_modified(|wish| {
            let is_news = matches!(wish.state, ReindexState::Filling | ReindexState::Rebuilding);
            if is_news {
                *wish = Wish { state: ReindexState::Idle, builds: wish.builds + 1 };
            }
            is_news
        });
    }

    /// It could not be made.
    pub fn given_up(&self) {
        self.moves(|state| (state == ReindexState::Rebuilding).then_some(ReindexState::Idle));
    }

    /// There is no index (any more), and it will be made by itself. What was asked for is still to be done.
    pub fn lost(&self) {
        self.moves(|state| (state == ReindexState::Idle).then_some(ReindexState::Filling));
    }

    fn moves(&self, next: impl FnOnce(ReindexState) -> Option<ReindexState>) -> bool {
        self.0.send_if_modified(|wish| match next(wish.state) {
            Some(next) => {
                wish.state = next;
                true
            }
            None => false,
        })
    }
}

/// The way to the engine of one org. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    commands: mpsc::Sender<Command>,
    reindex: Reindex,
}

impl Control {
    /// A queue of at most [`QUEUE_COMMANDS_MAX`] commands: the way in, and the end that the engine listens to.
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(QUEUE_COMMANDS_MAX);
        (Self { commands: sender, reindex: Reindex::default() }, receiver)
    }

    /// The wish for another search index.
    pub fn reindex(&self) -> &Reindex {
        &self.reindex
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

    /// Has an override kept.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when the queue is full, [`Failure::NotServing`] when the engine does not reply.
    pub(crate) async fn set_override(
        &self,
        setting: OverrideSetting,
    ) -> Result<Result<OverrideRecord, OverrideError>, Failure> {
        self.ask(|reply| Command::SetOverride { setting: Box::new(setting), reply }).await
    }

    /// Has an override taken back.
    ///
    /// # Errors
    /// See [`Control::set_override`].
    pub(crate) async fn delete_override(
        &self,
        name: OverrideName,
    ) -> Result<Result<OverrideRecord, OverrideError>, Failure> {
        self.ask(|reply| Command::DeleteOverride { name, reply }).await
    }

    /// Has something read.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when the queue is full, [`Failure::NotServing`] when the engine does not reply.
    pub(crate) async fn read(&self, target: Target) -> Result<ReadOutcome, Failure> {
        self.ask(|reply| Command::Read { target, reply }).await
    }

    /// Has the search index built anew; `false` when that is under way or asked for already. With how often it was whole before.
    ///
    /// # Errors
    /// [`Failure::NotServing`] when the engine has ended.
    pub(super) fn rebuild_index(&self) -> Result<(bool, u64), Failure> {
        if self.commands.is_closed() { Err(Failure::NotServing(None)) } else { Ok(self.reindex.ask()) }
    }

    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Failure> {
        let (reply, answer) = reply_channel();
        self.commands.try_send(command(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Failure::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Failure::NotServing(None),
        })?;
        answer.wait().await
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
            let (reply, _) = reply_channel();
            control.commands.try_send(Command::Read { target: Target::Everything, reply }).unwrap();
        }
        assert_eq!(control.read(Target::Everything).await.unwrap_err().name(), "OVERLOADED");
        let (mut receiver, mut count) = (receiver, 0);
        while let Ok(command) = receiver.try_recv() {
            count += 1;
            assert!(!command.begin(), "its caller was told that nobody serves");
        }
        assert_eq!(count, QUEUE_COMMANDS_MAX);
        // What has begun is waited for.
        let late = async {
            let command = receiver.recv().await.unwrap();
            assert!(command.begin());
            tokio::time::sleep(Duration::from_millis(REPLY_MILLIS_MAX * 2)).await;
            let Command::Read { reply, .. } = command else { panic!("{command:?}") };
            reply.send(ReadOutcome::Started);
        };
        let (outcome, ()) = tokio::join!(control.read(Target::Everything), late);
        assert_eq!(outcome.unwrap(), ReadOutcome::Started);
        drop(receiver);
        assert_eq!(control.release(Scope::Users, 1).await.unwrap_err().name(), "NOT_SERVING");
    }

    #[tokio::test]
    async fn one_index_is_made_at_a_time() {
        let reindex = Reindex::default();
        assert!(!reindex.ask().0, "the first one is on its way");
        reindex.done();
        assert!(!reindex.begin(), "nobody asked");
        assert!(reindex.ask().0);
        assert!(!reindex.ask().0);
        reindex.asked().await;
        assert!(reindex.begin() && !reindex.begin());
        assert!(!reindex.ask().0);
        // It failed: what was asked for is made in another way, and counts until it is there.
        reindex.lost();
        assert_eq!(reindex.state(), ReindexState::Rebuilding);
        reindex.done();
        assert_eq!(reindex.state(), ReindexState::Idle);
        reindex.lost();
        assert!(!reindex.ask().0);
        reindex.done();
        // Who asks between the last look and the end is not forgotten.
        assert!(reindex.ask().0);
        reindex.done();
        assert_eq!(reindex.state(), ReindexState::Asked);
    }
}
