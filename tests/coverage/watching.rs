//! A client of `Changes.Watch` that keeps the set of open gaps by their events alone. Entry point: [`Watching::begin`].
//!
//! What must hold: a checkpoint is COMPLETE only while no gap is open. (That a gap is closed may come alone: what happened
//! several times between two looks of the stream may come once.)

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use okta_idmap_proto::v1;
use tokio::task::JoinHandle;
use v1::change_event::Event;

use crate::client::{Client, Cover};

/// What the stream has told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Gaps that were opened and not closed yet.
    pub(crate) open: BTreeSet<String>,
    /// All gaps that were ever opened or closed.
    pub(crate) ever: BTreeSet<String>,
    /// Checkpoints that came.
    pub(crate) checkpoints: usize,
    /// Of these, such that were not complete.
    pub(crate) partial_checkpoints: usize,
    /// Rules that were broken.
    pub(crate) wrong: Vec<String>,
    /// Where to go on after the server was stopped: revision and store.
    position: (u64, String),
}

impl Told {
    fn take(&mut self, event: Event) {
        match event {
            Event::GapOpened(gap) => {
                self.ever.insert(gap.id.clone());
                self.open.insert(gap.id);
            }
            Event::GapClosed(gap) => {
                self.open.remove(&gap.id);
                self.ever.insert(gap.id);
            }
            Event::Checkpoint(checkpoint) => {
                let cover = Cover::of(checkpoint.meta.as_ref());
                self.checkpoints += 1;
                self.partial_checkpoints += usize::from(!cover.is_complete);
                if cover.is_complete && !self.open.is_empty() {
                    self.wrong.push(format!("a checkpoint is COMPLETE while {:?} are open", self.open));
                }
                let meta = checkpoint.meta.unwrap_or_default();
                self.position = (meta.revision, meta.store_id);
            }
            _ => {}
        }
    }
}

/// The stream of one server; ends with it.
pub(crate) struct Watching {
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

impl Watching {
    /// Starts to watch: from the beginning, or from where an earlier stream was cut off.
    pub(crate) async fn begin(client: &Client, earlier: Option<Told>) -> Self {
        let told = earlier.unwrap_or_default();
        let (revision, store_id) = told.position.clone();
        let position = v1::ChangePosition { revision, store_id, ..Default::default() };
        let start = Some(v1::ChangeStart { start: Some(v1::change_start::Start::After(position)) });
        let request = v1::WatchRequest { start, ..Default::default() };
        let mut stream = client.changes.clone().watch(request).await.unwrap().into_inner();
        let told = Arc::new(Mutex::new(told));
        let shared = Arc::clone(&told);
        let task = tokio::spawn(async move {
            while let Ok(Some(response)) = stream.message().await {
                let mut told = shared.lock().unwrap();
                for event in response.events.into_iter().filter_map(|event| event.event) {
                    told.take(event);
                }
            }
        });
        Self { told, task }
    }

    /// What was told so far.
    pub(crate) fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// What was told, and no more.
    pub(crate) fn end(self) -> Told {
        self.task.abort();
        self.told()
    }
}
