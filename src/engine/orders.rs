//! Orders that need the store alone, carried out whatever else is going on; and what is said to others while nothing can be read.
//!
//! Entry points: `attend` beside the reading of an org, [`obey_overrides`] where nothing is read.
//!
//! Invariant: what its caller has given up is not carried out, and what has begun is finished.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::clock;
use crate::core::ids::Timestamp;
use crate::core::pending::Target;
use crate::serve::{Command, ReadOutcome};
use crate::store::Writer;

/// How often it is looked for overrides that are over.
const OVERRIDES_INTERVAL: Duration = Duration::from_secs(30);

/// Carries out orders about overrides and hands the others on, until `ended`; what has begun is finished. Looks for overrides
/// that are over. `last_used`: when Okta last accepted the credential.
pub(super) async fn attend(
    writer: &Writer,
    mut commands: mpsc::Receiver<Command>,
    others: mpsc::Sender<Command>,
    (outage, last_used): (&Outage, impl Fn() -> Option<Timestamp>),
    ended: &CancellationToken,
) {
    let mut ticks = tokio::time::interval(OVERRIDES_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let command = tokio::select! {
            biased;
            () = ended.cancelled() => return,
            _ = ticks.tick() => {
                // A writer that has stopped is found by whoever reads next.
                let _ = writer.end_overrides(clock::now()).await;
                continue;
            }
            Some(command) = commands.recv() => command,
        };
        match command {
            Command::SetOverride { .. } | Command::DeleteOverride { .. } => obey_override(writer, command).await,
            // Whoever reads may be waiting for an answer of Okta, and hears nobody.
            Command::Read { target, reply } if outage.is_on(last_used()) => {
                if reply.begin() {
                    reply.send(outage.answer(&target));
                }
            }
            // A full queue drops it, which its caller sees at once.
            Command::ReleaseHold { .. } | Command::Read { .. } => drop(others.try_send(command)),
        }
    }
}

/// A time in which nothing can be read: from a failure of everything to the next answer of Okta that accepts the credential.
#[derive(Debug, Default)]
pub(super) struct Outage {
    /// When the credential was last used before it.
    used_before: Mutex<Option<Option<Timestamp>>>,
    ask_now: Notify,
}

impl Outage {
    /// It begins; the credential was last used then.
    pub(super) fn begin(&self, last_used: Option<Timestamp>) {
        *self.lock() = Some(last_used);
    }

    fn is_on(&self, last_used: Option<Timestamp>) -> bool {
        *self.lock() == Some(last_used)
    }

    /// What becomes of the wish to read something. A full crawl is what comes next anyway, and now it comes at once.
    fn answer(&self, target: &Target) -> ReadOutcome {
        if *target != Target::Everything {
            return ReadOutcome::NotNow;
        }
        self.ask_now.notify_one();
        ReadOutcome::Started
    }

    /// Waits until somebody wants a full crawl.
    pub(super) async fn asked(&self) {
        self.ask_now.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Option<Timestamp>>> {
        // Nothing panics while it is held.
        self.used_before.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries out an order about an override, unless its caller has given up; another order gets no answer.
pub(super) async fn obey_override(writer: &Writer, command: Command) {
    if !command.begin() {
        return;
    }
    match command {
        Command::SetOverride { setting, reply } => {
            reply.send(writer.set_override(*setting, clock::now()).await);
        }
        Command::DeleteOverride { name, reply } => {
            reply.send(writer.delete_override(name, clock::now()).await);
        }
        Command::ReleaseHold { .. } | Command::Read { .. } => {}
    }
}

/// Carries out orders about overrides for as long as somebody can give some, where nothing is read from Okta. Other orders get
/// no answer.
pub async fn obey_overrides(writer: &Writer, commands: &mut mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        obey_override(writer, command).await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;
    use crate::core::filter::Filter;
    use crate::core::ids::{AppId, UserId};
    use crate::core::model::Scope;
    use crate::core::overrides::{OverrideName, OverrideSetting};
    use crate::core::reconcile::Brake;
    use crate::core::resolve::{IdentifierKind, Override};
    use crate::serve::Control;
    use crate::store::{ChangeRetention, OverrideError, Store, StoreConfig};

    /// During a crawl nobody may listen to other orders for hours.
    #[tokio::test]
    async fn overrides_wait_for_no_crawl() {
        let dir = tempfile::tempdir().unwrap();
        let (brake, credential, changes) = (Brake::default(), "c".to_owned(), ChangeRetention::default());
        let config = StoreConfig { dir: dir.path().to_owned(), brake, credential, changes, filter: Filter::default() };
        let store = Store::open(config).unwrap();
        let (control, commands) = Control::channel();
        let (others, mut forwarded) = mpsc::channel::<Command>(1);
        let ended = CancellationToken::new();
        let operator = async {
            let asked = control.read(Target::Everything);
            tokio::pin!(asked);
            assert!(futures_util::poll!(&mut asked).is_pending());
            let (app, user) = (AppId::new("0oa1").unwrap(), UserId::new("00u1").unwrap());
            let (kind, expires_at) = (IdentifierKind::Untyped, clock::now().plus_millis(60_000));
            let entry = Override { app, kind, name: "x".into(), user, expires_at };
            let name = OverrideName::of(&entry);
            let setting = OverrideSetting { entry, created_by: "ada".into(), reason: "IT-1".into() };
            // Carried out by the store, which holds nothing.
            let refused = control.set_override(setting).await.unwrap().unwrap_err();
            assert!(matches!(refused, OverrideError::AppUnknown), "{refused}");
            let refused = control.delete_override(name).await.unwrap().unwrap_err();
            assert!(matches!(refused, OverrideError::Unknown), "{refused}");
            // The other order is still there for whoever reads next.
            assert!(forwarded.recv().await.unwrap().begin());
            ended.cancel();
        };
        let outage = Outage::default();
        tokio::join!(operator, attend(&store.writer, commands, others, (&outage, || None), &ended));
    }

    #[tokio::test]
    async fn while_nothing_can_be_read_everybody_is_told_so_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (brake, credential, changes) = (Brake::default(), "c".to_owned(), ChangeRetention::default());
        let config = StoreConfig { dir: dir.path().to_owned(), brake, credential, changes, filter: Filter::default() };
        let store = Store::open(config).unwrap();
        let (control, commands) = Control::channel();
        let (others, mut forwarded) = mpsc::channel::<Command>(1);
        let (outage, ended) = (Outage::default(), CancellationToken::new());
        let used = AtomicI64::new(5);
        let last_used = || Some(Timestamp::from_millis(used.load(Ordering::Relaxed)));
        let operator = async {
            outage.begin(last_used());
            let users = || Target::List(Scope::Users);
            assert_eq!(control.read(users()).await.unwrap(), ReadOutcome::NotNow);
            assert!(futures_util::poll!(pin!(outage.asked())).is_pending());
            // Whoever waits for the next attempt goes on.
            assert_eq!(control.read(Target::Everything).await.unwrap(), ReadOutcome::Started);
            outage.asked().await;
            // The next answer of Okta ends it.
            used.store(6, Ordering::Relaxed);
            let mut asked = pin!(control.read(users()));
            assert!(futures_util::poll!(&mut asked).is_pending());
            assert!(forwarded.recv().await.unwrap().begin());
            ended.cancel();
        };
        tokio::join!(operator, attend(&store.writer, commands, others, (&outage, last_used), &ended));
    }
}
