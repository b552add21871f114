//! The run of a job: one thread sends addresses to the engine, another stores the results.

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

/// The latest due time of a postponed address, counted from the start of the run. A longer pause of the schedule
/// replaces it.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// A job that is being worked on. Dropping it gives the run up; the answers received so far are still stored.
pub struct JobRun {
    in_flight: Arc<InFlight>,
    board: Arc<ProgressBoard>,
    lanes: Lanes,
    given_up: Arc<AtomicBool>,
    task: JoinHandle<Result<()>>,
    _lock: Lock,
}

impl std::fmt::Debug for JobRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobRun").finish_non_exhaustive()
    }
}

impl JobRun {
    /// Starts to work on the job at `path`. `metrics` should be those of `verifier`; their statistics are stored in
    /// the job. Call it within a tokio runtime of several threads.
    ///
    /// # Errors
    /// Fails if another process works on the job, or if the job cannot be read.
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
        // Bound the due times, since the clock may have been set back or the file may be hostile.
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
                let stored = result_writer.run(events, &runtime, || given_up.load(Relaxed));
                // The writer has ended, so stop the feeder.
                in_flight.stop();
                stored
            }
        });
        let task = tokio::spawn(async move {
            let panicked = |_| JobError::Damaged;
            let (stored, sent) = tokio::join!(result_writer, feeder);
            stored.map_err(panicked).flatten().and(sent.map_err(panicked).flatten())
        });
        Ok(Self { in_flight, board, lanes, given_up, task, _lock: lock })
    }

    /// Returns the progress of the job.
    #[must_use]
    pub fn progress(&self) -> JobProgress {
        self.board.progress()
    }

    /// Returns the lanes of the run.
    #[must_use]
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// Stops sending addresses. Those under way are still answered and stored.
    pub fn drain(&self) {
        self.in_flight.stop();
    }

    /// Stops sending addresses and waiting for answers. Answers received so far are stored.
    pub fn give_up(&self) {
        self.in_flight.stop();
        self.given_up.store(true, Relaxed);
    }

    /// Waits for the end of the run: all addresses have a verdict, or the run was stopped. Call it only once.
    ///
    /// # Errors
    /// Fails if the store failed.
    ///
    /// # Cancellation safety
    /// Dropping the future does not stop the run.
    pub async fn ended(&mut self) -> Result<()> {
        (&mut self.task).await.map_err(|_| JobError::Damaged).flatten()
    }
}

/// Stops the feeder and the writer.
impl Drop for JobRun {
    fn drop(&mut self) {
        self.give_up();
    }
}
