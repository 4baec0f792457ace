//! Looks at the log that several streams share: thousands of idle streams stand at one revision and ask the same.
//!
//! Entry point: [`Rounds::look`].
//!
//! Invariants:
//! - A look is a task of nobody's: a stream that is not polled, or ends, keeps no other one waiting.
//! - What is shared was read for the same position and kinds, in a snapshot that has all that the asker knows of, and no longer
//!   ago than [`SHARE_MILLIS`].
//! - What is kept is bounded: [`KEPT_MAX`] looks, none of more than a message (for copies that answer of about ten) and none
//!   longer than [`SHARE_MILLIS`] after it was made. A look that nobody else may have is that of its waiters alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use okta_idmap_proto::v1;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lines::{Kinds, Planned};
use super::resolution::ToldCoverage;
use crate::core::ids::Revision;

/// How long a look is handed to others, in milliseconds: it is as old as that when it is sent, and there are ten a second at most
/// for each position and choice of kinds.
const SHARE_MILLIS: u64 = 100;

/// Looks that are kept. Those who have caught up stand at one position; more are streams on their way there, which share little.
const KEPT_MAX: usize = 32;

/// What one look at the log brought.
#[derive(Clone, Debug)]
pub(super) enum Round {
    TooOld(Box<v1::ChangeEvent>),
    Changes {
        /// Events that were made at once.
        first: Vec<v1::ChangeEvent>,
        /// What is left to be made.
        rest: Vec<Planned>,
        /// The checkpoint behind them, its meta as of the snapshot in which the log was read.
        checkpoint: Box<v1::Checkpoint>,
        /// Up to where these are all changes.
        through: Revision,
        /// Whether that was everything there was.
        is_caught_up: bool,
        /// What answers are made of beside the rows, where that is wanted.
        resolution: Option<Box<ResolutionRound>>,
    },
}

/// What a round brings to a copy that answers.
#[derive(Clone, Debug)]
pub(super) struct ResolutionRound {
    pub(super) told: ToldCoverage,
    pub(super) coverage: Vec<v1::ChangeEvent>,
    pub(super) mark: v1::ResolutionMark,
}

impl Round {
    /// Whether it is small enough to be handed out again.
    fn is_shared(&self) -> bool {
        match self {
            Self::TooOld(_) => true,
            Self::Changes { rest, .. } => rest.is_empty(),
        }
    }

    /// Whether it has everything up to a revision, and can be handed out again.
    fn serves(&self, known: Revision) -> bool {
        match self {
            Self::TooOld(_) => true,
            Self::Changes { through, .. } => self.is_shared() && *through >= known,
        }
    }
}

/// What became of a look.
#[derive(Clone, Debug)]
pub(super) enum Looked {
    Round(Arc<Round>),
    /// Too many reads are queued: later.
    Crowded,
    /// It failed; whoever asks by himself learns why.
    Failed,
}

impl Looked {
    fn is_shared(&self) -> bool {
        matches!(self, Self::Round(round) if round.is_shared())
    }
}

/// Where a stream stands, and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) after: Revision,
    pub(super) kinds: Kinds,
    /// What it has been told of the coverage, where it wants that.
    pub(super) told: Option<ToldCoverage>,
}

#[derive(Debug)]
struct Look {
    number: u64,
    position: Position,
    begun: Instant,
    looked: watch::Receiver<Option<Looked>>,
}

impl Look {
    fn serves(&self, position: &Position, known: Revision) -> bool {
        let is_usable = match &*self.looked.borrow() {
            // Its snapshot may be older than what is known; then the next one is not.
            None => true,
            Some(Looked::Round(round)) => round.serves(known),
            Some(Looked::Crowded | Looked::Failed) => false,
        };
        is_usable && self.position == *position && self.begun.elapsed() < Duration::from_millis(SHARE_MILLIS)
    }
}

/// The looks of one org.
#[derive(Debug, Default)]
pub(in crate::serve) struct Rounds {
    recent: Arc<Mutex<Recent>>,
    begun: Begun,
}

#[derive(Debug)]
struct Begun(Instant);

impl Default for Begun {
    fn default() -> Self {
        Self(Instant::now())
    }
}

#[derive(Debug, Default)]
struct Recent {
    looks: Vec<Look>,
    tasks: JoinSet<()>,
    /// How many were begun.
    begun: u64,
}

/// Nothing panics while it is held.
fn locked(recent: &Mutex<Recent>) -> MutexGuard<'_, Recent> {
    recent.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a look away, if it and the org are still there.
fn forget(recent: &Weak<Mutex<Recent>>, number: u64) {
    if let Some(recent) = recent.upgrade() {
        locked(&recent).looks.retain(|look| look.number != number);
    }
}

impl Rounds {
    /// How long the org has been served: what the streams' checkpoints are timed by.
    pub(super) fn age(&self) -> Duration {
        self.begun.0.elapsed()
    }

    /// Has `read` look, unless somebody has just done so or is doing it. `known` is a revision that the answer should have.
    pub(super) async fn look<F: Future<Output = Looked> + Send + 'static>(
        &self,
        position: Position,
        known: Revision,
        read: impl FnOnce() -> F,
    ) -> Looked {
        let mut looked = self.join(position, known, read);
        // The lock is not held here, nor is the answer of others while this one waits.
        match looked.wait_for(Option::is_some).await {
            Ok(looked) => looked.clone().unwrap_or(Looked::Failed),
            Err(_) => Looked::Failed,
        }
    }

    fn join<F: Future<Output = Looked> + Send + 'static>(
        &self,
        position: Position,
        known: Revision,
        read: impl FnOnce() -> F,
    ) -> watch::Receiver<Option<Looked>> {
        let mut recent = locked(&self.recent);
        if let Some(look) = recent.looks.iter().rev().find(|look| look.serves(&position, known)) {
            return look.looked.clone();
        }
        while recent.tasks.try_join_next().is_some() {}
        if recent.looks.len() >= KEPT_MAX {
            recent.looks.remove(0);
        }
        recent.begun += 1;
        let (number, begun) = (recent.begun, Instant::now());
        let (sender, looked) = watch::channel(None);
        let (read, kept) = (read(), Arc::downgrade(&self.recent));
        recent.tasks.spawn(async move {
            let found = read.await;
            let is_shared = found.is_shared();
            if !is_shared {
                forget(&kept, number);
            }
            sender.send_replace(Some(found));
            drop(sender);
            if is_shared {
                tokio::time::sleep_until(begun + Duration::from_millis(SHARE_MILLIS)).await;
                forget(&kept, number);
            }
        });
        recent.looks.push(Look { number, position, begun, looked: looked.clone() });
        looked
    }

    #[cfg(test)]
    fn begun(&self) -> u64 {
        locked(&self.recent).begun
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        locked(&self.recent).looks.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Kind;
    use crate::serve::changes::lines::{Subject, Told};

    fn position(after: u64) -> Position {
        Position { after: Revision(after), kinds: Kinds::default(), told: None }
    }

    fn round(through: u64) -> Looked {
        Looked::Round(Arc::new(Round::Changes {
            first: Vec::new(),
            rest: Vec::new(),
            checkpoint: Box::default(),
            through: Revision(through),
            is_caught_up: true,
            resolution: None,
        }))
    }

    async fn through(rounds: &Rounds, position: Position, known: u64, read: u64) -> u64 {
        match rounds.look(position, Revision(known), async move || round(read)).await {
            Looked::Round(round) => match &*round {
                Round::Changes { through, .. } => through.0,
                Round::TooOld(_) => 0,
            },
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_the_same_share_a_look() {
        let rounds = Rounds::default();
        for _ in 0..1_000 {
            assert_eq!(through(&rounds, position(7), 7, 7).await, 7);
        }
        assert_eq!(rounds.begun(), 1);
        // Another position, another choice, or something newer is another look.
        assert_eq!(through(&rounds, position(6), 7, 7).await, 7);
        let kinds = Kinds(vec![Told::Row(Kind::User)]);
        assert_eq!(through(&rounds, Position { kinds, ..position(7) }, 7, 7).await, 7);
        assert_eq!(through(&rounds, position(7), 8, 8).await, 8);
        assert_eq!(rounds.begun(), 4);
        assert_eq!(through(&rounds, position(7), 8, 9).await, 8, "the newest that serves");
        tokio::time::advance(Duration::from_millis(SHARE_MILLIS)).await;
        assert_eq!(through(&rounds, position(7), 8, 10).await, 10, "what is old is not handed out");
        for after in 0..1_000 {
            through(&rounds, position(after), 0, after).await;
        }
        assert!((1..=KEPT_MAX).contains(&rounds.kept()));
        tokio::time::sleep(Duration::from_millis(2 * SHARE_MILLIS)).await;
        assert_eq!(rounds.kept(), 0, "nobody asks any more");
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_else_may_have_is_not_kept() {
        let rounds = Rounds::default();
        let planned = Planned { revision: Revision(7), subject: Subject::Override(1) };
        let large = Looked::Round(Arc::new(Round::Changes {
            first: Vec::new(),
            rest: vec![planned],
            checkpoint: Box::default(),
            through: Revision(7),
            resolution: None,
            is_caught_up: true,
        }));
        let (one, other) = (large.clone(), large);
        // Both wait before it is made.
        let looks = (
            rounds.look(position(1), Revision(7), async move || one),
            rounds.look(position(1), Revision(7), async move || other),
        );
        let (one, other) = tokio::join!(looks.0, looks.1);
        assert!(matches!((one, other), (Looked::Round(_), Looked::Round(_))));
        assert_eq!((rounds.begun(), rounds.kept()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_keeps_nobody_waiting() {
        let rounds = Arc::new(Rounds::default());
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let slow = async move || {
            let _ = gone.await;
            round(7)
        };
        {
            let mut first = std::pin::pin!(rounds.look(position(7), Revision(7), slow));
            assert!(futures_util::poll!(first.as_mut()).is_pending());
            // Never polled again.
        }
        let mut second = std::pin::pin!(through(&rounds, position(7), 7, 99));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        go.send(()).unwrap();
        assert_eq!(second.await, 7, "the same look");
        assert_eq!(rounds.begun(), 1);
        // One that failed is nobody's answer but that of those who waited for it.
        let failed = rounds.look(position(1), Revision(1), async || Looked::Failed).await;
        assert!(matches!(failed, Looked::Failed));
        assert_eq!(through(&rounds, position(1), 1, 1).await, 1);
    }
}
