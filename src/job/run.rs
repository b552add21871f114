//! The run of a job: one thread feeds the engine, one keeps what comes out of it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{runtime::Handle, task::JoinHandle};

use super::{
    error::{JobError, Result},
    feeder::{self, Feeder},
    history::History,
    in_flight::InFlight,
    job::Job,
    lock::Lock,
    open::Access,
    progress::{JobProgress, LaneCallback, ProgressBoard},
    sqlite::Sqlite,
    store::Store,
    upgrade::upgrade,
    writer::ResultWriter,
};
use crate::{
    metrics::Metrics,
    verify::{Lanes, Verifier},
};

/// Addresses that are to be asked again are so after this time, or after the longest pause of the schedule.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// A job that is being worked on. Dropped, it goes on for a moment, until what it had is kept.
pub struct JobRun {
    in_flight: Arc<InFlight>,
    board: Arc<ProgressBoard>,
    lanes: Lanes,
    given_up: Arc<AtomicBool>,
    over: JoinHandle<Result<()>>,
    _lock: Lock,
}

impl std::fmt::Debug for JobRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobRun").finish_non_exhaustive()
    }
}

impl JobRun {
    /// Starts to work on the job at `path`; `metrics` should be those of `verifier`, and are kept with the job. It must
    /// be called within a tokio runtime of several threads.
    ///
    /// # Errors
    /// Another process works on the job, or it cannot be read.
    pub fn start(
        path: &Path,
        verifier: &Verifier,
        metrics: Arc<Metrics>,
        on_lane: LaneCallback,
    ) -> Result<Self> {
        let lock = Lock::of(path)?;
        upgrade(path, &lock)?;
        let progress = Job::open(path)?.progress()?;
        let (mut writer, reader) = (Sqlite::open(path, Access::Write)?, Sqlite::open(path, Access::Read)?);
        // Neither a clock that was set back nor a hostile file must make the run wait for years.
        let longest = verifier.longest_pause().max(LONGEST_PAUSE);
        let latest = feeder::now().saturating_add(i64::try_from(longest.as_millis()).unwrap_or(i64::MAX));
        writer.bring_forward(latest)?;
        let in_flight = Arc::new(InFlight::default());
        let (tasks, events) = verifier.start(writer.catch_all()?);
        let lanes = events.lanes();
        let earlier = History::of(&writer)?;
        let board = Arc::new(ProgressBoard::new(progress, earlier, metrics, lanes.clone(), on_lane));
        let feeder = Feeder::new(reader, Arc::clone(&in_flight))?;
        let result_writer = ResultWriter::new(writer, Arc::clone(&in_flight), Arc::clone(&board))?;
        let given_up = Arc::new(AtomicBool::new(false));
        let runtime = Handle::current();
        let feeder = tokio::task::spawn_blocking({
            let runtime = runtime.clone();
            move || feeder.run(tasks, &runtime)
        });
        let result_writer = tokio::task::spawn_blocking({
            let (in_flight, given_up) = (Arc::clone(&in_flight), Arc::clone(&given_up));
            move || {
                let kept = result_writer.run(events, &runtime, || given_up.load(Relaxed));
                // Whatever ended it, there is nobody left to feed.
                in_flight.stop();
                kept
            }
        });
        let over = tokio::spawn(async move {
            let panicked = |_| JobError::Damaged;
            let (kept, fed) = tokio::join!(result_writer, feeder);
            kept.map_err(panicked).flatten().and(fed.map_err(panicked).flatten())
        });
        Ok(Self { in_flight, board, lanes, given_up, over, _lock: lock })
    }

    /// How the job stands.
    #[must_use]
    pub fn progress(&self) -> JobProgress {
        self.board.progress()
    }

    /// How the lanes are doing.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Feeds nothing more; what is under way is answered and kept.
    pub fn drain(&self) {
        self.in_flight.stop();
    }

    /// Does not wait for answers any more either; what has come is kept.
    pub fn give_up(&self) {
        self.in_flight.stop();
        self.given_up.store(true, Relaxed);
    }

    /// Waits until it is over, once: everything has a verdict, or what was under way when it was stopped.
    ///
    /// # Errors
    /// The store failed.
    ///
    /// # Cancellation safety
    /// The run goes on if the future is dropped.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.over).await.map_err(|_| JobError::Damaged).flatten()
    }
}

/// So that nothing is fed to nobody.
impl Drop for JobRun {
    fn drop(&mut self) {
        self.give_up();
    }
}
